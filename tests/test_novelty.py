"novelty: clips of the world pass, clips from elsewhere are flagged, and what is fitted to one model is never used with another."
import json, shutil, threading, warnings
from html import escape
from pathlib import Path

import numpy as np
import pytest
import torch

from bike_nb import novelty as module, world
from bike_nb.encoder import Encoder, build_parts, load_encoder, save_encoder
from bike_nb.explain import explain
from bike_nb.novelty import (LEVELS, Novelty, NoveltyError, NoveltyScore, channel_means, changed, cloud_distance, find_layers, find_novelty, fit_cloud, fit_novelty,
                             frame_features, listen, load_novelty, strangers, texture)
from bike_nb.video import Video, read_video, write_video

ROOT = Path(__file__).parents[1]
CLIPS, TINY = ROOT.parent/"shared"/"clips", ROOT/"bike_nb"/"models"/"tiny"
REAL = sorted(p.name for p in CLIPS.iterdir() if p.suffix != ".md") if CLIPS.is_dir() else []
STAGES = ["layer1", "layer2", "layer3", "layer4"]


def newborn(name="newborn", **vision):
    "A small encoder with random weights."
    text = dict(context_length=32, vocab_size=49408, width=64, heads=2, layers=1)
    return Encoder(**build_parts({"model_cfg": dict(embed_dim=64, vision_cfg=dict(image_size=96, **vision), text_cfg=text)}, name), device="cpu")


@pytest.fixture(scope="module")
def tiny(): return load_encoder("tiny", device="cpu")

@pytest.fixture(scope="module")
def resnet(): return newborn(layers=[1, 1, 1, 1], width=24, patch_size=None)

@pytest.fixture(scope="module")
def vit(): return newborn(layers=5, width=96, head_width=32, patch_size=16)

@pytest.fixture(scope="module")
def shipped(): return load_novelty("tiny")

@pytest.fixture(scope="module")
def frames(): return draw(7_000_000, 12, 2)


def draw(seed, n, frames=4, size=96, **how):
    "Frames of n clips."
    return np.concatenate([world.render(c, world.frame_times(c, frames), size) for c in (world.sample_clip(seed + i, **how) for i in range(n))])


# The shipped model

@pytest.mark.parametrize("difficulty", range(len(world.DIFFICULTY)))
def test_fresh_clips_of_the_world_are_not_flagged(difficulty, tiny, shipped, tmp_path):
    found = []
    for i in range(36):
        clip, size = world.sample_clip(7_100_000 + 1000 * difficulty + i, difficulty=difficulty, held_out=None), (96, 240, 320)[i % 3]
        x = world.render(clip, world.frame_times(clip, 8), size)
        if i % 2: x = read_video(write_video(tmp_path/"clip.mp4", x, fps=2), 8)
        found.append(shipped.score(x, tiny))
    assert sum(f.flagged for f in found) == 0, [round(f.score, 2) for f in found]
    assert np.mean([f.frames > 1 for f in found]) <= .03

def test_long_clips_clips_of_many_actions_and_actions_never_trained_are_not_flagged(tiny, shipped):
    clips = [world.sample_many(7_200_000), world.sample_untrimmed(7_200_001), *(world.sample_clip(7_200_002 + i, a) for i, a in enumerate(world.NOVEL)),
             *(world.sample_clip(7_200_020 + i, a, place=p) for i, (a, p) in enumerate(world.PLACED.values()))]
    assert [c.seed for c in clips if shipped.score(world.render(c, world.frame_times(c, 8)), tiny).flagged] == []

def test_data_samples_are_not_flagged(tiny, shipped):
    found = {p.name: shipped.score(read_video(p, 16), tiny) for p in sorted((ROOT/"data_samples").glob("*.mp4"))}
    assert len(found) >= 12 and not [n for n, f in found.items() if f.flagged]

@pytest.mark.skipif(not REAL, reason="no real clips here (../shared/clips)")
def test_every_real_clip_is_flagged(tiny, shipped):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one of them is damaged
        found = {name: shipped.score(read_video(CLIPS/name, 16), tiny).score for name in REAL}
    assert len(found) >= 10 and min(found.values()) > 1, found

