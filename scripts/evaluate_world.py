"""Grade a packaged model on freshly drawn clips of the miniature world, and write its card from what was measured.

    python scripts/evaluate_world.py                                        # the tiny model, one seed, difficulty 1
    python scripts/evaluate_world.py --model tiny --seeds 1 2 3 --difficulties 0 1 2 3 --write
    python scripts/evaluate_world.py --model tiny --card                    # only the card, from evaluation.json as it is

--write puts evaluation.json (every figure of every seed) and README.md (the card) into the model's folder, bike_nb/models/NAME. Each
number and each claim of the card comes from training.json, evaluation.json, novelty.json and the weights; nothing is typed by hand.
For one model on one seed, `bike_nb world --evaluate` prints the same board.
"""
import argparse, json, math, time
from pathlib import Path

import torch
from safetensors import safe_open

from bike_nb import world
from bike_nb.encoder import load_encoder
from bike_nb.board import PARTS, as_dict, as_json, confused, evaluate_world

MODELS = Path(__file__).resolve().parents[1] / "bike_nb/models"
LEVELS = "easy", "standard", "hard", "hardest"


def number(x): return "-" if x is None else f"{x:.3f}"
def span(f): return "-" if f["value"] is None else f"{f['value']:.3f} ({f['low']:.3f} to {f['high']:.3f})"
def count(n, one, many): return f"{n or 'none'} {one if n < 2 else many}"
def listed(names): names = list(names); return " and ".join([", ".join(names[:-1])] * (len(names) > 1) + names[-1:])


def differ(a, b): # two figures of a report
    "Do their intervals leave no doubt that the first is the larger (1) or the smaller (-1)? 0: they overlap."
    return 0 if None in (a["value"], b["value"]) else 1 if a["low"] > b["high"] else -1 if a["high"] < b["low"] else 0


def weights(folder):
    "Numbers that the file stores, without the list of its vocabulary's rows."
    with safe_open(folder / "model.safetensors", "pt") as f: return sum(math.prod(f.get_slice(k).get_shape()) for k in f.keys() if k != "token_rows")


def architecture(cfg):
    "A sentence from open_clip_config.json."
    v, t = cfg["model_cfg"]["vision_cfg"], cfg["model_cfg"]["text_cfg"]
    size = f"{v['image_size']} × {v['image_size']} pixels"
    image = f"a ModifiedResNet of width {v['width']} with layers ({', '.join(map(str, v['layers']))}) on {size}" if isinstance(v["layers"], list) else \
            f"a ViT of width {v['width']} with {v['layers']} blocks and {v['width'] // v.get('head_width', 64)} heads, on {size} in patches of {v['patch_size']} × {v['patch_size']}"
    return f"open_clip's `CLIP`; image tower: {image}; text tower: a transformer of width {t['width']} with {t['layers']} layers, {t['heads']} heads and {t['context_length']} positions; " \
           f"embeddings of {cfg['model_cfg']['embed_dim']} numbers (`open_clip_config.json`)"


def origin(trained):
    "What it was made from, as the command of its training says."
    words = trained["command"].split()
    given = {k: Path(words[words.index(k) + 1]).name for k in ("--teacher", "--start") if k in words}
    if "--teacher" in given: return f"It learned from frames drawn by this package, beginning with the text tower of the `{given['--teacher']}` model and imitating its frame embeddings; no other data, no other weights."
    if "--start" in given: return f"It learned from frames drawn by this package, beginning with the weights of the `{given['--start']}` model; no other data."
    return "It was trained from nothing on frames drawn by this package; no other data, no other weights."


def training(t):
    "How it was trained, from training.json."
    where = f" on {t['machine']}" if t.get("machine") else ""
    return f"`{t['command']}`\n\nSeed {t['seed']}, {t['steps']:,} steps of {t['batch']} pairs, {t['frames']:,} frames, {t['minutes']:g} minutes in {t['processes']} process{'es' * (t['processes'] > 1)}{where}, " \
           f"torch {t['torch']}; loss at the end {t['final_loss']}." + (f" {t['remark']}" if t.get("remark") else "")


