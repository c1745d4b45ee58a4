"Tutorials: the solutions of their exercises are right, typical wrong answers are not, and each chapter is built as the others are."
import importlib.util, re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from bike_nb import checks

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT/"nbs"/"tutorials").glob("[0-9]*.ipynb"))
HEADING = re.compile(r"^### Exercise (\d+\.\d+): .+ (●○○|●●○|●●●) · \d+ minutes?$", re.M)
SOLUTION = re.compile(r"<details><summary>Solution</summary>\s*```python\n(.*?)```\s*</details>", re.S)
CALL = re.compile(r'^check\("([\d.]+)", .*$', re.M)


def exercises(nb):
    "(number, index of the code cell, solution) of each exercise; the solution is folded in the first markdown cell after it."
    found = []
    for i, cell in enumerate(nb.cells):
        if cell.cell_type != "code" or not (m := CALL.search(cell.source)): continue
        below = next(c.source for c in nb.cells[i + 1:] if c.cell_type == "markdown")
        found.append((m[1], i, SOLUTION.search(below)[1]))
    return found

def read(path): return nbformat.read(path, as_version=4)

def wrong_answers(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
    return module.WRONG

WRONG = [(n, a, s, f"{n}-{i}") for p in sorted((Path(__file__).parent/"wrong_answers").glob("*.py")) for i, (n, a, s) in enumerate(wrong_answers(p))]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_solutions_are_right(path):
    nb, found = read(path), []
    for number, i, solution in exercises(nb):
        call = CALL.search(nb.cells[i].source)
        nb.cells[i].source = solution + "\n" + nb.cells[i].source[call.start():]
        found.append((number, i))
    NotebookClient(nb, timeout=300, kernel_name="python3", store_widget_state=False, resources={"metadata": {"path": str(path.parent)}}).execute()
    for n, (number, i) in enumerate(found, 1):
        said = nb.cells[i].outputs[-1].data["text/plain"]
        assert said.startswith(f"✓ {number}") and f"({n} of {len(found)} done)" in said

@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_a_chapter_has_its_parts(path):
    nb = read(path)
    text = "\n".join(c.source for c in nb.cells if c.cell_type == "markdown")
    numbers = [n for n, _, _ in exercises(nb)]
    chapter = str(int(path.stem[:2]))
    assert nb.cells[0].source.startswith(f"# {chapter}. ") and "\n> " in nb.cells[0].source
    for part in ("**You will be able to**", "**You need**", "**Time**", "## What to take along", "Next"): assert part in text, part
    assert [m[1] for m in HEADING.finditer(text)] == numbers and 3 <= len(numbers) <= 6
    assert numbers == [f"{chapter}.{i}" for i in range(1, len(numbers) + 1)] and sorted(checks.chapter(chapter)) == numbers
    assert text.count("<summary>Hint</summary>") == len(numbers) and path.stat().st_size < 1.5e6
    words = len(re.sub(r"<details>.*?</details>", "", text, flags=re.S).split())
    assert 1200 <= words <= 3300, words
    assert not any("export" in d for c in nb.cells for d in re.findall(r"^#\s*\|.*", c.source, re.M))

@pytest.mark.parametrize("number,answer,said", [pytest.param(n, a, s, id=i) for n, a, s, i in WRONG])
def test_wrong_answers_are_told_why(number, answer, said):
    ok, sentence = checks.verdict(number, answer)
    assert ok is False and said in sentence, sentence

def test_an_answer_may_work_in_place():
    def softmax(s, t):
        s /= t; s -= s.max(-1, keepdims=True)
        return (e := np.exp(s)) / e.sum(-1, keepdims=True)
    assert checks.verdict("2.2", softmax)[0], checks.verdict("2.2", softmax)

@pytest.mark.parametrize("number, answer", [("1.5", lambda *a: np.array(1.)), ("6.1", lambda *a: [{"params": 1, "lr": 1}]), ("9.4", lambda *a: np.zeros((2, 3)))])
def test_an_answer_of_an_odd_form_is_a_sentence(number, answer):
    ok, said = checks.verdict(number, answer)
    assert ok is False and said.startswith("Your answer has a form that this check cannot read")
    with pytest.raises(KeyError): checks.verdict("0.9", answer)               # of ours, not of the learner

@pytest.mark.parametrize("number", ["3.1", "7.1"])
def test_nan_is_no_guess(number): assert checks.verdict(number, float("nan"))[1].startswith("Answer with one")

def test_each_check_knows_two_wrong_answers():
    known = [n for n, *_ in WRONG]
    assert all(known.count(n) >= 2 for n in checks.CHECKS) and set(known) == set(checks.CHECKS)

def test_a_stub_is_no_mistake():
    for number in checks.CHECKS: assert checks.verdict(number, ...)[0] is None and checks.verdict(number, None)[0] is None
