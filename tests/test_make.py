"The Makefile in a copy of its own, with a Python that only writes down how it was called."
import os, re, shutil, subprocess, time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(os.name != "posix" or not shutil.which("make"), reason="needs make")

PYTHON = """#!/bin/sh
case "$*" in
  *version_info*) exit {too_old} ;;
  --version) echo "Python 3.{minor}.1" ;;
  "-m venv "*) mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo "venv $*" >> "{log}" ;;
  "-c ") exit 0 ;;
  *) echo "$*" >> "{log}"; case "$*" in *pip*) exit "${{PIP_FAILS:-0}}" ;; esac ;;
esac
"""


@pytest.fixture
def folder(tmp_path):
    "Makefile and the files that it watches in a folder whose name has a space."
    path = tmp_path/"a folder"
    path.mkdir()
    for name in ("Makefile", "settings.ini", "setup.py", "pyproject.toml", "constraints.txt"): shutil.copy(ROOT/name, path)
    return path


def make(folder, *args, too_old=0, minor=11, **env):
    "Run make; the exit status, all that it printed, and the calls of Python since the last time."
    python, log = folder.parent/"python3", folder.parent/"log"
    log.write_text("")
    python.write_text(PYTHON.format(too_old=too_old, minor=minor, log=log))
    python.chmod(0o755)
    env = {**{k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}, **env}
    done = subprocess.run(["make", f"PYTHON={python}", *args], cwd=folder, capture_output=True, text=True, env=env)
    return done.returncode, done.stdout + done.stderr, log.read_text().splitlines()


def test_help_names_every_target(folder):
    status, out, calls = make(folder)
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT/"Makefile").read_text(), re.M)[1].split()
    assert status == 0 and not calls
    for target in targets: assert re.search(rf"^  make {target} +\S.{{5}}", out, re.M), target


def test_old_python_ends_in_one_sentence(folder):
    status, out, calls = make(folder, "venv", too_old=1, minor=8)
    assert status != 0 and not calls and not (folder/".venv").exists()
    sentence, *rest = out.splitlines()
    assert "needs Python 3.10 or newer" in sentence and "Python 3.8.1" in sentence and "make venv PYTHON=" in sentence
    assert all(line.startswith("make:") for line in rest)


def test_missing_python_ends_in_one_sentence(folder):
    done = subprocess.run(["make", "venv", "PYTHON=no-such-python"], cwd=folder, capture_output=True, text=True)
    assert done.returncode != 0 and "'no-such-python' is not there" in done.stderr and not (folder/".venv").exists()


def test_set_up_happens_once_and_again_when_what_it_rests_on_changes(folder):
    status, _, calls = make(folder, "venv")
    assert status == 0 and [c.split()[0] for c in calls] == ["venv", "-m"]
    assert calls[1].startswith("-m pip install ") and calls[1].endswith("-c constraints.txt -e .[dev]")
    assert make(folder, "venv")[::2] == (0, [])
    for name in ("settings.ini", "setup.py", "pyproject.toml", "constraints.txt"):
        later = time.time() + 5
        os.utime(folder/name, (later, later))
        status, _, calls = make(folder, "venv")
        assert status == 0 and len(calls) == 1 and "pip install" in calls[0], name  # the environment stays, packages are updated
        for f in folder.iterdir(): os.utime(f, (1, 1)) if f.is_file() else None
        assert make(folder, "venv")[::2] == (0, [])


def test_interrupted_set_up_is_taken_up_again(folder):
    status, _, calls = make(folder, "demo", PIP_FAILS="1")
    assert status != 0 and not any("explain" in c for c in calls)
    status, _, calls = make(folder, "demo")
    assert status == 0 and "pip install" in calls[0] and calls[-1].startswith("-m bike_nb explain data_samples/") and calls[-1].endswith(" --html --out out")


def test_demo_takes_a_clip_with_spaces(folder):
    _, _, calls = make(folder, "demo", "CLIP=my own clip.mp4")
    assert calls[-1] == "-m bike_nb explain my own clip.mp4 --html --out out"


def test_demo_asks_the_sample_clip_for_concepts(folder):
    make(folder, "venv")
    status, _, calls = make(folder, "demo")
    clip, concepts = re.fullmatch(r"-m bike_nb explain (\S+) --concepts (.+) --html --out out", calls[-1]).groups()
    assert status == 0 and (ROOT/clip).is_file() and len(concepts.split("; ")) == 4
    *_, calls = make(folder, "demo", "CONCEPTS=a dog; a car", "CLIP=my.mp4")
    assert calls[-1] == "-m bike_nb explain my.mp4 --concepts a dog; a car --html --out out"


@pytest.mark.parametrize("flags, marks", [([], None), (["FLAGS=slow"], "slow or not (slow or cuda or browser)"),
                                          (["FLAGS=slow cuda"], "slow or cuda or not (slow or cuda or browser)")])
def test_test_runs_notebooks_and_pytest(folder, flags, marks):
    make(folder, "venv")
    nbdev_test = folder/".venv"/"bin"/"nbdev_test"
    nbdev_test.write_text(f'#!/bin/sh\necho "nbdev_test $OMP_NUM_THREADS $*" >> "{folder.parent/"log"}"\n')
    nbdev_test.chmod(0o755)
    status, _, calls = make(folder, "test", *flags)
    assert status == 0 and len(calls) == 2
    assert re.fullmatch(r"nbdev_test 1 --n_workers \d+ --timing --flags ?" + (flags[0].split("=")[1] if flags else ""), calls[0].strip())
    assert re.fullmatch(r"-m pytest --numprocesses \d+ --dist loadfile" + (re.escape(f" -m {marks}") if marks else ""), calls[1].strip())
    nbdev_test.write_text("#!/bin/sh\nexit 1\n")
    assert make(folder, "test")[0] != 0                           # a failing notebook fails the target


def test_venv_comes_first_on_the_path(folder):
    make(folder, "venv")
    tool = folder/".venv"/"bin"/"nbdev_export"
    tool.write_text(f'#!/bin/sh\necho "$PATH" >> "{folder.parent/"log"}"\n')
    tool.chmod(0o755)
    status, _, calls = make(folder, "export")
    assert status == 0 and calls[0].startswith(f"{folder/'.venv'/'bin'}:")


def test_an_export_is_no_reason_to_install_again(folder):
    make(folder, "venv")
    tool = folder/".venv"/"bin"/"nbdev_export"
    tool.write_text("#!/bin/sh\nsleep .02; touch pyproject.toml\n")    # as nbdev_export does
    tool.chmod(0o755)
    make(folder, "export")
    assert make(folder, "venv")[::2] == (0, [])


def test_clean_keeps_sources_and_environment(folder):
    make(folder, "venv")
    for name in ("build/x", "dist/x", "out/x", "bike_nb.egg-info/x", "nbs/.ipynb_checkpoints/x", "bike_nb/__pycache__/x", "bike_nb/a.py", "nbs/a.ipynb"):
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        (folder/name).write_text("")
    assert make(folder, "clean")[0] == 0
    left = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert {"bike_nb/a.py", "nbs/a.ipynb", ".venv/.installed", "Makefile"} <= left and not any(p.endswith("/x") for p in left)
