"The form of my_clip: by itself in a page, with a model that the test plays, and in JupyterLab and Notebook 7 with a kernel."
import json, re
from importlib.resources import files
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[2]/"data_samples"
KITE = SAMPLES/"00_flying_a_kite.mp4"
STATIC = files("bike_nb")/"static"
VALUES = dict(source="upload", path="", concepts="", model="tiny", lexicon="", frames="16", start="", end="")
OPTIONS = dict(videos=["data_samples/00_flying_a_kite.mp4", "a <b>clip</b>.mp4"], models=["tiny", "ViT-B-32"], lexicons=["world", "imagenet"], max_mb=5, most_frames=64, patience=1)
MODEL = """
const hears = {}, state = %s;
window.sent = []; window.answers = true;
window.fake = {
  get: k => state[k],
  set(k, v) { state[k] = v; (hears["change:" + k] || []).forEach(f => f()); },
  save_changes() {},
  on(k, f) { (hears[k] ||= []).push(f); }, off() {},
  tell(m) { (hears["msg:custom"] || []).forEach(f => f(m, [])); },
  gone() { (hears.comm_live_update || []).forEach(f => f()); },
  send(m, _, buffers) {
    window.sent.push({ ...m, bytes: buffers?.[0]?.byteLength });
    if (!window.answers || m.kind === "cancel") return;
    this.got = m.kind === "start" ? 0 : this.got + buffers[0].byteLength;
    setTimeout(() => this.tell({ kind: "ack", upload: m.upload, received: this.got }), window.slow || 0);
  },
};
render({ model: window.fake, el: document.body });
"""

class Form:
    "The form alone, in a page."
    def __init__(self, tab, **values):
        self.tab = tab
        state = dict(options=OPTIONS, values=VALUES | values, status="", error="", busy="")
        tab.set_content(f"<!doctype html><html lang=en><title>My clip</title><style>{(STATIC/'my_clip.css').read_text()}</style><body><script type=module>{(STATIC/'my_clip.js').read_text()}{MODEL % json.dumps(state)}</script>")
        tab.locator(".bike-clip form").wait_for()
    def box(self, name): return self.tab.get_by_role("textbox", name=name)
    def combo(self, name): return self.tab.get_by_role("combobox", name=name)
    def file(self): return self.tab.get_by_label("Choose a video file")
    def button(self, name): return self.tab.get_by_role("button", name=name, exact=True)
    def look(self): self.button("Look").click()
    def give(self, size, name="kite.mp4"): self.file().set_input_files(dict(name=name, mimeType="video/mp4", buffer=bytes(size)))
    def says(self, text): self.tab.locator(".bike-clip [role=status]").filter(has_text=re.compile(text)).wait_for()
    def complains(self, text): self.tab.locator(".bike-clip [role=alert]").filter(has_text=re.compile(text)).wait_for()
    @property
    def sent(self): return self.tab.evaluate("window.sent")
    def fake(self, code): return self.tab.evaluate(f"window.fake.{code}")


def axe(tab):
    "Serious and critical findings of axe-core."
    from axe_playwright_python.sync_playwright import Axe
    found = Axe().run(tab).response["violations"]
    return [(v["id"], [n["html"][:160] + n["failureSummary"][:200] for n in v["nodes"][:4]]) for v in found if v["impact"] in ("serious", "critical")]


# ---------------------------------------------------------------- the form alone
def test_a_file_is_sent_in_pieces_each_after_its_answer(page):
    form = Form(page(offline=True))
    form.box("Concepts").fill("a kite; a dog")
    form.box("Start (s)").fill("1")
    form.give(2_500_000)
    form.look()
    form.tab.wait_for_function("() => window.sent.length === 4")
    start, *pieces = form.sent
    assert (start["kind"], start["name"], start["size"]) == ("start", "kite.mp4", 2_500_000) and start["values"] == VALUES | dict(concepts="a kite; a dog", start="1")
    assert [(p["kind"], p["index"], p["bytes"]) for p in pieces] == [("chunk", 0, 10**6), ("chunk", 1, 10**6), ("chunk", 2, 500_000)]
    assert len({p["upload"] for p in form.sent}) == 1 and not form.button("Cancel").is_visible()


