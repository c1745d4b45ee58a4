"""Every number here was computed by the official BIKE code; see --reference in conftest.py.

First form: frame, class and token embeddings → saliency and logits, with and without the temporal transformer.
All dimensions are read from the files."""
import numpy as np
import pytest
import torch

from bike_nb.model import TemporalTransformer
from bike_nb.spotting import concept_spotting, mean_pooling, saliency, token_saliency

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def numbers(reference):
    with np.load(reference / "clip_forward.npz") as file: return {key: torch.from_numpy(file[key]) for key in file}


@pytest.fixture(scope="module")
def embeddings(numbers):
    return tuple(numbers[f"{kind}_embeddings"] for kind in ("frame", "token", "class"))


@pytest.fixture(scope="module")
def checkpoint(reference): return torch.load(reference / "official_checkpoint.pt", weights_only=True, map_location="cpu")


@pytest.fixture(scope="module")
def transformer(checkpoint): return TemporalTransformer.from_official_state(checkpoint)


def gap(ours, theirs):
    "Largest absolute difference; shapes must be equal, not only broadcast to each other."
    assert ours.shape == theirs.shape
    return (ours - theirs).abs().max().item()


def test_the_numbers_can_tell_right_from_wrong(numbers):
    "What is compared must vary by far more than the tolerance, or agreement would mean nothing."
    for kind in ("None_DP", "None_VCS", "Transf_DP", "Transf_VCS"): assert numbers[f"logits_{kind}"].std() > 100 * TOLERANCE
    for one, other in (("None_DP", "None_VCS"), ("Transf_DP", "Transf_VCS"), ("None_VCS", "Transf_VCS")):
        assert gap(numbers[f"logits_{one}"], numbers[f"logits_{other}"]) > 10 * TOLERANCE


def test_saliency(numbers, embeddings):
    frames, tokens, _ = embeddings
    assert gap(saliency(tokens, frames), numbers["saliency_class_video_frame"]) < TOLERANCE
    assert gap(token_saliency(tokens, frames).mean(2), numbers["saliency_class_video_frame"]) < TOLERANCE


@pytest.mark.parametrize("head", ["None", "Transf"])
def test_logits_of_mean_pooling(numbers, embeddings, transformer, head):
    frames, _, classes = embeddings
    if head == "Transf": frames = transformer(frames)
    assert gap(mean_pooling(frames, classes), numbers[f"logits_{head}_DP"]) < TOLERANCE


@pytest.mark.parametrize("head", ["None", "Transf"])
def test_logits_of_concept_spotting(numbers, embeddings, transformer, head):
    frames, tokens, classes = embeddings
    if head == "Transf": frames = transformer(frames)
    assert gap(concept_spotting(frames, tokens, classes), numbers[f"logits_{head}_VCS"]) < TOLERANCE


@torch.inference_mode()
def test_a_mask_is_not_the_official_formula(numbers, embeddings):
    "Leaving out the start token moves the saliency by far more than the tolerance: the default must not do it silently."
    frames, tokens, _ = embeddings
    mask = torch.ones(tokens.shape[:2], dtype=torch.bool)
    mask[:, 0] = False
    assert gap(saliency(tokens, frames, mask=mask), numbers["saliency_class_video_frame"]) > 10 * TOLERANCE


def test_state_survives_the_round_trip(checkpoint, transformer):
    "The official names, no more and no fewer, and the very same weights."
    state, official = transformer.state_dict(), checkpoint["fusion_model_state_dict"]
    assert state.keys() == official.keys()
    for key, value in official.items(): assert torch.equal(state[key], value)


def test_state_alone_with_heads_given(checkpoint, transformer, embeddings):
    "The transformer's own state does not say how many heads it has; told so, it is the same."
    frames = embeddings[0]
    heads = len(checkpoint["model_state_dict"]["ln_final.weight"]) // 64
    alone = TemporalTransformer.from_official_state(checkpoint["fusion_model_state_dict"], heads)
    assert gap(alone(frames), transformer(frames)) == 0


def test_more_frames_than_positions(transformer):
    positions, width = transformer.frame_position_embeddings.weight.shape
    assert transformer(torch.zeros(1, positions, width)).shape == (1, positions, width)
    with pytest.raises(ValueError, match=f"{positions + 1} frames, but this temporal transformer has {positions} positions"):
        transformer(torch.zeros(1, positions + 1, width))
