"The command line as a person uses it: exit status, printed text, files."
import csv, json, subprocess, sys
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
