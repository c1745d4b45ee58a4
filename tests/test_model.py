"""The whole model: official checkpoints in every layout, refusals, both ways of saving, downloads from a server of our own, switches of training.

Numbers of the official code come from --reference (see conftest.py); some of its files are looked for in ../shared/reference,
and what needs them is skipped, visibly, where they are absent. Nothing asks the network."""
import dataclasses
import functools
import http.server
import json
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from torch.nn.functional import normalize

from bike_nb import model as M
from bike_nb.encoder import build_model, load_encoder
from bike_nb.model import BIKE, ModelError, from_network, load, load_official, official_state, read_checkpoint, save_official

TOLERANCE = 1e-5
SHARED = Path(__file__).parents[2] / "shared"


def found(reference, name):
    "A file of the official numbers; without it the test fails."
    return reference / name


def arrays(file):
    with np.load(file) as data: return {key: torch.from_numpy(data[key]) for key in data}


def gap(ours, theirs):
    assert ours.shape == theirs.shape
    return (ours.detach() - theirs).abs().max().item()


def same(a, b):
    "The same keys and every bit."
    a, b = (x.state_dict() if isinstance(x, nn.Module) else x for x in (a, b))
    assert a.keys() == b.keys()
    for key in a: assert a[key].dtype == b[key].dtype and torch.equal(a[key], b[key]), key


VIT = dict(embed_dim=64, vision_cfg=dict(image_size=32, layers=2, width=64, patch_size=8),
           text_cfg=dict(context_length=16, vocab_size=300, width=128, heads=2, layers=2), quick_gelu=True)
RESNET = VIT | dict(vision_cfg=dict(image_size=64, layers=[1, 2, 1, 3], width=8, patch_size=None))
CONFIGS = {"ViT": VIT, "ResNet": RESNET}


def scrambled(model, seed=3):
    "Random numbers in every weight and statistic, so that nothing agrees by chance."
    g = torch.Generator().manual_seed(seed)
    state = {k: (torch.rand(v.shape, generator=g) + 0.5 if "running_var" in k else torch.randn(v.shape, generator=g) * 0.1 + (1 if "bn" in k else 0))
             if v.is_floating_point() else v + 7 for k, v in model.state_dict().items()}
    model.load_state_dict(state)
    return model


@pytest.fixture(params=CONFIGS)
def bike(request): return scrambled(BIKE(CONFIGS[request.param], header="Transf"))


def example(model, seed=0):
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 250, (3, model.context_length), generator=g)
    ids[:, 9], ids[:, 10:] = 299, 0
    return torch.randn(2, 4, 3, *model.image_size, generator=g), ids


# the numbers of the official code

@pytest.fixture(scope="module")
def clip_numbers(reference): return arrays(found(reference, "clip_forward.npz"))


@pytest.mark.parametrize("interaction", ["DP", "VCS"])
@pytest.mark.parametrize("header", ["None", "Transf"])
def test_official_logits(reference, clip_numbers, tmp_path, header, interaction):
    "Pictures and token ids to logits, through the official checkpoint."
    file = found(reference, "official_checkpoint.pt")
    if header == "None":                       # what the official code saves for a branch without weights
        raw = torch.load(file, weights_only=True) | {"fusion_model_state_dict": {}}
        torch.save(raw, file := tmp_path / "none.pt")
    model = load_official(file, header, interaction)
    assert not model.training and gap(model(clip_numbers["images"], clip_numbers["tokens"]), clip_numbers[f"logits_{header}_{interaction}"]) < TOLERANCE
    frames, (classes, tokens) = model.encode_frames(clip_numbers["images"]), model.encode_ids(clip_numbers["tokens"])
    for ours, name in ((frames, "frame"), (classes, "class"), (tokens, "token")): assert gap(ours, clip_numbers[f"{name}_embeddings"]) < TOLERANCE
    assert model.scale.item() == pytest.approx(clip_numbers["logit_scale"].item(), rel=1e-5)


def test_ddp_and_half_precision(reference, clip_numbers):
    plain, ddp = (load_official(found(reference, f"official_checkpoint{s}.pt")) for s in ("", "_ddp_fp16"))
    for key, value in plain.state_dict().items():
        want = value.half().float() if key.startswith("clip.") else value
        assert torch.equal(ddp.state_dict()[key], want), key
    assert gap(ddp(clip_numbers["images"], clip_numbers["tokens"]), clip_numbers["logits_Transf_VCS"]) < 0.02
    assert all(v.dtype == torch.float32 for v in ddp.state_dict().values() if v.is_floating_point())


def test_attributes_branch(reference, tmp_path):
    "The attributes branch, through a checkpoint as train_attributes.py saves it."
    numbers = arrays(found(reference, "attributes_branch.npz"))
    head = {k.removeprefix("state."): v for k, v in numbers.items() if k.startswith("state.")}
    raw = torch.load(found(reference, "official_checkpoint.pt"), weights_only=True)
    video = found(reference, "official_checkpoint.pt")
    raw["model_state_dict"]["logit_scale"] += 1          # the run that trained this branch has a logit scale of its own
    torch.save(raw | {"fusion_model_state_dict": {f"module.{k}": v for k, v in head.items()}}, tmp_path / "attributes.pt")
    model = load_official(tmp_path / "attributes.pt")
    assert model.branches == ("attributes",) and model.video is None
    assert model.attributes_scale.item() == raw["model_state_dict"]["logit_scale"].item()
    sentences, classes = (model.encode_ids(numbers[f"{kind}_tokens"])[0] for kind in ("sentence", "class"))
    logits = model.attribute_logits(sentences, classes)
    assert gap(logits, numbers["logits"]) < TOLERANCE and numbers["logits"].std() > 100 * TOLERANCE
    for kind, ours in (("sentence", sentences), ("class", classes)): assert gap(normalize(ours, dim=-1), numbers[f"{kind}_embeddings"]) < TOLERANCE
    both = load_official(video, attributes=tmp_path / "attributes.pt")
    assert both.branches == ("video", "attributes")
    assert torch.equal(both.attribute_logits(sentences, classes), logits)
    assert both.attributes_scale.item() == pytest.approx(both.clip.logit_scale.item() + 1)
    for branch, want in (("video", torch.load(video, weights_only=True)), ("attributes", raw | {"fusion_model_state_dict": head})):
        state = official_state(both, branch=branch)
        same(state["model_state_dict"], {k: want["model_state_dict"][k] for k in state["model_state_dict"]})
        same(state["fusion_model_state_dict"], {k: want["fusion_model_state_dict"][k] for k in state["fusion_model_state_dict"]})


