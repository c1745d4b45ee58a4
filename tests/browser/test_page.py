"The viewer as one HTML file, opened from disk with no network."
import base64, copy, json, re, warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bike_nb import widgets
from bike_nb.encoder import load_encoder
from bike_nb.explain import explain
from bike_nb.spotting import saliency
from bike_nb.widgets import KINDS_ON, kinds_of, to_html

from .conftest import axe

CLIPS = Path(__file__).parents[2]/"data_samples"
KITE, GUITAR = CLIPS/"00_flying_a_kite.mp4", CLIPS/"01_playing_the_guitar.mp4"
NAMES = ["flying a kite", "yellow flag", "a person", "white star"]
HOSTILE = ["<img src=x onerror=window.hacked=1>", "</script><script>window.hacked=1</script>", "\"><svg onload=window.hacked=1>", "a \"quoted\" 'name' &amp; `x`", "\u202eright to left\u2066", "🪁 kite 👩‍👩‍👧", "x" * 10_000, "word " * 300]
KINDS = {"Start token": "s", "Template words": "t", "Own words": "w", "End token": "e", "Padding": "p"}


@pytest.fixture(scope="module")
def tiny(): return load_encoder("tiny", device="cpu")

@pytest.fixture(scope="module")
def found(tiny): return explain(KITE, NAMES, tiny, num_frames=16, template="a photo of {}")

@pytest.fixture(scope="module")
def file(found, tmp_path_factory): return found.to_html(tmp_path_factory.mktemp("page")/"kite.html")

@pytest.fixture(scope="module")
def hostile(found):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        e = found.also(*HOSTILE)
    return replace(e, video="</title><img src=x onerror=window.hacked=1>" + "y" * 300 + ".mp4", attributes=[(n, .1) for n in HOSTILE], notes=HOSTILE)


class View:
    "The viewer in a tab, by what it says to people and to tests."
    def __init__(self, tab, file=None):
        self.tab = tab
        if file is not None: tab.goto(Path(file).as_uri())
        tab.locator(".bike-viewer").wait_for()
        tab.wait_for_function("() => document.querySelector('.bike-viewer')?.bikeViewer")
    def values(self, panel=0): return self.tab.evaluate("i => { const v = document.querySelector('.bike-viewer').bikeViewer; return i ? v.panel(i) : v.values() }", panel)
    @property
    def time(self): return self.values()["time"]
    def button(self, name): return self.tab.get_by_role("button", name=name, exact=True)
    def slider(self, name): return self.tab.get_by_role("slider", name=name, exact=True)
    def box(self, name): return self.tab.get_by_role("checkbox", name=name, exact=True)
    def curve(self, name): return self.tab.locator(f'path.curve[data-name={json.dumps(name)}]')
    def until(self, what, *args): self.tab.wait_for_function(f"([v, a]) => {{ v = document.querySelector('.bike-viewer').bikeViewer.values(); return {what} }}", arg=[0, list(args)])
    def temperature(self, tau):
        "Move the slider; the temperature it then stands at, which is a step of a logarithmic scale."
        s = self.slider("Temperature")
        steps, low, high = int(s.get_attribute("max")), .005, 1.
        i = round(steps * np.log(tau / low) / np.log(high / low))
        s.fill(str(i))
        return float(f"{low * (high / low) ** (i / steps):.3g}")


def python(e, tau=.01, on="stwep", single={}): # the letters that vote, {name: {position: votes}}
    "Weights (T,) and scores by `bike_nb.spotting.saliency`, from the embeddings of an explanation; None where no token votes."
    import torch
    kept, weights, scores = e.embeddings, {}, {}
    for i, name in enumerate(e.concepts):
        vote = np.array([k in on for k in kinds_of(kept["mask"][i], kept["words"][i], e.pieces[i])])
        for j, v in single.get(name, {}).items(): vote[j] = v
        w = saliency(torch.as_tensor(kept["tokens"][i][None]), torch.as_tensor(kept["frames"][None]), tau, torch.as_tensor(vote[None]))[0, 0].numpy() if vote.any() else None
        weights[name], scores[name] = w, None if w is None else float(w @ e.cosine[i])
    return weights, scores


def same(view, weights, scores):
    "The browser's numbers are Python's."
    shown = view.values()
    assert set(shown["weights"]) >= set(weights)
    for name, w in weights.items():
        if w is None: assert shown["weights"][name] is None
        else:
            np.testing.assert_allclose(list(shown["weights"][name]), w, atol=1e-5)
            assert shown["scores"][name] == pytest.approx(scores[name], abs=1e-5)
    order = sorted(scores, key=lambda n: -scores[n] if scores[n] is not None else 9)
    assert [n for n in shown["order"] if n in scores] == order


