"""The paper's ablations on the miniature world: a row a question, setting, seed and figure, in configs/ablations.csv.

    python scripts/run_ablations.py                                    # everything that is not there yet, seeds 1 to 5
    python scripts/run_ablations.py --only pooling frames --seeds 1    # some questions, one seed
    python scripts/run_ablations.py --table                            # means and 95 % intervals over the seeds (Student's t)
    python scripts/run_ablations.py --only text --seeds 1 --show       # the same training as commands `bike_nb train …`; their clips are drawn

A seed gives its own test clips (numbers that no shipped model was trained on), its own few-shot clips and its own training. Rows that are
there are not computed again; `--again` does. What is trained is trained as `bike_nb train` does it: clips drawn into folders of frames,
each frame read, cropped and embedded anew in every step; runs are kept in out/ablations/runs, and two questions that need the same run
share it. Test clips are embedded once, and the embeddings kept in out/ablations; by the trained image tower where one was trained.
"""
import argparse, contextlib, copy, csv, hashlib, math, os, shlex, shutil, time
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import normalize

from bike_nb import training as T, world
from bike_nb.attributes import Lexicon, associate, attribute_sentence
from bike_nb.board import FIRST, KINDS, ROOM, ClipSet, _check_seeds, colour_questions, frame_moments, lexicon
from bike_nb.encoder import load_encoder
from bike_nb.evaluation import Estimate, EvaluationError, _spread, hits, saliency_scores
from bike_nb.model import VideoBranch, fuse
from bike_nb.splits import fingerprint, make_split
from bike_nb.spotting import concept_spotting, mean_pooling, saliency
from bike_nb.tagging import Tagger, tag_dataset

ROOT = Path(__file__).resolve().parents[1]
RESULTS, KEPT = ROOT/"configs"/"ablations.csv", ROOT/"out"/"ablations"
FIELDS = "question", "setting", "seed", "figure", "value", "clips", "difficulty", "command"
FOURTEEN, SIX, PLACED = world.SINGLE_FRAME, KINDS["order"].classes, list(world.PLACED)
ASKED = {"actions": 210, "novel": 510, "placed": 510, "seen pairs": 280, "held-out pairs": 280} # so that each kind has 204 clips or more
LENGTHS = {"6–12 %": (.06, .12), "12–30 %": (.12, .3), "30–50 %": (.3, .5), "60–90 %": (.6, .9)}            # 12–30 %: difficulty 2 itself


def clips_of(kind, seed, difficulty):
    "(clips, class of each) of a kind: one of the board's, a span of `LENGTHS`, or what is trained on."
    if kind in LENGTHS:
        some = [world.sample_clip(FIRST + seed * ROOM + 15_000 + i, FOURTEEN[i % 14], span=LENGTHS[kind], difficulty=difficulty) for i in range(ASKED["actions"])]
        return some, [c.action for c in some]
    if kind == "few-shot": entries, names = make_split("few-shot", difficulty, 100 + seed, {"val": 1}, shots=16).parts["train"], FOURTEEN
    elif kind in ("order", "order, training"):                               # as in chapter 7: the action fills most of the clip, in one shot
        first, n = (16_000, 204) if kind == "order" else (17_000, 240)
        some = [world.sample_clip(FIRST + seed * ROOM + first + i, SIX[i % 6], span=(.7, 1), cut=False, difficulty=difficulty) for i in range(n)]
        return some, [c.action for c in some]
    else:
        some, turns = KINDS[kind].clips(seed, ASKED[kind], difficulty), KINDS[kind].classes
        return some, [turns[i % len(turns)] for i in range(len(some))]
    return [e.clip() for e in entries], [names[e.labels[0]] for e in entries]