def test_official_weights_travel_both_ways(reference, tmp_path):
    "Official file → model → official file: the same keys, shapes and bits, which the official code loads strictly."
    file = found(reference, "official_checkpoint.pt")
    want = torch.load(file, weights_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = torch.load(save_official(load_official(file), tmp_path / "again.pt", want["epoch"]), weights_only=True)
    assert got.keys() >= want.keys() and got["epoch"] == want["epoch"] and got["optimizer_state_dict"] == {}
    for part in ("model_state_dict", "fusion_model_state_dict"): same(dict(sorted(got[part].items())), dict(sorted(want[part].items())))


# layouts

def layouts(state):
    clip, head = state["model_state_dict"], state["fusion_model_state_dict"]
    prefix = lambda s: {f"module.{k}": v for k, v in s.items()}
    half = lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()}
    rest = dict(epoch=3, optimizer_state_dict={"state": {}, "param_groups": [{"lr": 0.1}]})
    return {"official": rest | dict(model_state_dict=clip, fusion_model_state_dict=head),
            "module.": rest | dict(model_state_dict=prefix(clip), fusion_model_state_dict=prefix(head)),
            "fp16": rest | dict(model_state_dict=half(clip), fusion_model_state_dict=head),
            "module. and fp16": rest | dict(model_state_dict=prefix(half(clip)), fusion_model_state_dict=prefix(head)),
            "bare": clip, "bare, module. and fp16": prefix(half(clip)), "state_dict": {"state_dict": prefix(clip), "epoch": 3},
            "OpenAI": clip | dict(input_resolution=torch.tensor(32), context_length=torch.tensor(16), vocab_size=torch.tensor(300)),
            "OpenAI, numbers": clip | dict(input_resolution=32, context_length=16, vocab_size=300),
            "no batch counters": rest | dict(model_state_dict={k: v for k, v in clip.items() if "num_batches" not in k}, fusion_model_state_dict=head)}


@pytest.mark.parametrize("layout", layouts(dict(model_state_dict={}, fusion_model_state_dict={})))
@pytest.mark.parametrize("legacy", [False, True])
def test_layouts(bike, tmp_path, layout, legacy):
    state = layouts(official_state(bike))[layout]
    torch.save(state, tmp_path / "f.pt", _use_new_zipfile_serialization=not legacy)
    model, read = load_official(tmp_path / "f.pt"), read_checkpoint(tmp_path / "f.pt")
    assert all(v.dtype != torch.float16 for v in (read["model_state_dict"] | (read["fusion_model_state_dict"] or {})).values())
    bare = "bare" in layout or "OpenAI" in layout or layout == "state_dict"
    assert model.video.header == ("None" if bare else "Transf")
    for key, value in bike.clip.state_dict().items():
        if layout == "no batch counters" and "num_batches" in key: continue
        want = value.half().float() if "fp16" in layout and value.is_floating_point() else value
        assert torch.equal(model.clip.state_dict()[key], want), key
    if not bare: same(model.video, bike.video)
    images, ids = example(bike)
    if layout in ("official", "module."): assert torch.equal(model(images, ids), bike(images, ids))


def normalized(cfg):
    "A model config with open_clip's defaults written out."
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg
    plain = lambda d: {k: tuple(v) if isinstance(v, list) else v for k, v in dataclasses.asdict(d).items()}
    return cfg["embed_dim"], plain(CLIPVisionCfg(**cfg["vision_cfg"])), plain(CLIPTextCfg(**cfg["text_cfg"]))


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336", "RN50", "RN101", "RN50x4", "RN50x16", "RN50x64"])
def test_real_sizes(name):
    "Every model of OpenAI: the config read from shapes is open_clip's own (no memory is spent: the meta device has shapes only)."
    import open_clip
    cfg = open_clip.get_model_config(name)
    with torch.device("meta"): model = open_clip.CLIP(**cfg, quick_gelu=True)
    inferred = M.infer_config(model.state_dict())
    assert inferred["quick_gelu"] and normalized(inferred) == normalized(cfg)
    with torch.device("meta"): M.check_state(model.state_dict(), open_clip.CLIP(**inferred), name)


@pytest.mark.parametrize("vision, text, heads", [(96, 160, 2), (160, 96, 1), (192, 256, 4)])
def test_widths_between_the_heads(tmp_path, vision, text, heads):
    "One head for every *whole* 64 of the width, as OpenAI counts: 96 has one, 160 has two."
    cfg = VIT | dict(vision_cfg=VIT["vision_cfg"] | dict(width=vision), text_cfg=VIT["text_cfg"] | dict(width=text, heads=heads))
    model = scrambled(BIKE(cfg, header="Transf"))
    raw = official_state(model)
    raw.pop("bike_nb")
    torch.save(raw, tmp_path / "f.pt")
    again = load_official(tmp_path / "f.pt")
    images, ids = example(model)
    assert again.model_cfg == cfg and torch.equal(again(images, ids), model(images, ids))


def test_head_sizes_come_from_the_file(tmp_path):
    "Layers and positions are read, heads follow the official rule."
    model = scrambled(BIKE(VIT, header="Transf", layers=2, positions=5))
    with pytest.warns(UserWarning, match="16 frame positions, 6 temporal layers"): save_official(model, tmp_path / "f.pt")
    raw = torch.load(tmp_path / "f.pt", weights_only=True)
    raw.pop("bike_nb")                                    # as if the official code had written it
    torch.save(raw, tmp_path / "f.pt")
    again = load_official(tmp_path / "f.pt")
    same(again, model)
    images, ids = example(model)
    assert again.video.transformer["resblocks"][0].attn.num_heads == 2 and torch.equal(again(images, ids), model(images, ids))


# refusals

class Runs:
    def __init__(self, path): self.path = path
    def __reduce__(self): return open, (str(self.path), "w")


def change(**parts):
    "A function that changes a checkpoint: part → function of its state."
    def apply(raw): return raw | {k: f(dict(raw[k])) for k, f in parts.items()}
    return apply


def drop(*keys): return lambda s: {k: v for k, v in s.items() if k not in keys}
def put(**more): return lambda s: s | {k.replace("__", "."): v for k, v in more.items()}


