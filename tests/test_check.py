"`make check`, `make readme` and `make notebooks` on a small project of one module: each fault is found, named, and nothing is changed."
import base64, hashlib, io, json, re, shutil, subprocess, sys
from pathlib import Path

import nbformat
import pytest
from nbformat import v4
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT/"scripts"))
import check, make_readme, run_notebooks


def png(colour):
    out = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(out, "PNG")
    return out.getvalue()


def notebook(*cells): return v4.new_notebook(cells=list(cells), metadata={"kernelspec": {
    "name": "python3", "display_name": "python3", "language": "python"}})
def text(source): return v4.new_markdown_cell(source)
def code(source, said=None): return v4.new_code_cell(source, outputs=[v4.new_output("stream", name="stdout", text=said)] if said else [])


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    "A project in step."
    root = tmp_path_factory.mktemp("a project")
    for name in ("settings.ini", "constraints.txt"): shutil.copy(ROOT/name, root)
    (root/"bike_nb").mkdir()
    (root/"bike_nb"/"__init__.py").write_text('__version__ = "0.1.0"\n')
    (root/"nbs"/"images").mkdir(parents=True)
    (root/"nbs"/"images"/"demo.png").write_bytes(png("red"))
    nbformat.write(notebook(
        text("# core\n\n> Doubling"), code("#| default_exp core"), code('#| export\ndef double(x): return 2 * x'),
        code("print(double(4))", "8\n"), text("Next: [the index](index.ipynb#read), [the web](https://a.b/c.ipynb), `[no](x.md)`")),
        root/"nbs"/"00_core.ipynb")
    picture = v4.new_output("display_data", data={"image/png": base64.b64encode(png("blue")).decode(), "text/html": "<b>", "text/plain": "x"})
    bar = v4.new_output("stream", name="stderr", text="a progress bar")
    nbformat.write(notebook(
        text('# bike_nb\n\n![demo](images/demo.png) and <img src="images/demo.png">\n\n[chapter](00_core.ipynb#x)\n\n```bash\nls [a](b)\n```'),
        v4.new_code_cell("#| hide\nsecret = 1"),
        v4.new_code_cell('#| echo: false\n#| fig-alt: a blue square\nshow()', outputs=[picture, bar]), code("print(3)", "\x1b[31m3\x1b[0m\n")),
        root/"nbs"/"index.ipynb")
    assert not check.nbdev("nbdev_export", root) and not check.nbdev("nbdev_clean", root)
    make_readme.write(root)
    return root


@pytest.fixture
def project(sound, tmp_path): return Path(shutil.copytree(sound, tmp_path/"my project"))


def change(path, *subs):
    "Replace text in a file; each must be there."
    content = path.read_text()
    for old, new in subs:
        assert old in content
        content = content.replace(old, new)
    path.write_text(content)


def in_cell(path, i, **fields):
    nb = nbformat.read(path, 4)
    nb.cells[i].update(fields)
    nbformat.write(nb, path)


def state(root): return {p.relative_to(root): hashlib.sha256(p.read_bytes()).digest() for p in root.rglob("*") if p.is_file()}


def test_sound_project_passes_and_is_left_alone(sound, capsys, monkeypatch):
    monkeypatch.setenv("IN_TEST", "1")  # set by nbdev_test; nbdev_export does nothing then, and the check must not trust that
    before = state(sound)
    assert check.main(sound) == 0
    assert [line[:4] for line in capsys.readouterr().out.splitlines()] == ["yes "] * len(check.CHECKS)
    assert state(sound) == before