def test_strangers_made_by_code(tiny, shipped, frames):
    found = {name: shipped.score(x, tiny) for name, x in strangers(3, n=8).items()}
    for name in ("plain black", "noise", "texture, 1/f^0.8", "texture, 1/f^1.2", "checks", "shapes", "colour bars", "page of text"): assert found[name].flagged, (name, found[name].score)
    assert np.mean(np.concatenate([f.frames for f in found.values()]) > 1) > .75
    altered = changed(frames)
    assert shipped.score(altered["inverted"], tiny).score > shipped.score(frames, tiny).score * 1.3

def test_what_every_file_and_the_training_do_to_frames_is_let_through(tiny, shipped, frames, tmp_path):
    assert not shipped.score(frames[:, :, ::-1], tiny).flagged
    assert not shipped.score((frames * 1.12).clip(0, 255).astype(np.uint8), tiny).flagged
    assert not shipped.score(read_video(write_video(tmp_path/"a.mp4", draw(7_300_000, 3, 4, 240), fps=2, crf=33), 12), tiny).flagged

def test_half_a_clip_from_elsewhere_is_enough_and_one_odd_frame_is_not(tiny, shipped, frames):
    foreign = strangers(4, n=12)["checks"]
    small = np.stack([f[:96, :96] for f in foreign])
    assert shipped.score(np.concatenate([frames[:12], small]), tiny).flagged
    bark = texture(np.random.default_rng(1), 96)[None]
    one = shipped.score(np.concatenate([frames[:15], bark]), tiny)
    assert one.frames[-1] > 1 and not one.flagged

def test_bf16_is_the_same_model(tiny, shipped, frames):
    half = load_encoder("tiny", device="cpu", precision="bf16")
    assert shipped.fits(half) and find_novelty(half) is not None
    np.testing.assert_allclose(shipped.score(frames, half).frames, shipped.score(frames, tiny).frames, rtol=.05)

def test_the_files_are_small_and_say_what_was_measured(shipped):
    assert (TINY/"novelty.safetensors").stat().st_size + (TINY/"novelty.json").stat().st_size < 300_000
    said = json.loads((TINY/"novelty.json").read_text(encoding="utf-8"))
    found = said["measured"]
    assert said["layers"] == STAGES and [r["difficulty"] for r in found["fresh"]] == list(range(len(world.DIFFICULTY)))
    assert all(r["flagged"] <= .01 * r["clips"] and r["clips"] >= 60 for r in found["fresh"])
    assert found["auroc"]["strangers"] > .98 and said["command"].startswith("python scripts/fit_novelty.py")
    assert all(v > 1 for v in found.get("real", {}).values())


# The measure

def test_distance_is_mahalanobis_of_the_model_covariance():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 4)) @ rng.normal(size=(4, 12)) + .2 * rng.normal(size=(3000, 12)) + rng.normal(size=12)
    cloud = fit_cloud(x, 4)
    z, u = (x - x.mean(0)) / x.std(0), cloud["basis"].astype(float)
    S = u @ np.diag(cloud["variance"] - cloud["rest"]) @ u.T + cloud["rest"] * np.eye(12)  # the covariance of probabilistic PCA
    want = np.sqrt(np.einsum("ti,ij,tj->t", z[:50], np.linalg.inv(S), z[:50]) / 12)  # up to the half precision of the directions
    np.testing.assert_allclose(cloud_distance(x[:50], **cloud), want, rtol=.03)
    np.testing.assert_allclose(S, np.cov(z, rowvar=False), atol=.05)
    assert np.sqrt((cloud_distance(x, **cloud) ** 2).mean()) == pytest.approx(1, abs=.02)

def test_a_channel_that_is_silent_in_training_does_not_divide_by_zero():
    x = np.random.default_rng(0).normal(size=(500, 6)); x[:, 3] = 0
    cloud, loud = fit_cloud(x, 2), x[:5].copy()
    loud[:, 3] = 1
    assert np.isfinite(cloud_distance(loud, **cloud)).all() and (cloud_distance(loud, **cloud) > 3 * cloud_distance(x[:5], **cloud)).all()

