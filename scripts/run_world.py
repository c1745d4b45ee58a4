"""Train on the miniature world with several seeds and test before and after, on clips that training never sees.

    python scripts/run_world.py configs/world_general.yaml                          # seeds 1 2 3, all figures with intervals
    python scripts/run_world.py configs/world_general.yaml --seeds 1 --set epochs=2 --results out/world_results.csv    # another experiment: another table
    python scripts/run_world.py --table                                             # print configs/world_results.csv as a table

Figures apart: actions that a single frame shows, and order-only actions (six classes, three pairs). `within the pair`: of the two
directions, is the right one ahead? A coin flip for whatever looks at frames one by one. `without order`: the same model, its
temporal transformer taken out. Every test is one row of configs/world_results.csv; rows of the same experiment and seed are replaced.
"""
import argparse, copy, csv, os, sys, time
from pathlib import Path

import torch

from bike_nb import world
from bike_nb.evaluation import Estimate, over_seeds, share, test_model, wilson
from bike_nb.model import VideoBranch
from bike_nb.tagging import Tagger, tag_dataset
from bike_nb.training import LAST, Ranks, TrainConfig, fit, load_trained, prepare_model, prepare_world

RESULTS = Path(__file__).resolve().parents[1]/"configs"/"world_results.csv"
FIELDS = "experiment", "seed", "model", "figure", "value", "low", "high", "n", "chance", "minutes", "command"


def order_figures(found):
    "Single-frame and order-only actions apart, and the choice within each pair."
    index = {n: i for i, n in enumerate(found.names)}
    pairs = [(index[a], index[b]) for a, (b, _) in world.PAIRS.items() if a in index and b in index]
    if not pairs: return {}
    labels, ordered = found.labels, torch.tensor([i for p in pairs for i in p])
    partner = torch.full((len(found.names),), -1)
    for a, b in pairs: partner[a], partner[b] = b, a
    is_ordered, right = torch.isin(labels, ordered), found.scores.argmax(1) == labels
    own = found.scores.gather(1, labels[:, None])[:, 0]
    other = found.scores.gather(1, partner[labels].clamp_min(0)[:, None])[:, 0]
    ahead = ((own > other).double() + (own == other) * .5)[is_ordered]                       # a tie is a coin flip
    out = {"single-frame actions, top-1": share(right[~is_ordered], 1 / len(found.names)), "order-only actions, top-1": share(right[is_ordered], 1 / len(found.names)),
           "within the pair": average_share(ahead)}
    for a, b in pairs:
        mine = (labels[is_ordered] == a) | (labels[is_ordered] == b)
        out[f"within the pair, {found.names[a]}"] = average_share(ahead[mine])
    return out


def average_share(x):
    "Share with an interval, of values 0, 1/2 and 1."
    n, k = len(x), float(x.sum())
    return Estimate(k / n, *wilson(k, n), n, .5) if n else share(x, .5)


def test_part(config):
    "The experiment with the test's videos, classes and attributes in place of the validation's."
    test, d = TrainConfig.from_dict(config.to_dict()), config.data
    swap = lambda path: path and str(Path(path).with_name(Path(path).name.replace("val", "test")))
    test.data.val_list, test.data.attributes_val_path = swap(d.val_list), swap(d.attributes_val_path)
    if Path(d.val_root).name == "val": test.data.val_root = swap(d.val_root)
    others = Path(d.label_list).with_name("classes_test.csv")
    if others.exists(): test.data.label_list, test.data.num_classes = str(others), None
    return test


def make_attributes(config, test):
    "Attributes files of the three lists by the untrained model, unless they are there."
    d, t = config.data, test.data
    for path, list_, root in ((d.attributes_train_path, d.train_list, d.train_root), (d.attributes_val_path, d.val_list, d.val_root), (t.attributes_val_path, t.val_list, t.val_root)):
        if path and not Path(path).exists():
            tag_dataset(list_, root, path, Tagger(config.network.arch, lexicon="world", k=d.select_topk_attributes, pool="max", frames=d.num_segments),
                        modality=d.modality, template=d.image_tmpl)


def figures(config, model):
    "All figures of a model on the videos of a configuration: {name: Estimate}."
    found = test_model(config, model, attributes=True if config.data.attributes_val_path else None)
    return dict(found.estimates) | order_figures(found)


def without_order(model):
    "The same model, its temporal transformer taken out."
    plain = copy.deepcopy(model)
    plain.video = VideoBranch(model.dim, "None", model.video.interaction, temperature=model.video.temperature)
    return plain


