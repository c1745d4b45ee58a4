"""Every number in the reference folder was computed by the official BIKE code; ours must be the same (--reference DIR, see conftest.py).

One test for each array of each file: what is given (images, tokens, labels) must have been used, all else is compared. Functions marked with
`ours` compute arrays of one file from what is given; an array that none of them computes fails, so nothing in the folder can be left out.
All sizes are read from the files. tests/second_set.py makes a second folder with other sizes; tests/test_second_set.py runs this file on it."""
import json
import random
import re

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from bike_nb.attributes import attribute_sentence
from bike_nb.data import frame_indices, test_transform as eval_pipeline
from bike_nb.encoder import TextEmbeddings, build_tokenizer
from bike_nb.evaluation import (activitynet_map, aggregate_views, average_precision, frame_logits, mean_average_precision, top_k,
                                zero_shot_accuracy)
from bike_nb.losses import LOSSES, contrastive_targets, symmetric
from bike_nb.model import (PROMPT, AttributesBranch, TemporalTransformer, VideoBranch, fuse, load_official, official_state, read_checkpoint,
                           save_official)
from bike_nb.spotting import concept_spotting, mean_pooling, saliency, token_saliency
from bike_nb.training import Learner, TrainConfig, make_optimizer, make_schedule, set_rate

TOLERANCE, AFTER_STEPS = 1e-5, 1e-4
PLAIN, DDP = "official_checkpoint.pt", "official_checkpoint_ddp_fp16.pt"
CROPS = dict(center=1, three=3, five=5, ten=10)
# What the README says of the training steps and no array holds: epochs, warm-up, weight decay, where in the epochs the steps lie
# (at 0.5 + i/3, which for its three steps is one epoch; where there are others, the learning rates tell which of the two is meant).
RECIPE = dict(type="cosine", epochs=4, lr_warmup_step=1, optim="adamw", weight_decay=0.2, loss_type="NCE")
FIRST_STEP_AT = 0.5

GIVEN = { # patterns of the arrays that are handed to us; all others are compared
    "attributes_branch.npz": "sentence_tokens|class_tokens",
    "clip_forward.npz": "images|tokens",
    "eval_transforms.npz": ".*_frames",
    "frame_sampling.npz": "numpy_seed",
    "losses.npz": "logits|labels",
    "lr_schedules.npz": "epochs|base_lr",
    "metrics.npz": "frame_embeddings|class_embeddings|labels|multilabels|video_probs|attribute_probs|multiview_logits|multiview_views",
    "tokens.json": "class_names|attributes",
    "train_steps.npz": "frames|labels|class_tokens",
}


# ---------------------------------------------------------------- the folder

def flat(state, prefix=""):
    "Leaves of nested dictionaries by their path."
    for key, value in state.items():
        if isinstance(value, dict) and value: yield from flat(value, f"{prefix}{key}/")
        else: yield f"{prefix}{key}", value


def contents(path):
    "{key: array} of one file."
    if path.suffix == ".npz":
        with np.load(path) as file: return {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}
    if path.suffix == ".json": return json.loads(path.read_text(encoding="utf-8"))
    return dict(flat(torch.load(path, map_location="cpu", weights_only=True)))


def names(folder):
    "(file, key) of everything in the folder, in the order of the files."
    for path in sorted(folder.iterdir()):
        if path.suffix == ".npz":
            with np.load(path) as file: yield from ((path.name, key) for key in file.files)
        elif path.suffix in (".pt", ".json"): yield from ((path.name, key) for key in contents(path))
        elif path.suffix != ".md": yield path.name, ""


def is_given(file, key): return re.fullmatch(GIVEN.get(file, "(?!)"), key) is not None


class Reading(dict):
    "A file's arrays that remembers which of them were read."
    def __init__(self, *args): super().__init__(*args); self.read = set()
    def __getitem__(self, key): self.read.add(key); return super().__getitem__(key)