def overflow(tab):
    "Texts that are cut at the viewer's right edge, which clips, unless they are elided or scroll; and a page that is wider than its window."
    return tab.evaluate("""() => {
      const root = document.querySelector('.bike-viewer'), right = root.getBoundingClientRect().right, out = [];
      if (document.documentElement.scrollWidth > document.documentElement.clientWidth) out.push('the page');
      const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT), range = document.createRange();
      for (let text; text = texts.nextNode();) {
        const e = text.parentElement;
        if (!text.textContent.trim() || !e.offsetParent || e.closest('.name, .scroll, option, .unseen, .lane.when')) continue;
        range.selectNodeContents(text);
        const far = Math.max(...Array.from(range.getClientRects(), r => r.right));
        if (far > right + 1) out.push(`${e.tagName}.${e.className}, ${Math.round(far - right)} px: ${text.textContent.slice(0, 40)}`);
      }
      return out;
    }""")


# ---------------------------------------------------------------- time
def test_it_plays_and_stops(page, file):
    view = View(page(offline=True), file)
    assert view.time == pytest.approx(view.time) and not view.values()["playing"]
    before = view.time
    view.button("Play").click()
    view.until("v.playing && v.time > a[0] + .3", before)
    view.button("Pause").click()
    view.until("!v.playing")
    at = view.time
    view.tab.wait_for_timeout(200)
    assert view.time == pytest.approx(at, abs=.05) and at < 3
    assert page.abroad == []


def test_it_plays_to_the_end_and_again(page, file, found):
    view, end = View(page(offline=True), file), float(found.edges[-1])
    view.slider("Time").focus()
    view.tab.keyboard.press("End")
    view.button("Play").click()
    view.until("v.playing")
    view.until("!v.playing")                                                                    # by itself
    assert view.time == pytest.approx(end, abs=.1)
    view.button("Play").click()
    view.until("v.playing && v.time > .1 && v.time < 3")                                        # from the start


def test_the_film_follows(page, file):
    view = View(page(offline=True), file)
    shown = "document.querySelector('video').currentTime"
    view.tab.wait_for_function("() => document.querySelector('video')?.readyState >= 2")
    view.slider("Time").focus()
    for _ in range(5): view.tab.keyboard.press("ArrowRight")
    view.tab.wait_for_function(f"() => Math.abs({shown} - document.querySelector('.bike-viewer').bikeViewer.values().time) < .05")
    assert view.time > .5


def test_the_axis_is_clicked_and_dragged(page, file, found):
    view = View(page(offline=True), file)
    axis, (start, end) = view.slider("Time"), found.edges[[0, -1]]
    axis.scroll_into_view_if_needed()
    box, frame = axis.bounding_box(), (end - start) / len(found.times)
    at = lambda share: (box["x"] + share * box["width"], box["y"] + box["height"] / 2)
    def expect(share): assert view.time == pytest.approx(start + share * (end - start), abs=frame)
    mouse = view.tab.mouse
    for share in (.5, .25, .9):
        mouse.click(*at(share))
        expect(share)
    mouse.move(*at(.1)); mouse.down()
    for share in (.2, .4, .7):
        mouse.move(*at(share), steps=3)
        expect(share)
    mouse.move(box["x"] + box["width"] + 200, at(0)[1], steps=3)                                # beyond the end
    assert view.time == pytest.approx(end, abs=frame)
    mouse.up()
    mouse.move(*at(.3))
    assert view.time == pytest.approx(end, abs=frame)                                           # let go is let go
    assert not view.values()["playing"]


def test_a_drag_while_it_plays_is_not_lost(page, file, found):
    view = View(page(offline=True), file)
    axis, end = view.slider("Time"), float(found.edges[-1])
    axis.scroll_into_view_if_needed()
    box, mouse = axis.bounding_box(), view.tab.mouse
    view.tab.wait_for_function("() => document.querySelector('video')?.readyState >= 2")
    view.button("Play").click()
    at = lambda share: (box["x"] + 7 + share * (box["width"] - 14), box["y"] + box["height"] / 2)
    for i in range(12):
        a, b = (.1, .5) if i % 2 else (.5, .1)
        mouse.move(*at(a)); mouse.down(); mouse.move(*at(b), steps=20); mouse.up()
        view.tab.wait_for_timeout(200)
        assert -.05 < view.time - b * end < 1.5, (i, b * end, view.time)                          # it has played on since
    view.button("Pause").click()


