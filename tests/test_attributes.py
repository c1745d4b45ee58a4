"Video to text: lexicons, their cached embeddings, exact retrieval, sentences and the official attributes file."
import hashlib, json, os, stat, subprocess, sys, textwrap, threading, warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import bike_nb.attributes as A
from bike_nb.attributes import Lexicon, LexiconError, associate, attribute_sentence, read_attributes, read_lexicon, write_attributes

HERE = Path(__file__).parent
OFFICIAL_LABELS = HERE.parents[1]/"shared"/"official"/"lists"/"k400"


class FakeEncoder:
    "Embeddings by content hash of the text, not normalized, in the interface of `bike_nb.encoder.Encoder`."
    def __init__(self, dim=16, fingerprint="fake", precision="fp32", unknown=(), nan=()):
        self.name, self.dim, self.fingerprint, self.precision = "fake", dim, fingerprint, precision
        self.unknown, self.nan, self.texts, self.blocks = set(unknown), set(nan), [], []
    def encode_classes(self, texts):
        self.texts += texts; self.blocks.append(len(texts))
        seeds = [int.from_bytes(hashlib.sha256((self.fingerprint + t).encode()).digest()[:4], "little") for t in texts]
        e = torch.tensor(np.stack([np.random.RandomState(s).randn(self.dim) for s in seeds])*3, dtype=torch.float32)
        for i, t in enumerate(texts):
            if t in self.nan: e[i, 0] = float("nan")
        return e
    def unknown_words(self, names):
        found = {n: [w for w in n.split() if w in self.unknown] for n in names}
        return {n: ws for n, ws in found.items() if ws}


class Indexed(FakeEncoder):
    "Embeddings by row of a table; the phrases are `phrase 0`, `phrase 1`, …"
    def __init__(self, table): super().__init__(table.shape[1]); self.table = table
    def encode_classes(self, texts): self.blocks.append(len(texts)); return self.table[[int(t.split()[1]) for t in texts]]
    def unknown_words(self, names): return {}


def indexed(table, cache_dir=False):
    lexicon = Lexicon([f"phrase {i}" for i in range(len(table))], name="table")
    lexicon.encode(Indexed(table), cache_dir)
    return lexicon

def randn(*shape, seed=0): return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))

def brute(videos, table, k, pool):
    "Float64, every cosine, sorted stably: the definition."
    v, w = videos.double(), F.normalize(table.double(), dim=-1)
    if pool == "mean": scores = F.normalize(v.mean(1), dim=-1) @ w.T
    else: scores = torch.stack([(F.normalize(x, dim=-1) @ w.T).max(0).values for x in v])
    values, index = scores.sort(dim=1, descending=True, stable=True)
    return values[:, :k], index[:, :k]

def assert_found(found, values, index, tolerance=1e-6):
    assert [[int(n.split()[1]) for n, _ in f] for f in found] == index.tolist()
    assert np.abs(np.array([[s for _, s in f] for f in found]) - values.numpy()).max() < tolerance


# ---------------------------------------------------------------- lexicon files
def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path

@pytest.mark.parametrize("content", [
    "dog\ncat\nred  kite\n", "dog\r\ncat\r\nred kite\r\n", "dog\rcat\rred kite", b"\xef\xbb\xbfdog\ncat\nred kite",
    "# pets\n\n dog \n\t\ncat # not a dog\n#comment\nred\tkite\n", "dog\ncat\nDOG\nCat \nred kite\ndog\n"])
def test_file_forms(tmp_path, content):
    assert read_lexicon(write(tmp_path/"l.txt", content)) == ["dog", "cat", "red kite"]

def test_file_keeps_first_spelling_order_and_letters(tmp_path):
    path = write(tmp_path/"l.txt", "Straße\nCafé au lait\nSTRASSE\ncafé au lait\nC# code\n犬\n")
    assert read_lexicon(path) == ["Straße", "Café au lait", "C# code", "犬"]

@pytest.mark.parametrize("content, where", [
    (b"", "no phrase"), ("\n \n# only a comment\n", "no phrase"), (b"\xef\xbb\xbf", "no phrase"),
    (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "binary"), ("dog\ncat\n".encode("utf-16"), "UTF-16"),
    ("dog\ncafé\n".encode("latin-1"), "line 2"), ("dog\r\n\r\ncafé\n".encode("latin-1"), "line 3"),
    ("dog\rcat\rcafé".encode("latin-1"), "line 3"), ("dog\nki\x1bte\n", "line 2"), ("dog\n" + "x"*501, "line 2"),
    (b"\xff\xd8\xff\xe0JFIF", "line 1")])
