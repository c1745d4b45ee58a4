"The shipped tiny model is as good as its card says: measured on freshly rendered clips of seeds never used in training."
import json, sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from bike_nb import world
from bike_nb.encoder import load_encoder

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "bike_nb/models/tiny"
sys.path.insert(0, str(ROOT / "scripts"))
import evaluate_tiny  # noqa: E402
from train_tiny import TRAIN_SEEDS, all_facts  # noqa: E402


@pytest.fixture(scope="module")
def encoder(): return load_encoder("tiny")


@pytest.fixture(scope="module")
def clips():
    names = world.SINGLE_FRAME
    return [world.sample_clip(424_000 + i, names[i % len(names)]) for i in range(84)]


@pytest.fixture(scope="module")
def frames(encoder, clips): return evaluate_tiny.embed(encoder, clips, 16, 96)


def test_actions_and_saliency(encoder, clips, frames):
    found = evaluate_tiny.recognition(encoder, clips, frames, "{}")
    assert found["top-1, concept spotting, all tokens"] >= .95
    assert found["saliency AP, all tokens"] >= .95
    assert found["saliency AP, class name"] >= .98
    assert .2 <= found["frames of the action"] <= .5
    assert found["top-1, mean pooling"] < found["top-1, concept spotting, all tokens"]  # the point of the paper


def test_attributes(encoder, clips, frames):
    found = evaluate_tiny.attributes(encoder, clips, frames)
    assert found["attribute mAP, maximum"] >= .9
    assert found["attribute mAP, maximum"] > found["attribute mAP, mean"]  # short actions drown in the mean


def test_order_only_pairs_are_a_coin_flip(encoder):
    "Looking at frames one by one cannot tell opening from closing; if it could, the drawing would give the answer away."
    from bike_nb.spotting import concept_spotting
    pairs = [(a, b) for a, (b, _) in world.PAIRS.items()]
    hits = []
    for i in range(24):
        for a, b in pairs:
            clip = world.sample_clip(910_000 + i, (a, b)[i % 2], cut=False)
            x = encoder.encode_video(world.render(clip, world.frame_times(clip, 8)))[None]
            text = encoder.encode_text([a, b])
            hits.append(concept_spotting(x, text.tokens, text.classes).argmax().item() == i % 2)
    assert .3 < sum(hits) / len(hits) < .7


def test_clips_drawn_larger_are_recognised_as_well(encoder):
    names = world.SINGLE_FRAME
    clips = [world.sample_clip(77_000 + i, names[i % len(names)]) for i in range(28)]
    found = evaluate_tiny.recognition(encoder, clips, evaluate_tiny.embed(encoder, clips, 16, 320), "{}")
    assert found["top-1, concept spotting, all tokens"] >= .9


def test_the_file_is_small_and_in_half_precision():
    assert (FOLDER / "model.safetensors").stat().st_size <= 8e6
    with safe_open(FOLDER / "model.safetensors", "pt") as file:
        kinds = {name: file.get_tensor(name).dtype for name in file.keys()}
    assert kinds.pop("token_rows") == torch.int64
    assert {k for n, k in kinds.items() if "num_batches_tracked" not in n} == {torch.float16}


def test_every_word_of_the_world_is_known_and_others_are_not(encoder):
    assert encoder.unknown_words(all_facts()) == {}
    assert set(encoder.unknown_words(["flying a kite", "a zebra", "purple submarine"])) == {"a zebra", "purple submarine"}


def test_the_card_shows_the_figures_that_were_measured():
    report = json.loads((FOLDER / "evaluation.json").read_text())
    card = (FOLDER / "README.md").read_text()
    for name, values in report["figures"].items():
        assert f"| {name} | " + " | ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in values) in card
    assert all(s * 100_000 + 60_000 < TRAIN_SEEDS for s in report["seeds"])