def test_a_finger_jumps_too(page, file, found):
    view = View(page(offline=True, has_touch=True, width=420), file)
    axis = view.slider("Time")
    axis.scroll_into_view_if_needed()
    box = axis.bounding_box()
    view.tab.touchscreen.tap(box["x"] + .6 * box["width"], box["y"] + box["height"] / 2)
    assert view.time == pytest.approx(.6 * float(found.edges[-1]), abs=float(found.edges[-1]) / 16)


def test_keys_move_in_time(page, file, found):
    view, times = View(page(offline=True), file), found.times
    view.slider("Time").focus()
    press = view.tab.keyboard.press
    near = lambda: int(np.abs(times - view.time).argmin())
    press("Home"); assert near() == 0
    press("ArrowRight"); press("ArrowRight"); assert near() == 2 and view.time == pytest.approx(times[2], abs=.01)
    press("ArrowLeft"); assert near() == 1
    press("End"); assert near() == len(times) - 1
    press("Home"); press(" "); view.until("v.playing"); press(" "); view.until("!v.playing")
    view.button("Next frame").click(); assert near() >= 1
    view.button("Previous frame").click()
    now = view.slider("Time").get_attribute("aria-valuenow"), view.slider("Time").get_attribute("aria-valuetext")
    assert any(x and re.search(r"\d", x) for x in now)


def test_the_status_line_says_time_and_values(page, file):
    view = View(page(offline=True), file)
    view.slider("Time").focus()
    view.tab.keyboard.press("Home"); view.tab.keyboard.press("ArrowRight")
    status = view.tab.get_by_role("status").first
    view.tab.wait_for_timeout(400)
    text = status.text_content()
    assert re.search(r"\d", text) and NAMES[0] in text
    view.tab.keyboard.press(" ")
    view.until("v.playing && v.time > 1")
    assert status.text_content() in ("", text) or "lay" in status.text_content()                # nobody wants to hear every frame
    view.tab.keyboard.press(" ")


# ---------------------------------------------------------------- numbers
def test_the_numbers_are_pythons(page, file, found):
    view = View(page(offline=True), file)
    same(view, dict(zip(found.concepts, found.saliency)), dict(zip(found.concepts, found.scores)))
    means = view.values()["means"]
    for name, score in zip(found.concepts, found.mean_scores): assert means[name] == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("mask", list(KINDS_ON))
def test_a_page_starts_as_explain_looked(page, tmp_path, tiny, mask):
    e = explain(KITE, NAMES, tiny, num_frames=7, template="a photo of {}", mask=mask, temperature=.03)
    view = View(page(offline=True), e.to_html(tmp_path/"page.html"))
    same(view, dict(zip(e.concepts, e.saliency)), dict(zip(e.concepts, e.scores)))
    for name, letter in KINDS.items(): assert view.box(name).is_checked() == KINDS_ON[mask].get(letter, True)


def test_temperature_and_tokens_change_curves_and_scores_as_in_python(page, file, found):
    view = View(page(offline=True), file)
    drawn = lambda: [view.curve(n).first.get_attribute("d") for n in NAMES]
    before = drawn()
    for tau in (.005, .02, .3, 1):
        same(view, *python(found, view.temperature(tau)))
        assert drawn() != before and all(d and "NaN" not in d for d in drawn())
        before = drawn()
    tau, on = view.temperature(.05), "stwep"
    for name in ("Padding", "Template words", "Start token"):
        view.box(name).uncheck()
        on = on.replace(KINDS[name], "")
        same(view, *python(found, tau, on))
    view.box("Padding").check()
    same(view, *python(found, tau, on + "p"))
    view.button("Reset").click()
    same(view, *python(found))


def test_single_tokens_are_switched(page, file, found):
    view = View(page(offline=True), file)
    view.temperature(.02)
    tau = view.temperature(.05)
    name = "flying a kite"
    view.tab.get_by_role("combobox", name="Concept of the map").select_option(label=name)
    pieces, i = found.pieces[0], found.concepts.index(name)
    words = [int(j) for j in np.flatnonzero(found.embeddings["words"][i])]
    off = {}
    for j in words[:2]:
        token = view.tab.get_by_role("button", name=re.compile(rf"^Token {re.escape(pieces[j])}, position {j}$"))
        assert token.get_attribute("aria-pressed") == "true"
        token.click()
        assert token.get_attribute("aria-pressed") == "false"
        off[j] = False
        same(view, *python(found, tau, single={name: off}))
    token.click()
    same(view, *python(found, tau, single={name: {words[0]: False}}))


def test_without_voters_it_says_so_and_goes_on(page, file, found):
    view = View(page(offline=True), file)
    for name in KINDS: view.box(name).uncheck()
    view.tab.get_by_text("No token votes: switch one on.").first.wait_for()
    assert all(w is None for w in view.values()["weights"].values())
    view.box("Own words").check()
    same(view, *python(found, on="w"))
    assert not view.tab.get_by_text("No token votes: switch one on.").first.is_visible()


