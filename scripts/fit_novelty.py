"""Fit, calibrate and measure the novelty of a model of the miniature world: how far a clip lies from anything it was trained on.

    python scripts/fit_novelty.py --model tiny                   # after every training; a minute or two
    python scripts/fit_novelty.py --model tiny --check 2000      # more clips for the figures
    python scripts/fit_novelty.py --model tiny --real my_videos  # with scores of real videos (default: ../shared/clips, if there)

Three piles of clips: training seeds to fit, fresh seeds for the scale, other fresh seeds for the figures. Writes novelty.safetensors and
novelty.json, figures included, into the model's folder (bike_nb.novelty, nbs/14_novelty.ipynb).
"""
import argparse, json, sys, tempfile, time, warnings
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from bike_nb import world
from bike_nb.encoder import load_encoder
from bike_nb.explain import columns
from bike_nb.novelty import LEVELS, changed, fit_novelty, novelty_folder, save_novelty, strangers
from bike_nb.video import VideoError, read_video, write_video

ROOT = Path(__file__).resolve().parents[1]
FIT, FRESH, CHECK = 10_000_000, 5_000_000, 6_000_000  # first seeds: training clips have those from 10,000,000 on
STRATA = [(d, size, film) for size in (96, 240, 320) for film in (False, True) for d in range(len(world.DIFFICULTY))]


def script(seed, i, difficulty, held_out):
    "The i-th clip: two thirds with one action, the others with several, at a bound place, or untrimmed."
    if i % 12 == 3: return world.sample_many(seed, difficulty=difficulty, held_out=held_out)
    if i % 12 == 7: return world.sample_untrimmed(seed, difficulty=difficulty, held_out=held_out)
    action, place = list(world.PLACED.values())[i % len(world.PLACED)] if i % 12 in (5, 11) else (None, None)
    return world.sample_clip(seed, action, difficulty=difficulty, held_out=held_out, place=place)


def filmed(frames, folder, crf=18):
    "Frames as they come back from an H.264 file."
    return read_video(write_video(folder/"clip.mp4", frames, fps=2, crf=crf), len(frames)).frames


def clips(seed, n, frames, folder, what, held_out=None):
    "n clips as (stratum, uint8 (T,H,W,3)), of every difficulty, size and way to arrive in turn."
    for i in tqdm(range(n), desc=what, mininterval=2, leave=False):
        difficulty, size, film = stratum = STRATA[i % len(STRATA)]
        clip = script(seed + i, i // len(STRATA), difficulty, held_out)
        x = world.render(clip, world.frame_times(clip, frames), size)
        yield stratum, filmed(x, folder) if film else x


def row(scores, **what):
    "Figures of a group of clips."
    s = np.array([q.score for q in scores])
    return dict(what, clips=len(s), flagged=int((s > 1).sum()), median=round(float(np.median(s)), 3), largest=round(float(s.max()), 3))


def kinds(novelty, encoder, groups):
    "Middle and share beyond 1 of each kind of frames, and all their multiples."
    found = {name: novelty.score(x, encoder).frames for name, x in groups.items()}
    return {n: dict(frames=len(f), median=round(float(np.median(f)), 3), beyond=round(float((f > 1).mean()), 3)) for n, f in found.items()}, np.concatenate(list(found.values()))


def real_scores(novelty, encoder, folder):
    "Score of each video of a folder that can be read."
    found = {}
    for path in sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in (".mp4", ".mkv", ".mov", ".avi", ".webm")):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found[path.name] = round(novelty.score(read_video(path, 16), encoder).score, 3)
        except VideoError as error: print(error, file=sys.stderr)
    return found


