"""Build the documentation site from the notebooks, with what they show now: nothing is run, and nothing comes from a network.

    python scripts/make_docs.py            # or: make docs; then open _docs/index.html
    python scripts/make_docs.py OUT        # another folder

First a source tree is written to build/docs: notebooks without directives, without what is hidden, and without the picture that
stands in for a viewer where the viewer follows; the pages of docs/ and of the repository; the API reference, from the exported
modules and the comments of their parameters. Sphinx makes pages of it, then every link of every page is followed. A link that
leads nowhere, or a page that would load something from elsewhere, is an error.
"""
import ast, importlib, inspect, posixpath, re, shutil, subprocess, sys, time
from configparser import ConfigParser
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat

from make_readme import CODE, LINK, ROOT, directives, is_relative
from run_notebooks import notebooks

PAGES = "docs/*.md", "CONTRIBUTING.md", "configs/README.md", "bike_nb/models/*/README.md"
LONG = 200 # letters of a constant that are shown


# ---------------------------------------------------------------- links
def documents(root):
    "{file in the repository: file in the source tree} of all that becomes a page; docs/index.md is the first page of the site."
    found = [*notebooks(root), *(p for pattern in PAGES for p in sorted(root.glob(pattern)))]
    names = [p.relative_to(root).as_posix() for p in found]
    return {n: "index.md" if n == "docs/index.md" else n for n in names}


class Texts:
    "Turns the links of a text into those of the site, and notes the files that they need (`files`)."
    def __init__(self, root, known): self.root, self.docs, self.known, self.files = root, documents(root), known, set()

    def target(self, link, folder, here):
        "A link from a file in `folder` of the repository, as it works for the page `here`."
        path, *anchor = re.split("(?=[#?])", link, maxsplit=1)
        path = posixpath.normpath(posixpath.join(folder, path)) if path else ""
        if path and f"{path}/README.md" in self.docs: path = f"{path}/README.md"
        if not path or not (self.root/path).exists(): return link
        if path not in self.docs: self.files.add(path)
        return posixpath.relpath(self.docs.get(path, path), posixpath.dirname(here) or ".") + "".join(anchor)

    def __call__(self, text, name):
        "The Markdown of the file `name`: `bike_nb.x.y` in code letters leads to the reference."
        folder, here = posixpath.dirname(name), self.docs.get(name, name)
        moved = lambda m: m[1] + (self.target(m[2], folder, here) if is_relative(m[2]) else m[2])
        brief = "~" if name == "docs/paper.md" else ""  # its tables have a column for the notebook
        linked = lambda p: f"{{py:obj}}`{brief}{p[1:-1]}`" if p[1:-1].removesuffix("()") in self.known else p
        parts = CODE.split(text)
        for i in range(len(parts)):
            inside = i % 2 and i and parts[i-1].endswith("[")
            parts[i] = LINK.sub(moved, parts[i]) if i % 2 == 0 else parts[i] if inside else linked(parts[i])
        return "".join(parts)


# ---------------------------------------------------------------- notebooks
def is_viewer(out): return "bike-static" in (html := "".join(out.get("data", {}).get("text/html", ""))) or "bike-clip-still" in html
def is_picture(out): return any(k.startswith("image/") for k in out.get("data", {}))


def without_doubles(outputs):
    "The outputs of a cell; a picture that a viewer follows is for those who cannot see the viewer, here on paper only."
    outputs = [o for o in outputs if o.get("name") != "stderr"]
    later = lambda i: any(is_viewer(o) for o in outputs[i+1:])
    return [on_paper(o) if is_picture(o) and later(i) else o for i, o in enumerate(outputs)]


def on_paper(out):
    "A picture, or nothing where it is not a PNG, that only a printed page shows."
    png = "".join(out.data.get("image/png", "")).replace("\n", "")
    img = f'<img alt="Frames and saliency" src="data:image/png;base64,{png}">' if png else ""
    return nbformat.v4.new_output("display_data", {"text/html": f'<div class="on-paper">{img}</div>'})


