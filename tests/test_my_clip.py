"my_clip: what is typed is understood or refused in a sentence; a file arrives whole, is seen by nobody else, and goes."
import gc, os, re, stat, subprocess, sys, tempfile, threading, time
from pathlib import Path

import pytest

from bike_nb import my_clip as m
from bike_nb.encoder import EncoderError
from bike_nb.explain import ExplainError
from bike_nb.my_clip import BLANK, PIECE, ClipForm, MyClip, MyClipError, Upload, in_words, settings, shown_name, suffix_of

SAMPLES = Path(__file__).parents[1]/"data_samples"
KITE = SAMPLES/"00_flying_a_kite.mp4"


def left(folder): return list(folder.glob("bike_clip_*"))

@pytest.fixture(autouse=True)
def temp(tmp_path, monkeypatch):
    "A folder for temporary files, empty at the end."
    folder = tmp_path/"temp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    gc.collect()
    assert not left(folder)


class Browser:
    "Plays the browser's half of a form."
    def __init__(self, form):
        self.form, self.sent = form, []
        form.send = self.sent.append
    def tell(self, kind, *buffers, **more):
        "A message, as it comes from the comm."
        self.form._handle_msg(dict(content=dict(data=dict(method="custom", content=dict(kind=kind, **more))), buffers=list(buffers)))
        return self.sent[-1] if self.sent else None
    def upload(self, data, name="kite.mp4", key="u1", size=None, **values):
        "A whole file, piece by piece; the last answer."
        said, index = self.tell("start", upload=key, name=name, size=len(data) if size is None else size, values=BLANK | values), 0
        while said["kind"] == "ack" and said["received"] < len(data):
            piece = memoryview(data)[said["received"]:said["received"] + PIECE]
            said, index = self.tell("chunk", piece, upload=key, index=index), index + 1
        return said


@pytest.fixture
def browser():
    looked = []
    form = ClipForm(lambda path, shown, asked: looked.append((Path(path).read_bytes(), Path(path).name, shown, asked)), max_mb=4)
    browser = Browser(form)
    browser.looked = looked
    yield browser
    form.close()

@pytest.fixture(scope="module")
def encoder():
    from bike_nb.encoder import load_encoder
    return load_encoder("tiny", device="cpu")

@pytest.fixture
def clip(encoder):
    clip = MyClip()
    clip.encoder, clip.loaded = encoder, "tiny"
    yield clip
    clip.close()

def sentence(text): return bool(re.fullmatch(r"[^\n]+\.", text)) and "Traceback" not in text


# What was typed
@pytest.mark.parametrize("text, names", [("", None), (" ;\n; ", None), ("a kite", ["a kite"]), ("a kite; a  dog\n\n a cat ;", ["a kite", "a dog", "a cat"]), ("a,b", ["a,b"]), ("\r\na kite\r\n", ["a kite"])])
def test_concepts(text, names): assert m.concepts_from(text) == names

@pytest.mark.parametrize("values, why", [
    (dict(concepts="a kite\nA  Kite"), "twice"), (dict(concepts="\n".join(map(str, range(41)))), "41 concepts: name 40 at most"),
    (dict(frames="0"), "from 1 to 64"), (dict(frames="65"), "from 1 to 64"), (dict(frames="many"), '"many" is not a whole number'), (dict(frames=""), "from 1 to 64"), (dict(frames="9" * 5000), "from 1 to 64"),
    (dict(start="-1"), "Start"), (dict(end="soon"), "End"), (dict(start="nan"), "no time"), (dict(end="1e400"), "no time"), (dict(start="5", end="3"), "Start (5 s) must come before end (3 s)"), (dict(start="2", end="2"), "before"), (dict(end="0"), "before"),
    (dict(model=" "), "Name a model"), (dict(model="ViT-B-23"), "ViT-B-32"), (dict(model="/no/such/folder"), "No model"),
    (dict(lexicon="words"), "imagenet"), (dict(lexicon="no/such.txt"), "no lexicon file")])
def test_what_is_wrong_is_said_before_anything_is_sent(values, why, browser):
    said = browser.upload(b"abc", **values)
    assert said["kind"] == "refused" and why in said["error"] and sentence(said["error"]) and len(said["error"]) < 400
    form = browser.form
    assert form.error == said["error"] and form.busy == form.status == "" and form.values == BLANK | values and not browser.looked and form.upload is None

