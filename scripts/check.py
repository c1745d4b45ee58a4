"""Is everything that is made from something else in step with it? Prints one line a question; exits 1 if an answer is no.

    python scripts/check.py        # or: make check

Looks at the files as they are on disk, committed or not, works on copies and changes nothing.
"""
import ast, contextlib, filecmp, json, os, re, shutil, subprocess, sys, tempfile
from configparser import ConfigParser
from pathlib import Path

import nbformat
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import make_readme
from make_readme import ROOT, directives, relative_links
from run_notebooks import left_alone, notebooks

BY_HAND = {"__init__.py", "__main__.py"}
LONGEST_EXPORT = 40
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


@contextlib.contextmanager
def copy_of(root):
    "A temporary copy of what nbdev needs: settings, notebooks and the modules written by hand."
    with tempfile.TemporaryDirectory() as tmp:
        copy = Path(tmp)
        files = [root/"settings.ini", *(root/"bike_nb"/name for name in BY_HAND), *notebooks(root)]
        for f in filter(Path.exists, files):
            (copy/f.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(f, copy/f.relative_to(root))
        yield copy


def nbdev(tool, root):
    "Run a tool of nbdev in `root`. It would do nothing with IN_TEST set."
    env = {k: v for k, v in os.environ.items() if k != "IN_TEST"}
    done = subprocess.run([str(Path(sys.executable).with_name(tool))], cwd=root, env=env, capture_output=True, text=True)
    return f"{tool} fails: {(done.stderr or done.stdout).strip().splitlines()[-1]}" if done.returncode else ""


def modules(root): return {p.relative_to(root).as_posix() for p in (root/"bike_nb").rglob("*.py")}


def exported(root):
    "the exported code equals the notebooks"
    with copy_of(root) as copy:
        if wrong := nbdev("nbdev_export", copy): return [f"{wrong}: mend the notebook, then run `make export`."]
        is_, should = modules(root), modules(copy)
        stale = [f"{f} comes from no notebook: write it in nbs/ and run `make export`, or delete it." for f in sorted(is_ - should)]
        return stale + [f"{f} is not what the notebooks say: make the change in nbs/, then run `make export`."
                        for f in sorted(should) if f not in is_ or not filecmp.cmp(root/f, copy/f, shallow=False)]


def clean(root):
    "the notebooks are clean"
    with copy_of(root) as copy:
        if wrong := nbdev("nbdev_clean", copy): return [f"{wrong}."]
        names = [p.relative_to(root) for p in notebooks(root)]
        return [f"{n} holds execution counts or metadata of an editor: run `.venv/bin/nbdev_clean`." for n in names
                if not filecmp.cmp(root/n, copy/n, shallow=False)]


def read(path):
    try: return nbformat.read(path, as_version=4)
    except Exception: return None


def code_cells(root):
    "(name of the notebook, number of the cell, cell) of each code cell of the notebooks that can be read."
    for path in notebooks(root):
        for i, cell in enumerate(nb.cells if (nb := read(path)) else []):
            if cell.cell_type == "code" and cell.source.strip(): yield path.relative_to(root).as_posix(), i, cell


def must_show(source):
    "Does the code, when it is run, print or show something for certain? A top-level print, or a last line that is a value."
    if source.startswith("%%"): return False
    source = re.sub(r"^[%!].*$", "pass", source, flags=re.M)
    try: body = ast.parse(source).body
    except SyntaxError: return False
    prints = [n for n in body if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call) and getattr(n.value.func, "id", "") == "print"]
    if any(n.value.args and not any(k.arg == "file" for k in n.value.keywords) for n in prints): return True
    shown = (ast.Name, ast.BinOp, ast.Compare, ast.JoinedStr, ast.Tuple, ast.List, ast.Dict)
    return bool(body) and isinstance(body[-1], ast.Expr) and isinstance(body[-1].value, shown) and not source.rstrip().endswith(";")