NB, INDEX, CORE = "nbs/00_core.ipynb", "nbs/index.ipynb", "bike_nb/core.py"
FAULTS = {
    "module edited by hand": (check.exported, lambda p: change(p/CORE, ("2 * x", "3 * x")), CORE, "make export"),
    "notebook not exported": (check.exported, lambda p: change(p/NB, ("2 * x", "3 * x")), CORE, "make export"),
    "new function not exported": (check.exported, lambda p: change(p/NB, ("def double", "def more(x): return x\\ndef double")), CORE, "make export"),
    "module removed": (check.exported, lambda p: (p/CORE).unlink(), CORE, "make export"),
    "module without notebook": (check.exported, lambda p: shutil.copy(p/CORE, p/"bike_nb"/"old.py"), "bike_nb/old.py", "delete it"),
    "index of names missing": (check.exported, lambda p: (p/"bike_nb"/"_modidx.py").unlink(), "bike_nb/_modidx.py", "make export"),
    "notebook moved": (check.exported, lambda p: (p/NB).rename(p/"nbs"/"01_core.ipynb"), CORE, "make export"),
    "notebook that exports cannot parse": (check.exported, lambda p: change(p/NB, ("def double(x)", "def double(x")), "nbdev_export fails", "make export"),
    "execution count": (check.clean, lambda p: in_cell(p/NB, 3, execution_count=7), NB, "nbdev_clean"),
    "metadata of a cell": (check.clean, lambda p: in_cell(p/NB, 3, metadata={"collapsed": True}), NB, "nbdev_clean"),
    "error among the outputs": (check.executed, lambda p: in_cell(p/NB, 3, outputs=[v4.new_output("error", ename="KeyError", evalue="k", traceback=[])]),
                                "nbs/00_core.ipynb, cell 3, ends in KeyError", "make notebooks NB=nbs/00_core.ipynb"),
    "traceback of a thread": (check.executed, lambda p: in_cell(p/NB, 3, outputs=[v4.new_output("stream", name="stderr", text="Traceback (most recent call last):\n  File …")]),
                              "nbs/00_core.ipynb, cell 3, shows a traceback", "make notebooks NB=nbs/00_core.ipynb"),
    "print without output": (check.executed, lambda p: in_cell(p/NB, 3, outputs=[]), "nbs/00_core.ipynb was not executed as it stands, nothing is shown by cell 3", "make notebooks NB=nbs/00_core.ipynb"),
    "value without output": (check.executed, lambda p: in_cell(p/NB, 3, source="x = 2\nx", outputs=[]), "nbs/00_core.ipynb was not executed as it stands, nothing is shown by cell 3", "make notebooks"),
    "not a notebook": (check.executed, lambda p: (p/NB).write_text("{"), NB, "JSON"),
    "long cell": (check.short, lambda p: in_cell(p/NB, 2, source="#| export\n" + "\n".join(f"x{i} = {i}" for i in range(41))), "cell 2, exports 41 lines", "split it"),
    "README edited": (check.readme, lambda p: change(p/"README.md", ("# bike_nb", "# Bike")), "README.md", "make readme"),
    "index changed": (check.readme, lambda p: change(p/INDEX, ("print(3)", "print(4)")), "README.md", "make readme"),
    "README missing": (check.readme, lambda p: (p/"README.md").unlink(), "README.md", "make readme"),
    "picture missing": (check.readme, lambda p: (p/"README_files"/"README_1_0.png").unlink(), "README_files/README_1_0.png", "make readme"),
    "picture outdated": (check.readme, lambda p: (p/"README_files"/"README_1_0.png").write_bytes(png("green")), "README_files/README_1_0.png", "make readme"),
    "picture no longer shown": (check.readme, lambda p: (p/"README_files"/"README_9_0.png").write_bytes(png("green")), "README_files/README_9_0.png", "make readme"),
    "no index": (check.readme, lambda p: (p/INDEX).unlink(), "nbs/index.ipynb is missing", "README.md"),
    "link of a notebook broken": (check.links, lambda p: change(p/NB, ("(index.ipynb#read)", "(contents.ipynb#read)")), "nbs/00_core.ipynb links to contents.ipynb#read", "mend the link"),
    "link of README broken": (check.links, lambda p: (p/"nbs"/"images"/"demo.png").unlink(), "README.md links to nbs/images/demo.png", "mend the link"),
    "new requirement": (check.constraints, lambda p: change(p/"settings.ini", ("    tqdm\n", "    tqdm\n    somepackage>=2\n")), "no pin for somepackage on Python 3.10", "make constraints"),
    "requirement above its pin": (check.constraints, lambda p: change(p/"settings.ini", ("    tqdm\n", "    tqdm>=1000\n")), "settings.ini asks for 'tqdm>=1000'", "make constraints"),
    "pin for other Pythons only": (check.constraints, lambda p: (p/"constraints.txt").write_text(re.sub(r"(?m)^tqdm==.*$", r"\g<0> ; python_version < '3.12'", (p/"constraints.txt").read_text())),
                                   "no pin for tqdm on Python 3.12", "make constraints"),
    "option of pip in the constraints": (check.constraints, lambda p: change(p/"constraints.txt", ("# ", "--pre\n# ")), "'--pre'", "make constraints"),
    "range in the constraints": (check.constraints, lambda p: change(p/"constraints.txt", ("# ", "tqdm>=1\n# ")), "'tqdm>=1'", "make constraints"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_found_named_and_not_touched(project, fault):
    question, damage, culprit, remedy = FAULTS[fault]
    damage(project)
    before = state(project)
    problems = question(project)
    assert any(culprit in p and remedy in p for p in problems), problems
    assert all("\n" not in p and p.endswith(".") for p in problems)
    assert state(project) == before


def test_main_counts_questions_answered_no(project, capsys):
    change(project/CORE, ("2 * x", "3 * x"))
    change(project/"README.md", ("# bike_nb", "# Bike"))
    assert check.main(project) == 2
    out = capsys.readouterr().out.splitlines()
    assert "NO   the exported code equals the notebooks" in out and "NO   README.md equals nbs/index.ipynb" in out
    assert sum(line.startswith("yes") for line in out) == len(check.CHECKS) - 2


@pytest.mark.parametrize("source, sure", [
    ("print(1)", True), ("print('a', file=f)", False), ("print()", False), ("if x: print(1)", False), ("def f(): print(1)", False),
    ("x", True), ("x;", False), ("x = 1", False), ("f(x)", False), ("%time f()\nx", True), ("%%capture\nprint(1)", False), ("", False), ("(", False)])
def test_must_show(source, sure): assert check.must_show(source) == sure


def test_readme(sound):
    out = (sound/"README.md").read_text()
    assert "![demo](nbs/images/demo.png)" in out and '<img src="nbs/images/demo.png">' in out and "[chapter](nbs/00_core.ipynb#x)" in out
    assert "ls [a](b)" in out                                     # code is left as it is
    assert "![a blue square](README_files/README_1_0.png)" in out and (sound/"README_files"/"README_1_0.png").read_bytes() == png("blue")
    assert "```python\nprint(3)\n```" in out and "\n    3\n" in out
    for absent in ("secret", "show()", "#|", "progress", "\x1b", "<b>"): assert absent not in out
    assert make_readme.write(sound) == []                         # a second run has nothing to do


def test_readme_drops_old_pictures(project):
    in_cell(project/INDEX, 2, outputs=[])
    assert make_readme.write(project) == ["README.md", "README_files/README_1_0.png"]
    assert not (project/"README_files").exists()


def test_notebooks_are_run_in_place(project, monkeypatch):
    path = project/NB
    monkeypatch.setattr(run_notebooks, "ROOT", project)
    nb = nbformat.read(path, 4)
    nb.cells += [code("#| eval: false\nprint(1/0)", "kept\n"), code("import os\nprint(os.path.basename(os.getcwd()), object())")]
    nb.cells[3].source, nb.cells[2].source = "print(double(21))", "#| export\ndef double(x): return 2 * x"
    nbformat.write(nb, path)
    run_notebooks.run(path)
    cells = nbformat.read(path, 4).cells
    assert cells[3].outputs[0].text == "42\n" and cells[5].outputs[0].text == "kept\n" and cells[6].outputs[0].text == "nbs <object object>\n"
    assert check.clean(project) == [] and check.executed(project) == []
    before = path.read_bytes()
    in_cell(path, 3, source="boom")
    assert "NameError" in run_notebooks.main([str(path)]) and path.read_bytes() != before
    assert nbformat.read(path, 4).cells[3].outputs[0].text == "42\n"  # a failing notebook is not written
