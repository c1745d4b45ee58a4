"The command line as a person uses it: exit status, printed text, files."
import csv, json, os, re, subprocess, sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bike_nb.cli import app
from bike_nb.video import read_video, write_video

ROOT = Path(__file__).parents[1]
KITE = ROOT / "data_samples/00_flying_a_kite.mp4"
CLIPS = ROOT.parent / "shared/clips"
REAL = sorted(p for p in CLIPS.glob("*") if p.suffix in (".mp4", ".mkv", ".mov", ".avi")) if CLIPS.exists() else []


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch): monkeypatch.chdir(tmp_path)


def bike(*args, code=0):
    result = CliRunner().invoke(app, [str(a) for a in args], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def test_explain_prints_a_table_and_writes_what_it_says():
    said = bike("explain", KITE, "--concepts", "flying a kite; flag", "--csv", "--qvhighlights", "--frames", 12)
    data = json.loads(Path("out/00_flying_a_kite.json").read_text())
    assert data["concepts"] == ["flying a kite", "flag"] and len(data["times"]) == 12 and len(data["attributes"]) == 5
    assert all(len(row) == 12 and abs(sum(row) - 1) < 1e-4 for row in data["saliency"])
    start, end = json.loads((ROOT / "data_samples/annotations.json").read_text())["clips"][0]["span"]
    assert max(range(12), key=lambda t: data["saliency"][0][t]) in [i for i, t in enumerate(data["times"]) if start <= t <= end]
    assert Image.open("out/00_flying_a_kite.png").width > 800
    assert len(list(csv.reader(Path("out/00_flying_a_kite.csv").open()))) == 13
    assert [json.loads(l)["query"] for l in Path("out/00_flying_a_kite.jsonl").read_text().splitlines()] == ["flying a kite", "flag"]
    for kind in ("png", "json", "csv", "jsonl"): assert f"wrote out/00_flying_a_kite.{kind}" in said
    for a in data["attributes"]: assert a["name"] in said
    assert data["notes"] == [] and not data["novelty"]["flagged"] and "novelty: 0." in said


def test_html_and_render_write_a_page_and_a_film():
    said = bike("explain", KITE, "--concepts", "kite; tree", "--frames", 6, "--html", "--render", "--end", 2, "--out", "o")
    assert "wrote o/00_flying_a_kite.html" in said and "wrote o/00_flying_a_kite_explained.mp4" in said
    page, film = Path("o/00_flying_a_kite.html").read_text(), read_video("o/00_flying_a_kite_explained.mp4", num_frames=None)
    assert page.lower().startswith("<!doctype html") and "Content-Security-Policy" in page and "kite" in page
    assert len(film) == 16 and abs(film.duration - 2) < .05 and film.frames.shape[2] == 720
    assert sorted(p.suffix for p in Path("o").iterdir()) == [".html", ".json", ".mp4", ".png"]


def test_a_film_that_fails_leaves_what_was_written_before_it():
    Path("out/00_flying_a_kite_explained.mp4").mkdir(parents=True)
    said = bike("explain", KITE, "--concepts", "kite", "--frames", 4, "--render", code=1)
    assert "wrote out/00_flying_a_kite.json" in said and "is a folder: give the film another name" in said and "Traceback" not in said
    assert sorted(p.name for p in Path("out").iterdir()) == [f"00_flying_a_kite{e}" for e in (".json", ".png", "_explained.mp4")]


def test_concepts_come_from_a_file_and_frames_from_a_rate():
    Path("c.txt").write_text("# asked\nflag\nperson\n")
    bike("explain", KITE, "--concepts-file", "c.txt", "--fps", 2, "--out", "o")
    data = json.loads(Path("o/00_flying_a_kite.json").read_text())
    assert data["concepts"] == ["flag", "person"] and len(data["times"]) == 12


def test_without_concepts_the_attributes_are_looked_up():
    bike("explain", KITE, "--lexicon", ROOT / "data_samples/lexicon.txt")
    data = json.loads(Path("out/00_flying_a_kite.json").read_text())
    assert data["concepts"] == [a["name"] for a in data["attributes"]]


def test_a_folder_of_images():
    Path("frames").mkdir()
    for i, f in enumerate(read_video(KITE, num_frames=4).frames): Image.fromarray(f).save(f"frames/{i}.png")
    bike("explain", "frames", "--concepts", "kite")
    assert len(json.loads(Path("out/frames.json").read_text())["times"]) == 4


@pytest.mark.parametrize("name, content, reason", [
    ("letter.mp4", b"Dear Sir, this is no film.", "letter.mp4"), ("empty.mp4", b"", "empty"), ("gone.mp4", None, "no such file")])
def test_what_is_no_film_is_one_sentence(name, content, reason):
    if content is not None: Path(name).write_bytes(content)
    said = bike("explain", name, code=1)
    assert reason in said and "Traceback" not in said and len(said.strip().splitlines()) == 1
    assert not Path("out").exists()


def test_mistaken_options_are_one_sentence():
    assert "ViT-B-32" in bike("explain", KITE, "--model", "ViT-B-23", code=1)
    assert "not both" in bike("explain", KITE, "--frames", 4, "--fps", 1, code=2)
    assert "not both" in bike("explain", KITE, "--concepts", "a", "--concepts-file", KITE, code=2)
    for bad in (["--lexicon", "nowhere.txt"], ["--start", "99"], ["--frames", "0"], ["--mask", "some"], ["--precision", "fp8"], ["--device", "abacus"], ["--concepts", " ; "]):
        said = bike("explain", KITE, *bad, code=1)
        assert "Traceback" not in said and len([l for l in said.strip().splitlines() if not l.startswith("note:")]) == 1, (bad, said)


def test_an_output_folder_that_cannot_be_written_is_one_sentence():
    Path("out").write_text("a file in the way")
    said = bike("explain", KITE, "--concepts", "kite", code=1)
    assert "out" in said.splitlines()[-1] and Path("out").read_text() == "a file in the way"


def test_an_unknown_word_is_named():
    said = bike("explain", KITE, "--concepts", "a zebra; kite")
    assert "zebra" in said.split("note:", 1)[1]


def test_attributes_writes_the_official_file_and_names_the_broken_clip():
    Path("broken.mp4").write_bytes(KITE.read_bytes()[:300])
    said = bike("attributes", KITE, "broken.mp4", "--pool", "max", "--top", 3, code=1)
    data = json.loads(Path("attributes.json").read_text())
    assert list(data) == [str(KITE)] and len(data[str(KITE)]["classname_topk"]) == 3
    assert "broken.mp4" in said and "1 of 2" in said


def test_world_and_models():
    bike("world", "w", "--clips", 2, "--seed", 3, "--size", 64, "--duration", 2)
    assert len(list(Path("w").glob("*.mp4"))) == 2 and "ViT-B-32 " in bike("models", "ViT-B-32")
    assert "comes with the package" in bike("models", "tiny")
    assert "clips is 0" in bike("world", "w", "--clips", 0, code=1)


def test_python_m_and_version():
    run = subprocess.run([sys.executable, "-m", "bike_nb", "--version"], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0 and run.stdout.strip() in (ROOT / "settings.ini").read_text()


def test_an_open_clip_architecture_with_random_weights():
    said = bike("explain", KITE, "--model", "ViT-S-32", "--pretrained", "none", "--concepts", "a dog; a kite", "--lexicon", "kinetics400", "--frames", 4)
    data = json.loads(Path("out/00_flying_a_kite.json").read_text())
    assert data["model"] == "ViT-S-32" and len(data["attributes"]) == 5 and "random" in said


@pytest.mark.skipif(not REAL, reason="../shared/clips is not beside this clone")
@pytest.mark.parametrize("clip", REAL, ids=lambda p: p.name)
def test_real_clips(clip):
    result = CliRunner().invoke(app, ["explain", str(clip), "--frames", "8", "--concepts", "person; house"])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    if clip.name == "corrupted.mp4" and result.exit_code == 1:
        assert "corrupted.mp4" in result.output and "Traceback" not in result.output
        return
    assert result.exit_code == 0, result.output
    data = json.loads(Path(f"out/{clip.stem}.json").read_text())
    assert len(data["times"]) <= 8 and data["novelty"]["flagged"] and "not of tiny's world" in result.output
    assert Image.open(f"out/{clip.stem}.png").width > 800


# ---- experiments: train, test, fuse

SMALL = dict(embed_dim=64, quick_gelu=True, vision_cfg=dict(image_size=224, patch_size=32, width=64, layers=1, head_width=64),
             text_cfg=dict(context_length=77, vocab_size=49408, width=64, heads=1, layers=1))


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    "Frame folders of the world, 6 for testing and 15 for training, and their official-layout lists and class file."
    from bike_nb.splits import write_split
    folder = tmp_path_factory.mktemp("frames")
    write_split(folder, "general", clips=24, size=64, fps=4, duration=3, format="frames", workers=1)
    return folder


@pytest.fixture(scope="module")
def small_model():
    "A BIKE with random weights of the official architecture; the weights survive half precision."
    import torch
    from bike_nb.model import BIKE
    model = BIKE(SMALL, header="Transf", seed=3)
    with torch.no_grad():
        for p in model.parameters(): p.copy_((p + .02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))).half().float())
    return model