def test_times():
    read = lambda t: m.seconds_from(t, "Start")
    assert [read(t) for t in ("", " ", "0", "2.5", "2,5", "3.", "1:30", "10:02.25")] == [None, None, 0, 2.5, 2.5, 3, 90, 602.25]
    asked = settings(dict(start="1", end="1:00", lexicon=str(SAMPLES/"lexicon.txt")))
    assert (asked["start"], asked["end"], asked["concepts"], asked["num_frames"], asked["model"], len(asked["lexicon"])) == (1, 60, None, 16, "tiny", 64)

def test_a_folder_is_a_model(tmp_path): assert m.model_from(f" {tmp_path} ") == str(tmp_path)

def test_odd_values_of_a_form_do_no_harm(browser):
    "A browser may send anything."
    browser.tell("look", values=dict(frames=8, concepts=None, path=[1], evil="x", start="\ud800"))
    assert sentence(browser.form.error) and "evil" not in browser.form.values and browser.form.values["start"] == "?"
    for said in ({}, {"kind": "dance"}, {"kind": ["look"]}, {"kind": "start"}, {"kind": "start", "upload": "u", "name": None, "size": "9"}, {"kind": "chunk", "upload": "u"}, "look", None):
        browser.form.hear(said)
        assert browser.form.upload is None and browser.form.busy == ""

def test_files_that_are_suggested(tmp_path):
    for n in "b.MP4", "a.webm", "notes.txt": (tmp_path/n).write_text("x")
    (tmp_path/"c.mp4").mkdir()
    assert m.videos_in(tmp_path, tmp_path/"none") == [str(tmp_path/"a.webm"), str(tmp_path/"b.MP4")]
    assert m.videos_in(tmp_path, most=1) == [str(tmp_path/"a.webm")]

@pytest.mark.parametrize("name, shown, suffix", [
    ("kite.mp4", "kite.mp4", ".mp4"), ("../../etc/passwd", "passwd", ""), ("C:\\x\\kite.MOV", "kite.MOV", ".mov"), ("a\0b\n.mp4", "ab.mp4", ".mp4"), ("", "a file", ""), ("..", "a file", ""), ("/", "a file", ""),
    ("<img src=x onerror=hack()>.mp4", "<img src=x onerror=hack()>.mp4", ".mp4"), ("\u202e4pm.mp4", "4pm.mp4", ".mp4"), ("🪁.mp4", "🪁.mp4", ".mp4"), ("x" * 10_000 + ".mp4", "x" * 51 + "…xxxx.mp4", ".mp4"),
    ("kite.py", "kite.py", ""), ("kite.mp4;rm -rf", "kite.mp4;rm -rf", ""), ("\ud83d.mp4", "?.mp4", ".mp4"), (None, "None", "")])
def test_names_from_elsewhere(name, shown, suffix): assert (shown_name(name), suffix_of(shown_name(name))) == (shown, suffix)


# The file on its way
def test_a_file_arrives_whole(browser, temp):
    data = os.urandom(2 * PIECE + 17)
    assert browser.upload(data, "../../kite.MP4", concepts="a kite", frames="4") == dict(kind="ack", upload="u1", received=len(data))
    (found, name, shown, asked), = browser.looked
    assert found == data and (name, shown) == ("clip.mp4", "kite.MP4") and asked["concepts"] == ["a kite"] and asked["num_frames"] == 4
    assert [s["received"] for s in browser.sent] == [0, PIECE, 2 * PIECE, len(data)] and not left(temp) and browser.form.busy == ""

@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_nobody_else_can_read_it(temp):
    upload = Upload("u", "kite.mp4", 3)
    upload.add(0, b"abc")
    assert stat.S_IMODE(upload.folder.stat().st_mode) == 0o700 and upload.folder.parent == temp
    upload.close()

@pytest.mark.parametrize("size, why", [(0, "is empty"), (4_000_001, "4 MB at most"), (-1, "no size"), (2.5, "no size"), ("9", "no size"), (None, "no size"), (10**30, "4 MB at most")])
def test_sizes_that_are_refused(browser, size, why, temp):
    said = browser.tell("start", upload="u", name="kite.mp4", size=size, values={})
    assert said["kind"] == "refused" and why in said["error"] and "kite.mp4" in said["error"] and sentence(said["error"]) and not left(temp)

