"explain: real files in, numbers that agree with the formula, and pictures, tables and files out."
import csv, io, json, re, subprocess, sys, warnings
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from bike_nb import world
from bike_nb.attributes import Lexicon
from bike_nb.encoder import load_encoder
from bike_nb.explain import ExplainError, Explanation, best_frames, explain, find_windows, frame_edges, png, ranks, scaled_cosine, score_seconds, spread, strip_layout
from bike_nb.model import TemporalTransformer, VideoBranch
from bike_nb.video import Video, VideoError, read_video, write_video

CLIPS = Path(__file__).parents[2]/"shared"/"clips"
SCRIPT = world.sample_clip(4, "flying a kite", cut=True)
KEYS = ["model", "settings", "video", "times", "concepts", "scores", "saliency", "cosine", "rank", "windows", "attributes", "novelty", "notes"]


@pytest.fixture(scope="session")
def tiny(): return load_encoder("tiny", device="cpu")

@pytest.fixture(scope="session")
def frames(): return world.render(SCRIPT, world.frame_times(SCRIPT, 12))

@pytest.fixture(scope="session")
def film(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("film")/"kite.mp4", world.render(SCRIPT, np.arange(48) / 8), fps=8)

@pytest.fixture(scope="session")
def found(film, tiny): return explain(film, ["flying a kite", "a person", "a red car"], tiny)

@pytest.fixture
def folder(tmp_path, frames):
    for i, f in enumerate(frames): Image.fromarray(f).save(tmp_path/f"f{i}.png")
    (tmp_path/"notes.txt").write_text("no image"); (tmp_path/".hidden.png").write_bytes(b"no image")
    return tmp_path


# The numbers