def official_yaml(path, frames, **changes):
    "An experiment with the keys of the official files, all of them, written as they write them."
    said = dict(dataset="k400", num_segments=4, arch="ViT-B/32", batch_size=4, input_size=224, test_list=frames/"test.txt", header="Transf", evaluate="False") | changes
    Path(path).write_text("""resume:
pretrain:
seed: 1024
data:
    dataset: {dataset}
    modality: RGB
    num_segments: {num_segments}
    seg_length: 1
    batch_size: {batch_size}
    workers: 0
    num_classes: 20
    image_tmpl: 'img_{{:05d}}.jpg'
    train_root: '{root}'
    train_list: '{root}/train.txt'
    val_root: '{root}'
    val_list: '{test_list}' #
    label_list: '{root}/classes.csv'
    index_bias: 1
    input_size: {input_size}
    random_shift: True
    output_path: exps
network:
    arch: {arch}  #ViT-B/32 ViT-B/16
    init: True
    tm: False
    drop_out: 0.0
    emb_dropout: 0.0
    sim_header: {header}  # Transf   None
    interaction: VCS  # DP VCS
    joint_st: False
    drop: 0
    fix_text: True
    fix_video: False
solver:
    type: cosine
    epochs: 2
    start_epoch: 0
    epoch_offset: 0
    optim: adamw
    lr: 5.e-5
    lr_warmup_step: 1
    weight_decay: 0.2
    loss_type: NCE
    evaluate: {evaluate}
    clip_ratio: 0.1
    grad_accumulation_steps: 1
logging:
    print_freq: 10
    eval_freq: 1
""".format(root=frames, **said))
    return path


