"The site of `make docs`: built once, without a warning; no link that leads nowhere, nothing loaded from elsewhere. (In a browser: tests/browser/test_docs.py.)"
import atexit, functools, re, shutil, sys, tempfile
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("sphinx"), pytest.importorskip("myst_nb")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT/"scripts"))
import make_docs
from run_notebooks import notebooks


@functools.cache
def build():
    "(folder of the site, what was wrong), once for these tests and those in tests/browser/."
    tmp = Path(tempfile.mkdtemp(prefix="bike_nb_docs_"))
    atexit.register(shutil.rmtree, tmp, ignore_errors=True)
    return tmp/"site", make_docs.build(ROOT, tmp/"site", tmp/"work")

@pytest.fixture
def built(): return build()


def html(site, name): return (site/name).read_text(encoding="utf-8")


def test_no_warning_no_dead_link_nothing_from_elsewhere(built): assert not built[1], "\n".join(built[1])

def test_every_notebook_is_a_page_and_can_be_reached(built):
    site, front = built[0], html(built[0], "index.html")
    for path in notebooks(ROOT):
        name = path.relative_to(ROOT).with_suffix(".html").as_posix()
        assert (site/name).exists() and f'href="{name}"' in front, name

def test_the_reference_has_every_exported_name_and_the_comments_of_parameters(built):
    for module, names in make_docs.exported(ROOT).items():
        text = html(built[0], f"api/{module}.html")
        missing = [n for n in names if f'id="bike_nb.{module}.{n}"' not in text]
        assert not missing, (module, missing)
    text = re.sub("<[^>]*>", "", html(built[0], "api/spotting.html"))
    for said in ("the smaller, the sharper", "frame embeddings (B,T,D), raw", "Weights (A,B,T) of T frames for A concepts in B videos"): assert said in text

def test_a_viewer_stands_alone_and_formulas_are_drawn(built):
    text = html(built[0], "nbs/tutorials/01_see.html")
    assert text.count('class="bike-static"') == 1 and 'class="formula"><svg role="img" aria-label="\\text{score}' in text
    nb = nbformat.read(ROOT/"nbs"/"tutorials"/"01_see.ipynb", as_version=4)
    cell = next(c for c in nb.cells if c.cell_type == "code" and any(map(make_docs.is_viewer, c.outputs)))
    assert any(map(make_docs.is_picture, cell.outputs)) and not any(map(make_docs.is_picture, make_docs.without_doubles(cell.outputs)))

def test_links_and_loads_that_are_wrong_are_told(tmp_path):
    (tmp_path/"a.html").write_text('<h1 id="x">x</h1><a href="#y">1</a><a href="b.html">2</a><a href="a.html#x">3</a><script src="https://cdn.net/x.js"></script><img src="no.png">')
    (tmp_path/"a.css").write_text("@import 'https://fonts.net/x.css';")
    said = "\n".join(make_docs.check_site(tmp_path))
    assert all(s in said for s in ("a.html links to #y", "links to b.html", "loads https://cdn.net", "loads no.png", "a.css loads https://fonts.net")) and "a.html#x" not in said

def test_the_source_of_the_site_is_plain_markdown():
    text = make_docs.Texts(ROOT, {"bike_nb.spotting", "bike_nb.spotting.saliency"})
    assert text("see `bike_nb.spotting.saliency`, `saliency` and [this](../LICENSE)", "nbs/03_spotting.ipynb") == "see {py:obj}`bike_nb.spotting.saliency`, `saliency` and [this](../LICENSE)"
    assert text.files == {"LICENSE"} and text("[x](../configs)", "nbs/07_training.ipynb") == "[x](../configs/README.md)"
    assert make_docs.plain("a*b `c*d` <e>") == r"a\*b `c*d` \<e\>"
