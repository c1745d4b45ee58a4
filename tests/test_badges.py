"""The tutorials' badges and their cell for Colab: run as it stands, in a clone of its own, by a Python of its own."""
import os, shutil, subprocess, sys, venv
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = sorted((ROOT/"nbs"/"tutorials").glob("[0-9]*.ipynb"))
sys.path.insert(0, str(ROOT/"scripts"))
import make_badges


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda p: p.stem)
def test_each_tutorial_has_them(path):
    nb = nbformat.read(path, 4)
    assert make_badges.badges(path) in nb.cells[0].source and nb.cells[1].source == make_badges.install(), "run `make badges`"
    assert make_badges.put(nbformat.from_dict(nb), path) == nb, "a second `make badges` changes something"
    for picture in ("colab.svg", "binder.svg"): assert (path.parent/"badges"/picture).is_file()


def git(*args, **more): return subprocess.run(["git", *args], check=True, capture_output=True, text=True, **more).stdout

@pytest.fixture
def somewhere(tmp_path):
    "(python, environment): an environment of its own that borrows the packages of this one, and this folder as a repository in place of the public one."
    venv.create(tmp_path/"env", with_pip=False, symlinks=os.name != "nt")
    python = tmp_path/"env"/("Scripts/python.exe" if os.name == "nt" else "bin/python")
    packages = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], check=True, capture_output=True, text=True).stdout.strip()
    borrowed = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    Path(packages, "borrowed.pth").write_text("\n".join(borrowed), encoding="utf-8")
    s, public = make_badges.settings(ROOT), tmp_path/"public"
    shutil.copytree(ROOT, public, ignore=shutil.ignore_patterns(".git", ".venv", "out", "_docs", "build", "dist", "data", "runs", "*.egg-info", "__pycache__", ".pytest_cache"))
    git("init", "-q", "-b", s["branch"], str(public))
    git("-C", str(public), "add", "-A")
    git("-C", str(public), "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "-q", "-m", "as it stands")
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    env |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{public.as_uri()}.insteadOf", "GIT_CONFIG_VALUE_0": s["git_url"],
            # an odd one of pip: 0 means that it builds with the packages that are here
            "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "IPYTHONDIR": str(tmp_path/"ipython")}
    return python, env


def test_the_cell_installs_on_colab(somewhere, tmp_path):
    python, env = somewhere
    cell = make_badges.install().replace("/content/", f"{tmp_path.as_posix()}/content/")
    first = next(c.source for c in nbformat.read(TUTORIALS[0], 4).cells[2:] if c.cell_type == "code")
    program = ("import sys, types; sys.modules['google.colab'] = types.ModuleType('google.colab')\n"
               "from IPython.core.interactiveshell import InteractiveShell\nshell = InteractiveShell.instance()\n"
               f"for cell in ({cell!r}, {first!r}):\n    shell.run_cell(cell).raise_error()\n"
               "import bike_nb; print('imported from', bike_nb.__file__); print('best word:', shell.user_ns['found'].attributes[0][0])\n")
    done = subprocess.run([python, "-c", program], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"imported from {tmp_path/'env'}" in done.stdout and "best word: " in done.stdout, done.stdout


def test_elsewhere_the_cell_does_nothing(tmp_path):
    program = ("from IPython.core.interactiveshell import InteractiveShell\n"
               f"InteractiveShell.instance().run_cell({make_badges.install()!r}).raise_error(); import os; print(os.listdir('.'))")
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.strip() == "[]", done.stdout + done.stderr


def test_binder_installs_what_it_lists(somewhere, tmp_path):
    "`pip install -r binder/requirements.txt` from the root, as Binder does it, with the packages that are here already."
    python, env = somewhere
    git("clone", "-q", str(tmp_path/"public"), str(tmp_path/"home"))
    done = subprocess.run([python, "-m", "pip", "install", "-q", "-r", "binder/requirements.txt"], cwd=tmp_path/"home", env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    where = subprocess.run([python, "-c", "import bike_nb; print(bike_nb.__file__)"], cwd=tmp_path, env=env, check=True, capture_output=True, text=True).stdout
    assert where.startswith(str(tmp_path/"env"))
    assert (ROOT/"binder"/"runtime.txt").read_text().strip().removeprefix("python-") in ("3.10", "3.11", "3.12", "3.13")
