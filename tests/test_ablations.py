"The table of ablations: well-formed, with five seeds or more everywhere, and what the script computes again and trains."
import collections, csv, importlib.util, shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("run_ablations", ROOT/"scripts"/"run_ablations.py")
A = importlib.util.module_from_spec(spec); spec.loader.exec_module(A)
ROWS = A.read()


def test_rows_are_well_formed():
    assert tuple(ROWS[0]) == A.FIELDS and ROWS == sorted(ROWS, key=A.place)
    for r in ROWS:
        assert 0 <= float(r["value"]) <= 1 and int(r["clips"]) >= 60 and int(r["seed"]) >= 1, r
        assert int(r["difficulty"]) == A.QUESTIONS[r["question"]][1]
        assert r["command"].startswith("python scripts/run_ablations.py --only ") and r["command"].endswith(f"--seeds {r['seed']}")
    keys = [(r["question"], r["setting"], r["seed"], r["figure"]) for r in ROWS]
    assert len(set(keys)) == len(keys)

def test_accuracies_are_of_two_hundred_clips():
    "But for shirts, of which few show in one colour only, and for one pair of three in the question about time."
    assert all(int(r["clips"]) >= 200 for r in ROWS if r["figure"] != "colour of a shirt" and not r["figure"].startswith("direction, ") or r["figure"] == "direction, transformer taken out")

@pytest.mark.parametrize("name", list(dict.fromkeys(r["question"] for r in ROWS)))
def test_each_setting_has_five_seeds_and_the_same_ones(name):
    mine = [r for r in ROWS if r["question"] == name]
    seeds = collections.defaultdict(set)
    for r in mine: seeds[r["setting"], r["figure"]].add(r["seed"])
    assert all(len(s) >= 5 for s in seeds.values()) and len(set(map(frozenset, seeds.values()))) == 1
    assert {r["setting"] for r in mine} == set(A.QUESTIONS[name][2])

def test_no_question_is_missing(): assert {r["question"] for r in ROWS} == set(A.QUESTIONS)

@pytest.mark.parametrize("name,setting", [("held-out", "held-out pairs"), ("frames", "2")])
def test_cheap_rows_can_be_computed_again(name, setting):
    there = {r["figure"]: r for r in ROWS if (r["question"], r["setting"], r["seed"]) == (name, setting, "1")}
    for new in A.compute(name, setting, 1, A.Lab(1, keep=False)):
        old = there[new["figure"]]
        assert int(old["clips"]) == new["clips"] and abs(float(old["value"]) - new["value"]) <= 1.1 / new["clips"]     # another machine may round one clip away

def test_rows_are_added_once_and_in_order(tmp_path):
    path, rows = tmp_path/"a.csv", [dict(r) for r in ROWS if r["question"] == "pooling"]
    A.add(rows[::-1], path); A.add(rows[:2], path)
    assert sorted(map(tuple, map(dict.values, A.read(path)))) == sorted(tuple(map(str, r.values())) for r in rows)

def test_intervals_are_students():
    e = A.over_seeds([.5, .6, .7, .6, .6])
    assert e.value == pytest.approx(.6) and e.high - e.value == pytest.approx(2.776 * .005**.5 / 5**.5, rel=1e-3)
    e = A.over_seeds([.5, .6] * 6)                                            # beyond a table of ten
    assert e.high - e.value == pytest.approx(2.201 * (.03 / 11)**.5 / 12**.5, rel=2e-3) and e.low == pytest.approx(2 * e.value - e.high)
    assert str(A.over_seeds([.5, .6]).low) == "nan"

@pytest.mark.parametrize("seeds", ["100", "1,100", "-1", "2,2"])
def test_seeds_whose_clips_are_trained_on_are_refused(seeds, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["run_ablations.py", "--table", f"--seeds={seeds}"])
    with pytest.raises(SystemExit): A.main()
    assert "seeds are" in capsys.readouterr().err
    if "100" in seeds:
        with pytest.raises(A.EvaluationError, match="0 to 99"): A.Lab(100)