@pytest.mark.parametrize("index, buffers, why", [(1, [b"ab"], "piece 1 came where piece 0 was due"), ("0", [b"ab"], "was due"), (0, [b"abcdef"], "does not fit"), (0, [b""], "does not fit"), (0, [], "0 pieces"), (0, [b"a", b"b"], "2 pieces"), (None, [b"ab"], "was due")])
def test_pieces_that_are_refused(browser, index, buffers, why, temp):
    browser.tell("start", upload="u", name="kite.mp4", size=5, values=dict(concepts="a kite"))
    said = browser.tell("chunk", *buffers, upload="u", index=index)
    assert said["kind"] == "refused" and why in said["error"] and sentence(said["error"]) and browser.form.busy == ""
    assert not left(temp) and browser.form.values["concepts"] == "a kite"
    assert browser.tell("chunk", b"ab", upload="u", index=0)["kind"] == "refused"                # it is over
    assert browser.upload(b"abcde", key="v")["received"] == 5 and browser.form.error == ""       # the next one is not

def test_a_piece_that_is_too_large(browser):
    browser.tell("start", upload="u", name="kite.mp4", size=3 * PIECE, values={})
    assert "does not fit" in browser.tell("chunk", bytes(PIECE + 1), upload="u", index=0)["error"]

def test_one_piece_twice(browser):
    browser.tell("start", upload="u", name="kite.mp4", size=5, values={})
    browser.tell("chunk", b"ab", upload="u", index=0)
    assert "piece 0 came where piece 1" in browser.tell("chunk", b"ab", upload="u", index=0)["error"]

def test_a_second_upload_takes_the_place_of_the_first(browser, temp):
    browser.tell("start", upload="u", name="kite.mp4", size=5, values={})
    browser.tell("chunk", b"ab", upload="u", index=0)
    browser.tell("start", upload="v", name="dog.mp4", size=3, values={})
    assert len(left(temp)) == 1
    said = browser.tell("chunk", b"cde", upload="u", index=1)
    assert said["kind"] == "refused" and said["upload"] == "u" and "another one" in said["error"] and browser.form.error == "" and browser.form.busy == "upload"
    browser.tell("cancel", upload="u")                                                          # nor does its end
    assert browser.form.upload.key == "v"
    browser.tell("chunk", b"dog", upload="v", index=0)
    assert [x[:3] for x in browser.looked] == [(b"dog", "clip.mp4", "dog.mp4")]

def test_cancel(browser, temp):
    browser.tell("start", upload="u", name="kite.mp4", size=5, values={})
    browser.tell("chunk", b"ab", upload="u", index=0)
    browser.tell("cancel", upload="u")
    assert not left(temp) and (browser.form.busy, browser.form.status, browser.form.error) == ("", "Cancelled.", "")
    browser.tell("cancel", upload="u")

def test_it_goes_with_the_form_and_with_python(browser, temp):
    browser.tell("start", upload="u", name="kite.mp4", size=5, values={})
    assert len(left(temp)) == 1
    browser.form.close()
    assert not left(temp)
    code = "import sys, tempfile; tempfile.tempdir = sys.argv[1]\nfrom bike_nb.my_clip import Upload\nu = Upload('u', 'kite.mp4', 5); u.add(0, b'ab'); print(u.path.exists())"
    assert subprocess.run([sys.executable, "-c", code, str(temp)], capture_output=True, text=True, cwd=SAMPLES.parent).stdout == "True\n"
    assert not left(temp)

def test_a_full_disk_is_said(browser, monkeypatch):
    def full(*_): raise OSError(28, "No space left on device")
    browser.tell("start", upload="u", name="kite.mp4", size=5, values={})
    monkeypatch.setattr(m, "open", full, raising=False)
    said = browser.tell("chunk", b"ab", upload="u", index=0)
    assert "No space left" in said["error"] and sentence(said["error"])