def own_yaml(path, frames, **more):
    "The same experiment as we would write it: other class file, a list with roots of its own, few keys."
    from bike_nb.data import read_classes
    Path("names.txt").write_text("\n".join(read_classes(frames/"classes.csv")) + "\n")
    Path("own.txt").write_text("".join(f"{frames.name}/{line}\n" for line in (frames/"test.txt").read_text().splitlines()))
    said = dict(num_segments=4, input_size=224, batch_size=3, arch="tiny") | more
    Path(path).write_text("data: {{dataset: k400, label_list: names.txt, val_root: {0}, val_list: own.txt, train_root: {1}, train_list: {1}/train.txt, num_segments: {num_segments}, input_size: {input_size}, "
        "batch_size: {batch_size}, workers: 0}}\nnetwork: {{arch: {arch}, sim_header: Transf, interaction: VCS}}\nsolver: {{epochs: 1, lr: 1.e-4, lr_warmup_step: 0}}\n".format(frames.parent, frames, **said))
    return path


def official_checkpoint(path, model, prefix="", half=False):
    "What the official training loop would have written."
    import torch
    def keyed(state, half): return {prefix + k: (v.half() if half and v.is_floating_point() else v).clone() for k, v in state.items()}
    torch.save({"epoch": 1, "model_state_dict": keyed(model.clip.state_dict(), half), "fusion_model_state_dict": keyed(model.video.state_dict(), False), "optimizer_state_dict": {}}, path)
    return path