CLIP, HEAD = "model_state_dict", "fusion_model_state_dict"
REFUSED = {
    "no projection": (change(**{CLIP: drop("text_projection")}), "is no CLIP in OpenAI's layout: it lacks text_projection"),
    "no text": (change(**{CLIP: lambda s: {k: v for k, v in s.items() if k.startswith("visual.")}}), "it lacks ln_final.weight"),
    "no image weights": (change(**{CLIP: lambda s: {k: v for k, v in s.items() if not k.startswith("visual.")}}), "it lacks visual.conv1.weight"),
    "no block": (change(**{CLIP: drop("transformer.resblocks.1.attn.in_proj_weight", "transformer.resblocks.0.ln_1.bias")}),
                 "does not fit: it lacks transformer.resblocks.0.ln_1.bias, transformer.resblocks.1.attn.in_proj_weight"),
    "more": (change(**{CLIP: put(teacher__weight=torch.ones(2))}), "does not fit: it has, beyond what is expected, teacher.weight"),
    "joint space-time": (change(**{CLIP: put(visual__time_embedding=torch.ones(8, 64))}), "beyond what is expected, visual.time_embedding"),
    "a shape": (change(**{CLIP: put(logit_scale=torch.ones(3))}), "does not fit: it has logit_scale (3,) instead of ()"),
    "a width": (change(**{CLIP: put(ln_final__weight=torch.ones(195))}), "does not fit: it has positional_embedding (16, 128) instead of (16, 195)"),
    "a small width": (change(**{CLIP: put(ln_final__weight=torch.ones(60))}), "the text tower is 60 wide, which one head for every 64 does not divide"),
    "an odd width": (change(**{CLIP: put(ln_final__weight=torch.ones(129))}), "the text tower is 129 wide, which one head for every 64 does not divide"),
    "a flat weight": (change(**{CLIP: put(text_projection=torch.ones(64))}), "text_projection has the shape (64,)"),
    "a grid": (change(**{CLIP: put(visual__positional_embedding=torch.ones(16, 64))}), "16 image positions are not 1 + a square"),
    "no tensor": (change(**{CLIP: put(text_projection="three")}), "text_projection is a str, not a tensor"),
    "no head key": (change(**{HEAD: drop("transformer.resblocks.4.ln_2.bias")}), "the head in {} does not fit: it lacks transformer.resblocks.4.ln_2.bias"),
    "no positions": (change(**{HEAD: drop("frame_position_embeddings.weight")}), "the head in {} does not fit: it lacks frame_position_embeddings.weight"),
    "head shape": (change(**{HEAD: put(transformer__resblocks__0__ln_1__bias=torch.ones(65))}), "transformer.resblocks.0.ln_1.bias (65,) instead of (64,)"),
    "other head": (change(**{HEAD: lambda s: {"lstm.weight_ih_l0": torch.ones(4, 4)}}), "lacks frame_position_embeddings.weight"),
    "half an attributes branch": (change(**{HEAD: lambda s: {"query_fc.0.weight": torch.ones(64, 64)}}), "the head in {} does not fit: it lacks query_fc.0.bias"),
    "a list": (lambda raw: [raw], "holds a list where a dictionary of weights is expected"),
    "a head that is no dictionary": (lambda raw: raw | {HEAD: [1]}, "holds a list where a dictionary of weights is expected"),
    "a damaged configuration": (lambda raw: raw | {"bike_nb": "{"}, "holds a configuration (bike_nb) that cannot be read"),
    "a configuration that is no text": (lambda raw: raw | {"bike_nb": torch.ones(2)}, "holds a configuration (bike_nb) that cannot be read"),
    "a configuration of nothing": (lambda raw: raw | {"bike_nb": '{"model_cfg": {"embed_dim": 3}}'}, "describes a model that cannot be built"),
    "another configuration": (lambda raw: raw | {"bike_nb": json.dumps(dict(model_cfg=RESNET))}, "does not fit: it lacks visual.bn1.weight"),
    "nothing": (lambda raw: {}, "it lacks ln_final.weight"),
    "something else": (lambda raw: {"epoch": 3, "best": 0.5}, "is no checkpoint of CLIP or BIKE: it holds epoch (int), best (float); expected is a dictionary with `model_state_dict`"),
    "another layout": (lambda raw: {"epoch": 3, "weights": raw[CLIP]}, "it holds epoch (int), weights (dict); expected is a dictionary with `model_state_dict`"),
    "OpenAI's numbers alone": (lambda raw: {"module.vocab_size": 300}, "is no CLIP in OpenAI's layout: it lacks ln_final.weight"),
}


def one_sentence(error, file):
    text = str(error.value)
    assert str(file) in text and "\n" not in text and len(text) < 600
    return text


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(tmp_path, case):
    alter, message = REFUSED[case]
    file = tmp_path / "f.pt"
    raw = official_state(scrambled(BIKE(VIT, header="Transf")))
    raw.pop("bike_nb")
    torch.save(alter(raw), file)
    with pytest.raises(ModelError) as error: load_official(file)
    assert message.format(file) in one_sentence(error, file)


@pytest.mark.parametrize("case", ["no block", "more", "a shape", "head shape", "no head key"])
def test_a_refused_file_changes_nothing(tmp_path, case):
    model = scrambled(BIKE(VIT, header="Transf"))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.save(REFUSED[case][0](official_state(scrambled(BIKE(VIT, header="Transf"), seed=4))), tmp_path / "f.pt")
    with pytest.raises(ModelError): M.load_weights(model, tmp_path / "f.pt")
    same(model, before)


@pytest.mark.parametrize("write, message", [
    (lambda f, m: torch.save({"model_state_dict": Runs(m)}, f), "would run code from the file"),
    (lambda f, m: torch.save({"model_state_dict": Runs(m)}, f, _use_new_zipfile_serialization=False), "would run code from the file"),
    (lambda f, m: torch.save(nn.Linear(2, 2), f), "holds more than plain weights (torch.nn.modules.linear.Linear)"),
    (lambda f, m: torch.save(SimpleNamespace(a=1), f), "holds more than plain weights (types.SimpleNamespace)"),
    (lambda f, m: torch.jit.save(torch.jit.script(nn.Linear(2, 2)), str(f)), "is a TorchScript archive, which can hold code"),
    (lambda f, m: f.write_bytes(b""), "is not a whole PyTorch checkpoint"),
    (lambda f, m: f.write_text("<html>404</html>"), "is not a whole PyTorch checkpoint"),
    (lambda f, m: f.write_bytes(np.random.default_rng(0).bytes(5000)), "is not a whole PyTorch checkpoint")])