def executed(root):
    "the notebooks are executed, without errors"
    wrong = [f"{p.relative_to(root).as_posix()} is not a notebook that can be read: mend its JSON." for p in notebooks(root) if not read(p)]
    silent = {}
    for name, i, cell in code_cells(root):
        if bad := [o for o in cell.outputs if o.output_type == "error"]:
            wrong.append(f"{name}, cell {i}, ends in {bad[0].ename}: mend it, then run `make notebooks NB={name}`.")
        elif any("Traceback (most recent call last)" in o.get("text", "") for o in cell.outputs):
            wrong.append(f"{name}, cell {i}, shows a traceback, with paths of this machine: mend it, then run `make notebooks NB={name}`.")
        elif not cell.outputs and not left_alone(cell) and must_show(cell.source):
            silent.setdefault(name, []).append(i)
    return wrong + [f"{name} was not executed as it stands, nothing is shown by cell {', '.join(map(str, cells))}: run `make notebooks NB={name}`."
                    for name, cells in silent.items()]



def short(root):
    "no cell exports more than 40 lines"
    def lines(cell): return [line for line in cell.source.splitlines() if line.strip() and not re.match(r"#\s*\|", line)]
    return [f"{name}, cell {i}, exports {len(lines(cell))} lines: split it, {LONGEST_EXPORT} are as many as a reader can follow."
            for name, i, cell in code_cells(root)
            if any(d.split()[0] == "export" for d in directives(cell)) and len(lines(cell)) > LONGEST_EXPORT]


def readme(root):
    "README.md equals nbs/index.ipynb"
    if not (root/"nbs"/"index.ipynb").exists(): return ["nbs/index.ipynb is missing: README.md is made from it."]
    if not read(root/"nbs"/"index.ipynb"): return []
    should, is_ = make_readme.make(root), make_readme.existing(root)
    return [f"{f} is not what nbs/index.ipynb says: make the change there, then run `make readme`."
            for f in sorted(should.keys() | is_.keys()) if should.get(f) != is_.get(f)]


def links(root):
    "links into the repository lead to a file"
    texts = [(p, p.read_text(encoding="utf-8")) for p in root.glob("*.md")]
    texts += [(p, c.source) for p in notebooks(root) if (nb := read(p)) for c in nb.cells if c.cell_type == "markdown"]
    return [f"{p.relative_to(root).as_posix()} links to {t}, which does not exist: mend the link." for p, text in texts
            for t in relative_links(text) if not (p.parent/re.split("[#?]", t)[0]).exists()]


def settings(root):
    config = ConfigParser(delimiters=["="], interpolation=None)
    config.read(root/"settings.ini", encoding="utf-8")
    return config["DEFAULT"]


def pins(root):
    "{name: its lines in constraints.txt}; a line that is no exact pin counts under the name None."
    found = {}
    for line in (root/"constraints.txt").read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"): continue
        try: pin = Requirement(line)
        except ValueError: pin = None
        exact = pin and not pin.url and re.fullmatch(r"==[^*,]+", str(pin.specifier))
        found.setdefault(canonicalize_name(pin.name) if exact else None, []).append(pin if exact else line)
    return found


def constraints(root):
    "constraints.txt pins each requirement of settings.ini, for each Python"
    mend, found, cfg = "run `make constraints`", pins(root), settings(root)
    wrong = [f"constraints.txt has a line that is no pin, {line!r}: {mend}." for line in found.get(None, [])]
    wanted = [Requirement(r) for key in ("requirements", "dev_requirements") for r in cfg[key].splitlines() if r.strip()]
    for r in wanted:
        for python in PYTHONS:
            here = {"python_version": python, "python_full_version": python + ".99"}
            active = lambda q: q.marker is None or q.marker.evaluate({**here, "extra": ""})
            mine = [str(p.specifier)[2:] for p in found.get(canonicalize_name(r.name), []) if active(p)]
            if active(r) and not (len(mine) == 1 and r.specifier.contains(mine[0], prereleases=True)):
                says = f"pins {r.name} to {' and '.join(mine)}" if mine else f"has no pin for {r.name}"
                wrong.append(f"constraints.txt {says} on Python {python}, settings.ini asks for '{r}': {mend}.")
                break
    return wrong


CHECKS = exported, clean, executed, short, readme, links, constraints


def main(root=ROOT):
    "Ask each question, print the answers, return how many are no."
    wrong = {check.__doc__: check(root) for check in CHECKS}
    for question, problems in wrong.items():
        print(f"{'NO ' if problems else 'yes'}  {question}")
        for p in problems: print(f"     {p}")
    return sum(map(bool, wrong.values()))


if __name__ == "__main__": sys.exit(min(main(), 1))
