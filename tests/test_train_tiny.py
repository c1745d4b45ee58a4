"The script that makes the packaged models: trains from nothing, goes on after an interruption, writes a model that loads; and what it trains on."
import json, random, subprocess, sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bike_nb import world
from bike_nb.encoder import load_encoder

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import tiny_data  # noqa: E402


def run(*args):
    done = subprocess.run([sys.executable, ROOT / "scripts/train_tiny.py", *map(str, args)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout[done.stdout.index("{"):])


@pytest.mark.parametrize("arch, processes", [("tiny", 2), ("small", 1)])
def test_training_starts_from_nothing_and_goes_on(tmp_path, arch, processes):
    common = ["--arch", arch, "--frames", 64, "--batch", 16, "--processes", processes, "--device", "cpu", "--out", tmp_path / "run", "--model", tmp_path / "model"]
    if arch == "small": common += ["--teacher", "tiny"]
    assert run("--steps", 2, *common)["steps"] == 2
    first = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    assert run("--steps", 4, *common)["steps"] == 4
    second = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    assert second["log"][:2] == first["log"] and len(second["log"]) == 4
    moved = [k for k, v in first["model"].items() if v.is_floating_point() and not torch.equal(v, second["model"][k])]
    assert any("visual" in k for k in moved) and any(k.startswith("transformer") for k in moved)
    encoder = load_encoder(str(tmp_path / "model"))
    frames = encoder.encode_video(world.render(world.sample_clip(1), [1., 2.]))
    assert frames.shape == (2, 192) and torch.isfinite(frames).all() and encoder.unknown_words(["a red kite"]) == {}
    assert (tmp_path / "model/model.safetensors").stat().st_size <= 8e6


def test_nothing_that_is_held_out_is_shown_or_said():
    frames, facts, said, asked = tiny_data.draw(400, 3, .5, False)
    assert frames.shape == (400, 3, 96, 96) and len(facts) == len(said) == len(asked) == 400
    held = {f"{c} {n}" for n, c in world.HELD_OUT}
    assert not held & set().union(*facts) and not set(world.NOVEL) & set().union(*facts)
    rng = random.Random(0)
    false = [tiny_data.false_colour(text, stated, rng) for each in said for text, stated in each]
    made = [f for f in false if f]
    assert len(made) > 300 and not any(h in f for _, stated in made for f in stated for h in held)
    assert all(stated <= all_ for each, all_ in zip(said, facts) for _, stated in each)  # true captions


def test_twins_differ_in_one_colour_only():
    rng, found = random.Random(1), 0
    for i in range(120):
        clip = world.sample_clip(tiny_data.TRAIN_SEEDS + i)
        t = rng.uniform(clip.start, clip.end)
        pair = tiny_data.twin(clip, t, rng)
        if not pair: continue
        other, noun, old, new = pair
        found += 1
        a, b = world.nouns(clip, t), world.nouns(other, t)
        assert (noun, old) in a and (noun, new) in b and (noun, new) not in world.HELD_OUT
        assert [q for q in a if q[0] != noun] == [q for q in b if q[0] != noun]
        assert (np.abs(world.render_frame(clip, t).astype(int) - world.render_frame(other, t)).max(-1) > 12).sum() >= 8
        assert world.sample_clip(tiny_data.TRAIN_SEEDS + i) == clip  # the first one is left as it was
    assert found > 60