class Numbers:
    "The folder's files, read once, and what our functions make of them."
    def __init__(self, folder): self.folder, self.files, self.results, self.models = folder, {}, {}, {}
    def __getitem__(self, name):
        if name not in self.files: self.files[name] = Reading(contents(self.folder / name))
        return self.files[name]
    def path(self, name): return self.folder / name
    def model(self, name=PLAIN, **how):
        key = (name, *sorted(how.items()))
        if key not in self.models: self.models[key] = load_official(self.path(name), **how)
        return self.models[key]
    def result(self, function):
        if function not in self.results: self.results[function] = function(self)
        return self.results[function]


@pytest.fixture(scope="module")
def numbers(reference): return Numbers(reference)


OURS = []

def ours(file, keys):
    "Marks a function that computes the arrays of `file` whose names match `keys`."
    def mark(function):
        OURS.append((file, keys, function))
        return function
    return mark


def limit(file, key, theirs):
    "The largest difference allowed: the README's, never more than a thousandth of the largest number; learning rates to seven digits, weights exactly."
    largest = float(theirs.abs().max()) if theirs.numel() else 0.
    if file.endswith(".pt") or key.startswith("state."): return 0.
    if file == "lr_schedules.npz" or key.startswith("lrs"): return 1e-7 * largest
    if file == "train_steps.npz" and (key.endswith("_after") or key == "losses"): return min(AFTER_STEPS, 1e-3 * largest)
    return min(TOLERANCE, 1e-3 * largest)


def compare(file, key, found, theirs):
    "Nothing but equal shapes, and values within the limit."
    if not torch.is_tensor(theirs):
        assert found == theirs
        return
    found = torch.as_tensor(found)
    assert found.shape == theirs.shape, f"{tuple(found.shape)} instead of {tuple(theirs.shape)}"
    assert found.is_floating_point() == theirs.is_floating_point(), f"{found.dtype} instead of {theirs.dtype}"
    if not theirs.is_floating_point() or limit(file, key, theirs) == 0: assert torch.equal(found.to(theirs.dtype), theirs)
    else:
        gap = (found.double() - theirs.double()).abs().max().item()
        assert gap <= limit(file, key, theirs), f"largest difference {gap:.2e}, allowed {limit(file, key, theirs):.0e}"


def pytest_generate_tests(metafunc):
    if "array" not in metafunc.fixturenames: return
    from pathlib import Path
    found = list(names(Path(metafunc.config.getoption("--reference"))))
    metafunc.parametrize("array", found, ids=[f"{file}:{key}" for file, key in found])


def test_every(array, numbers):
    "One array: given and used, or computed by us and equal."
    file, key = array
    mine = [(keys, function) for name, keys, function in OURS if name == file]
    if is_given(file, key):
        for _, function in mine: numbers.result(function)
        assert key in numbers[file].read, f"{file} gives {key}, but nothing here looks at it"
        return
    found = [function for keys, function in mine if re.fullmatch(keys, key)]
    assert found, f"{file} holds {key}, and nothing here computes it"
    for function in found:
        result = numbers.result(function)
        assert key in result, f"{file} holds {key}, and {function.__name__} does not compute it"
        compare(file, key, result[key], dict.get(numbers[file], key))


# ---------------------------------------------------------------- checkpoints

def official_layout(numbers, name):
    "What we would write, named as in the file."
    model, found = numbers.model(name), read_checkpoint(numbers.path(name))
    written = dict(flat(official_state(model, epoch=found["epoch"])))
    prefixed = any("/module." in key for key in numbers[name])
    return {re.sub("^(model|fusion_model)_state_dict/", r"\g<0>module." if prefixed else r"\g<0>", key): value for key, value in written.items()}


