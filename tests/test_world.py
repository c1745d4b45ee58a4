"The miniature world: what it says is what it shows."
import csv, json, random, re
from dataclasses import replace

import numpy as np
import pytest

from bike_nb import world
from bike_nb.video import read_video

CLIPS = [world.sample_clip(900 + i, name, held_out=None) for i, name in enumerate(list(world.ACTIONS) * 3)]


def moments(clip, n=3):
    rng = random.Random(clip.seed)
    return [rng.uniform(clip.start, clip.end)] + [rng.uniform(0, clip.duration) for _ in range(n - 1)]


def changed(a, b):
    "How many pixels differ visibly."
    return int((np.abs(a.astype(int) - b.astype(int)).max(-1) > 12).sum())


def without(clip, t, **change):
    shot = clip.shot(t)
    return replace(clip, shots=[replace(s, **change) if s is shot else s for s in clip.shots])


def test_a_seed_is_a_clip():
    for seed in (3, 4):
        a, b = world.sample_clip(seed), world.sample_clip(seed)
        assert a == b and np.array_equal(world.render(a, [1., 3.]), world.render(b, [1., 3.]))
    assert world.sample_clip(3) != world.sample_clip(4)


def test_the_action_fills_the_span_it_was_asked_for():
    for i in range(60):
        clip = world.sample_clip(i, span=(.2, .5))
        assert 0 <= clip.start < clip.end <= clip.duration
        assert .2 <= (clip.end - clip.start) / clip.duration <= .5
        acting = [clip.acting(t) for t in world.frame_times(clip, 16)]
        assert 2 <= sum(acting) <= 9
        assert [t for t, a in zip(world.frame_times(clip, 16), acting) if a] == [t for t in world.frame_times(clip, 16) if clip.action in world.words(clip, t)]


def test_shots_cover_the_clip_and_the_action_stays_in_one():
    for clip in CLIPS:
        assert clip.shots[0].start == 0 and clip.shots[-1].end == clip.duration
        assert all(a.end == b.start for a, b in zip(clip.shots, clip.shots[1:]))
        assert clip.shot(clip.start) is clip.shot(clip.end - 1e-6)


@pytest.mark.parametrize("what", ["things", "person"])
def test_whatever_is_listed_can_be_seen(what):
    "Take a thing or the idle person out of the picture: pixels must change."
    seen = 0
    for clip in CLIPS:
        for t in moments(clip):
            shot, frame = clip.shot(t), world.render_frame(clip, t)
            if what == "things":
                for thing in shot.things:
                    less = world.render_frame(without(clip, t, things=[o for o in shot.things if o is not thing]), t)
                    assert changed(frame, less) >= 25, (clip.seed, clip.action, t, thing)
                    seen += 1
            elif shot.idle and not (clip.acting(t) and world.ACTIONS[clip.action].person):
                assert changed(frame, world.render_frame(without(clip, t, idle=False), t)) >= 60, (clip.seed, clip.action, t)
                assert "person" in world.words(clip, t)
                seen += 1
    assert seen > 50


def test_an_action_shows_when_it_is_listed_and_only_then():
    for clip in CLIPS:
        if world.ACTIONS[clip.action].partner: continue
        t = (clip.start + clip.end) / 2
        later = replace(clip, start=t + 1e-3, end=clip.end + 1)
        assert clip.action in world.words(clip, t) and clip.action not in world.words(later, t)
        assert changed(world.render_frame(clip, t), world.render_frame(later, t)) >= 120, (clip.seed, clip.action)


def test_pairs_show_the_same_frames_in_opposite_order():
    for first, (second, _) in world.PAIRS.items():
        for seed in range(5):
            a, b = world.sample_clip(seed, first), world.sample_clip(seed, second)
            for u in (.1, .45, .8):
                x = world.render_frame(a, a.start + u * (a.end - a.start))
                y = world.render_frame(b, b.start + (1 - u) * (b.end - b.start))
                assert changed(x, y) == 0, (first, seed, u)


