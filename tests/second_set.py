"""A second folder of reference numbers with other sizes and another seed, by plain formulas: no module of bike_nb computes anything here.

    python tests/second_set.py FOLDER [--seed 5]

Same files and keys as tests/reference; everything in float64, stored as the first set is. `make(folder, seed, **sizes)` takes other sizes."""
import argparse
import functools
import gzip
import json
import math
import random
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

SIZES = dict(embed=48, image=24, patch=6, vision_width=192, vision_layers=1, text_width=64, text_layers=3, vocabulary=300, context=21, temporal_layers=4,
             videos=4, frames=5, classes=9, sentences=3, batch=5, steps=4, similarities=10, crop=40, scale=50, pictures=3)
HEAD_WIDTH = 64
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


# ---------------------------------------------------------------- weights

def block_weights(name, width, draw):
    "One transformer block in CLIP's names."
    parts = {"attn.in_proj_weight": (3 * width, width), "attn.in_proj_bias": (3 * width,), "attn.out_proj.weight": (width, width), "attn.out_proj.bias": (width,),
             "ln_1.weight": (width,), "ln_1.bias": (width,), "mlp.c_fc.weight": (4 * width, width), "mlp.c_fc.bias": (4 * width,),
             "mlp.c_proj.weight": (width, 4 * width), "mlp.c_proj.bias": (width,), "ln_2.weight": (width,), "ln_2.bias": (width,)}
    def start(part, shape): return 1 + draw(*shape, std=0.1) if part in ("ln_1.weight", "ln_2.weight") else draw(*shape, std=0.06)
    return {f"{name}.{part}": start(part, shape) for part, shape in parts.items()}


def clip_weights(z, draw):
    v, t = z.vision_width, z.text_width
    w = OrderedDict(positional_embedding=draw(z.context, t, std=0.1), text_projection=draw(t, z.embed, std=t ** -0.5))
    w["logit_scale"] = torch.tensor(2.2).double()
    w["visual.class_embedding"], w["visual.positional_embedding"] = draw(v, std=0.2), draw((z.image // z.patch) ** 2 + 1, v, std=0.2)
    w["visual.proj"], w["visual.conv1.weight"] = draw(v, z.embed, std=v ** -0.5), draw(v, 3, z.patch, z.patch, std=0.1)
    w["visual.ln_pre.weight"], w["visual.ln_pre.bias"] = 1 + draw(v, std=0.1), draw(v, std=0.1)
    for i in range(z.vision_layers): w |= block_weights(f"visual.transformer.resblocks.{i}", v, draw)
    w["visual.ln_post.weight"], w["visual.ln_post.bias"] = 1 + draw(v, std=0.1), draw(v, std=0.1)
    for i in range(z.text_layers): w |= block_weights(f"transformer.resblocks.{i}", t, draw)
    w["token_embedding.weight"], w["ln_final.weight"], w["ln_final.bias"] = draw(z.vocabulary, t, std=0.3), 1 + draw(t, std=0.1), draw(t, std=0.1)
    return w


def temporal_weights(z, draw):
    w = OrderedDict({"frame_position_embeddings.weight": draw(z.context, z.embed, std=0.3)})
    for i in range(z.temporal_layers): w |= block_weights(f"transformer.resblocks.{i}", z.embed, draw)
    return w


# ---------------------------------------------------------------- towers and branches, word for word

def unit(x): return x / x.square().sum(-1, keepdim=True).sqrt()


def norm(x, w, name, eps):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def attention(x, w, name, heads, causal):
    (n, length, width), size = x.shape, x.shape[2] // heads
    q, k, v = ((x @ m.T + b).view(n, length, heads, size) for m, b in zip(w[f"{name}.in_proj_weight"].split(width), w[f"{name}.in_proj_bias"].split(width)))
    scores = torch.einsum("nihd,njhd->nhij", q, k) / size ** 0.5
    if causal: scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), -math.inf)
    mixed = torch.einsum("nhij,njhd->nihd", scores.softmax(-1), v).reshape(n, length, width)
    return mixed @ w[f"{name}.out_proj.weight"].T + w[f"{name}.out_proj.bias"]