def training_groups(numbers, name):
    "The optimizer of a model that is trained as a whole: the same weights in the same groups and order, numbered through."
    theirs = dict.get(numbers[name], "optimizer_state_dict/param_groups")
    if theirs is None: return {}
    model, (*_, head) = load_official(numbers.path(name)).requires_grad_(True), theirs
    state = make_optimizer(model, TrainConfig.from_dict(dict(solver=dict(lr=head["lr"], weight_decay=head["weight_decay"])))).state_dict()
    groups = [given | {key: group[key] for key in ("params", "weight_decay", "eps")} for given, group in zip(theirs, state["param_groups"], strict=True)]
    return {"optimizer_state_dict/state": state["state"], "optimizer_state_dict/param_groups": groups}


@ours(PLAIN, ".*")
def plain_checkpoint(numbers): return official_layout(numbers, PLAIN) | training_groups(numbers, PLAIN)


@ours(DDP, ".*")
def ddp_checkpoint(numbers): return official_layout(numbers, DDP) | training_groups(numbers, DDP)


@pytest.mark.parametrize("name", [PLAIN, DDP])
def test_checkpoints_survive_the_round_trip(numbers, name, tmp_path):
    "Written in the official layout, with the very same keys and values, and read again as an equal model."
    path = save_official(numbers.model(name), tmp_path / "again.pt", epoch=numbers[name]["epoch"])
    again, theirs = torch.load(path, weights_only=True), torch.load(numbers.path(name), weights_only=True)
    assert again["epoch"] == theirs["epoch"]
    for part in ("model_state_dict", "fusion_model_state_dict"):
        expected = {key.removeprefix("module."): value for key, value in theirs[part].items()}
        assert again[part].keys() == expected.keys()
        for key, value in expected.items(): assert torch.equal(again[part][key], value.to(again[part][key].dtype)), key
    loaded = load_official(path).state_dict()
    for key, value in numbers.model(name).state_dict().items(): assert torch.equal(loaded[key], value), key


def test_both_checkpoints_are_one_model(numbers):
    "The one from several GPUs in half precision is the plain one, rounded."
    plain, ddp = numbers.model(PLAIN).state_dict(), numbers.model(DDP).state_dict()
    stored = torch.load(numbers.path(DDP), weights_only=True)["model_state_dict"]
    halves = {"clip." + key.removeprefix("module.") for key, value in stored.items() if value.dtype == torch.float16}
    assert plain.keys() == ddp.keys() and halves
    for key, value in plain.items(): assert torch.equal(value.half().float() if key in halves else value, ddp[key]), key


# ---------------------------------------------------------------- towers and branches

@ours("clip_forward.npz", "(frame|class|token)_embeddings|logit_scale")
@torch.no_grad()
def towers(numbers):
    model, file = numbers.model(), numbers["clip_forward.npz"]
    classes, tokens = model.encode_ids(file["tokens"])
    return dict(frame_embeddings=model.encode_frames(file["images"]), class_embeddings=classes, token_embeddings=tokens, logit_scale=model.scale)


@ours("clip_forward.npz", "logits_.*")
@torch.no_grad()
def branches(numbers):
    "From their embeddings, module by module; header and interaction stand in the name."
    file, made = numbers["clip_forward.npz"], {}
    frames, tokens, classes = (file[f"{kind}_embeddings"] for kind in ("frame", "token", "class"))
    state = {key.split("/")[1]: value for key, value in numbers[PLAIN].items() if key.startswith("fusion_model_state_dict/")}
    positions, width = state["frame_position_embeddings.weight"].shape
    layers = len({key.split(".")[2] for key in state if key.startswith("transformer.resblocks.")})
    heads = len(dict.get(numbers[PLAIN], "model_state_dict/ln_final.weight")) // 64
    for key in file:
        if not key.startswith("logits_"): continue
        _, header, interaction = key.split("_")
        branch = VideoBranch(width, header, interaction, heads, positions, layers).eval()
        branch.load_state_dict(state if header == "Transf" else {})
        made[key] = branch(frames, None if interaction == "DP" else tokens, classes)
    return made