@pytest.mark.parametrize("mask", ["all", "sentence", "words"])
def test_numbers_are_those_of_the_formula(frames, tiny, mask):
    names = ["flying a kite", "a person", "rain"]
    e = explain(frames, names, tiny, mask=mask, temperature=.02, template="a photo of {}")
    text, unit = tiny.encode_text(names, "a photo of {}"), lambda x: F.normalize(x.double(), dim=-1)
    f, w, c = unit(tiny.encode_video(frames)), unit(text.tokens), unit(text.classes)
    votes = {"all": torch.ones_like(text.mask), "sentence": text.mask, "words": text.words}[mask]
    assert len({tuple(v) for v in votes.tolist()}) == 1 or mask != "all"
    for i in range(len(names)):
        weights = ((w[i] @ f.T)[votes[i]] / .02).softmax(-1).mean(0)
        np.testing.assert_allclose(e.saliency[i], weights.numpy(), atol=2e-5)
        np.testing.assert_allclose(e.cosine[i], (f @ c[i]).numpy(), atol=1e-5)
        np.testing.assert_allclose(e.scores[i], ((weights[:, None] * f).sum(0) @ c[i]).item(), atol=2e-5)
        np.testing.assert_allclose(e.mean_scores[i], (F.normalize(unit(tiny.encode_video(frames)).new_tensor(tiny.encode_video(frames).mean(0).double().tolist()), dim=0) @ c[i]).item(), atol=1e-5)
    np.testing.assert_allclose(e.saliency.sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(e.rank, ranks(e.saliency))
    np.testing.assert_allclose(e.embeddings["frames"], f.numpy(), atol=1e-5)
    np.testing.assert_allclose(e.embeddings["tokens"], w.numpy(), atol=1e-5)

def test_ranks_put_the_strongest_frame_first():
    assert ranks([[.1, .5, .2], [.3, .3, .4]]).tolist() == [[3, 1, 2], [2, 3, 1]]

def test_the_action_is_found_and_its_frames_with_it(tiny):
    right, overlap = [], []
    for i, action in enumerate(world.SINGLE_FRAME):
        clip = world.sample_clip(7100 + i, action)
        times = world.frame_times(clip, 16)
        e = explain(world.render(clip, times), world.SINGLE_FRAME, tiny, times=times)
        right.append(e.concepts[e.scores.argmax()] == action)
        true, mine = np.array([clip.acting(t) for t in times]), np.zeros(16, bool)
        for a, b in e.windows[i]: mine |= (times >= a) & (times < b)
        overlap.append((true & mine).sum() / (true | mine).sum())
    assert np.mean(right) >= .9, right
    assert np.mean(overlap) >= .85, overlap

def test_attributes_without_concepts_become_the_concepts(film, tiny):
    e = explain(film, model=tiny, k=3)
    assert e.concepts == [n for n, _ in e.attributes] and len(e.concepts) == 3
    assert [s for _, s in e.attributes] == sorted((s for _, s in e.attributes), reverse=True)

def test_attributes_by_mean_and_by_maximum(film, tiny):
    best, mean = (dict(explain(film, "a kite", tiny, k=64, pool=p).attributes) for p in ("max", "mean"))
    assert best["kite"] > mean["kite"] + .05  # shows in part of the clip only

def test_a_lexicon_of_ones_own(film, tiny, tmp_path):
    (tmp_path/"mine.txt").write_text("kite\ndog\n")
    for lexicon in (["kite", "dog"], tmp_path/"mine.txt", Lexicon(["kite", "dog"])):
        assert [n for n, _ in explain(film, "kite", tiny, lexicon=lexicon).attributes] == ["kite", "dog"]

def test_temporal_transformer(frames, tiny):
    torch.manual_seed(0)
    temporal = TemporalTransformer(tiny.dim, layers=1, positions=12)
    plain, timed = explain(frames, ["a kite"], tiny), explain(frames, ["a kite"], tiny, temporal=temporal)
    want = F.normalize(temporal(tiny.encode_video(frames)[None])[0], dim=-1).detach().numpy()
    np.testing.assert_allclose(timed.embeddings["frames"], want, atol=1e-5)
    assert timed.attributes == plain.attributes and timed.settings["temporal"]
    with pytest.raises(ExplainError, match="12 frames.* 11 positions.*num_frames=11"):
        explain(frames, ["a kite"], tiny, temporal=TemporalTransformer(tiny.dim, layers=1, positions=11))

def test_a_video_branch_lends_its_temporal_part(frames, tiny):
    "Its weights count, its comparison does not; one without temporal transformer changes nothing, and other things are refused in a sentence."
    branch = VideoBranch(tiny.dim, layers=1, positions=12)
    alone = TemporalTransformer(tiny.dim, layers=1, positions=12)
    alone.load_state_dict(branch.state_dict())
    lent, bare = (explain(frames, ["a kite"], tiny, temporal=t) for t in (branch, VideoBranch(tiny.dim, header="None")))
    assert np.allclose(lent.saliency, explain(frames, ["a kite"], tiny, temporal=alone).saliency, atol=1e-6) and lent.settings["temporal"]
    assert np.array_equal(bare.saliency, explain(frames, ["a kite"], tiny).saliency) and not bare.settings["temporal"]
    for other in ("Transf", torch.nn.Linear(2, 2), tiny):
        with pytest.raises(ExplainError, match="is no temporal transformer"): explain(frames, ["a kite"], tiny, temporal=other)


# Where frames come from

def test_file_array_list_folder_and_video_agree(folder, frames, tiny):
    ways = [frames, list(frames), [Image.fromarray(f) for f in frames], [folder/f"f{i}.png" for i in range(12)], [str(folder/f"f{i}.png") for i in range(12)], folder, str(folder),
            Video(frames, np.arange(12.), 1., 12.), torch.from_numpy(frames)]
    found = [explain(w, ["a kite", "a person"], tiny, fps=None if isinstance(w, Video) else 1) for w in ways]
    for e in found:
        np.testing.assert_array_equal(e.saliency, found[0].saliency)
        np.testing.assert_array_equal(e.times, np.arange(12))
    assert {e.settings["unit"] for e in found} == {"s"}

def test_a_folder_is_sampled_and_chosen_frames_are_not(folder, frames, tiny):
    assert explain(folder, "a kite", tiny, num_frames=4).times.tolist() == [1, 4, 7, 10]
    assert len(explain(list(frames), "a kite", tiny, num_frames=4).times) == 12
    assert explain(folder, "a kite", tiny, start=3, end=6).times.tolist() == [3, 4, 5]

def test_times_of_a_file_are_those_of_the_video(film, tiny):
    e, v = explain(film, "a kite", tiny, num_frames=6, start=1, end=4), read_video(film, 6, start=1, end=4)
    np.testing.assert_array_equal(e.times, v.times)
    assert (e.settings["start"], e.settings["end"]) == (1, 4)
    assert e.edges[0] <= 1 and e.edges[-1] == 4

def test_a_variable_rate_keeps_its_true_times(tmp_path, tiny):
    times = np.array([0, .1, .2, 2, 2.1, 5])
    path = write_video(tmp_path/"vfr.mp4", world.render(SCRIPT, times), fps=10, times=times)
    e = explain(path, "a kite", tiny, num_frames=100)
    np.testing.assert_allclose(e.times, times, atol=1e-3)  # each frame once, though a hundred were asked for

def test_a_rate_reads_in_blocks(film, tiny, monkeypatch):
    def never(*a, **k): raise AssertionError("the whole file was read")
    monkeypatch.setattr("bike_nb.explain.read_video", never)
    e = explain(film, "a kite", tiny, fps=8)
    np.testing.assert_allclose(e.times, np.arange(48) / 8, atol=1e-6)

def test_one_image_and_one_frame(folder, tiny):
    e = explain(folder/"f3.png", "a kite", tiny)
    assert e.saliency.tolist() == [[1]] and e.windows == [[]] and any("single frame" in n for n in e.notes)
    e.plot(), e.to_json(), str(e)

def test_exif_rotation_is_honoured(tmp_path, frames, tiny):
    exif = Image.Exif(); exif[0x112] = 6  # the camera was turned
    Image.fromarray(np.rot90(frames[5])).save(tmp_path/"turned.png", exif=exif)
    np.testing.assert_array_equal(explain(tmp_path/"turned.png", "a kite", tiny).frames[0], frames[5])

def test_thumbnails_keep_the_shape(tiny):
    e = explain(np.zeros((2, 720, 1280, 3), np.uint8), "a kite", tiny)
    assert e.frames.shape == (2, 180, 320, 3) and e.frames.dtype == np.uint8

@pytest.mark.skipif(not CLIPS.is_dir(), reason="no real clips here (../shared/clips)")
@pytest.mark.parametrize("name", ["arm_wrestling.mp4", "flipping_a_pancake.mkv", "nasa_13013.mp4", "test.avi", "rotated_90.mov", "unordered.mov", "h265_10bits.mp4", "av1_video.mkv"])
def test_real_clips(name, tiny):
    e = explain(CLIPS/name, ["a person", "rain"], tiny, num_frames=8)
    assert np.isfinite(e.cosine).all() and (np.diff(e.times) > 0).all() and len(e.times) == {"rotated_90.mov": 3, "unordered.mov": 4}.get(name, 8)
    np.testing.assert_allclose(e.saliency.sum(1), 1, atol=1e-5)
    assert e.novelty.flagged and any("not of tiny's world" in n for n in e.notes)
    assert len(png(e.plot())) < 300_000

@pytest.mark.skipif(not CLIPS.is_dir(), reason="no real clips here (../shared/clips)")
def test_a_damaged_clip_is_explained_in_part_or_refused(tiny):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try: e = explain(CLIPS/"corrupted.mp4", "a person", tiny)
        except VideoError as error: assert "corrupted.mp4" in str(error)
        else: assert np.isfinite(e.cosine).all()


# What cannot be done

def bad_inputs(folder, frames):
    Image.new("RGB", (64, 48)).save(folder/"odd.png")
    (folder/"broken.png").write_bytes((folder/"f1.png").read_bytes()[:200])
    (empty := folder/"empty").mkdir()
    ok = [folder/"f0.png", folder/"f1.png"]
    return [
        (dict(video=empty), "empty holds no images"),
        (dict(video=[*ok, folder/"odd.png"]), "odd.png is 64×48, .*f0.png 96×96"),
        (dict(video=[*ok, folder/"broken.png"]), "broken.png cannot be read as an image"),
        (dict(video=[*ok, folder/"gone.png"]), "no image .*gone.png"),
        (dict(video=[*ok, None]), "image 2"),
        (dict(video=folder/"gone.mp4"), "gone.mp4"),
        (dict(video=None), "None is no clip"), (dict(video=[]), "is no clip"), (dict(video={}), "is no clip"),
        (dict(video=frames / 255), "float64.*astype"),
        (dict(video=frames.transpose(0, 3, 1, 2)), "channels to the end"),
        (dict(video=frames[..., :1]), r"\(12, 96, 96, 1\)"), (dict(video=frames[..., [0, 1, 2, 0]]), r"RGB"), (dict(video=frames[0]), r"\(T,H,W,3\)"),
        (dict(video=frames[:0]), "shape"),
        (dict(video=frames, times=[1, 2]), "12 frames and times of shape"),
        (dict(video=frames, times=[0] * 12), "must rise"), (dict(video=frames, times=[np.inf] * 12), "must rise"),
        (dict(video=frames, times="soon"), "must be numbers"), (dict(video=frames, fps=-1), "positive"),
        (dict(video=frames, start=40), "No frame lies between"),
        (dict(concepts=[]), "no concept"), (dict(concepts=["a kite", "  "]), "Concept 2 of 2 is blank"),
        (dict(concepts=["a kite", "A  Kite"]), '"A Kite" is there twice'), (dict(concepts=[3]), "3 is no text"), (dict(concepts=""), "blank"),
        (dict(mask="padding"), "all.*sentence.*words"), (dict(temperature=0), "temperature=0"), (dict(temperature=None), "temperature=None"),
        (dict(model="no-such-model"), "no-such-model"), (dict(lexicon="no-such-lexicon"), "no-such-lexicon"),
        (dict(concepts=5), "concepts=5"), (dict(pretrained="none"), "loaded already.*pretrained="), (dict(device="nonsense"), "device="), (dict(precision="xx"), "precision="),
        (dict(template="a photo"), "a photo"), (dict(pool="median"), "median"), (dict(k=0), "k=0"), (dict(precision="int8"), "int8", "tiny"),
    ]

def test_bad_input_is_one_clear_sentence(folder, frames, tiny):
    for bad, words, *model in bad_inputs(folder, frames):
        with pytest.raises(ValueError, match=words) as caught: explain(**{**dict(video=frames, concepts=["a kite"], model=model[0] if model else tiny), **bad})
        assert type(caught.value).__module__.startswith("bike_nb."), (bad, caught.type)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400

def test_times_for_a_file_are_refused(film, tiny):
    with pytest.raises(ExplainError, match="times of its own"): explain(film, "a kite", tiny, times=[1, 2])

def test_numbers_that_are_not_finite_are_refused(frames):
    broken = load_encoder("tiny", device="cpu")
    with torch.no_grad(): next(broken.model.visual.parameters()).fill_(float("nan"))
    with pytest.raises(ExplainError, match="not finite"): explain(frames, "a kite", broken)


# What the model does not know

def test_words_never_taught_are_named_once_and_kept_out_of_retrieval(film, tiny):
    with pytest.warns(UserWarning) as caught: e = explain(film, ["a kite", "a zebra crossing"], tiny, lexicon=["kite", "zebra", "dog"])
    said = [str(w.message) for w in caught]
    assert sum("zebra crossing" in s for s in said) == 1 and all("never taught" in s for s in said)
    assert e.unknown == {"a zebra crossing": ["zebra", "crossing"]}
    assert "zebra" not in dict(e.attributes)
    assert "a zebra crossing (never taught)" in e.summary() and "a zebra crossing (never taught)" in e._repr_html_()
    assert any("zebra" in n for n in json.loads(e.to_json())["notes"])
    assert any(t.get_text() == "a zebra crossing ?" for t in e.plot().findobj(lambda a: hasattr(a, "get_text")))

def test_the_output_says_what_the_model_knows(found, film):
    assert found.notes == [] and not found.novelty.flagged and "novelty: 0." in str(found)  # a clip of its world; for others see test_novelty
    with pytest.warns(UserWarning, match="random"): e = explain(film, "a kite", "tiny", pretrained="none", device="cpu")
    assert any("random weights" in n for n in e.notes) and "random weights" in e.summary()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        newborn = load_encoder("tiny", "none", device="cpu")
    e = explain(film, "a kite", newborn)                               # loaded before, and asked for more later
    for x in (e, e.also("a tree")): assert ["random weights" in n for n in x.notes] == [True] and x.settings["pretrained"] == "none"

def test_numbers_of_any_kind(film, tiny):
    e = explain(film, "a kite", tiny, temperature=np.float32(.01), k=np.int64(3), num_frames=np.int64(4))
    assert strict(e.to_json())["settings"]["k"] == 3 and [strict(l)["qid"] for l in e.to_qvhighlights(qid=np.int64(3)).splitlines()] == [3]
    with pytest.raises(ExplainError, match="qid=None"): e.to_qvhighlights(qid=None)


# Files

def strict(text):
    def refuse(name): raise AssertionError(f"{name} in JSON")
    return json.loads(text, parse_constant=refuse)

def test_json(found, tmp_path):
    path = found.to_json(tmp_path/"a.json")
    data = strict(path.read_text(encoding="utf-8"))
    assert list(data) == KEYS and path.read_text(encoding="utf-8") == found.to_json()
    assert np.shape(data["saliency"]) == np.shape(data["cosine"]) == np.shape(data["rank"]) == (3, 16)
    np.testing.assert_allclose(np.sum(data["saliency"], 1), 1, atol=1e-4)
    np.testing.assert_allclose(data["saliency"], found.saliency, rtol=1e-5)
    assert data["attributes"][0] == dict(name=found.attributes[0][0], score=pytest.approx(found.attributes[0][1], rel=1e-5))
    assert data["video"].endswith("kite.mp4") and data["model"] == "tiny" and data["settings"]["temperature"] == .01
    assert [len(w) for w in data["windows"]] == [len(w) for w in found.windows]

def test_json_of_names_in_any_script(frames, tiny, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        e = explain(frames, ['凧揚げ "kite"', "=SUM(A1)"], tiny)
    text = e.to_json(tmp_path/"凧.json").read_text(encoding="utf-8")
    assert "凧揚げ" in text and strict(text)["concepts"] == ['凧揚げ "kite"', "=SUM(A1)"]
    assert not any(cell.startswith("=") for cell in next(csv.reader(io.StringIO(e.to_csv()))))
    e.plot(), e._repr_png_()

def test_a_file_is_written_whole_or_not_at_all(found, tmp_path, monkeypatch):
    path = tmp_path/"a.json"; path.write_text("old")
    def full(*a): raise OSError(28, "No space left on device")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ExplainError, match="a.json cannot be written .No space left"): found.to_json(path)
    monkeypatch.undo()
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.json"]
    found.to_json(path); found.to_csv(tmp_path/"a.csv"); found.to_qvhighlights(tmp_path/"a.jsonl")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "a.json", "a.jsonl"]

