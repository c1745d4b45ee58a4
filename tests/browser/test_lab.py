"The viewer in JupyterLab and Notebook 7, with a kernel and without."
import json, re, subprocess, sys
from pathlib import Path

import pytest

from .conftest import Notebook, Tabs, axe

KITE = Path(__file__).parents[2]/"data_samples"/"00_flying_a_kite.mp4"
NAMES = ["flying a kite", "a person"]
SHOW = f"""from bike_nb.explain import explain
viewer = explain({str(KITE)!r}, {NAMES!r}, num_frames=8).widget()
viewer"""
COMPARE = f"""from bike_nb.widgets import compare
viewer = compare([{str(KITE)!r}, {str(KITE.with_name('01_playing_the_guitar.mp4'))!r}], {NAMES!r}, num_frames=6)
viewer"""
ERRORS = "Error displaying widget", "Error creating widget", "Error rendering", "model not found", "Loading widget", "Click to show javascript error"


def live(nb):
    "The viewer that talks to the kernel."
    root = nb.tab.locator(".jp-OutputArea .bike-viewer")
    root.first.wait_for()
    return root


def values(nb, panel=0):
    return nb.tab.evaluate("i => { const v = document.querySelector('.jp-OutputArea .bike-viewer').bikeViewer; return i ? v.panel(i) : v.values() }", panel)


def until(nb, what): nb.tab.wait_for_function(f"() => {{ const v = document.querySelector('.jp-OutputArea .bike-viewer').bikeViewer.values(); return {what} }}")


def numbers(nb, panel=0):
    "What Python says, for the view that the browser told it."
    return nb.ask(f"import json; now = viewer.current({panel}); print(json.dumps([{{k: None if w is None else [float(x) for x in w] for k, w in now['weights'].items()}}, now['scores']]))")


def same(nb, panel=0):
    weights, scores = numbers(nb, panel)
    shown = values(nb, panel)
    assert set(weights) == set(shown["weights"]) == set(shown["order"])
    for name in weights:
        assert shown["weights"][name] == pytest.approx(weights[name], abs=1e-5) and shown["scores"][name] == pytest.approx(scores[name], abs=1e-5)


def seen(locator): return [i for i in range(locator.count()) if locator.nth(i).is_visible()]


def no_errors(tab):
    for text in ERRORS: assert not seen(tab.get_by_text(text)), text
    assert not seen(tab.get_by_text("object at 0x"))


def play_inside(tab):
    "The static viewer plays; its frame."
    box = tab.locator(".bike-static iframe")
    box.scroll_into_view_if_needed()
    frame = box.content_frame
    frame.get_by_role("button", name="Play", exact=True).click()
    frame.get_by_role("button", name="Pause", exact=True).click()
    state = box.element_handle().content_frame()
    assert state.evaluate("document.querySelector('.bike-viewer').bikeViewer.values().time") >= 0
    return state


def add(nb, name):
    nb.tab.get_by_role("textbox", name="Add a concept").fill(name)
    nb.tab.get_by_role("button", name="Add", exact=True).click()


@pytest.mark.parametrize("app", ["lab", "notebooks"])
def test_a_concept_is_typed_and_its_curve_appears(page, lab, app):
    nb = lab.open(page(width=1400, height=1000), lab.write(f"type-{app}.ipynb", SHOW), app)
    nb.run_all()
    root, tab = live(nb), nb.tab
    assert root.count() == 1 and values(nb)["order"] and not seen(tab.locator(".bike-static")) and not seen(tab.locator(".jp-RenderedImage img"))
    no_errors(tab)
    same(nb)
    add(nb, "a white star")
    root.locator('path.curve[data-name="a white star"]').wait_for()
    same(nb)
    assert nb.ask("print(json.dumps(viewer.explanation.concepts))") == [*NAMES, "a white star"]
    fresh = nb.ask(f"print(json.dumps([float(x) for x in explain({str(KITE)!r}, 'a white star', num_frames=8).saliency[0]]))")
    assert values(nb)["weights"]["a white star"] == pytest.approx(fresh, abs=1e-5)
    for bad, why in (("   ", r"blank|empty|type|name"), ("A person", r"twice|already"), ("<img src=x onerror=window.hacked=1>", None), ("a zebra", r"zebra")):
        add(nb, bad)
        if why: tab.locator(".bike-viewer").get_by_text(re.compile(why, re.I)).first.wait_for()
        else: root.locator("path.curve[data-name^='<img']").wait_for()
    until(nb, "v.order.includes('a zebra') && v.order.length === 5")
    assert tab.evaluate("window.hacked") is None
    tab.get_by_role("button", name="Remove a person", exact=True).click()
    until(nb, "!v.order.includes('a person')")
    assert nb.ask("print(json.dumps('a person' in viewer.explanation.concepts))") is False
    same(nb)
    nb.ask("viewer.add('yellow flag'); print(1)")                                            # and the other way round
    root.locator('path.curve[data-name="yellow flag"]').wait_for()
    same(nb)


