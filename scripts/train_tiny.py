"""Train the tiny model from nothing on the miniature world.

    python scripts/train_tiny.py --steps 3400 --minutes 54    # as the packaged one, on 2 CPU cores; on a GPU, --steps alone decides
    python scripts/train_tiny.py                 # all --steps
    python scripts/train_tiny.py                 # again: goes on from the last checkpoint
    python scripts/train_tiny.py --export-only   # write the model of the last checkpoint
    python scripts/train_tiny.py --arch small --teacher tiny --minutes 60    # a ViT

The recipe: open_clip's CLIP, frames and captions drawn once by code, InfoNCE in which pairs that are true as well do not count
as wrong, plus half the same loss for one token of each caption, so that single tokens and padding mean something. For colours:
captions in a false colour are extra negatives; a share of the frames come as twins that differ in the colour of one thing; each
coloured thing of a frame is asked for its colour (cross-entropy over the noun's colours), and the frame for all its things'
colours; a third of the places come in colours that they never have. Pairs of thing and colour in `world.HELD_OUT` are in none of this, neither as a picture nor as a wrong answer.
"""
import argparse, json, math, os, platform, random, tempfile, time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from tqdm import tqdm

from bike_nb import world
from bike_nb.encoder import class_embeddings, load_encoder, save_encoder
from bike_nb.spotting import bfloat16_pays
from tiny_data import COLOURS, CONTEXT, NOUNS, TRAIN_SEEDS, Captions, all_facts, draw  # noqa: F401 (two are for the tests)

VISION = {"tiny": {"image_size": 96, "layers": [1, 1, 1, 1], "width": 24, "patch_size": None},       # ModifiedResNet
          "small": {"image_size": 96, "layers": 4, "width": 160, "head_width": 32, "patch_size": 16}}  # ViT
SHORT = 14  # most captions end before this position of the text tower
PREPROCESS_CFG = {"size": [96, 96], "mode": "RGB", "mean": [0.5, 0.5, 0.5], "std": [0.27, 0.27, 0.27],
                  "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0}


def model_cfg(arch, vocab_size=49408):
    return {"embed_dim": 192, "vision_cfg": VISION[arch], "text_cfg": {"context_length": CONTEXT, "vocab_size": vocab_size, "width": 128, "heads": 4, "layers": 3}}


def augment(frames, noise):
    "Normalized float frames: mirrored, moved by a few pixels, other brightness and contrast, a little noise (cut from a longer strip of it), sometimes blurred."
    n, dev = len(frames), frames.device
    x = torch.where(torch.rand(n, 1, 1, 1, device=dev) < .5, frames.flip(-1), frames)
    y, z = ((torch.arange(96, device=dev) + random.randint(-4, 4)).clamp(0, 95) for _ in range(2))
    x = x[:, :, y][:, :, :, z].float()
    gain, shift = (torch.empty(n, 1, 1, 1, device=dev).uniform_(*r) for r in ((.8, 1.2), (-.08, .08)))
    x = x.mul_(gain / 255).add_(.5 + shift - .5 * gain)
    if random.random() < .2: x = F.interpolate(F.interpolate(x, scale_factor=.75, mode="bilinear"), size=(96, 96), mode="bilinear")
    start = random.randrange(len(noise) - x.numel())
    x = x.add_(noise[start:start + x.numel()].view_as(x), alpha=.02 * random.random()).clamp_(0, 1)
    return x.sub_(PREPROCESS_CFG["mean"][0]).div_(PREPROCESS_CFG["std"][0]).contiguous(memory_format=torch.channels_last)


def masked_nce(frames, texts, scale, true):
    "InfoNCE in both directions; `true` (n, m) pairs off the diagonal are left out of the denominators. m >= n: the rest are negatives."
    n = len(frames)
    logits = scale * F.normalize(frames.float(), dim=-1) @ F.normalize(texts.float(), dim=-1).T
    logits = logits.masked_fill(true & ~torch.eye(*true.shape, dtype=torch.bool, device=true.device), float("-inf"))
    target = torch.arange(n, device=true.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits[:, :n].T, target)) / 2


def text_states(model, ids):
    "Every token in the shared space, as `encoder.token_embeddings` has them, for ids cut to any length."
    n = ids.shape[1]
    x = model.transformer(model.token_embedding(ids) + model.positional_embedding[:n], attn_mask=model.attn_mask[:n, :n])
    return model.ln_final(x) @ model.text_projection