def untrained(config):
    "What training starts from, without a temporal transformer."
    start = TrainConfig.from_dict(config.to_dict())
    start.network.sim_header, start.network.branch = "None", "video"
    return prepare_model(start, Ranks()).eval()


def one_seed(file, overrides, seed, device):
    "Train and test with one seed; rows of results."
    config = TrainConfig.from_yaml(file, [*overrides, f"seed={seed}"])
    began = time.time()
    prepare_world(config)
    test = test_part(config)
    make_attributes(config, test)
    found = fit(config, f"seed{seed}", device, progress=sys.stderr.isatty())
    minutes, trained = (time.time() - began) / 60, load_trained(found.folder/LAST, device=device)
    models = {"zero-shot": untrained(config), "trained": trained}
    if trained.video.header == "Transf": models["trained, without order"] = without_order(trained)
    command, rows = f"python scripts/run_world.py {file}" + "".join(f" --set {o}" for o in overrides), []
    for name, model in models.items():
        for figure, e in figures(test, model).items():
            rows.append(dict(experiment=Path(file).stem, seed=seed, model=name, figure=figure, **{k: round(getattr(e, k), 4) for k in ("value", "low", "high")}, n=e.n,
                             chance="" if e.chance is None else round(e.chance, 4), minutes=round(minutes, 1) if name == "trained" else "", command=command))
    return rows


def read_rows(path=RESULTS):
    if not path.exists(): return []
    with open(path, newline="", encoding="utf-8") as f: return list(csv.DictReader(f))


def write_rows(new, path=RESULTS):
    "Add rows; those of the same experiment and seed go."
    done = {(r["experiment"], str(r["seed"])) for r in new}
    rows = [r for r in read_rows(path) if (r["experiment"], str(r["seed"])) not in done] + new
    rows.sort(key=lambda r: (r["experiment"], int(r["seed"])))
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.with_suffix(".part")
    with open(tmp, "w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, FIELDS, lineterminator="\n"); writer.writeheader(); writer.writerows(rows)
    os.replace(tmp, path)


def table(rows):
    "Mean and 95 % interval over the seeds, as Markdown: a row a figure, a column a model."
    out = []
    for experiment in dict.fromkeys(r["experiment"] for r in rows):
        mine = [r for r in rows if r["experiment"] == experiment]
        models, names = list(dict.fromkeys(r["model"] for r in mine)), list(dict.fromkeys(r["figure"] for r in mine))
        minutes = [float(r["minutes"]) for r in mine if r["minutes"] not in ("", None)]
        out += [f"\n{experiment}: seeds {', '.join(sorted({str(r['seed']) for r in mine}))}; {min(minutes):.1f} to {max(minutes):.1f} minutes a run\n",
                "| | " + " | ".join(models) + " | chance |", "|---" + "|---:" * (len(models) + 1) + "|"]
        for name in names:
            cells, chance = [], ""
            for model in models:
                es = [Estimate(*(float(r[k]) for k in ("value", "low", "high")), int(r["n"])) for r in mine if r["model"] == model and r["figure"] == name]
                cells.append(f"{over_seeds(es).value:.3f} ({over_seeds(es).low:.3f}–{over_seeds(es).high:.3f})" if es else "")
                chance = next((r["chance"] for r in mine if r["figure"] == name and r["chance"]), "")
            out.append(f"| {name} | " + " | ".join(cells) + f" | {float(chance):.3f} |" if chance else f"| {name} | " + " | ".join(cells) + " | |")
    return "\n".join(out).strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("configs", nargs="*")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the experiment; needs another table by --results")
    parser.add_argument("--device", default=None)
    parser.add_argument("--table", action="store_true", help="print the results that are there, and do nothing")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    if not args.table and not args.configs: parser.error("name an experiment file, or give --table")
    if args.set and args.results.resolve() == RESULTS: parser.error(f"--set makes another experiment, whose rows would replace those of {RESULTS.name}: name another table, as in --results out/{RESULTS.name}")
    for file in args.configs if not args.table else []:
        for seed in args.seeds:
            rows = one_seed(file, args.set, seed, args.device)
            write_rows(rows, args.results)
            print(f"{file}, seed {seed}: " + "; ".join(f"{r['model']} {r['figure']} {r['value']:.3f}" for r in rows if r["figure"] in ("top-1", "mAP", "single-frame actions, top-1", "within the pair")), flush=True)
    rows = read_rows(args.results)
    print(table([r for r in rows if not args.configs or r["experiment"] in {Path(f).stem for f in args.configs}]))


if __name__ == "__main__": main()