@ours("clip_forward.npz", "logits_.*")
@torch.no_grad()
def whole_models(numbers):
    "From pictures and token ids, through models built from checkpoints with and without a temporal transformer."
    file, made = numbers["clip_forward.npz"], {}
    bare = dict(torch.load(numbers.path(PLAIN), weights_only=True), fusion_model_state_dict={})
    for key in file:
        if not key.startswith("logits_"): continue
        _, header, interaction = key.split("_")
        model = numbers.model(interaction=interaction) if header == "Transf" else without_header(bare, interaction)
        made[key] = model(file["images"], file["tokens"])
    return made


def without_header(checkpoint, interaction):
    "The model of a checkpoint whose head is empty, as official training with sim_header 'None' writes it."
    import tempfile
    from pathlib import Path
    with tempfile.TemporaryDirectory() as folder:
        torch.save(checkpoint, Path(folder) / "bare.pt")
        return load_official(Path(folder) / "bare.pt", header="None", interaction=interaction)


@ours("clip_forward.npz", "saliency_class_video_frame")
def spotting(numbers):
    file = numbers["clip_forward.npz"]
    return dict(saliency_class_video_frame=saliency(file["token_embeddings"], file["frame_embeddings"]))


@ours("clip_forward.npz", "saliency_class_video_frame")
def spotting_token_by_token(numbers):
    file = numbers["clip_forward.npz"]
    return dict(saliency_class_video_frame=token_saliency(file["token_embeddings"], file["frame_embeddings"]).mean(2))


@ours("attributes_branch.npz", "sentence_embeddings|class_embeddings|logits|state.*")
@torch.no_grad()
def attributes_branch(numbers):
    "The text tower of the checkpoint, the head's weights from this file."
    model, file = numbers.model(), numbers["attributes_branch.npz"]
    state = {key.removeprefix("state."): value for key, value in file.items() if key.startswith("state.")}
    head = AttributesBranch(model.dim).eval()
    head.load_state_dict(state)
    sentences, classes = (model.encode_ids(file[f"{kind}_tokens"])[0] for kind in ("sentence", "class"))
    return dict(sentence_embeddings=normalize(sentences, dim=-1), class_embeddings=normalize(classes, dim=-1), logits=head(classes, sentences),
                **{f"state.{key}": value for key, value in head.state_dict().items()})


@ours("attributes_branch.npz", "logits|state.*")
@torch.no_grad()
def attributes_checkpoint(numbers):
    "The same by an official attributes checkpoint beside the video one, and the weights as we would write them again."
    import tempfile
    from pathlib import Path
    file, stored = numbers["attributes_branch.npz"], torch.load(numbers.path(PLAIN), weights_only=True)
    state = {key.removeprefix("state."): value for key, value in file.items() if key.startswith("state.")}
    with tempfile.TemporaryDirectory() as folder:
        torch.save(stored | dict(fusion_model_state_dict=state), Path(folder) / "attributes.pt")
        model = load_official(numbers.path(PLAIN), attributes=Path(folder) / "attributes.pt")
    sentences, classes = (model.encode_ids(file[f"{kind}_tokens"])[0] for kind in ("sentence", "class"))
    written = official_state(model, branch="attributes")["fusion_model_state_dict"]
    return dict(logits=model.attribute_logits(sentences, classes), **{f"state.{key}": value for key, value in written.items()})


# ---------------------------------------------------------------- words

@ours("tokens.json", "class_prompt_ids|attribute_sentence_ids")
def token_ids(numbers):
    file = numbers["tokens.json"]
    length = len(dict.get(file, "class_prompt_ids")[0])
    tokenizer = build_tokenizer(dict(context_length=length))
    return dict(class_prompt_ids=tokenizer([PROMPT.replace("{}", name) for name in file["class_names"]]).tolist(),
                attribute_sentence_ids=tokenizer([attribute_sentence(row) for row in file["attributes"]]).tolist())


# ---------------------------------------------------------------- losses and training