def test_what_is_too_large_or_empty_is_said_before_anything_is_sent(page):
    form = Form(page(offline=True))
    form.look(); form.complains("There is no file yet")
    form.give(5_000_001, "big.mp4"); form.complains(r"big\.mp4 has 5\.0 MB, and this form takes 5 MB at most")
    form.look(); form.complains("5 MB at most")
    form.give(0); form.complains("kite.mp4 is empty")
    form.look()
    assert form.sent == []
    form.give(9)
    assert form.tab.get_by_role("alert").inner_text() == ""


def test_cancel_and_the_next(page):
    form = Form(page(offline=True))
    form.tab.evaluate("window.slow = 300")
    form.give(4_900_000)
    form.look()
    form.says(r"Receiving \d.* of 4\.9 MB")
    assert form.button("Look").get_attribute("aria-disabled") == "true"
    form.button("Look").click(force=True)                                                   # does nothing meanwhile
    form.button("Cancel").click()
    form.button("Cancel").wait_for(state="hidden")
    assert form.sent[-1]["kind"] == "cancel" and [m["kind"] for m in form.sent].count("start") == 1
    n = len(form.sent)
    form.tab.wait_for_timeout(500)
    assert len(form.sent) == n and form.tab.evaluate("document.activeElement.textContent") == "Look"
    form.tab.evaluate("window.slow = 0")
    form.look()
    form.tab.wait_for_function("() => window.sent.at(-1).index === 4")
    first, last = form.sent[0]["upload"], form.sent[-1]["upload"]
    assert first != last


def test_a_kernel_that_does_not_answer(page):
    form = Form(page(offline=True), path="kite.mp4")
    form.tab.evaluate("window.answers = false")
    form.give(10)
    form.look()
    form.complains("has not answered for 1 seconds")
    assert form.sent[-1]["kind"] == "cancel" and form.button("Look").get_attribute("aria-disabled") == "false"
    form.tab.get_by_label("A file where the kernel runs").check()
    form.look()
    form.says("Waiting for the kernel")
    form.complains("has not answered")
    form.fake("set('error', '')"); form.fake("set('busy', 'look')"); form.fake("set('status', 'Looking at 16 frames…')")
    form.says("Looking at 16 frames")
    form.fake("gone()")
    form.complains("restarted or is gone")
    assert form.button("Look").get_attribute("aria-disabled") == "false"


def test_what_is_refused_is_said(page):
    form = Form(page(offline=True))
    form.tab.evaluate("window.answers = false")
    form.give(10)
    form.look()
    form.tab.wait_for_function("() => window.sent.length === 1")
    form.fake("tell({ kind: 'refused', upload: 'another', error: 'not mine' })")
    form.fake("tell({ kind: 'refused', upload: window.sent[0].upload, error: '<img src=x onerror=window.hacked=1>' })")
    form.complains("<img src=x")
    assert form.tab.evaluate("window.hacked") is None and form.tab.locator(".bike-clip img").count() == 0


def test_a_file_that_is_dropped(page):
    form = Form(page(offline=True), source="path")
    drop = """names => { const d = new DataTransfer(); for (const n of names) d.items.add(new File(["abc"], n));
      const root = document.querySelector(".bike-clip"); for (const kind of ["dragenter", "dragover", "drop"]) root.dispatchEvent(new DragEvent(kind, { dataTransfer: d, bubbles: true, cancelable: true }))}"""
    form.tab.evaluate(drop, ["a.mp4", "b.mp4"])
    form.complains("2 files: drop one at a time")
    form.tab.evaluate(drop, ["<b>kite</b>.mp4"])
    form.tab.get_by_text("<b>kite</b>.mp4, 1 kB").wait_for()
    assert form.tab.get_by_label("Upload a file").is_checked() and not form.tab.locator(".bike-clip.over").count()
    form.look()
    form.tab.wait_for_function("() => window.sent.length === 2")