class Lab:
    "The clips of one seed, embedded once, in front of the tiny model."
    encoder, texts, folder = None, {}, None

    def __init__(self, seed, keep=True): # keep=False: nothing is read from or written to the folder of embeddings
        _check_seeds([seed])                                                 # clips of larger ones are trained on
        self.seed, self.sets, self.keep = seed, {}, keep
        if Lab.encoder: return
        Lab.encoder = load_encoder("tiny", device="cpu")
        Lab.encoder.model.visual.to(memory_format=torch.channels_last)       # a third faster
        Lab.folder = KEPT/f"{Lab.encoder.fingerprint[:8]}-{fingerprint()}"

    def clips(self, kind, difficulty=2, frames=16)->ClipSet:
        key = kind, difficulty, frames
        if key not in self.sets:
            some, names = clips_of(kind, self.seed, difficulty)
            times = frame_moments(kind, some, self.seed, frames)
            self.sets[key] = ClipSet(some, times, self.embedded("_".join(map(str, (*key, self.seed))), some, times), names)
        return self.sets[key]

    def embedded(self, name, some, times)->torch.Tensor: # (B,T,D)
        path = Lab.folder/f"{name.replace(' %', '').replace(' ', '-').replace(',', '')}.pt"
        if self.keep and path.exists(): return torch.load(path)
        x = torch.stack([self.encoder.encode_video(world.render(c, t), batch_size=16) for c, t in zip(some, times)])
        if self.keep:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(x, tmp := path.with_suffix(f".{os.getpid()}")); os.replace(tmp, path)
        return x

    def text(self, names, template="{}"):
        key = tuple(names), template
        if key not in Lab.texts: Lab.texts[key] = self.encoder.encode_text(list(names), template=template)
        return Lab.texts[key]

    @classmethod
    def words(cls, which):
        "An encoded `Lexicon`."
        key = "lexicon", which
        if key not in cls.texts:
            cls.texts[key] = Lexicon(words_of(which, cls.encoder), name=which)
            cls.texts[key].encode(cls.encoder, cache_dir=False)
        return cls.texts[key]

    @cached_property
    def scale(self): return self.encoder.model.logit_scale.exp().item()


def top1(logits, s, names): return hits(logits, s.labels(names)).double().mean().item()
def spot(lab, s, names, temperature=.01): t = lab.text(names); return concept_spotting(s.frames, t.tokens, t.classes, temperature)
def pool(lab, s, names): return mean_pooling(s.frames, lab.text(names).classes)
def acting(s): return torch.tensor([[c.acting(t) for t in ts] for c, ts in zip(s.clips, s.times)])


# Questions: name: (about, difficulty, settings, function of (lab, setting) → {figure: (value, clips)}), in order of importance.
# What a setting trains: RUNS[name](seed, setting) → experiments, each a file and its overrides; none for what is trained nowhere.
QUESTIONS, RUNS = {}, {}

def nothing(seed, setting): return []

def question(name, about, settings, difficulty=2, runs=nothing):
    def keep(f): QUESTIONS[name], RUNS[name] = (about, difficulty, list(settings), f), runs; return f
    return keep

def models(lab, name, setting): return [train(*run) for run in RUNS[name](lab.seed, setting)]


@question("pooling", "mean pooling or concept spotting?", ["mean pooling", "concept spotting"])
def _(lab, setting):
    out, how = {}, dict(zip(QUESTIONS["pooling"][2], (pool, spot)))[setting]
    for kind, names in (("actions", FOURTEEN), ("placed", PLACED)):
        s = lab.clips(kind); out[f"top-1, {kind}"] = top1(how(lab, s, names), s, names), len(s.clips)
    return out

@question("held-out", "pairs of thing and colour that training never showed", ["seen pairs", "held-out pairs"])
def _(lab, setting):
    s, colours = lab.clips(setting), list(world.COLOURS)
    asked = colour_questions(s, setting == "held-out pairs")
    nouns = sorted({n for _, n, _ in asked})
    text = normalize(lab.text([f"{c} {n}" for n in nouns for c in colours]).classes, dim=-1).unflatten(0, (-1, 9))
    frames = normalize(s.frames[:, 0], dim=-1)
    right = [(n == "shirt", (text[nouns.index(n)] @ frames[i]).argmax().item() == colours.index(c)) for i, n, c in asked]
    groups = {what: [r for is_, r in right if is_ == shirt] for what, shirt in (("colour among nine", False), ("colour of a shirt", True))}
    return {what: (float(np.mean(rs)), len(rs)) for what, rs in groups.items()}

