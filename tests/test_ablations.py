"The table of ablations: well-formed, with five seeds or more everywhere, and what the script computes again."
import collections, csv, importlib.util
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

def test_official_figures_name_their_source():
    with open(ROOT/"configs"/"ablations_official.csv", newline="", encoding="utf-8") as f: rows = list(csv.DictReader(f))
    assert all(r["question"] in A.QUESTIONS and 0 < float(r["value"]) < 100 and r["source"] for r in rows)
