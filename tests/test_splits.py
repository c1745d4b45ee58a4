"The splits of the miniature world: nothing leaks, everything can be read back, and an interruption costs nothing."
import csv, json, os, random, re, shlex, signal, subprocess, sys, threading, time
from pathlib import Path

import numpy as np
import pytest

from bike_nb import splits, world
from bike_nb.explain import Evidence, as_qvhighlights, open_source
from bike_nb.splits import PARTS, SPLITS, SplitError, make_split, read_split, write_split
from bike_nb.video import read_video

SAMPLES = Path(__file__).parents[1] / "data_samples"
QUICK = dict(size=48, fps=4, workers=1)
def ask(name): return dict(seed=3, clips=FEW[name], shots=2, duration=15. if name == "untrimmed" else None)
def planned(name): return {Path(e.stem).name: e for e in make_split(name, **ask(name)).entries()}
FEW = {"sample": 4, "few-shot": 3} | {n: 6 for n in SPLITS if n not in ("sample", "few-shot")}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    "Every split on disk, small, each once: films of those whose originals are films, frame folders of the others."
    made = {}
    def get(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("splits") / name
            format = "frames" if name in ("multi-label", "untrimmed", "few-shot") else "mp4"
            made[name] = folder, write_split(folder, name, format=format, **ask(name), **QUICK)
        return made[name]
    return get


def table(path): return list(csv.DictReader(path.open(newline="", encoding="utf-8")))
def lines(path): return path.read_text(encoding="utf-8").splitlines()
def everything(folder): return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
def moments(clip, n=6): return world.frame_times(clip, n)


# who may see what

def test_no_two_parts_of_any_two_splits_share_a_seed():
    plans = [make_split(name, seed=seed) for name in SPLITS for seed in (0, 1, 2, 998, 999)]
    seeds = [e.seed for plan in plans for e in plan.entries()]
    assert len(seeds) > 5000 and len(set(seeds)) == len(seeds)
    assert 0 <= min(seeds) and max(seeds) < 8_000_000  # the tiny model trains on ten million and more


def test_a_larger_split_adds_clips_and_changes_none():
    for name in ("general", "placed", "multi-label"):
        small, large = make_split(name, clips=30), make_split(name, clips=150)
        for part in PARTS:
            assert 0 < len(small.parts[part]) < len(large.parts[part])
            assert small.parts[part] == large.parts[part][:len(small.parts[part])]


@pytest.mark.parametrize("name", SPLITS)
def test_clips_show_the_classes_that_they_are_labelled_with(name):
    plan = make_split(name, seed=5, clips=None if name == "few-shot" else 30)
    for entry in (e for part in PARTS for e in plan.parts[part][:12]):
        clip, names = entry.clip(), [plan.names(entry.part)[k] for k in entry.labels]
        happens = {e.phrase if name == "held-out-pairs" else e.action for e in clip.events}
        if name != "placed":
            assert happens == set(names), entry
            continue
        action, place = world.PLACED[names[0]]
        inside = [t for t in moments(clip, 24) if clip.acting(t)]
        assert happens == {action} and inside and not any(place in world.words(clip, t) for t in inside), entry
        assert any(place in world.words(clip, t) for t in moments(clip, 48)), entry


def test_classes_take_turns():
    for name in ("general", "zero-shot", "held-out-pairs", "placed", "few-shot", "untrimmed"):
        plan = make_split(name, seed=2)
        for part in PARTS:
            count = np.bincount([e.labels[0] for e in plan.parts[part]])
            assert np.ptp(count[count > 0]) <= 1, (name, part, count)
        assert {e.labels[0] for e in plan.parts["train"]} == set(range(len(plan.classes)))


def test_zero_shot_training_never_shows_a_class_of_the_test():
    plan = make_split("zero-shot", clips=80)
    assert set(plan.test_classes) == set(world.NOVEL) and not set(plan.classes) & set(world.NOVEL)
    assert len(plan.parts["train"]) == 50
    for part in ("train", "val"):
        for entry in plan.parts[part]:
            clip = entry.clip()
            assert not any(set(world.words(clip, t)) & set(world.NOVEL) for t in moments(clip)), entry
    for entry in plan.parts["test"]:
        clip = entry.clip()
        assert any(plan.test_classes[entry.labels[0]] in world.words(clip, t) for t in moments(clip, 24)), entry


def test_held_out_pairs_show_in_the_test_and_only_there():
    plan = make_split("held-out-pairs")
    assert len(plan.test_classes) == 54 and set(plan.classes) < set(plan.test_classes)
    for part in PARTS:
        for entry in plan.parts[part]:
            clip = entry.clip()
            found = {q for t in moments(clip, 8) for q in world.nouns(clip, t)} & world.HELD_OUT
            asked = {(world.ACTIONS[clip.action].coloured, clip.colour)}
            if part == "test": assert asked <= world.HELD_OUT and found <= asked, entry  # nothing else is new in the clip
            else: assert not found and not asked & world.HELD_OUT, entry
    shown = {plan.test_classes[e.labels[0]] for e in plan.parts["test"]}
    assert shown and not shown & set(plan.classes)


def test_a_few_shots_lie_within_more_shots_and_share_the_test():
    plans = {k: make_split("few-shot", seed=4, shots=k) for k in (1, 2, 4, 8, 16)}
    for k, plan in plans.items():
        assert plan.parts["train"] == plans[16].parts["train"][:k * 14]
        assert plan.parts["test"] == plans[16].parts["test"] and plan.parts["val"] == plans[16].parts["val"]
        assert np.bincount([e.labels[0] for e in plan.parts["train"]]).tolist() == [k] * 14
    assert make_split("few-shot", seed=5, shots=1).parts["train"] != plans[1].parts["train"]


def test_the_dial_reaches_every_split():
    for name in SPLITS:
        for d in (0, 3): assert {e.clip().difficulty for e in make_split(name, difficulty=d, clips=4).entries()[:3]} == {d}


def test_many_actions_overlap_and_long_clips_are_mostly_idle():
    many = [e.clip() for e in make_split("multi-label", clips=40).entries()]
    both = [c for c in many if any(len(world.seen_events(c, t)) > 1 for t in moments(c, 24))]
    assert len(both) >= 10 and all(2 <= len({e.action for e in c.events}) == len(c.events) <= 4 for c in many)
    for entry in make_split("untrimmed", clips=8).entries():
        clip = entry.clip(); names = [e.action for e in clip.events]
        assert sorted(map(names.count, set(names))) == [1, 1, 3] and clip.duration == 40
        assert np.mean([clip.acting(t) for t in moments(clip, 200)]) < .6


# what is written

@pytest.mark.parametrize("name", SPLITS)
def test_lists_and_classes_read_by_plain_csv_name_what_the_clips_show(written, name):
    folder, notes = written(name)
    entries, clips = planned(name), {Path(c["file"]).stem: c for c in notes["clips"]}
    assert set(entries) == set(clips)
    classes = {part: {int(r["id"]): r["name"] for r in table(folder / "classes.csv")} for part in PARTS}
    if name in ("zero-shot", "held-out-pairs"): classes["test"] = {int(r["id"]): r["name"] for r in table(folder / "classes_test.csv")}
    seen = set()
    for part in PARTS:
        path = folder / ("list.txt" if name == "sample" else f"{part}.txt")
        if name == "multi-label" or name == "sample" and part != "test": continue
        for row in lines(path):
            *file, label = row.split(" ")
            vid = Path(file[0]).stem; entry = entries[vid]; clip = entry.clip(); seen.add(vid)
            if notes["format"] == "frames": assert int(file[1]) == len(list((folder / file[0]).iterdir())) == clips[vid]["num_frames"]
            else: assert (folder / file[0]).is_file() and len(file) == 1
            shown = classes[part][int(label)]
            may = {"held-out-pairs": [clip.phrase], "placed": [k for k, v in world.PLACED.items() if v[0] == clip.action]}
            assert entry.part == part and shown in may.get(name, [e.action for e in clip.events])
            if name == "untrimmed": assert [e.action for e in clip.events].count(shown) == 3
    assert seen == (set() if name == "multi-label" else set(entries))


def test_few_shot_lists_are_nested(written):
    folder, notes = written("few-shot")
    one, two, all_ = (lines(folder / f) for f in ("train_1_shot.txt", "train_2_shot.txt", "train.txt"))
    assert len(one) == 14 and two == all_ and two[:14] == one and not (folder / "train_4_shot.txt").exists()
    assert sorted(int(r.split()[-1]) for r in one) == list(range(14))


def test_charades_rows_hold_the_events(written):
    folder, notes = written("multi-label")
    names = dict(re.match(r"(c\d{3}) (.+)", line).groups() for line in lines(folder / "classes.txt"))
    assert list(names.values()) == world.SINGLE_FRAME
    for part in PARTS:
        rows, segments = table(folder / f"{part}.csv"), table(folder / f"{part}_segments.csv")
        assert list(rows[0]) == "id subject scene quality relevance verified script objects descriptions actions length".split()
        assert list(segments[0]) == "video_id label start_time end_time total_time".split()
        for row in rows:
            note = next(c for c in notes["clips"] if Path(c["file"]).name == row["id"])
            events = [(names[a], float(s), float(e)) for a, s, e in (x.split(" ") for x in row["actions"].split(";"))]
            assert events == [(e["action"], round(e["start"], 2), round(e["end"], 2)) for e in note["events"]] and float(row["length"]) == 12
            assert row["actions"].split(";") == [f"{s['label']} {s['start_time']} {s['end_time']}" for s in segments if s["video_id"] == row["id"]]
            assert set(row["objects"].split(";")) <= set(note["words"]) and row["scene"] in note["words"]


def test_activitynet_json_holds_the_events(written):
    folder, notes = written("untrimmed")
    net = json.loads((folder / "activitynet.json").read_text())
    assert {n["nodeName"] for n in net["taxonomy"]} == {"Root", *world.SINGLE_FRAME} and len(net["database"]) == len(notes["clips"])
    for c in notes["clips"]:
        video = net["database"][Path(c["file"]).name]
        assert video["subset"] == dict(train="training", val="validation", test="testing")[c["part"]] and video["duration"] == c["duration"] == 15
        assert video["annotations"] == [dict(segment=[e["start"], e["end"]], label=e["action"]) for e in c["events"]]
        assert all(0 <= a < b <= 15 for a, b in (v["segment"] for v in video["annotations"]))


@pytest.mark.parametrize("name", ["general", "untrimmed", "multi-label", "few-shot"])
def test_pictures_are_read_back_by_the_package(written, name):
    folder, notes = written(name)
    plan = planned(name)
    first = {"untrimmed": "image_000001.jpg", "multi-label": "{}-000001.jpg", "few-shot": "img_00001.jpg"}.get(name)
    for c in notes["clips"][:3]:
        path, clip = folder / c["file"], plan[Path(c["file"]).stem].clip()
        if notes["format"] == "frames":
            assert min(p.name for p in path.iterdir()) == first.format(path.name)
            source = open_source(path, num_frames=c["num_frames"], fps=notes["fps"])
            frames, times = (np.concatenate([getattr(b, k) for b in blocks]) for blocks in [list(source.blocks)] for k in ("frames", "times"))
        else:
            film = read_video(path, num_frames=c["num_frames"]); frames, times = film.frames, film.times
            assert film.duration == pytest.approx(c["duration"])
        assert frames.shape == (c["num_frames"], 48, 48, 3)
        drawn = world.render(clip, times + .5 / notes["fps"], 48)
        assert np.abs(frames.astype(int) - drawn).mean() < 8


@pytest.mark.parametrize("name", ["sample", "multi-label", "held-out-pairs"])
def test_the_truth_that_is_written_is_that_of_the_frames(written, name):
    folder, notes = written(name)
    plan = planned(name)
    assert json.loads((folder / "annotations.json").read_text()) == notes
    for c in notes["clips"]:
        clip = plan[Path(c["file"]).stem].clip()
        for t in splits.film_times(clip, notes["fps"]):
            assert {w for w, runs in c["words"].items() if any(a <= t < b for a, b in runs)} == set(world.phrases(clip, t))
        assert len(c["boxes"]) == 2 * c["duration"]
        for b in c["boxes"]:
            assert b["things"] == [[w, col, box, share] for w, col, box, share in json.loads(json.dumps(world.in_sight(clip, b["time"])))]
            assert all(0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1 for _, _, (x0, y0, x1, y1), _ in b["things"])
        assert len(c["captions"]) >= 1 and all(0 <= s["time"] < c["duration"] for s in c["captions"])
        assert [e["phrase"] for e in c["events"]] == [e.phrase for e in clip.events]


@pytest.mark.parametrize("name", SPLITS)
def test_saliency_lines_agree_with_the_frames(written, name):
    folder, notes = written(name)
    plan = planned(name)
    rows = [(path, json.loads(line)) for path in sorted(folder.glob("saliency*.jsonl")) for line in lines(path)]
    assert len({r["qid"] for _, r in rows}) == len(rows) and {r["vid"] for _, r in rows} == set(plan)
    for path, r in rows:
        clip, length = plan[r["vid"]].clip(), r["clip_length"]
        assert name == "sample" or path.name == f"saliency_{plan[r['vid']].part}.jsonl"
        times = splits.film_times(clip, notes["fps"])
        true = np.array([r["query"] in world.phrases(clip, t) for t in times])
        assert true.any() and r["duration"] == clip.duration
        assert [any(a <= t < b for a, b in r["relevant_windows"]) for t in times] == true.tolist()
        n = int(clip.duration / length); which = np.minimum((times / length).astype(int), n - 1)
        share = [true[which == k].mean() for k in range(n)]
        assert r["relevant_clip_ids"] == [k for k in range(n) if share[k] > 0]
        assert r["saliency_scores"] == [[int(np.ceil(4 * share[k] - 1e-6))] * 3 for k in r["relevant_clip_ids"]]
    asked = {q["query"] for _, q in rows}
    assert asked & set(world.ANY) and any(q.split()[0] in world.COLOURS for q in asked)


def test_predictions_of_the_package_can_be_scored_against_the_saliency_lines(written):
    "An oracle that answers with the truth, written by `to_qvhighlights`, is right in every window and every clip."
    folder, notes = written("sample")
    rows = [json.loads(line) for line in lines(folder / "saliency.jsonl")]
    for note in notes["clips"]:
        asked = [r for r in rows if r["vid"] == Path(note["file"]).stem]
        film = read_video(folder / note["file"], num_frames=note["num_frames"])
        shows = np.array([[any(a <= t < b for a, b in r["relevant_windows"]) for t in film.times + .5 / notes["fps"]] for r in asked], float)
        oracle = Evidence(str(folder / note["file"]), "oracle", dict(unit="s", start=0., end=film.duration), film.times, [r["query"] for r in asked],
                          shows.max(1), shows.max(1), shows, shows / shows.sum(1, keepdims=True), [])
        said = [json.loads(line) for line in as_qvhighlights(oracle, qid=[r["qid"] for r in asked]).splitlines()]
        for r, p in zip(asked, said):
            assert (p["qid"], p["vid"], p["query"]) == (r["qid"], r["vid"], r["query"])
            assert len(p["pred_saliency_scores"]) == int(r["duration"] / r["clip_length"])
            best = max(zip(r["saliency_scores"], r["relevant_clip_ids"]))[0]
            assert r["saliency_scores"][r["relevant_clip_ids"].index(int(np.argmax(p["pred_saliency_scores"])))] == best
            if len(r["relevant_windows"]) == 1:
                (a, b), (c, d, _) = r["relevant_windows"][0], p["pred_relevant_windows"][0]
                assert abs(a - c) <= .5 / notes["fps"] + 1e-6 and abs(b - d) <= .5 / notes["fps"] + 1e-6


def test_scores_of_a_film_shorter_than_two_seconds(tmp_path):
    notes = write_split(tmp_path / "w", "sample", clips=1, duration=1, **QUICK)
    assert notes["clip_length"] == 1 and json.loads(lines(tmp_path / "w/saliency.jsonl")[0])["relevant_clip_ids"] == [0]
    assert write_split(tmp_path / "v", "sample", clips=1, duration=3, **QUICK)["clip_length"] == 2


def test_shorter_clips_for_the_scores():
    assert splits.relevance([(0, 1.5)], 6., 1.) == ([0, 1], [4, 2])
    assert splits.relevance([(.9, 1.1), (1.9, 2.)], 2.5, 1.) == ([0, 1], [1, 1])  # the last clip takes the rest
    assert splits.relevance([(0, .4)], .5, 2.) == ([0], [4])


# determinism, interruption, refusal

@pytest.mark.parametrize("name,format", [("general", "mp4"), ("multi-label", "frames")])
def test_texts_and_frames_are_the_same_bytes_for_any_number_of_workers(tmp_path, name, format):
    ask = dict(split=name, clips=10, size=64, fps=4, duration=3., seed=1, format=format)
    one, two = tmp_path / "1" / "w", tmp_path / "2" / "w"
    assert write_split(one, workers=1, **ask) == write_split(two, workers=2, **ask)
    a, b = everything(one), everything(two)
    assert list(a) == list(b) and len(a) > 15
    assert {k for k in a if a[k] != b[k]} <= {k for k in a if k.endswith(".mp4")}  # libx264 is not reproducible to the byte
    for k in (k for k in a if k.endswith(".mp4")):
        assert np.abs(read_video(one / k, 4).frames.astype(int) - read_video(two / k, 4).frames).mean() < 2


MANY = dict(split="general", clips=32, size=64, fps=4, duration=4.)

def begin(folder, workers=1, before="", ask=MANY):
    "Start writing in another process, in a process group of its own."
    code = f"{before}\nfrom bike_nb.splits import write_split\nif __name__ == '__main__': write_split({str(folder)!r}, workers={workers}, **{ask})"
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stderr=subprocess.PIPE, text=True)

