"""Train the tiny model from nothing on the miniature world.

    python scripts/train_tiny.py                 # about an hour on 2 CPU cores; --steps, --frames, --processes to change that
    python scripts/train_tiny.py                 # again: goes on from the last checkpoint
    python scripts/train_tiny.py --export-only   # write the model of the last checkpoint

The recipe: open_clip's CLIP (ModifiedResNet of width 24, text width 128 in 3 layers), frames drawn once, captions drawn
afresh at every step, InfoNCE in which pairs that are true as well do not count as wrong, plus half the same loss for one
token of each caption, so that single tokens and padding mean something; captions in a false colour are extra negatives.
"""
import argparse, json, math, random, sys, tempfile, time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from tqdm import tqdm

from bike_nb import world
from bike_nb.encoder import save_encoder, token_embeddings

MODEL_CFG = {
    "embed_dim": 192,
    "vision_cfg": {"image_size": 96, "layers": [1, 1, 1, 1], "width": 24, "patch_size": None},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 3},
}
PREPROCESS_CFG = {"size": [96, 96], "mode": "RGB", "mean": [0.5, 0.5, 0.5], "std": [0.27, 0.27, 0.27],
                  "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0}
TRAIN_SEEDS = 10_000_000  # clips of smaller seeds are never seen in training


def draw_frames(n, seed):
    "Frames (n, 3, 96, 96) uint8 of n different clips, two thirds of them from within the action, with clip and second of each."
    rng, names = random.Random(seed), list(world.ACTIONS)
    frames, where = np.empty((n, 96, 96, 3), np.uint8), []
    for i in tqdm(range(n), desc="drawing", mininterval=5):
        clip = world.sample_clip(TRAIN_SEEDS + seed * 1_000_000 + i, names[i % len(names)])
        t = rng.uniform(clip.start, clip.end) if rng.random() < .67 else rng.uniform(0, clip.duration)
        frames[i] = world.render_frame(clip, t)
        where.append((clip, t))
    return torch.from_numpy(frames).permute(0, 3, 1, 2), where


def all_facts():
    "Every fact that a caption can state, in a fixed order."
    coloured = world.COLOURED + [a.coloured for a in world.ACTIONS.values() if a.coloured]
    named = [world.coloured_phrase(a, c) for a in world.ACTIONS for c in world.COLOURS]
    return list(dict.fromkeys([*world.vocabulary(), *(f"{c} {n}" for n in coloured for c in world.COLOURS), *named]))


def false_colour(text, said, rng):
    "The caption with its first colour replaced by another one, and the facts it then states; None if it names no colour."
    for c in world.COLOURS:
        if any(f.startswith(c + " ") or f" {c} " in f for f in said):
            other = rng.choice([q for q in world.COLOURS if q != c])
            swap = lambda s: s.replace("an orange ", "a orange ").replace(c + " ", other + " ").replace("a orange ", "an orange ")
            return swap(text), {swap(f) for f in said}
    return None


class Captions:
    "Draws captions and keeps their token ids and facts."
    def __init__(self, tokenizer, context):
        self.tokenizer, self.context, self.cache = tokenizer, context, {}
        self.index = {f: i for i, f in enumerate(all_facts())}

    def tokens(self, texts):
        for t in texts:
            if t not in self.cache: self.cache[t] = self.tokenizer([t], context_length=self.context)[0]
        return torch.stack([self.cache[t] for t in texts])

    def multi_hot(self, sets):
        out = torch.zeros(len(sets), len(self.index))
        for row, said in zip(out, sets): row[[self.index[f] for f in said if f in self.index]] = 1
        return out

    def draw(self, where, rng, extra):
        said = [world.caption(clip, t, rng) for clip, t in where]
        false = [f for f in (false_colour(*s, rng) for s in said) if f][:extra]
        texts, facts = zip(*(said + false))
        return self.tokens(texts), self.multi_hot(facts)


def trained_tokens(tokenizer, context):
    "Ids of every token that a caption can hold, padding included."
    texts = {t.format(p) for t in world.TEMPLATES for p in all_facts()} | {f"{world.noun_phrase('person')} and {p}" for p in all_facts()}
    texts |= {world.noun_phrase(n, c) for n in [*world.PROPS, *(w for a in world.ACTIONS.values() for w in a.words)] for c in (None, *world.COLOURS)}
    texts |= set(world.PLACE.values()) | {"This is a video about person,red kite"}
    ids = {0}
    for t in texts: ids |= set(tokenizer([t], context_length=context)[0].tolist())
    return sorted(ids)


def augment(frames):
    "Float frames in [0, 1]: mirrored, moved by a few pixels, other brightness and contrast, a little noise."
    n = len(frames)
    x = frames.float() / 255
    x = torch.where((torch.rand(n, 1, 1, 1) < .5), x.flip(-1), x)
    dx, dy = np.random.randint(0, 9, 2)
    x = F.pad(x, (4, 4, 4, 4), mode="replicate")[:, :, dy:dy + 96, dx:dx + 96]
    x = (x - .5) * torch.empty(n, 1, 1, 1).uniform_(.8, 1.2) + .5 + torch.empty(n, 1, 1, 1).uniform_(-.08, .08)
    if random.random() < .25: x = F.interpolate(F.interpolate(x, scale_factor=.75, mode="bilinear", antialias=True), size=(96, 96), mode="bicubic")
    return (x + torch.randn_like(x) * .02 * random.random()).clamp(0, 1)


def masked_nce(frames, texts, scale, true):
    "InfoNCE in both directions; `true` (n, m) pairs off the diagonal are left out of the denominators. m >= n: the rest are negatives."
    n = len(frames)
    logits = scale * F.normalize(frames, dim=-1).float() @ F.normalize(texts, dim=-1).float().T
    other = true.clone()
    other.fill_diagonal_(False)
    logits = logits.masked_fill(other, float("-inf"))
    target = torch.arange(n)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits[:, :n].T, target)) / 2