@ours("losses.npz", "targets|(nce|dual)_(rows|symmetric|symmetric_grad)")
def losses(numbers):
    file = numbers["losses.npz"]
    made = dict(targets=contrastive_targets(file["labels"]))
    for name, kind in (("NCE", "nce"), ("DS", "dual")):
        x, loss = file["logits"].clone().requires_grad_(), LOSSES[name]()
        value = symmetric(loss, x, made["targets"])
        made |= {f"{kind}_rows": loss(x, made["targets"]).detach(), f"{kind}_symmetric": value.detach(),
                 f"{kind}_symmetric_grad": torch.autograd.grad(value, x)[0]}
    return made


def solver(**keys): return TrainConfig.from_dict(dict(solver=keys))


SCHEDULES = r"cosine_\d+_warmup\d+|multistep(_\d+)+_warmup\d+"

@ours("lr_schedules.npz", SCHEDULES)
def schedules(numbers):
    "Kind, epochs or milestones, and warm-up stand in the name."
    file, made = numbers["lr_schedules.npz"], {}
    for key in file:
        if not re.fullmatch(SCHEDULES, key): continue
        kind, *values, warm = key.split("_")
        values, keys = [int(v) for v in values], dict(type=kind, lr_warmup_step=int(warm.removeprefix("warmup")), lr=float(file["base_lr"]))
        keys |= dict(epochs=values[0]) if kind == "cosine" else dict(lr_decay_step=values, epochs=int(max(file["epochs"])) + 1)
        factor = make_schedule(solver(**keys))
        made[key] = torch.tensor([factor(float(epoch)) for epoch in file["epochs"]], dtype=torch.float64) * file["base_lr"]
    return made


@ours("train_steps.npz", "losses|lrs_clip_then_head|.*_step0|(conv1|logit_scale)_after")
def training_steps(numbers): return trained(numbers, torch.float32)


@ours("train_steps.npz", "losses|lrs_clip_then_head|.*_step0|.*_after")
def training_steps_in_double_precision(numbers):
    "Adam divides tiny gradients by their size, so rounding becomes steps: of the two roundings compared, this leaves out ours."
    return trained(numbers, torch.float64)


def trained(numbers, dtype):
    "The learner of `fit`, its optimizer and its schedule, on batches whose texts are given as token ids."
    file, model = numbers["train_steps.npz"], load_official(numbers.path(PLAIN), interaction="VCS").to(dtype)
    steps, rates = len(file["labels"]), dict.get(file, "lrs_clip_then_head")
    factor = make_schedule(solver(**RECIPE))
    start = factor(FIRST_STEP_AT)
    stride = min((1 / 3, 1 / steps), key=lambda s: abs(factor(FIRST_STEP_AT + s) / start - float(rates[min(1, steps - 1), 1] / rates[0, 1])))
    config = TrainConfig.from_dict(dict(solver=RECIPE | dict(lr=float(rates[0, 1]) / start, clip_ratio=float(rates[0, 0] / rates[0, 1])),
                                        network=dict(fix_text=True)))
    model.freeze(text=True).train()
    learner = Learner(model, [f"class {i}" for i in range(len(file["class_tokens"]))], config)
    learner.ids = file["class_tokens"]
    classes, tokens = (x.detach() for x in model.encode_ids(learner.ids))
    learner.text = TextEmbeddings(classes, tokens, None, None, learner.names, learner.ids)
    optimizer, schedule = make_optimizer(model, config), make_schedule(config)
    watched = dict(conv1=model.clip.visual.conv1.weight, logit_scale=model.clip.logit_scale,
                   head_inproj=model.video.transformer["resblocks"][0].attn.in_proj_weight)
    made, values, used = {}, [], []
    for i in range(steps):
        set_rate(optimizer, schedule(FIRST_STEP_AT + i * stride))
        loss = sum(learner(dict(frames=file["frames"][i][:, None].to(dtype), label=file["labels"][i])).values())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if i == 0: made |= {f"grad_{name}_step0": weight.grad.clone() for name, weight in watched.items()}
        values.append(loss.item()), used.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
    assert all(p.grad is None for n, p in model.clip.named_parameters() if not n.startswith("visual.") and n != "logit_scale")
    return made | dict(losses=torch.tensor(values, dtype=torch.float64), lrs_clip_then_head=torch.tensor(used, dtype=torch.float64),
                       **{f"{name}_after": weight.detach() for name, weight in watched.items()})


