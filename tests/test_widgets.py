"widgets: the viewer's data are the library's numbers, its page is closed to the world, and it says what it cannot do."
import base64, hashlib, html, io, json, re, warnings
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bike_nb import widgets, world
from bike_nb.encoder import load_encoder
from bike_nb.explain import ExplainError, explain
from bike_nb.video import read_video, write_video
from bike_nb.widgets import Viewer, ViewerError, compare, current, kinds_of, media, moving, panel, stills, to_html

CLIPS = Path(__file__).parents[2]/"shared"/"clips"
HOSTILE = ["<img src=x onerror=hack()>", "</script><script>hack()</script>", "<!-- <script>", 'a "quoted" \'name\' &amp;', "\u202eright to left", "🪁 kite", "x" * 10_000, "a\u2028b\u2029c"]
NAMES = ["flying a kite", "a person", "a white star"]


@pytest.fixture(scope="module")
def tiny(): return load_encoder("tiny", device="cpu")

@pytest.fixture(scope="module")
def film(tmp_path_factory):
    script = world.sample_clip(4, "flying a kite", cut=True)
    return write_video(tmp_path_factory.mktemp("film")/"kite.mp4", world.render(script, np.arange(48) / 8, 192), fps=8)

@pytest.fixture(scope="module")
def found(film, tiny): return explain(film, NAMES, tiny, num_frames=12)

def floats(text, *shape): return np.frombuffer(base64.b64decode(text), "<f4").reshape(*shape).astype(float)

def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# The numbers

@pytest.mark.parametrize("mask,letters", [("all", "stwep"), ("sentence", "stwe"), ("words", "w")])
@pytest.mark.parametrize("temperature", [.005, .01, .2])
def test_the_browser_gets_what_the_formula_needs(film, tiny, mask, letters, temperature):
    e = explain(film, NAMES, tiny, num_frames=9, mask=mask, temperature=temperature, template="a photo of {}")
    data = json.loads(json.dumps(panel(e)))
    T = len(data["times"])
    for i, c in enumerate(data["concepts"]):
        L = len(c["kinds"])
        assert len(c["pieces"]) == L == tiny.context_length
        vote = [k in letters for k in c["kinds"]]
        weights = softmax(floats(c["tokens"], L, T)[vote] / temperature).mean(0)
        np.testing.assert_allclose(weights, e.saliency[i], atol=1e-5)
        np.testing.assert_allclose(weights @ floats(c["cosine"], T), e.scores[i], atol=1e-5)
        np.testing.assert_allclose(floats(data["mean"], T) @ floats(c["cosine"], T), e.mean_scores[i], atol=1e-6)

def test_each_token_has_its_kind(tiny):
    from bike_nb.explain import pieces_of
    text = tiny.encode_text(["flying a kite"], "a photo of {} at night")
    assert kinds_of(text.mask[0].numpy(), text.words[0].numpy(), pieces_of(tiny, text)[0]).rstrip("p") == "stttwwwtte"
    on = np.array([1, 1, 1, 0, 0], bool)
    assert kinds_of(on, np.array([1, 1, 0, 0, 0], bool), ["kite", "s", "</s>", "<pad>", "<pad>"]) == "wwepp"        # a tokenizer without a start token
    assert kinds_of(on, np.array([0, 1, 1, 0, 0], bool), ["a", "kite", "s", "", ""]) == "twwpp"                     # cut off: no end token, and a template word first

def test_attributes_have_curves_of_their_own(found, tiny):
    shown = panel(found)["attributes"]
    assert [(a["name"], a["score"]) for a in shown] == [(n, pytest.approx(s)) for n, s in found.attributes]
    for a in shown: np.testing.assert_allclose(floats(a["cosine"], 12).max(), a["score"], atol=1e-5)                 # pooled by their best frame
    many = replace(found, attributes=found.attributes)
    light = widgets.attributes_of(many, most=10)
    assert all(a["tokens"] is None for a in light)
    np.testing.assert_allclose(floats(light[0]["weight"], 12), explain(found.video, found.attributes[0][0], tiny, num_frames=12).saliency[0], atol=1e-5)

def test_what_the_controls_say_is_computed_by_the_library(found, film, tiny):
    for view, how in (({}, {}), ({"temperature": .1}, dict(temperature=.1)), ({"kinds": dict(s=True, t=True, w=True, e=True, p=False)}, dict(mask="sentence")),
                      ({"kinds": dict(s=False, t=False, w=True, e=False, p=False), "temperature": .03}, dict(mask="words", temperature=.03))):
        e, now = explain(film, NAMES, tiny, num_frames=12, **how), current(found, view)
        for i, name in enumerate(NAMES):
            np.testing.assert_allclose(now["weights"][name], e.saliency[i], atol=1e-6)
            assert now["scores"][name] == pytest.approx(e.scores[i], abs=1e-5)
    off = current(found, {"kinds": dict.fromkeys("stwep", False), "tokens": {"a person": {"2": True}}})
    assert off["weights"]["flying a kite"] is None and off["scores"]["flying a kite"] is None and off["weights"]["a person"].sum() == pytest.approx(1)

