"The viewer's maths in the browser: its own tests under node, and the same numbers and words as Python."
import base64, json, math, os, re, shutil, subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bike_nb import world
from bike_nb.encoder import load_encoder
from bike_nb.explain import Evidence, choose_frames, clock, explain, find_windows, frame_edges, number, scaled_cosine, spell_window, spell_windows, spread
from bike_nb.spotting import concept_spotting, mean_pooling, saliency
from bike_nb.video import write_video
from bike_nb.widgets import panel

JS = Path(__file__).parent/"js"
STATIC = Path(__file__).parents[1]/"bike_nb"/"static"
CLIPS = Path(__file__).parents[2]/"shared"/"clips"
KINDS = {"all": "stwep", "sentence": "stwe", "words": "w"}  # that vote
NAMES = ["flying a kite", "a person", "a red car"]

@pytest.fixture(scope="session")
def node():
    "The command; missing, it is a failure only where it is required."
    if found := shutil.which("node"): return found
    (pytest.fail if os.environ.get("BIKE_NB_REQUIRE_BROWSER") == "1" else pytest.skip)("node is not installed: the viewer's maths stays untested")

@pytest.fixture
def ask(node, tmp_path):
    "Answers of maths.js to many calls (name, *arguments), by one process."
    def ask(calls):
        (tmp_path/"calls.json").write_text(json.dumps([(name, given) for name, *given in calls], allow_nan=False), encoding="utf-8")
        done = subprocess.run([node, str(JS/"run.mjs"), str(tmp_path/"calls.json")], capture_output=True, timeout=120, encoding="utf-8")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
    return ask