def shown(cell, texts, name):
    "The cells of the site for a cell of a notebook: none, or itself, or itself after a mark that the reference leads to."
    if cell.cell_type == "markdown": cell.source = texts(cell.source, name)
    if cell.cell_type != "code": return [cell]
    said = directives(cell)
    if any(d == "hide" or d.startswith("default_exp") for d in said): return []
    exports = any(re.match("exporti?\\b", d) for d in said)
    cell.source = re.sub(r"^#\s*\|.*\n?", "", cell.source, flags=re.M).strip("\n")
    cell.outputs = [] if "output: false" in said else without_doubles(cell.outputs)
    cell.metadata["tags"] = ["exported"] * exports + ["remove-input"] * ("echo: false" in said)
    if alt := [d.split(":", 1)[1].strip(" \"'") for d in said if d.startswith("fig-alt:")]: cell.metadata["mystnb"] = {"image": {"alt": alt[0]}}
    return [cell]


def first_line(module, names, tutorials):
    "What a component notebook exports, and the tutorials that use it."
    links = " · ".join(f"{{py:obj}}`{n} <bike_nb.{module}.{n}>`" for n in names[:12]) + (" · …" if len(names) > 12 else "")
    used = ", ".join(f"[](tutorials/{t.name})" for t in tutorials)
    return f":::{{admonition}} Exports {{py:mod}}`bike_nb.{module}`\n:class: exports\n{links}\n" + (f"\nUsed in the tutorials {used}.\n" if used else "") + ":::"


def write_notebook(path, root, out, texts, api):
    name = path.relative_to(root).as_posix()
    nb = nbformat.read(path, as_version=4)
    module = next((d.split()[1] for c in nb.cells if c.cell_type == "code" for d in directives(c) if d.startswith("default_exp")), None)
    nb.cells = [new for c in nb.cells for new in shown(c, texts, name)]
    if module in api:
        title = nb.cells[0].source.split("\n", 1)
        nb.cells[0].source = f"# {path.stem[:2]} · {title[0].lstrip('# ')}\n" + "".join(title[1:])
        users = [t for t in notebooks(root) if t.parent.name == "tutorials" and re.search(rf"bike_nb\.{module}\b|bike_nb import [^\\n]*\b{module}\b", t.read_text(encoding="utf-8"))]
        nb.cells.insert(1, nbformat.v4.new_markdown_cell(first_line(module, list(api[module]), users)))
    nb.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    (out/name).parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, out/name)


# ---------------------------------------------------------------- the reference
def exported(root):
    "{module: {name: object}} of what the notebooks export, in their order."
    found = {}
    for path in notebooks(root):
        if not re.match(r"\d\d_", path.name) or path.parent.name != "nbs": continue
        module = importlib.import_module(f"bike_nb.{path.stem[3:]}")
        found[path.stem[3:]] = {n: getattr(module, n) for n in module.__all__ if hasattr(module, n)}
    return found


def plain(text):
    "A docstring or comment as Markdown: what is not in code letters means nothing but itself."
    text = re.sub(r"(?<![\w`-])--[a-z][\w-]*", r"`\g<0>`", " ".join(str(text).split())) if "`" not in str(text) else " ".join(str(text).split())
    parts = CODE.split(text)
    return "".join(p if i % 2 else re.sub(r"([\\*_$<>\[\]{}|#~])", r"\\\1", p) for i, p in enumerate(parts))


def short(value):
    "A value as code, cut to a readable length."
    text = re.sub(r" at 0x[0-9a-f]+", "", " ".join(repr(value).split()))
    return text if len(text) <= LONG else text[:LONG] + " …"


def spelled(kind):
    "A type as it is read."
    if kind is inspect.Parameter.empty or kind is None: return ""
    return kind if isinstance(kind, str) else getattr(kind, "__name__", None) if inspect.isclass(kind) and not getattr(kind, "__args__", None) else str(kind).replace("typing.", "")


def default_of(p):
    "The default of a parameter; of an option of the command line what it stands for."
    option = hasattr(p.default, "param_decls")
    return p.default if not option else p.empty if p.default.default is ... else p.default.default


