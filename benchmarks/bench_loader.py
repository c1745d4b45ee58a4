"""How fast are clips read, and does memory stay flat? Reads thousands of small clips in worker processes and prints what the processes hold.

    python benchmarks/bench_loader.py                    # frame folders and video files, 3,000 clips each, 2 workers
    python benchmarks/bench_loader.py --clips 10000 --workers 4 --records 240000

Memory is what /proc says (Linux): RSS of this process, and of all workers together. Pages that are shared count for each of them."""
import argparse
import os
import tempfile
import time
from pathlib import Path

import torch

from bike_nb.data import Record, VideoDataset, make_loader, train_transform
from bike_nb.splits import write_split


def megabytes(pid): return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def children(pid): return [int(p) for task in Path(f"/proc/{pid}/task").iterdir() for p in (task / "children").read_text().split()]


def records_of(folder, form, clips, size):
    "A small split, written once."
    notes = write_split(folder, "general", clips=dict(train=clips, val=0, test=0), size=size, duration=4., format=form)
    return [Record(c["file"], c["labels"][0], c["num_frames"]) for c in notes["clips"]], notes["classes"]


def run(name, records, classes, root, args):
    "Read `clips` samples of a list that repeats the few records; a line of figures every tenth."
    repeated = (records * (max(args.clips, args.records) // len(records) + 1))[:max(args.clips, args.records)]
    data = VideoDataset(repeated, classes, root, train_transform(args.input), segments=args.segments, modality="RGB" if name == "frames" else "video")
    loader = make_loader(data, args.batch, workers=args.workers, shuffle=True, drop_last=True)
    steps, every, started, figures = args.clips // args.batch, max(1, args.clips // args.batch // 10), time.perf_counter(), []
    print(f"\n{name}: {len(data):,} records, {args.workers} workers\n{'clips':>8} {'clips/s':>8} {'main MB':>8} {'workers MB':>10}")
    for step, batch in enumerate(loader, 1):
        if step % every == 0:
            figures.append((step * args.batch, step * args.batch / (time.perf_counter() - started), megabytes(os.getpid()), sum(map(megabytes, children(os.getpid())))))
            print("{:8,} {:8.1f} {:8.0f} {:10.0f}".format(*figures[-1]), flush=True)
        if step == steps: break
    grown = [figures[-1][k] - figures[1][k] for k in (2, 3)]
    print(f"from {figures[1][0]:,} to {figures[-1][0]:,} clips: main {grown[0]:+.0f} MB, workers {grown[1]:+.0f} MB; missing: {len(loader.missing)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for key, value in dict(clips=3000, workers=2, batch=16, segments=8, input=96, size=120, distinct=40, records=100_000).items(): parser.add_argument(f"--{key}", type=int, default=value)
    parser.add_argument("--form", choices=["frames", "files"], help="only one of the two")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name, form in (("frames", "frames"), ("files", "mp4")):
            if args.form not in (None, name): continue
            records, classes = records_of(Path(folder) / name, form, args.distinct, args.size)
            run(name, records, classes, Path(folder) / name, args)