# ---------------------------------------------------------------- data

SAMPLINGS = r"(train|val|test)_(uniform|dense)(/\d+){2,3}"

@ours("frame_sampling.npz", SAMPLINGS)
def sampling(numbers):
    "Uniform training indices come from Python's `random`, seeded once; those of dense sampling from NumPy's, seeded before each."
    file, made = numbers["frame_sampling.npz"], {}
    seed = int(file["numpy_seed"])
    python = random.Random(seed)
    for key in file:
        if not re.fullmatch(SAMPLINGS, key): continue
        kind, frames, segments, *clips = key.split("/")
        mode, how = kind.split("_")
        rng = python if kind == "train_uniform" else np.random.RandomState(seed)
        made[key] = torch.from_numpy(frame_indices(mode, int(frames), int(segments), how == "dense", *map(int, clips), rng=rng))
    return made


def scale_of(pictures, theirs):
    "The shortest side whose centre crop is nearest to theirs: the one size that no array's shape tells."
    size = theirs.shape[-1]
    def gap(scale): return (eval_pipeline(size, scale=scale)(pictures).flatten(0, 2) - theirs).abs().mean().item()
    return min(range(size, 3 * size), key=gap)


@ours("eval_transforms.npz", ".*_(center|three|five|ten)")
def crops(numbers):
    "Frames stacked on channels, crop by crop."
    from PIL import Image
    file, made = numbers["eval_transforms.npz"], {}
    for given in [key for key in file if key.endswith("_frames")]:
        shape = given.removesuffix("_frames")
        pictures = [Image.fromarray(frame.numpy()) for frame in file[given]]
        scale = scale_of(pictures, dict.get(file, f"{shape}_center"))
        for name, count in CROPS.items():
            if (key := f"{shape}_{name}") in file: made[key] = eval_pipeline(file[key].shape[-1], count, scale=scale)(pictures).flatten(0, 2)
    return made


# ---------------------------------------------------------------- metrics

def percent(*shares): return 100 * torch.tensor(shares, dtype=torch.float64)


def tops(scores, labels): return percent(*(top_k(scores, labels, k) for k in (1, 5)))


@ours("metrics.npz", "similarity|top1_top5|full_top1_top5|half_top[15]|map_.*|ap_per_class")
def single_view(numbers):
    file = numbers["metrics.npz"]
    labels, given = file["labels"], file["similarity"]
    logits = frame_logits(file["frame_embeddings"], file["class_embeddings"])
    zero_shot, several = zero_shot_accuracy(logits, labels, splits=len(dict.get(file, "half_top1"))), file["multilabels"].bool()
    return dict(similarity=logits.softmax(-1).mean(1), top1_top5=tops(given, labels),
                full_top1_top5=percent(zero_shot["full_top1"], zero_shot["full_top5"]),
                half_top1=percent(*zero_shot["half_top1"]), half_top5=percent(*zero_shot["half_top5"]),
                ap_per_class=average_precision(given.T, several.T).nan_to_num(0), map_multilabel=mean_average_precision(given, several, absent=0.),
                map_anet=activitynet_map(given, labels, absent=0.))


@ours("metrics.npz", "fused_top1_top5|multiview_probs")
def several_views(numbers):
    file = numbers["metrics.npz"]
    return dict(fused_top1_top5=tops(fuse(file["video_probs"], file["attribute_probs"]), file["labels"]),
                multiview_probs=aggregate_views(file["multiview_logits"], int(file["multiview_views"])))