def test_python_follows_the_controls_and_leads_them(page, lab):
    tab, sent = page(width=1400, height=1000), []
    tab.on("websocket", lambda w: w.on("framesent", lambda m: "/channels" in w.url and sent.append(m)))
    nb = lab.open(tab, lab.write("view.ipynb", SHOW))
    nb.run_all()
    root = live(nb)
    view = lambda: nb.ask("import json; print(json.dumps(viewer.view))")
    slider = tab.get_by_role("slider", name="Temperature")
    slider.fill(str(int(slider.get_attribute("max")) // 2))
    tab.get_by_role("checkbox", name="Padding").uncheck()
    tab.get_by_role("button", name="Hide a person", exact=True).click()
    tab.get_by_role("button", name="Play", exact=True).click()
    until(nb, "v.playing && v.time > .2")
    told = len(sent)
    tab.wait_for_timeout(1000)
    assert values(nb)["playing"] and len(sent) == told                                      # nothing goes to the kernel while it plays
    tab.get_by_role("slider", name="Time").focus()
    tab.keyboard.press("End")
    tab.wait_for_timeout(800)                                                               # it tells at most four times a second
    found = view()
    assert found["temperature"] > .02 and found["kinds"]["p"] is False and found["hidden"] == ["a person"] and found["time"] > 3
    same(nb)
    tab.get_by_role("button", name="Rename flying a kite", exact=True).click()
    tab.keyboard.press("ControlOrMeta+a")
    tab.keyboard.type("the kite")
    tab.keyboard.press("Enter")
    root.get_by_text("the kite", exact=True).first.wait_for()
    tab.wait_for_timeout(600)
    assert view()["labels"] == {"flying a kite": "the kite"} and nb.ask("print(json.dumps(viewer.explanation.concepts))") == NAMES
    nb.ask("viewer.view = {**viewer.view, 'temperature': .3, 'hidden': []}; print(1)")
    root.locator('path.curve[data-name="a person"]').wait_for()
    tab.wait_for_timeout(300)
    same(nb)
    before = view()
    nb.save()
    tab.reload()                                                                             # the kernel goes on, and the viewer with it
    nb = Notebook(lab, tab, "view.ipynb")
    live(nb)
    assert view() == before and not seen(tab.locator(".bike-static"))
    same(nb)


def test_keys_and_clicks_stay_in_the_viewer(page, lab):
    "JupyterLab's shortcuts and the notebook's selection do not get what is meant for the viewer."
    nb = lab.open(page(width=1400, height=1000), lab.write("keys.ipynb", SHOW, "1 + 1"))
    nb.run_all()
    live(nb)
    tab = nb.tab
    tab.get_by_role("slider", name="Time").focus()
    for key in ("ArrowRight", "ArrowRight", " ", " ", "Home", "ArrowDown", "End"): tab.keyboard.press(key)
    tab.get_by_role("textbox", name="Add a concept").focus()
    tab.keyboard.type("dd a x b z")                                                          # dd deletes a cell, a inserts one
    assert tab.get_by_role("textbox", name="Add a concept").input_value() == "dd a x b z"
    assert nb.cells.count() == 2 and nb.js("return panel.content.widgets.length") == 2


@pytest.fixture(scope="module")
def saved(chromium, jupyter):
    "A notebook that was run and saved, and whose kernel is gone."
    page = Tabs(chromium)
    nb = jupyter.open(page(width=1400, height=1000), jupyter.write("saved.ipynb", SHOW))
    nb.run_all()
    live(nb)
    nb.save()
    nb.shutdown()
    page.close()
    assert page.complaints() == []
    return jupyter.root/"saved.ipynb"


def test_a_saved_notebook_shows_the_viewer_without_a_kernel(page, lab, saved):
    assert saved.stat().st_size < 1e6
    tab = page(width=1400, height=1000)
    lab.open(tab, saved.name)
    tab.locator(".bike-static iframe").wait_for()
    tab.locator(".jp-OutputArea-child > .jupyter-widgets").wait_for(state="attached")        # the widget manager has given up on the model
    tab.wait_for_timeout(300)
    no_errors(tab)
    state = play_inside(tab)
    assert sorted(state.evaluate("document.querySelector('.bike-viewer').bikeViewer.values().order")) == sorted(NAMES)
    assert not seen(tab.locator(".jp-RenderedImage img"))                                    # not the picture too
    page.said[:] = [s for s in page.said if "widget model not found" not in s]


def test_an_exported_notebook_shows_the_viewer_without_network(page, saved, tmp_path):
    subprocess.run([sys.executable, "-m", "jupyter", "nbconvert", "--to", "html", "--log-level", "ERROR", "--output-dir", str(tmp_path), str(saved)], check=True, timeout=50)
    tab = page(width=1400, height=1000, offline=True)
    tab.goto((tmp_path/"saved.html").as_uri())
    play_inside(tab)
    no_errors(tab)
    assert not seen(tab.locator(".jp-RenderedImage img"))
    page.said[:] = [s for s in page.said if "cdnjs.cloudflare.com" not in s]                 # the export's own scripts


def test_a_notebook_that_is_not_trusted_shows_the_picture(page, lab, saved):
    text = json.loads(saved.read_text())
    text["cells"][0]["source"] += "\n"                                                       # what somebody else has written
    (lab.root/"foreign.ipynb").write_text(json.dumps(text))
    tab = page(width=1400, height=1000)
    lab.open(tab, "foreign.ipynb")
    tab.locator(".jp-RenderedImage img").first.wait_for()
    tab.wait_for_timeout(500)
    assert tab.locator(".jp-OutputArea iframe").count() == 0
    no_errors(tab)


def test_clips_side_by_side_in_the_dark(page, lab):
    nb = lab.open(page(width=1500, height=1000), lab.write("compare.ipynb", COMPARE))
    nb.run_all()
    root = live(nb)
    assert root.get_attribute("data-theme") == "light"
    for name in (KITE.name, "01_playing_the_guitar.mp4"): nb.tab.get_by_label(f"Viewer of {name}").first.wait_for()
    same(nb, 0)
    same(nb, 1)
    add(nb, "a guitar")
    nb.tab.wait_for_function("() => document.querySelectorAll('path.curve[data-name=\"a guitar\"]').length === 2")
    same(nb, 1)
    assert axe(nb.tab, ".jp-OutputArea .bike-viewer") == []
    nb.command("apputils:change-theme", theme="JupyterLab Dark")
    nb.tab.wait_for_function("() => document.querySelector('.jp-OutputArea .bike-viewer').dataset.theme === 'dark'")
    assert axe(nb.tab, ".jp-OutputArea .bike-viewer") == []
    nb.command("apputils:change-theme", theme="JupyterLab Light")
    nb.tab.wait_for_function("() => document.querySelector('.jp-OutputArea .bike-viewer').dataset.theme === 'light'")


def test_one_viewer_shown_twice_and_run_again(page, lab):
    nb = lab.open(page(width=1400, height=1000), lab.write("twice.ipynb", SHOW, "viewer"))
    nb.run_all()
    nb.command("notebook:run-all-cells")                                                     # what it drew before is taken away without a word
    nb.tab.wait_for_function("() => document.querySelectorAll('.jp-OutputArea .bike-viewer').length === 2")
    nb.tab.get_by_role("textbox", name="Add a concept").first.fill("a tree")
    nb.tab.keyboard.press("Enter")
    nb.tab.wait_for_function("""() => document.querySelectorAll('path.curve[data-name="a tree"]').length === 2""")
    assert nb.ask("import json; print(json.dumps(viewer.explanation.concepts))") == [*NAMES, "a tree"]
    assert not seen(nb.tab.locator(".bike-static"))