def signature(obj, method=False):
    "`(a, b=1, *, c)`: names and plain defaults; types stand in the list of parameters."
    try: parameters = list(inspect.signature(obj).parameters.values())
    except (TypeError, ValueError): return "()"
    parts, star = [], False
    for p in parameters[1:] if method and parameters and parameters[0].name in ("self", "cls") else parameters:
        if p.kind == p.KEYWORD_ONLY and not star: parts.append("*"); star = True
        star |= p.kind == p.VAR_POSITIONAL
        text = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "") + p.name
        if (default := default_of(p)) is not p.empty:
            value = short(default)
            text += "=" + (value if len(value) < 60 and is_python(value) else "…")
        parts.append(text)
    return f"({', '.join(parts)})"


def is_python(text):
    try: ast.literal_eval(text); return True
    except (ValueError, SyntaxError): return False


def fields(obj, method=False):
    "The parameters of a function, or of making an object, as the comments beside them say."
    from fastcore.docments import docments
    try: found = docments(obj, full=True)
    except Exception: return []
    lines = []
    for name, p in found.items():
        if name in ("self", "cls", "return"): continue
        told = p.docment or getattr(p.default, "help", None)
        what = " · ".join(filter(None, (f"`{k}`" if (k := spelled(p.anno)) and k not in ("NoneType", "_empty") else "", plain(told or ""))))
        if told: lines.append(f":param {name}: {what}")
    back = found.get("return") or {}
    what = " · ".join(filter(None, (f"`{k}`" if (k := spelled(back.get("anno"))) and k != "_empty" else "", plain(back.get("docment") or ""))))
    return lines + ([f":returns: {what}"] if what and not inspect.isclass(obj) else [])


def entry(kind, name, sig, text, inner=()):
    "A directive of Sphinx's Python domain."
    colons = ":" * (4 if inner else 3)
    return "\n".join([f"{colons}{{py:{kind}}} {name}{sig}", "", text, "", *inner, colons, ""])


def described(obj, method=False): return "\n".join([plain(inspect.getdoc(obj) or ""), "", *fields(obj, method)])


def methods(cls):
    "What a class defines itself, and says something about."
    for name, member in vars(cls).items():
        f = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member.fget if isinstance(member, property) else member
        if name.startswith("_") or not inspect.isfunction(f) or not f.__doc__: continue
        if isinstance(member, property): yield entry("property", name, "", plain(f.__doc__))
        else: yield entry("method", name, signature(f, not isinstance(member, staticmethod)), described(f, True))


def own_doc(cls): return not (cls.__doc__ or "").startswith(f"{cls.__name__}(")


def reference(name, obj, owner):
    "The entry of one exported name."
    if inspect.isclass(obj):
        kind = "exception" if issubclass(obj, Exception) else "class"
        about = "\n".join([plain(inspect.getdoc(obj)) if obj.__doc__ and own_doc(obj) else "", "", *fields(obj)])
        return entry(kind, name, "" if kind == "exception" else signature(obj), about, list(methods(obj)))
    if inspect.isfunction(obj) or hasattr(obj, "__wrapped__"): return entry("function", name, signature(obj), described(obj))
    return entry("data", name, "", f"`` {short(obj).replace('``', '` `')} ``")


def write_reference(api, root, out):
    "A page a module, and one that lists them."
    (out/"api").mkdir(parents=True, exist_ok=True)
    numbers = {p.stem[3:]: p for p in notebooks(root) if p.parent.name == "nbs"}
    rows = []
    for module, names in api.items():
        doc = plain(importlib.import_module(f"bike_nb.{module}").__doc__ or "")
        rows.append(f"| [bike_nb.{module}]({module}.md) | {doc} | [{numbers[module].stem}](../nbs/{numbers[module].name}) |")
        head = f"# bike_nb.{module}\n\n> {doc}\n\n```{{py:module}} bike_nb.{module}\n```\n\nBuilt step by step in [{numbers[module].stem}](../nbs/{numbers[module].name}).\n"
        (out/"api"/f"{module}.md").write_text("\n".join([head, *(reference(n, o, module) for n, o in names.items())]), encoding="utf-8")
    table = "\n".join(["| module | what it is for | notebook |", "|---|---|---|", *rows])
    tree = "```{toctree}\n:hidden:\n" + "\n".join(api) + "\n```\n"
    (out/"api"/"index.md").write_text(f"# API reference\n\n> What each notebook exports, with the comments of its parameters.\n\n{table}\n\nAll names in one list: {{ref}}`genindex`.\n\n{tree}", encoding="utf-8")