def test_under_node(node):
    done = subprocess.run([node, "--test", *map(str, sorted(JS.glob("*.test.mjs")))], capture_output=True, timeout=300, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert int(re.search(r"^\S+ pass (\d+)$", done.stdout, re.M)[1]) > 30

def test_the_module_can_stand_in_a_page():
    text = (STATIC/"maths.js").read_text(encoding="utf-8")
    assert not re.search(r"</script|<!--|export default|^import\b|document|window\.", text, re.M | re.I)


# Concept spotting

def b64(x): return base64.b64encode(np.ascontiguousarray(x, "<f4").tobytes()).decode()

def kinds(rng, L):
    "A layout of L tokens as prompts have it; at least one is the concept's own."
    if L < 4: return "w" * L
    words = rng.integers(1, L - 2); before = rng.integers(0, L - 1 - words); after = rng.integers(0, L - 1 - words - before)
    return ("s" + "t" * before + "w" * words + "t" * after + "e").ljust(L, "p")

def random_case(rng, C, T, L, tau, mask, dtype, D=64):
    "What `look` gets, and the saliency (C,T), scores and mean scores (C,) of Python."
    tokens, frames, classes = (torch.tensor(rng.normal(size=s) + .3, dtype=dtype) for s in ((C, L, D), (T, D), (C, D)))
    frames = frames * torch.tensor(rng.uniform(.5, 2, (T, 1)), dtype=dtype)
    layout, chosen = [kinds(rng, L) for _ in range(C)], {}
    on = {k: mask == "single" or k in KINDS.get(mask, "") for k in "stwep"}
    if mask == "single": chosen = {str(j): bool(rng.random() < .5) for j in range(1, L)} | {"0": True}
    if mask == "one": chosen = {str(rng.integers(L)): True}
    votes = torch.tensor([[chosen.get(str(j), on[k]) for j, k in enumerate(row)] for row in layout])
    unit = lambda x: F.normalize(x.double(), dim=-1)
    norms = frames.double().norm(dim=1)
    mean = norms / (norms @ unit(frames)).norm()
    data = dict(mean=b64(mean), concepts=[dict(cosine=b64(unit(c) @ unit(frames).T), tokens=b64(unit(t) @ unit(frames).T), kinds=k) for c, t, k in zip(classes, tokens, layout)])
    want = saliency(tokens, frames[None], tau, votes)[:, 0], concept_spotting(frames[None], tokens, classes, tau, votes)[0], mean_pooling(frames[None], classes)[0]
    return (data, tau, on, chosen), [x.numpy() for x in want]

def agree(answer, weights, scores, means):
    "Saliency, scores, mean scores and ranking are the same to 1e-5."
    np.testing.assert_allclose([f["saliency"] for f in answer["found"]], weights, rtol=0, atol=1e-5)
    np.testing.assert_allclose([f["score"] for f in answer["found"]], scores, rtol=0, atol=1e-5)
    np.testing.assert_allclose([f["mean"] for f in answer["found"]], means, rtol=0, atol=1e-5)
    order = np.argsort(-np.asarray(scores), kind="stable")
    assert sorted(answer["order"]) == list(range(len(scores)))
    if len(scores) > 1 and np.diff(np.sort(scores)).min() > 2e-5: assert answer["order"] == order.tolist()
    else: np.testing.assert_allclose(scores[answer["order"]], scores[order], rtol=0, atol=2e-5)

def test_spotting_of_random_cases(ask):
    rng, cases = np.random.default_rng(0), []
    for tau in (.005, .01, .02, .1, .3, 1):
        for mask in (*KINDS, "single", "one"):
            for C, T, L in ((1, 1, 1), (1, 5, 3), (3, 16, 12), (5, 64, 77)): cases.append(random_case(rng, C, T, L, tau, mask, torch.float32 if len(cases) % 2 else torch.float64))
    distinct = [c for c in cases if len(c[1][1]) > 2 and np.diff(np.sort(c[1][1])).min() > 2e-5]
    assert len(distinct) > 50  # the ranking is put to the test
    for answer, (_, want) in zip(ask([("look", *given) for given, _ in cases]), cases): agree(answer, *want)

def test_without_votes_there_is_no_saliency(ask):
    (data, tau, *_), _ = random_case(np.random.default_rng(0), 2, 5, 6, .01, "all", torch.float32)
    answer, = ask([("look", data, tau, {}, {})])
    assert [(f["saliency"], f["score"]) for f in answer["found"]] == [(None, None)] * 2

@pytest.fixture(scope="module")
def tiny(): return load_encoder("tiny", device="cpu")

def made(tmp_path):
    "A clip of the miniature world."
    script = world.sample_clip(4, "flying a kite", cut=True)
    return write_video(tmp_path/"kite.mp4", world.render(script, np.arange(48) / 8), fps=8)

def compare_clip(ask, clip, tiny):
    "What a panel of the viewer says, and what Python says, for all masks and some temperatures; and of a concept that is not there."
    found = [explain(clip, NAMES, tiny, temperature=tau, mask=mask, template="a photo of {}") for mask in KINDS for tau in (.005, .01, .07, 1)]
    calls = [("look", panel(e), e.settings["temperature"], {k: k in KINDS[e.settings["mask"]] for k in "stwep"}, {}) for e in found]
    for answer, e in zip(ask(calls), found): agree(answer, e.saliency, e.scores, e.mean_scores)
    compare_words(ask, [*found, found[0].without(*NAMES[:2])])

def test_spotting_of_a_rendered_clip(ask, tiny, tmp_path): compare_clip(ask, made(tmp_path), tiny)

@pytest.mark.skipif(not CLIPS.is_dir(), reason="no real clips here (../shared/clips)")
@pytest.mark.filterwarnings("ignore")
def test_spotting_of_a_real_clip(ask, tiny): compare_clip(ask, CLIPS/"arm_wrestling.mp4", tiny)


# Windows, words and numbers

def compare_words(ask, answers):
    "Edges, windows and their words, the strip's frames and the lanes' cosines, for many `Evidence`."
    calls = []
    for e in answers:
        length, unit, times = float(e.edges[-1]), e.settings["unit"], e.times.tolist()
        cosine = [dict(f32=c.tolist()) for c in e.cosine]
        calls += [("frameEdges", times, e.settings["start"], e.settings["end"]), ("scaledCosine", cosine, max((s for _, s in e.attributes), default=-9)),
                  *(("chooseFrames", [dict(f64=s.tolist()) for s in e.saliency], n) for n in (1, 3, 8, len(times))),
                  *(("findWindows", c, e.edges.tolist()) for c in cosine), *(("spellWindows", w, length, unit, times) for w in e.windows),
                  *(("spellWindow", w, length, unit, times) for ws in e.windows for w in ws)]
    got = iter(ask(calls))
    for e in answers:
        assert next(got) == e.edges.tolist()
        np.testing.assert_allclose(next(got), scaled_cosine(e), rtol=0, atol=1e-5)
        for n in (1, 3, 8, len(e.times)): assert next(got) == choose_frames(e.saliency.astype(float), n).tolist()
        for w in e.windows: assert [tuple(w) for w in next(got)] == w
        for i in range(len(e.concepts)): assert next(got) == spell_windows(e, i)
        for ws in e.windows:
            for w in ws: assert next(got) == spell_window(w, e)

def made_up(rng, C, T, length, unit):
    "`Evidence` of random numbers, many of them equal."
    times = np.arange(T, dtype=float) + 7 if unit == "frame" else np.sort(rng.uniform(0, length, T))
    start, end = (6.5, T + 6.5) if unit == "frame" else (0., length)
    cosine = rng.uniform(-.2, .5, (C, T)).astype("f4")
    if rng.random() < .7: cosine = np.round(cosine * 10) / np.float32(10)
    if rng.random() < .2: cosine[:] = cosine[0, 0]
    weights = np.exp(cosine / .05)
    return Evidence("clip", "tiny", dict(start=start, end=end, unit=unit), times, [f"c{i}" for i in range(C)], None, None, cosine, weights / weights.sum(1, keepdims=True), [])

def test_windows_and_words_of_random_cases(ask):
    rng = np.random.default_rng(1)
    shapes = [(1, 1), (2, 2), (3, 7), (4, 16), (2, 64), (1, 300)]
    answers = [made_up(rng, C, T, length, unit) for _ in range(6) for C, T in shapes for length, unit in ((1.5, "s"), (6., "s"), (120., "s"), (500., "s"), (9000., "s"), (0, "frame"))]
    assert {len(w) for e in answers for w in e.windows} >= {0, 1, 2, 3, 4}
    compare_words(ask, answers)

def test_windows_of_another_share_and_of_nan(ask):
    rng, edges = np.random.default_rng(2), frame_edges(np.arange(9), -.5, 8.5)
    cosines, shares = [*np.round(rng.uniform(0, 1, (20, 9)), 1).astype("f4"), np.full(9, np.nan, "f4")], (.25, .5, .9)
    got = iter(ask([("findWindows", dict(f32=[None if math.isnan(v) else v for v in c.tolist()]), edges.tolist(), s) for c in cosines for s in shares]))
    for c in cosines:
        for s in shares: assert [tuple(w) for w in next(got)] == find_windows(c, edges, s)

def test_numbers(ask):
    rng = np.random.default_rng(3)
    numbers = [0., -0., *(s * k / 2**n for s in (1, -1) for n in range(1, 9) for k in range(1, 300, 7)), *(s * x for s in (1, -1) for x in (.0005, .00049, .0015, .0025, .9995, .99949, 1.005, 2.675, 1e-12, 1e-300)),
               *rng.uniform(-1, 1, 2000), *rng.normal(size=500) * 1e6, *rng.uniform(-1, 1, 500).astype("f4"), *np.round(rng.uniform(-1, 1, 2000), 4)]
    calls = [("number", float(x), d) for x in numbers for d in (0, 1, 2, 3, 4)]
    for (_, x, d), got in zip(calls, ask(calls)): assert got == number(x, d), (x, d)
    assert ask([("number", .12345)]) == ["0.123"]

def test_clocks(ask):
    rng = np.random.default_rng(4)
    times = [0., .05, .25, .75, 1.995, 2., 59.95, 59.999, 60., 119.95, 120.25, 3599.99, 3600., 3661., 36000.5, -.25, -.3, -5., *rng.uniform(0, 9000, 300), *np.arange(0, 10, .125)]
    calls = [("clock", float(t), length) for t in times for length in (1, 1.99, 2, 120, 120.5, 3600, 90000)]
    for (_, t, length), got in zip(calls, ask(calls)): assert got == clock(t, length), (t, length)

def test_spread(ask):
    rng, cases = np.random.default_rng(5), [([1., 1., 1., 5.], 1., 0., 10.), ([5.], 3., 0., 1.), ([0.] * 5, 1., 0., 3.)]
    for _ in range(200): cases.append((np.sort(np.round(rng.uniform(-1, 11, rng.integers(1, 9)), rng.integers(0, 4))).tolist(), rng.uniform(.1, 3), 0., 10.))
    for case, got in zip(cases, ask([("spread", *c) for c in cases])): np.testing.assert_allclose(got, spread(*case), rtol=0, atol=1e-9)