def test_where_nothing_can_be_written_a_sentence_says_so(found, tmp_path):
    (tmp_path/"afile").write_text("x")
    for path in (tmp_path/"afile"/"x.json", tmp_path/("x" * 300), tmp_path, tmp_path/"a\0b"):
        with pytest.raises(ExplainError, match="cannot be written"): found.to_json(path)
    for path in ("", "."):
        with pytest.raises(ExplainError, match="names no file"): found.to_json(path)
    assert found.to_json(tmp_path/("x" * 245 + ".json")).stat().st_size and len(list(tmp_path.iterdir())) == 2  # as long as a name can be

def test_csv(found):
    head, *rows = csv.reader(io.StringIO(found.to_csv()))
    assert head == ["time", *(f"{s}: {c}" for c in found.concepts for s in ("weight", "cosine", "rank"))]
    table = np.array(rows, float)
    np.testing.assert_allclose(table[:, 0], found.times, rtol=1e-5)
    np.testing.assert_allclose(table[:, 1::3].T, found.saliency, rtol=1e-5)
    np.testing.assert_array_equal(table[:, 3::3].T, found.rank)

def test_qvhighlights(found):
    lines = [strict(line) for line in found.to_qvhighlights(vid="abc_0.0_6.0", qid=[7, 8, 9]).splitlines()]
    assert [(l["qid"], l["vid"], l["query"]) for l in lines] == [(q, "abc_0.0_6.0", c) for q, c in zip((7, 8, 9), found.concepts)]
    for line in lines:
        scores = [w[2] for w in line["pred_relevant_windows"]]
        assert line["pred_relevant_windows"] and scores == sorted(scores, reverse=True)
        assert all(0 <= a < b <= 6 for a, b, _ in line["pred_relevant_windows"])
        assert len(line["pred_saliency_scores"]) == 3  # two seconds each
    assert [json.loads(l)["qid"] for l in found.to_qvhighlights(qid=5).splitlines()] == [5, 6, 7]