def test_more_concepts_are_those_of_a_fresh_look(found, film, tiny):
    more, fresh = found.also("a meadow", "rain"), explain(film, [*NAMES, "a meadow", "rain"], tiny, num_frames=12)
    for k in ("scores", "mean_scores", "cosine", "saliency"): np.testing.assert_allclose(getattr(more, k), getattr(fresh, k), atol=2e-6)
    assert (more.concepts, more.pieces, more.notes) == (fresh.concepts, fresh.pieces, fresh.notes)
    less = more.without("a person", "rain")
    assert less.concepts == ["flying a kite", "a white star", "a meadow"] and len(less.embeddings["tokens"]) == len(less.pieces) == 3
    np.testing.assert_array_equal(less.saliency, more.saliency[[0, 2, 3]])
    assert found.concepts == NAMES                                                                                  # nothing was changed behind its back

def test_notes_follow_the_concepts(found):
    with pytest.warns(UserWarning, match="zebra"): more = found.also("a zebra")
    assert "zebra" in more.notes[-1] and more.unknown == {"a zebra": ["zebra"]}
    assert more.without("a zebra").notes == found.notes


# What there is to watch

def test_stills_keep_their_budget(found):
    for budget in (200_000, 20_000, 5_000):
        shown = stills(found.frames, budget)
        assert sum(len(s) * 3 / 4 for _, s in shown) <= budget * 1.02 and [i for i, _ in shown] == sorted({i for i, _ in shown})
        for i, s in shown: assert Image.open(io.BytesIO(base64.b64decode(s))).format == "JPEG"
    assert len(stills(found.frames, 200_000)) == 12 and 2 <= len(stills(found.frames, 5_000)) < 12

def test_a_film_that_plays_is_taken_as_it_is(film, found):
    clip = moving(found)
    assert base64.b64decode(clip["data"]) == film.read_bytes() and (clip["type"], clip["offset"]) == ("video/mp4", 0)

def test_a_part_of_a_large_film_becomes_a_small_copy(tmp_path, tiny):
    noise = np.random.default_rng(0).integers(0, 255, (120, 240, 320, 3), np.uint8)
    e = explain(write_video(tmp_path/"large.mp4", noise, fps=10, crf=1), "a kite", tiny, num_frames=4, start=4, end=8)
    clip = moving(e, 900_000)
    (tmp_path/"copy.mp4").write_bytes(base64.b64decode(clip["data"]))
    copy = read_video(tmp_path/"copy.mp4", None)
    assert (tmp_path/"copy.mp4").stat().st_size <= 900_000 and clip["offset"] == 4 and copy.duration == pytest.approx(4, abs=.15)
    assert moving(e, 1000) is None                                                                                  # then the stills must do

def test_other_formats_and_sound_become_copies_too(tmp_path, film):
    import shutil
    assert not widgets.plays_as_it_is(Path(shutil.copy(film, tmp_path/"kite.avi")), 1e6)
    (tmp_path/"bad.mp4").write_bytes(film.read_bytes()[:300])
    assert not widgets.plays_as_it_is(tmp_path/"bad.mp4", 1e6)

def test_without_a_film_there_are_stills(found, tiny):
    e = explain(found.frames, "a kite", tiny, times=found.times)
    assert moving(e) is None and media(e)["video"] is None and len(media(e)["frames"]) == 12
    assert moving(replace(found, video="gone.mp4")) is None
    long = replace(found, settings=found.settings | dict(end=1000.))
    assert widgets.small_copy(found.video, 0, 1000., 10**9) is None and moving(long) is not None                    # the file itself is small enough

