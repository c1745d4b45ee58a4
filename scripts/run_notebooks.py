"""Run notebooks in place, from top to bottom, and keep their outputs, cleaned by nbdev_clean.

    python scripts/run_notebooks.py                        # all of nbs/, or: make notebooks
    python scripts/run_notebooks.py nbs/03_spotting.ipynb
    python scripts/run_notebooks.py --compare              # write nothing: does a second run say the same? or: make compare

A live widget is not kept, only what stands beside it for those who have no kernel: its name is another one on each run.
Cells marked `#| eval: false`, `#| browser` or, without a GPU, `#| cuda` are left as they are, with the outputs they have.
A notebook with an error is reported and not written. A comparison leaves seconds aside, for they are another number each time,
and exits with 1 if anything else differs.
"""
import hashlib, json, os, re, shutil, subprocess, sys, time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from make_readme import ROOT, directives

SKIP, LIVE = "skip-execution", "application/vnd.jupyter.widget-view+json"


def notebooks(root=ROOT):
    "All notebooks below nbs/ but those in hidden folders or marked by a leading underscore, the numbered chapters first."
    found = [p for p in (root/"nbs").rglob("*.ipynb") if not any(s[0] in "._" for s in p.relative_to(root/"nbs").parts)]
    return sorted(found, key=lambda p: (p.name == "index.ipynb", len(p.relative_to(root).parts), p))


def left_alone(cell, gpu=False):
    "Is the cell one that is not run here?"
    return any(d in ("eval: false", "browser") or d == "cuda" and not gpu for d in directives(cell))


def executed(path, timeout=900):
    "The notebook at `path`, run in its own folder."
    nb = nbformat.read(path, as_version=4)
    gpu = shutil.which("nvidia-smi") is not None
    for cell in nb.cells: cell.metadata["tags"] = [SKIP] if cell.cell_type == "code" and left_alone(cell, gpu) else []
    NotebookClient(nb, timeout=timeout, kernel_name="python3", skip_cells_with_tag=SKIP, store_widget_state=False, coalesce_streams=True,
                   resources={"metadata": {"path": str(path.parent)}}).execute()
    for cell in nb.cells:
        if cell.cell_type == "code": cell.outputs = [o for o in cell.outputs if LIVE not in o.get("data", {})]
    return nb


def run(path):
    "Run one notebook and write it."
    nbformat.write(executed(path), path)
    clean = Path(sys.executable).with_name("nbdev_clean")
    subprocess.run([str(clean), "--fname", str(path)], check=True, cwd=ROOT)


def said(cell):
    "What a cell shows: its texts, without seconds and memory addresses, and a hash of each picture and page."
    text = lambda s: re.sub(r"\d[\d.,]*(?= ?(?:ms|µs|s|seconds?|minutes?|it/s)\b)", "…", re.sub(" at 0x[0-9a-f]+", "", "".join(s)))
    brief = lambda kind, data: text(data) if kind in ("text/plain", "text/markdown") else hashlib.sha256(json.dumps(data).encode()).hexdigest()[:12]
    out = cell.get("outputs", [])
    return text(o.text for o in out if o.get("name") == "stdout"), [{k: brief(k, v) for k, v in o.data.items()} for o in out if "data" in o]


def compare(path):
    "Run one notebook, write nothing, and print the cells that do not say what they said."
    before, after = nbformat.read(path, as_version=4), executed(path)
    other = [(i, said(a), said(b)) for i, (a, b) in enumerate(zip(before.cells, after.cells)) if said(a) != said(b)]
    for i, a, b in other: print(f"    cell {i}\n      was  {str(a)[:300]}\n      is   {str(b)[:300]}")
    return f"{os.path.relpath(path, ROOT)}: {len(other)} of its cells said something else." if other else ""


def main(names):
    comparing = "--compare" in names
    names = [n for n in names if n != "--compare"]
    paths = [Path(n).resolve() for n in names] or notebooks()
    failed = []
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    for path in paths:
        name, start = os.path.relpath(path, ROOT), time.time()
        try: failed += filter(None, [compare(path) if comparing else run(path)])
        except FileNotFoundError: failed.append(f"{name} does not exist.")
        except CellExecutionError as e: failed.append(f"{name} was not written, a cell of it fails:\n{e}")
        else: print(f"{name}: {time.time() - start:.0f} s", flush=True)
    return "\n".join(failed)


if __name__ == "__main__": sys.exit(main(sys.argv[1:]) or None)