def sentence_and_token(model, ids):
    "Of each caption the sentence, and one token (start, word, end or padding). Three times in four, short captions are computed without most of their padding."
    once, back = ids.unique(dim=0, return_inverse=True)  # short captions come up several times in a batch
    end, anywhere, word = once.argmax(-1), torch.rand(len(once), device=ids.device), torch.rand(len(once), device=ids.device) < .5
    width = torch.where((end < SHORT) & (random.random() < .75), SHORT, CONTEXT)
    sentences, tokens, order = [], [], []
    for w in (SHORT, CONTEXT):
        rows = (width == w).nonzero()[:, 0]
        if not len(rows): continue
        states, r = text_states(model, once[rows, :w]), torch.arange(len(rows), device=ids.device)
        position = torch.where(word[rows], 1 + (anywhere[rows] * end[rows]).long(), (anywhere[rows] * w).long())
        sentences.append(states[r, end[rows]]); tokens.append(states[r, position]); order.append(rows)
    place = torch.cat(order).argsort()[back]
    return torch.cat(sentences)[place], torch.cat(tokens)[place]


class ColourQuestions:
    """Which of its colours does a thing have? Cross-entropy over the texts `colour noun`, held-out pairs left out of the answers.
    And which colours do things have at all? The same over the mean text of each colour, so that a colour is one direction for all nouns."""
    def __init__(self, captions, device):
        pairs = [(n, c) for n in NOUNS for c in COLOURS if (n, c) not in world.HELD_OUT]
        self.ids = [captions.tokens([t.format(f"{c} {n}") for n, c in pairs]).to(device) for t in ("{}", "{}", "a photo of {}", "This is a video about {}")]
        self.cell = torch.tensor([NOUNS.index(n) * len(COLOURS) + COLOURS.index(c) for n, c in pairs], device=device)
        self.colour = F.one_hot(self.cell % len(COLOURS), len(COLOURS)).float()

    def texts(self, model): return class_embeddings(model, random.choice(self.ids))

    def loss(self, f, texts, asked, scale):
        "`asked`: for each frame what `questions` says."
        f, texts, dev = F.normalize(f.float(), dim=-1), F.normalize(texts.float(), dim=-1), f.device
        frame, noun, colour = torch.tensor([(i, n, c) for i, (q, _) in enumerate(asked) for n, c in q], device=dev).T
        logits = torch.full((len(f), len(NOUNS) * len(COLOURS)), float("-inf"), device=dev)
        logits[:, self.cell] = scale * f @ texts.T
        one = F.cross_entropy(logits.view(len(f), len(NOUNS), -1)[frame, noun], colour)
        frame, colour = torch.tensor([(i, c) for i, (_, cs) in enumerate(asked) for c in cs], device=dev).T
        there = torch.zeros(len(f), len(COLOURS), dtype=torch.bool, device=dev)
        there[frame, colour] = True
        others = there[frame] & ~F.one_hot(colour, len(COLOURS)).bool()  # also true: no wrong answers
        any_noun = scale * f @ F.normalize(self.colour.T @ texts, dim=-1).T
        return one, F.cross_entropy(any_noun[frame].masked_fill(others, float("-inf")), colour)


class Probe:
    "Colour among nine of the things in fresh frames, of pairs from training or held out: a glance at how the training goes."
    def __init__(self, captions, device, n=200):
        self.sets, rng = [], random.Random(0)
        self.ids = captions.tokens([f"{c} {n}" for n in NOUNS for c in COLOURS]).to(device)
        for held in (False, True):
            frames, asked = [], []
            for i in range(n):
                clip = world.sample_clip(9_000_000 + i, held_out=held)
                t = rng.uniform(clip.start, clip.end)
                seen = [(m, c) for m, c in world.nouns(clip, t) if c and m in NOUNS]
                asked += [(i, NOUNS.index(m), COLOURS.index(c)) for m, c in seen if ((m, c) in world.HELD_OUT) == held and sum(m == o for o, _ in seen) == 1]
                frames.append(world.render_frame(clip, t))
            x = (torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255 - .5) / PREPROCESS_CFG["std"][0]
            self.sets.append((x.to(device), torch.tensor(asked, device=device).T))

    @torch.no_grad()
    def __call__(self, model):
        model.eval()
        text = F.normalize(class_embeddings(model, self.ids), dim=-1)
        share = [((F.normalize(model.visual(x), dim=-1) @ text.T).view(len(x), len(NOUNS), -1)[i, n].argmax(-1) == c).float().mean().item() for x, (i, n, c) in self.sets]
        model.train()
        return "colour among nine: {:.3f} seen, {:.3f} held-out".format(*share)