def test_file_errors_name_file_and_line(tmp_path, content, where):
    path = write(tmp_path/"words.txt", content)
    with pytest.raises(LexiconError, match=where) as e: Lexicon.load(path)
    assert str(path) in str(e.value) and "\n" not in str(e.value)

def test_missing_folder_and_typo(tmp_path):
    with pytest.raises(LexiconError, match="no lexicon file .*none.txt"): Lexicon.load(tmp_path/"none.txt")
    with pytest.raises(LexiconError, match="is a folder"): Lexicon.load(str(tmp_path))
    with pytest.raises(LexiconError, match="imagenet, kinetics400, world"): Lexicon.load("imagnet")
    with pytest.raises(LexiconError, match="cannot be read|no lexicon file"): Lexicon.load("a\0b.txt")

def test_load_of_files_and_lists(tmp_path, monkeypatch):
    write(tmp_path/"birds", "owl\n"); write(tmp_path/"imagenet", "not imagenet\n")
    monkeypatch.chdir(tmp_path)
    assert (Lexicon.load("birds").names, Lexicon.load("birds").name) == (["owl"], "birds")
    assert Lexicon.load("./imagenet").names == ["not imagenet"]
    assert Lexicon.load(["a", "b", "A"], template="x {}").texts == ["x a", "x b"]
    assert Lexicon.load(n for n in "ab").names == ["a", "b"]
    lexicon = Lexicon(["a"])
    assert Lexicon.load(lexicon) is lexicon

@pytest.mark.parametrize("bad, message", [("dog", "give a list"), (None, "is None: give a list"), (5, "is 5: give a list"), ([], "no phrase"), ([" "], "no phrase"), (["a", None], "None, which is not"), ([b"a"], "not a phrase")])
def test_bad_names(bad, message):
    with pytest.raises(LexiconError, match=message): Lexicon(bad)

@pytest.mark.parametrize("template", ["", "a photo", "{} {}", "{0}", None, 3])
def test_bad_templates(template):
    with pytest.raises(LexiconError, match="exactly once"): Lexicon(["dog"], template)

def test_templates_with_other_braces_and_percent():
    assert Lexicon(["a{b}", "50%"], "{x} {} %s").texts == ["{x} a{b} %s", "{x} 50% %s"]

def test_builtin_lists():
    from open_clip import IMAGENET_CLASSNAMES
    imagenet, kinetics = Lexicon.load("imagenet"), Lexicon.load("kinetics400")
    assert set(imagenet) == set(IMAGENET_CLASSNAMES) and len(imagenet) == 998
    assert len(kinetics) == 400 and kinetics.names[0] == "abseiling" and kinetics.name == "kinetics400"

@pytest.mark.skipif(not (Path(A.__file__).parent/"lexicons"/"world.txt").exists(), reason="bike_nb/lexicons/world.txt is not there")
def test_world_lexicon():
    lexicon = Lexicon.load("world")
    assert lexicon.name == "world" and len(lexicon) >= 20 and len({n.casefold() for n in lexicon}) == len(lexicon)

@pytest.mark.skipif(not OFFICIAL_LABELS.exists(), reason="the official lists are not beside this checkout")
def test_kinetics_names_are_the_official_ones():
    import csv
    path = next(OFFICIAL_LABELS.glob("*labels.csv"))
    with open(path, newline="", encoding="utf-8") as f: official = [row["name"] for row in csv.DictReader(f)]
    assert Lexicon.load("kinetics400").names == [" ".join(n.split()) for n in official]

def test_import_is_light():
    code = "import sys, bike_nb.attributes; print([m for m in ('open_clip', 'torchvision', 'matplotlib', 'fastcore') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# ---------------------------------------------------------------- encoding
def test_embeddings_are_the_normalized_prompts():
    encoder, lexicon = FakeEncoder(), Lexicon(["dog", "cat"], "a photo of {}.")
    e = lexicon.encode(encoder, cache_dir=False)
    assert encoder.texts == ["a photo of dog.", "a photo of cat."]
    assert torch.equal(e, F.normalize(FakeEncoder().encode_classes(encoder.texts[:2]), dim=-1)) and e is lexicon.embeddings
    assert lexicon.encode(encoder, cache_dir=False) is e and encoder.blocks == [2]