@pytest.mark.skipif(not CLIPS.is_dir(), reason="no real clips here (../shared/clips)")
@pytest.mark.parametrize("name", ["arm_wrestling.mp4", "flipping_a_pancake.mkv", "nasa_13013.mp4", "test.avi", "rotated_90.mov", "unordered.mov", "h265_10bits.mp4", "av1_video.mkv"])
def test_real_clips_become_pages(name, tiny, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        e = explain(CLIPS/name, ["a person"], tiny)
    assert e.to_html(tmp_path/"page.html").stat().st_size < 3e6
    w, h = Image.open(io.BytesIO(base64.b64decode(media(e)["frames"][0][1]))).size
    assert (w > h) == (e.frames.shape[2] > e.frames.shape[1])


# The page

class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.found, self.texts, self.at = [], {}, None
        self.feed(text); self.close()
    def handle_starttag(self, tag, attrs): self.found.append((tag, dict(attrs))); self.at = len(self.found) - 1
    def handle_endtag(self, tag): self.at = None
    def handle_data(self, data): self.texts[self.at] = self.texts.get(self.at, "") + data
    def of(self, tag): return [(a, self.texts.get(i, "")) for i, (t, a) in enumerate(self.found) if t == tag]

def hostile(found, tiny, film):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        e = found.also(*HOSTILE)
    return replace(e, video="</title><script>hack()</script>.mp4", attributes=[(n, .1) for n in HOSTILE[:4]], notes=HOSTILE)

def test_the_page_is_closed_to_the_world(found):
    text = to_html(found)
    page = Elements(text)
    policy = next(a["content"] for a, _ in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(r.strip().split(" ", 1) for r in policy.split(";"))
    assert rules["default-src"] == "'none'" and set(rules["img-src"].split() + rules["media-src"].split()) == {"data:", "blob:"}
    sha = lambda t: "'sha256-" + base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() + "'"
    (data, module), style = page.of("script"), page.of("style")
    assert rules["script-src"] == sha(module[1]) and rules["style-src"] == sha(style[0][1]) and len(style) == 1
    assert data[0]["type"] == "application/json" and module[0] == {"type": "module"}
    assert not any(k.startswith("on") or k == "style" for _, a in page.found for k in a)
    assert not any(re.match("(https?:)?//", a.get(k) or "") for _, a in page.found for k in ("src", "href"))
    assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", style[0][1])

def test_names_are_text_and_nothing_else(found, tiny, film):
    page = Elements(to_html(hostile(found, tiny, film)))
    assert [t for t, _ in page.found].count("script") == 2 and not any("onerror" in a for _, a in page.found)
    data = json.loads(page.of("script")[0][1])["data"]["panels"][0]
    assert [c["name"] for c in data["concepts"]] == [*NAMES, *(" ".join(n.split()) for n in HOSTILE)] and data["notes"] == HOSTILE
    assert data["title"] == "script>.mp4" or "hack" in data["title"]

def test_a_page_of_32_frames_is_small(tmp_path, tiny):
    script = world.sample_clip(5, "juggling balls")
    film = write_video(tmp_path/"clip.mp4", world.render(script, np.arange(150) / 25, 320), fps=25)
    e = explain(film, NAMES + ["juggling balls", "a house"], tiny, num_frames=32)
    assert e.frames.shape[1:3] == (320, 320) and to_html(e, tmp_path/"page.html").stat().st_size < 3e6

@pytest.mark.parametrize("theme,said", [("dark", "false"), ("light", "true"), (None, None)])
def test_the_theme_can_be_chosen(found, theme, said):
    assert Elements(to_html(found, theme=theme)).of("body")[0][0].get("data-jp-theme-light") == said

def test_what_cannot_be_shown_is_said(found, tmp_path):
    for bad, why in ((lambda: to_html([]), "explain"), (lambda: to_html("clip.mp4"), "str"), (lambda: to_html(found, theme="red"), "theme"), (lambda: compare([]), "nothing to compare"),
                     (lambda: compare([found, "clip.mp4"]), "one or the other"), (lambda: Viewer(replace(found, times=np.arange(5000))), "5,000"), (lambda: Viewer(replace(found, pieces=[])), "explain")):
        with pytest.raises(ViewerError, match=why): bad()
    with pytest.raises(ExplainError, match="cannot be written"): to_html(found, tmp_path/"nowhere"/"page.html")


# The widget, without a browser

def test_the_browser_asks_and_is_answered(found):
    v = Viewer(found)
    ask = lambda **r: (setattr(v, "request", r), v.reply)[1]
    assert ask(id="a", kind="add", name="  a   meadow ") == dict(id="a", ok=True) and v.explanation.concepts[-1] == "a meadow"
    assert [c["name"] for c in v.data["panels"][0]["concepts"]] == v.explanation.concepts
    for name, why in (("A meadow", "there twice"), ("  ", "blank"), (3, "no text")):
        reply = ask(id=name, kind="add", name=name)
        assert reply["id"] == name and why in reply["error"] and "\n" not in reply["error"]
    assert len(v.explanation.concepts) == 4
    assert ask(id=1, kind="remove", name="a person")["ok"] and v.explanation.concepts == ["flying a kite", "a white star", "a meadow"]
    assert "no concept" in ask(id=2, kind="remove", name="a person")["error"]
    assert "unexpected" in ask(id=3, kind="dance", name="x")["error"] and "unexpected" in ask(id=4)["error"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ask(id=5, kind="add", name="a zebra")["ok"]
    assert v.data["panels"][0]["concepts"][-1]["unknown"] == ["zebra"]

def test_what_travels_is_json(found):
    state = Viewer(found).get_state()
    for k in ("data", "media", "view", "request", "reply"): assert json.loads(json.dumps(state[k], allow_nan=False)) == state[k]
    assert "export default" in state["_esm"] and './maths.js' not in state["_esm"] and ".bike-viewer" in state["_css"]

def test_python_sees_the_controls(found):
    v = Viewer(found)
    v.view = {"temperature": .2, "kinds": dict(s=False, t=False, w=True, e=False, p=False)}
    np.testing.assert_allclose(v.current()["weights"]["a person"], current(found, v.view)["weights"]["a person"])
    assert v.current()["weights"]["a person"].max() < found.saliency[1].max()

def test_a_page_keeps_what_was_set_by_hand(found):
    v = Viewer(found)
    v.view = {"temperature": .2, "labels": {"a person": "</script>"}}
    assert json.loads(Elements(v.to_html()).of("script")[0][1])["view"] == v.view

def test_three_things_are_shown_for_three_readers(found):
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output
    InteractiveShell.instance()
    v = Viewer(found)
    with capture_output() as shown: v._ipython_display_()
    picture, static, live = (o.data for o in shown.outputs)
    assert picture["image/png"].startswith("iVBOR") and live["application/vnd.jupyter.widget-view+json"]["model_id"] == v.model_id
    frame = Elements(static["text/html"]).of("iframe")[0][0]
    assert frame["sandbox"] == "allow-scripts" and "Content-Security-Policy" in frame["srcdoc"] and v.fallback in static["text/html"]
    assert len(static["text/html"]) < 600_000

def test_models_and_clips_side_by_side(found, film, tiny):
    v = compare([film, found.frames], NAMES[:2], tiny, num_frames=8)
    assert [len(p["times"]) for p in v.data["panels"]] == [8, 12] and len(v.media) == 2
    from bike_nb.encoder import save_encoder
    two = compare(film, NAMES[:2], [tiny, tiny], num_frames=8)
    assert [p["title"] for p in two.data["panels"]] == ["kite.mp4"] * 2
    v.request = dict(id=1, kind="add", name="a tree")
    assert v.reply["ok"] and all(p["concepts"][-1]["name"] == "a tree" for p in v.data["panels"])

def test_a_comparison_asks_all_for_the_same(found, film, tiny):
    other = explain(film, ["rain", "a white star"], tiny, num_frames=6)
    v = compare([found, other])
    want = [*NAMES, "rain"]
    for e, p in zip(v.explanations, v.data["panels"]):
        assert e.concepts == want == [c["name"] for c in p["concepts"]]
        fresh = explain(film, want, tiny, num_frames=len(e.times))
        np.testing.assert_allclose(e.saliency, fresh.saliency, atol=2e-6)

def test_a_concept_is_the_same_in_small_and_capital_letters(film, tiny):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        v = compare([explain(film, ["Kite"], tiny, num_frames=4), explain(film, ["rain", "kite", "A Zebra"], tiny, num_frames=4)])
    for e, p in zip(v.explanations, v.data["panels"]): assert e.concepts == ["Kite", "rain", "A Zebra"] == [c["name"] for c in p["concepts"]] and list(e.unknown) == ["A Zebra"]
    np.testing.assert_allclose(v.explanations[0].saliency[0], v.explanations[1].saliency[0], atol=2e-6)

def test_a_token_that_one_model_has_and_another_has_not(film, tiny):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = load_encoder("ViT-S-32", "none", device="cpu")
    v = compare(film, NAMES[:1], [tiny, other], num_frames=2, lexicon=["kite", "dog"])
    assert [len(p["concepts"][0]["kinds"]) for p in v.data["panels"]] == [32, 77]
    v.view = {"tokens": {NAMES[0]: {"2": False, "40": False}}}
    for i in range(2): assert v.current(i)["weights"][NAMES[0]].sum() == pytest.approx(1)

def test_a_failed_addition_changes_no_panel(found, film, tiny):
    v = compare([found, replace(explain(film, NAMES, tiny, num_frames=6), encoder=None, attributes=[])])
    v.request = dict(id=1, kind="add", name="a tree")
    assert "model" in v.reply["error"] and all(e.concepts == NAMES for e in v.explanations)