@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_files_that_are_no_checkpoints(tmp_path, write, message):
    file, mark = tmp_path / "f.pt", tmp_path / "code-was-run"
    write(file, mark)
    for read in (read_checkpoint, load_official, lambda f: load(f, "cpu"), lambda f: M.load_weights(BIKE(VIT), f)):
        with pytest.raises(ModelError) as error: read(file)
        assert message in one_sentence(error, file)
    assert not mark.exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_truncated_files(tmp_path, legacy):
    file = tmp_path / "f.pt"
    torch.save(official_state(BIKE(VIT)), file, _use_new_zipfile_serialization=not legacy)
    whole = file.read_bytes()
    for share in (0.001, 0.01, 0.3, 0.9, 0.999):
        file.write_bytes(whole[:int(len(whole) * share)])
        with pytest.raises(ModelError) as error: load_official(file)
        assert "is not a whole PyTorch checkpoint: is it cut off, or something else?" in one_sentence(error, file)
    file.unlink()
    with pytest.raises(ModelError, match="There is no checkpoint"): load_official(file)
    with pytest.raises(ModelError, match="There is no checkpoint"): load_official(tmp_path)


def test_what_the_yaml_says_must_be_in_the_file(tmp_path):
    for header, other in (("Transf", "None"), ("None", "Transf")):
        save_official(BIKE(VIT, header=header), tmp_path / "f.pt")
        assert load_official(tmp_path / "f.pt", header).video.header == header
        with pytest.raises(ModelError, match=f"holds {'a' if header == 'Transf' else 'no'} temporal transformer, but sim_header is '{other}'"):
            load_official(tmp_path / "f.pt", other)
    with pytest.raises(ModelError, match="interaction 'dot' is not known"): load_official(tmp_path / "f.pt", interaction="dot")
    torch.save(BIKE(VIT).clip.state_dict(), tmp_path / "f.pt")
    with pytest.raises(ModelError, match="no temporal transformer, but sim_header is 'Transf'"): load_official(tmp_path / "f.pt", "Transf")


def test_a_video_branch_without_words(bike):
    "It compares frames with words; who wants the frames alone is told where to get them."
    frames = torch.randn(2, 4, 64)
    for call in (lambda: bike.video(frames), lambda: bike.video(frames, torch.randn(3, 5, 64))):
        with pytest.raises(ModelError, match="pass `tokens` and `classes`; for the frames alone, ask its look"): call()
    assert bike.video.look(frames).shape == frames.shape


def test_a_video_branch_from_an_official_state(bike):
    again = M.VideoBranch.from_official_state(official_state(bike))
    same(again, bike.video)
    frames = torch.randn(2, 4, 64)
    assert again.header == "Transf" and torch.equal(again.look(frames), bike.video.look(frames))


def test_branches_that_do_not_fit(tmp_path):
    video, other = scrambled(BIKE(VIT, header="Transf")), scrambled(BIKE(VIT, branches=("attributes",)), seed=5)
    save_official(video, tmp_path / "video.pt"), save_official(other, tmp_path / "attributes.pt")
    with pytest.raises(ModelError, match="was trained with another text tower than the video branch: positional_embedding"):
        load_official(tmp_path / "video.pt", attributes=tmp_path / "attributes.pt")
    with pytest.raises(ModelError, match="holds no attributes branch"): load_official(tmp_path / "video.pt", attributes=tmp_path / "video.pt")
    with pytest.raises(ModelError, match="holds an attributes branch, and this model has none"): M.load_weights(video, tmp_path / "attributes.pt")
    with pytest.raises(ModelError, match="holds a video branch, and this model has none"): M.load_weights(other, tmp_path / "video.pt")


def test_pretraining_from_a_bare_clip(bike, tmp_path):
    "A CLIP alone fills the towers and leaves the head."
    torch.save(bike.clip.state_dict(), tmp_path / "clip.pt")
    fresh = BIKE(bike.model_cfg, header="Transf", seed=1)
    head = {k: v.clone() for k, v in fresh.video.state_dict().items()}
    M.load_weights(fresh, tmp_path / "clip.pt")
    same(fresh.clip, bike.clip), same(fresh.video, head)


def test_models_without_an_official_layout():
    cfg = dict(VIT, custom_text=True)
    with pytest.raises(ModelError, match="has no official layout, it lacks text_projection: use save_pretrained"): official_state(BIKE(cfg))


# saving

@pytest.fixture(scope="module")
def tiny(): return from_network(dict(arch="tiny", init=True, branch="both", sim_header="Transf"))