def test_clips_that_stand_still_have_few_directions_and_still_a_measure(resnet):
    "Twenty-four frames that differ, each ten times: no direction without variance, no NaN."
    clips = [np.repeat(draw(7_700_000 + i, 1, 1), 10, 0) for i in range(36)]
    n = fit_novelty(resnet, clips)
    assert all(c["basis"].shape[1] < 24 and (c["variance"] > 0).all() and c["rest"] > 0 for c in n.clouds)
    assert np.isfinite(n.quantiles).all() and not n.score(clips[0], resnet).flagged and n.score(strangers(0, n=4)["checks"], resnet).flagged
    with pytest.raises(NoveltyError, match="all alike"): fit_novelty(resnet, [clips[0]] * 20, clips)
    assert fit_cloud(np.random.default_rng(0).normal(size=(50, 6)), 0)["basis"].shape == (6, 0)

def test_changes_and_strangers_keep_their_shapes():
    for h, w in ((60, 80), (97, 97), (91, 64)):
        x = np.random.default_rng(0).integers(0, 256, (4, h, w, 3), dtype=np.uint8)
        new = changed(x)
        assert {k for k, v in new.items() if v.shape != x.shape} <= {"turned by 90°"}
        for a, b in zip(x, new["turned by 90°"]): np.testing.assert_array_equal(b, np.rot90(a))
    for size in (8, 100): assert {v.shape[1:] for v in strangers(size=size, n=1).values()} == {(size, size, 3)}

def test_many_channels_few_directions():
    "A large ViT's file stays small too."
    assert [module._affordable(64, n) for n in (1440, 6656, 10**6)] == [64, 15, 0]
    for channels in (6656, 23_000): assert 2 * channels * module._affordable(64, channels) + 12 * channels < 290_000