def test_official_figures_name_their_source():
    with open(ROOT/"configs"/"ablations_official.csv", newline="", encoding="utf-8") as f: rows = list(csv.DictReader(f))
    assert all(r["question"] in A.QUESTIONS and 0 < float(r["value"]) < 100 and r["source"] for r in rows)

TRAINING = ["text", "few-shot", "pooling, trained", "image tower", "time", "attributes branch"]

def test_what_is_trained_says_so(): assert {n for n in A.QUESTIONS if A.RUNS[n] is not A.nothing} == set(TRAINING)

@pytest.mark.parametrize("name", [n for n in TRAINING if n not in ("time", "attributes branch")])   # those two draw first
def test_the_command_shown_is_the_experiment(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    for setting in A.QUESTIONS[name][2]:
        for file, overrides in A.RUNS[name](3, setting):
            words = shlex.split(A.as_command(file, overrides))
            said = [w for before, w in zip(words, words[1:]) if before == "--set"]
            config = A.T.TrainConfig.from_yaml(words[2], said)
            assert words[:2] == ["bike_nb", "train"] and said == overrides and config == A.T.TrainConfig.from_yaml(file, overrides)
            assert config.seed == 3 and config.world["seed"] == 103 and config.data.num_segments == 8 and str(config.data.train_list).startswith(config.world["root"])

@pytest.mark.parametrize("name,keys", [("text", {"sim_header", "fix_text", "lr", "text_ratio"}), ("image tower", {"fix_video"}), ("few-shot", {"shot"}), ("pooling, trained", {"interaction"})])
def test_arms_of_a_question_differ_in_what_is_asked_only(name, keys):
    arms = [[dict(o.split("=", 1) for o in overrides) for _, overrides in A.RUNS[name](1, s)] for s in A.QUESTIONS[name][2] if A.RUNS[name](1, s)]
    for same in zip(*arms): assert {k for a in same for b in same for k in {*a, *b} if a.get(k) != b.get(k)} == keys

def test_clips_of_a_question_about_few_are_the_split():
    "The world section of the experiment draws the clips that the questions without files take."
    _, overrides = A.few(2, 4)
    plan = A.make_split("few-shot", 2, 102, {"val": 1}, shots=16)
    assert [e.clip().seed for e in plan.parts["train"]] == [c.seed for c in A.clips_of("few-shot", 2, 2)[0]]
    assert {"world.seed=102", "world.difficulty=2", "world.shots=16", "world.clips={val: 1}", "shot=4"} <= set(overrides)

def test_a_run_is_trained_from_files_and_shared(tmp_path, monkeypatch):
    "From frames on disk through the image tower; a second question that needs the same run reads it."
    monkeypatch.setattr(A, "ROOT", tmp_path); (tmp_path/"configs").symlink_to(ROOT/"configs")
    monkeypatch.setattr(A, "clips_of", lambda kind, seed, difficulty: (lambda some: (some, [c.action for c in some]))([A.world.sample_clip(i, A.SIX[i % 6], span=(.7, 1), cut=False) for i in range(12)]))
    file, overrides = A.ordered(1, "transformer")
    overrides = [*overrides, "epochs=1", "lr_warmup_step=0", "batch_size=6"]
    root = tmp_path/"out"/"ablations"/f"order-{A.fingerprint()}-1"
    assert len(list(root.rglob("*.jpg"))) == 12 * 8 and (root/"train.txt").read_text().splitlines()[1] == "0001 8 1"
    model, calls = A.train(file, overrides), []
    monkeypatch.setattr(A.T, "train_epoch", lambda *a: calls.append(a))
    again = A.train(file, overrides)
    assert not calls and len(model.video.transformer["resblocks"]) == 1
    assert all((a == b).all() for a, b in zip(model.state_dict().values(), again.state_dict().values()))
    A.Lab(1, keep=False)
    start = A.Lab.encoder.model.visual.state_dict()
    assert all((model.clip.visual.state_dict()[k] == start[k]).all() for k in start)                   # frozen: so the embeddings kept are its own
    assert (model.video.frame_position_embeddings.weight != again.video.frame_position_embeddings.weight).sum() == 0