def test_padding_unfolds(page, file):
    view = View(page(offline=True), file)
    tokens = view.tab.get_by_role("button", name=re.compile(r"^Token .*, position \d+$"))
    folded = tokens.count()
    view.button("Unfold padding").click()
    assert tokens.count() > folded
    view.button("Fold padding").click()
    assert tokens.count() == folded


def test_weights_or_cosines(page, file, found):
    view = View(page(offline=True), file)
    group = view.tab.get_by_role("group", name="Scale").or_(view.tab.get_by_role("radiogroup", name="Scale"))
    weight = view.curve(NAMES[0]).first.get_attribute("d")
    group.get_by_text("Cosine").click()
    view.tab.wait_for_function("d => document.querySelector('path.curve').getAttribute('d') !== d", arg=weight)
    view.temperature(.5)
    group.get_by_text("Weight").click()
    view.button("Reset").click()


def test_the_map_is_walked_by_arrows(page, file):
    view = View(page(offline=True), file)
    area = view.tab.locator('[role=application][aria-label^="Weights of tokens and frames"]')
    area.focus()
    press, texts = view.tab.keyboard.press, []
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown", "ArrowUp", "ArrowLeft"):
        press(key)
        view.tab.wait_for_timeout(260)                                                          # said a moment later
        texts.append(view.tab.evaluate("[...document.querySelectorAll('.bike-viewer [role=status], .bike-viewer [role=tooltip], .bike-viewer [aria-live]')].map(e => e.textContent).join(' ') + ' ' + document.activeElement.getAttribute('aria-label') + ' ' + document.activeElement.getAttribute('aria-valuetext')"))
    assert len(set(texts)) >= 5, "\n".join(texts)  # each step says something else
    assert view.time > 0


def test_pointing_at_a_cell_shows_its_frame_and_value(page, file, found):
    view, name = View(page(offline=True), file), "yellow flag"
    i, T, tau = found.concepts.index(name), len(found.times), view.temperature(.03)
    view.tab.get_by_role("combobox", name="Concept of the map").select_option(label=name)
    cosine = found.embeddings["tokens"][i] @ found.embeddings["frames"].T
    weights = np.exp((cosine - cosine.max(1, keepdims=True)) / tau)
    weights /= weights.sum(1, keepdims=True)
    area = view.tab.locator('[role=application][aria-label^="Weights of tokens and frames"]')
    area.scroll_into_view_if_needed()
    cells, time = area.bounding_box(), view.time
    for j, t in ((0, 0), (1, 4), (5, 9), (6, 15)):
        row = view.tab.get_by_role("button", name=re.compile(rf"^Token .*, position {j}$")).bounding_box()
        view.tab.mouse.move(cells["x"] + (found.times[t] - found.edges[0]) / (found.edges[-1] - found.edges[0]) * cells["width"], row["y"] + row["height"] / 2)
        said = view.tab.locator(".map .readout").inner_text()
        assert f"{weights[j, t]:.3f}" in said and f"{cosine[j, t]:.3f}" in said and f"{found.times[t]:.1f}" in said, (j, t, said)
        assert found.pieces[i][j].strip("<>") in said
    assert view.time == time                                                                    # pointing is not jumping
    picture = view.tab.locator(".map .readout img")
    assert picture.is_visible() and picture.evaluate("e => e.naturalWidth") > 50


# ---------------------------------------------------------------- concepts and attributes
def test_an_attribute_has_a_curve_of_its_own(page, file, found):
    view = View(page(offline=True), file)
    name = next(n for n, _ in found.attributes if n not in NAMES)
    button = view.button(f"Show when {name} is visible")
    assert button.get_attribute("aria-pressed") == "false" and view.curve(name).count() == 0
    button.click()
    view.curve(name).first.wait_for()
    assert button.get_attribute("aria-pressed") == "true"
    np.testing.assert_allclose(list(view.values()["weights"][name]), explain(KITE, name, found.encoder, num_frames=16).saliency[0], atol=1e-5)
    button.click()
    assert view.curve(name).count() == 0 or not view.curve(name).first.is_visible()


def bars(view, part):
    "Share of its track that each bar of a part fills, by the number beside it."
    read = "rows => rows.map(r => [Number(r.querySelector('.figure').textContent), new DOMMatrix(r.querySelector('.value').style.transform).a])"
    return view.tab.locator(f"{part} .bar").evaluate_all(read)


