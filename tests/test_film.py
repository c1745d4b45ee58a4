"The film of an explanation: decoded again, and looked at pixel by pixel."
import shutil, tracemalloc, warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bike_nb import film
from bike_nb.encoder import load_encoder
from bike_nb.explain import HUES, ExplainError, explain
from bike_nb.film import FilmError, Stage, render
from bike_nb.video import iter_video, read_video, write_video

ROOT = Path(__file__).parents[1]
KITE = ROOT / "data_samples/00_flying_a_kite.mp4"
CLIPS = ROOT.parent / "shared/clips"
CONCEPTS = ["flying a kite", "kite", "tree"]


@pytest.fixture(scope="module")
def encoder(): return load_encoder("tiny", device="cpu")


@pytest.fixture(scope="module")
def kite(encoder): return explain(KITE, CONCEPTS, encoder)


def moving(n, size=(64, 96)): # uint8 (n,H,W,3)
    "A bright square that moves over a gradient."
    h, w = size
    frames = np.repeat((np.indices(size).sum(0) * 160 // (h + w)).astype(np.uint8)[None, ..., None], n, 0).repeat(3, 3)
    for i in range(n): frames[i, h // 4:h // 2, (x := i % max(w - 8, 1)):x + 8] = 250, 60, 60
    return frames


def clip(path, n=20, fps=10, size=(64, 96), **how): return write_video(path, moving(n, size), fps=fps, crf=10, **how)


def whole(path): return read_video(path, num_frames=None)


def stage_of(e, shape=None, **how):
    how.setdefault("width", 720)
    return Stage(e, shape or e.frames.shape[1:], **how)


def cursor(frame, stage, dark=False): # the column, in pixels
    "Where the cursor stands: the columns between the last lane and its axis that differ from the still picture."
    rows = slice(round(stage.below + stage.panel.foot) - 4, round(stage.below + stage.panel.foot) - 1)
    change = np.abs(frame[rows].astype(int) - np.asarray(stage.base)[rows]).sum(2).mean(0)
    low, high = round(stage.panel.x[0]) - 4, round(stage.panel.x[1]) + 4
    weight = np.where(change[low:high] > 150, change[low:high], 0)
    assert weight.any(), "there is no cursor"
    return low + (weight * np.arange(high - low)).sum() / weight.sum() + .5


def alike(frame, stage, picture): # mean difference of the picture's part, in grey levels
    left, top, w, h = stage.box
    return np.abs(frame[top:top + h, left:left + w].astype(int) - np.asarray(stage.picture(picture))).mean()


def only(folder): return sorted(p.name for p in Path(folder).iterdir())


@pytest.mark.parametrize("ending,dark", [(".mp4", False), (".mkv", True), (".mov", False)])
def test_the_film_shows_the_clip_at_its_own_rate_and_the_cursor_where_it_should_be(kite, tmp_path, ending, dark):
    path = render(kite, tmp_path / f"out{ending}", dark=dark)
    seen, clip, stage = whole(path), whole(KITE), stage_of(kite, whole(KITE).frames.shape[1:], dark=dark)
    assert only(tmp_path) == [f"out{ending}"]
    assert abs(seen.duration - clip.duration) < .01 and abs(seen.fps - clip.fps) < .01 and np.allclose(seen.times, clip.times, atol=2e-3)
    assert seen.frames.shape[1:] == (stage.base.height, 720, 3) and not seen.frames.shape[1] % 2
    for i in range(0, len(seen), 5):
        assert alike(seen.frames[i], stage, clip.frames[i]) < 3
        assert abs(cursor(seen.frames[i], stage) - stage.point(clip.times[i])[0]) < 1
    assert alike(seen.frames[20], stage, clip.frames[26]) > 3 * alike(seen.frames[20], stage, clip.frames[20])
    still = np.abs(seen.frames[0][stage.below + stage.panel.image.height // 2:].astype(int) - np.asarray(stage.base)[stage.below + stage.panel.image.height // 2:])
    assert still.mean() < 2


def test_dots_stand_on_the_curves_and_numbers_are_those_of_the_drawn_line(kite):
    stage = stage_of(kite)
    for t in (0., kite.times[5], 2.2, 3.1, 6.):
        image = np.asarray(stage.at(t, stage.picture(kite.frames[0]))).astype(int)
        said = film.weights_at(kite, t)
        for i, w in enumerate(said):
            x, y = map(round, stage.point(t, w))
            hidden = any(abs(stage.point(t, v)[1] - y) < 12 for v in said[:i])          # under the dot of an earlier concept
            assert hidden or np.abs(image[y, x] - np.array([int(HUES[i][k:k + 2], 16) for k in (1, 3, 5)])).max() < 6
    assert np.allclose(film.weights_at(kite, (kite.times[4] + 3 * kite.times[5]) / 4), kite.saliency[:, 4] / 4 + kite.saliency[:, 5] * 3 / 4)


def test_the_curves_pixels_lie_where_the_panel_says(kite):
    "The drawn curve of the first concept, found by its hue, against the numbers."
    stage = stage_of(kite, kite.frames.shape[1:])
    blue = np.abs(np.asarray(stage.base).astype(int) - [int(HUES[0][k:k + 2], 16) for k in (1, 3, 5)]).max(2) < 30
    peak = int(kite.saliency[0].argmax())
    x, y = stage.point(kite.times[peak], kite.saliency[0, peak])
    assert blue[round(y) - 2:round(y) + 3, round(x) - 2:round(x) + 3].any() and not blue[round(y) - 25:round(y) - 8, round(x) - 3:round(x) + 4].any()


def test_only_the_explained_part_is_shown(encoder, tmp_path):
    e = explain(KITE, ["kite"], encoder, start=2, end=3.5, num_frames=6)
    seen, part, stage = whole(render(e, tmp_path / "part.mp4")), [v for v in iter_video(KITE, start=2, end=3.5, block=99)][0], stage_of(e, whole(KITE).frames.shape[1:])
    assert len(seen) == len(part) == 12 and abs(seen.duration - 1.5) < .01
    for i in (0, 7, 11):
        assert alike(seen.frames[i], stage, part.frames[i]) < 3
        assert abs(cursor(seen.frames[i], stage) - stage.point(part.times[i])[0]) < 1
    assert stage.panel.times[0] <= 2 < 3.5 <= stage.panel.times[1] + 1e-6


def test_quick_clips_are_thinned_and_slow_ones_keep_their_cursor_moving(encoder, tmp_path):
    quick = explain(clip(tmp_path / "quick.mp4", 60, 50), ["kite"], encoder)
    seen = whole(render(quick, tmp_path / "q.mp4"))
    assert len(seen) == 30 and abs(seen.fps - 25) < .1 and abs(seen.duration - 1.2) < .01
    assert abs(whole(render(quick, tmp_path / "q.mp4", max_fps=10)).fps - 10) < .1
    slow = explain(clip(tmp_path / "slow.mp4", 3, 1), ["kite"], encoder)
    seen, stage = whole(render(slow, tmp_path / "s.mp4")), stage_of(slow, (64, 96))
    assert len(seen) == 30 and abs(seen.duration - 3) < .01
    assert np.all(np.diff([cursor(f, stage) for f in seen.frames]) > 5)
    assert len(whole(render(slow, tmp_path / "s.mp4", fps=4))) == 12


def test_a_clip_without_a_steady_rate_is_as_long_as_before(encoder, tmp_path):
    times = [0, .04, .08, .12, 1.5, 1.54, 1.58, 3]
    e = explain(write_video(tmp_path / "odd.mp4", moving(8), fps=25, times=times), ["kite"], encoder)
    seen, stage = whole(render(e, tmp_path / "o.mp4")), stage_of(e, (64, 96))
    assert abs(seen.duration - whole(tmp_path / "odd.mp4").duration) < .11
    for t in times: assert np.abs(seen.times - t).min() < 2e-3
    at = int(np.abs(seen.times - 1).argmin())
    assert alike(seen.frames[at], stage, whole(tmp_path / "odd.mp4").frames[3]) < 4 and abs(cursor(seen.frames[at], stage) - stage.point(seen.times[at])[0]) < 1


def test_without_its_file_the_film_is_a_flip_book_and_says_so(encoder, tmp_path):
    source = clip(tmp_path / "gone.mp4", 20, 10)
    e = explain(source, ["kite"], encoder, num_frames=5)
    source.unlink()
    with pytest.warns(UserWarning, match="gone.mp4 is not there any more.*flip-book"): render(e, tmp_path / "out.mp4")
    seen, stage = whole(tmp_path / "out.mp4"), stage_of(e)
    assert abs(seen.duration - 2) < .05
    for i in range(5):
        for t in (e.edges[i] + .02, e.edges[i + 1] - .12):
            at = int(np.searchsorted(seen.times, t + 1e-3, side="right") - 1)
            assert alike(seen.frames[at], stage, e.frames[i]) < 4
            assert abs(cursor(seen.frames[at], stage) - stage.point(seen.times[at])[0]) < 1


def test_arrays_and_folders_are_flip_books_without_a_warning(encoder, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        e = explain(moving(4), ["kite"], encoder, fps=2)
        assert abs(whole(render(e, tmp_path / "a.mp4")).duration - (e.edges[-1] - e.edges[0])) < .05
        (tmp_path / "frames").mkdir()
        for i, f in enumerate(moving(6)): Image.fromarray(f).save(tmp_path / f"frames/{i}.png")
        e = explain(tmp_path / "frames", ["kite"], encoder)
        assert e.settings["unit"] == "frame" and whole(render(e, tmp_path / "f.mp4")).duration == pytest.approx(3, abs=.01)
        shutil.rmtree(tmp_path / "frames")
        render(e, tmp_path / "f.mp4")


def test_frames_without_times_stand_for_half_a_second_each(encoder, tmp_path):
    e = explain(moving(3), ["kite"], encoder)
    seen, stage = whole(render(e, tmp_path / "a.mp4")), stage_of(e)
    assert seen.duration == pytest.approx(1.5, abs=.01)
    for i in range(3):
        for k in np.flatnonzero((seen.times > .5 * i - .01) & (seen.times < .5 * i + .49)):
            assert alike(seen.frames[k], stage, e.frames[i]) < 4
            assert abs(cursor(seen.frames[k], stage) - stage.point(e.edges[0] + 2 * seen.times[k])[0]) < 1
    assert [film.moment(e, t) for t in (-.5, .49, .51, 2.5)] == ["frame 0", "frame 0", "frame 1", "frame 2"]


def test_a_single_picture_and_a_clip_of_one_frame(encoder, tmp_path):
    Image.fromarray(moving(1)[0]).save(tmp_path / "one.png")
    assert whole(render(explain(tmp_path / "one.png", ["kite"], encoder), tmp_path / "a.mp4")).duration == pytest.approx(.5, abs=.01)
    e = explain(clip(tmp_path / "one.mp4", 1, 2), ["kite"], encoder)
    assert whole(render(e, tmp_path / "b.mp4")).duration == pytest.approx(.5, abs=.01)


def test_frames_that_were_read_before_are_shown_from_their_file(encoder, tmp_path):
    source = clip(tmp_path / "clip.mp4", 20, 10)
    e = explain(read_video(source, num_frames=4), ["kite"], encoder)
    seen = whole(render(e, tmp_path / "out.mp4"))
    assert len(seen) == 20 and alike(seen.frames[9], stage_of(e), whole(source).frames[9]) < 4


@pytest.mark.parametrize("size", [(200, 60), (20, 400), (61, 97), (9, 9)])
@pytest.mark.parametrize("width", [241, 480])
def test_any_shape_fits_and_keeps_its_proportions(encoder, tmp_path, size, width):
    e = explain(moving(3, size), ["kite"], encoder)
    stage, seen = stage_of(e, width=width), whole(render(e, tmp_path / "a.mp4", width=width))
    left, top, w, h = stage.box
    assert seen.frames.shape[1:] == (stage.base.height, width + width % 2, 3) and not stage.base.height % 2
    assert w <= width and h <= .6 * width + 1 and abs(w / h - size[1] / size[0]) < .06 * size[1] / size[0] + .1
    assert alike(seen.frames[0], stage, e.frames[0]) < 6


def test_names_of_any_kind_and_many_concepts(encoder, tmp_path):
    names = ["人が凧を揚げる" * 5, "a 🪁", "costs $5 and $x^2$", "W" * 300, "مرحبا بالعالم", "i" * 10_000, "<img onerror>", "%s {0} \\frac", "kite", "tree", "flag"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*was never taught.*")
        e = explain(moving(4), names, encoder)
        render(e, tmp_path / "a.mp4", width=480)
        warnings.simplefilter("error")
        stage = stage_of(e)
    assert stage.e.concepts == [names[i] for i in sorted(np.argsort(-e.scores, kind="stable")[:8])]
    right = np.asarray(stage.base)[stage.below:, -14:]
    assert (right == np.array([255, 255, 255])).all(), "something runs over the edge"
    column = np.asarray(stage.base)[[stage.below + round(r) for r in stage.panel.rows]][:, 662:]
    assert (column == 255).all(), "a name runs into the weights"


def test_the_truth_is_drawn_and_dark_is_dark(kite):
    plain, known, dark = stage_of(kite), stage_of(kite, truth={"kite": [(1, 4)], "nobody": [(0, 1)]}), stage_of(kite, dark=True)
    assert (np.asarray(plain.base) != np.asarray(known.base)).any() and np.asarray(dark.base).mean() < 60 < 200 < np.asarray(plain.base).mean()


def test_long_clips_take_no_more_memory(encoder, tmp_path):
    "Ten minutes, one picture a second; NumPy's arrays are what would grow."
    frames = (f for _ in range(60) for f in moving(10))
    e = explain(write_video(tmp_path / "long.mp4", frames, fps=1), ["kite"], encoder)
    tracemalloc.start()
    seen = render(e, tmp_path / "out.mp4", width=240, max_fps=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6 and sum(len(v) for v in iter_video(seen)) == 1200
    assert film.moment(e, 61) == "1:01"


@pytest.mark.parametrize("path,reason", [("out.gif", "another ending"), ("out", "another ending"), ("no/out.mp4", "no folder"), ("folder.mp4", "is a folder"), (None, "no path"), ("clip.mp4", "the clip itself"),
                                         ("x" * 300 + ".mp4", "cannot be written .*too long"), ("a\0.mp4", "cannot be written .*null")])
def test_a_film_that_cannot_be_written_is_one_sentence(encoder, tmp_path, monkeypatch, path, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.mp4").mkdir()
    e = explain(clip("clip.mp4", 5), ["kite"], encoder)
    before = Path("clip.mp4").read_bytes()
    with pytest.raises(FilmError, match=reason) as caught: render(e, path)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    assert only(".") == ["clip.mp4", "folder.mp4"] and Path("clip.mp4").read_bytes() == before


def test_numbers_that_make_no_film(kite, tmp_path):
    for wrong in (dict(width=100), dict(width=10_000), dict(width="720"), dict(width=True), dict(fps=0), dict(fps=-1), dict(fps=float("inf")), dict(max_fps=None), dict(max_fps=float("nan"))):
        with pytest.raises(FilmError, match=next(iter(wrong))): render(kite, tmp_path / "a.mp4", **wrong)
    with pytest.raises(FilmError, match="no explanation"): render("clip.mp4", tmp_path / "a.mp4")
    with pytest.raises(ExplainError, match="does not say when"): render(kite, tmp_path / "a.mp4", truth={"kite": (0, 1)})
    assert not only(tmp_path)


def test_a_clip_that_was_spoilt_meanwhile_is_named(encoder, tmp_path):
    source = clip(tmp_path / "clip.mp4", 20, 10)
    e = explain(source, ["kite"], encoder, start=1)
    for spoil in (lambda: source.write_bytes(b"nothing"), lambda: source.write_bytes(b""), lambda: clip(source, 5, 10)):
        spoil()
        with pytest.raises(FilmError, match="clip.mp4") as caught: render(e, tmp_path / "out.mp4")
        assert str(caught.value).endswith(".") and only(tmp_path) == ["clip.mp4"]


def test_nothing_half_written_stays_behind(kite, tmp_path, monkeypatch):
    (tmp_path / "out.mp4").write_text("an older film")
    at, count = Stage.at, iter(range(99))
    def fail(self, *args):
        if next(count) == 10: raise KeyboardInterrupt
        return at(self, *args)
    monkeypatch.setattr(Stage, "at", fail)
    with pytest.raises(KeyboardInterrupt): render(kite, tmp_path / "out.mp4")
    assert only(tmp_path) == ["out.mp4"] and (tmp_path / "out.mp4").read_text() == "an older film"


def test_a_name_may_be_as_long_as_names_can_be(encoder, tmp_path):
    path = tmp_path / ("x" * 246 + ".mp4")
    assert render(explain(moving(2), ["kite"], encoder), path, width=240) == path and only(tmp_path) == [path.name]


def test_a_disk_that_is_full_at_the_end_is_one_sentence(kite, tmp_path, monkeypatch):
    def full(*args, **how): raise OSError(28, "No space left on device")
    monkeypatch.setattr(film, "write_video", full)
    with pytest.raises(FilmError, match="a.mp4 cannot be written .No space left"): render(kite, tmp_path / "a.mp4")


def test_numbers_of_attributes_stand_behind_their_names(encoder):
    from dataclasses import replace
    e = replace(explain(moving(3), ["kite"], encoder), attributes=[("tree", .4), ("a", .01), ("mmmmmmm mmmmmmmm", .01), ("W" * 90, .39), ("b", -.2)])
    assert (np.asarray(stage_of(e).panel.image)[-60:, 335:346] > 250).all(), "something reaches the small print"
    short, long = (np.asarray(stage_of(replace(e, attributes=[("tree", .4), (n, .01)])).panel.image) for n in ("a", "a" * 12))
    ends = [np.flatnonzero((p[-30:-14, 10:330] < 200).any((0, 2))).max() for p in (short, long)]
    assert ends[1] > ends[0] + 50


def test_an_explanation_without_frames_and_file(encoder, tmp_path):
    from dataclasses import replace
    e = replace(explain(moving(3), ["kite"], encoder), frames=None)
    with pytest.raises(FilmError, match="no frames"): render(e, tmp_path / "a.mp4")
    e = replace(explain(moving(3), ["kite"], encoder), attributes=[])
    assert render(e, tmp_path / "a.mp4").exists()


def test_to_video_stands_on_render(kite, tmp_path):
    assert kite.to_video(tmp_path / "a.mp4", {"kite": [(1, 4)]}, width=240, dark=True) == tmp_path / "a.mp4"


@pytest.mark.skipif(not CLIPS.exists(), reason="the real clips are not part of the project")
@pytest.mark.parametrize("name", ["rotated_90.mov", "h265_10bits.mp4", "av1_video.mkv", "test.avi", "unordered.mov"])
def test_real_clips(encoder, tmp_path, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        e = explain(CLIPS / name, ["person"], encoder, end=1.)
    seen, clip = whole(render(e, tmp_path / "a.mp4", width=480)), whole(CLIPS / name)
    stage = stage_of(e, clip.frames.shape[1:], width=480)
    assert abs(seen.duration - (e.settings["end"] - e.settings["start"])) < .07
    assert alike(seen.frames[0], stage, clip.frames[0]) < 5
    assert abs(cursor(seen.frames[-1], stage) - stage.point(seen.times[-1])[0]) < 1.5


def test_the_best_concepts_keep_all_that_is_theirs(encoder):
    "Names, scores, embeddings and pieces go together, as in `without`."
    with pytest.warns(UserWarning, match="zebra"): e = explain(KITE, ["tree", "a zebra", "flying a kite"], encoder, num_frames=4)
    few, want = film.best(e, 2), e.without(e.concepts[int(e.scores.argmin())])
    assert few.concepts == want.concepts and few.notes == want.notes and few.pieces == want.pieces and few.unknown == want.unknown
    assert all(np.array_equal(few.embeddings[k], want.embeddings[k]) for k in e.embeddings)
    assert film.best(e) is e