def test_all_by_keyboard(page):
    form = Form(page(offline=True))
    press, here = form.tab.keyboard.press, lambda: form.tab.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.labels?.[0]?.textContent || document.activeElement.textContent")
    press("Tab"); press("ArrowRight")                                                       # the radio buttons
    press("Tab")
    assert here() == "Path of the file"
    form.tab.keyboard.type("KITE"); press("ArrowDown")
    option = form.tab.get_by_role("option", name="data_samples/00_flying_a_kite.mp4")
    assert option.get_attribute("aria-selected") == "true" and form.combo("Path of the file").get_attribute("aria-activedescendant") == option.get_attribute("id")
    press("Enter")
    assert form.combo("Path of the file").input_value() == "data_samples/00_flying_a_kite.mp4" and form.sent == []
    press("Tab"); form.tab.keyboard.type("a dog")
    press("Tab"); press("ArrowDown"); press("ArrowUp"); press("Enter")                      # the last model
    assert form.combo("Model").input_value() == "ViT-B-32"
    press("Tab"); press("ArrowDown"); press("Escape")
    assert here() == "Lexicon" and form.combo("Lexicon").input_value() == "" and form.tab.get_by_role("listbox").count() == 0
    for name in "Frames (1–64)", "Start (s)", "End (s)":
        press("Tab")
        assert here() == name
    press("Enter")                                                                          # as in any form
    assert form.sent[0]["kind"] == "look" and form.sent[0]["values"] == VALUES | dict(source="path", path="data_samples/00_flying_a_kite.mp4", concepts="a dog", model="ViT-B-32")
    press("Tab")
    assert here() == "Look"


def test_suggestions_by_mouse(page):
    form = Form(page(offline=True), source="path", path="x")
    form.tab.get_by_label("Choices for Path of the file").click()
    form.tab.get_by_role("option", name="a <b>clip</b>.mp4").click()
    assert form.combo("Path of the file").input_value() == "a <b>clip</b>.mp4" and form.tab.get_by_role("option").count() == 0
    form.tab.get_by_label("Choices for Model").click()
    assert form.tab.get_by_role("option").count() == 2
    form.box("Concepts").click()
    assert form.tab.get_by_role("option").count() == 0
    form.fake("set('values', {...window.fake.get('values'), concepts: 'from Python'})")
    form.tab.wait_for_timeout(500)                                                          # what was typed has been told
    form.fake("set('values', {...window.fake.get('values'), concepts: 'from Python'})")
    assert form.box("Concepts").input_value() == "from Python"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 700, 1600])
def test_axe_width_and_size(page, dark, width):
    form = Form(page(offline=True, dark=dark, width=width), source="path")
    tab = form.tab
    assert tab.locator(".bike-clip").get_attribute("data-theme") == ("dark" if dark else "light")
    form.fake("set('error', '" + "A long sentence about what is wrong. " * 8 + "')"); form.fake("set('status', 'Looking at 16 frames…')"); form.fake("set('busy', 'look')")
    form.combo("Model").focus(); tab.keyboard.press("ArrowDown")
    assert axe(tab) == []
    form.fake("set('busy', '')"); tab.get_by_label("Upload a file").check()
    form.give(3000, "x" * 200 + ".mp4")
    assert axe(tab) == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    small = tab.evaluate("""() => [...document.querySelectorAll('.bike-clip :is(button, input[type=text], .button, .choice)')].filter(e => e.offsetParent).map(e => [e.textContent || e.id, e.getBoundingClientRect()])
      .filter(([, r]) => r.width < 23.5 || r.height < 23.5).map(([n, r]) => `${n} ${r.width}x${r.height}`)""")
    assert not small, small


# ---------------------------------------------------------------- with a kernel
CELL = f"import os; os.chdir({str(SAMPLES.parent)!r})\nfrom bike_nb.my_clip import my_clip\nclip = my_clip()\nclip"
LEFT = "import glob, json, tempfile; print(json.dumps(glob.glob(tempfile.gettempdir() + '/bike_clip_*')))"


class Cell(Form):
    "The form in a notebook."
    def __init__(self, nb):
        self.tab = nb.tab
        nb.run_all()
        self.file().wait_for(timeout=60_000)
    def curve(self, name): self.tab.locator(f'.bike-viewer path.curve[data-name="{name}"]').first.wait_for(timeout=60_000)


