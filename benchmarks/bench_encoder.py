"""How much faster are frames encoded in bf16 than in fp32?

ViT-B-32 of open_clip with random weights (speed does not depend on their values), one process, two threads. The two
precisions take turns, so that whatever else the machine does hits both; the median of each is compared.

    python benchmarks/bench_encoder.py [--model ViT-B-32] [--frames 64] [--rounds 9] [--threads 2]
"""
import argparse, statistics, time, warnings

import torch

from bike_nb.encoder import load_encoder


def seconds(encoder, frames):
    "Wall time of one pass over the frames."
    start = time.perf_counter()
    encoder.encode_frames(frames, batch_size=len(frames))
    if encoder.device.type == "cuda": torch.cuda.synchronize()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description="Frame encoding: bf16 against fp32.")
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--frames", type=int, default=64, help="frames a pass")
    parser.add_argument("--rounds", type=int, default=9, help="timed passes of each precision")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")         # random weights, on purpose
        encoders = {p: load_encoder(args.model, "none", precision=p) for p in ("fp32", "bf16")}
    frames = torch.randn(args.frames, 3, *encoders["fp32"].image_size)
    times = {p: [] for p in encoders}
    for r in range(args.rounds + 2):            # two rounds to warm up
        for p, encoder in encoders.items():
            t = seconds(encoder, frames)
            if r >= 2: times[p].append(t)
    median = {p: statistics.median(t) for p, t in times.items()}
    ratios = sorted(a / b for a, b in zip(times["fp32"], times["bf16"]))
    a, b = (e.encode_frames(frames[:8]) for e in encoders.values())
    print(f"{args.model}, {args.frames} frames a pass, {args.threads} threads, {encoders['fp32'].device}, median of {args.rounds} alternating passes\n")
    print(f"{'precision':<10}{'ms a pass':>10}{'images/s':>10}{'ratio':>8}")
    for p in encoders:
        print(f"{p:<10}{median[p] * 1e3:>10.0f}{args.frames / median[p]:>10.1f}{median['fp32'] / median[p]:>8.2f}")
    print(f"\nratio round by round: {ratios[0]:.2f} to {ratios[-1]:.2f}; cosine of bf16 with fp32 vectors: at least {torch.cosine_similarity(a, b).min():.4f}")


if __name__ == "__main__": main()
