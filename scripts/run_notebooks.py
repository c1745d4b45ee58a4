"""Run notebooks in place, from top to bottom, and keep their outputs, cleaned by nbdev_clean.

    python scripts/run_notebooks.py                        # all of nbs/, or: make notebooks
    python scripts/run_notebooks.py nbs/03_spotting.ipynb

A live widget is not kept, only what stands beside it for those who have no kernel: its name is another one on each run.
Cells marked `#| eval: false`, `#| browser` or, without a GPU, `#| cuda` are left as they are, with the outputs they have.
A notebook with an error is reported and not written.
"""
import os, shutil, subprocess, sys, time
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


def run(path, timeout=900):
    "Run one notebook in its own folder and write it."
    nb = nbformat.read(path, as_version=4)
    gpu = shutil.which("nvidia-smi") is not None
    for cell in nb.cells: cell.metadata["tags"] = [SKIP] if cell.cell_type == "code" and left_alone(cell, gpu) else []
    NotebookClient(nb, timeout=timeout, kernel_name="python3", skip_cells_with_tag=SKIP, store_widget_state=False,
                   resources={"metadata": {"path": str(path.parent)}}).execute()
    for cell in nb.cells:
        if cell.cell_type == "code": cell.outputs = [o for o in cell.outputs if LIVE not in o.get("data", {})]
    nbformat.write(nb, path)
    clean = Path(sys.executable).with_name("nbdev_clean")
    subprocess.run([str(clean), "--fname", str(path)], check=True, cwd=ROOT)


def main(names):
    paths = [Path(n).resolve() for n in names] or notebooks()
    failed = []
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    for path in paths:
        name, start = os.path.relpath(path, ROOT), time.time()
        try: run(path)
        except FileNotFoundError: failed.append(f"{name} does not exist.")
        except CellExecutionError as e: failed.append(f"{name} was not written, a cell of it fails:\n{e}")
        else: print(f"{name}: {time.time() - start:.0f} s", flush=True)
    return "\n".join(failed)


if __name__ == "__main__": sys.exit(main(sys.argv[1:]) or None)