def test_save_pretrained(bike, tmp_path):
    model = scrambled(BIKE(bike.model_cfg, header="Transf", interaction="DP", branches=("video", "attributes"), temperature=0.05, positions=9, heads=4,
                           layers=2, mask="words"))
    model.save_pretrained(tmp_path)
    again = load(tmp_path, "cpu")
    same(again, model)
    assert again._hub_mixin_config == json.loads((tmp_path / "config.json").read_text()) == json.loads(json.dumps(model._hub_mixin_config))
    assert (again.video.interaction, again.video.temperature, again.mask, again.branches) == ("DP", 0.05, "words", ("video", "attributes"))
    images, ids = example(model)
    assert torch.equal(again(images, ids, "all"), model(images, ids, "all")) and not again.training
    assert sorted(f.name for f in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_tiny_is_stored_small_and_survives(tiny, tmp_path):
    tiny.save_pretrained(tmp_path / "a")
    assert (tmp_path / "a/model.safetensors").stat().st_size < 4 * (sum(p.numel() for p in tiny.parameters()) - 49_000 * 128) + 100_000
    again = load(tmp_path / "a", "cpu")
    same(again, tiny)
    assert torch.equal(again.known_tokens, tiny.known_tokens) and again.encoder().unknown_words(["kite", "skyscraper"])
    with pytest.warns(UserWarning, match="the official code assumes QuickGELU, 2 text heads, CLIP's mean"): save_official(tiny, tmp_path / "f.pt")
    travelled = load_official(tmp_path / "f.pt")
    same(travelled.clip, tiny.clip), same(travelled.video, tiny.video)
    assert torch.equal(travelled.known_tokens, tiny.known_tokens) and travelled.preprocess_cfg == tiny.preprocess_cfg
    images, ids = torch.rand(1, 3, 3, *tiny.image_size), tiny.tokenizer(["a kite", "a boat"])
    assert torch.equal(travelled(images, ids), tiny(images, ids))


def test_rows_that_were_trained_are_stored(tiny, tmp_path):
    "Weight decay reaches every row of the token table, also of unknown tokens: then all of it is stored."
    model = from_network(dict(arch="tiny", init=True))
    model.clip.token_embedding.weight.data.mul_(0.9)
    model.clip.token_embedding.weight.data[3] += 1
    model.save_pretrained(tmp_path)
    same(load(tmp_path, "cpu"), model)


def test_half_precision_is_stored_as_it_is(tmp_path):
    model = scrambled(BIKE(VIT, header="Transf")).bfloat16()
    model.save_pretrained(tmp_path)
    same(load(tmp_path, "cpu").bfloat16(), model)


def test_push_to_hub(bike, tmp_path, monkeypatch):
    "What would be uploaded is what is loaded; no hub is asked."
    import shutil

    import huggingface_hub.hub_mixin
    class Hub:
        def __init__(self, token=None): pass
        def create_repo(self, repo_id, **kwargs): return SimpleNamespace(repo_id=repo_id)
        def upload_folder(self, folder_path, repo_id, **kwargs): shutil.copytree(folder_path, tmp_path / repo_id)
    monkeypatch.setattr(huggingface_hub.hub_mixin, "HfApi", Hub)
    bike.push_to_hub("somebody/something")
    same(load(tmp_path / "somebody/something", "cpu"), bike)


def spoil(name, write): return lambda folder: write(folder / name)


@pytest.mark.parametrize("damage, message", [
    (spoil("config.json", lambda f: f.write_text("{")), "cannot be loaded"),
    (spoil("config.json", lambda f: f.write_text("{}")), "cannot be loaded"),
    (spoil("config.json", lambda f: f.unlink()), "holds no config.json, so it is no saved model"),
    (spoil("config.json", lambda f: f.write_text(json.dumps(json.loads(f.read_text()) | {"layers": 5}))), "does not fit: it has, beyond what is expected, video.transformer.resblocks.5"),
    (spoil("model.safetensors", lambda f: f.unlink()), "cannot be loaded"),
    (spoil("model.safetensors", lambda f: f.write_bytes(b"")), "cannot be loaded"),
    (spoil("model.safetensors", lambda f: f.write_bytes(f.read_bytes()[:-9])), "cannot be loaded")])
def test_damaged_folders(tmp_path, damage, message):
    BIKE(VIT, header="Transf").save_pretrained(tmp_path)
    damage(tmp_path)
    with pytest.raises(ModelError) as error: load(tmp_path, "cpu")
    assert message in one_sentence(error, tmp_path)


def test_names_that_are_nothing(monkeypatch):
    with pytest.raises(ModelError, match="No model 'bike-k400': neither a release"): load("bike-k400")
    with pytest.raises(ModelError, match="No model 'exps/best.pt'"): load("exps/best.pt")
    from huggingface_hub import constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="cannot download the model 'somebody/nothing' .HF_HUB_OFFLINE is set"): load("somebody/nothing")


# the release: a server of our own

class Server(http.server.SimpleHTTPRequestHandler):
    "Serves `content` with Range, hangs up after `patience` bytes; `ranges` off: always everything."
    content, patience, ranges, asked, status = b"", 10**9, True, [], None
    def log_message(self, *args): pass
    def do_GET(self):
        kind, wanted = type(self), self.headers.get("Range")
        first = int(wanted[6:-1]) if wanted and kind.ranges else 0
        kind.asked.append(wanted)
        if kind.status: return self.send_error(kind.status)
        if first >= len(kind.content) > 0: return self.send_error(416)
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(kind.content) - first))
        if first: self.send_header("Content-Range", f"bytes {first}-{len(kind.content) - 1}/{len(kind.content)}")
        self.end_headers()
        self.wfile.write(kind.content[first:first + kind.patience])


@pytest.fixture
def shop(tmp_path):
    "(handler class, a function that fetches, the model that is served)"
    model = scrambled(BIKE(VIT, header="Transf"))
    file = save_official(model, tmp_path / "served.pt")
    handler = type("Handler", (Server,), dict(content=file.read_bytes(), asked=[]))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1.0/k400.pt?download=1"
    fetch = functools.partial(M.fetch_release, "bike-k400-vit-b-16-f8", url=url, cache_dir=tmp_path / "cache", progress=False)
    yield SimpleNamespace(handler=handler, fetch=fetch, model=model, url=url, cache=tmp_path / "cache", part=tmp_path / "cache/k400.pt.part", server=server)
    server.shutdown(), server.server_close()


def test_the_release_is_where_the_official_readme_says():
    assert M.RELEASES["bike-k400-vit-b-16-f8"] == "https://github.com/whwu95/BIKE/releases/download/v1.0/k400-vit-b-16-f8.pt"


def test_load_fetches_once(shop, monkeypatch, capsys):
    monkeypatch.setitem(M.RELEASES, "bike-k400-vit-b-16-f8", shop.url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(shop.cache))
    for _ in range(2): same(load("bike-k400-vit-b-16-f8", "cpu"), shop.model)
    assert shop.handler.asked == [None] and (shop.cache / "bike_nb/checkpoints/k400.pt").is_file()
    assert "k400.pt" in capsys.readouterr().err          # the progress bar


@pytest.mark.parametrize("ranges", [True, False])
def test_interrupted_downloads_go_on(shop, ranges):
    shop.handler.ranges, shop.handler.patience = ranges, len(shop.handler.content) // 3
    for _ in range(2 if ranges else 1):
        with pytest.raises(ModelError, match="was interrupted: call again, it goes on from where it stopped"): shop.fetch()
        assert shop.part.is_file() and not (shop.cache / "k400.pt").exists()
    shop.handler.patience = 10**9
    assert shop.fetch().read_bytes() == shop.handler.content and not shop.part.exists()
    third = len(shop.handler.content) // 3
    assert shop.handler.asked == [None, f"bytes={third}-"] + [f"bytes={2 * third}-"] * ranges


def test_a_part_that_is_whole_already(shop):
    shop.cache.mkdir()
    shop.part.write_bytes(shop.handler.content)
    assert shop.fetch().read_bytes() == shop.handler.content