def test_bars_start_at_zero(page, found, tmp_path):
    e = replace(found.also("a boat"), attributes=[("kite", .3), ("boat", .1), ("night", -.2)])
    assert e.scores[-1] < 0
    view = View(page(offline=True), e.to_html(tmp_path/"page.html"))
    longest = max(e.cosine.max(), .3)
    for score, share in bars(view, ".concepts"): assert share == pytest.approx(max(score, 0) / longest, abs=5e-3)
    assert bars(view, ".attributes") == [[.3, 1], [.1, pytest.approx(1 / 3, abs=1e-3)], [-.2, 0]]
    alone = View(page(offline=True), replace(e.also("a red car").without(*e.concepts), attributes=e.attributes).to_html(tmp_path/"alone.html"))
    (score, share), = bars(alone, ".concepts")
    assert share == pytest.approx(score / .3, abs=5e-3) and share < .3                          # not measured by itself
    view.tab.get_by_role("group", name="Scale").get_by_text("Cosine").click()
    now = view.tab.locator(".now .row").evaluate_all("rows => rows.map(r => [Number(r.querySelector('.figure').textContent), new DOMMatrix(r.querySelector('.value').style.transform).a])")
    assert all(share == 0 for v, share in now if v < 0) and any(share > 0 for _, share in now)


def test_what_is_nowhere_in_the_clip_has_a_flat_lane_and_no_border(page, found, tmp_path):
    e = found.also("a boat").without(*NAMES)
    view = View(page(offline=True), e.to_html(tmp_path/"page.html"))
    heights = view.tab.evaluate("[...document.querySelectorAll('.lanes .most, .lanes .faint')].map(p => p.getBBox().height)")
    assert heights and max(heights) < 2
    assert view.tab.evaluate("[...document.querySelectorAll('.thumbnail')].every(t => getComputedStyle(t).getPropertyValue('--best') === 'transparent')")


def test_concepts_are_hidden_renamed_removed(page, file):
    view = View(page(offline=True), file)
    view.button("Hide a person").click()
    assert view.curve("a person").count() == 0 or not view.curve("a person").first.is_visible()
    view.button("Show a person").click()
    view.curve("a person").first.wait_for()
    view.button("Rename a person").click()
    view.tab.keyboard.press("ControlOrMeta+a")
    view.tab.keyboard.type("somebody <b>")
    view.tab.keyboard.press("Enter")
    view.tab.get_by_text("somebody <b>").first.wait_for()
    view.tab.get_by_role("button", name=re.compile("^Remove (somebody <b>|a person)$")).click()
    view.until("!v.order.includes('a person')")
    assert view.curve("a person").count() == 0 and view.curve("yellow flag").count() >= 1
    view.button("Remove yellow flag").click()
    view.until("!v.order.includes('yellow flag')")


def test_new_concepts_need_the_notebook_and_the_page_says_so(page, file):
    view = View(page(offline=True), file)
    box = view.tab.get_by_role("textbox", name="Add a concept")
    if box.count() and box.is_enabled():
        box.fill("a dog")
        view.button("Add").click()
    view.tab.get_by_text(re.compile("notebook", re.I)).first.wait_for()
    assert "a dog" not in view.values()["order"]


# ---------------------------------------------------------------- everybody
TABBED = """() => { const e = document.activeElement, s = getComputedStyle(e); if (e === document.body) return null;
  const r = e.getBoundingClientRect(), label = e.labels && e.labels.length ? e.labels[0].textContent.trim() : '';
  return { name: e.getAttribute('aria-label') || label || e.textContent.trim(), type: e.type || e.getAttribute('role'), seen: s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 1 || s.boxShadow !== 'none', area: r.width * r.height,
    ring: e.parentElement && [e.parentElement, ...e.parentElement.children].some(p => { const q = getComputedStyle(p); return q.outlineStyle !== 'none' && parseFloat(q.outlineWidth) >= 1 }) } }"""


def test_tab_reaches_every_control_and_focus_is_seen(page, file):
    view, seen = View(page(offline=True), file), []
    for _ in range(150):
        view.tab.keyboard.press("Tab")
        at = view.tab.evaluate(TABBED)
        if at is None or seen and at["name"] == seen[0]["name"] and len(seen) > 10: break
        seen.append(at)
    names = [s["name"] for s in seen]
    wanted = ["Play", "Previous frame", "Next frame", "Time", "Temperature", *KINDS, "Reset", "Concept of the map", "Unfold padding",
              *(f"{verb} {n}" for n in NAMES for verb in ("Hide", "Rename", "Remove"))]
    missed = [w for w in wanted if not any(n == w or n.startswith(w) for n in names)]
    assert not missed, (missed, names)
    assert any(n.startswith("Weights of tokens and frames") for n in names) and any(n.startswith("Token ") for n in names) and any(n.startswith("Show when") for n in names)
    assert not [s for s in seen if not (s["seen"] or s["ring"])] and not [s for s in seen if s["area"] == 0]


