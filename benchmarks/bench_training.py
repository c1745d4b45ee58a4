"""How much faster is a training step than a plain loop, and how much memory does it take?

The plain loop is what one would write after the official `train.py`: it encodes the text of the batch's classes in every step, spots concepts by
einsum over all tokens, and keeps what autograd needs; autocast in fp16 with a scaler on a GPU, fp32 on a CPU. Ours is `bike_nb.training`'s
learner as `fit` uses it: frozen text encoded once, spotting without stored attention, precision `auto`. Same model, same
random clips; the two take turns, so that whatever else the machine does hits both.

    python benchmarks/bench_training.py                                     # GPU: ViT-B-16, batch 32; CPU: ViT-B-32, batch 8
    python benchmarks/bench_training.py --model ViT-B-16 --batch 32 --frames 8 --rounds 10
"""
import argparse, statistics, time

import torch
from torch.nn.functional import normalize

from bike_nb.losses import NCELoss, contrastive_targets, symmetric
from bike_nb.model import from_network
from bike_nb.training import Learner, TrainConfig, make_optimizer, pick_precision, set_rate

CLASSES = 400


def textbook_spotting(frames, tokens, classes):
    "Concept spotting as the paper writes it."
    f, w, c = (normalize(x, dim=-1) for x in (frames, tokens, classes))
    weights = (torch.einsum("awd,btd->abwt", w, f) / 0.01).softmax(-1).mean(2)
    return torch.einsum("abd,ad->ab", torch.einsum("abt,btd->abd", weights, f), c).t()


def setup(args, device):
    config = TrainConfig.from_dict({"network": {"arch": args.model, "init": False, "sim_header": "Transf"}, "solver": {"precision": args.precision}})
    model = from_network(config.network).to(device).train()
    return config, model, make_optimizer(model, config)


class Plain:
    "The loop one would write."
    def __init__(self, args, device, names):
        self.config, self.model, self.optimizer = setup(args, device)
        self.ids = self.model.tokenizer(["This is a video about " + n for n in names]).to(device)
        self.half = torch.float16 if device.type == "cuda" else None
        self.scaler, self.device = torch.amp.GradScaler(device.type, enabled=self.half is not None), device

    def step(self, frames, labels):
        with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
            classes, tokens = self.model.encode_ids(self.ids[labels])
            video = self.model.video.look(self.model.encode_frames(frames))
            logits = self.model.scale * textbook_spotting(video, tokens, classes)
            loss = symmetric(NCELoss(), logits, contrastive_targets(labels))
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward(); self.scaler.step(self.optimizer); self.scaler.update()
        return loss.item()


class Ours:
    "The step of `fit`."
    def __init__(self, args, device, names):
        self.config, self.model, self.optimizer = setup(args, device)
        _, self.half, scaled = pick_precision(args.precision, device)
        self.learner, self.scaler, self.device = Learner(self.model, names, self.config), torch.amp.GradScaler(device.type, enabled=scaled), device
        if device.type == "cuda": torch.set_float32_matmul_precision("high"); self.model.clip.visual.to(memory_format=torch.channels_last)
        if args.compile: self.model.clip.visual.compile()

    def step(self, frames, labels):
        with torch.autocast(self.device.type, self.half, enabled=self.half is not None): loss = sum(self.learner({"frames": frames[:, None], "label": labels}).values())
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward(); self.scaler.step(self.optimizer); self.scaler.update()
        return loss.item()


def measure(loop, frames, labels, device):
    "Seconds and peak memory of a step."
    if device.type == "cuda": torch.cuda.synchronize(); torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    loop.step(frames, labels)
    if device.type == "cuda": torch.cuda.synchronize()
    return time.perf_counter() - start, torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else float("nan")


def main():
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description="A training step: ours against a plain loop.")
    parser.add_argument("--model", default="ViT-B-16" if cuda else "ViT-B-32")
    parser.add_argument("--batch", type=int, default=32 if cuda else 8)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=20 if cuda else 5)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if cuda else "cpu")
    names, generator = [f"class number {i}" for i in range(CLASSES)], torch.Generator().manual_seed(0)
    results = {}
    for name, kind in (("plain loop", Plain), ("bike_nb", Ours)):
        loop = kind(args, device, names)
        size = loop.model.image_size
        frames = torch.randn(args.batch, args.frames, 3, *size, generator=generator).to(device)
        labels = torch.randint(CLASSES, (args.batch,), generator=generator).to(device)
        set_rate(loop.optimizer, 0.0)                       # the weights stay: both see the same work in every round
        for _ in range(2): loop.step(frames, labels)        # warm up, and encode what is encoded once
        results[name] = [loop, frames, labels, [], []]
        if cuda:                                            # one after the other: memory is measured, too
            for _ in range(args.rounds): s, m = measure(loop, frames, labels, device); results[name][3].append(s); results[name][4].append(m)
            results[name][0] = None; del loop; torch.cuda.empty_cache()
    for _ in range(0 if cuda else args.rounds):
        for r in results.values(): r[3].append(measure(*r[:3], device)[0])
    seconds = {n: statistics.median(r[3]) for n, r in results.items()}
    where = torch.cuda.get_device_name() if cuda else f"CPU, {args.threads} threads"
    print(f"{args.model}, {args.batch} clips of {args.frames} frames, {CLASSES} classes, text frozen, temporal transformer; {where}; median of {args.rounds} steps\n")
    print(f"{'':<12}{'s a step':>10}{'clips/s':>10}{'ratio':>8}" + (f"{'GiB':>8}{'ratio':>8}" if cuda else ""))
    for n, r in results.items():
        memory = f"{max(r[4]):>8.2f}{max(r[4]) / max(results['plain loop'][4]):>8.2f}" if cuda else ""
        print(f"{n:<12}{seconds[n]:>10.3f}{args.batch / seconds[n]:>10.2f}{seconds['plain loop'] / seconds[n]:>8.2f}{memory}")
    if not cuda: print("\nmemory: measured on a GPU only")


if __name__ == "__main__": main()