def build(seed):
    from open_clip import CLIP
    torch.manual_seed(seed)
    model = CLIP(**MODEL_CFG)
    with torch.no_grad(): model.logit_scale.fill_(math.log(30))
    return model


def average_gradients(model, processes):
    "The mean over the processes, each of which has seen its own part of the batch."
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in grads])
    dist.all_reduce(flat)
    for g, part in zip(grads, flat.div_(processes).split([g.numel() for g in grads])): g.copy_(part.view_as(g))


def loss_of(model, x, ids, true, context):
    "The contrastive loss of whole captions, plus half that of one token of each (start, word, end or padding)."
    with torch.autocast("cpu", torch.bfloat16):
        f = model.visual(x)
        once, back = ids.unique(dim=0, return_inverse=True)  # short captions come up several times in a batch
        ends, tokens = (y[back] for y in token_embeddings(model, once))
        anywhere = torch.randint(0, context, (len(ids),))
        position = torch.where(torch.rand(len(ids)) < .5, anywhere, 1 + anywhere % ids.argmax(-1))
        one = tokens[torch.arange(len(ids)), position]
    scale = model.logit_scale.exp()
    return masked_nce(f, ends, scale, true) + .5 * masked_nce(f, one, scale, true)


def train(rank, args, meeting):
    "One process of the training; the first one reports and writes the checkpoints."
    from open_clip import SimpleTokenizer
    torch.set_num_threads(1)
    if args.processes > 1: dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=args.processes)
    context = MODEL_CFG["text_cfg"]["context_length"]
    captions = Captions(SimpleTokenizer(context_length=context), context)
    model = build(args.seed)
    groups = [{"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": .05}, {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(.9, .98))
    first, spent, log, file = 0, 0., [], args.out / "checkpoint.pt"
    if file.exists():
        state = torch.load(file, weights_only=True)
        model.load_state_dict(state["model"]); optimizer.load_state_dict(state["optimizer"])
        first, spent, log = state["step"], state["seconds"], state["log"]
    if first >= args.steps: return
    batch = args.batch // args.processes
    frames, where = draw_frames(args.frames // args.processes, args.seed * 64 + rank)
    shown = torch.stack([captions.multi_hot([world.facts(c, t)])[0].bool() for c, t in where])
    mean, std = (torch.tensor(PREPROCESS_CFG[k]).view(3, 1, 1) for k in ("mean", "std"))
    model.train().to(memory_format=torch.channels_last)
    began = time.time()
    for step in (bar := tqdm(range(first, args.steps), initial=first, total=args.steps, desc="training", mininterval=5, disable=rank > 0)):
        lot = (args.seed * 64 + rank) * 1_000_003 + step
        rng = random.Random(lot); random.seed(lot); np.random.seed(lot % 2**32); torch.manual_seed(lot)
        pick = rng.sample(range(len(where)), batch)
        ids, said = captions.draw([where[i] for i in pick], rng, batch // 8)
        true = shown[pick].float() @ said.T == said.sum(1)
        x = ((augment(frames[pick]) - mean) / std).contiguous(memory_format=torch.channels_last)
        for g in optimizer.param_groups: g["lr"] = args.lr * min(1, (step + 1) / 150) * (.5 + .5 * math.cos(math.pi * step / args.steps))
        loss = loss_of(model, x, ids, true, context)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if args.processes > 1: average_gradients(model, args.processes)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.)
        optimizer.step()
        with torch.no_grad(): model.logit_scale.clamp_(0, math.log(100))
        log.append(round(loss.item(), 4))
        if step % 20 == 0: bar.set_postfix(loss=f"{np.mean(log[-50:]):.3f}", scale=f"{model.logit_scale.exp().item():.0f}")
        if rank == 0 and ((step + 1) % 100 == 0 or step + 1 == args.steps):
            torch.save(dict(model=model.state_dict(), optimizer=optimizer.state_dict(), step=step + 1, seconds=spent + time.time() - began, log=log), file.with_suffix(".new"))
            file.with_suffix(".new").replace(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1900)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--frames", type=int, default=64_000)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2, help="of one thread each; they share the batch")
    parser.add_argument("--out", type=Path, default=Path("runs/tiny"), help="checkpoints")
    parser.add_argument("--model", type=Path, default=Path("bike_nb/models/tiny"), help="where the finished model goes")
    parser.add_argument("--export-only", action="store_true")
    parser.add_argument("--remark", default="", help="a sentence for the model card, if the training did not run as the command says")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.export_only:
        with tempfile.TemporaryDirectory() as folder:
            meeting = Path(folder, "meeting").as_posix()
            if args.processes > 1: torch.multiprocessing.spawn(train, (args, meeting), nprocs=args.processes)
            else: train(0, args, meeting)
    state = torch.load(args.out / "checkpoint.pt", weights_only=True)
    model = build(args.seed)
    model.load_state_dict(state["model"])
    from open_clip import SimpleTokenizer
    rows = trained_tokens(SimpleTokenizer(context_length=32), 32)
    save_encoder(model.eval(), args.model, MODEL_CFG, PREPROCESS_CFG, token_rows=rows)
    facts = dict(command=f"python scripts/train_tiny.py --steps {args.steps} --frames {args.frames} --seed {args.seed}", seed=args.seed, steps=state["step"], batch=args.batch, frames=args.frames,
                 minutes=round(state["seconds"] / 60, 1), processes=args.processes, torch=torch.__version__, final_loss=round(float(np.mean(state["log"][-100:])), 3), token_rows=len(rows), remark=args.remark)
    (args.model / "training.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