def measure(novelty, encoder, n, folder, real):
    "All figures."
    seen = [(s, novelty.score(x, encoder)) for s, x in clips(CHECK, n, 8, folder, "measuring")]
    inside, group = np.concatenate([q.frames for _, q in seen]), lambda i, v: [q for s, q in seen if s[i] == v]
    found = dict(fresh=[row(group(0, d), difficulty=d) for d in range(len(world.DIFFICULTY))], sizes=[row(group(1, v), size=v) for v in (96, 240, 320)],
                 files=[row(group(2, v), file=v) for v in (False, True)])
    samples = sorted((ROOT/"data_samples").glob("*.mp4"))
    if samples: found["data_samples"] = row([novelty.score(read_video(p, 16), encoder) for p in samples])
    frames = np.concatenate([world.render(c, world.frame_times(c, 2), 192) for c in (world.sample_clip(CHECK + 500_000 + i) for i in range(30))])
    familiar = {"mirrored": frames[:, :, ::-1], "a little brighter": (frames * 1.15).clip(0, 255).astype(np.uint8), "compressed (CRF 35)": filmed(frames, folder, 35)}
    outside = {}
    for name, groups in dict(strangers=strangers(1), changed=changed(frames), familiar=familiar).items(): found[name], outside[name] = kinds(novelty, encoder, groups)
    auroc = lambda x: round(float((x[:, None] > inside).mean()), 5)
    found["auroc"] = {n: auroc(x) for n, x in outside.items() if n != "familiar"}
    if real and Path(real).is_dir() and (scores := real_scores(novelty, encoder, real)): found["real"] = scores
    return found


def report(found):
    "The figures as tables."
    rows = [("clips of the world", "clips", "flagged", "median", "largest")]
    rows += [(f"{k} {r[k]}", *(f"{r[c]:.2f}" if c in ("median", "largest") else str(r[c]) for c in ("clips", "flagged", "median", "largest")))
             for k, g in (("difficulty", "fresh"), ("size", "sizes"), ("file", "files")) for r in found[g]]
    if s := found.get("data_samples"): rows.append(("data_samples", str(s["clips"]), str(s["flagged"]), f"{s['median']:.2f}", f"{s['largest']:.2f}"))
    parts = [columns(rows, right=(1, 2, 3, 4))]
    for name in ("strangers", "changed", "familiar"):
        parts.append(columns([(f"frames: {name}", "median", "beyond 1"), *((n, f"{r['median']:.2f}", f"{r['beyond']:.0%}") for n, r in found[name].items())], right=(1, 2)))
    parts.append("AUROC of frames against fresh ones: " + ", ".join(f"{n} {v:.4f}" for n, v in found["auroc"].items()))
    if r := found.get("real"):
        parts.append(columns([("real videos", "score"), *((n, f"{v:.2f}") for n, v in r.items())], right=(1,)))
        parts.append(f"{sum(v > 1 for v in r.values())} of {len(r)} real videos flagged; the nearest lies {min(r.values()) / max(q['largest'] for q in found['fresh']):.2f} times as far as the farthest clip of the world.")
    return "\n\n".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny", help="a packaged name or a folder")
    parser.add_argument("--out", type=Path, help="where the files go (default: the model's folder)")
    parser.add_argument("--fit", type=int, default=720, help="clips to fit, 4 frames each")
    parser.add_argument("--fresh", type=int, default=360, help="clips for the scale, 6 frames each")
    parser.add_argument("--check", type=int, default=360, help="clips for the figures, 8 frames each")
    parser.add_argument("--real", type=Path, default=ROOT.parent/"shared"/"clips", help="folder of real videos, if there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    began, encoder = time.time(), load_encoder(args.model)
    with tempfile.TemporaryDirectory() as folder:
        frames = lambda *a, **k: (x for _, x in clips(*a, **k))
        novelty = fit_novelty(encoder, frames(FIT, args.fit, 4, Path(folder), "fitting", held_out=False), frames(FRESH, args.fresh, 6, Path(folder), "calibrating"))
        found = measure(novelty, encoder, args.check, Path(folder), args.real)
    novelty.facts["fit"]["seed"], novelty.facts["fresh"]["seed"] = FIT, FRESH
    command = f"python scripts/fit_novelty.py --model {args.model} --fit {args.fit} --fresh {args.fresh} --check {args.check}"
    novelty.facts |= dict(command=command, seconds=round(time.time() - began), measured=dict(seed=CHECK, **found))
    out = save_novelty(novelty, args.out or novelty_folder(args.model))
    print(report(found), f"\nwrote {out/'novelty.json'} and novelty.safetensors ({(out/'novelty.safetensors').stat().st_size / 1000:.0f} kB) in {time.time() - began:.0f} s", sep="\n")


if __name__ == "__main__":
    main()