def test_a_part_of_another_file_is_thrown_away(shop):
    shop.cache.mkdir()
    shop.part.write_bytes(bytes(5000))
    with pytest.raises(ModelError, match="is no checkpoint; it was thrown away: try again"): shop.fetch()
    assert not shop.part.exists()
    same(load_official(shop.fetch()), shop.model)


@pytest.mark.parametrize("content", [b"<html>sign in</html>", b""])
def test_wrong_content_never_takes_the_name(shop, content):
    shop.handler.content = content
    with pytest.raises(ModelError, match="sent is no checkpoint; it was thrown away"): shop.fetch()
    assert not shop.part.exists() and not (shop.cache / "k400.pt").exists()


def test_a_flipped_bit_is_noticed(shop):
    content = bytearray(shop.handler.content)
    content[len(content) // 2] ^= 4
    shop.handler.content = bytes(content)
    with pytest.raises(ModelError, match="sent is no checkpoint; it was thrown away"): shop.fetch()


@pytest.mark.parametrize("status", [404, 403, 500])
def test_errors_of_the_server(shop, status):
    shop.handler.status = status
    with pytest.raises(ModelError, match=f"cannot be downloaded: {shop.url.replace('?', '.')} answers {status} ") as error: shop.fetch()
    assert "\n" not in str(error.value)


def test_offline(shop):
    shop.server.shutdown(), shop.server.server_close()
    with pytest.raises(ModelError, match="cannot be downloaded .no connection to 127.0.0.1: .*connect once, or load a file"): shop.fetch()


def test_several_processes_fetch_once(shop):
    "Threads stand for the processes of one training: the first downloads, the others wait for it."
    results = []
    threads = [threading.Thread(target=lambda: results.append(shop.fetch())) for _ in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert len(set(results)) == 1 and len(results) == 4 and shop.handler.asked == [None]


def test_unknown_releases():
    with pytest.raises(ModelError, match="release 'bike-ucf' is not known: give one of 'bike-k400-vit-b-16-f8'"): M.fetch_release("bike-ucf")


def test_the_disk_is_not_the_line(shop, monkeypatch):
    "A disk that is full, and a folder that is none, are said to be so: to call again would not help."
    class Full:
        def __init__(self, file): self.file = file
        def __enter__(self): return self
        def __exit__(self, *error): self.file.close()
        def write(self, block): raise OSError(28, "No space left on device")
    with monkeypatch.context() as m:
        m.setattr(M, "open", lambda *args: Full(open(*args)), raising=False)
        with pytest.raises(ModelError, match="k400.pt.part cannot be written .*No space left on device.: make room, or name another cache_dir"): shop.fetch()
    assert shop.fetch().read_bytes() == shop.handler.content
    with pytest.raises(ModelError, match="k400.pt is no folder that can be used"): shop.fetch(cache_dir=shop.cache / "k400.pt")


def test_where_no_file_can_be_saved(tmp_path, monkeypatch):
    "What cannot be saved leaves nothing behind."
    model = BIKE(VIT)
    (tmp_path / "exps").mkdir(), (tmp_path / "note").write_text("x")
    with pytest.raises(ModelError, match="exps is a folder: name a file, such as .*model.pt"): save_official(model, tmp_path / "exps")
    with pytest.raises(ModelError, match="f.pt cannot be written"): save_official(model, tmp_path / "note" / "f.pt")
    def refuse(*args): raise PermissionError(13, "Permission denied")
    monkeypatch.setattr(M.os, "replace", refuse)
    with pytest.raises(ModelError, match="f.pt cannot be written .*Permission denied"): save_official(model, tmp_path / "f.pt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["exps", "note"]


# from the YAML files

@pytest.mark.parametrize("kind", [dict, SimpleNamespace])
@pytest.mark.parametrize("header, interaction, branch", [("Transf", "VCS", None), ("Transf", "DP", "video"), ("None", "VCS", None), (None, "DP", None),
                                                         ("Transf", "VCS", "attributes"), ("Transf", "VCS", "both")])
def test_six_forms(header, interaction, branch, kind):
    model = from_network(kind(arch="tiny", init=False, sim_header=header, interaction=interaction, **({"branch": branch} if branch else {})))
    assert (model.video is None) == (branch == "attributes") and (model.attributes is None) == (branch not in ("attributes", "both"))
    if model.video: assert (model.video.header, model.video.interaction) == (header or "None", interaction)
    images, text = torch.rand(2, 3, 3, *model.image_size), model.encode_text(["a kite", "a boat", "a dog"])
    sentences = model.encode_text(["This is a video about kite,cloud", "This is a video about sea,boat"], "{}")
    if model.video: assert model(images, text).shape == (2, 3)
    else:
        with pytest.raises(ModelError, match="has no video branch"): model(images, text)
    if model.attributes: assert model.attribute_logits(sentences, text).shape == (2, 3)
    else:
        with pytest.raises(ModelError, match="has no attributes branch"): model.attribute_logits(sentences, text)


OFFICIAL = sorted((SHARED / "official/configs").rglob("*.yaml"))


@pytest.mark.skipif(not OFFICIAL, reason="../shared/official is absent")
@pytest.mark.parametrize("file", OFFICIAL or [None], ids=lambda f: f.stem if f else "absent")
def test_official_configs(file, monkeypatch):
    "Every official experiment finds its architecture, of the size of its name, with QuickGELU, and its form."
    network = yaml.safe_load(file.read_text())["network"]
    parts, _ = M.find_parts(network["arch"], init=False)
    cfg = parts["model_cfg"]
    assert cfg["quick_gelu"] and cfg["vision_cfg"]["patch_size"] == int(network["arch"].split("/")[1].split("-")[0])
    assert cfg["vision_cfg"]["image_size"] == (336 if "336" in network["arch"] else 224)
    monkeypatch.setattr(M, "find_parts", lambda arch, init: (dict(model_cfg=VIT), lambda clip: None))   # the same form, small
    model = from_network(network)
    assert (model.video.header, model.video.interaction) == (M.header_name(network["sim_header"]), network["interaction"])
    assert model.text_is_frozen == bool(network.get("fix_text", False)) and model.clip.visual.conv1.weight.requires_grad


@pytest.mark.parametrize("network, message", [
    (dict(tm="tsm"), "network.tm='tsm' is not supported, the released models do not use it: set tm to False"),
    (dict(joint_st=True), "set joint_st to False"), (dict(drop_out=0.2), "set drop_out to 0.0"), (dict(emb_dropout=0.1), "set emb_dropout to 0.0"),
    (dict(sim_header="LSTM"), "sim_header 'LSTM' is not known"), (dict(interaction="Sim"), "interaction 'Sim' is not known"),
    (dict(branch="audio"), "network.branch 'audio' is not known"), (dict(mask="verbs"), "mask 'verbs' is not known"),
    (dict(arch="ViT-B/17"), "no model 'ViT-B/17'")])
def test_networks_that_cannot_be(network, message):
    with pytest.raises(ValueError) as error: from_network(dict(arch="tiny", init=False) | network)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_seeds():
    "The same seed draws the same weights, another one others, and the global generator is left alone."
    torch.manual_seed(1)
    before = torch.get_rng_state()
    a, b, c = (from_network(dict(arch="tiny", init=False, sim_header="Transf", branch="both"), seed=s) for s in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    same(a, b)
    for key in ("clip.visual.conv1.weight", "video.frame_position_embeddings.weight", "attributes.query_fc.0.weight"):
        assert not torch.equal(a.state_dict()[key], c.state_dict()[key])


def test_both_begins_as_the_two_runs_do():
    network = dict(arch="tiny", init=True, sim_header="Transf")
    both, video, attributes = (from_network(network | dict(branch=b), seed=5) for b in ("both", "video", "attributes"))
    same(both.video, video.video), same(both.attributes, attributes.attributes)
    assert both.attributes_scale.item() == video.clip.logit_scale.item() == attributes.attributes_scale.item()


def test_weights_from_a_file(tmp_path):
    "`init` may name a file; OpenAI's architectures get QuickGELU with random weights, too."
    import open_clip
    assert M.find_parts("RN50", False)[0]["model_cfg"]["quick_gelu"]
    assert not M.find_parts("ViT-B-16-SigLIP", False)[0]["model_cfg"].get("quick_gelu")
    with pytest.raises(ValueError, match="is neither a file, nor 'none', nor a tag"): M.find_parts("ViT-B/32", str(tmp_path / "absent.pt"))
    assert open_clip.get_model_config("RN50").get("quick_gelu") is None                                # open_clip's own config is untouched


# training

def test_gradients_reach_everything(bike):
    model = scrambled(BIKE(bike.model_cfg, header="Transf", branches=("video", "attributes")))
    images, ids = example(model)
    classes, _ = model.encode_ids(ids)
    loss = (model.scale * model(images, ids)).square().sum() + (model.attributes_scale.exp() * model.attribute_logits(classes + classes.flip(0), classes)).square().sum()
    loss.backward()
    unused = {n for n, p in model.named_parameters() if p.grad is None}
    assert not unused
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_freezing_as_the_official_code(bike):
    for text, video in ((True, False), (False, True), (True, True), (False, False)):
        model = BIKE(bike.model_cfg, header="Transf").freeze(text=text, video=video)
        for name, p in model.clip.named_parameters():                  # the conditions of train.py
            frozen = (text and "visual" not in name and "logit_scale" not in name) or (video and "visual" in name)
            assert p.requires_grad == (not frozen), name
        assert model.text_is_frozen == text and all(p.requires_grad for p in model.video.parameters())


def test_a_frozen_tower_stays_as_it_is():
    "BatchNorm too, whether the model was training before or trains after it was frozen."
    model = scrambled(BIKE(RESNET)).train()
    images, ids = example(model)
    for m in (model.freeze(video=True), model.train()):
        before = {k: v.clone() for k, v in model.clip.visual.state_dict().items()}
        m(images, ids)
        same(model.clip.visual, before)
    assert model.clip.visual.training and not model.clip.visual.bn1.training


def test_groups(bike):
    model = BIKE(bike.model_cfg, header="Transf", branches=("video", "attributes")).freeze(text=True)
    groups = model.groups()
    names = [n for g in groups.values() for n, _ in g]
    assert sorted(names) == sorted(n for n, p in model.named_parameters() if p.requires_grad)
    assert {n.split(".")[0] for n, _ in groups["clip"]} == {"clip", "attributes_scale"} and {n.split(".")[0] for n, _ in groups["head"]} == {"video", "attributes"}
    assert BIKE(VIT).groups()["head"] == []


def test_frozen_batchnorm():
    model = scrambled(BIKE(RESNET))
    images, ids = example(model)
    statistics = lambda: {k: v.clone() for k, v in model.state_dict().items() if "running" in k}
    before = statistics()
    model.freeze_batchnorm().train()
    model(images, ids)
    same(before, statistics())
    assert model.clip.visual.training
    model.freeze_batchnorm(False).train()
    model(images, ids)
    assert any(not torch.equal(a, b) for a, b in zip(before.values(), statistics().values()))


def test_gradient_checkpointing(bike):
    "The same gradients, and fewer tensors kept."
    images, ids = example(bike)
    bike.train().freeze_batchnorm()
    def run():
        kept = 0
        def count(x): nonlocal kept; kept += x.numel(); return x
        bike.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x): loss = bike(images, ids).square().sum()
        loss.backward()
        return {n: p.grad.clone() for n, p in bike.named_parameters() if p.grad is not None}, kept
    plain, much = run()
    if hasattr(bike.clip.visual, "transformer"): bike.set_grad_checkpointing()
    else:
        with pytest.warns(UserWarning, match="image tower is a ResNet and keeps everything"): bike.set_grad_checkpointing()
    again, little = run()
    assert little < much and plain.keys() == again.keys()
    for n in plain: assert torch.allclose(plain[n], again[n], atol=1e-5), n
    bike.set_grad_checkpointing(False)
    assert run()[1] == much


def test_gradient_checkpointing_of_the_image_tower():
    model = BIKE(VIT).train()
    images, _ = example(model)
    def kept():
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x): model.encode_frames(images)
        return sum(sizes)
    much = kept()
    model.set_grad_checkpointing()
    assert kept() < much / 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BIKE(RESNET).set_grad_checkpointing(False)


def test_gradient_checkpointing_of_the_head():
    "The temporal transformer alone: what it keeps between the passes shrinks, its gradients stay."
    head, frames = M.TemporalTransformer(64, layers=4), torch.randn(2, 8, 64)
    def run():
        kept = 0
        def count(x): nonlocal kept; kept += x.numel(); return x
        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x): loss = head(frames).square().sum()
        return torch.autograd.grad(loss, list(head.parameters())), kept
    plain, much = run()
    head.gradient_checkpointing = True
    again, little = run()
    assert little < much / 4
    for a, b in zip(plain, again): assert torch.allclose(a, b, atol=1e-5)


def test_channels_last(bike):
    images, ids = example(bike)
    want = bike(images, ids)
    strided = images.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, images.shape[:2])
    assert gap(bike(strided, ids), want.detach()) < 1e-5
    bike.to(memory_format=torch.channels_last)
    assert gap(bike(strided, ids), want.detach()) < 1e-5 and gap(bike(images, ids), want.detach()) < 1e-5