def films(folder): return sorted(p for p in folder.rglob("*.mp4") if not p.name.startswith("."))

def wait_for(folder, n, process):
    while len(films(folder)) < n:
        assert process.poll() is None, process.stderr.read()
        time.sleep(.02)


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("how,workers", [(signal.SIGKILL, 1), (signal.SIGKILL, 2), (signal.SIGINT, 2)], ids=["kill-1", "kill-2", "ctrl-c-2"])
def test_an_interrupted_run_goes_on(tmp_path, how, workers):
    process = begin(tmp_path / "w", workers)
    wait_for(tmp_path / "w", 4, process)
    if how == signal.SIGINT: os.killpg(process.pid, how)  # as a terminal does: the workers get it too
    else: process.kill()
    error = process.communicate(timeout=20)[1]
    assert process.returncode != 0 and (how == signal.SIGKILL or error.count("KeyboardInterrupt") == 1)
    for _ in range(50):  # no worker outlives its parent
        try: os.killpg(process.pid, 0)
        except ProcessLookupError: break
        time.sleep(.1)
    else: pytest.fail("workers live on")
    kept = {p: p.stat().st_mtime_ns for p in films(tmp_path / "w")}
    assert 4 <= len(kept) < 32
    for path in kept: assert len(read_video(path, 3)) == 3  # what is there is whole
    with pytest.raises(SplitError, match="not finished"): read_split(tmp_path / "w")
    for left in ("train/.train_0009_x.4711.mp4", ".classes.csv.part"): (tmp_path / "w" / left).write_text("half")  # what a kill at another moment leaves
    (tmp_path / "w/val/.val_0000_x.part").mkdir()
    notes = write_split(tmp_path / "w", workers=1, **MANY)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept and len(films(tmp_path / "w")) == 32
    assert not [p for p in (tmp_path / "w").rglob(".*")] and read_split(tmp_path / "w") == notes
    plan = make_split("general", clips=32, duration=4.)
    assert [c["words"] for c in notes["clips"]] == [json.loads(json.dumps(world.spans(e.clip(), splits.film_times(e.clip(), 4)))) for e in plan.entries()]


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_FSIZE")
def test_a_disk_that_takes_no_more_ends_in_one_sentence(tmp_path):
    ask = dict(split="general", clips=8, size=96, fps=8)
    process = begin(tmp_path / "w", 1, "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))", ask)
    error = process.communicate(timeout=40)[1].strip().splitlines()[-1]
    assert process.returncode == 1 and error.startswith("bike_nb.splits.SplitError: ") and "cannot be written" in error and "the same call goes on from there" in error
    assert len(write_split(tmp_path / "w", **ask)["clips"]) == 8