def test_encoding_in_blocks_is_the_same():
    lexicon, encoder = Lexicon([f"w{i}" for i in range(50)]), FakeEncoder(unknown=["w7", "w49"])
    whole, known = A._embed(lexicon, encoder)
    encoder.blocks = []
    parts, known_again = A._embed(lexicon, encoder, block=9)
    assert torch.equal(whole, parts) and torch.equal(known, known_again)
    assert encoder.blocks == [9, 9, 9, 9, 9, 3] and (whole[[7, 49]] == 0).all()

def test_another_model_replaces_the_embeddings():
    lexicon = Lexicon(["dog", "cat"])
    one, two = (lexicon.encode(FakeEncoder(fingerprint=f), cache_dir=False) for f in "ab")
    assert not torch.equal(one, two) and lexicon.embeddings is two

def test_half_precision_embeddings_become_float32():
    class Half(FakeEncoder):
        def encode_classes(self, texts): return super().encode_classes(texts).bfloat16()
    e = Lexicon(["dog", "cat"]).encode(Half(precision="bf16"), False)
    assert e.dtype == torch.float32 and torch.allclose(e.norm(dim=1), torch.ones(2), atol=1e-6)

@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_embeddings_that_are_not_finite(value, tmp_path):
    with pytest.raises(LexiconError, match='"a cat" is not finite'): Lexicon(["dog", "cat"], "a {}").encode(FakeEncoder(nan=["a cat"]), tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- cache
def fill(folder, **kw):
    encoder = FakeEncoder(**kw); lexicon = Lexicon(["dog", "cat", "owl"], "a {}")
    return lexicon.encode(encoder, cache_dir=folder), encoder

def test_cache_is_used_and_exact(tmp_path):
    (first, one), (second, two) = fill(tmp_path/"new"/"folder"), fill(tmp_path/"new"/"folder")
    assert torch.equal(first, second) and (len(one.blocks), len(two.blocks)) == (1, 0)
    assert [p.suffix for p in (tmp_path/"new"/"folder").iterdir()] == [".safetensors"]

def test_cache_depends_on_everything_but_the_name(tmp_path):
    variants = [dict(), dict(names=["dog", "owl", "cat"]), dict(names=["dog", "cat", "Owl"]), dict(template="the {}"), dict(fingerprint="b"), dict(precision="bf16")]
    for v in variants:
        v = dict(v); lexicon = Lexicon(v.pop("names", ["dog", "cat", "owl"]), v.pop("template", "a {}"), name=str(v))
        encoder = FakeEncoder(**v); lexicon.encode(encoder, tmp_path)
        assert len(encoder.blocks) == 1
    assert len(list(tmp_path.iterdir())) == len(variants)
    encoder = FakeEncoder(); Lexicon(["dog", "cat", "owl"], "a {}", name="other").encode(encoder, tmp_path)
    assert encoder.blocks == []

def damage_truncate(p): p.write_bytes(p.read_bytes()[:-40])
def damage_empty(p): p.write_bytes(b"")
def damage_text(p): p.write_text("nothing like a tensor")
def damage_bit(p): b = bytearray(p.read_bytes()); b[-1] ^= 1; p.write_bytes(b)
def damage_folder(p): p.unlink(); p.mkdir()
def damage_other(p):
    "A whole and valid cache file, but of another lexicon."
    Lexicon(["x", "y", "z"]).encode(FakeEncoder(), p.parent/"o"); os.replace(next((p.parent/"o").iterdir()), p)

@pytest.mark.parametrize("damage", [damage_truncate, damage_empty, damage_text, damage_bit, damage_other])
def test_damaged_cache_is_computed_again_and_mended(tmp_path, damage):
    first, _ = fill(tmp_path)
    damage(next(tmp_path.glob("*.safetensors")))
    with pytest.warns(UserWarning, match="damaged"): again, encoder = fill(tmp_path)
    assert torch.equal(first, again) and len(encoder.blocks) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        third, encoder = fill(tmp_path)
    assert torch.equal(first, third) and encoder.blocks == []

def test_cache_file_that_is_a_folder(tmp_path):
    first, _ = fill(tmp_path)
    damage_folder(next(tmp_path.glob("*.safetensors")))
    with pytest.warns(UserWarning) as caught: again, _ = fill(tmp_path)
    assert torch.equal(first, again) and any("cannot be written" in str(w.message) for w in caught)
    assert not list(tmp_path.glob(".*"))

def test_unwritable_cache_warns_and_goes_on(tmp_path):
    write(tmp_path/"file", "in the way")
    with pytest.warns(UserWarning, match="not cached"): e, _ = fill(tmp_path/"file"/"sub")
    assert torch.equal(e, fill(False)[0])

@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_read_only_cache_folder(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.warns(UserWarning, match="not cached"): fill(tmp_path)
    finally: tmp_path.chmod(0o700)

def test_failure_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def half(tensors, path, metadata): Path(path).write_bytes(b"half"); raise OSError("No space left on device")
    monkeypatch.setattr(A, "save_file", half)
    with pytest.warns(UserWarning, match="No space left"): fill(tmp_path)
    assert list(tmp_path.iterdir()) == []

def test_default_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path/"xdg"))
    fill(None)
    assert len(list((tmp_path/"xdg"/"bike_nb").glob("lexicon-*.safetensors"))) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored"); monkeypatch.setenv("HOME", str(tmp_path/"home"))
    assert A.default_cache_dir() == tmp_path/"home"/".cache"/"bike_nb"
    monkeypatch.delenv("XDG_CACHE_HOME")
    fill(None)
    assert len(list((tmp_path/"home"/".cache"/"bike_nb").iterdir())) == 1

