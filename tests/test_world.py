"The miniature world: what it says is what it shows, and nothing around an action gives it away."
import hashlib, json, random, re
from dataclasses import replace

import numpy as np
import pytest
import torch

from bike_nb import world

CLIPS = [world.sample_clip(900 + i, name, held_out=None, difficulty=i // len(world.ANY) % 4) for i, name in enumerate(list(world.ANY) * 4)]
UNTIED = [name for name, a in world.ACTIONS.items() if not a.scenes]


def moments(clip, n=3):
    rng = random.Random(clip.seed)
    return [rng.uniform(clip.start, clip.end)] + [rng.uniform(0, clip.duration) for _ in range(n - 1)]


def changed(a, b):
    "How many pixels differ visibly."
    return int((np.abs(a.astype(int) - b.astype(int)).max(-1) > 12).sum())


def clear(clip):
    "The same clip without haze and compression, so that a pixel that changes was drawn."
    return replace(clip, quality=None, shots=[replace(s, haze=0.) for s in clip.shots])


def without(clip, t, **change):
    shot = clip.shot(t)
    return replace(clip, shots=[replace(s, **change) if s is shot else s for s in clip.shots])


# Determinism

HASHES = {0: "457a89162e80cb2d", 1: "6ad88ecf2e10d000", 2: "1727e7c166d68b88", 3: "7d5cf52a08268d89"}


def digest(difficulty):
    found = hashlib.sha256()
    for i, name in enumerate(world.ANY):
        clip = world.sample_clip(i, name, difficulty=difficulty)
        found.update(world.render(clip, [.5, (clip.start + clip.end) / 2, 5.5]).tobytes())
        found.update(json.dumps(world.truth(clip, (clip.start + clip.end) / 2), sort_keys=True).encode())
    return found.hexdigest()[:16]


@pytest.mark.parametrize("difficulty", range(4))
def test_the_world_is_the_same_on_every_machine(difficulty):
    "With the Pillow of constraints.txt. Changed on purpose? Then the models have to be trained again, and the samples drawn again."
    assert digest(difficulty) == HASHES[difficulty]


def test_a_seed_is_a_clip():
    for seed in (3, 4):
        a, b = world.sample_clip(seed), world.sample_clip(seed)
        assert a == b and np.array_equal(world.render(a, [1., 3.]), world.render(b, [1., 3.]))
        assert world.sample_many(seed) == world.sample_many(seed) and world.sample_untrimmed(seed) == world.sample_untrimmed(seed)
    assert world.sample_clip(3) != world.sample_clip(4)
    a = world.sample_clip(3)  # what was asked before does not matter
    world.truth(a, 1.); assert a == world.sample_clip(3)


# Scripts

@pytest.mark.parametrize("difficulty", range(4))
def test_the_action_fills_the_span_of_its_difficulty(difficulty):
    (low, high), hidden, total = world.DIFFICULTY[difficulty].span, 0, 0
    for i in range(60):
        clip = world.sample_clip(i, difficulty=difficulty)
        assert 0 <= clip.start < clip.end <= clip.duration
        assert low <= (clip.end - clip.start) / clip.duration <= high
        times = world.frame_times(clip, 16)
        acting = [t for t in times if clip.acting(t)]
        assert 1 <= len(acting) <= 16 * high + 1
        shown = [t for t in times if clip.action in world.words(clip, t)]
        assert set(shown) <= set(acting) and (difficulty > 1 or shown == acting)
        hidden += len(acting) - len(shown); total += len(acting)
    assert hidden <= .05 * total  # hidden for a moment by what stands in front


def test_the_dial_makes_actions_shorter_smaller_and_more_cluttered():
    levels = world.DIFFICULTY
    assert all(a.span[1] > b.span[1] and a.things[1] < b.things[1] and a.scale[0] >= b.scale[0] and a.haze[1] <= b.haze[1] for a, b in zip(levels, levels[1:]))
    seen = [np.mean([len(world.sample_clip(i, difficulty=d).shots[0].things) for i in range(80)]) for d in range(4)]
    assert seen[0] < seen[1] < seen[2] < seen[3]
    contrast = [np.mean([world.render_frame(world.sample_clip(i, difficulty=d), 3.).astype(float).std() for i in range(40)]) for d in (1, 3)]
    assert contrast[1] < .85 * contrast[0]


def test_shots_cover_the_clip_and_an_action_stays_in_one():
    for clip in CLIPS + [world.sample_many(i) for i in range(9)] + [world.sample_untrimmed(i) for i in range(9)]:
        assert clip.shots[0].start == 0 and clip.shots[-1].end == pytest.approx(clip.duration)
        assert all(a.end == b.start for a, b in zip(clip.shots, clip.shots[1:]))
        for e in clip.events: assert clip.shot(e.start) is clip.shot(e.end - 1e-6)


def test_many_actions_some_at_once_and_long_clips():
    both = 0
    for seed in range(20):
        clip = world.sample_many(seed, 4)
        assert len({e.action for e in clip.events}) == 4
        times = world.frame_times(clip, 48)
        both += any(len(clip.active(t)) == 2 for t in times)
        for e in clip.events:
            assert sum(e.action in world.words(clip, t) for t in times) >= .6 * sum(e.at(t) for t in times) > 0, (seed, e)
        long = world.sample_untrimmed(seed, 5, 40.)
        acting = np.mean([long.acting(t) for t in world.frame_times(long, 80)])
        assert len(long.events) == 5 and .2 < acting < .6
    assert both >= 10
    assert [e.action for e in world.sample_many(1, ["juggling balls", "walking a dog"]).events] in (["juggling balls", "walking a dog"], ["walking a dog", "juggling balls"])


def test_classes_bound_to_their_surroundings_show_the_place_only_around_the_action():
    for i, (name, (action, place)) in enumerate(world.PLACED.items()):
        clip = world.sample_clip(i, action, place=place)
        times = world.frame_times(clip, 16)
        assert not any(set(world.words(clip, t)) & set(world.SCENES) for t in times if clip.acting(t))
        assert {w for t in times for w in world.words(clip, t)} & set(world.SCENES) == {place}
        assert name.startswith(action)


# Truth

@pytest.mark.parametrize("what", ["things", "person"])
def test_whatever_is_listed_can_be_seen(what):
    "Take a thing or the idle person out of the picture: pixels must change."
    seen = 0
    for clip in map(clear, CLIPS):
        for t in moments(clip):
            shot, frame, listed = clip.shot(t), world.render_frame(clip, t), world.nouns(clip, t)
            if what == "things":
                for thing in shot.things:
                    if (thing.kind, thing.colour) not in listed or sum(o.kind == thing.kind for o in shot.things) > 1: continue
                    if clip.acting(t) and thing.kind in world.ANY[clip.action].words: continue
                    less = world.render_frame(without(clip, t, things=[o for o in shot.things if o is not thing]), t)
                    assert changed(frame, less) >= 8, (clip.seed, clip.action, t, thing)
                    seen += 1
            elif shot.idle and not any(world.ANY[e.action].person for e in clip.active(t)) and ("person", None) in listed:
                assert changed(frame, world.render_frame(without(clip, t, idle=False), t)) >= 12, (clip.seed, clip.action, t)
                seen += 1
    assert seen > 50


def test_what_is_hidden_is_not_listed_and_boxes_hold_what_they_say():
    hidden = boxes = tight = 0
    for clip in map(clear, CLIPS):
        for t in moments(clip):
            listed = {w for w, *_ in world.in_sight(clip, t)}
            hidden += len({w for w, *_ in world.label_map(clip, t).things} - listed)
            for thing in clip.shot(t).things:
                mine = [b for w, c, b, _ in world.in_sight(clip, t) if (w, c) == (thing.kind, thing.colour)]
                if len(mine) != 1 or (clip.acting(t) and thing.kind in world.ANY[clip.action].words) or sum(o.kind == thing.kind for o in clip.shot(t).things) > 1: continue
                other = world.render_frame(without(clip, t, things=[o for o in clip.shot(t).things if o is not thing]), t)
                difference = np.abs(world.render_frame(clip, t).astype(int) - other).max(-1)
                rows, columns = (difference > 40).nonzero()
                if not len(rows): continue
                x0, y0, x1, y1 = (96 * v for v in mine[0])
                inside = (columns >= x0 - 2) & (columns < x1 + 2) & (rows >= y0 - 2) & (rows < y1 + 2)
                assert inside.mean() > .95, (clip.seed, t, thing, mine)  # the rest: slivers of less than a pixel beside what hides it
                rows, columns = (difference > 3).nonzero()
                boxes += 1; tight += (columns.max() - columns.min() + 1) * (rows.max() - rows.min() + 1) > .7 * (x1 - x0) * (y1 - y0)
    assert hidden > 10 and boxes > 300 and tight > .95 * boxes  # a grey rock on a grey street may change little


def test_a_thing_behind_another_is_not_in_sight():
    big, small = world.Thing("house", "red", .5, .1, 2.), world.Thing("star", "blue", .5, .3, .6)
    shown = lambda things: [w for w, *_ in world.in_sight(world.Clip(0, [world.Event("juggling balls", None, 5, 6)], [world.Shot(0, 6, "snow", 1, things)]), 1.)]
    assert shown([big, small]) == ["house", "star"] and shown([small, big]) == ["house"] and shown([small]) == ["star"]


def test_an_action_shows_when_it_is_listed_and_only_then():
    for clip in map(clear, CLIPS):
        t, e = (clip.start + clip.end) / 2, clip.events[0]
        later = replace(clip, events=[replace(e, start=t + 1e-3, end=e.end + 1)])
        assert clip.action in world.words(clip, t) and clip.action not in world.words(later, t)
        assert changed(world.render_frame(clip, t), world.render_frame(later, t)) >= (120 if clip.difficulty < 2 else 40), (clip.seed, clip.action, clip.difficulty)


def test_truth_is_plain_data_with_phase_boxes_and_colours():
    for clip in CLIPS[::3]:
        t = clip.start + .25 * (clip.end - clip.start)
        found = json.loads(json.dumps(world.truth(clip, t)))
        assert found["actions"] == [dict(action=clip.action, phrase=clip.phrase, phase=.25, start=round(clip.start, 3), end=round(clip.end, 3))]
        assert found["scene"] in world.SCENES and found["words"] == world.words(clip, t)
        for thing in found["things"]:
            x0, y0, x1, y1 = thing["box"]
            assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1 and 0 < thing["visible"] <= 1 and thing["word"] in found["words"]
            assert thing["colour"] is None or thing["colour"] in world.COLOURS


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
    for clip in CLIPS + [world.sample_many(i) for i in range(12)] + [world.sample_clip(i, a, place=p) for i, (a, p) in enumerate(world.PLACED.values())]:
        rng = random.Random(clip.seed)
        for t in moments(clip):
            facts = world.facts(clip, t)
            for _ in range(12):
                text, said = world.caption(clip, t, rng)
                assert said <= facts and (said or text == "a drawing"), (text, said)
                for colour in world.COLOURS:  # every colour in the text belongs to a stated fact
                    if re.search(rf"\b{colour}\b", text): assert any(re.search(rf"\b{colour}\b", f) for f in said), text
                stated = " ".join(said)
                for word in plain.findall(text.replace("a person", "")):
                    assert word in stated or word in world.PLACE or word == "person", (text, said)


def test_held_out_pairs_and_novel_actions_stay_out():
    asked = [(world.sample_clip(i, difficulty=d), d) for i in range(100) for d in range(4)]
    pairs = {(n, c) for clip, _ in asked for t in moments(clip, 2) for n, c in world.nouns(clip, t) if c}
    assert not pairs & world.HELD_OUT and len(pairs) > 120
    assert not {clip.action for clip, _ in asked} & set(world.NOVEL) and not set(world.NOVEL) & set(world.vocabulary())
    only = {(n, c) for i in range(60) for clip in [world.sample_clip(i, held_out=True)] for n, c in world.nouns(clip, clip.start) if c and n != "ball"}
    assert only <= world.HELD_OUT and len(only) > 10
    assert len(world.HELD_OUT) == len({n for n, _ in world.HELD_OUT})  # one colour a thing
    for name, a in world.NOVEL.items():  # its words are known, their combination is new
        known = " ".join(world.vocabulary()).split()
        assert all(w in known for w in name.split() if w not in ("a",)), name


def test_every_noun_of_the_world_is_in_its_vocabulary():
    for clip in CLIPS:
        if clip.action in world.NOVEL: continue
        for t in moments(clip): assert set(world.words(clip, t)) <= set(world.vocabulary())


def test_the_packaged_lexicon_is_the_vocabulary():
    from importlib.resources import files
    lines = files("bike_nb").joinpath("lexicons/world.txt").read_text(encoding="utf-8").splitlines()
    assert [l for l in lines if not l.startswith("#")] == world.vocabulary()


# Nothing around the action gives it away

def around(n, seed, names, difficulty):
    "One frame outside the action of each of n clips that keep to one shot, small, and what happened elsewhere in the clip."
    x, y = [], []
    for i in range(n):
        clip = world.sample_clip(seed + i, names[i % len(names)], cut=False, difficulty=difficulty)
        gaps = [(0, clip.start), (clip.end, clip.duration)]
        a, b = max(gaps, key=lambda g: g[1] - g[0])
        frame = world.render_frame(clip, (a + b) / 2).astype(np.float32) / 255
        x.append(frame.reshape(16, 6, 16, 6, 3).mean((1, 3)).ravel()); y.append(i % len(names))
    return torch.tensor(np.stack(x)), torch.tensor(y)


def probe(x, y, test_x, test_y, classes, epochs=60):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(x.shape[1], 96), torch.nn.ReLU(), torch.nn.Dropout(.3), torch.nn.Linear(96, classes))
    mean, std = x.mean(0), x.std(0) + 1e-3
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=.05)
    for _ in range(epochs):
        for part in torch.randperm(len(x)).split(128):
            optimizer.zero_grad(); torch.nn.functional.cross_entropy(net((x[part] - mean) / std), y[part]).backward(); optimizer.step()
    with torch.no_grad(): return (net.eval()((test_x - mean) / std).argmax(1) == test_y).float().mean().item()


