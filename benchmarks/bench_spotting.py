"""Concept spotting against the textbook einsum and against the bare matrix product: time and memory.

    python benchmarks/bench_spotting.py                       # the sizes of the paper, 8 and 32 frames
    python benchmarks/bench_spotting.py --backward            # with the gradient of the frames (text frozen)

Times are medians of turns: in every turn each candidate runs once, so that a busy machine disturbs all of them alike.
Only ratios within one run mean anything, and on two cores only if nothing else is running (the load is printed).
Memory is the peak of the resident set beyond inputs and libraries, measured in a process of its own for each candidate.
"""
import argparse
import os
import statistics
import subprocess
import sys
import time


def textbook(frames, tokens, classes, temperature=0.01):
    "The formula as it is written: s[a,b,j,t], softmax over t, mean over j, pooled videos, logits."
    import torch
    from torch.nn.functional import normalize
    w, f, c = (normalize(x, dim=-1) for x in (tokens, frames, classes))
    saliency = (torch.einsum("ajd,btd->abjt", w, f) / temperature).softmax(-1).mean(2)
    return torch.einsum("abd,ad->ba", torch.einsum("abt,btd->abd", saliency, f), c)


def textbook_ordered(frames, tokens, classes, temperature=0.01):
    "The same with the cosines as s[a,j,b,t], the order in which the product yields them: the einsum at its best."
    import torch
    from torch.nn.functional import normalize
    w, f, c = (normalize(x, dim=-1) for x in (tokens, frames, classes))
    saliency = (torch.einsum("ajd,btd->ajbt", w, f) / temperature).softmax(-1).mean(1)
    return torch.einsum("abd,ad->ba", torch.einsum("abt,btd->abd", saliency, f), c)


def make(args, frames, dtype):
    "Random embeddings; the frames of a video resemble each other."
    import torch
    torch.manual_seed(0)
    D = args.width
    f = torch.empty(args.videos, frames, D, dtype=dtype).normal_().add_(torch.randn(args.videos, 1, D).to(dtype))
    return f, torch.empty(args.classes, args.tokens, D, dtype=dtype).normal_(), torch.empty(args.classes, D, dtype=dtype).normal_()