def build(arch, rows, seed, start=None):
    "A CLIP that knows the given rows of the vocabulary; `start`, an encoder's name or folder, gives its weights where the shapes agree."
    from open_clip import CLIP
    torch.manual_seed(seed)
    model = CLIP(**model_cfg(arch, len(rows)))
    with torch.no_grad(): model.logit_scale.fill_(math.log(30))
    if start:
        state, own = load_encoder(start, device="cpu").model.state_dict(), model.state_dict()
        state["token_embedding.weight"] = state["token_embedding.weight"][rows]
        model.load_state_dict({k: state[k] if k in state and state[k].shape == v.shape else v for k, v in own.items()})
    return model


def average_gradients(model, processes):
    "The mean over the processes, each of which has seen its own part of the batch."
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in grads])
    dist.all_reduce(flat)
    for g, part in zip(grads, flat.div_(processes).split([g.numel() for g in grads])): g.copy_(part.view_as(g))


def train(rank, args, meeting):
    "One process of the training; the first one reports and writes the checkpoints."
    device, several = torch.device(args.device), args.processes > 1
    if device.type == "cpu": torch.set_num_threads(1)
    if several: dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=args.processes)
    captions = Captions()
    model = build(args.arch, captions.rows, args.seed, args.start or args.teacher).to(device)
    teacher = build("tiny", captions.rows, 0, args.teacher).visual.to(device).eval() if args.teacher else None
    groups = [{"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": .05}, {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(.9, .98))
    first, spent, log, file = 0, 0., [], args.out / "checkpoint.pt"
    if file.exists():
        state = torch.load(file, weights_only=True, map_location=device)
        model.load_state_dict(state["model"]); optimizer.load_state_dict(state["optimizer"])
        first, spent, log = state["step"], state["seconds"], state["log"]
    if first >= args.steps: return
    batch, began = args.batch // args.processes, time.time()
    frames, facts, said, asked = draw(args.frames // args.processes, args.seed * 64 + rank, args.twins, rank == 0)
    captions.of(facts, said)
    colours, probe, frames = ColourQuestions(captions, device), Probe(captions, device) if rank == 0 else None, frames.to(device)
    noise = torch.randn(2 * batch * 3 * 96 * 96, device=device)
    model.train().to(memory_format=torch.channels_last)
    if device.type == "cpu": torch.backends.cuda.enable_flash_sdp(False)  # on a CPU, too; for short sequences the plain formula is faster
    for step in (bar := tqdm(range(first, args.steps), initial=first, total=args.steps, desc="training", mininterval=5, disable=rank > 0)):
        lot = (args.seed * 64 + rank) * 1_000_003 + step
        rng = random.Random(lot); random.seed(lot); torch.manual_seed(lot)
        pick = [i + k for i in rng.sample(range(0, len(said) - 1, 2), batch // 2) for k in (0, 1)]
        ids, true = (y.to(device) for y in captions.draw(pick, rng, batch // 8))
        x = augment(frames[pick], noise)
        done = torch.tensor(min(1., max(step / args.steps, (spent + time.time() - began) / 60 / args.minutes)), dtype=torch.float32)
        if several: dist.broadcast(done, 0)  # the first process has the clock
        last = step + 1 == args.steps or done == 1
        for g in optimizer.param_groups: g["lr"] = args.lr * min(1, (step + 1) / min(150, args.steps / 8)) * (.5 + .5 * math.cos(math.pi * done.item()))
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_pays(device)):
            f, scale = model.visual(x), model.logit_scale.exp()
            sentences, tokens = sentence_and_token(model, ids)
            answers = colours.texts(model)
            if teacher:
                with torch.no_grad(): goal = teacher(x)
        colour, hue = colours.loss(f, answers, [asked[i] for i in pick], scale)
        loss = masked_nce(f, sentences, scale, true) + .5 * masked_nce(f, tokens, scale, true) + args.colour * colour + args.hue * hue
        if teacher: loss = loss + args.distil * (1 - F.cosine_similarity(f.float(), goal.float()).mean())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if several: average_gradients(model, args.processes)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.)
        optimizer.step()
        with torch.no_grad(): model.logit_scale.clamp_(0, math.log(100))
        log.append(round(loss.item(), 4))
        if step % 20 == 0: bar.set_postfix(loss=f"{np.mean(log[-50:]):.3f}", colour=f"{colour.item():.3f}", hue=f"{hue.item():.3f}", scale=f"{scale.item():.0f}")
        if rank == 0 and ((step + 1) % 200 == 0 or step + 1 in (50, 100) or last): tqdm.write(f"step {step + 1}, {(spent + time.time() - began) / 60:.1f} min, loss {np.mean(log[-50:]):.3f}: {probe(model)}")
        if rank == 0 and ((step + 1) % 100 == 0 or last):
            torch.save(dict(rows=captions.rows, model=model.state_dict(), optimizer=optimizer.state_dict(), step=step + 1, seconds=spent + time.time() - began, log=log), file.with_suffix(".new"))
            file.with_suffix(".new").replace(file)
        if last: break


def export(args):
    "The last checkpoint as a packaged model, with training.json."
    from open_clip import CLIP
    state, model = torch.load(args.out / "checkpoint.pt", weights_only=True, map_location="cpu"), CLIP(**model_cfg(args.arch))
    table = torch.zeros_like(model.token_embedding.weight)
    table[state["rows"]] = state["model"]["token_embedding.weight"]
    model.load_state_dict(state["model"] | {"token_embedding.weight": table})
    save_encoder(model.eval(), args.model, model_cfg(args.arch), PREPROCESS_CFG, token_rows=state["rows"])
    extra = f" --minutes {args.minutes:g}" * (args.minutes < math.inf) + f" --arch {args.arch}" * (args.arch != "tiny") + f" --teacher {args.teacher}" * bool(args.teacher)
    machine = torch.cuda.get_device_name() if args.device == "cuda" else f"{os.cpu_count()} CPU cores, {platform.machine()}"
    facts = dict(command=f"python scripts/train_tiny.py --steps {args.steps} --frames {args.frames} --seed {args.seed}{extra}", seed=args.seed, steps=state["step"], batch=args.batch, frames=args.frames,
                 minutes=round(state["seconds"] / 60, 1), processes=args.processes, machine=machine, torch=torch.__version__, final_loss=round(float(np.mean(state["log"][-100:])), 3), token_rows=len(state["rows"]), remark=args.remark)
    (args.model / "training.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", choices=VISION, default="tiny")
    parser.add_argument("--teacher", help="a trained tiny model, packaged name or folder: its text tower is the start, its frame embeddings are imitated")
    parser.add_argument("--start", help="a trained model of the same architecture to go on from")
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after as many, drawing included; the learning rate falls accordingly")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--frames", type=int, default=64_000)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--colour", type=float, default=1., help="weight of the colour questions")
    parser.add_argument("--hue", type=float, default=.1, help="weight of the question which colours a frame's things have")
    parser.add_argument("--distil", type=float, default=4., help="weight of the teacher's frame embeddings")
    parser.add_argument("--twins", type=float, default=.3, help="share of the pairs of frames that differ in one colour only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--processes", type=int, help="of one thread each; they share the batch (default: 2 on a CPU, 1 on a GPU)")
    parser.add_argument("--out", type=Path, help="checkpoints (default: runs/ARCH)")
    parser.add_argument("--model", type=Path, help="where the finished model goes (default: bike_nb/models/ARCH)")
    parser.add_argument("--export-only", action="store_true")
    parser.add_argument("--remark", default="", help="a sentence for the model card, if the training did not run as the command says")
    args = parser.parse_args()
    if args.device == "auto": args.device = "cuda" if torch.cuda.is_available() else "cpu"
    args.processes = args.processes or (2 if args.device == "cpu" else 1)
    args.out, args.model = args.out or Path("runs", args.arch), args.model or Path("bike_nb/models", args.arch)
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.export_only:
        with tempfile.TemporaryDirectory() as folder:
            meeting = Path(folder, "meeting").as_posix()
            if args.processes > 1: torch.multiprocessing.spawn(train, (args, meeting), nprocs=args.processes)
            else: train(0, args, meeting)
    export(args)


if __name__ == "__main__":
    main()