@question("temperature", "how sharp should the weights be?", ["0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "1"])
def _(lab, setting):
    s, t = lab.clips("actions"), lab.text(FOURTEEN)
    weights = saliency(t.tokens, s.frames, float(setting))[s.labels(FOURTEEN), torch.arange(len(s.clips))]
    return {"top-1": (top1(spot(lab, s, FOURTEEN, float(setting)), s, FOURTEEN), len(s.clips)),
            "saliency AP": (saliency_scores(weights, acting(s))["AP"].nanmean().item(), len(s.clips))}


# Attributes: five words a clip make a sentence, the frozen text tower compares it with the names of the classes, as on the board.

def words_of(which, encoder):
    every = lexicon(encoder)
    places, actions = [w for w in every if w in world.SCENES], [w for w in every if w in FOURTEEN]
    return {"all words": every, "things and places": [w for w in every if w not in actions], "things": [w for w in every if w not in actions + places],
            "actions": actions, "places": places}.get(which) or list(Lexicon.load(which))

def sentences(lab, s, k=5, how="mean", which="all words")->list:
    "An attribute sentence for each clip."
    return [attribute_sentence(found) for found in associate(s.frames, lab.words(which), k=k, pool=how)]

def said(lab, s, names, **how)->torch.Tensor: # (B,A) cosines of attribute sentences and names
    return normalize(lab.encoder.encode_classes(sentences(lab, s, **how)).cpu(), dim=-1) @ normalize(lab.text(names).classes, dim=-1).T

def fused(lab, s, names, attributes, weight=.7):
    return fuse((lab.scale * spot(lab, s, names)).softmax(-1), (lab.scale * attributes).softmax(-1), weight)

def attribute_figures(lab, how, kinds=("placed",), **more):
    out = {}
    for kind in kinds:
        names, s = (PLACED if kind == "placed" else FOURTEEN), lab.clips(kind)
        x = said(lab, s, names, how=how, **more)
        out |= {f"attributes alone, {kind}, {how}": (top1(x, s, names), len(s.clips)), f"fused 0.7, {kind}, {how}": (top1(fused(lab, s, names, x), s, names), len(s.clips))}
    return out

@question("attribute pooling", "attributes of the mean frame or of the best frame?", ["mean", "max"])
def _(lab, setting):
    s, words = lab.clips("actions"), lexicon(lab.encoder)
    f, c, shown = normalize(s.frames, dim=-1), normalize(lab.text(words).classes, dim=-1), s.shown(words).any(1)
    x = (f @ c.T).amax(1) if setting == "max" else normalize(s.frames.mean(1), dim=-1) @ c.T
    five = shown.gather(1, x.topk(5).indices).double().mean().item()
    figures = attribute_figures(lab, setting, ("placed", "actions"))
    return {k.removesuffix(f", {setting}"): v for k, v in figures.items()} | {"true words among five": (five, len(s.clips))}

@question("number of attributes", "how many words make the sentence?", ["1", "2", "3", "5", "8", "12"])
def _(lab, setting): return attribute_figures(lab, "mean", k=int(setting)) | attribute_figures(lab, "max", k=int(setting))

@question("lexicon", "which words may be said?", ["all words", "things and places", "things", "actions", "places", "imagenet"])
def _(lab, setting): return attribute_figures(lab, "mean", which=setting) | attribute_figures(lab, "max", which=setting)

@question("fusion", "how much does the video branch count?", [f"{w / 10:g}" for w in range(11)])
def _(lab, setting):
    out = {}
    for kind, names, how in (("placed", PLACED, "mean"), ("placed", PLACED, "max"), ("actions", FOURTEEN, "max")):
        s = lab.clips(kind)
        out[f"top-1, {kind}, {how}"] = top1(fused(lab, s, names, said(lab, s, names, how=how), float(setting)), s, names), len(s.clips)
    return out


# Training: `bike_nb train`, on folders of frames.

DRAWN = Path("out")/"ablations"                                              # below the repository

def inside(root):
    "Where an experiment finds the lists in a folder."
    return [f"train_root={root}", f"train_list={root}/train.txt", f"val_root={root}", f"val_list={root}/val.txt", f"label_list={root}/classes.csv"]

BRIEF = ["precision=fp32", "workers=0", "print_freq=1000", "eval_freq=1000", f"output_path={DRAWN}/runs"]

def few(seed, shot, *more):
    "An experiment with few clips a class: those of configs/world_few-shot.yaml, at difficulty 2; 8 frames as in the official few-shot files, 28 steps of 16 clips."
    root = DRAWN/f"few-shot-{seed}"
    return "configs/world_few-shot.yaml", [f"seed={seed}", f"world.root={root}", f"world.seed={100 + seed}", "world.difficulty=2", "world.clips={val: 1}", "world.shots=16", *inside(root),
        f"shot={shot}", "num_segments=8", "batch_size=16", "epochs=2", "lr_warmup_step=0.2", "clip_ratio=0.1", "text_ratio=1", *BRIEF, *more]

def ordered(seed, setting):
    "An experiment with actions that only the order of frames tells apart, as configs/world_general.yaml."
    root = DRAWN/f"order-{fingerprint()}-{seed}"
    backwards = f"reversals={[[a, b] for a, (b, _) in world.PAIRS.items()]}"
    draw_order(seed)
    return "configs/world_general.yaml", [f"seed={seed}", "world=null", "dataset=world_order", *inside(root), "num_segments=8", "batch_size=16",
        "epochs=34", "lr_warmup_step=3.4", "temporal_layers=1", "position_init=sine", "position_std=1.", backwards, *BRIEF, *TRAINED[setting], "lr=2.e-3"]

def write_clips(root, s):
    "What an experiment reads, of a `ClipSet` without embeddings: a folder of JPEG files a clip, the lists (validation: one clip), the classes."
    part, classes = root.with_name(f"{root.name}.{os.getpid()}"), list(dict.fromkeys(s.names))
    for i, (clip, times) in enumerate(zip(s.clips, s.times)):
        (part/f"{i:04d}").mkdir(parents=True)
        for k, frame in enumerate(world.render(clip, times), 1): Image.fromarray(frame).save(part/f"{i:04d}"/f"img_{k:05d}.jpg", quality=92)
    lines = [f"{i:04d} {len(times)} {classes.index(name)}\n" for i, (times, name) in enumerate(zip(s.times, s.names))]
    for file, text in (("train.txt", lines), ("val.txt", lines[:1]), ("classes.csv", ["id,name\n", *(f"{i},{n}\n" for i, n in enumerate(classes))])): (part/file).write_text("".join(text), encoding="utf-8")
    try: os.replace(part, root)
    except OSError:                                                          # another process was faster, with the same clips
        if not root.exists(): raise
        shutil.rmtree(part)

def draw_order(seed):
    "The training clips of the question about time, unless they are there."
    root = ROOT/DRAWN/f"order-{fingerprint()}-{seed}"
    if root.exists(): return
    some, names = clips_of("order, training", seed, 1)
    write_clips(root, ClipSet(some, np.stack([world.frame_times(c, 8) for c in some]), None, names))

def run_name(file, overrides): return hashlib.sha256(repr((file, overrides)).encode()).hexdigest()[:12]

def as_command(file, overrides):
    "The command that trains the same."
    return f"bike_nb train {file} " + " ".join(f"--set {shlex.quote(o)}" for o in overrides) + f" --name {run_name(file, overrides)} --device cpu"

AGAIN = None                                                                 # --again: names of the runs that are new already

def train(file, overrides):
    "The model that `as_command` trains; one that is there already is read."
    with contextlib.chdir(ROOT):
        config, name = T.TrainConfig.from_yaml(file, overrides), run_name(file, overrides)
        folder = T.run_folder(config, name)
        if AGAIN is not None and name not in AGAIN: shutil.rmtree(folder, ignore_errors=True); AGAIN.add(name)
        T.fit(config, name, "cpu", progress=False)
        for other in (T.BEST, T.BEFORE): (folder/other).unlink(missing_ok=True)
        return T.load_trained(folder/T.LAST, config.network, "cpu")

def seen_by(model, s):
    "The frames of a `ClipSet` as the model's image tower sees them."
    mine, kept = model.clip.visual.state_dict(), Lab.encoder.model.visual.state_dict()
    if all(torch.equal(mine[k], kept[k]) for k in kept): return s.frames
    encoder = model.encoder(); encoder.model.visual.to(memory_format=torch.channels_last)
    return torch.stack([encoder.encode_video(world.render(c, t), batch_size=16) for c, t in zip(s.clips, s.times)])

@torch.no_grad()
def answers(model, s, names): # (B,A)
    return model.video_logits(seen_by(model, s), model.encode_text(names))

# What of the model is trained: the head, and whether the text tower learns along.
TRAINED = {"text tower": ["sim_header=None", "fix_video=true", "fix_text=false", "lr=1.e-4"], "transformer": ["sim_header=Transf", "fix_video=true", "fix_text=true", "lr=5.e-4"],
           "transformer + text tower": ["sim_header=Transf", "fix_video=true", "fix_text=false", "lr=5.e-4", "text_ratio=0.2"]}
IMAGE = {"text tower": TRAINED["text tower"], "text and image tower": ["sim_header=None", "fix_video=false", "fix_text=false", "lr=1.e-4"]} # clip_ratio: the image tower at 1e-5

@question("time", "actions that only the order of frames tells apart: what must be trained? 8 frames, the action fills most of the clip", ["nothing", "transformer", "transformer + text tower"], difficulty=1,
          runs=lambda seed, setting: [ordered(seed, setting)] if setting != "nothing" else [])
def _(lab, setting):
    s, names = lab.clips("order", 1, 8), SIX
    label, two = s.labels(names), s.labels(names)[:, None] // 2 * 2 + torch.arange(2)
    out, trained = {}, models(lab, "time", setting)
    for name, model in {"": trained[0], ", transformer taken out": without_order(trained[0])}.items() if trained else [("", None)]:
        right = hits((answers(model, s, names) if model else in_prompt(lab, s, names)).gather(1, two), label % 2).double()
        out[f"direction{name}"] = right.mean().item(), len(right)
        out |= {f"direction, {thing}{name}": (right[label // 2 == k].mean().item(), len(right) // 3) for k, (_, thing) in enumerate(world.PAIRS.values())}
    return out

def without_order(model):
    plain = copy.deepcopy(model)
    plain.video = VideoBranch(model.dim, "None", model.video.interaction, temperature=model.video.temperature)
    return plain.eval()

def known_and_novel(lab, model=None):
    s, new = lab.clips("actions", frames=8), lab.clips("novel", frames=8)
    ask = (lambda s, names: answers(model, s, names)) if model else (lambda s, names: in_prompt(lab, s, names))
    return {"top-1, fourteen actions": (top1(ask(s, FOURTEEN), s, FOURTEEN), len(s.clips)), "top-1, six novel actions": (top1(ask(new, list(world.NOVEL)), new, list(world.NOVEL)), len(new.clips))}

def in_prompt(lab, s, names):
    "Concept spotting without training, in the prompt that training uses."
    t = lab.text(names, "This is a video about {}"); return concept_spotting(s.frames, t.tokens, t.classes)

@question("text", "frozen or tuned text, with and without a temporal transformer; 16 clips a class, 8 frames", ["nothing", "text tower", "transformer", "transformer + text tower"],
          runs=lambda seed, setting: [few(seed, 16, *TRAINED[setting])] if setting != "nothing" else [])
def _(lab, setting): return known_and_novel(lab, *models(lab, "text", setting))

@question("pooling, trained", "mean pooling or concept spotting, trained that way on 16 clips a class, 8 frames", ["mean pooling", "concept spotting"],
          runs=lambda seed, setting: [few(seed, 16, *TRAINED[name], *HOW[setting]) for name in ("text tower", "transformer + text tower")])
def _(lab, setting):
    names = "text tower", "transformer + text tower"
    return {f"top-1, trained: {name}": known_and_novel(lab, model)["top-1, fourteen actions"] for name, model in zip(names, models(lab, "pooling, trained", setting))}

HOW = {"mean pooling": ["interaction=DP"], "concept spotting": []}

@question("image tower", "is the image tower trained along, at a tenth of the rate? 16 clips a class, 8 frames", list(IMAGE), runs=lambda seed, setting: [few(seed, 16, *IMAGE[setting])])
def _(lab, setting): return known_and_novel(lab, *models(lab, "image tower", setting))

@question("few-shot", "1, 2, 4, 8, 16 clips a class to learn from, 8 frames; the text tower is trained", ["0", "1", "2", "4", "8", "16"],
          runs=lambda seed, setting: [few(seed, int(setting), *TRAINED["text tower"])] if setting != "0" else [])
def _(lab, setting): return known_and_novel(lab, *models(lab, "few-shot", setting))

@question("attributes branch", "attribute sentences compared by the text tower as it is, or through a trained branch; 16 clips a class, 8 frames", ["untrained", "trained"],
          runs=lambda seed, setting: [few_sentences(seed)] if setting == "trained" else [])
def _(lab, setting):
    out = {}
    for kind, names, title in (("actions", FOURTEEN, "fourteen actions"), ("novel", list(world.NOVEL), "six novel actions")):
        s, trained = lab.clips(kind, frames=8), models(lab, "attributes branch", setting)
        x = branch_says(*trained, lab, s, names) if trained else lab.scale * said(lab, s, names, how="max")
        both = fuse((lab.scale * in_prompt(lab, s, names)).softmax(-1), x.softmax(-1), .7)
        out |= {f"attributes alone, {title}": (top1(x, s, names), len(s.clips)), f"fused 0.7, {title}": (top1(both, s, names), len(s.clips))}
    return out

def few_sentences(seed):
    "An experiment with attribute sentences of the few-shot clips, words of the best frames; the sentences are written first. Ten epochs: after forty, it knew them by heart (seed 1)."
    root = DRAWN/f"few-shot-{seed}"
    with contextlib.chdir(ROOT):
        T.prepare_world(T.TrainConfig.from_yaml(*few(seed, 16)))
        tagger = Tagger(Lab.encoder, lexicon=Lab.words("all words"), k=5, pool="max", frames=8)
        for part in ("train", "val"): tag_dataset(root/f"{part}.txt", root, root/f"attributes_{part}.json", tagger)
    return few(seed, 16, "branch=attributes", "sim_header=None", *(f"attributes_{part}_path={root}/attributes_{part}.json" for part in ("train", "val")), "epochs=10", "lr_warmup_step=1", "lr=1.e-3")

@torch.no_grad()
def branch_says(model, lab, s, names): # (B,A) scaled
    "What a trained attributes branch answers."
    words = model.encode_text(sentences(lab, s, how="max"), "{}")
    return model.attributes_scale.exp() * model.attribute_logits(words, model.encode_text(names))

@question("frames", "how many frames of a clip?", ["2", "4", "8", "16", "32"])
def _(lab, setting):
    s = lab.clips("actions", frames=int(setting))
    return {f"top-1, {name}": (top1(how(lab, s, FOURTEEN), s, FOURTEEN), len(s.clips)) for name, how in (("mean pooling", pool), ("concept spotting", spot))}

@question("length", "how much of the clip does the action fill? 8 frames", LENGTHS)
def _(lab, setting):
    s = lab.clips("actions" if setting == "12–30 %" else setting, frames=8)
    out = {f"top-1, {name}": how(lab, s, FOURTEEN) for name, how in (("mean pooling", pool), ("concept spotting", spot))}
    out |= {f"top-1, attributes alone, {how}": said(lab, s, FOURTEEN, how=how) for how in ("mean", "max")}
    return {k: (top1(x, s, FOURTEEN), len(s.clips)) for k, x in out.items()}

@question("novel", "actions that training never showed", ["mean pooling", "concept spotting"])
def _(lab, setting):
    how, new, s, every = (pool if setting == "mean pooling" else spot), lab.clips("novel"), lab.clips("actions"), FOURTEEN + list(world.NOVEL)
    return {"novel among 6": (top1(how(lab, new, list(world.NOVEL)), new, list(world.NOVEL)), len(new.clips)),
            "novel among 20": (top1(how(lab, new, every), new, every), len(new.clips)), "known among 20": (top1(how(lab, s, every), s, every), len(s.clips))}


# Rows

def compute(name, setting, seed, lab=None)->list:
    "The rows of one setting and seed."
    about, difficulty, _, f = QUESTIONS[name]
    command = f"python scripts/run_ablations.py --only {name!r} --seeds {seed}".replace("'" if " " not in name else "", "")
    return [dict(question=name, setting=setting, seed=seed, figure=figure, value=round(value, 4), clips=n, difficulty=difficulty, command=command)
            for figure, (value, n) in f(lab or Lab(seed), setting).items()]

def commands_of(name, setting, seed)->list:
    "The training behind a setting and a seed, as commands; what they read and cannot draw themselves is drawn."
    Lab(seed)
    return [as_command(*run) for run in RUNS[name](seed, setting)]

def read(path=RESULTS)->list:
    if not Path(path).exists(): return []
    with open(path, newline="", encoding="utf-8") as f: return list(csv.DictReader(f))

def place(row):
    about, _, settings, _ = QUESTIONS[row["question"]]
    return list(QUESTIONS).index(row["question"]), settings.index(row["setting"]), int(row["seed"])

def add(new, path=RESULTS):
    "Add rows, in order; those of the same question, setting and seed go. Several processes may do so."
    import fcntl
    key = lambda r: (r["question"], r["setting"], str(r["seed"]))
    KEPT.mkdir(parents=True, exist_ok=True)
    with open(KEPT/f"{path.stem}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rows = sorted([r for r in read(path) if key(r) not in set(map(key, new))] + new, key=place)
        with open(tmp := path.with_suffix(".part"), "w", newline="", encoding="utf-8") as f:
            writer = csv.DictWriter(f, FIELDS, lineterminator="\n"); writer.writeheader(); writer.writerows(rows)
        os.replace(tmp, path)

def over_seeds(values)->Estimate:
    "Mean of one value a seed with Student's 95 % interval of the mean, not cut off at 0 or 1 (differences use it, too)."
    v, n = np.asarray(values, float), len(values)
    half = _spread(v) if n >= 3 else math.nan
    return Estimate(v.mean(), v.mean() - half, v.mean() + half, n)

def table(rows)->str:
    out, seen = [], {}
    for r in rows: seen.setdefault((r["question"], r["figure"]), {}).setdefault(r["setting"], []).append(float(r["value"]))
    for (name, figure), settings in seen.items():
        out.append(f"{name}: {figure}\n" + "\n".join(f"    {s:28} {over_seeds(v)}  {len(v)} seeds" for s, v in settings.items()))
    return "\n".join(out)

def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(QUESTIONS), default=list(QUESTIONS), metavar="QUESTION", help=", ".join(QUESTIONS))
    parser.add_argument("--seeds", type=lambda s: [int(x) for x in s.split(",")], default=[1, 2, 3, 4, 5])
    parser.add_argument("--settings", nargs="+", default=None, help="only these settings")
    parser.add_argument("--again", action="store_true", help="compute rows that are there again")
    parser.add_argument("--show", action="store_true", help="print what would be trained, as commands `bike_nb train`, and train nothing")
    parser.add_argument("--table", action="store_true", help="print the results that are there, and do nothing")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    try: _check_seeds(args.seeds)
    except EvaluationError as error: parser.error(str(error))
    if args.table: print(table([r for r in read(args.results) if r["question"] in args.only])); return
    if args.show:
        for name in args.only:
            for seed in args.seeds:
                for setting in args.settings or QUESTIONS[name][2]: print("\n".join(f"# {name}, {setting}, seed {seed}\n{c}" for c in commands_of(name, setting, seed)))
        return
    global AGAIN
    labs, AGAIN = {}, set() if args.again else None
    for name in args.only:
        for seed in args.seeds:
            for setting in QUESTIONS[name][2]:
                there = {(r["question"], r["setting"], r["seed"]) for r in read(args.results)}
                if args.settings and setting not in args.settings or (name, setting, str(seed)) in there and not args.again: continue
                began, spent = time.time(), time.process_time()
                rows = compute(name, setting, seed, labs.setdefault(seed, Lab(seed)))
                add(rows, args.results)
                print(f"{name}, {setting}, seed {seed}: " + "; ".join(f"{r['figure']} {r['value']:.3f}" for r in rows) + f"  ({time.process_time() - spent:.0f} s of CPU, {time.time() - began:.0f} s)", flush=True)


if __name__ == "__main__": main()