@pytest.mark.parametrize("difficulty", (1, 3))
def test_a_probe_of_the_frames_around_the_action_is_at_chance(difficulty):
    n, m = 3200, 1600
    hit = probe(*around(n, 1_000_000, UNTIED, difficulty), *around(m, 2_000_000, UNTIED, difficulty), len(UNTIED))
    chance = 1 / len(UNTIED)
    assert hit < chance + 3 * (chance * (1 - chance) / m) ** .5, hit  # three standard errors


def test_the_same_probe_sees_what_there_is_to_see():
    "So that being at chance means something: it finds the wanted ties, and the actions themselves."
    tied = ["sailing a boat", "watching fireworks", "walking a dog", "juggling balls"]
    assert probe(*around(1200, 3_000_000, tied, 1), *around(600, 4_000_000, tied, 1), 4) > .4


# Bad requests

@pytest.mark.parametrize("ask, says", [
    (lambda: world.sample_clip(0, "knitting"), "no action 'knitting'"), (lambda: world.sample_clip(0, difficulty=4), "difficulty is 4"),
    (lambda: world.sample_clip(0, "sailing a boat", place="city"), "only in beach"), (lambda: world.sample_clip(0, "juggling balls", place="moon"), "the places are meadow"),
    (lambda: world.sample_clip(0, span=(1.2, 1.5)), "span is"), (lambda: world.sample_clip(0, span=(0, 0)), "span is"), (lambda: world.sample_clip(0, span=.5), "span is 0.5"),
    (lambda: world.sample_clip(0, difficulty=1.), "difficulty is 1.0"), (lambda: world.sample_clip(0, ["juggling balls"]), "no action"), (lambda: world.sample_clip(0, duration=0), "duration is 0"),
    (lambda: world.sample_many(0, duration=-1), "duration is -1"), (lambda: world.sample_untrimmed(0, duration="6"), "duration is '6'"), (lambda: world.sample_many(0, 2.5), "actions is 2.5"),
    (lambda: world.sample_untrimmed(0, 2.5), "actions is 2.5"), (lambda: world.sample_many(0, "flying a kite"), "actions is 'flying a kite'"),
    (lambda: world.sample_many(0, 0), "actions is 0"), (lambda: world.sample_many(0, 99), "from 1 to 14"), (lambda: world.sample_many(0, []), "empty list"),
    (lambda: world.sample_untrimmed(0, ["knitting"]), "no action 'knitting'")])
def test_bad_requests_say_what_is_wrong(ask, says):
    with pytest.raises(world.WorldError, match=says): ask()