def test_no_cache_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fill(False)
    assert list(tmp_path.iterdir()) == []

def test_writers_at_the_same_time(tmp_path):
    results, gate = [], threading.Barrier(4)
    def work(): gate.wait(); results.append(fill(tmp_path)[0])
    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert len(results) == 4 and all(torch.equal(r, results[0]) for r in results)
    assert [p.suffix for p in tmp_path.iterdir()] == [".safetensors"]
    assert fill(tmp_path)[1].blocks == []


# ---------------------------------------------------------------- words the model was never taught
def test_unknown_phrases_are_named_once_and_left_out(tmp_path):
    names = [f"w{i}" for i in range(20)] + ["red kite", "dog"]
    def make(): return Lexicon(names, name="mixed"), FakeEncoder(unknown=names[:20] + ["red"])
    for fresh in (True, False):          # the second time from the cache: the same warning, the same mask
        lexicon, encoder = make()
        with pytest.warns(UserWarning) as caught:
            lexicon.encode(encoder, tmp_path); lexicon.encode(encoder, tmp_path)
        assert len(caught) == 1 and bool(encoder.blocks) is fresh
        text = str(caught[0].message)
        assert '"w0", "w1", "w2", "w3", "w4" and 16 more' in text and "w5" not in text and '"mixed"' in text and "fake" in text
        assert caught[0].filename == __file__
        assert lexicon.unknown == names[:21]
        assert (lexicon.embeddings[:21] == 0).all()
        for pool in ("mean", "max"):
            assert [n for n, _ in associate(-100*randn(3, 16), lexicon, 22, pool, chunk=4)[0]] == ["dog"]

def test_the_words_are_named_where_the_phrase_has_others():
    with pytest.warns(UserWarning, match=r'"red kite" \(red\), "zeppelin"\.'):
        Lexicon(["red kite", "zeppelin", "dog"]).encode(FakeEncoder(unknown=["red", "zeppelin"]), False)

def test_unknown_words_of_the_prompt():
    with pytest.warns(UserWarning, match='prompt "a photo of {}": photo') as caught: Lexicon(["dog"], "a photo of {}").encode(FakeEncoder(unknown=["photo"]), False)
    assert len(caught) == 1