def test_what_a_killed_kernel_left_goes_after_a_day(temp):
    old, new, other = (temp/n for n in ("bike_clip_a", "bike_clip_b", "other"))
    for f in old, new, other: f.mkdir(); (f/"clip.mp4").write_bytes(b"x")
    os.utime(old, (0, 0)); os.utime(other, (0, 0))
    m.sweep()
    assert sorted(p.name for p in temp.iterdir()) == ["bike_clip_b", "other"]
    for f in new, other: (f/"clip.mp4").unlink(); f.rmdir()


# Looking
def test_an_uploaded_clip_is_seen_and_gone(clip, temp, tmp_path, monkeypatch):
    "Also when another file of its name lies in the working folder, which must never be shown."
    monkeypatch.chdir(tmp_path)
    (tmp_path/"my kite.mp4").write_bytes((SAMPLES/"08_walking_a_dog.mp4").read_bytes())
    said = Browser(clip.form).upload(KITE.read_bytes(), "my kite.mp4", concepts="flying a kite\na person", frames="6")
    assert said["kind"] == "ack" and clip.form.error == "" and clip.error is None and not left(temp)
    panel = clip.viewer.data["panels"][0]
    assert panel["title"] == "my kite.mp4" and [c["name"] for c in panel["concepts"]] == ["flying a kite", "a person"] == clip.explanation.concepts and len(panel["times"]) == 6
    assert clip.viewer.media[0]["video"] and clip.children == (clip.form, clip.viewer)
    assert clip.form.status.startswith("my kite.mp4: 6 frames in ") and "bike_clip" not in clip.form.status
    page = clip.explanation.to_html()
    assert '"video": null' in page and "my kite.mp4" in page and "bike_clip" not in page

def test_a_second_run_takes_the_place_of_the_first(clip, monkeypatch):
    from bike_nb import encoder
    monkeypatch.setattr(encoder, "load_encoder", lambda name: pytest.fail("the model is there"))
    clip.look(path=KITE, frames=4, concepts="a kite")
    first = clip.viewer
    clip.look(start=1, end="3", concepts=["a person", "a star"])
    assert clip.children == (clip.form, clip.viewer) and clip.viewer is not first and first.comm is None
    e = clip.explanation
    assert e.concepts == ["a person", "a star"] and len(e.times) == 4 and 1 <= e.times[0] < e.times[-1] <= 3 and e.novelty is not None

def test_another_model_is_loaded(clip, monkeypatch, encoder):
    from bike_nb import encoder as module
    asked = []
    monkeypatch.setattr(module, "load_encoder", lambda name: asked.append((name, clip.form.status, clip.encoder)) or encoder)
    clip.look(path=KITE, frames=2, model=SAMPLES)
    clip.look()
    assert asked == [(str(SAMPLES), f"Loading the model {SAMPLES}…", None)]

def test_without_concepts_the_attributes_are_shown(clip):
    clip.look(path=KITE, frames=4, lexicon=SAMPLES/"lexicon.txt")
    assert clip.explanation.concepts == [n for n, _ in clip.explanation.attributes] and clip.explanation.settings["lexicon"] == "lexicon"

@pytest.mark.parametrize("path, why", [("", "Name a file"), ("nowhere.mp4", "no such file"), (SAMPLES/"README.md", "cannot be read as a video"), (SAMPLES, "no images"), ("x\0y", "")])
def test_files_that_cannot_be_shown(clip, path, why):
    clip.look(path=path, concepts="a kite", frames="3")
    assert why in clip.form.error and sentence(clip.form.error) and clip.form.busy == clip.form.status == "" and "Traceback" in clip.error
    assert (clip.form.values["concepts"], clip.form.values["frames"], clip.explanation) == ("a kite", "3", None)
    clip.look(path=KITE, frames=2)
    assert clip.form.error == "" and clip.error is None and clip.explanation.concepts == ["a kite"]

def test_a_broken_upload_is_said_by_its_own_name(clip, temp):
    said = Browser(clip.form).upload(b"not a video" * 100, "dog.mp4")
    assert re.match(r"dog\.mp4: this cannot be read as a video", clip.form.error) and "bike_clip" not in clip.form.error and not left(temp) and said["kind"] == "refused"

def test_start_after_the_end_of_the_clip(clip):
    clip.look(path=KITE, start="100")
    assert sentence(clip.form.error) and "100" in clip.form.error

