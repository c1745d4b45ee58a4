"How Sphinx makes the site: `make docs` (scripts/make_docs.py) writes the source tree and calls it."
import re
from configparser import ConfigParser
from html import escape
from pathlib import Path

from docutils import nodes

HERE = Path(__file__).parent
settings = ConfigParser(delimiters=["="], interpolation=None)
settings.read(HERE.parent/"settings.ini", encoding="utf-8")
settings = settings["DEFAULT"]

project, author, copyright, release = settings["title"], settings["author"], settings["copyright"], settings["version"]
extensions = ["myst_nb"]
language = "en"

# Notebooks: as they were committed, nothing is run
nb_execution_mode = "off"
nb_output_stderr = "remove"
nb_render_markdown_format = "myst"
nb_ipywidgets_js = {}                    # live widgets need a kernel; our viewer brings its own page
nb_render_image_options = {"alt": "What the code above draws"}
myst_enable_extensions = ["dollarmath", "colon_fence", "fieldlist"]
myst_heading_anchors = 3
python_maximum_signature_line_length = 90
suppress_warnings = ["myst.header"]      # an exercise may stand right under the title of a page

# Pages: a theme without fonts or scripts from elsewhere
html_theme = "furo"
html_title = "bike_nb"
html_static_path = [str(HERE/"static")]
html_css_files = ["docs.css"]
html_js_files = ["subtitles.js", "search.js", "theme.js", "access.js"]
html_copy_source = html_show_sourcelink = html_show_sphinx = False
html_show_search_summary = False         # it would fetch pages, which a browser forbids to a page from disk
html_use_index = True
html_theme_options = {"navigation_with_keys": True}
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"

# Formulas: drawn while the site is built, as SVG in the text's colour and size; no script, and no font that a reader must have
SIZE = 20

def drawn(tex, inline):
    "A formula as SVG, its size and place in em."
    import ziamath
    ziamath.config.svg2, ziamath.config.math.color = False, "currentColor"
    formula = ziamath.Latex(tex, size=SIZE, inline=inline)
    em = lambda m: f'{m[1]}="{float(m[2]) / SIZE:.3f}em"'
    svg = re.sub(r'\b(width|height)="([\d.]+)"', em, formula.svg(), count=2)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(tex)}" style="vertical-align: {formula.getyofst() / SIZE:.3f}em"', 1)

def inline(self, node):
    self.body.append(drawn(node.astext(), True))
    raise nodes.SkipNode

def block(self, node):
    self.body.append(f'<div class="formula">{drawn(node.astext(), False)}</div>')
    raise nodes.SkipNode

html_math_renderer = "svg"

# What the search says about a page it has found
def subtitles(app, error):
    "The line under the title of each page, for search.js."
    import json
    if error: return
    found = {}
    for name in app.env.found_docs:
        quote = next(iter(app.env.get_doctree(name).findall(nodes.block_quote)), None)
        if quote is not None and quote.parent.index(quote) <= 2: found[name] = quote.astext()
    (Path(app.outdir)/"_static"/"subtitles.js").write_text(f"window.SUBTITLES = {json.dumps(found, ensure_ascii=False)};\n", encoding="utf-8")

def setup(app):
    app.add_html_math_renderer("svg", (inline, None), (block, None))
    app.connect("build-finished", subtitles)