def test_nothing_left(tmp_path):
    lexicon = Lexicon(["red", "blue"], name="colours")
    for _ in range(2):
        with pytest.raises(LexiconError, match='never taught .*"colours".*"red", "blue"'): lexicon.encode(FakeEncoder(unknown=["red", "blue"]), tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- the real encoder
def test_with_the_real_encoder(tmp_path):
    "A small random model in the tiny model's layout, with the rows of a few tokens only."
    import open_clip
    from bike_nb.encoder import load_encoder, save_encoder
    cfg = {"embed_dim": 24, "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
           "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}}
    rows = sorted({int(i) for t in ("a photo of dog", "red kite") for i in open_clip.get_tokenizer("ViT-B-32")([t])[0]})
    with torch.random.fork_rng(devices=[]): torch.manual_seed(0); model = open_clip.CLIP(**cfg)
    save_encoder(model, tmp_path/"model", cfg, token_rows=rows)
    names = ["dog", "zeppelin", "red kite", "red zeppelin"]
    for _ in range(2):                       # computed, then from the cache by another Encoder of the same weights
        encoder, lexicon = load_encoder(str(tmp_path/"model")), Lexicon(names, "a photo of {}")
        with pytest.warns(UserWarning, match=r'"zeppelin", "red zeppelin" \(zeppelin\)\.'): e = lexicon.encode(encoder, tmp_path/"cache")
        expected = F.normalize(encoder.encode_classes(["a photo of dog", "a photo of red kite"]).float(), dim=-1)
        assert lexicon.unknown == ["zeppelin", "red zeppelin"] and torch.allclose(e[[0, 2]], expected, atol=1e-6)
        assert len(list((tmp_path/"cache").iterdir())) == 1
    frames = encoder.encode_video(np.random.RandomState(0).randint(0, 255, (3, 40, 50, 3), np.uint8))
    found = associate(frames, lexicon)[0]
    assert {n for n, _ in found} == {"dog", "red kite"}
    assert dict(found)["dog"] == pytest.approx(float(F.normalize(frames.float().mean(0), dim=-1) @ expected[0]), abs=1e-6)


# ---------------------------------------------------------------- retrieval
@pytest.mark.parametrize("pool", ["mean", "max"])
@pytest.mark.parametrize("chunk", [1, 7, 64, 200, 201, 10**6])
def test_exact_for_any_chunk(pool, chunk):
    table, videos = randn(201, 12), randn(5, 6, 12, seed=1)
    found = associate(videos, indexed(table), 9, pool, chunk)
    assert_found(found, *brute(videos, table, 9, pool))

@pytest.mark.parametrize("pool", ["mean", "max"])
def test_exact_when_videos_are_split_too(pool):
    table, videos = randn(3000, 4), randn(2500, 3, 4, seed=1)      # 7,500 rows x 3,000 phrases: several blocks of videos
    assert_found(associate(videos, indexed(table), 3, pool), *brute(videos, table, 3, pool))

def test_one_clip_is_a_batch_of_one():
    table, video = randn(50, 8), randn(6, 8, seed=2)
    lexicon = indexed(table)
    assert associate(video, lexicon) == associate(video[None], lexicon) and len(associate(video, lexicon)) == 1

def test_no_videos():
    assert associate(torch.zeros(0, 4, 8), indexed(randn(5, 8))) == []

def test_mean_is_the_official_mean_pooling_not_the_mean_of_cosines():
    table = torch.eye(2)
    video = torch.tensor([[10., 0.], [0., 1.]])           # a strong frame counts more, as in normalize(mean_t f)
    scores = dict(associate(video, indexed(table), 2)[0])
    assert scores["phrase 0"] == pytest.approx(10/np.sqrt(101)) and scores["phrase 1"] == pytest.approx(1/np.sqrt(101))
    assert dict(associate(video, indexed(table), 2, "max")[0]) == {"phrase 0": 1.0, "phrase 1": 1.0}

def test_scores_are_cosines_whatever_the_lengths():
    table, videos = randn(30, 8), randn(2, 4, 8)
    a, b = associate(videos, indexed(table), 30), associate(videos*50, indexed(table*0.01), 30)
    for x, y in zip(a, b):
        assert [n for n, _ in x] == [n for n, _ in y] and np.allclose([s for _, s in x], [s for _, s in y], atol=1e-6)
        assert all(-1.000001 <= s <= 1.000001 for _, s in x)

@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 8, 100])
def test_ties_keep_the_order_of_the_lexicon(chunk):
    table = torch.eye(4)[[1, 0, 1, 0, 2, 0, 1, 0, 3, 1, 0]]            # exact zeros and ones
    video = torch.tensor([[1., 0, 0, 0]])
    names = [n for n, _ in associate(video, indexed(table), 8, chunk=chunk)[0]]
    assert names == [f"phrase {i}" for i in (1, 3, 5, 7, 10, 0, 2, 4)]