def figures_table(levels): # {difficulty: a report}
    "Mean and interval of each figure at each difficulty, with what guessing gives: one number, or one for each difficulty."
    first = next(iter(levels.values()))
    chances = lambda part, name: list(dict.fromkeys(number(r["figures"][part][name]["chance"]) for r in levels.values()))
    chance = lambda part, name: chances(part, name)[0] if len(chances(part, name)) == 1 else " / ".join(number(r["figures"][part][name]["chance"]) for r in levels.values())
    rows = [["", *(f"{d} ({LEVELS[int(d)]})" for d in levels), "chance"], ["---"] * (len(levels) + 2)]
    for part, figures in first["figures"].items():
        rows.append([f"**{PARTS[part].about}**", *[""] * (len(levels) + 1)])
        rows += [[name, *(span(r["figures"][part][name]) for r in levels.values()), chance(part, name)] for name in figures]
    return "\n".join("| " + " | ".join(r) + " |" for r in rows)


def flat(report): return {name: f for figures in report["figures"].values() for name, f in figures.items()}


def against(f, a, b, more, same, less):
    "One of three sentences, as the intervals of figures a and b say."
    if a not in f or b not in f: return []
    return [{1: more, 0: same, -1: less}[differ(f[a], f[b])].format(a=number(f[a]["value"]), b=number(f[b]["value"]))]


def findings(f):
    "What the figures of one difficulty say, in sentences that hold only if the figures say so."
    said = against(f, "top-1, spotting, exact, bare phrase", "top-1, mean pooling, bare phrase", "Concept spotting names more clips right than mean pooling: {a} against {b}.",
                   "Between concept spotting ({a}) and mean pooling ({b}) the clips show no certain difference.", "Concept spotting names fewer clips right than mean pooling: {a} against {b}.")
    said += against(f, "colour among nine, seen pairs", "colour among nine, held-out pairs", "Colours are harder for it on things that never had them in training: {b} right, against {a} for pairs it has seen.",
                    "Colours on things that never had them in training ({b}) show no certain difference from pairs it has seen ({a}).", "Colours come out better for held-out pairs ({b}) than for seen ones ({a}).")
    novel = next((n for n in f if n.startswith("novel action among") and n.endswith("spotting") and f"among {len(world.NOVEL)}," not in n), None)
    known = novel and novel.replace("novel", "known")
    if novel: said += against(f, novel, known, "Novel actions are named better than known ones, {a} against {b}, with all names on the list.", "With all names on the list, novel actions are named as well as known ones, as far as the clips can tell: {a} and {b}.",
                              "Actions that training never showed suffer when all names are on the list: {a} right, against {b} for known ones.")
    of = f"action and place among {len(world.PLACED)}, "
    said += against(f, of + "spotting + attributes", of + "spotting", "Attributes add what spotting misses where classes are bound to a place: {a} with them, {b} without.",
                    "Where classes are bound to a place, spotting with attributes ({a}) shows no certain difference from spotting alone ({b}).", "Where classes are bound to a place, attributes cost spotting something: {a} with them, {b} without.")
    said += against(f, of + "mean pooling", of + "spotting", "Mean pooling sees places that spotting overlooks: {a} against {b} there.", "", "Spotting beats mean pooling there as well: {b} against {a}.")
    order = f.get("direction of an order-only pair")
    if order: said.append(f"It tells the direction of an order-only action no better than a coin: {number(order['value'])}; it looks at frames one by one." if order["low"] <= .5 <= order["high"]
                          else f"It tells the direction of an order-only action in {number(order['value'])} of the cases, which is not a coin flip.")
    return [s for s in said if s]


def mistakes(report, most=5):
    "The most frequent confusions of a report, in words."
    class r: confusion, classes = report["confusion"], report["classes"]
    n, wrong = sum(map(sum, r.confusion)), sum(v for i, row in enumerate(r.confusion) for j, v in enumerate(row) if i != j)
    if not wrong: return f"none of {n:,} clips is taken for another action."
    return f"{wrong:,} of {n:,} clips are taken for another action; most often " + ", ".join(f"*{a}* for *{b}* ({p:.0%} of its clips)" for p, a, b in confused(r, most)) + "."