@pytest.mark.parametrize("app", ["lab", "notebooks"])
def test_upload_look_and_see(page, lab, app):
    nb = lab.open(page(width=1400, height=1000), lab.write(f"clip-{app}.ipynb", CELL, "1 + 1"), app)
    form = Cell(nb)
    form.box("Concepts").fill("flying a kite\na person")
    form.box("Frames (1–64)").fill("8")
    form.file().set_input_files(KITE)
    form.look()
    form.curve("flying a kite"); form.curve("a person")
    form.says(r"00_flying_a_kite\.mp4: 8 frames in")
    assert nb.ask(LEFT) == [] and form.tab.locator(".bike-viewer").count() == 1
    assert nb.ask("import json; print(json.dumps([clip.explanation.concepts, clip.viewer.data['panels'][0]['title'], clip.error]))") == [["flying a kite", "a person"], KITE.name, None]

    form.give(5000, "<i>broken.mp4")
    form.look()
    form.complains(r"^<i>broken\.mp4: this cannot be read as a video")
    assert form.box("Concepts").input_value() == "flying a kite\na person" and nb.ask(LEFT) == [] and "VideoError" in nb.ask("print(json.dumps(clip.error))")

    form.tab.get_by_label("A file where the kernel runs").check()
    form.combo("Path of the file").fill("walking")
    form.tab.get_by_role("option", name="08_walking_a_dog").click()
    form.box("Concepts").fill("a dog")
    form.look()
    form.curve("a dog")
    form.says("08_walking_a_dog")
    assert form.tab.get_by_role("alert").filter(visible=True).count() == 0 and form.tab.locator(".bike-viewer").count() == 1
    assert nb.ask("print(json.dumps([clip.explanation.video, clip.loaded]))") == ["data_samples/08_walking_a_dog.mp4", "tiny"]
    assert nb.cells.count() == 2                                                            # no key went astray


def test_cancel_and_restart(page, lab, tmp_path):
    big = tmp_path/"big.mp4"
    with open(big, "wb") as f: f.truncate(150_000_000)
    nb = lab.open(page(width=1400, height=1000), lab.write("restart.ipynb", CELL))
    form = Cell(nb)
    form.file().set_input_files(big)
    form.look()
    form.says(r"Receiving \d+ of 150 MB")
    form.button("Cancel").click()
    form.says("Cancelled")
    assert nb.ask(LEFT) == []
    form.look()
    form.says(r"Receiving [1-9]\d* of 150 MB")
    assert len(nb.ask(LEFT)) == 1
    nb.js("await panel.sessionContext.session.kernel.restart()")
    form.complains("restarted or is gone")
    nb.js("await panel.sessionContext.session.kernel.info")
    assert nb.ask(LEFT) == []


def test_a_saved_notebook_says_what_it_was(page, lab):
    nb = lab.open(page(width=1400, height=1000), lab.write("saved-clip.ipynb", CELL.removesuffix("clip") + "print('before it')\nclip", "my_clip()"))
    nb.run_all()
    tab = nb.tab
    tab.locator(".bike-clip").nth(1).wait_for(timeout=60_000)
    assert not tab.get_by_text("It needs a running kernel").filter(visible=True).count()
    nb.ask(f"clip.look(path={str(KITE)!r}, concepts='a kite', frames=6); print(1)")
    tab.locator('.bike-viewer path.curve[data-name="a kite"]').first.wait_for(timeout=60_000)
    nb.save(); nb.shutdown(); tab.context.close()
    tab = page(width=1400, height=1000)
    lab.open(tab, "saved-clip.ipynb")
    tab.locator(".bike-clip-still iframe").content_frame.locator('path.curve[data-name="a kite"]').wait_for()
    tab.get_by_text(re.compile("Error displaying widget")).nth(1).wait_for(state="attached")  # the widget manager has given up on the models, and nobody sees it
    assert tab.get_by_text("It needs a running kernel").filter(visible=True).count() == 2
    assert tab.locator(".jp-OutputArea").get_by_text("before it").filter(visible=True).count() == 1
    assert not tab.get_by_text(re.compile("Error displaying widget|model not found|Loading widget")).filter(visible=True).count()
    page.said[:] = [s for s in page.said if "model not found" not in s]