def scores_of(*args):
    "Arrays and figures that a test has written."
    said = bike("test", *args, "--quiet", "--scores", "s.npz", "--json", "s.json")
    with np.load("s.npz", allow_pickle=False) as file: data = dict(file)
    return data, json.loads(Path("s.json").read_text()), said


VIEWS = [[], ["--clips", 2, "--crops", 3]]


@pytest.mark.parametrize("views", VIEWS, ids=["one view", "six views"])
def test_official_and_own_list_config_and_checkpoint_give_the_same(frames, small_model, views):
    "The bar of the issue: one set of frame folders, through the official formats and through ours."
    (frames/"double.txt").write_text((frames/"test.txt").read_text().replace("test/", "test//"))       # as in ActivityNet's list
    small_model.save_pretrained("saved")
    ways = [(official_yaml("official.yaml", frames), official_checkpoint("official.pt", small_model)),
            (official_yaml("double.yaml", frames, test_list=frames/"double.txt", batch_size=5), official_checkpoint("ddp.pt", small_model, "module.", half=True)),
            (own_yaml("own.yaml", frames), "saved")]
    found = [scores_of(*way, *views) for way in ways]
    (data, report, said), others = found[0], found[1:]
    assert data["scores"].shape == (6, 20) and report["settings"]["views"] == (6 if views else 1) and len(np.unique(data["scores"])) > 100
    assert "top-1" in said and report["figures"].keys() >= {"top-1", "top-5", "mAP"} and "wrote s.npz" in said
    for other, its, _ in others:
        assert its["figures"] == report["figures"] and its["intervals"] == report["intervals"]
        for key in ("scores", "branch_video"): np.testing.assert_allclose(other[key], data[key], rtol=0, atol=1e-6)
        assert (other["labels"] == data["labels"]).all() and [Path(p).name for p in other["paths"]] == [Path(p).name for p in data["paths"]]
    worse = scores_of("own.yaml", "saved", *views, "--set", "interaction=DP", "--set", "data.image_tmpl=img_{:05d}.jpg")[0]
    assert np.abs(worse["scores"] - data["scores"]).max() < 1e-6                                        # a saved folder knows its interaction
    worse = scores_of("official.yaml", "official.pt", *views, "--set", "interaction=DP")[0]
    assert np.abs(worse["branch_video"] - data["branch_video"]).max() > 1e-6                            # the test can tell models apart


def test_what_was_trained_here_is_the_same_in_every_layout(frames):
    "Our checkpoint, the same exported to the official layout, and the folder of save_pretrained, through our file and an official one."
    from bike_nb.model import save_official
    from bike_nb.training import load_trained
    own_yaml("own.yaml", frames, input_size=96)
    said = bike("train", "own.yaml", "--name", "x", "--quiet", "--device", "cpu")
    assert said.startswith("exps/k400/tiny/x: top-1") and "exps/k400/tiny/x/model_best.pt" in said
    model = load_trained("exps/k400/tiny/x/model_best.pt", device="cpu")
    with pytest.warns(UserWarning, match="official code assumes"): save_official(model, "official.pt")
    model.save_pretrained("saved")
    official_yaml("official.yaml", frames, input_size=96)
    found = [scores_of(*way)[0] for way in (("own.yaml", "exps/k400/tiny/x/model_best.pt"), ("official.yaml", "official.pt"), ("official.yaml", "saved"))]
    for other in found[1:]: np.testing.assert_allclose(other["scores"], found[0]["scores"], rtol=0, atol=1e-6)
    again = bike("train", "own.yaml", "--name", "x", "--quiet", "--device", "cpu")                      # done: it only says so again
    assert again.splitlines()[-1] == said.splitlines()[-1]
    assert "choose another name" in bike("train", "own.yaml", "--name", "x", "--quiet", "--set", "lr=1", code=1)
    said = bike("train", "own.yaml", "--name", "y", "--quiet", "--set", "evaluate=true")
    assert "model" not in said and "best" not in said                  # nothing was trained, so there is no best model