def dial(levels):
    "What the dial does to the two ways of pooling."
    names, rows = ("top-1, mean pooling, bare phrase", "top-1, spotting, exact, bare phrase", "saliency AP, exact, bare phrase"), list(levels.items())
    if len(rows) < 2: return ""
    said = [f"at difficulty {d} mean pooling names {number(f[names[0]]['value'])} of the clips right and exact spotting {number(f[names[1]]['value'])}, with a saliency AP of {number(f[names[2]]['value'])}"
            for d, f in ((d, flat(r)) for d, r in (rows[0], rows[-1])) if names[0] in f]
    return ("From one end of the dial to the other: " + "; ".join(said) + ".") if said else ""


def limits(f, unknown):
    "Where it is weak, by the figures of the standard difficulty, and what nobody measured."
    skill = {n: (v["value"] - v["chance"]) / (1 - v["chance"]) for n, v in f.items() if v["value"] is not None and v["chance"] is not None and v["chance"] < 1 and "order-only" not in n}
    weak = sorted(skill, key=skill.get)[:3]
    said = [f"Furthest from perfect, of the way from chance to 1, are {listed(f'*{n}* ({skill[n]:.0%} of it)' for n in weak)}."]
    words = sorted({w for ws in unknown.values() for w in ws})
    said.append(f"Of the world's words, it was never taught {len(words)}: {', '.join(words)}." if words else "It was taught every word of the world.")
    said.append("Words with tokens it was never taught are named in a warning and kept out of retrieval. It has seen nothing but these drawings: nothing on this page says anything about real videos.")
    return " ".join(said)


def novelty(folder):
    "The section about clips from elsewhere, if novelty.json is there."
    if not (folder / "novelty.json").is_file(): return ""
    m = json.loads((folder / "novelty.json").read_text(encoding="utf-8"))
    found, said = m.get("measured", {}), ["A clip's novelty tells how far its frames lie from the training frames; 1 is as far as 99.9 % of fresh frames of the world reach, and beyond that a clip is flagged "
                                         f"(`bike_nb.novelty`; fitted to {m['fit']['clips']:,} clips, its scale from {m['fresh']['clips']:,} fresh ones)."]
    if fresh := found.get("fresh"):
        n, flagged = sum(r["clips"] for r in fresh), sum(r["flagged"] for r in fresh)
        said.append(f"Of {n:,} other clips of the world, over all difficulties, {count(flagged, 'is', 'are')} flagged" + (f" ({flagged / n:.1%})" if flagged else "") + f"; the farthest lies at {max(r['largest'] for r in fresh):.2f}.")
    if real := found.get("real"):
        missed = [name for name, score in real.items() if score <= 1]
        said.append(f"Of {len(real)} real videos, {count(len(real) - len(missed), 'is', 'are')} flagged" + (f" (not {listed(missed)})" if missed else "") + f"; the nearest lies at {min(real.values()):.2f}.")
    for key, title in (("strangers", "pictures of other kinds"), ("changed", "frames of the world in disguise")):
        if kinds := found.get(key):
            near = min(kinds, key=lambda k: kinds[k]["median"])
            said.append(f"Of {len(kinds)} kinds of {title}, {count(sum(k['median'] > 1 for k in kinds.values()), 'lies', 'lie')} beyond 1 in the middle; the nearest, *{near}*, at {kinds[near]['median']:.2f}.")
    return "\n## Clips from elsewhere\n\n" + " ".join(said) + (f" Measured by `{m['command']}`." if m.get("command") else "") + "\n"


