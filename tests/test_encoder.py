"encoder: exactness against open_clip, masks, the folder layout, and every way in which loading can fail. No network."
import io, json, os, pickle, subprocess, sys, threading, urllib.error, warnings
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import open_clip
from bike_nb.encoder import (Encoder, EncoderError, as_pictures, build_model, build_tokenizer, class_embeddings, compact_state,
    encode_and_catch, end_positions, eval_transform, fetch_weights, full_preprocess_cfg, load_encoder, load_folder,
    save_encoder, text_tower, token_embeddings, token_masks)

REFERENCE = Path(__file__).parent/"reference"
TINY = {"embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}}
VIT = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
PHRASES = ["a dog", "flying a kite on the beach", "rain", "playing the guitar, loudly!"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    "Every way to the network ends in a failure that names it."
    def refuse(*args, **kwargs): raise AssertionError(f"the test went to the network: {args}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("open_clip.pretrained.hf_hub_download", refuse)
    monkeypatch.setattr("urllib.request.urlopen", refuse)


def random_encoder(cfg, seed=0, **kwargs):
    "An encoder whose every weight is random, also those that are initialized with zeros and ones."
    model = build_model(cfg)
    with torch.no_grad():
        g = torch.Generator().manual_seed(seed)
        for p in model.parameters(): p.add_(torch.randn(p.shape, generator=g) * 0.05)
    return Encoder(model, build_tokenizer(cfg["text_cfg"]), cfg, **kwargs)


def pictures():
    rng = np.random.default_rng(0)
    sizes = [(64, 48), (31, 77), (32, 32), (200, 20), (33, 33)]
    rgb = [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]
    return rgb + [rgb[0].convert("L"), rgb[1].convert("RGBA"), rgb[0].convert("P")]


# ---------------------------------------------------------------- token embeddings of every text tower

def shrunk_towers():
    "open_clip's own configs, one of each kind of text tower, made small; everything that sets the kind is kept."
    kinds = {}
    for name in open_clip.list_models():
        cfg = open_clip.get_model_config(name)
        text = cfg["text_cfg"]
        if text.get("hf_model_name"): continue
        small = {k: v for k, v in text.items() if k not in ("hf_tokenizer_name", "tokenizer_kwargs")}
        small |= {"width": 32, "heads": 2, "layers": 2, "vocab_size": 49408}
        if "eos_id" in text: small["eos_id"] = 49407    # CLIP's tokenizer stands in for the one that would be downloaded
        new = {k: v for k, v in cfg.items() if k not in ("embed_dim", "vision_cfg", "text_cfg", "multimodal_cfg")}
        new |= {"embed_dim": 32, "vision_cfg": dict(VIT), "text_cfg": small}
        if "multimodal_cfg" in cfg:
            new["multimodal_cfg"] = {"context_length": text["context_length"], "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1, "attn_pooler_heads": 2}
            new["vision_cfg"] |= {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
        kinds.setdefault(json.dumps(new, sort_keys=True), name)
    return [pytest.param(json.loads(k), id=v) for k, v in kinds.items()]


@pytest.mark.parametrize("cfg", shrunk_towers())
@torch.no_grad()
def test_every_kind_of_text_tower(cfg):
    enc = random_encoder(cfg)
    text = enc.encode_text(PHRASES)
    theirs = enc.model.encode_text(text.ids, normalize=False)
    assert (text.classes - theirs).abs().max() <= 1e-5
    assert (enc.encode_classes(PHRASES) - theirs).abs().max() <= 1e-5
    L = enc.context_length
    assert text.tokens.shape == (4, L, 32) and text.mask.shape == text.words.shape == text.ids.shape == (4, L)
    assert text.tokens.std(dim=(0, 1)).min() > 0
    tower = text_tower(enc.model)
    if getattr(tower, "cls_emb", None) is not None: return      # CoCa reads its own appended token, which is no word
    kind = getattr(tower, "text_pool_type", getattr(tower, "pool_type", None))
    at = {"argmax": text.ids.argmax(-1), "eos": (text.ids == 49407).int().argmax(-1),
          "last": torch.full((4,), L - 1), "first": torch.zeros(4, dtype=torch.int64)}[kind]
    assert (text.tokens[torch.arange(4), at] - theirs).abs().max() <= 1e-5


def test_the_towers_of_open_clip_are_many_kinds():
    cfgs = [p.values[0] for p in shrunk_towers()]
    assert len(cfgs) >= 10
    assert {c["text_cfg"].get("pool_type", "argmax") for c in cfgs} == {"argmax", "eos", "last"}
    assert any("multimodal_cfg" in c for c in cfgs) and any(c["text_cfg"].get("proj_type") == "none" for c in cfgs)
    assert any(c["text_cfg"].get("proj_bias") for c in cfgs) and any(c["text_cfg"].get("no_causal_mask") for c in cfgs)


@torch.no_grad()
def test_first_token_pooling():
    cfg = TINY | {"custom_text": True, "vision_cfg": VIT, "text_cfg": TINY["text_cfg"] | {"pool_type": "first", "no_causal_mask": True}}
    text = random_encoder(cfg).encode_text(PHRASES)
    assert (text.tokens[:, 0] - text.classes).abs().max() <= 1e-5


def test_coca_tokens_are_projected():
    "CoCa's tokens come out of the transformer bare: final norm and projection are ours to apply."
    cfg = next(p.values[0] for p in shrunk_towers() if "multimodal_cfg" in p.values[0])
    enc = random_encoder(cfg)
    ids = enc.tokenizer(PHRASES)
    with torch.no_grad():
        _, bare = enc.model.text(ids)
        expected = enc.model.text.ln_final(bare) @ enc.model.text.text_projection
        assert (enc.encode_text(PHRASES).tokens - expected).abs().max() <= 1e-5


@torch.no_grad()
def test_standard_clip_by_hand():
    enc = random_encoder(TINY)
    m, ids = enc.model, enc.tokenizer(PHRASES)
    h = m.transformer(m.token_embedding(ids) + m.positional_embedding, attn_mask=m.attn_mask)
    assert (enc.encode_text(PHRASES).tokens - m.ln_final(h) @ m.text_projection).abs().max() <= 1e-5


def test_token_embeddings_are_differentiable():
    m = build_model(TINY)
    classes, tokens = token_embeddings(m, build_tokenizer(TINY["text_cfg"])(PHRASES))
    tokens.square().mean().backward()
    assert m.text_projection.grad.abs().sum() > 0 and m.token_embedding.weight.grad.abs().sum() > 0


def test_a_tower_without_token_embeddings_says_so():
    class Opaque(torch.nn.Module):
        output_dim = 32
        def forward(self, ids): return torch.nn.functional.one_hot(ids[:, 1] % 32, 32).float()
    model = open_clip.CustomTextCLIP(**{k: v for k, v in TINY.items()})
    model.text = Opaque()
    enc = Encoder(model, build_tokenizer(TINY["text_cfg"]), TINY)
    with pytest.raises(EncoderError, match="Opaque gives no token embeddings.*mean pooling and attributes still work"):
        enc.encode_text(["a dog"])
    assert enc.encode_classes(["a dog", "rain"]).shape == (2, 32)


def test_two_threads_do_not_mix_their_tokens():
    enc = random_encoder(TINY)
    want = [enc.encode_text([p]).tokens for p in PHRASES]
    wrong = []
    def work(i):
        for _ in range(10):
            if not torch.allclose(enc.encode_text([PHRASES[i]]).tokens, want[i], atol=1e-5): wrong.append(i)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert not wrong and not enc.model.transformer._forward_hooks


@torch.no_grad()
def test_short_phrases_are_computed_short(monkeypatch):
    enc = random_encoder(TINY)
    ids = enc.tokenizer(["a dog", "rain"])
    lengths = []
    enc.model.transformer.register_forward_hook(lambda m, a, o: lengths.append(o.shape[1]))
    short = class_embeddings(enc.model, ids)
    assert lengths == [4]
    assert (short - enc.model.encode_text(ids)).abs().max() <= 1e-5
    bidirectional = random_encoder(TINY | {"custom_text": True, "text_cfg": TINY["text_cfg"] | {"no_causal_mask": True}})
    assert end_positions(bidirectional.model.text, ids) is None


def test_hugging_face_tower(tmp_path):
    transformers = pytest.importorskip("transformers", reason="optional: text towers of Hugging Face")
    from open_clip.hf_model import HFTextEncoder
    config = transformers.BertConfig(vocab_size=100, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    model = open_clip.CustomTextCLIP(**TINY)
    for pooler, proj in [("mean_pooler", "mlp"), ("cls_last_hidden_state_pooler", "linear")]:
        model.text = HFTextEncoder("none", 32, config=config, pooler_type=pooler, proj_type=proj).eval()
        ids = torch.tensor([[5, 6, 7, 0, 0], [8, 9, 10, 11, 12]])
        with torch.no_grad():
            classes, tokens = token_embeddings(model, ids)
            assert (classes - model.encode_text(ids)).abs().max() <= 1e-5 and tokens.shape == (2, 5, 32)
            if proj == "linear": assert (tokens[:, 0] - classes).abs().max() <= 1e-5


# ---------------------------------------------------------------- images

@pytest.mark.parametrize("tag", [dict(), dict(mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic", resize_mode="squash"),
                                 dict(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25), interpolation="bilinear", resize_mode="longest"),
                                 dict(interpolation="bilinear", resize_mode="shortest", quick_gelu=True)])
@pytest.mark.parametrize("size", [32, (32, 32)])
def test_ready_made_weights_equal_open_clip(tag, size, tmp_path, monkeypatch):
    "A tag of open_clip, found on this disk: the same transform, the same vectors as open_clip's own loading."
    cfg = TINY | {"vision_cfg": VIT | {"image_size": size}}
    arch = register(cfg, tmp_path, monkeypatch)
    torch.save(random_encoder(cfg, seed=3).model.state_dict(), tmp_path/"weights.pt")
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, arch, {"gift": {"file": str(tmp_path/"weights.pt"), **tag}})
    model, _, transform = open_clip.create_model_and_transforms(arch, pretrained="gift", force_quick_gelu=tag.get("quick_gelu", False))
    enc = load_encoder(arch)
    for im in pictures(): assert torch.equal(enc.transform(im), transform(im))
    x = enc.preprocess(pictures())
    with torch.no_grad():
        assert (enc.encode_frames(x) - model.eval().encode_image(x)).abs().max() <= 1e-5
        text = enc.encode_text(PHRASES)
        assert (text.classes - model.encode_text(text.ids)).abs().max() <= 1e-5
        plain = load_encoder(arch, str(tmp_path/"weights.pt")).encode_text(PHRASES).classes
    assert torch.equal(plain, text.classes) != tag.get("quick_gelu", False)     # the tag's activation matters, and is taken


def register(cfg, folder, monkeypatch, name="bike-nb-test-arch"):
    "An architecture that open_clip knows during one test."
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, deepcopy(cfg))
    return name


def test_random_weights_have_open_clips_transform(arch="ViT-S-32"):
    with pytest.warns(UserWarning, match=f"{arch} has random weights .*scores mean nothing"): enc = load_encoder(arch, "none")
    transform = open_clip.create_model_and_transforms(arch)[2]
    for im in pictures(): assert torch.equal(enc.transform(im), transform(im))
    assert enc.pretrained == "none" and load_encoder("tiny").pretrained is None


def test_rectangular_models(tmp_path):
    cfg = TINY | {"vision_cfg": VIT | {"image_size": (24, 40)}}
    enc = random_encoder(cfg, preprocess_cfg={"resize_mode": "shortest"})
    assert enc.image_size == (24, 40) and enc.preprocess(pictures()).shape == (8, 3, 24, 40)
    assert load_encoder(save_encoder(enc, tmp_path/"m")).encode_video(pictures()).shape == (8, 32)


@pytest.mark.parametrize("vision", [
    {"timm_model_name": "eva02_tiny_patch14_224", "timm_model_pretrained": False, "timm_pool": "token", "timm_proj": None, "image_size": 224},
    {"timm_model_name": "test_convnext", "timm_model_pretrained": False, "timm_pool": "", "timm_proj": "linear", "timm_drop": 0.0, "image_size": 160},
    VIT, VIT | {"attentional_pool": True, "attn_pooler_heads": 2}, TINY["vision_cfg"]], ids=["eva02", "convnext", "vit", "attentional", "resnet"])
def test_image_towers(vision):
    enc = random_encoder(TINY | {"custom_text": True, "vision_cfg": vision})
    frames = np.stack([np.asarray(p.resize((50, 40))) for p in pictures()[:4]])
    with torch.no_grad(): want = enc.model.encode_image(enc.preprocess(frames))
    got = enc.encode_video(frames, batch_size=3)
    assert got.shape == (4, 32) and got.dtype == torch.float32 and (got - want).abs().max() <= 1e-5
    half = Encoder(enc.model, enc.tokenizer, enc.model_cfg, precision="bf16").encode_video(frames)
    assert half.dtype == torch.float32 and 0.995 < torch.cosine_similarity(half, want).min() < 1 - 1e-7


def test_frames_in_every_form():
    enc = random_encoder(TINY)
    frames = np.random.default_rng(1).integers(0, 256, (6, 40, 50, 3), dtype=np.uint8)
    class Clip: pass
    clip = Clip(); clip.frames = frames
    want = enc.encode_video(frames)
    for same in (list(frames), [Image.fromarray(f) for f in frames], torch.from_numpy(frames), clip, frames[:, ::-1][:, ::-1]):
        assert torch.equal(enc.preprocess(same), enc.preprocess(frames)) and (enc.encode_video(same) - want).abs().max() <= 1e-6
    x = enc.preprocess(frames)
    assert enc.encode_frames(x).shape == (6, 32) and enc.encode_frames(x.view(2, 3, 3, 32, 32)).shape == (2, 3, 32)
    assert (enc.encode_frames(x.view(2, 3, 3, 32, 32)).flatten(0, 1) - want).abs().max() <= 1e-6
    assert (enc.encode_frames(x.double()) - want).abs().max() <= 1e-6
    assert enc.encode_frames(torch.empty(0, 3, 32, 32)).shape == (0, 32)


@pytest.mark.parametrize("frames, says", [
    (np.zeros((2, 8, 8, 3)), r"not float64 \(2, 8, 8, 3\)"), (np.zeros((8, 8, 3), np.uint8), r"not uint8 \(8, 8, 3\)"),
    (np.zeros((2, 3, 8, 8), np.uint8), r"not uint8 \(2, 3, 8, 8\)"), (np.zeros((0, 8, 8, 3), np.uint8), r"not uint8 \(0, 8, 8, 3\)"),
    ([], "an empty list"), (None, "not NoneType"), ("clip.mp4", "not str"), (Image.new("RGB", (8, 8)), "not Image"), ([1, 2], "not list")])
def test_wrong_frames(frames, says):
    enc = random_encoder(TINY)
    for f in (enc.preprocess, enc.encode_video):
        with pytest.raises(EncoderError, match=says): f(frames)


@pytest.mark.parametrize("frames, says", [
    (torch.zeros(2, 3, 40, 40), r"not float32 \(2, 3, 40, 40\)"), (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), "not uint8"),
    (torch.zeros(3, 32, 32), r"not float32 \(3, 32, 32\)"), (np.zeros((2, 3, 32, 32)), "not float64"), (None, "not NoneType")])
def test_wrong_tensors(frames, says):
    with pytest.raises(EncoderError, match=says): random_encoder(TINY).encode_frames(frames)


# ---------------------------------------------------------------- precision, batches, gradients

@pytest.mark.parametrize("cfg", [TINY, TINY | {"custom_text": True, "vision_cfg": VIT}], ids=["CLIP", "CustomTextCLIP"])
def test_bf16_casts_the_model_and_returns_float32(cfg):
    full, half = random_encoder(cfg), random_encoder(cfg, precision="bf16")
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
    a, b = full.encode_text(PHRASES), half.encode_text(PHRASES)
    assert b.classes.dtype == b.tokens.dtype == half.encode_classes(PHRASES).dtype == torch.float32
    for x, y in [(a.classes, b.classes), (a.tokens, b.tokens), (a.classes, half.encode_classes(PHRASES))]:
        cos = torch.cosine_similarity(x, y, dim=-1)
        assert 0.995 < cos.min() < 1 - 1e-7


def test_batches_are_bounded_and_change_nothing(monkeypatch):
    enc = random_encoder(TINY)
    frames = np.random.default_rng(1).integers(0, 256, (11, 40, 50, 3), dtype=np.uint8)
    names = [f"{w} number {i}" for i, w in enumerate(PHRASES * 6)]
    video, classes, tokens = enc.encode_video(frames), enc.encode_classes(names), enc.encode_text(names).tokens
    sizes = []
    run = enc.model.encode_image
    monkeypatch.setattr(enc.model, "encode_image", lambda x, **kw: sizes.append(len(x)) or run(x, **kw))
    assert (enc.encode_video(frames, batch_size=4) - video).abs().max() <= 1e-5 and sizes == [4, 4, 3]
    assert (enc.encode_frames(enc.preprocess(frames), batch_size=5) - video).abs().max() <= 1e-5 and sizes[3:] == [5, 5, 1]
    assert (enc.encode_classes(names, batch_size=7) - classes).abs().max() <= 1e-5
    assert (enc.encode_text(names, batch_size=5).tokens - tokens).abs().max() <= 1e-5


@pytest.mark.parametrize("size", [0, -1, 2.5, None])
def test_blocks_of_no_size(size):
    enc = random_encoder(TINY)
    for encode, what in ((enc.encode_video, pictures()[:2]), (enc.encode_classes, PHRASES), (enc.encode_frames, torch.zeros(2, 3, 32, 32))):
        with pytest.raises(EncoderError, match="batch_size=.* must be a whole number"): encode(what, batch_size=size)


def test_classes_keep_their_order():
    enc = random_encoder(TINY)
    names = ["a very long phrase about nothing", "rain", "a dog barks", "x", "rain"]
    got = enc.encode_classes(names, batch_size=2)
    assert (got - torch.cat([enc.encode_text([n]).classes for n in names])).abs().max() <= 1e-5
    assert enc.encode_classes([]).shape == (0, 32) and enc.encode_classes("rain").shape == (1, 32)


def test_results_are_ordinary_tensors():
    enc = random_encoder(TINY)
    text, video = enc.encode_text(PHRASES), enc.encode_video(pictures())
    for t in (text.classes, text.tokens, video, enc.encode_classes(PHRASES)):
        assert not t.is_inference() and not t.requires_grad
        t.requires_grad_().square().sum().backward()
        assert t.grad is not None
    assert all(p.grad is None for p in enc.model.parameters())


# ---------------------------------------------------------------- tokens and masks

def test_official_tokens():
    "Token ids of the official code: start, end, zeros, cut to 77 with the end token kept."
    ref = json.loads((REFERENCE/"tokens.json").read_text())
    tok = build_tokenizer({})
    template = "This is a video about {}"
    names, sentences = ref["class_names"], [",".join(a) for a in ref["attributes"]]
    assert tok([template.format(n) for n in names]).tolist() == ref["class_prompt_ids"]
    assert tok([template.format(s) for s in sentences]).tolist() == ref["attribute_sentence_ids"]
    assert max(row.index(49407) for row in ref["attribute_sentence_ids"]) == 76        # one was cut
    enc = random_encoder(TINY | {"text_cfg": TINY["text_cfg"] | {"context_length": 77}})
    text = enc.encode_text(names + sentences, template)
    assert text.ids.tolist() == ref["class_prompt_ids"] + ref["attribute_sentence_ids"]
    for row, mask, words in zip(text.ids.tolist(), text.mask.tolist(), text.words.tolist()):
        end = row.index(49407)
        assert mask == [j <= end for j in range(77)]
        assert words == [6 <= j < end for j in range(77)]      # start, "this is a video about", the name, end


MASKS = [ # prefix, name, suffix, the name's tokens
    ("", "dog", "", "dog"),
    ("a photo of a ", "dog", "", "dog"),
    ("", "dog", " in the snow", "dog"),
    ("a ", "dog", " in the snow", "dog"),
    ("a video of ", "video", " video", "video"),
    ("a ", "a", " a", "a"),
    ("the ", "the the", " the", "the the"),
    ("dog ", "dog", "", "dog"),
    ("", "dog", " dog", "dog"),
    ("a photo of ", "skateboarder's ollie", ".", "skate boarder 's ollie"),
    ("a photo of ", "wow!", ".", "wow !."),               # "!." is one token
    ("a photo of ", "wow!", " .", "wow !"),
    ("a photo of ", "rock-climbing (indoor)", ".", "rock - climbing ( indoor )."),
    ("", "dog", "s", "dogs"),                             # one word with its template
    ("photo", "graph", "", "photograph"),
    ('a "', "dog", '" there', "dog"),
    ("a video of ", "Café & Crème", "!", "café & cr è me"),
    ("a video of ", "  flying   a kite ", " today", "flying a kite"),
    ("a video of ", "10 dogs", " and 10 cats", "1 0 dogs"),
    ("A VIDEO OF ", "Dog", "", "dog"),
    ("a video of ", "brush_hair", "", "brush _ hair"),
    ("a video of a dog and ", "a dog", " and a dog", "a dog"),
]


@pytest.mark.parametrize("prefix, name, suffix, want", MASKS)
def test_masks(prefix, name, suffix, want):
    tok = build_tokenizer({"context_length": 20})
    ids = tok([prefix + name + suffix])
    mask, words = token_masks(tok, ids, prefix, [name], suffix)
    end = ids[0].tolist().index(49407)
    assert mask[0].tolist() == [j <= end for j in range(20)]
    assert " ".join(tok.decode([i]).strip() for i in ids[0][words[0]].tolist()) == want
    assert not words[0][0] and not words[0][end:].any() and words.sum() == words[0].nonzero().max() - words[0].nonzero().min() + 1


def test_names_too_long_are_cut_with_the_end_kept():
    enc = random_encoder(TINY)
    name = "dog cat " * 20
    text = enc.encode_text([name, "dog"], "a {} here")
    assert text.ids[0, -1] == 49407 and text.mask[0].all()
    assert text.words[0].tolist() == [False, False] + [True] * 13 + [False]     # start, "a", thirteen tokens of the name, end
    assert text.words[1].sum() == 1
    exact = enc.encode_text(["dog " * 14])                                      # exactly as many as fit
    assert exact.words[0].sum() == 14 and exact.mask[0].all()
    with pytest.raises(EncoderError, match="'dog' does not fit behind the template into 16 tokens"):
        enc.encode_text(["dog"], "cat " * 20 + "{}")


@pytest.mark.parametrize("name", ["", "  ", "\n"])
def test_empty_names(name):
    with pytest.raises(EncoderError, match="has no token"): random_encoder(TINY).encode_text(["dog", name], "a {}.")


@pytest.mark.parametrize("template", ["no place", "{} and {}", "{0}", None, 3])
def test_wrong_templates(template):
    with pytest.raises(EncoderError, match="exactly once"): random_encoder(TINY).encode_text(["dog"], template)


def test_names_may_hold_braces():
    assert random_encoder(TINY).encode_text(["a {} b"], "x {}").texts == ["x a {} b"]


@pytest.mark.parametrize("names, says", [([], "at least one name"), (["dog", None], "not NoneType"), ([b"dog"], "not bytes"), (None, "a list of texts, not NoneType")])
def test_wrong_names(names, says):
    with pytest.raises(EncoderError, match=says): random_encoder(TINY).encode_text(names)


class SentencePieces:
    "Stands in for open_clip's HFTokenizer around a T5-like tokenizer: no start token, end and padding share the id 1."
    context_length = 8
    def __init__(self, start=None, pad=1, end=1): self.start, self.pad, self.end = start, pad, end
    def clean_fn(self, text): return text.lower().replace(".", "")
    def tokenizer(self, text, add_special_tokens): return {"input_ids": [10 + sum(map(ord, w)) for w in text.split()]}
    def __call__(self, texts):
        first = [] if self.start is None else [self.start]
        rows = [first + self.tokenizer(self.clean_fn(t), False)["input_ids"][:8 - len(first) - 1] + [self.end] for t in texts]
        return torch.tensor([r + [self.pad] * (8 - len(r)) for r in rows])


@pytest.mark.parametrize("start, pad, end", [(None, 1, 1), (2, 0, 3), (2, 0, 0)], ids=["T5", "BERT", "CLIPA"])
def test_masks_of_other_tokenizers(start, pad, end):
    tok, s = SentencePieces(start, pad, end), start is not None
    names = ["Dog", "a a", "b " * 9]
    mask, words = token_masks(tok, tok([f"A video of {n}." for n in names]), "A video of ", names, ".")
    assert mask.sum(1).tolist() == [5 + s, 6 + s, 8]
    assert words.int().tolist() == [[0] * (3 + s) + [1] + [0] * (4 - s), [0] * (3 + s) + [1, 1] + [0] * (3 - s), [0] * (3 + s) + [1] * (4 - s) + [0]]


# ---------------------------------------------------------------- the folder

ROWS = [49406, 49407, 0, 320, 1929, 4610]


def test_folder_round_trip(tmp_path):
    enc = random_encoder(TINY, preprocess_cfg={"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7), "interpolation": "bilinear"})
    folder = save_encoder(enc.model, tmp_path/"a"/"b", TINY, enc.preprocess_cfg, token_rows=ROWS)
    back = load_encoder(folder)
    assert back.name == "b" and back.dim == 32 and back.context_length == 16 and back.image_size == (32, 32) and back.precision == "fp32"
    assert {p.dtype for p in back.model.parameters()} == {torch.float32}
    for im in pictures(): assert torch.equal(back.transform(im), enc.transform(im))
    table, was = back.model.token_embedding.weight, enc.model.token_embedding.weight
    assert back.known_tokens.tolist() == sorted(ROWS)
    assert torch.equal(table[ROWS], was[ROWS].half().float())
    others = torch.tensor([i for i in range(49408) if i not in ROWS])
    assert (table[others] - was[ROWS].half().float().mean(0)).abs().max() < 1e-6
    for (k, a), b in zip(enc.model.state_dict().items(), back.model.state_dict().values()):
        if k != "token_embedding.weight": assert torch.equal(a.half().float() if a.is_floating_point() else a, b), k
    again = load_encoder(save_encoder(back, tmp_path/"c"))          # an Encoder knows its configs and its rows
    assert again.fingerprint == back.fingerprint and again.known_tokens.tolist() == sorted(ROWS)


def test_folder_file_is_what_the_brief_says(tmp_path):
    from safetensors.torch import load_file
    folder = save_encoder(build_model(TINY), tmp_path, TINY, token_rows=ROWS)
    state, cfg = load_file(folder/"model.safetensors"), json.loads((folder/"open_clip_config.json").read_text())
    assert state["token_embedding.weight"].shape == (6, 32) and state["token_rows"].dtype == torch.int64
    assert {v.dtype for v in state.values() if v.is_floating_point()} == {torch.float16}
    assert cfg["model_cfg"] == TINY and cfg["preprocess_cfg"]["size"] == [32, 32]


def test_folder_with_all_tokens_opens_in_open_clip(tmp_path):
    "The layout is open_clip's own: its `local-dir:` reads what we write."
    enc = random_encoder(TINY)
    folder = save_encoder(enc, tmp_path/"m", dtype=torch.float32)
    model = open_clip.create_model(f"local-dir:{folder}")
    with torch.no_grad(): assert (model.eval().encode_text(enc.tokenizer(PHRASES)) - enc.encode_classes(PHRASES)).abs().max() <= 1e-5
    assert load_encoder(folder).unknown_words(["zyzzyva"]) == {} and load_encoder(folder).known_tokens is None


def test_custom_text_folder(tmp_path):
    "A SigLIP-like tower in a folder: looks both ways, last position, linear projection with a bias."
    text = TINY["text_cfg"] | {"no_causal_mask": True, "pool_type": "last", "proj_bias": True, "norm_kwargs": {"eps": 1e-6}}
    enc = random_encoder(TINY | {"custom_text": True, "vision_cfg": VIT, "text_cfg": text, "init_logit_bias": -10})
    rows = sorted(set(enc.tokenizer(PHRASES).flatten().tolist()))
    back = load_encoder(save_encoder(enc, tmp_path/"m", token_rows=rows, dtype=torch.float32))
    assert torch.equal(back.encode_text(PHRASES).tokens, enc.encode_text(PHRASES).tokens)
    assert back.unknown_words(PHRASES + ["a purple dog"]) == {"a purple dog": ["purple"]}


def test_random_folder(tmp_path):
    folder = save_encoder(random_encoder(TINY), tmp_path/"m", token_rows=ROWS)
    with pytest.warns(UserWarning, match="m has random weights"): enc = load_encoder(folder, "none")
    assert enc.known_tokens is None and enc.fingerprint != load_encoder(folder).fingerprint
    with pytest.raises(EncoderError, match="brings its own weights"): load_encoder(folder, "openai")


def test_packaged_names(tmp_path, monkeypatch):
    import bike_nb.encoder as module
    (tmp_path/"models").mkdir()
    save_encoder(random_encoder(TINY), tmp_path/"models"/"tiny", token_rows=ROWS)
    monkeypatch.setattr(module, "files", lambda package: tmp_path)
    assert module.packaged_models() == ["tiny"] and load_encoder().name == "tiny"
    with pytest.raises(EncoderError, match=r"no model 'tini'.*closest: tiny"): load_encoder("tini")


def broken(folder, what):
    "One thing wrong in a good folder."
    config, weights = folder/"open_clip_config.json", folder/"model.safetensors"
    cfg = json.loads(config.read_text())
    if what == "no config": config.unlink()
    if what == "bad json": config.write_text("{")
    if what == "no model_cfg": config.write_text(json.dumps({"preprocess_cfg": {}}))
    if what == "a list": config.write_text("[]")
    if what == "no weights": weights.unlink()
    if what == "cut weights": weights.write_bytes(weights.read_bytes()[:1000])
    if what == "not safetensors": weights.write_bytes(pickle.dumps({"a": 1}))
    if what == "other size": cfg["model_cfg"]["embed_dim"] = 16; config.write_text(json.dumps(cfg))
    if what == "other vocabulary": cfg["model_cfg"]["text_cfg"]["vocab_size"] = 100; config.write_text(json.dumps(cfg))
    if what == "nonsense": cfg["model_cfg"]["text_cfg"]["heads"] = 7; config.write_text(json.dumps(cfg))
    if what == "unknown key": cfg["model_cfg"]["text_cfg"]["wings"] = 2; config.write_text(json.dumps(cfg))


@pytest.mark.parametrize("what, says", [
    ("no config", "is no model folder"), ("bad json", "not valid JSON"), ("no model_cfg", "lacks a model_cfg"), ("a list", "lacks a model_cfg"),
    ("no weights", "holds no weights"), ("cut weights", "cannot be read as safetensors"), ("not safetensors", "cannot be read as safetensors"),
    ("other size", "cannot be used.*size mismatch"), ("other vocabulary", "cannot be used.*vocabulary of 100"),
    ("nonsense", "open_clip cannot build"), ("unknown key", "open_clip cannot build.*wings")])
def test_broken_folders(tmp_path, what, says):
    folder = save_encoder(build_model(TINY), tmp_path/"m", TINY, token_rows=ROWS)
    broken(folder, what)
    with pytest.raises(EncoderError, match=says) as e: load_encoder(folder)
    assert "\n" not in str(e.value) and len(str(e.value)) < 400 and "/m" in str(e.value)


SAVE = """
import resource, signal, sys
from bike_nb.encoder import EncoderError, load_encoder, save_encoder
encoder = load_encoder(sys.argv[1], device="cpu")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
try: save_encoder(encoder, sys.argv[1])
except EncoderError as e: print(e)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on files there")
def test_a_full_disk_leaves_the_old_model(tmp_path):
    folder = save_encoder(random_encoder(TINY), tmp_path/"m", token_rows=ROWS)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    said = subprocess.run([sys.executable, "-c", SAVE, str(folder)], capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[1])
    assert said.stdout.startswith(f"the model cannot be saved to {folder} (") and "File too large" in said.stdout, said.stderr
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_places_where_nothing_can_be_saved(tmp_path):
    enc, file = random_encoder(TINY), tmp_path/"file"
    file.write_text("keep me")
    for place in (file, file/"below"):
        with pytest.raises(EncoderError, match="the model cannot be saved to"): save_encoder(enc, place)
    assert file.read_text() == "keep me" and list(tmp_path.iterdir()) == [file]


def test_saving_refuses_what_fp16_cannot_hold(tmp_path):
    model = build_model(TINY)
    model.visual.bn1.running_var.fill_(1e6)
    with pytest.raises(EncoderError, match="visual.bn1.running_var.*not finite"): save_encoder(model, tmp_path/"m", TINY)
    assert save_encoder(model, tmp_path/"m", TINY, dtype=torch.float32)
    for rows in ([], [-1], [49408]):
        with pytest.raises(EncoderError, match="token_rows"): compact_state(build_model(TINY), rows)
    with pytest.raises(EncoderError, match="model_cfg"): save_encoder(model, tmp_path/"m")


def test_unknown_words(tmp_path):
    tok = build_tokenizer(TINY["text_cfg"])
    rows = sorted(set(tok(["flying a kite", "a dog's house", "skate"]).flatten().tolist()))
    enc = load_encoder(save_encoder(build_model(TINY), tmp_path/"m", TINY, token_rows=rows))
    assert enc.unknown_words(["flying a kite", "Dog", "a dog's kite", "KITE house"]) == {}
    # "skateboarder" is skate + boarder: its first token is known only as a whole word
    assert enc.unknown_words(["a purple dog", "a skateboarder", "red red kite", "dog!"]) == {
        "a purple dog": ["purple"], "a skateboarder": ["skateboarder"], "red red kite": ["red"], "dog!": ["dog!"]}
    assert enc.unknown_words("purple") == {"purple": ["purple"]}


# ---------------------------------------------------------------- fingerprint, randomness

def test_fingerprint(tmp_path):
    folder = save_encoder(random_encoder(TINY), tmp_path/"m", token_rows=ROWS)
    enc = load_encoder(folder)
    first = enc.fingerprint
    assert first == load_encoder(folder).fingerprint and len(first) == 32 and int(first, 16)
    assert first != load_encoder(folder, precision="bf16").fingerprint
    cfg = json.loads((folder/"open_clip_config.json").read_text())
    for section, key, value in [("preprocess_cfg", "interpolation", "bilinear"), ("model_cfg", "quick_gelu", True)]:
        other = deepcopy(cfg)
        other[section][key] = value
        (folder/"open_clip_config.json").write_text(json.dumps(other))
        assert load_encoder(folder).fingerprint != first
    with torch.no_grad(): enc.model.logit_scale.add_(1e-3)          # as a training step does
    second = enc.fingerprint
    assert second != first
    with torch.no_grad(): enc.model.visual.bn1.running_mean[0] = 7
    third = enc.fingerprint
    assert third not in (first, second)
    enc.model.text_projection.data.mul_(2)                          # unseen by torch's own count
    fourth = enc.fingerprint
    assert fourth not in (first, second, third)
    enc.model.text_projection.data = enc.model.text_projection.data / 2
    assert enc.fingerprint == third


def test_fingerprint_is_computed_once(monkeypatch):
    import bike_nb.encoder as module
    enc, calls, real = random_encoder(TINY), [], module.weights_hash
    monkeypatch.setattr(module, "weights_hash", lambda *a: calls.append(1) or real(*a))
    assert enc.fingerprint == enc.fingerprint and len(calls) == 1


def test_fingerprint_is_the_same_in_another_process(tmp_path):
    folder = save_encoder(random_encoder(TINY), tmp_path/"m", token_rows=ROWS)
    code = f"from bike_nb.encoder import load_encoder; print(load_encoder({str(folder)!r}).fingerprint)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=os.environ | {"PYTHONHASHSEED": "7", "HF_HUB_OFFLINE": "1"})
    assert out.stdout.strip() == load_encoder(folder).fingerprint


def test_random_weights_are_the_same_every_time_and_use_up_no_random_numbers(tmp_path, monkeypatch):
    arch = register(TINY | {"vision_cfg": VIT}, tmp_path, monkeypatch)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        a, b = load_encoder(arch, "none"), load_encoder(arch, "none")
    assert torch.equal(before, torch.get_rng_state()) and a.fingerprint == b.fingerprint


# ---------------------------------------------------------------- names, weights, devices, and no network

@pytest.mark.parametrize("name, close", [("ViT-B32", "ViT-B-32"), ("vit-b-99", "ViT-B-"), ("SigLIP2-B-16", "SigLIP"), ("RN-50", "RN50")])
def test_unknown_architectures_list_the_closest(name, close):
    with pytest.raises(EncoderError, match=f"no model '{name}'.*closest: .*{close}"): load_encoder(name, "none")


def test_openai_spelling():
    from bike_nb.encoder import find_architecture
    assert [find_architecture(n) for n in ("ViT-B/32", "ViT-L/14", "ViT-L/14@336px", "vit-b-16", "RN50")] == ["ViT-B-32", "ViT-L-14", "ViT-L-14-336", "ViT-B-16", "RN50"]


@pytest.mark.parametrize("kwargs, says", [
    (dict(precision="fp16"), "precision must be 'fp32' or 'bf16'"), (dict(device="toaster"), "no such device"),
    (dict(device="cuda:77"), "is not here"), (dict(device="meta"), "device 'meta' cannot be used"), (dict(device="hpu"), "device 'hpu' cannot be used"),
    (dict(pretrained=Path("no/such/file.pt")), "neither a file"), (dict(pretrained="opnai"), "neither a file, nor 'none', nor a tag of ViT-B-32"),
    (dict(pretrained="no/such/file.pt"), "neither a file")])
def test_wrong_arguments(kwargs, says):
    with pytest.raises(EncoderError, match=says): load_encoder("ViT-B-32", **kwargs)


def test_architectures_without_weights():
    with pytest.raises(EncoderError, match="no ready-made weights for ViT-S-32.*'none'"): load_encoder("ViT-S-32")


@pytest.mark.parametrize("how", ["state dict", "training checkpoint", "module.", "safetensors"])
def test_local_files(tmp_path, monkeypatch, how):
    from safetensors.torch import save_file
    enc = random_encoder(TINY)
    state, file = enc.model.state_dict(), tmp_path/"w.pt"
    if how == "safetensors": file = tmp_path/"w.safetensors"; save_file(state, file)
    else: torch.save({"state dict": state, "training checkpoint": {"epoch": 3, "state_dict": state}, "module.": {"state_dict": {f"module.{k}": v for k, v in state.items()}}}[how], file)
    back = load_encoder(register(TINY, tmp_path, monkeypatch), str(file))
    assert torch.equal(back.encode_text(PHRASES).tokens, enc.encode_text(PHRASES).tokens) and back.name == "bike-nb-test-arch"


class Evil:
    def __reduce__(self): return (open, (os.environ["EVIL_FILE"], "w"))


def test_files_run_no_code(tmp_path, monkeypatch):
    monkeypatch.setenv("EVIL_FILE", str(tmp_path/"owned"))
    torch.save({"state_dict": {"a": Evil()}}, tmp_path/"evil.pt")
    with pytest.raises(EncoderError, match="evil.pt cannot be loaded.*more, or other things, than plain weights"): load_encoder(register(TINY, tmp_path, monkeypatch), str(tmp_path/"evil.pt"))
    assert not (tmp_path/"owned").exists()


def test_files_that_do_not_fit(tmp_path, monkeypatch):
    arch = register(TINY, tmp_path, monkeypatch)
    torch.save(build_model(TINY | {"embed_dim": 16}).state_dict(), tmp_path/"other.pt")
    (tmp_path/"text.pt").write_text("hello")
    (tmp_path/"empty.pt").touch()
    torch.save({}, tmp_path/"nothing.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path/"script.pt"))
    for name, why in [("other", "size mismatch"), ("text", "plain weights"), ("empty", "plain weights"), ("nothing", "plain weights"), ("script", "TorchScript")]:
        with pytest.raises(EncoderError, match=rf"{name}.pt cannot be loaded into {arch} \(.*{why}") as e: load_encoder(arch, str(tmp_path/f"{name}.pt"))
        assert "\n" not in str(e.value) and len(str(e.value)) < 500


@pytest.mark.parametrize("model, says", [
    ("ViT-B-32", "cannot download the weights 'openai' of ViT-B-32"), ("hf-hub:nobody/nothing", "cannot download the model 'hf-hub:nobody/nothing'")])
def test_offline_is_one_clear_sentence(model, says, monkeypatch):
    with pytest.raises(EncoderError, match=f"{says} .*HF_HUB_OFFLINE is set") as e: load_encoder(model)
    assert ("pretrained='none'" in str(e.value)) == (model == "ViT-B-32")       # without its config, a repository is nothing
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for error in (urllib.error.URLError(OSError("Name or service not known")), TimeoutError("timed out"), ConnectionResetError()):
        def refuse(*args, **kwargs): raise error
        monkeypatch.setattr("urllib.request.urlopen", refuse)
        with pytest.raises(EncoderError, match=rf"{says} \(no connection to .+\): connect once") as e: load_encoder(model)
        assert "\n" not in str(e.value) and e.value.__suppress_context__


def test_a_failing_download_is_one_sentence(monkeypatch):
    monkeypatch.setattr("bike_nb.encoder.check_reachable", lambda *a, **k: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    def fail(*args, **kwargs): raise OSError("No space left\n on device")
    monkeypatch.setattr("open_clip.pretrained.hf_hub_download", fail)
    with pytest.raises(EncoderError, match=r"cannot download the weights 'openai' of ViT-B-32 \(.*No space left on device"): load_encoder("ViT-B-32")


@pytest.mark.parametrize("answer", [None, urllib.error.HTTPError("u", 404, "Not Found", {}, io.BytesIO()), urllib.error.URLError(__import__("ssl").SSLError("certificate"))])
def test_any_answer_means_reachable(answer, monkeypatch):
    from bike_nb.encoder import check_reachable
    def reply(*args, **kwargs):
        if answer: raise answer
        return io.BytesIO()
    monkeypatch.setattr("urllib.request.urlopen", reply)
    check_reachable("https://huggingface.co", "x")


def test_no_retries_without_a_connection():
    "In a real process, with the real hub client: a refused connection ends at once, in one line."
    code = "from bike_nb.encoder import load_encoder, EncoderError\ntry: load_encoder('ViT-B-32')\nexcept EncoderError as e: print(e)"
    env = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE" and not k.lower().endswith("_proxy")}
    env |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": "/nonexistent"}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=env)
    assert out.stdout.startswith("cannot download the weights 'openai' of ViT-B-32 (no connection to 127.0.0.1)") and out.stdout.count("\n") == 1
    assert "Retry" not in out.stderr and "Traceback" not in out.stderr and "ERROR" not in out.stderr


def hub_cache(root, repo, files):
    "A repository in the hub client's cache, as a download leaves it."
    base = root/("models--" + repo.replace("/", "--"))
    snapshot = base/"snapshots"/"0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (base/"refs").mkdir()
    (base/"refs"/"main").write_text(snapshot.name)
    for name, source in files.items(): (snapshot/name).write_bytes(Path(source).read_bytes())


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_cached_weights_need_no_network(tmp_path, monkeypatch, name):
    enc = random_encoder(TINY)
    folder = save_encoder(enc, tmp_path/"m", dtype=torch.float32)
    if name.endswith("bin"): torch.save(enc.model.state_dict(), folder/"model.safetensors")
    hub_cache(tmp_path/"hub", "owner/thing", {name: folder/"model.safetensors", "open_clip_config.json": folder/"open_clip_config.json"})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path/"hub"))
    arch = register(TINY, tmp_path, monkeypatch)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, arch, {"gift": {"hf_hub": "owner/thing/"}})
    want = enc.encode_text(PHRASES).tokens
    for got in (load_encoder(arch), load_encoder(arch, "gift"), load_encoder("hf-hub:owner/thing")):
        assert torch.equal(got.encode_text(PHRASES).tokens, want)
    with pytest.warns(UserWarning, match="random weights"): got = load_encoder("hf-hub:owner/thing", "none")
    assert not torch.equal(got.encode_text(PHRASES).tokens, want)
    for other in ("openai", "/no/such/file"):
        with pytest.raises(EncoderError, match="'hf-hub:owner/thing' brings its own weights"): load_encoder("hf-hub:owner/thing", other)
    for f in (tmp_path/"hub").rglob(name): f.unlink()
    with pytest.raises(EncoderError, match="pretrained='none'"): load_encoder("hf-hub:owner/thing")     # its config is here, its weights are not


def test_tokenizers_that_need_more(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    for arch in ("ViT-B-16-SigLIP", "roberta-ViT-B-32"):
        for pretrained in (None, "none"):
            with pytest.raises(EncoderError, match="needs the package transformers: pip install"): load_encoder(arch, pretrained)
    monkeypatch.setitem(sys.modules, "transformers", type(sys)("transformers"))
    with pytest.raises(EncoderError, match="cannot download the tokenizer 'timm/ViT-B-16-SigLIP' .*HF_HUB_OFFLINE"): load_encoder("ViT-B-16-SigLIP", "none")


def test_tokenizers_equal_open_clips():
    kinds = {}
    for name in open_clip.list_models():
        text = open_clip.get_model_config(name)["text_cfg"]
        if not text.get("hf_tokenizer_name"): kinds.setdefault((text.get("context_length"), str(text.get("tokenizer_kwargs"))), name)
    assert len(kinds) >= 4
    for name in kinds.values():
        ours, theirs = build_tokenizer(open_clip.get_model_config(name)["text_cfg"]), open_clip.get_tokenizer(name)
        assert ours.context_length == theirs.context_length and torch.equal(ours(PHRASES), theirs(PHRASES))


def test_import_is_light():
    code = "import sys, bike_nb.encoder; print([m for m in ('open_clip', 'torchvision', 'matplotlib', 'huggingface_hub', 'PIL', 'timm') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300).stdout.strip() == "[]"


# ---------------------------------------------------------------- the official code's numbers

def official(name):
    for folder in (REFERENCE, Path(__file__).parents[2]/"shared"/"reference"):
        if (folder/name).exists(): return folder/name


@pytest.mark.skipif(not (official("clip_forward.npz") and official("official_checkpoint.pt")), reason="the official code's numbers are not here")
def test_official_embeddings():
    "Frames, sentences and every token as the official BIKE computes them, from a checkpoint in its layout."
    state = torch.load(official("official_checkpoint.pt"), map_location="cpu", weights_only=True)["model_state_dict"]
    ref = np.load(official("clip_forward.npz"))
    D, (vocab, width), context = state["text_projection"].shape[1], state["token_embedding.weight"].shape, len(state["positional_embedding"])
    patch, vision = state["visual.conv1.weight"].shape[-1], len(state["visual.class_embedding"])
    layers = lambda prefix: len({k.split(".resblocks.")[1].split(".")[0] for k in state if k.startswith(prefix + "transformer.resblocks.")})
    cfg = {"embed_dim": D, "quick_gelu": True,
           "vision_cfg": {"image_size": ref["images"].shape[-1], "layers": layers("visual."), "width": vision, "head_width": 64, "patch_size": patch},
           "text_cfg": {"context_length": context, "vocab_size": vocab, "width": width, "heads": width // 64, "layers": layers("")}}
    model = build_model(cfg)
    model.load_state_dict({k: v.float() for k, v in state.items() if k not in ("input_resolution", "context_length", "vocab_size")})
    enc = Encoder(model, build_tokenizer(cfg["text_cfg"]), cfg)
    assert np.abs(enc.encode_frames(torch.from_numpy(ref["images"])).numpy() - ref["frame_embeddings"]).max() <= 1e-5
    with torch.no_grad(): classes, tokens = token_embeddings(enc.model, torch.from_numpy(ref["tokens"]).long())
    assert np.abs(classes.numpy() - ref["class_embeddings"]).max() <= 1e-5
    assert np.abs(tokens.numpy() - ref["token_embeddings"]).max() <= 1e-5
