"""Put the links that open a tutorial in Colab or Binder, and the cell that installs bike_nb there, at the top of each tutorial.

    python scripts/make_badges.py          # or: make badges; after a new tutorial, or another git_url or branch in settings.ini

The repository and its branch come from settings.ini. Binder needs no cell: it installs what binder/requirements.txt says.
"""
import re, sys

import nbformat

from check import settings
from make_readme import ROOT
from run_notebooks import notebooks

FIRST = "# Only on Colab"


def badges(path, root=ROOT):
    "The markdown of the two badges of a notebook."
    s, name = settings(root), path.relative_to(root).as_posix()
    repo, branch = s["git_url"].removeprefix("https://github.com/"), s["branch"]
    return (f"[![Open in Colab](badges/colab.svg)](https://colab.research.google.com/github/{repo}/blob/{branch}/{name})\n"
            f"[![Open in Binder](badges/binder.svg)](https://mybinder.org/v2/gh/{repo}/{branch}?urlpath=lab/tree/{name})")


def install(root=ROOT):
    "The cell that fetches and installs the repository on Colab, and does nothing elsewhere."
    s = settings(root)
    return (f"{FIRST}: fetch the repository and install it (a few minutes). Elsewhere this does nothing.\n"
            "import sys\n"
            'if "google.colab" in sys.modules:\n'
            f'    !git clone --quiet --depth 1 --branch {s["branch"]} {s["git_url"]} /content/{s["repo"]}\n'
            f'    %pip install --quiet /content/{s["repo"]}\n'
            f'    %cd /content/{s["repo"]}/nbs/tutorials')


def put(nb, path, root=ROOT):
    "The notebook with badges below the title's line of description, and the cell right after the first."
    title, own = nb.cells[0], [c for c in nb.cells if c.source.startswith(FIRST)]
    plain = re.sub(r"\n\n\[!\[Open in Colab\].*\n\[!\[Open in Binder\].*", "", title.source)
    title.source = re.sub(r"\A(# .*\n\n(?:> .*\n?)+)", lambda m: f"{m[1].rstrip()}\n\n{badges(path, root)}\n", plain, count=1)
    if not own: nb.cells[1:1] = own = [nbformat.v4.new_code_cell(id="0colab00")]
    own[0].source = install(root)
    return nb


def main(root=ROOT):
    for path in (p for p in notebooks(root) if p.parent.name == "tutorials"):
        before = path.read_text(encoding="utf-8")
        nb = put(nbformat.reads(before, 4), path, root)
        if nbformat.reads(before, 4) != nb: nbformat.write(nb, path); print(f"{path.relative_to(root)}: written")


if __name__ == "__main__": sys.exit(main())