def test_a_failed_save_leaves_what_was_there(tmp_path, resnet, shipped, monkeypatch):
    folder = shipped.save(tmp_path/"mine")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    def full(self, *a, **k): raise OSError(28, "No space left on device")
    with monkeypatch.context() as m:
        m.setattr(Path, "write_text", full)
        with pytest.raises(NoveltyError, match="cannot be saved to .*No space left"): shipped.save(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    with pytest.raises(NoveltyError, match="cannot be saved to"): shipped.save(folder/"novelty.json")

def test_scale_is_that_of_fresh_frames():
    rng = np.random.default_rng(1)
    cloud, fresh = fit_cloud(rng.normal(size=(2000, 8)), 3), rng.normal(size=(20_000, 8))
    n = Novelty("m", [], [cloud], np.quantile(cloud_distance(fresh, **cloud), LEVELS), np.zeros(8))
    s = n.score(fresh)
    assert (s.frames > 1).mean() == pytest.approx(.001, abs=2e-4) and (s.frames * s.unit > 1).mean() == pytest.approx(.01, abs=1e-3)
    assert (s.percentiles > 50).mean() == pytest.approx(.5, abs=.01) and 0 <= s.percentiles.min() and s.percentiles.max() == 100
    assert s.score == pytest.approx(s.frames.mean()) and s.score99 == pytest.approx(s.score * s.unit) and not s.flagged and n.score(fresh[:9] * 9).flagged

def test_sentence_and_dict():
    s = NoveltyScore("tiny", np.array([.5, 3., 3.1]), np.array([40., 100., 100.]), 1.3)
    assert "2.2 times as far" in s.sentence() and "tiny" in s.sentence() and "(2 of 3 frames beyond that)" in s.sentence() and "\n" not in s.sentence()
    assert json.loads(json.dumps(s.to_dict())) == dict(score=2.2, score99=2.86, flagged=True, frames=[.5, 3., 3.1], percentiles=[40., 100., 100.])


# Any model

def test_layers_of_both_kinds_of_towers(resnet, vit):
    assert find_layers(resnet.model.visual) == STAGES
    assert find_layers(vit.model.visual) == [f"transformer.resblocks.{i}.mlp" for i in (1, 2, 3, 4)]
    with pytest.raises(NoveltyError, match="Linear has no stages known here"): find_layers(torch.nn.Linear(2, 2))

@pytest.mark.parametrize("name,layers", [("convnext_base", "trunk.stages.3"), ("ViT-B-16-SigLIP", "trunk.blocks.11.mlp")])
def test_layers_of_towers_from_timm(name, layers):
    open_clip = pytest.importorskip("open_clip")
    cfg = open_clip.get_model_config(name)
    with torch.device("meta"): tower = open_clip.model._build_vision_tower(cfg["embed_dim"], {**cfg["vision_cfg"], "timm_model_pretrained": False})
    assert find_layers(tower)[-1] == layers

def test_features_do_not_depend_on_blocks_and_leave_no_hook(resnet, frames):
    whole = frame_features(resnet, frames)
    with listen(resnet, STAGES) as heard: resnet.encode_video(frames, batch_size=5)
    np.testing.assert_allclose(module.joined(heard), whole, atol=1e-4)
    assert whole.shape == (len(frames), 1440) and not any(m._forward_hooks for m in resnet.model.modules())
    maps = []
    hook = resnet.model.visual.layer2.register_forward_hook(lambda m, a, o: maps.append(o))
    resnet.encode_video(frames[:3]); hook.remove()
    np.testing.assert_allclose(whole[:3, 96:288], maps[0].mean((2, 3)), atol=1e-5)

def test_frames_of_another_thread_are_not_heard(resnet, frames):
    with listen(resnet, ["layer1"]) as heard:
        other = threading.Thread(target=lambda: resnet.encode_video(frames[:7])); other.start(); other.join()
        resnet.encode_video(frames[:2])
    assert len(module.joined(heard)) == 2

@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_a_model_of_ones_own(kind, request, tmp_path, frames):
    encoder = request.getfixturevalue(kind)
    clips = [draw(7_400_000 + i, 1, 4) for i in range(90)]
    n = fit_novelty(encoder, clips)
    assert n.facts["fit"]["clips"] == 60 and n.facts["fresh"] == dict(clips=30, frames=120)
    assert not n.score(frames, encoder).flagged and n.score(strangers(0, n=8)["checks"], encoder).flagged
    again = load_novelty(n.save(tmp_path))
    np.testing.assert_allclose(again.score(frames, encoder).frames, n.score(frames, encoder).frames, rtol=1e-4)
    assert again.layers == n.layers and again.model == "newborn" and again.facts == n.facts and again.fits(encoder)

def test_all_kinds_of_clips_fit(resnet, frames):
    video = Video(frames, np.arange(len(frames)) / 4, 4., 6.)
    clips = [video, frames, list(frames)] * 3
    n = fit_novelty(resnet, clips, np.concatenate([frames] * 5), layers=["layer2"], rank=5)
    assert n.clouds[0]["basis"].shape == (192, 5) and n.facts["fresh"]["clips"] == 5 * len(frames)  # single frames as one array
    np.testing.assert_allclose(n.score(video, resnet).frames, n.score(list(frames), resnet).frames)
    np.testing.assert_allclose(n.score(frame_features(resnet, frames, ["layer2"])).frames, n.score(frames, resnet).frames)

def test_too_little_and_wrong_things_are_one_clear_sentence(resnet, frames, tmp_path):
    broken = newborn(layers=[1, 1, 1, 1], width=24, patch_size=None)
    with torch.no_grad(): next(broken.model.visual.parameters()).fill_(float("nan"))
    (tmp_path/"novelty.json").write_text("{}")
    for call, words in [(lambda: fit_novelty(resnet, frames), "16 frames to fit, and at least 100"), (lambda: fit_novelty(resnet, []), "0 frames to fit"),
                        (lambda: fit_novelty(resnet, frames, layers=["layer7"]), "newborn has no module 'layer7'"), (lambda: fit_novelty(broken, [frames] * 9), "not finite"),
                        (lambda: fit_novelty(resnet, np.concatenate([frames] * 9), frames), "24 fresh frames, and at least 100"),
                        (lambda: load_novelty("no-such-model"), "no novelty.json for no-such-model"), (lambda: load_novelty(tmp_path), "cannot be used"),
                        (lambda: fit_novelty(resnet, Video(frames, np.arange(24.), 1., 24.)), "not to one Video"), (lambda: fit_novelty(resnet, None), "give a list"),
                        (lambda: channel_means(torch.zeros(3, 4)), r"shape \(3, 4\)")]:
        with pytest.raises(NoveltyError, match=words) as caught: call()
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


# In explain

def test_explain_says_nothing_of_world_clips_and_one_sentence_of_others(tiny, shipped, frames):
    home, away = explain(frames, "a kite", tiny), explain(np.stack([texture(np.random.default_rng(i), 96) for i in range(4)]), "a kite", tiny)
    assert not home.novelty.flagged and home.notes == [] and str(home.novelty) in home.summary()
    assert away.notes == [away.novelty.sentence()] and away.novelty.sentence() in away.summary() and escape(away.novelty.sentence()) in away._repr_html_()
    np.testing.assert_allclose(home.novelty.frames, shipped.score(frames, tiny).frames, rtol=1e-4)  # no second pass, the same number
    assert json.loads(away.to_json())["novelty"] == away.novelty.to_dict()

def test_explain_hears_each_frame_of_a_film_read_in_blocks(tiny, tmp_path):
    film = write_video(tmp_path/"long.mp4", draw(7_500_000, 3, 16), fps=4)
    e = explain(film, "a kite", tiny, fps=4)
    assert len(e.times) == 48 == len(e.novelty.frames) and not e.novelty.flagged

def test_a_folder_with_a_novelty_of_its_own_and_after_more_training(tiny, tmp_path, frames):
    shutil.copytree(TINY, tmp_path/"mine")
    assert explain(frames, "a kite", tmp_path/"mine", device="cpu").novelty is not None
    with torch.no_grad():
        moved = load_encoder("tiny", device="cpu")
        for p in moved.model.visual.parameters(): p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(0)) * p.std().nan_to_num(0) * .5)
    save_encoder(moved, tmp_path/"mine", moved.model_cfg, moved.preprocess_cfg, token_rows=moved.known_tokens)
    with pytest.warns(UserWarning, match="fitted to other weights"): e = explain(frames, "a kite", tmp_path/"mine", device="cpu")
    assert e.novelty is None and any("knows only its miniature world" in n for n in e.notes)
    assert find_novelty(moved) is None  # it is called tiny, but is not