def name_mask(args):
    "Three words of each name vote."
    import torch
    return (torch.arange(args.tokens) // 3 == 1).repeat(args.classes, 1)


def candidates(args, frames):
    "Name -> a function that runs once."
    import torch
    from bike_nb.spotting import concept_spotting
    exact, half, mask = make(args, frames, torch.float32), make(args, frames, torch.bfloat16), name_mask(args)
    rows, columns = exact[1].flatten(0, 1), exact[0].flatten(0, 1).t().contiguous()
    product = torch.empty(len(rows), columns.shape[1])
    low = rows.bfloat16(), columns.bfloat16()
    return {
        "einsum a,b,j,t (textbook)": lambda: textbook(*exact),
        "einsum a,j,b,t": lambda: textbook_ordered(*exact),
        "product, into a given buffer": lambda: torch.mm(rows, columns, out=product),
        "product, new result": lambda: rows @ columns,
        "concept_spotting": lambda: concept_spotting(*exact),
        "  3 words of each name vote": lambda: concept_spotting(*exact, mask=mask),
        "einsum a,b,j,t, bf16": lambda: textbook(*half),
        "product, bf16, new result": lambda: low[0] @ low[1],
        "concept_spotting, bf16": lambda: concept_spotting(*half),
    }


def backward_candidates(args, frames):
    "Name -> a function that runs once forwards and backwards to the frames."
    import torch
    from bike_nb.spotting import concept_spotting
    exact, half = make(args, frames, torch.float32), make(args, frames, torch.bfloat16)
    for x in (exact, half): x[0].requires_grad_()
    rows, columns = exact[1].flatten(0, 1), exact[0].detach().flatten(0, 1).t().contiguous()
    def train(fn, inputs):
        inputs[0].grad = None
        fn(*inputs).square().sum().backward()
    def products():
        product = rows @ columns
        torch.mm(rows, columns, out=product)
        rows.t() @ product
    return {
        "einsum a,b,j,t (textbook)": lambda: train(textbook, exact),
        "three products": products,
        "concept_spotting": lambda: train(concept_spotting, exact),
        "concept_spotting, bf16": lambda: train(concept_spotting, half),
    }


def take_turns(runs, turns):
    "Seconds of each run, one of each in every turn; the first turn warms up and does not count."
    seconds = {name: [] for name in runs}
    for turn in range(turns + 1):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            if turn: seconds[name].append(time.perf_counter() - begin)
    return seconds


def resident_peak():
    "Most memory this process ever held, in MB."
    if os.path.exists("/proc/self/status"):
        with open("/proc/self/status") as lines: return next(int(x.split()[1]) for x in lines if x.startswith("VmHWM")) / 1e3
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def measure_memory(args):
    "In a process of its own: run one candidate once, and print by how much the peak grew."
    import contextlib
    import torch
    from bike_nb.spotting import concept_spotting
    fn = {"einsum": textbook, "ordered": textbook_ordered}.get(args.memory_of, concept_spotting)
    small = argparse.Namespace(**{**vars(args), "classes": 8, "videos": 2})
    dtype = getattr(torch, args.dtype)
    def run(args):
        f, w, c = make(args, args.frames[0], dtype)
        f.requires_grad_(args.backward)
        mask = {"mask": name_mask(args)} if args.memory_of == "words" else {}
        before = resident_peak()
        with contextlib.nullcontext() if args.backward else torch.inference_mode():
            out = fn(f, w, c, **mask)
            if args.backward: out.square().sum().backward()
        return resident_peak() - before
    run(small)
    print(run(args))


def memory(args, what, frames, dtype="float32"):
    sizes = [f"--{key}={getattr(args, key)}" for key in ("classes", "videos", "width", "tokens", "threads")]
    command = [sys.executable, __file__, f"--memory-of={what}", f"--dtype={dtype}", f"--frames={frames}", *sizes, *["--backward"] * args.backward]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def table(seconds, extra):
    "Print one line a candidate: time, ratios, memory."
    import torch
    middle = {name: statistics.median(x) for name, x in seconds.items()}
    einsum = next(iter(middle.values()))
    base = next(x for name, x in middle.items() if "product" in name)
    print(f"{'':30}{'median':>9}{'fastest':>10}{'÷ product':>11}{'einsum ÷':>10}{'memory':>10}")
    for name, x in middle.items():
        mb = f"{extra[name]:7.0f} MB" if name in extra else ""
        print(f"{name:30}{x * 1e3:6.0f} ms{min(seconds[name]) * 1e3:7.0f} ms{x / base:11.2f}{einsum / x:9.1f}×{mb:>10}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=400)
    parser.add_argument("--videos", type=int, default=64)
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--tokens", type=int, default=77)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--backward", action="store_true", help="forwards and backwards to the frames, text frozen")
    parser.add_argument("--dtype", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    import torch
    torch.set_num_threads(args.threads)
    if args.memory_of: return measure_memory(args)
    for frames in args.frames:
        print(f"\n{'forward and backward' if args.backward else 'forward'}: {args.classes} classes × {args.videos} videos × {frames} frames, "
              f"{args.tokens} tokens, width {args.width}; {args.threads} threads, {args.turns} turns, torch {torch.__version__}"
              + (f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""))
        asked = {"einsum a,b,j,t (textbook)": ("einsum", "float32"), "concept_spotting": ("fast", "float32"), "concept_spotting, bf16": ("fast", "bfloat16")}
        if not args.backward: asked |= {"einsum a,j,b,t": ("ordered", "float32"), "  3 words of each name vote": ("words", "float32")}
        extra = {name: memory(args, what, frames, dtype) for name, (what, dtype) in asked.items()}
        with torch.enable_grad() if args.backward else torch.inference_mode():
            table(take_turns((backward_candidates if args.backward else candidates)(args, frames), args.turns), extra)


if __name__ == "__main__": main()