def test_qvhighlights_needs_seconds(frames, tiny):
    with pytest.raises(ExplainError, match="seconds"): explain(frames, "a kite", tiny).to_qvhighlights()

def test_two_second_scores():
    assert score_seconds(np.array([.1, .2, .3, .4]), [0, 1, 2, 3], 4.) == pytest.approx([.15, .35])
    assert score_seconds(np.array([.5, .5]), [1., 9.], 10.) == pytest.approx([.5] * 5)
    assert len(score_seconds(np.array([1.]), [.5], 1.)) == 1
    assert score_seconds(np.array([.1, .6, .2, .1]), [-4., 5., 5.5, 7.], 8., start=4) == pytest.approx([.1, .1, .4, .1])

def test_seconds_that_nobody_looked_at_rank_last(film, tiny):
    line, = explain(film, "a kite", tiny, start=4, end=6, num_frames=4).to_qvhighlights().splitlines()
    before, between, seen = strict(line)["pred_saliency_scores"]
    assert before == between < seen

def test_windows():
    edges = frame_edges([1, 2, 4, 5], 0, 6)
    assert edges.tolist() == [0, 1.5, 3, 4.5, 6]
    assert find_windows(np.array([.1, .3, .3, .1]), edges) == [(1.5, 4.5)]
    assert find_windows(np.array([.3, .1, .1, .3]), edges) == [(0, 1.5), (4.5, 6)]
    assert find_windows(np.array([.2, .2, .2, .2]), edges) == []