# ---------------------------------------------------------------- the site
def stage(root, out):
    "Write the source tree of the site."
    shutil.rmtree(out, ignore_errors=True)
    api = exported(root)
    known = {f"bike_nb.{m}" for m in api} | {f"bike_nb.{m}.{n}" for m, names in api.items() for n in names}
    texts = Texts(root, known)
    for path in notebooks(root): write_notebook(path, root, out, texts, api)
    for name, there in texts.docs.items():
        if name.endswith(".ipynb"): continue
        (out/there).parent.mkdir(parents=True, exist_ok=True)
        (out/there).write_text(texts((root/name).read_text(encoding="utf-8"), name), encoding="utf-8")
    write_reference(api, root, out)
    for name in texts.files:
        (out/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root/name, out/name)


class Seen(HTMLParser):
    "Names that a page can be entered at (`ids`), what it leads to (`links`), and what it loads (`loads`)."
    def __init__(self, html):
        super().__init__()
        self.ids, self.links, self.loads = set(), [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.ids |= {a[k] for k in ("id", "name") if a.get(k)}
        if tag in ("a", "area") and a.get("href"): self.links.append(a["href"])
        elif tag == "link" and a.get("href"): self.loads.append(a["href"])
        self.loads += [a[k] for k in ("src", "srcset", "poster", "data") if a.get(k) and tag not in ("a", "input")]


def check_site(site):
    "What is wrong with the links and the loads of a built site, one sentence each."
    pages = {p: Seen(p.read_text(encoding="utf-8")) for p in sorted(site.rglob("*.html"))}
    for page, seen in pages.items():
        name = page.relative_to(site).as_posix()
        for link in seen.loads:
            if re.match(r"(https?:)?//", link): yield f"{name} loads {link}."
            elif not re.match("data:|#", link) and not (page.parent/unquote(re.split("[?#]", link)[0])).exists(): yield f"{name} loads {link}, which does not exist."
        for link in seen.links:
            if re.match("[a-z]+:|//", link): continue
            path, _, anchor = link.partition("#")
            there = (page.parent/unquote(path.split("?")[0])).resolve() if path else page
            if not there.exists(): yield f"{name} links to {link}, which does not exist."
            elif anchor and there in pages and unquote(anchor) not in pages[there].ids: yield f"{name} links to {link}: there is no such place on that page."
    for sheet in site.rglob("*.css"):
        for url in re.findall(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")\s]+)", sheet.read_text(encoding="utf-8")): yield f"{sheet.relative_to(site)} loads {url}."


def build(root, out, work): # the repository, the site, a folder for what is made on the way
    "Stage, build, follow the links; the sentences of what is wrong."
    stage(root, work/"src")
    shutil.rmtree(work/"site", ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-n", "-W", "--keep-going", "-j", "2", "-q", "-c", str(root/"docs"), "-d", str(work/"trees"), str(work/"src"), str(work/"site")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode and not (work/"site"/"index.html").exists(): return [done.stderr]
    shutil.rmtree(out, ignore_errors=True)
    shutil.move(work/"site", out)
    said = [line.replace(f"{work/'src'}/", "") for line in done.stderr.splitlines() if line.strip()]
    return said + list(check_site(out.resolve()))


def main(names):
    config = ConfigParser(delimiters=["="], interpolation=None)
    config.read(ROOT/"settings.ini", encoding="utf-8")
    out, start = Path(names[0]) if names else ROOT/config["DEFAULT"]["doc_path"], time.time()
    wrong = build(ROOT, out.absolute(), ROOT/"build"/"docs")
    if wrong: return "\n".join(wrong)
    files = [p for p in out.rglob("*") if p.is_file()]
    print(f"{out/'index.html'}: {sum(p.suffix == '.html' for p in files)} pages, {sum(p.stat().st_size for p in files)/1e6:.0f} MB, {time.time() - start:.0f} s")


if __name__ == "__main__": sys.exit(main(sys.argv[1:]) or None)