def test_k(tmp_path):
    table, videos = randn(10, 8), randn(2, 3, 8)
    lexicon = indexed(table)
    assert [len(f) for f in associate(videos, lexicon, 1000, chunk=3)] == [10, 10]
    assert_found(associate(videos, lexicon, 1000, chunk=3), *brute(videos, table, 10, "mean"))
    assert associate(videos, lexicon, np.int64(2)) == associate(videos, lexicon, 2)
    for bad in (0, -3, 2.0, "5", None):
        with pytest.raises(LexiconError, match="k="): associate(videos, lexicon, bad)
    for bad in (0, 1.5):
        with pytest.raises(LexiconError, match="chunk="): associate(videos, lexicon, chunk=bad)

def test_bad_input():
    lexicon, video = indexed(randn(10, 8)), randn(3, 8)
    with pytest.raises(LexiconError, match="8 dimensions|9 dimensions"): associate(randn(3, 9), lexicon)
    with pytest.raises(LexiconError, match=r"\(8,\)"): associate(video[0], lexicon)
    with pytest.raises(LexiconError, match="at least one frame"): associate(torch.zeros(2, 0, 8), lexicon)
    with pytest.raises(LexiconError, match='"mean" or "max"'): associate(video, lexicon, pool="median")
    with pytest.raises(LexiconError, match=r"encode\(encoder\) first"): associate(video, Lexicon(["dog"]))
    for value in (float("nan"), float("inf"), float("-inf")):
        bad = randn(4, 3, 8); bad[2, 1, 5] = value
        for pool in ("mean", "max"):
            with pytest.raises(LexiconError, match="frame 1 in video 2"): associate(bad, lexicon, pool=pool)

@pytest.mark.parametrize("change", [lambda v: v.numpy(), lambda v: v.double(), lambda v: v.requires_grad_(), lambda v: v.transpose(0, 1).contiguous().transpose(0, 1)])
def test_kinds_of_input(change):
    table, videos = randn(40, 8), randn(3, 5, 8, seed=3)
    lexicon, expected = indexed(table), brute(videos, table, 5, "max")
    assert_found(associate(change(videos.clone()), lexicon, 5, "max"), *expected)

def test_half_precision_videos():
    table, videos = randn(40, 8), randn(3, 5, 8, seed=3).bfloat16()
    assert_found(associate(videos, indexed(table), 5, "max"), *brute(videos.float(), table, 5, "max"))

def test_a_million_phrases_exact():
    table, videos = randn(1_000_000, 16), randn(4, 8, 16, seed=1)
    lexicon = Lexicon([f"phrase {i}" for i in range(len(table))])
    lexicon.embeddings, lexicon.known = F.normalize(table, dim=-1), torch.ones(len(table), dtype=torch.bool)
    for pool in ("mean", "max"): assert_found(associate(videos, lexicon, 10, pool), *brute(videos, table, 10, pool))

def test_a_million_phrases_in_bounded_memory():
    code = textwrap.dedent("""
        import resource, sys, torch, torch.nn.functional as F
        from bike_nb.attributes import Lexicon, associate
        n = 1_000_000
        lexicon = Lexicon([str(i) for i in range(n)])
        lexicon.embeddings, lexicon.known = F.normalize(torch.randn(n, 16), dim=-1), torch.ones(n, dtype=torch.bool)
        associate(torch.randn(2, 2, 16), Lexicon.load(lexicon), pool="max", chunk=1000)   # libraries are loaded
        unit = 1 if sys.platform == "darwin" else 1024
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*unit
        before = peak()
        for pool in ("mean", "max"): associate(torch.randn(8, 16, 16), lexicon, pool=pool)
        small = Lexicon(lexicon.names[:16_000])
        small.embeddings, small.known = lexicon.embeddings[:16_000], lexicon.known[:16_000]
        for shape in ((256, 32, 16), (1, 8_000, 16)): associate(torch.randn(*shape), small, pool="max")
        print(peak() - before)
    """)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert int(run.stdout) < 150e6, f"{int(run.stdout)/1e6:.0f} MB"     # all cosines at once: 512 MB, 524 MB and 512 MB

def test_encoding_a_large_lexicon_through_the_cache(tmp_path):
    table = randn(30_000, 8)
    first, again = indexed(table, tmp_path), indexed(table, tmp_path)
    assert torch.equal(first.embeddings, again.embeddings) and torch.equal(first.embeddings, F.normalize(table, dim=-1))