def test_all_by_keyboard(page, file, found):
    "A run through with no mouse: play, stop, jump, another temperature, a token off, an attribute, a concept hidden."
    view = View(page(offline=True), file)
    press = view.tab.keyboard.press
    def go(name):
        for _ in range(150):
            press("Tab")
            if (view.tab.evaluate(TABBED) or {}).get("name", "").startswith(name): return
        pytest.fail(f"Tab does not reach {name}")
    go("Play"); press("Enter"); view.until("v.playing"); press("Enter"); view.until("!v.playing")
    go("Time"); press("End"); press("ArrowLeft")
    go("Temperature")
    for _ in range(5): press("ArrowRight")
    s = view.slider("Temperature")
    tau = float(f"{.005 * 200 ** (int(s.input_value()) / int(s.get_attribute('max'))):.3g}")
    assert tau > .01
    same(view, *python(found, tau))
    go("Padding"); press(" ")
    same(view, *python(found, tau, "stwe"))
    go("Show when"); press("Enter")
    assert view.tab.locator("path.curve").count() >= len(NAMES) + 1
    go("Hide yellow flag"); press(" ")
    view.button("Show yellow flag").wait_for()


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious(page, file, found, dark):
    for width in (1280, 360):
        view = View(page(offline=True, dark=dark, width=width), file)
        assert view.tab.locator(".bike-viewer").get_attribute("data-theme") == ("dark" if dark else "light")
        view.button(f"Show when {found.attributes[-1][0]} is visible").click()
        view.button("Hide white star").click()
        view.button("Unfold padding").click()
        assert axe(view.tab) == []


def test_what_is_pressed_is_large_enough(page, file):
    view = View(page(offline=True, width=360, has_touch=True), file)
    small = view.tab.evaluate("""() => [...document.querySelectorAll('.bike-viewer :is(button, input, select)')].filter(e => e.offsetParent && e.type !== 'checkbox' && e.type !== 'radio')
      .map(e => [e.getAttribute('aria-label') || e.textContent, e.getBoundingClientRect()]).filter(([, r]) => r.width < 23.5 || r.height < 23.5).map(([n, r]) => `${n} ${r.width}x${r.height}`)""")
    assert not small, small


def test_the_theme_follows_and_can_be_chosen(page, file, found, tmp_path):
    view = View(page(offline=True), file)
    theme = lambda v: v.tab.locator(".bike-viewer").get_attribute("data-theme")
    assert theme(view) == "light"
    view.tab.emulate_media(color_scheme="dark")
    view.tab.wait_for_function("() => document.querySelector('.bike-viewer').dataset.theme === 'dark'")
    assert theme(View(page(offline=True), to_html(found, tmp_path/"dark.html", theme="dark"))) == "dark"
    assert theme(View(page(offline=True, dark=True), to_html(found, tmp_path/"light.html", theme="light"))) == "light"


def test_motion_is_reduced_where_asked(page, file):
    view = View(page(offline=True, still=True), file)
    view.button("Hide white star").click()
    view.temperature(.2)
    moving = "document.getAnimations().filter(a => a.effect.getTiming().duration > 20).length"
    assert view.tab.evaluate(moving) == 0 and not view.values()["playing"]
    view.button("Next frame").click()
    view.tab.wait_for_timeout(50)
    assert view.tab.evaluate(moving) == 0


# ---------------------------------------------------------------- every width, every name
@pytest.mark.parametrize("width", [360, 600, 900, 1280, 1600])
def test_nothing_sticks_out(page, file, width):
    view = View(page(offline=True, width=width), file)
    assert overflow(view.tab) == []
    view.button("Unfold padding").click()
    assert overflow(view.tab) == []


def test_a_window_can_be_made_narrow(page, file):
    view = View(page(offline=True, width=1600), file)
    for width in (360, 1600, 700):
        view.tab.set_viewport_size(dict(width=width, height=900))
        view.tab.wait_for_timeout(150)
        assert overflow(view.tab) == []