def test_a_torn_novelty_file_is_a_warning_and_no_end(tmp_path, frames):
    shutil.copytree(TINY, tmp_path/"mine"); (tmp_path/"mine"/"novelty.json").write_text("{")
    with pytest.warns(UserWarning, match="novelty files in .* cannot be used .*fit them anew. They are left out"): e = explain(frames, "a kite", tmp_path/"mine", device="cpu")
    assert e.novelty is None

def test_without_a_novelty_file_the_general_warning_stays(tiny, tmp_path, frames):
    for f in ("model.safetensors", "open_clip_config.json"): (tmp_path/"bare").mkdir(exist_ok=True); shutil.copy(TINY/f, tmp_path/"bare")
    e = explain(frames, "a kite", tmp_path/"bare", device="cpu")
    assert e.novelty is None and e.notes == ["bare knows only its miniature world: on any other video its numbers mean little."]
    assert json.loads(e.to_json())["novelty"] is None and "novelty" not in e.summary()

def test_a_novelty_put_on_an_encoder(vit, frames):
    vit.novelty = fit_novelty(vit, [draw(7_600_000 + i, 1, 4) for i in range(80)])
    try: assert len(explain(frames, "a kite", vit, lexicon="world").novelty.frames) == len(frames)
    finally: del vit.novelty