def test_no_caption_states_what_the_frame_does_not_show():
    plain = re.compile("|".join(sorted(map(re.escape, world.vocabulary()), key=len, reverse=True)))
    for clip in CLIPS:
        rng = random.Random(clip.seed)
        for t in moments(clip):
            facts = world.facts(clip, t)
            for _ in range(12):
                text, said = world.caption(clip, t, rng)
                assert said and said <= facts, (text, said)
                for colour in world.COLOURS:  # every colour in the text belongs to a stated fact
                    if re.search(rf"\b{colour}\b", text): assert any(re.search(rf"\b{colour}\b", f) for f in said), text
                stated = " ".join(said)
                for word in plain.findall(text.replace("a person", "")):
                    assert word in stated or word in world.PLACE or word == "person", (text, said)


def test_held_out_pairs_stay_out():
    pairs = {(n, c) for i in range(150) for clip in [world.sample_clip(i)] for t in moments(clip, 2) for n, c in world.nouns(clip, t) if c}
    assert not pairs & world.HELD_OUT and len(pairs) > 60
    asked = {(n, c) for i in range(60) for clip in [world.sample_clip(i, held_out=True)] for n, c in world.nouns(clip, clip.start) if c and n != "ball"}
    assert asked <= world.HELD_OUT and len(asked) > 10


def test_every_noun_of_the_world_is_in_its_vocabulary():
    for clip in CLIPS:
        for t in moments(clip): assert set(world.words(clip, t)) <= set(world.vocabulary())


def test_the_packaged_lexicon_is_the_vocabulary():
    from importlib.resources import files
    lines = files("bike_nb").joinpath("lexicons/world.txt").read_text(encoding="utf-8").splitlines()
    assert [l for l in lines if not l.startswith("#")] == world.vocabulary()


def test_write_world(tmp_path):
    notes = world.write_world(tmp_path / "w", clips=3, seed=9, size=96, fps=6, duration=4)
    assert json.loads((tmp_path / "w/annotations.json").read_text()) == json.loads(json.dumps(notes))
    rows = list(csv.DictReader((tmp_path / "w/classes.csv").open()))
    assert [r["name"] for r in rows] == list(world.ACTIONS)
    for line, entry in zip((tmp_path / "w/list.txt").read_text().splitlines(), notes["clips"]):
        file, label = line.rsplit(" ", 1)
        assert file == entry["file"] and rows[int(label)]["name"] == entry["action"]
        film = read_video(tmp_path / "w" / file, num_frames=24)
        assert film.frames.shape == (24, 96, 96, 3)
        clip = world.sample_clip(entry["seed"], entry["action"], duration=4.)
        drawn = world.render(clip, world.frame_times(clip, 24))
        assert np.abs(film.frames.astype(int) - drawn).mean() < 6
        runs = entry["words"][entry["action"]]
        assert len(runs) == 1 and abs(runs[0][0] - entry["span"][0]) <= .17 and abs(runs[0][1] - entry["span"][1]) <= .17
    again = world.write_world(tmp_path / "v", clips=3, seed=9, size=96, fps=6, duration=4)
    assert again == notes


def test_bad_requests_say_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="no action 'knitting'"): world.sample_clip(0, "knitting")
    (tmp_path / "file").write_text("x")
    with pytest.raises(world.WorldError, match="is a file"): world.write_world(tmp_path / "file")
    with pytest.raises(world.WorldError, match="size is 33"): world.write_world(tmp_path, size=33)
    with pytest.raises(world.WorldError, match="clips is 0"): world.write_world(tmp_path, clips=0)


def test_the_samples_are_what_the_code_makes():
    from pathlib import Path
    folder = Path(__file__).parents[1] / "data_samples"
    notes = json.loads((folder / "annotations.json").read_text())
    rng = random.Random(f"write {notes['seed']}")
    rng.sample(list(world.ACTIONS), len(world.ACTIONS))
    assert 10 <= len(notes["clips"]) <= 12
    for entry in notes["clips"]:
        clip = world.sample_clip(entry["seed"], entry["action"])
        assert json.loads(json.dumps(dict(file=entry["file"], **world.annotation(clip, notes["fps"], rng)))) == entry
        film = read_video(folder / entry["file"], num_frames=4)
        drawn = world.render(clip, film.times + .5 / notes["fps"], notes["size"])
        assert np.abs(film.frames.astype(int) - drawn).mean() < 6
    assert sum(f.stat().st_size for f in folder.iterdir()) < 3e6