# The table

def test_the_table_lines_up(found):
    lines = found.summary().splitlines()
    start = lines.index(next(l for l in lines if l.startswith("concept")))
    column = lines[start].index("shows most")
    for line in lines[start + 1:start + 4]: assert re.fullmatch(r"[\d.–, s]+|equally in all frames", line[column:]) and line[column - 1] == " "
    assert all(f"{s:.3f}" in found.summary() for s in found.scores)
    assert str(found) == found.summary()

def test_long_and_wide_names_in_the_table(frames, tiny):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = explain(frames, ["凧揚げをする人", "x" * 200], tiny).summary().splitlines()[3:6]
    assert rows[1].startswith("凧揚げをする人") and rows[2].startswith("x" * 39 + "… (never taught)")
    assert max(map(len, rows)) < 110


# The picture

def texts(fig):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    renderer = FigureCanvasAgg(fig).get_renderer()
    fig.draw(renderer)
    shown = [t for t in fig.findobj(lambda a: type(a).__name__ in ("Text", "Annotation")) if t.get_visible() and t.get_text().strip()]
    return [(t.get_text(), t.get_window_extent(renderer)) for t in shown]

def made_up(n, T, shape=(96, 96), name="concept number {} of many", times=None):
    rng = np.random.default_rng(n * 1000 + T)
    cosine = rng.uniform(.1, .3, (n, T)); weight = np.exp(cosine / .02); weight /= weight.sum(1, keepdims=True)
    times = np.sort(rng.uniform(0, 9, T)) if times is None else times
    settings = dict(start=0., end=9., unit="s")
    return Explanation("some/where/clip.mp4", "tiny", settings, times, [name.format(i) for i in range(n)], cosine.max(1), cosine.mean(1), cosine, weight,
                       [(f"attribute {i}", .3 - i / 50) for i in range(5)], rng.integers(0, 255, (T, *shape, 3), np.uint8), notes=["a note " * 20])