def test_both_trained_branches_are_tested_from_python_and_the_shell(frames):
    from bike_nb.evaluation import test_model
    from bike_nb.training import TrainConfig
    own_yaml("own.yaml", frames, input_size=96)
    for part in ("train", "val"): bike("attributes", "--config", "own.yaml", "--split", part, "--frames", 2, "--out", "a.json", "--quiet")
    sets = ["branch=both", "attributes_train_path=a.json", "attributes_val_path=a.json"]
    said = [x for s in sets for x in ("--set", s)]
    bike("train", "own.yaml", "--name", "b", "--quiet", "--device", "cpu", *said)
    shell, report, _ = scores_of("own.yaml", "exps/k400/tiny/b/model_best.pt", *said)
    found = test_model(TrainConfig.from_yaml("own.yaml", sets), "exps/k400/tiny/b/model_best.pt", device="cpu")
    assert report["settings"]["branches"] == found.settings["branches"] == "video + attributes"
    np.testing.assert_allclose(found.scores, shell["scores"], rtol=0, atol=1e-6)


def test_untrained_attributes_fuse_and_classes(frames):
    own_yaml("own.yaml", frames, input_size=96)
    video, its, said = scores_of("own.yaml", "untrained", "--zero-shot")
    assert {"all classes, frame by frame, top-1", "half classes, top-1"} <= its["figures"].keys() and its["checkpoint"] == "untrained" and "half classes, top-5" in said
    os.replace("s.npz", "video.npz")
    both, fused, _ = scores_of("own.yaml", "untrained", "--attributes", "world", "--weight", .4)
    os.replace("s.npz", "both.npz")
    np.testing.assert_allclose(both["scores"], .4 * both["branch_video"] + .6 * both["branch_attributes"], atol=1e-12)
    np.testing.assert_allclose(both["branch_video"], video["branch_video"], atol=1e-6)
    bike("attributes", "--config", "own.yaml", "--split", "val", "--frames", 4, "--out", "a.json", "--quiet")
    made, its, _ = scores_of("own.yaml", "untrained", "--attributes", "a.json", "--weight", .4)
    assert (made["scores"] == both["scores"]).all() and its["figures"] == fused["figures"]              # the file says what the lexicon says
    said = bike("fuse", "video.npz", "both.npz", "--weight", .4, "--sweep", "--json", "f.json", "--scores", "f.npz")
    assert json.loads(Path("f.json").read_text())["figures"]["top-1"] == fused["figures"]["top-1"] and len(re.findall(r"^[01]\.\d ", said, re.M)) == 11
    np.testing.assert_allclose(np.load("f.npz")["scores"], both["scores"], atol=1e-6)
    other = scores_of("own.yaml", "untrained", "--classes", frames/"classes.csv", "--mask", "words")[0]
    assert np.abs(other["scores"] - video["scores"]).max() > 1e-6 and (other["labels"] == video["labels"]).all()
    assert "51 classes" in bike("test", "own.yaml", "untrained", "--classes", "hmdb51", "--quiet")
    short = Path("short.txt"); short.write_text("a\nb\n")
    assert "classes" in bike("test", "own.yaml", "untrained", "--classes", short, "--quiet", code=1)