def blocks(x, w, name, heads, eps, causal=False):
    for i in range(sum(key.startswith(f"{name}.") and key.endswith("attn.in_proj_bias") for key in w)):
        b = f"{name}.{i}"
        x = x + attention(norm(x, w, f"{b}.ln_1", eps), w, f"{b}.attn", heads, causal)
        h = norm(x, w, f"{b}.ln_2", eps) @ w[f"{b}.mlp.c_fc.weight"].T + w[f"{b}.mlp.c_fc.bias"]
        x = x + (h / (1 + (-1.702 * h).exp())) @ w[f"{b}.mlp.c_proj.weight"].T + w[f"{b}.mlp.c_proj.bias"]
    return x


def see(w, images):
    "Frames (…,3,H,W) → embeddings (…,D)."
    kernel = w["visual.conv1.weight"]
    width, _, p, _ = kernel.shape
    x = images.reshape(-1, *images.shape[-3:])
    side = x.shape[-1] // p
    x = torch.einsum("ncrpsq,wcpq->nrsw", x.view(len(x), 3, side, p, side, p), kernel).reshape(len(x), side * side, width)
    x = torch.cat([w["visual.class_embedding"].expand(len(x), 1, -1), x], 1) + w["visual.positional_embedding"]
    x = blocks(norm(x, w, "visual.ln_pre", 1e-5), w, "visual.transformer.resblocks", width // HEAD_WIDTH, 1e-5)
    return (norm(x[:, 0], w, "visual.ln_post", 1e-5) @ w["visual.proj"]).view(*images.shape[:-3], -1)


def read(w, ids):
    "Token ids (A,L) → class embeddings (A,D), token embeddings (A,L,D)."
    x = w["token_embedding.weight"][ids] + w["positional_embedding"]
    x = blocks(x, w, "transformer.resblocks", x.shape[2] // HEAD_WIDTH, 1e-5, causal=True)
    tokens = norm(x, w, "ln_final", 1e-5) @ w["text_projection"]
    return tokens[torch.arange(len(ids)), ids.argmax(1)], tokens


def order(w, frames, heads):
    "Temporal transformer with its residual."
    return frames + blocks(frames + w["frame_position_embeddings.weight"][:frames.shape[1]], w, "transformer.resblocks", heads, 1e-12)


def spot(frames, tokens):
    "Saliency (A,B,T)."
    cosines = torch.einsum("ajd,btd->abjt", unit(tokens), unit(frames))
    return (cosines / 0.01).softmax(3).mean(2)


def compare(frames, tokens, classes, interaction):
    if interaction == "DP": return torch.einsum("bd,ad->ba", unit(frames.mean(1)), unit(classes))
    return torch.einsum("abt,btd,ad->ba", spot(frames, tokens), unit(frames), unit(classes))


# ---------------------------------------------------------------- losses

def same(labels): return (labels[:, None] == labels[None, :]).double()


def nce(x, targets): return F.kl_div(F.log_softmax(x, 1), F.softmax(10 * targets, 1), reduction="batchmean")


def dual(x, targets): return nce(x * F.softmax(x / 1000, 0) * len(x), targets)


def both(loss, x, targets): return (loss(x, targets) + loss(x.T, targets)) / 2


def loss_numbers(z, draw, whole):
    x, labels = draw(z.similarities, z.similarities, std=4.).requires_grad_(), whole(4, z.similarities)
    found = dict(logits=x.detach(), labels=labels, targets=same(labels))
    for name, loss in (("nce", nce), ("dual", dual)):
        value = both(loss, x, same(labels))
        found |= {f"{name}_rows": loss(x, same(labels)).detach(), f"{name}_symmetric": value.detach(), f"{name}_symmetric_grad": torch.autograd.grad(value, x)[0]}
    return found


# ---------------------------------------------------------------- training

def rate(epoch, kind, warm, total=None, drops=()):
    "Factor of the base learning rate."
    if epoch < warm: return epoch / warm
    if kind == "cosine": return 0.5 * (1 + math.cos(math.pi * min(1, (epoch - warm) / (total - warm))))
    return 0.1 ** len([d for d in drops if d <= epoch])


def training_numbers(z, clip, head, heads, draw, whole):
    frames, labels, ids = draw(z.steps, z.batch, z.frames, 3, z.image, z.image), whole(z.classes, z.steps, z.batch), prompts(z, z.classes, whole)
    labels[:, 1] = labels[:, 0]                                            # some clips of one class
    seen = [key for key in clip if key.startswith("visual.") or key == "logit_scale"]
    clip = {key: value.clone().requires_grad_(key in seen) for key, value in clip.items()}
    head = {key: value.clone().requires_grad_() for key, value in head.items()}
    optimizer = torch.optim.AdamW([dict(params=[clip[key] for key in seen], lr=5e-4), dict(params=list(head.values()), lr=5e-3)], weight_decay=0.2)
    base, lrs, losses = [group["lr"] for group in optimizer.param_groups], [], []
    watched = dict(conv1=clip["visual.conv1.weight"], logit_scale=clip["logit_scale"], head_inproj=head["transformer.resblocks.0.attn.in_proj_weight"])
    classes, tokens = (x.detach() for x in read(clip, ids))
    found = dict(frames=frames, labels=labels, class_tokens=ids)
    for i in range(z.steps):
        lrs.append([b * rate(0.5 + i / z.steps, "cosine", 1, 4) for b in base])
        for group, lr in zip(optimizer.param_groups, lrs[-1]): group["lr"] = lr
        x = compare(order(head, see(clip, frames[i]), heads), tokens[labels[i]], classes[labels[i]], "VCS") * clip["logit_scale"].exp()
        loss = both(nce, x, same(labels[i]))
        optimizer.zero_grad()
        loss.backward()
        if i == 0: found |= {f"grad_{name}_step0": value.grad.clone() for name, value in watched.items()}
        losses.append(loss.item())
        optimizer.step()
    exact = dict(losses=np.array(losses), lrs_clip_then_head=np.array(lrs))
    return found | exact | {f"{name}_after": value.detach() for name, value in watched.items()}


def schedule_numbers():
    epochs = np.arange(0, 14, 0.25)
    return dict(epochs=epochs, base_lr=np.array(2e-4), cosine_12_warmup2=np.array([2e-4 * rate(e, "cosine", 2, 12) for e in epochs]),
                multistep_4_7_11_warmup3=np.array([2e-4 * rate(e, "multistep", 3, drops=(4, 7, 11)) for e in epochs]))


# ---------------------------------------------------------------- data

def sampled(seed):
    "Frames by the rules of the paper's release: segments, a window of 128 frames, or evenly spread clips."
    found, window = {}, 128
    random.seed(seed)
    for n in (2, 6, 12, 40, 127, 129, 131, 400):
        for t in (5, 12):
            step = window // t
            def dense(start): return [(start + step * i) % n for i in range(t)]
            def lot():
                np.random.seed(seed)
                return np.random.randint(0, n - window) if n > window else 0
            found[f"val_uniform/{n}/{t}"] = [int(n / t * i) % n for i in range(t)]
            for clips in (1, 3, 5):
                starts = [math.floor(s) for s in np.linspace(0, n / t - 1, clips)]
                found[f"test_uniform/{n}/{t}/{clips}"] = [int(s + n / t * i) % n for s in starts for i in range(t)]
                if clips > 1: found[f"test_dense/{n}/{t}/{clips}"] = [f for c in range(clips) for f in dense(c * (max(0, n - window) // (clips - 1)))]
            found[f"train_uniform/{n}/{t}"] = [random.randint(int(np.round((n - 1) / t * i)), int(np.round((n - 1) / t * (i + 1)))) for i in range(t)]
            found[f"train_dense/{n}/{t}"], found[f"val_dense/{n}/{t}"] = dense(lot()), dense(lot())
    return {key: np.array(value, np.int64) for key, value in found.items()} | dict(numpy_seed=np.array(seed))


def crop_numbers(z, generator):
    found, s = {}, z.crop
    for name, (h, w) in dict(landscape=(61, 95), portrait=(77, 52)).items():
        coarse = generator.integers(0, 256, (z.pictures, 9, 7, 3), np.uint8)
        frames = np.stack([np.asarray(Image.fromarray(x).resize((w, h), Image.BICUBIC)) for x in coarse])
        size = (z.scale, int(z.scale * h / w)) if w < h else (int(z.scale * w / h), z.scale)
        scaled = [Image.fromarray(x).resize(size, Image.BICUBIC) for x in frames]
        (W, H), (dx, dy) = size, ((side - s) // 4 for side in size)
        corners = [(0, 0), (4 * dx, 0), (0, 4 * dy), (4 * dx, 4 * dy), (2 * dx, 2 * dy)]
        places = dict(center=[(round((W - s) / 2), round((H - s) / 2))], three=[(0, 2 * dy), (4 * dx, 2 * dy), (2 * dx, 2 * dy)], five=corners, ten=corners)
        found[f"{name}_frames"] = frames
        for kind, boxes in places.items():
            crops = [np.stack([np.asarray(p)[y:y + s, x:x + s] for p in scaled]) for x, y in boxes]
            if kind == "ten": crops = [c for crop in crops for c in (crop, crop[:, :, ::-1])]
            values = (np.concatenate(crops) / 255 - np.array(MEAN)) / np.array(STD)
            found[f"{name}_{kind}"] = values.transpose(0, 3, 1, 2).reshape(-1, s, s).astype(np.float32)
    return found


# ---------------------------------------------------------------- words

@functools.cache
def pairs():
    "CLIP's list of merges: pairs of pieces, best first, and the id of each piece."
    import open_clip
    with gzip.open(Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz")) as file: lines = file.read().decode().split("\n")
    merges = [tuple(line.split()) for line in lines[1:49152 - 256 - 2 + 1]]
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(b for b in range(256) if b not in printable)}
    pieces = [*letters.values(), *(c + "</w>" for c in letters.values()), *("".join(m) for m in merges), "<start>", "<end>"]
    return {m: i for i, m in enumerate(merges)}, {p: i for i, p in enumerate(pieces)}, letters


def token_ids(text, length):
    "CLIP's byte-pair encoding: start, pieces, end, zeros; what is too long is cut, and ends with the end token."
    ranks, ids, letters = pairs()
    found = [ids["<start>"]]
    for word in re.findall(r"[^\W\d_]+|\d|(?:[^\s\w]|_)+", " ".join(text.lower().split())):
        parts = [letters[b] for b in word.encode()]
        parts[-1] += "</w>"
        while len(parts) > 1:
            rank, i = min((ranks.get(pair, math.inf), i) for i, pair in enumerate(zip(parts, parts[1:])))
            if rank == math.inf: break
            parts[i:i + 2] = ["".join(parts[i:i + 2])]
        found += [ids[part] for part in parts]
    found = (found + [ids["<end>"]])[:length]
    if found[-1] != ids["<end>"]: found[-1] = ids["<end>"]
    return found + [0] * (length - len(found))


def word_numbers(z):
    classes = ["juggling three balls", "Zumba", "x-country skiing", "opening_door", "7 wonders", "naïve dancing", "swimming " * 20]
    rows = [["tree", "hill", "snow field"], ["one attribute"], [f"attribute {i}" for i in range(12)]]
    prompt = "This is a video about "
    return dict(class_names=classes, class_prompt_ids=[token_ids(prompt + c, z.context) for c in classes],
                attributes=rows, attribute_sentence_ids=[token_ids(prompt + ",".join(row), z.context) for row in rows])


def prompts(z, count, whole):
    "Random token ids (count, context) with the largest id at the end of the sentence."
    ids = torch.zeros(count, z.context, dtype=torch.int64)
    for row in ids:
        n = int(whole(z.context - 4, 1)) + 3
        row[0], row[1:n], row[n] = z.vocabulary - 2, 1 + whole(z.vocabulary - 4, n - 1), z.vocabulary - 1
    return ids


# ---------------------------------------------------------------- metrics

def hit_rates(scores, labels): return np.array([100 * np.mean([label in np.argsort(-row)[:k] for row, label in zip(scores, labels)]) for k in (1, 5)])


def ap(scores, truth):
    ranked = truth[np.argsort(-scores)] > 0
    return (np.cumsum(ranked) / np.arange(1, len(ranked) + 1))[ranked].mean() if ranked.any() else 0.


def soft(x): e = np.exp(x - x.max(-1, keepdims=True)); return e / e.sum(-1, keepdims=True)


def metric_numbers(z, generator, videos=41, frames=3, classes=13, views=6):
    names = generator.normal(size=(classes, z.embed)); names /= np.linalg.norm(names, axis=1, keepdims=True)
    labels = generator.integers(0, classes - 1, videos)                    # the last class has no video
    shown = 0.13 * names[labels][:, None] + 0.15 * generator.normal(size=(videos, frames, z.embed)) / 2
    shown, names = shown.astype(np.float32), names.astype(np.float32)
    def scores(rows, columns):
        unit_names = names[columns].astype(float) / np.linalg.norm(names[columns].astype(float), axis=1, keepdims=True)
        return soft(100 * shown[rows].astype(float) @ unit_names.T).mean(1)
    halves = []
    for split in range(10):
        np.random.seed(split)
        half = np.random.permutation(classes)[:classes // 2]
        rows = np.flatnonzero(np.isin(labels, half))
        kept = np.unique(labels[rows])
        halves.append(hit_rates(scores(rows, kept), np.searchsorted(kept, labels[rows])))
    every = scores(np.arange(videos), np.arange(classes))
    several = (generator.random((videos, classes)) < 0.25).astype(np.int32)
    several[:, 2] = 0
    aps, single = np.array([ap(every[:, c], several[:, c]) for c in range(classes)]), np.eye(classes, dtype=int)[labels]
    video, attributes = (soft(2 * generator.normal(size=(videos, classes)) + lift * single).astype(np.float32) for lift in (2, 1))
    logits = generator.normal(size=(videos * views, classes)).astype(np.float32)
    return dict(frame_embeddings=shown, class_embeddings=names, labels=labels, similarity=every.astype(np.float32), top1_top5=hit_rates(every, labels),
                full_top1_top5=hit_rates(every, labels), half_top1=np.array(halves)[:, 0], half_top5=np.array(halves)[:, 1], multilabels=several,
                map_multilabel=np.array(aps.mean()), ap_per_class=aps.astype(np.float32),
                map_anet=np.array(np.mean([ap(soft(every)[:, c], single[:, c]) for c in range(classes)])), video_probs=video, attribute_probs=attributes,
                fused_top1_top5=hit_rates(0.7 * video + 0.3 * attributes, labels), multiview_logits=logits, multiview_views=np.array(views),
                multiview_probs=soft(soft(logits.astype(float)).reshape(videos, views, classes).mean(1)).astype(np.float32))


# ---------------------------------------------------------------- the folder

def forward_numbers(z, clip, head, heads, draw, whole):
    images, ids = draw(z.videos, z.frames, 3, z.image, z.image), prompts(z, z.classes, whole)
    frames, (classes, tokens) = see(clip, images), read(clip, ids)
    found = dict(images=images, tokens=ids, frame_embeddings=frames, class_embeddings=classes, token_embeddings=tokens,
                 saliency_class_video_frame=spot(frames, tokens), logit_scale=clip["logit_scale"].exp())
    for name, f in (("None", frames), ("Transf", order(head, frames, heads))):
        for interaction in ("DP", "VCS"): found[f"logits_{name}_{interaction}"] = compare(f, tokens, classes, interaction)
    return found


def attribute_numbers(z, clip, draw, whole):
    ids = dict(sentence=prompts(z, z.sentences, whole), **{"class": prompts(z, z.classes, whole)})
    rows, found = {kind: unit(read(clip, x)[0]) for kind, x in ids.items()}, {}
    for branch, kind in (("query", "class"), ("sentence", "sentence")):
        w = {f"{i}.{part}": draw(*shape, std=0.15) for i in (0, 2) for part, shape in (("weight", (z.embed, z.embed)), ("bias", (z.embed,)))}
        hidden = (rows[kind] @ w["0.weight"].T + w["0.bias"]).clamp(min=0)
        found[kind] = unit(hidden @ w["2.weight"].T + w["2.bias"])
        found |= {f"state.{branch}_fc.{key}": value for key, value in w.items()}
    sentences, classes = found.pop("sentence"), found.pop("class")
    return {f"{kind}_tokens": x for kind, x in ids.items()} | {f"{kind}_embeddings": x for kind, x in rows.items()} | dict(logits=sentences @ classes.T) | found


def optimizer_state(clip, head):
    "As torch writes it before the first step."
    groups = [dict(params=[torch.nn.Parameter(x) for x in part.values()], lr=lr) for part, lr in ((clip, 1e-5), (head, 1e-4))]
    return torch.optim.AdamW(groups, weight_decay=0.1).state_dict()


def rounded(found):
    "Arrays as they are stored: float32 where torch computed them, what NumPy made as it is."
    return {key: (value.float() if value.is_floating_point() else value).numpy() if torch.is_tensor(value) else value for key, value in found.items()}


def make(folder, seed=5, **sizes):
    "Write the whole set into `folder`; what is given is rounded to float32 first, so that all start from the same numbers."
    folder, z = Path(folder), argparse.Namespace(**SIZES | sizes)
    folder.mkdir(parents=True, exist_ok=True)
    lot, generator = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    def draw(*shape, std=1.): return (std * torch.randn(*shape, generator=lot)).float().double()
    def whole(below, *shape): return torch.randint(below, shape, generator=lot)
    clip, head = ({key: value.float().double() for key, value in w.items()} for w in (clip_weights(z, draw), temporal_weights(z, draw)))
    heads = max(1, z.text_width // HEAD_WIDTH)
    files = dict(clip_forward=forward_numbers(z, clip, head, heads, draw, whole), attributes_branch=attribute_numbers(z, clip, draw, whole),
                 losses=loss_numbers(z, draw, whole), train_steps=training_numbers(z, clip, head, heads, draw, whole), lr_schedules=schedule_numbers(),
                 frame_sampling=sampled(seed), eval_transforms=crop_numbers(z, generator), metrics=metric_numbers(z, generator))
    for name, found in files.items(): np.savez(folder / f"{name}.npz", **rounded(found))
    (folder / "tokens.json").write_text(json.dumps(word_numbers(z), ensure_ascii=False), encoding="utf-8")
    clip, head = ({key: value.float() for key, value in w.items()} for w in (clip, head))
    plain = dict(epoch=7, model_state_dict=clip, fusion_model_state_dict=head, optimizer_state_dict=optimizer_state(clip, head))
    several = dict(epoch=2, model_state_dict={f"module.{key}": value.half() for key, value in clip.items()},
                   fusion_model_state_dict={f"module.{key}": value for key, value in head.items()}, optimizer_state_dict={})
    torch.save(plain, folder / "official_checkpoint.pt")
    torch.save(several, folder / "official_checkpoint_ddp_fp16.pt")
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A second folder of reference numbers with other sizes.")
    parser.add_argument("folder"), parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    print(make(options.folder, options.seed))