@pytest.mark.parametrize("format", ["frames", "mp4"])
def test_two_runs_at_once_draw_each_clip_once(tmp_path, monkeypatch, format):
    "The second waits for the first, and does not take its half-finished clips for leftovers; then the lock is gone."
    made, begun, found, make = [], threading.Event(), [], splits._make
    def slow(folder, entry, notes):
        made.append(entry.stem); begun.set(); time.sleep(.05)
        return make(folder, entry, notes)
    monkeypatch.setattr(splits, "_make", slow)
    def run(): found.append(write_split(tmp_path / "w", "general", clips=6, format=format, **QUICK))
    threads = [threading.Thread(target=run) for _ in range(3)]
    threads[0].start(); assert begun.wait(30)
    for t in threads[1:]: t.start()
    for t in threads: t.join()
    assert len(found) == 3 and found[0] == found[1] == found[2] == read_split(tmp_path / "w") and len(made) == len(set(made)) == 6
    assert not [p for p in (tmp_path / "w").rglob(".*")]


def test_finished_films_are_drawn_once(tmp_path, monkeypatch):
    ask = dict(split="placed", clips=4, **QUICK)
    notes = write_split(tmp_path / "w", **ask)
    drawn = []
    monkeypatch.setattr(splits, "render_frame", lambda *a: drawn.append(a) or world.render_frame(*a))
    assert write_split(tmp_path / "w", **ask) == notes and not drawn
    (tmp_path / "w" / notes["clips"][1]["file"]).write_bytes(b"")  # what a crash of the machine may leave
    (tmp_path / "w/train.txt").unlink()
    assert write_split(tmp_path / "w", **ask) == notes and len(drawn) == 24 and (tmp_path / "w/train.txt").exists()


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    write_split(tmp_path / "w", "sample", clips=1, **QUICK)
    before = everything(tmp_path / "w")
    for change, said in ((dict(split="general", clips=3), "split is sample there and general here"), (dict(seed=7), "seed is 0 there and 7 here"),
                         (dict(size=64), "size is 48 there and 64 here"), (dict(fps=5), "fps is 4"), (dict(format="frames"), "format is mp4"),
                         (dict(clips=2), "parts is"), (dict(difficulty=2), "difficulty is 1 there and 2 here")):
        with pytest.raises(SplitError, match=said): write_split(tmp_path / "w", **{**dict(split="sample", clips=1), **QUICK, **change})
    made = json.loads((tmp_path / "w/split.json").read_text())
    (tmp_path / "w/split.json").write_text(json.dumps(made | dict(drawing="00000000")))
    with pytest.raises(SplitError, match="another version of the world"): write_split(tmp_path / "w", clips=1, **QUICK)
    (tmp_path / "w/split.json").write_text('{"world": 2,\n "split"')
    with pytest.raises(SplitError, match=r"split.json is broken at line 2"): write_split(tmp_path / "w", clips=1, **QUICK)
    assert {k: v for k, v in everything(tmp_path / "w").items() if k != "split.json"} == {k: v for k, v in before.items() if k != "split.json"}
    (tmp_path / "mine").mkdir(); (tmp_path / "mine/thesis.txt").write_text("x")
    with pytest.raises(SplitError, match=r"holds other things \(thesis.txt\)"): write_split(tmp_path / "mine", clips=1, **QUICK)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_what_cannot_be_asked_for_is_said_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    for ask, said in ((dict(directory=tmp_path / "file"), "is a file: name a folder"), (dict(directory=tmp_path / "file/w"), "Not a directory"),
                      (dict(directory=None), "None is no folder"), (dict(split="hard"), "no split 'hard'; there are: sample, general"), (dict(clips=0), "clips is 0"),
                      (dict(clips=2.5), "clips is 2.5"), (dict(split="general", clips=2), "from 3 to"), (dict(split="general", clips={}), "clips is 0 for every part"),
                      (dict(clips=dict(train=3)), "clips has 'train': of sample, it can name test"), (dict(seed=1000), "seed is 1000"), (dict(seed="a"), "seed is 'a'"),
                      (dict(difficulty=4), "difficulty is 4"), (dict(size=33), "size is 33"), (dict(size=16), "size is 16"), (dict(fps=0), "fps is 0"),
                      (dict(fps=float("nan")), "fps is nan"), (dict(fps=.1), "less than two frames"), (dict(duration=-1), "duration is -1"),
                      (dict(duration="6"), "duration is '6'"), (dict(format="gif"), "format is 'gif'"), (dict(workers=0), "workers is 0"),
                      (dict(clip_length=9), "clip_length is 9"), (dict(split="few-shot", shots=0), "shots is 0")):
        with pytest.raises(SplitError, match=re.escape(said)) as e: write_split(**{**dict(directory=tmp_path / "w", clips=3), **ask})
        assert "\n" not in str(e.value) and not (tmp_path / "w").exists(), ask