@pytest.mark.parametrize("n,T,shape,name", [(1, 4, (96, 96), "a {}"), (8, 16, (96, 96), "concept number {} of many"), (8, 64, (54, 96), "{} word" + " and a long name" * 9), (2, 1, (96, 96), "{}"),
                                            (9, 16, (170, 96), "row {}"), (40, 64, (96, 96), "row {} of a long list"), (55, 4, (54, 96), "row {}"), (3, 200, (1, 300), "$x_{}^$ \\frac")])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_cut_off_and_no_name_covers_another(n, T, shape, name, dark):
    e = made_up(n, T, shape, name)
    fig = e.plot(truth={e.concepts[0]: [(1, 4)], "elsewhere": [(0, 1)]}, dark=dark)
    boxes, (width, height) = texts(fig), fig.canvas.get_width_height()
    for text, box in boxes: assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, text
    names = [b for t, b in boxes if t.split(" ?")[0].rstrip("…")[:12] in {c[:12] for c in e.concepts} and b.x0 > width * .6]
    assert len(names) == min(n, 40)
    for i, a in enumerate(names):
        for b in names[:i]: assert min(a.y1, b.y1) - max(a.y0, b.y0) < 3, "two names overlap"

@pytest.mark.parametrize("name", ["MOWING A LAWN MOWER {}", "W" * 24 + "{}", "SWIMMING WITH MAMMALS {}", "凧揚げをする人" * 9 + "{}"])
@pytest.mark.parametrize("n,size", [(2, 10), (12, 10), (2, 7), (2, 14)])
def test_wide_letters_are_not_cut_either(name, n, size):
    e = made_up(n, 16, name=name)
    e.unknown = {e.concepts[0]: ["x"]}
    e.notes = [f'tiny was never taught 凧揚げ: the numbers for "{name.format(1)}", "{name.format(2)}" mean nothing.']
    fig = e.plot(width=size)
    width = fig.canvas.get_width_height()[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        boxes = texts(fig)
    assert not [(t, round(b.x1 - width)) for t, b in boxes if b.x1 > width] and any(t.endswith(" ?") for t, _ in boxes)

def test_a_lane_is_measured_by_what_fits_the_clip_best(found, film, tiny):
    alone = found.without("flying a kite", "a person")               # the red car that is not there
    assert scaled_cosine(alone).max() < .2 and best_frames(alone) == {}
    boat = explain(film, ["a boat"], tiny)
    assert boat.cosine.max() < 0 and scaled_cosine(boat).max() == 0 and best_frames(boat) == {}
    for high in (-.5, boat.cosine.max(), -1e-9):                        # nothing fits, not even an attribute: never turned round
        boat.attributes = [("kite", float(high))]
        lane = scaled_cosine(boat)
        assert np.isfinite(lane).all() and ((0 <= lane) & (lane <= 1)).all() and (np.diff(lane[0][np.argsort(boat.cosine[0])]) >= 0).all()

def test_what_cannot_be_drawn_is_said_before(found):
    for truth in ([(0, 1)], {"a person": (0, 1)}, {"a person": [(2, 1)]}, 3):
        for draw in (found.plot, found.widget, found.to_html):
            with pytest.raises(ExplainError, match="does not say when"): draw(truth=truth)
    for size in (3, "10", None, float("nan")):
        with pytest.raises(ExplainError, match="from 7 to 40"): found.plot(width=size)

def test_pictures_of_the_strip_stand_apart_and_in_order():
    e = made_up(2, 24, times=np.sort(np.random.default_rng(0).uniform(0, 9, 24)))
    strip = e.plot().axes[0]
    tiles = [im.get_extent() for im in strip.images]
    assert len(tiles) == 24
    for row in {round(t[2], 3) for t in tiles}:
        edges = [t[:2] for t in tiles if round(t[2], 3) == row]
        assert all(a[1] <= b[0] + 1e-6 for a, b in zip(edges, edges[1:]))
        assert edges[0][0] >= -1e-6 and edges[-1][1] <= 9 + 1e-6

def test_true_time_axis(found):
    curves = found.plot().axes[1]
    assert any(np.array_equal(line.get_xdata(), found.times) for line in curves.lines)
    assert curves.get_xlim() == (0, 6)

def test_strip_layout_and_spread():
    for T in (1, 2, 4, 16, 33, 64, 500):
        for shape in (9 / 16, 1, 16 / 9, 4):
            rows, n, height = strip_layout(T, shape, 6.9)
            assert 1 <= n <= max(T, 2) and .4 <= height <= 1.1 and (-(-n // rows) * height * shape <= 6.95 or shape == 4)
    rng = np.random.default_rng(0)
    for _ in range(50):
        wishes = np.sort(rng.uniform(0, 10, 7)); places = spread(wishes, 1., 0., 10.)
        assert (np.diff(places) > 1 - 1e-9).all() and places[0] >= .5 - 1e-9 and places[-1] <= 9.5 + 1e-9

def test_the_picture_does_not_depend_on_the_users_style(found):
    import matplotlib
    plain = png(found.plot())
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "lines.linewidth": 9, "axes.grid": True}): assert png(found.plot()) == plain

def test_png_and_html(found):
    image = found._repr_png_()
    assert image[:8] == b"\x89PNG\r\n\x1a\n" and len(image) < 300_000
    assert Image.open(io.BytesIO(image)).convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    html = found._repr_html_()
    assert html.count("<img") == 1 and '<img src="data:image/png;base64,' in html and "prefers-color-scheme" in html
    assert "http" not in html and "<script" not in html and len(html) < 400_000

def test_noise_is_the_worst_picture_and_still_small():
    assert len(made_up(3, 16)._repr_png_()) < 300_000

def test_html_shows_names_as_text(frames, tiny):
    names = ["<img src=x onerror=alert(1)>", "\"'><script>alert(2)</script>", "& &lt;"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        html = explain(frames, names, tiny)._repr_html_()
    tags, text = [], []
    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs): tags.append(tag)
        def handle_data(self, data): text.append(data)
    Reader().feed(html)
    assert tags.count("img") == 1 and "script" not in tags
    assert all(any(n in t for t in text) for n in names)

def test_light_and_without_global_state(film):
    code = f"""
import sys, bike_nb.explain
assert not {{"torch", "matplotlib", "open_clip"}} & set(sys.modules), "heavy import"
e = bike_nb.explain.explain({str(film)!r}, ["a kite"], num_frames=4, device="cpu")
e.plot(); e._repr_html_()
assert "matplotlib.pyplot" not in sys.modules, "pyplot"
import matplotlib; assert matplotlib.rcParams["font.size"] == 10
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