def test_mistakes_in_experiments_are_one_sentence(frames):
    own_yaml("own.yaml", frames, input_size=96)
    Path("bad.yaml").write_text("data: [")
    for args, says in (("train gone.yaml", "gone.yaml"), ("train bad.yaml", "bad.yaml"), ("train own.yaml --set epoch=1", "solver.epochs"), ("train own.yaml --set lr", "key=value"),
                       ("train own.yaml --set train_root=nowhere", "nowhere"), ("train own.yaml --device abacus", "abacus"), ("test own.yaml nothing.pt", "nothing.pt"),
                       ("test own.yaml untrained --crops 4", "crops"), ("test own.yaml untrained --mask none", "mask"),
                       ("test own.yaml untrained --attributes gone.json", "gone.json"), ("test own.yaml untrained --attributes nolexicon", "nolexicon"),
                       ("test own.yaml untrained --precision fp8", "fp8"), ("test own.yaml untrained --set input_size=224", "96"), ("test own.yaml own.yaml", "own.yaml"),
                       ("test own.yaml untrained --attributes-checkpoint gone.pt", "gone.pt is a second checkpoint"), ("test own.yaml tiny --attributes-checkpoint gone.pt", "gone.pt"),
                       ("fuse gone.npz gone.npz", "gone.npz"), ("attributes --config own.yaml --set val_list=null", "val_list")):
        quiet = [] if args.startswith("fuse") else ["--quiet"]
        said = bike(*args.split(), *quiet, code=1)
        assert says in said and len([l for l in said.strip().splitlines() if not l.startswith("note:")]) == 1, (args, said)
    Path("empty").mkdir()
    for args, says in (("--scores no/s.npz", "no folder"), ("--scores s.csv", "should end in .npz or .json"), ("--json empty", "is a folder"), ("--weight 7", "--weight"), ("--clips 0", "--clips"), ("--clips -2", "--clips")):
        assert says in bike("test", "own.yaml", "untrained", *args.split(), code=2), args
    said = bike("test", "own.yaml", "untrained", "--quiet", "--set", "image_tmpl={:04d}.png", code=1)
    assert said.splitlines()[-1].endswith("the notes above say why.") and "note: " in said and "check data.image_tmpl" in said
    said = bike("train", "own.yaml", "--quiet", "--set", "workers=1", "--set", "train_root=empty", "--set", "output_path=other", code=1)
    assert "videos in a row cannot be read" in said and len(said.strip().splitlines()) == 1, said        # raised in a worker process


@pytest.mark.parametrize("error, says", [
    (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "want of memory"), (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), "want of memory"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), "memory of this machine is full"), (MemoryError(), "memory of this machine is full"),
    (RuntimeError("Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\nRuntimeError: stack expects each tensor to be equal size"), None)])
def test_a_small_machine_is_a_sentence_and_a_bug_a_traceback(error, says, capsys):
    import typer
    from bike_nb.cli import run
    def fails(): raise error
    with pytest.raises(typer.Exit if says else RuntimeError): run(fails)
    assert says in capsys.readouterr().err if says else not capsys.readouterr().err


def torchrun(*args, script=("-m", "bike_nb"), seconds=100):
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *script, *map(str, args)], capture_output=True, text=True,
                          timeout=seconds, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})
    return done.returncode, done.stdout, done.stderr


def test_two_processes_test_as_one(frames, small_model):
    small_model.save_pretrained("saved")
    own_yaml("own.yaml", frames)
    lines = Path("own.txt").read_text().splitlines(keepends=True)
    Path("own.txt").write_text("".join(lines[:5]))                                                      # uneven
    one = scores_of("own.yaml", "saved", "--crops", 3)[0]
    code, out, err = torchrun("test", "own.yaml", "saved", "--crops", 3, "--quiet", "--scores", "two.npz", "--device", "cpu")
    assert code == 0 and out.count("top-1 ") == 1 and out.count("wrote two.npz") == 1, err
    two = np.load("two.npz")
    np.testing.assert_allclose(two["scores"], one["scores"], rtol=0, atol=1e-6)
    assert (two["paths"] == one["paths"]).all()


@pytest.mark.parametrize("command", ["train own.yaml", "test own.yaml untrained"])
def test_a_rank_that_fails_ends_the_job_with_its_own_sentence(frames, command):
    own_yaml("own.yaml", frames, input_size=96)
    Path("sabotage.py").write_text("import os\nfrom bike_nb import data\nfrom bike_nb.cli import main\n"
        "def broken(*args): raise data.DataError('the disk of process 1 is full.')\n"
        "if os.environ['RANK'] == '1': data._sample = broken\nmain()\n")
    code, out, err = torchrun(*command.split(), "--quiet", "--device", "cpu", script=["sabotage.py"])
    assert code != 0 and "bike_nb: the disk of process 1 is full." in err and "best model" not in out and "top-1 " not in out


def test_help_is_light():
    done = subprocess.run([sys.executable, "-c", "import sys, bike_nb.cli; assert not {'torch', 'numpy', 'open_clip', 'yaml', 'av', 'anywidget'} & set(sys.modules), set(sys.modules)"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for flag in ("--html", "--render"): assert flag in bike("explain", "--help")
    for command in ("train", "test", "fuse", "attributes"): assert "--json" in (said := bike(command, "--help")) or command in ("train", "attributes"), said
