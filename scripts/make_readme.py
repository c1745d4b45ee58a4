"""Write README.md from nbs/index.ipynb.

    python scripts/make_readme.py        # or: make readme

Pictures among the outputs become files in README_files/. Links are written as they work in nbs/ and turned into those that
work from the root: `images/demo.png` → `nbs/images/demo.png`, `../LICENSE` → `LICENSE`. Cells marked `#| hide` stay out,
of those marked `#| echo: false` only the outputs come; `#| fig-alt: …` names what a picture shows.
"""
import posixpath, re, sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
NOTE = "<!-- Made from nbs/index.ipynb: change that, then run `make readme`. -->\n\n"
CODE = re.compile(r"(^```.*?^```|^~~~.*?^~~~|`[^`\n]+`)", re.M | re.S)
LINK = re.compile(r"""(\]\(\s*<?|\b(?:src|href|srcset)=["'])([^)\s"'<>]+)""")


def relative_links(markdown):
    "Targets of the links and pictures that point into the repository."
    return [m[2] for part in CODE.split(markdown)[::2] for m in LINK.finditer(part) if is_relative(m[2])]


def is_relative(target): return not re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:|[#/]|attachment:", target)


def from_root(markdown, folder="nbs"):
    "The markdown with its relative links, written in `folder`, as they work one level up."
    def moved(m): return m[1] + (posixpath.normpath(posixpath.join(folder, m[2])) if is_relative(m[2]) else m[2])
    parts = CODE.split(markdown)
    return "".join(p if i % 2 else LINK.sub(moved, p) for i, p in enumerate(parts))


def directives(cell): return [m[1] for m in re.finditer(r"^#\s*\|\s*(.+?)\s*$", cell.source, re.M)]


def shown(cell):
    "The cell as the README shows it, without directives, terminal colours and progress bars; None if it stays out."
    if cell.cell_type == "markdown": cell.source = from_root(cell.source)
    if cell.cell_type != "code": return cell
    said = directives(cell)
    if any(d == "hide" or d.startswith("default_exp") for d in said): return None
    cell.source = re.sub(r"^#\s*\|.*\n?", "", cell.source, flags=re.M).strip("\n")
    cell.outputs = [] if "output: false" in said else [o for o in cell.outputs if o.get("name") != "stderr"]
    for out in cell.outputs:
        if "text" in out: out.text = re.sub(r"\x1b\[[0-9;]*m", "", out.text)
    cell.metadata = nbformat.from_dict({
        "alt": next((d.split(":", 1)[1].strip(" \"'") for d in said if d.startswith("fig-alt:")), "output of the code above"),
        "transient": {"remove_source": not cell.source or "echo: false" in said}})
    return cell


def make(root=ROOT):
    "The files that make up the README, `{path relative to root: bytes}`."
    nb = nbformat.read(root/"nbs"/"index.ipynb", as_version=4)
    nb.cells = [c for c in map(shown, nb.cells) if c]
    nb.metadata["language_info"] = {"name": "python"}
    pictures_first = ["text/markdown", "image/png", "image/jpeg", "image/svg+xml", "text/plain"]
    exporter = MarkdownExporter(config=Config({"NbConvertBase": {"display_data_priority": pictures_first}}))
    body, resources = exporter.from_notebook_node(nb, {"unique_key": "README", "output_files_dir": "README_files"})
    body = re.sub(r"!\[(?:png|jpeg|svg)\](\(README_files/README_(\d+)_)", lambda m: f"![{nb.cells[int(m[2])].metadata.alt}]{m[1]}", body)
    body = re.sub(r"\n{3,}", "\n\n", re.sub(r"^[ \t]+$", "", NOTE + body, flags=re.M)).rstrip() + "\n"
    return {"README.md": body.encode(), **{k.replace("\\", "/"): v for k, v in resources["outputs"].items()}}


def existing(root=ROOT):
    "The same files as they are on disk."
    paths = [root/"README.md", *sorted((root/"README_files").rglob("*"))]
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in paths if p.is_file()}


def write(root=ROOT):
    "Write what differs and remove pictures that are no longer shown; return the paths that changed."
    new, old = make(root), existing(root)
    for path in old.keys() - new.keys(): (root/path).unlink()
    for path, content in new.items():
        (root/path).parent.mkdir(exist_ok=True)
        if old.get(path) != content: (root/path).write_bytes(content)
    if (root/"README_files").is_dir() and not any((root/"README_files").iterdir()): (root/"README_files").rmdir()
    return sorted(p for p in new.keys() | old.keys() if new.get(p) != old.get(p))


if __name__ == "__main__":
    if not (ROOT/"nbs"/"index.ipynb").exists(): sys.exit("There is no nbs/index.ipynb to make README.md from.")
    print("README: wrote " + ", ".join(changed) if (changed := write()) else "README: nothing to change")