def test_weights_that_cannot_be_downloaded(clip, monkeypatch):
    from huggingface_hub import constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    clip.look(path=KITE, model="convnext_xxlarge")
    assert "cannot download" in clip.form.error.lower() and sentence(clip.form.error)
    assert clip.loaded is None

@pytest.mark.parametrize("error, why", [(TypeError("no"), "Something unexpected went wrong (TypeError: no)."), (MemoryError(), "fewer frames"), (RuntimeError("CUDA out of memory. Tried"), "fewer frames"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "smaller model"), (KeyboardInterrupt(), "interrupted"), (ValueError("x"), "unexpected"), (EncoderError("no such device"), "No such device."), (ExplainError("Too bad."), "Too bad.")])
def test_whatever_goes_wrong_is_a_sentence(clip, monkeypatch, error, why):
    def fails(*_, **__): raise error
    monkeypatch.setattr(m, "explain", fails)
    clip.look(path=KITE)
    assert why in clip.form.error and sentence(clip.form.error) and clip.form.busy == "" and type(error).__name__ in clip.error

def test_an_error_keeps_the_viewer_of_before(clip):
    clip.look(path=KITE, frames=2)
    viewer = clip.viewer
    clip.look(frames="x")
    assert clip.viewer is viewer and len(clip.children) == 2 and clip.form.error

def test_damage_is_remarked(clip, tmp_path):
    (tmp_path/"cut.mp4").write_bytes(KITE.read_bytes()[:-9000])
    data = (tmp_path/"cut.mp4").read_bytes()
    Browser(clip.form).upload(data, "cut.mp4", frames="4", concepts="a unicorn")
    assert clip.form.error or "cut.mp4: 4 frames" in clip.form.status
    assert "bike_clip" not in clip.form.error + clip.form.status and clip.form.status.count("unicorn") == 0

def test_remarks():
    import warnings
    from types import SimpleNamespace
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for w in "/t/clip.mp4: it stops at 3 s", "known.", "known.", "one more", "and more": warnings.warn(w)
        warnings.warn("old", DeprecationWarning)
    assert m.remarks(said, SimpleNamespace(notes=["known."]), "/t/clip.mp4", "kite.mp4") == ["kite.mp4: it stops at 3 s.", "one more."]


# In a notebook
def shown(clip, monkeypatch):
    import IPython.display as d
    out = []
    monkeypatch.setattr(d, "display", lambda data, **k: out.append(data) or type("H", (), dict(update=lambda self, data, **k: out.append(data)))())
    clip._ipython_display_()
    return out

def test_a_saved_notebook_says_what_it_is(clip, monkeypatch):
    out = shown(clip, monkeypatch)
    assert "needs a running kernel" in out[0]["text/plain"] and "<iframe" not in out[0]["text/html"] and out[1]["application/vnd.jupyter.widget-view+json"]["model_id"] == clip.model_id
    clip.look(path=KITE, frames=2, concepts="<script>hack()</script>")
    assert len(out) == 3 and "<iframe" in out[2]["text/html"] and "<script>hack" not in out[2]["text/html"]

def test_arguments_fill_in_the_form():
    clip = m.my_clip(path=KITE, concepts=["a kite", "a dog"], frames=4, end=None)
    assert clip.form.values == BLANK | dict(source="path", path=str(KITE), concepts="a kite\na dog", frames="4")
    for wrong in dict(video="x"), dict(source="path"), dict(max_mb=0), dict(max_mb="9"), dict(max_mb=float("nan")):
        with pytest.raises(MyClipError): m.my_clip(**wrong)

def test_closing_closes_all(clip, temp):
    clip.look(path=KITE, frames=2)
    Browser(clip.form).tell("start", upload="u", name="kite.mp4", size=5, values={})
    clip.close()
    assert not left(temp) and clip.form.comm is None and clip.viewer.comm is None

def test_messages_may_come_in_another_thread(clip):
    "As they do from JupyterLab with a kernel that knows subshells."
    thread = threading.Thread(target=lambda: clip.look(path=KITE, frames=2))
    thread.start(); thread.join()
    assert clip.form.error == "" and clip.explanation is not None

def test_the_script_can_stand_anywhere():
    for name in "my_clip.js", "my_clip.css": assert not re.search(r"</script|<!--|https?://|innerHTML|eval\(", m.static(name))