def test_autocast(bike):
    images, ids = example(bike)
    want = bike(images, ids)
    with torch.autocast("cpu", torch.bfloat16):
        frames, got = bike.encode_frames(images), bike(images, ids)
    assert frames.dtype == torch.bfloat16 and got.dtype == torch.float32 and gap(got, want.detach()) < 0.1
    got.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in bike.parameters() if p.grad is not None)


def test_cast_models(bike):
    images, ids = example(bike)
    want = bike(images, ids).detach()
    assert gap(bike.bfloat16()(images, ids).float(), want) < 0.1


def test_masks(tiny):
    images, text = torch.rand(2, 4, 3, *tiny.image_size), tiny.encode_text(["flying a kite", "a dog"])
    frames = tiny.encode_frames(images)
    for mask, chosen in (("all", None), ("sentence", text.mask), ("words", text.words), (text.words, text.words)):
        assert torch.equal(tiny.video_logits(frames, text, mask), tiny.video(frames, text.tokens, text.classes, chosen))
    assert torch.equal(tiny(images, text), tiny(images, text, "all")) and not torch.equal(tiny(images, text), tiny(images, text, "words"))
    mine = from_network(dict(arch="tiny", init=True, sim_header="Transf", mask="words", branch="both"))
    assert torch.equal(mine(images, text), tiny(images, text, "words"))