@pytest.mark.parametrize("width", [360, 1280])
def test_names_are_only_ever_text(page, hostile, tmp_path, width):
    view = View(page(offline=True, width=width), to_html(hostile, tmp_path/"page.html"))
    tab = view.tab
    for name in (" ".join(n.split()) for n in HOSTILE): assert name in tab.locator(".bike-viewer").text_content() or len(name) > 1000
    for name in HOSTILE[:3]: view.button(f"Show when {name} is visible").click(force=True)
    options = tab.get_by_role("combobox", name="Concept of the map").locator("option")
    for i in range(options.count()): tab.get_by_role("combobox", name="Concept of the map").select_option(index=i)
    view.button("Rename flying a kite").click()
    tab.keyboard.type(HOSTILE[0])
    tab.keyboard.press("Enter")
    view.slider("Time").focus()
    tab.keyboard.press("ArrowRight")
    tab.locator('[role=application]').first.hover()
    tab.wait_for_timeout(300)
    assert tab.evaluate("window.hacked") is None
    assert tab.locator(".bike-viewer :is(script, iframe, object, embed)").count() == 0 and tab.locator(".bike-viewer img[src=x]").count() == 0
    assert tab.evaluate("[...document.querySelectorAll('.bike-viewer *')].every(e => [...e.attributes].every(a => !a.name.startsWith('on')))")
    assert overflow(tab) == []
    assert tab.get_by_text("never taught: ").first.is_visible()                                 # a long word among them
    heights = tab.evaluate("document.documentElement.scrollHeight")
    assert heights < 12_000, heights                                                            # a name of 10,000 letters is elided
    assert page.abroad == []


def test_the_policy_holds(page, file):
    view = View(page(offline=True), file)
    blocked = view.tab.evaluate("""async () => {
      const seen = []; document.addEventListener('securitypolicyviolation', e => seen.push(e.effectiveDirective));
      const script = document.createElement('script'); script.textContent = 'window.hacked = 1'; document.body.append(script);
      document.body.insertAdjacentHTML('beforeend', '<img src="https://example.org/x.png" onerror="window.hacked = 2"><p style="color: red" onclick="window.hacked = 3">x</p>');
      document.body.lastChild.click();
      try { await fetch('https://example.org/') } catch {}
      await new Promise(r => setTimeout(r, 300));
      return seen;
    }""")
    assert {"img-src", "connect-src"} <= set(blocked) and any(d.startswith("script-src") for d in blocked) and any(d.startswith("style-src") for d in blocked)
    page.said.clear()                                                                           # the browser reports what it blocked
    assert view.tab.evaluate("window.hacked") is None


# ---------------------------------------------------------------- other clips
def test_a_page_of_32_frames_is_small(tmp_path, tiny):
    e = explain(KITE, NAMES, tiny, num_frames=32)
    assert max(e.frames.shape[1:3]) >= 320 and e.to_html(tmp_path/"page.html").stat().st_size < 3e6


@pytest.mark.parametrize("how", ["broken", "unknown type", "none", "no canPlayType"])
def test_where_no_film_plays_the_frames_do(page, found, tmp_path, how):
    media = [widgets.media(found)]
    if how == "broken": media[0]["video"]["data"] = base64.b64encode(b"nothing that plays" * 50).decode()
    if how == "unknown type": media[0]["video"]["type"] = "video/x-nothing"
    if how == "none": media[0]["video"] = None
    (tmp_path/"page.html").write_text(widgets.page(widgets.as_data([found]), media, "kite"), encoding="utf-8")
    tab = page(offline=True)
    if how == "no canPlayType": tab.add_init_script("HTMLMediaElement.prototype.canPlayType = () => ''")
    view = View(tab, tmp_path/"page.html")
    view.tab.wait_for_timeout(300)
    view.button("Play").click()
    view.until("v.playing && v.time > .5")
    view.button("Pause").click()
    view.button("Next frame").click()
    shown = tab.evaluate("""() => [...document.querySelectorAll('.bike-viewer :is(img, canvas)')].some(e => { const r = e.getBoundingClientRect(); return r.width > 150 && r.height > 100 && getComputedStyle(e).visibility === 'visible' })""")
    assert shown and not tab.evaluate("[...document.querySelectorAll('.bike-viewer video')].some(v => v.offsetParent && v.getBoundingClientRect().height > 50)")


def test_images_are_counted_in_frames(page, found, tiny, tmp_path):
    e = explain(found.frames, NAMES[:2], tiny)
    assert e.settings["unit"] == "frame"
    view = View(page(offline=True), e.to_html(tmp_path/"page.html"))
    same(view, dict(zip(e.concepts, e.saliency)), dict(zip(e.concepts, e.scores)))
    text = view.tab.locator(".bike-viewer").inner_text()
    assert "frame" in text and not re.search(r"\d s\b", text)
    view.slider("Time").focus()
    view.tab.keyboard.press("Home"); view.tab.keyboard.press("ArrowRight")
    assert view.time == pytest.approx(1)
    view.button("Play").click()
    view.until("v.playing && v.time > 2")


@pytest.mark.parametrize("frames", [1, 2])
def test_the_shortest_clips(page, found, tiny, tmp_path, frames):
    e = explain(found.frames[:frames], NAMES[:2], tiny)
    view = View(page(offline=True), e.to_html(tmp_path/"page.html"))
    same(view, dict(zip(e.concepts, e.saliency)), dict(zip(e.concepts, e.scores)))
    view.button("Play").click()
    view.button("Next frame").click()
    view.temperature(.5)