# ---------------------------------------------------------------- sentence
def test_sentence():
    assert attribute_sentence(["a", "b c", "d"]) == "This is a video about a,b c,d"
    assert attribute_sentence([("a", 0.5), ("b", 0.25)], "{}!") == "a,b!"
    assert attribute_sentence(("a", "b")) == "This is a video about a,b"
    assert attribute_sentence(n for n in "ab") == "This is a video about a,b"
    assert attribute_sentence(["{}", "{x}"]) == "This is a video about {},{x}"
    for bad in ("dog", [], [None], [("a", "b")], [3]):
        with pytest.raises(LexiconError): attribute_sentence(bad)
    with pytest.raises(LexiconError, match="exactly once"): attribute_sentence(["a"], "about")

def test_sentence_tokens_equal_the_official_ones():
    import open_clip
    reference = json.loads((HERE/"reference"/"tokens.json").read_text(encoding="utf-8"))
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    assert len(reference["attributes"]) == len(reference["attribute_sentence_ids"]) > 0
    for names, ids in zip(reference["attributes"], reference["attribute_sentence_ids"]):
        assert tokenizer([attribute_sentence(names)], context_length=len(ids))[0].tolist() == ids
    for name, ids in zip(reference["class_names"], reference["class_prompt_ids"]):
        assert tokenizer([attribute_sentence([name])], context_length=len(ids))[0].tolist() == ids


# ---------------------------------------------------------------- the official file
def official_reader(path, video, k):
    "What the official data set does with the file, in our words."
    return "This is a video about " + ",".join(json.load(open(path, encoding="utf-8"))[video]["classname_topk"][0:k])

def test_round_trip_and_official_reader(tmp_path):
    path, names = tmp_path/"new"/"a.json", ["abseiling", "rock climbing", "café crème", "登山", "a", "b"]
    write_attributes(path, {"x/Ü b.mp4": names, Path("y")/"z.mp4": [("dog", 0.5), ("kite", 0.25)]})
    assert read_attributes(path) == {"x/Ü b.mp4": names[:5], "y/z.mp4": ["dog", "kite"]}
    assert read_attributes(path, k=None)["x/Ü b.mp4"] == names and read_attributes(path, k=1)["x/Ü b.mp4"] == names[:1]
    assert official_reader(path, "x/Ü b.mp4", 5) == attribute_sentence(read_attributes(path)["x/Ü b.mp4"])
    raw = path.read_text(encoding="utf-8")
    assert "登山" in raw and "Ü" in raw and "\\u" not in raw

def test_reads_the_official_layout(tmp_path):
    path = write(tmp_path/"k.json", '{"abseiling/0347ZoDXyP0_000095_000105.mp4": {"classname_topk": ["abseiling", "rock climbing", "climbing tree", "ice climbing", "bungee jumping", "x"]}}')
    assert read_attributes(path) == {"abseiling/0347ZoDXyP0_000095_000105.mp4": ["abseiling", "rock climbing", "climbing tree", "ice climbing", "bungee jumping"]}
    write(path, b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_attributes(path)) == 1

def test_merging(tmp_path):
    path = tmp_path/"a.json"
    write(path, '{"a": {"classname_topk": ["1"], "note": "kept"}, "b": {"classname_topk": ["2"]}}')
    write_attributes(path, {"a": ["new"], "c": ["3"]})
    write_attributes(path, {"b": ["toy"]}, name="toy")
    assert json.loads(path.read_text()) == {"a": {"classname_topk": ["new"], "note": "kept"}, "b": {"classname_topk": ["2"], "toy_topk": ["toy"]}, "c": {"classname_topk": ["3"]}}
    assert read_attributes(path) == {"a": ["new"], "b": ["2"], "c": ["3"]}

def test_choice_of_the_lexicon(tmp_path):
    path = tmp_path/"a.json"
    for name in ("imagenet", "world"): write_attributes(path, {"v": [name]}, name=name)
    assert read_attributes(path, name="world") == read_attributes(path, name="world_topk") == {"v": ["world"]}
    with pytest.raises(LexiconError, match='"v", holds "imagenet_topk", "world_topk": say which'): read_attributes(path)
    with pytest.raises(LexiconError, match='"v", has no "birds_topk", only "imagenet_topk"'): read_attributes(path, name="birds")
    write(path, '{"a": {"toy_topk": ["x"]}, "b": {"toy_topk": ["y"]}}')
    assert read_attributes(path) == {"a": ["x"], "b": ["y"]}
    write_attributes(path, {"b": ["z"]})                              # now two lexicons are in the file: no mixture of them
    with pytest.raises(LexiconError, match='"a", holds "toy_topk": say which, as in name="toy"'): read_attributes(path)
    write_attributes(path, {"a": ["w"]})
    assert read_attributes(path) == {"a": ["w"], "b": ["z"]}