def test_a_broken_or_missing_file_is_named(tmp_path):
    ask = dict(split="untrimmed", clips=3, duration=4., **QUICK)
    notes = write_split(tmp_path / "w", **ask); folder = tmp_path / "w"
    def broken(name, damage, said):
        path = folder / name; text = path.read_bytes()
        damage(path)
        with pytest.raises(SplitError, match=said): read_split(folder)
        path.write_bytes(text); assert read_split(folder) == notes
    for name in ("val.txt", "classes.csv", "lexicon.txt", "saliency_test.jsonl", notes["clips"][2]["file"]):
        broken(name, Path.unlink, f"{name} is missing or incomplete: run the command")
    for name in ("annotations.json", "activitynet.json", "saliency_train.jsonl"):
        broken(name, lambda p: p.write_bytes(p.read_bytes()[:-9]), rf"{name} is broken at line \d+")
    broken("annotations.json", lambda p: p.write_text("[]"), "annotations.json is not what write_split writes: it has no 'split'")
    broken("annotations.json", lambda p: p.write_text(json.dumps(notes | dict(clips=[{}]))), "annotations.json is not what write_split writes")
    (folder / "annotations.json").unlink()
    with pytest.raises(SplitError, match="is not finished"): read_split(folder)
    with pytest.raises(SplitError, match="is no folder"): read_split(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SplitError, match="annotations.json is missing"): read_split(tmp_path / "empty")