def card(folder):
    "The model's README.md, from what its training and its evaluation wrote down."
    read = lambda name: json.loads((folder / name).read_text(encoding="utf-8"))
    trained, report, cfg = read("training.json"), read("evaluation.json"), read("open_clip_config.json")
    levels = report["difficulties"]
    standard = levels.get("1") or next(iter(levels.values()))
    d, f = standard["difficulty"], flat(standard)
    seeds, share = standard["seeds"], [100 * s for s in world.DIFFICULTY[d].span]
    confusions = "\n".join(f"- difficulty {k} ({LEVELS[int(k)]}): {mistakes(r)}" for k, r in levels.items() if r.get("confusion"))
    return f"""# The {folder.name} model

A CLIP that knows the miniature world of `nbs/11_world.ipynb` and nothing else: {len(world.vocabulary())} words, {trained['token_rows']} rows of CLIP's vocabulary,
{weights(folder) / 1e6:.1f} million parameters, {(folder / 'model.safetensors').stat().st_size / 1e6:.1f} MB. {origin(trained)}

Architecture: {architecture(cfg)}. Weights in half precision, computed with in single.

## Training

{training(trained)}

## Figures

Mean over seeds {listed(map(str, seeds))}, and the 95 % interval, on clips drawn afresh: {standard['clips']} clips a seed, {standard['frames']} frames each, {standard['size']} pixels; seeds never used in training.
The columns are the positions of the dial; at {d} ({LEVELS[d]}), the action fills {share[0]:.0f} to {share[1]:.0f} % of a clip. Chance is what guessing gives (one number, or one for each column). Every figure of every seed is in
`evaluation.json`, what each means in `nbs/15_board.ipynb`. Measured in {report['minutes']:g} minutes by

    {report['command']}

{figures_table(levels)}

*Spotting, exact* is the official formula, start token and padding included; *start to end* leaves padding out; *class name* lets only the name's own tokens vote.

At difficulty {d}: {' '.join(findings(f))}

{dial(levels)}

## Confusions

By exact spotting with the bare phrase:

{confusions}
{novelty(folder)}
## Limits

{limits(f, standard['unknown'])}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny", help="a packaged model; without --write, also what load_encoder takes")
    parser.add_argument("--seeds", "--seed", type=int, nargs="+", default=[1])
    parser.add_argument("--difficulties", "--difficulty", type=int, nargs="+", default=[1], choices=range(len(world.DIFFICULTY)))
    parser.add_argument("--clips", type=int, default=280)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=96, help="pixels at which clips are drawn")
    parser.add_argument("--write", action="store_true", help="write evaluation.json and README.md into the model's folder")
    parser.add_argument("--keep", action="store_true", help="with --write: keep what was measured before at other difficulties, with the same seeds, clips, frames and size")
    parser.add_argument("--card", action="store_true", help="measure nothing, write README.md from evaluation.json")
    args = parser.parse_args()
    folder = MODELS / args.model
    if (args.write or args.card) and not (folder / "training.json").is_file(): parser.error(f"{args.model} is no packaged model with a training.json: its card cannot be written")
    if args.card and not (folder / "evaluation.json").is_file(): parser.error(f"{args.model} has no evaluation.json: measure first, with --write")
    before = dict(minutes=0, difficulties={})
    if args.keep and (folder / "evaluation.json").is_file(): before = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    if not args.card:
        encoder, began, levels = load_encoder(args.model), time.time(), {}
        for d in args.difficulties:
            report = evaluate_world(encoder, args.seeds, d, args.clips, args.frames, args.size, progress=True)
            levels[str(d)] = as_dict(report)
            print(report.table(), end="\n\n", flush=True)
    if args.write:
        numbers = lambda ns: " ".join(map(str, ns))
        usual = "".join(f" --{k} {getattr(args, k)}" for k in ("clips", "frames", "size") if getattr(args, k) != parser.get_default(k))
        kept = {d: r for d, r in before["difficulties"].items() if d not in levels and all(r[k] == getattr(args, k) for k in ("seeds", "clips", "frames", "size"))}
        levels = dict(sorted((kept | levels).items()))
        command = f"python scripts/evaluate_world.py --model {args.model} --seeds {numbers(args.seeds)} --difficulties {numbers(levels)}{usual} --write"
        minutes = round((time.time() - began) / 60 + (before["minutes"] if kept else 0), 1)
        found = dict(command=command, torch=torch.__version__, minutes=minutes, difficulties=levels)
        (folder / "evaluation.json").write_text(as_json(found, 5) + "\n", encoding="utf-8")
    if args.write or args.card:
        (folder / "README.md").write_text(card(folder), encoding="utf-8")
        print(f"wrote {folder.relative_to(MODELS.parents[1])}/README.md" + " and evaluation.json" * args.write)


if __name__ == "__main__":
    main()
