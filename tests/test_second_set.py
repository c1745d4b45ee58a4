"""The parity suite itself: it passes on a second set of numbers with other sizes, and fails where a number is wrong or nobody looks at it."""
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import torch

from second_set import make
from test_reference import contents, is_given, limit, names

SUITE = Path(__file__).with_name("test_reference.py")


@pytest.fixture(scope="module")
def second(tmp_path_factory): return make(tmp_path_factory.mktemp("second"), seed=5)


def run(folder, report, *options):
    "{test: did it pass?} of the suite on a folder, in a process of its own."
    done = subprocess.run([sys.executable, "-m", "pytest", str(SUITE), "--reference", str(folder), "-q", *options, "-p", "no:cacheprovider", f"--junitxml={report}"],
                          capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=SUITE.parent, timeout=300)
    cases = {case.get("name"): not len(case) for case in ElementTree.parse(report).iter("testcase")}
    assert cases, done.stdout[-2000:] + done.stderr[-2000:]
    return cases, done


def test_the_second_set_differs_in_every_size(reference, second):
    "Same files and kinds of keys; hardly a shape in common."
    first = dict.fromkeys(names(reference))
    assert {file for file, _ in first} == {file for file, _ in names(second)}
    common = [pair for pair in names(second) if pair in first and pair[0].endswith(".npz") and pair[0] != "frame_sampling.npz"]
    shapes = [(pair, *(contents(folder / pair[0])[pair[1]].shape for folder in (reference, second))) for pair in common]
    sized = [(pair, a, b) for pair, a, b in shapes if len(a)]
    assert len(sized) > 50
    assert {pair[1] for pair, a, b in sized if a == b} <= {"top1_top5", "full_top1_top5", "fused_top1_top5", "half_top1", "half_top5"}


def test_the_suite_passes_on_the_second_set(second, tmp_path):
    cases, done = run(second, tmp_path / "report.xml", "--tb=short")
    assert done.returncode == 0 and all(cases.values()), done.stdout[-3000:]
    assert len(cases) > len(list(names(second)))


def damaged(file, key, value):
    "The same with one element moved a little beyond what is allowed."
    if not torch.is_tensor(value): return [[*value[0][:1], value[0][1] + 1, *value[0][2:]], *value[1:]]
    value = value.clone()
    place = tuple(int(n) // 2 for n in value.shape)
    value[place] += 3 * limit(file, key, value) if value.is_floating_point() else 1
    return value


def test_every_single_number_is_looked_at(reference, tmp_path):
    "A copy in which each array but the given ones is slightly wrong somewhere, and some are new: each of them is noticed, and no given one complains."
    folder, wrong = Path(shutil.copytree(reference, tmp_path / "wrong")), {"later.npz:numbers"}
    for path in folder.iterdir():
        if path.suffix not in (".npz", ".json"): continue
        found = contents(path)
        checked = [key for key in found if not is_given(path.name, key) and not key.startswith("state.")]      # the heads' weights are given and compared
        for key in checked: found[key] = damaged(path.name, key, found[key])
        wrong |= {f"{path.name}:{key}" for key in [*checked, "unheard_of"]}
        if path.suffix == ".npz": np.savez(path, **{key: value.numpy() for key, value in found.items()}, unheard_of=np.ones(3))
        else: path.write_text(json.dumps(found | dict(unheard_of=[1])), encoding="utf-8")
    np.savez(folder / "later.npz", numbers=np.ones(2))
    cases, _ = run(folder, tmp_path / "report.xml", "--tb=no")
    every = {name.removeprefix("test_every[").removesuffix("]"): passed for name, passed in cases.items() if name.startswith("test_every[")}
    failed = {name for name, passed in every.items() if not passed}
    assert failed == wrong, sorted(failed ^ wrong)[:10]
    assert {f"{file}:{key}" for file, key in names(reference)} <= every.keys()