# ---------------------------------------------------------------- the comparison itself

def test_nothing_is_computed_in_vain(numbers):
    "Every pattern above meets an array, and every file named here is in the folder."
    found = list(names(numbers.folder))
    for file, keys, function in OURS:
        assert any(file == name and re.fullmatch(keys, key) and not is_given(name, key) for name, key in found), f"{function.__name__}: {file} has no {keys}"
    for file, keys in GIVEN.items():
        for one in keys.split("|"): assert any(file == name and re.fullmatch(one, key) for name, key in found), f"{file} gives no {one}"


def test_the_numbers_can_tell_right_from_wrong(numbers):
    "What is compared must vary by far more than the tolerance, or agreement would mean nothing."
    file = numbers["clip_forward.npz"]
    for kind in ("None_DP", "None_VCS", "Transf_DP", "Transf_VCS"): assert file[f"logits_{kind}"].std() > 100 * TOLERANCE
    for one, other in (("None_DP", "None_VCS"), ("Transf_DP", "Transf_VCS"), ("None_VCS", "Transf_VCS")):
        assert (file[f"logits_{one}"] - file[f"logits_{other}"]).abs().max() > 10 * TOLERANCE
    steps = numbers["train_steps.npz"]
    start = {"conv1": "model_state_dict/visual.conv1.weight", "logit_scale": "model_state_dict/logit_scale",
             "head_inproj": "fusion_model_state_dict/transformer.resblocks.0.attn.in_proj_weight"}
    for name, key in start.items(): assert (steps[f"{name}_after"] - numbers[PLAIN][key]).abs().max() > 5 * AFTER_STEPS, name


@torch.inference_mode()
def test_a_mask_is_not_the_official_formula(numbers):
    "Leaving out the start token moves the saliency by far more than the tolerance: the default must not do it silently."
    file = numbers["clip_forward.npz"]
    mask = torch.ones(file["token_embeddings"].shape[:2], dtype=torch.bool)
    mask[:, 0] = False
    moved = saliency(file["token_embeddings"], file["frame_embeddings"], mask=mask) - file["saliency_class_video_frame"]
    assert moved.abs().max() > 10 * TOLERANCE


@torch.inference_mode()
def test_the_formulas_without_modules(numbers):
    "Spotting and mean pooling as plain functions, with the temporal transformer alone before them."
    file = numbers["clip_forward.npz"]
    frames, tokens, classes = (file[f"{kind}_embeddings"] for kind in ("frame", "token", "class"))
    transformer = TemporalTransformer.from_official_state(torch.load(numbers.path(PLAIN), weights_only=True))
    for header, f in (("None", frames), ("Transf", transformer(frames))):
        compare("clip_forward.npz", "logits", mean_pooling(f, classes), file[f"logits_{header}_DP"])
        compare("clip_forward.npz", "logits", concept_spotting(f, tokens, classes), file[f"logits_{header}_VCS"])


def test_state_alone_with_heads_given(numbers):
    "The transformer's own state does not say how many heads it has; told so, it is the same."
    checkpoint, frames = torch.load(numbers.path(PLAIN), weights_only=True), numbers["clip_forward.npz"]["frame_embeddings"]
    heads = len(checkpoint["model_state_dict"]["ln_final.weight"]) // 64
    alone = TemporalTransformer.from_official_state(checkpoint["fusion_model_state_dict"], heads)
    assert torch.equal(alone(frames), TemporalTransformer.from_official_state(checkpoint)(frames))


def test_more_frames_than_positions(numbers):
    transformer = numbers.model().video
    positions, width = transformer.frame_position_embeddings.weight.shape
    assert transformer.look(torch.zeros(1, positions, width)).shape == (1, positions, width)
    with pytest.raises(ValueError, match=f"{positions + 1} frames, but this temporal transformer has {positions} positions"):
        transformer.look(torch.zeros(1, positions + 1, width))