def test_a_missing_frame_is_noticed(tmp_path):
    notes = write_split(tmp_path / "w", clips=1, format="frames", **QUICK)
    folder = tmp_path / "w" / notes["clips"][0]["file"]
    (folder / "img_00007.jpg").unlink()
    with pytest.raises(SplitError, match=folder.name): read_split(tmp_path / "w")
    write_split(tmp_path / "w", clips=1, format="frames", **QUICK)
    assert len(list(folder.iterdir())) == 24 and read_split(tmp_path / "w") == notes


def test_the_readme_names_every_file_and_the_command(written):
    for name, said in (("sample", "    bike_nb world sample --clips 4 --seed 3 --size 48 --fps 4\n"),
                       ("few-shot", "--split few-shot --clips 3 --seed 3 --size 48 --fps 4 --format frames --shots 2\n"),
                       ("untrimmed", "    bike_nb world untrimmed --split untrimmed --clips 6 --seed 3 --size 48 --fps 4 --format frames --duration 15\n")):
        folder, _ = written(name); text = (folder / "README.md").read_text()
        assert said in text
        assert set(re.findall(r"^\| `([^`*]+)` \|", text, re.M)) == {p.name for p in folder.iterdir() if p.is_file() and p.suffix != ".mp4"} - {"README.md"}