def test_encoder_sees_the_same_weights(tiny):
    encoder, packaged = tiny.encoder(), load_encoder("tiny", device="cpu")
    names = ["flying a kite", "sailing a boat"]
    assert encoder.fingerprint == packaged.fingerprint and encoder.model is tiny.clip
    ours, theirs = tiny.encode_text(names), packaged.encode_text(names, M.PROMPT)
    for part in ("classes", "tokens", "mask", "words", "ids"): assert torch.equal(getattr(ours, part), getattr(theirs, part))
    assert ours.texts == theirs.texts and not ours.tokens.is_inference()       # may take part in training


def test_cached_text_can_train_the_rest(tiny):
    text = tiny.encode_text(["flying a kite", "a dog"])
    loss = tiny(torch.rand(2, 3, 3, *tiny.image_size), text).square().sum()
    loss.backward()
    assert tiny.clip.visual.conv1.weight.grad.abs().sum() > 0
    tiny.zero_grad()


@pytest.mark.parametrize("call, message", [
    (lambda m: m.encode_frames(torch.zeros(2, 3, 32, 32)), "images must be a float tensor (B,T,3,32,32), not float32 (2, 3, 32, 32)"),
    (lambda m: m.encode_frames(torch.zeros(1, 2, 3, 32, 32, dtype=torch.uint8)), "not uint8 (1, 2, 3, 32, 32)"),
    (lambda m: m.encode_frames(torch.zeros(1, 2, 3, 64, 64)), "not float32 (1, 2, 3, 64, 64)"),
    (lambda m: m.encode_text(["a kite"]), "and this model has a vocabulary of 300: names go through CLIP's tokenizer"),
    (lambda m: m.encode_ids(torch.full((2, 16), 300)), "There are token ids from 300 to 300, and this model has a vocabulary of 300"),
    (lambda m: m.encode_ids(torch.full((2, 16), -1)), "There are token ids from -1 to -1"),
    (lambda m: m(torch.zeros(1, 2, 3, 32, 32), torch.ones(2, 77, dtype=torch.long)), "token ids must be a tensor int64 (A,16), not int64 (2, 77)"),
    (lambda m: m(torch.zeros(1, 2, 3, 32, 32), torch.ones(16, dtype=torch.long)), "not int64 (16,)"),
    (lambda m: m(torch.zeros(1, 2, 3, 32, 32), torch.ones(2, 16)), "not float32 (2, 16)"),
    (lambda m: m(torch.zeros(1, 2, 3, 32, 32), ["a kite"]), "This takes the TextEmbeddings of encode_text, or token ids (A,L), not a list."),
    (lambda m: BIKE(VIT, branches=("attributes",)).attribute_logits(["a"], ["b"]), "or class embeddings (N,D), not a list."),
    (lambda m: m.encode_text([]), "at least one name"),
    (lambda m: m(torch.zeros(1, 17, 3, 32, 32), torch.ones(2, 16, dtype=torch.long)), "17 frames, but this temporal transformer has 16 positions"),
    (lambda m: m(torch.zeros(1, 2, 3, 32, 32), torch.ones(2, 16, dtype=torch.long), "words"), "mask='words' needs the TextEmbeddings"),
    (lambda m: BIKE(VIT, header="Transf", heads=5), "5 heads cannot share a width of 64"),
    (lambda m: BIKE(VIT, branches=("attributes", "video")), "branches ('attributes', 'video') is not known"),
    (lambda m: M.fuse(torch.ones(2, 3), torch.ones(3, 2)), "video is (2, 3), attributes (3, 2)"),
    (lambda m: M.fuse(torch.ones(2), torch.ones(2), -0.1), "must lie between 0 (attributes only) and 1 (video only)")])
def test_mistakes(call, message):
    with pytest.raises(ModelError) as error: call(BIKE(VIT, header="Transf"))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_fusion():
    video, attributes = torch.rand(4, 5).softmax(-1), torch.rand(4, 5).softmax(-1)
    assert torch.equal(M.fuse(video, attributes), 0.7 * video + (1 - 0.7) * attributes)
    assert np.array_equal(M.fuse(np.ones(3), np.zeros(3), 0.25), np.full(3, 0.25))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda(bike):
    images, ids = example(bike)
    want = bike(images, ids).detach()
    bike.cuda()
    assert gap(bike(images.cuda(), ids.cuda()).cpu(), want) < 1e-3
