"""Do the component notebooks read as chapters? Short export cells, each shown at once, every parameter explained, links both ways."""
import ast, json, re, statistics
from pathlib import Path

import pytest

NBS = Path(__file__).resolve().parents[1]/"nbs"
COMPONENTS = sorted(NBS.glob("[0-9]*.ipynb"))
TUTORIALS = sorted((NBS/"tutorials").glob("[0-9]*.ipynb"))
component = pytest.mark.parametrize("path", COMPONENTS, ids=lambda p: p.stem)
tutorial = pytest.mark.parametrize("path", TUTORIALS, ids=lambda p: p.stem)

def cells(path): return [(c["cell_type"], "".join(c["source"])) for c in json.loads(path.read_text(encoding="utf-8"))["cells"]]
def is_export(kind, source): return kind == "code" and re.search(r"^#\s*\|\s*export", source, re.M)
def lines(source): return [l for l in source.splitlines() if l.strip() and not re.match(r"#\s*\|", l)]
def only_imports(tree): return all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in tree.body)

def exported(path):
    "(index, source, tree) of the export cells that define something."
    found = [(i, s, ast.parse(s)) for i, (kind, s) in enumerate(cells(path)) if is_export(kind, s)]
    return [(i, s, t) for i, s, t in found if not only_imports(t)]

def public(tree):
    "(qualified name, definition) of the public functions, classes and methods of a cell."
    for n in tree.body:
        if not isinstance(n, (ast.FunctionDef, ast.ClassDef)) or n.name.startswith("_"): continue
        yield n.name, n
        if isinstance(n, ast.ClassDef):
            yield from ((f"{n.name}.{m.name}", m) for m in n.body if isinstance(m, ast.FunctionDef) and (m.name == "__init__" or m.name[0] != "_"))

def unexplained(f, source):
    "Parameters of a function on whose line neither a comment nor a command's help text stands."
    a, text = f.args, source.splitlines()
    every = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, [a.vararg, a.kwarg])]
    return [p.arg for p in every if p.arg not in ("self", "cls") and not re.search(r"#|\bhelp=", text[p.lineno - 1])]


@component
def test_export_cells_are_short(path):
    sizes = [len(lines(s)) for _, s, _ in exported(path)]
    assert statistics.median(sizes) <= 8, f"median {statistics.median(sizes)} lines; that none has over 40 is asked by make check"

@component
def test_public_names_are_documented(path):
    bare = [name for _, _, t in exported(path) for name, n in public(t) if not ast.get_docstring(n) and not name.endswith(".__init__")]
    assert not bare, f"no docstring: {bare}"

@component
def test_parameters_are_explained(path):
    bare = [f"{name}({', '.join(who)})" for _, s, t in exported(path) for name, n in public(t) if isinstance(n, ast.FunctionDef) for who in [unexplained(n, s)] if who]
    assert not bare, f"no comment: {bare}"

@component
def test_each_export_is_shown_at_once(path):
    every, late = cells(path), []
    for i, s, t in exported(path):
        shown = next((source for kind, source in every[i + 1:] if kind == "code"), "# | export")
        names = [n.name for n in t.body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and not n.name.startswith("_")]
        if is_export("code", shown): late.append(f"cell {i}")
        elif missing := [n for n in names if not re.search(rf"\b{n}\b", shown)]: late.append(f"cell {i}: {', '.join(missing)}")
    assert not late, f"not shown in the next cell: {late}"

@component
def test_chapters_link_both_ways(path):
    every = cells(path)
    opening, closing = "\n".join(s for _, s in every[:3]), every[-1]
    assert re.search(r"\*\*Tutorial", opening) and re.search(r"\*\*Paper", opening), "the opening names no tutorial or no section of the paper"
    assert closing[0] == "markdown" and re.search(r"\*\*Next", closing[1]), "the last cell does not say what is next"

@tutorial
def test_tutorials_have_the_length_of_a_chapter(path):
    every = cells(path)
    words = sum(len(re.sub(r"```.*?```", "", s, flags=re.S).split()) for kind, s in every if kind == "markdown")
    code = [len(lines(s)) for kind, s in every if kind == "code"]
    assert 30 <= len(every) <= 50 and 1500 <= words <= 3000, f"{len(every)} cells, {words} words"
    assert statistics.median(code) <= 8 and max(code) <= 15, f"code cells: median {statistics.median(code)}, longest {max(code)} lines"