def test_the_command_of_the_readme_makes_the_same_folder(tmp_path):
    ask = dict(split="general", clips=3, size=48, fps=24000 / 1001, duration=1.5)
    write_split(tmp_path / "my clips", **ask, workers=1)
    command, = re.findall(r"^    (bike_nb world .*)$", (tmp_path / "my clips/README.md").read_text(), re.M)
    _, _, folder, *flags = shlex.split(command)
    said = dict(zip(flags[::2], flags[1::2], strict=True))
    assert folder == "my clips" and float(said["--fps"]) == ask["fps"] and float(said["--duration"]) == float(said["--clip-length"]) == 1.5


# the showcase

def test_write_world(tmp_path):
    notes = splits.write_world(tmp_path / "w", clips=3, seed=9, size=96, fps=6, duration=4)
    assert json.loads((tmp_path / "w/annotations.json").read_text()) == notes
    rows = table(tmp_path / "w/classes.csv")
    assert [r["name"] for r in rows] == list(world.ACTIONS)
    for line, entry in zip(lines(tmp_path / "w/list.txt"), notes["clips"], strict=True):
        file, label = line.rsplit(" ", 1)
        assert file == entry["file"] and rows[int(label)]["name"] == entry["action"]
        film = read_video(tmp_path / "w" / file, num_frames=24)
        assert film.frames.shape == (24, 96, 96, 3)
        clip = world.sample_clip(entry["seed"], entry["action"], duration=4.)
        assert np.abs(film.frames.astype(int) - world.render(clip, world.frame_times(clip, 24))).mean() < 6
        runs = entry["words"][entry["action"]]
        assert len(runs) == 1 and abs(runs[0][0] - entry["span"][0]) <= .17 and abs(runs[0][1] - entry["span"][1]) <= .17
    assert splits.write_world(tmp_path / "v", clips=3, seed=9, size=96, fps=6, duration=4) == notes
    assert lines(tmp_path / "w/lexicon.txt") == world.vocabulary()


def test_the_samples_are_what_the_code_makes():
    notes = read_split(SAMPLES)
    plan = make_split("sample", seed=notes["seed"], clips=len(notes["clips"]), duration=notes["duration"])
    assert 10 <= len(notes["clips"]) <= 12 and notes["drawing"] == splits.fingerprint()
    for note, entry in zip(notes["clips"], plan.entries(), strict=True):
        clip = entry.clip()
        known = splits.annotation(clip, notes["fps"], random.Random(f"captions {entry.seed}"))
        made = dict(file=f"{entry.stem}.mp4", part="test", labels=entry.labels, num_frames=48, **known)
        assert json.loads(json.dumps(made)) == note
        film = read_video(SAMPLES / note["file"], num_frames=4)
        assert np.abs(film.frames.astype(int) - world.render(clip, film.times + .5 / notes["fps"], notes["size"])).mean() < 6
    assert sum(f.stat().st_size for f in SAMPLES.iterdir()) < 3e6