@pytest.mark.parametrize("width,frames", [(1280, 1), (1280, 16), (390, 16)])
def test_a_page_opens_with_picture_number_and_strip_of_one_frame(page, tiny, tmp_path, width, frames):
    e = explain(KITE, NAMES[:2], tiny, num_frames=frames)
    view = View(page(offline=True, width=width), e.to_html(tmp_path/"page.html"))
    view.tab.wait_for_function("() => document.querySelector('video')?.readyState >= 2")
    assert view.time == pytest.approx(e.times[0], abs=1e-3)
    view.tab.wait_for_function("t => Math.abs(document.querySelector('video').currentTime - t) < .01", arg=float(e.times[0]))
    drawn = view.tab.evaluate("[...document.querySelectorAll('.thumbnail')].map(t => t.classList.contains('current'))")
    assert sum(drawn) <= 1 and (len(drawn) < frames or drawn[0])                                # none where the first frame is not drawn
    view.button("Play").click()
    view.until("v.playing && v.time > 0 && v.time < 2.5")                                       # from the beginning, not from the first frame


def test_a_part_of_a_long_clip(page, tiny, tmp_path):
    e = explain(KITE, NAMES[:2], tiny, num_frames=6, start=2, end=5)
    view = View(page(offline=True), e.to_html(tmp_path/"page.html"))
    assert view.time >= 2 - 1e-6
    view.slider("Time").focus()
    view.tab.keyboard.press("End")
    assert 4 < view.time <= 5.01
    view.tab.keyboard.press("Home")
    assert 2 - 1e-6 <= view.time < 2.6
    view.button("Play").click()
    view.until("v.playing && v.time > 2.5 && v.time < 5.1")


def test_two_clips_side_by_side(page, found, tiny, tmp_path):
    other = explain(GUITAR, NAMES, tiny, num_frames=9)
    for width in (360, 1280):
        view = View(page(offline=True, width=width), to_html([found, other], tmp_path/"page.html"))
        assert overflow(view.tab) == []
        for i, e in enumerate((found, other)):
            shown = view.values(i)
            for name, w, s in zip(e.concepts, e.saliency, e.scores):
                np.testing.assert_allclose(list(shown["weights"][name]), w, atol=1e-5)
                assert shown["scores"][name] == pytest.approx(s, abs=1e-5)
        for name in (KITE.name, GUITAR.name): view.tab.get_by_label(f"Viewer of {name}").first.wait_for()
        assert axe(view.tab) == []


def test_the_shorter_of_two_clips_plays_again_when_time_goes_back(page, found, tiny, tmp_path):
    short = explain(KITE, NAMES, tiny, num_frames=4, end=1)
    view = View(page(offline=True), to_html([short, found], tmp_path/"page.html"))
    view.tab.wait_for_function("() => [...document.querySelectorAll('video')].every(v => v.readyState >= 2)")
    view.button("Play").click()
    view.tab.wait_for_function("() => document.querySelector('video').paused && document.querySelector('.bike-viewer').bikeViewer.panel(1).time > 1.5")
    axis = view.slider("Time").first
    axis.click(position=dict(x=8, y=10))
    view.tab.wait_for_function("() => { const v = document.querySelector('video'); return !v.paused && v.currentTime > .1 && v.currentTime < 1 }")


def test_the_map_offers_what_its_panel_holds(page, found, tiny, tmp_path):
    other = explain(GUITAR, NAMES, tiny, num_frames=9)
    here, there = ({n for n, _ in e.attributes} - set(NAMES) for e in (found, other))
    name = sorted(here - there)[0]
    view = View(page(offline=True), to_html([found, other], tmp_path/"page.html"))
    view.button(f"Show when {name} is visible").click()
    options = lambda: view.tab.get_by_role("combobox", name="Concept of the map").locator("option").all_text_contents()
    assert name in options()
    view.tab.get_by_role("combobox", name="Panel of the map").select_option("1")
    assert options() == NAMES
    view.tab.get_by_role("combobox", name="Panel of the map").select_option("0")
    assert name in options()


def test_long_clips_of_many_frames_and_concepts(page, tiny, tmp_path):
    e = explain(KITE, [*NAMES, "a tree", "a house", "a dog", "rain", "a ball", "a boat"], tiny, num_frames=64)
    view = View(page(offline=True), e.to_html(tmp_path/"page.html"))
    same(view, dict(zip(e.concepts, e.saliency)), dict(zip(e.concepts, e.scores)))
    assert overflow(view.tab) == []