@pytest.mark.parametrize("text, message", [
    ("", "line 1, is not JSON"), ('{"a": \n{"classname_topk": ["x"', "line 2, is not JSON"), ("[]", "holds a list"), ("null", "NoneType"),
    ('{"v": ["x"]}', '"v": .*should be'), ('{"v": {}}', '"v", has no "classname_topk", only an empty object'),
    ('{"v": {"classname": ["x"]}}', '"v", has no "classname_topk", only "classname"'), ('{"v": {"classname_topk": "x"}}', '"v": "classname_topk" is not a list'),
    ('{"v": {"classname_topk": ["x", 3]}}', '"v": "classname_topk" is not a list of names'), ("["*100_000, "not JSON|nested"),
    ("é".encode("latin-1"), "not UTF-8"), (b"\x89PNG\0\xff", "not UTF-8")])
def test_malformed_files(tmp_path, text, message):
    path = write(tmp_path/"bad.json", text)
    with pytest.raises(LexiconError, match=message) as e: read_attributes(path)
    assert str(path) in str(e.value)

def test_unusable_paths_and_arguments(tmp_path):
    with pytest.raises(LexiconError, match="no attributes file"): read_attributes(tmp_path/"none.json")
    with pytest.raises(LexiconError, match="is a folder"): read_attributes(tmp_path)
    with pytest.raises(LexiconError, match="is a folder"): write_attributes(tmp_path, {"v": ["x"]})
    write(tmp_path/"file", "x")
    with pytest.raises(LexiconError, match="cannot be written"): write_attributes(tmp_path/"file"/"a.json", {"v": ["x"]})
    write_attributes(tmp_path/"a.json", {"v": ["x"]})
    for k in (0, -1, 1.5):
        with pytest.raises(LexiconError, match="k="): read_attributes(tmp_path/"a.json", k=k)
    for name in ("", "_topk", 3):
        with pytest.raises(LexiconError, match="not empty"): write_attributes(tmp_path/"a.json", {"v": ["x"]}, name=name)
    for names in ("dog", [1], [("a", "b")], [b"x"]):
        with pytest.raises(LexiconError, match='attributes of "w"'): write_attributes(tmp_path/"a.json", {"w": names})
    assert read_attributes(tmp_path/"a.json") == {"v": ["x"]}

def test_failed_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path/"a.json"
    write_attributes(path, {"v": ["x"]})
    before = path.read_bytes()
    def full(a, b): raise OSError(28, "No space left on device")
    with monkeypatch.context() as m:
        m.setattr(os, "replace", full)
        with pytest.raises(LexiconError, match="No space left"): write_attributes(path, {"w": ["y"]})
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.json"]

def test_malformed_file_is_not_overwritten(tmp_path):
    path = write(tmp_path/"a.json", '{"v": ')
    with pytest.raises(LexiconError, match="not JSON"): write_attributes(path, {"w": ["y"]})
    assert path.read_text() == '{"v": '

@pytest.mark.skipif(os.name != "posix", reason="file modes and links of POSIX")
def test_mode_and_links_are_kept(tmp_path):
    path = tmp_path/"a.json"
    old = os.umask(0o022)
    try: write_attributes(path, {"v": ["x"]})
    finally: os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    fill(tmp_path/"cache")
    plain = write(tmp_path/"plain", "x")
    assert [p.stat().st_mode for p in (tmp_path/"cache").iterdir()] == [plain.stat().st_mode]     # as any file of this user
    path.chmod(0o640); (tmp_path/"link.json").symlink_to(path)
    write_attributes(tmp_path/"link.json", {"w": ["y"]})
    assert (tmp_path/"link.json").is_symlink() and stat.S_IMODE(path.stat().st_mode) == 0o640
    assert read_attributes(path) == {"v": ["x"], "w": ["y"]}

def test_undecodable_file_names_survive(tmp_path):
    name = os.fsdecode(b"clip\xff.mp4") if os.name == "posix" else "clip.mp4"
    write_attributes(tmp_path/"a.json", {name: ["café"]})
    assert read_attributes(tmp_path/"a.json") == {name: ["café"]}
