"Tagging a whole dataset: killed, shared, interrupted by broken videos, and read again by what needs the file."
import json, os, shutil, signal, subprocess, sys, time
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from bike_nb import tagging
from bike_nb.attributes import read_attributes
from bike_nb.cli import app
from bike_nb.tagging import Tagger, TaggingError, tag_dataset
from bike_nb.video import read_video

ROOT = Path(__file__).parents[1]
CLIPS = sorted((ROOT/"data_samples").glob("*.mp4"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch): monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def tagger(): return Tagger(lexicon="world", k=4)


def dataset(n):
    "A list of n videos in the current folder, some of them in folders of their own."
    Path("videos/b").mkdir(parents=True)
    names = [f"{'b/' * (i % 3 == 0)}{i:03d}.mp4" for i in range(n)]
    for i, name in enumerate(names): shutil.copy(CLIPS[i % len(CLIPS)], Path("videos")/name)
    Path("list.txt").write_text("".join(f"{name} {i % 5}\n" for i, name in enumerate(names)))
    return names


def command(*args, ranks=1, script=("-m", "bike_nb")):
    "The command in a process of its own, or in several by torchrun."
    launcher = [] if ranks == 1 else ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    return subprocess.Popen([sys.executable, *launcher, *script, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
                            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})


def finish(process, seconds=100):
    try: out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"still running after {seconds} s: {process.communicate()}")
    return process.returncode, out, err


def lines_in(file): return len(file.read_bytes().splitlines())

def lines(out): return sum(map(lines_in, Path().glob(f"{Path(out).stem}.*.parts/*.jsonl")))


def kill_after(process, out, count):
    "SIGKILL as soon as so many videos are written down."
    while lines(out) < count and process.poll() is None: time.sleep(.01)
    alive = process.poll() is None
    for pid in family(process.pid) if alive else (): os.kill(pid, signal.SIGKILL)
    process.communicate()
    return alive


def family(pid):
    "A process and all that it has started: torchrun's workers live in sessions of their own, and would go on."
    table = [tuple(map(int, line.split())) for line in subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True).stdout.splitlines()]
    return [pid, *(p for child, parent in table if parent == pid for p in family(child))]


def bike(*args, code=0):
    result = CliRunner().invoke(app, [str(a) for a in args], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def test_killed_again_and_again_it_ends_with_the_same_file():
    names = dataset(20)
    args = ["attributes", "list.txt", "--root", "videos", "--batch", 2, "--out"]
    assert "20 of 20" in bike(*args, "whole.json", "--quiet")
    for count in (3, 11): assert kill_after(command(*args, "killed.json"), "killed.json", count), "it was faster than the test"
    assert not Path("killed.json").exists() and lines("killed.json") >= 11
    torn = Path("killed.classname.parts/0.jsonl")
    torn.write_bytes(torn.read_bytes() + b'{"path": "b/01')
    code, out, err = finish(command(*args, "killed.json"))
    assert code == 0 and "20 of 20" in out and "tagging" in err and "Traceback" not in err, err
    assert Path("killed.json").read_bytes() == Path("whole.json").read_bytes()
    assert list(read_attributes("killed.json")) == names and sorted(os.listdir()) == ["killed.json", "killed.settings.json", "list.txt", "videos", "whole.json", "whole.settings.json"]


def test_torchrun_shares_the_work_and_one_process_ends_it():
    dataset(14)
    args = ["attributes", "list.txt", "--root", "videos", "--batch", 1, "--out"]
    bike(*args, "whole.json", "--quiet")
    Path("stuck.py").write_text("import time\nfrom bike_nb import tagging\nfrom bike_nb.cli import main\ndone, rows_of = [], tagging.rows_of\n"
        "def stuck(*args):\n    if len(done) == 4: time.sleep(600)\n    done.append(1)\n    return rows_of(*args)\ntagging.rows_of = stuck\nmain()\n")
    assert kill_after(command(*args, "two.json", ranks=2, script=["stuck.py"]), "two.json", 8)       # in the middle, four videos each, however busy the machine
    assert [lines_in(f) for f in Path("two.classname.parts").glob("*.jsonl")] == [4, 4]
    code, out, err = finish(command(*args, "two.json", ranks=2))
    assert code == 0 and out.count("14 of 14") == 1, err
    assert Path("two.json").read_bytes() == Path("whole.json").read_bytes() and not Path("two.classname.parts").exists()


def test_a_rank_that_fails_ends_the_job_with_its_sentence():
    dataset(8)
    Path("sabotage.py").write_text("import os\nfrom bike_nb import tagging\nfrom bike_nb.cli import main\n"
        "def broken(*args): raise tagging.TaggingError('the disk of process 1 is full.')\n"
        "if os.environ['RANK'] == '1': tagging.rows_of = broken\nmain()\n")
    code, out, err = finish(command("attributes", "list.txt", "--root", "videos", "--batch", 1, "--out", "a.json", "--quiet", ranks=2, script=["sabotage.py"]))
    assert code != 0 and "bike_nb: the disk of process 1 is full." in err and not Path("a.json").exists()
    assert "wrote" in bike("attributes", "list.txt", "--root", "videos", "--batch", 1, "--out", "a.json", "--quiet")


def test_unreadable_videos_are_listed_and_tried_again(monkeypatch):
    names = dataset(9)
    (Path("videos")/names[2]).write_bytes(b"no film"); (Path("videos")/names[7]).unlink()
    args = ["attributes", "list.txt", "--root", "videos", "--batch", 4, "--out", "a.json", "--quiet"]
    said = bike(*args, code=1)
    assert [line.split()[3] for line in said.splitlines() if line.startswith("cannot be read: ")] == [names[2], names[7]]
    assert "2 of 9 videos could not be read" in said and "7 of 9" in said and "there is no such file" in said
    assert list(read_attributes("a.json")) == [n for i, n in enumerate(names) if i not in (2, 7)]
    first = json.loads(Path("a.json").read_text())
    for i in (2, 7): shutil.copy(CLIPS[i], Path("videos")/names[i])
    looked = []
    monkeypatch.setattr(tagging, "rows_of", lambda batch, tagger, f=tagging.rows_of: looked.append(batch["path"]) or f(batch, tagger))
    bike(*args)
    assert looked == [names[0:4], names[4:8]]                 # the last batch was whole
    now = json.loads(Path("a.json").read_text())
    assert set(now) == set(names) and {n: now[n] for n in first} == first
    bike(*args)
    assert len(looked) == 2                                   # all is done: nothing is looked at


def test_nothing_readable_is_said_at_once_or_at_the_end(tagger):
    Path("videos").mkdir()
    Path("long.txt").write_text("".join(f"{i}.mp4 0\n" for i in range(60))); Path("short.txt").write_text("a.mp4 0\n")
    said = bike("attributes", "long.txt", "--root", "videos", "--quiet", code=1)
    assert "--root" in said and len(said.strip().splitlines()) == 1
    said = bike("attributes", "short.txt", "--root", "videos", "--out", "s.json", "--quiet", code=1)
    assert "1 of 1 videos" in said and "wrote" not in said and not Path("s.json").exists()


def test_the_words_are_those_of_a_test_with_the_lexicon(tagger):
    "File and lexicon must not tell two stories, and build_dataset must find each video of the list."
    from types import SimpleNamespace
    from bike_nb.data import build_dataset
    from bike_nb.evaluation import test_model
    from bike_nb.attributes import Lexicon
    from bike_nb.model import load
    dataset(10)
    tag_dataset("list.txt", "videos", "a.json", Tagger(lexicon="world"), batch_size=3)
    data = SimpleNamespace(modality="video", val_root="videos", val_list="list.txt", label_list=["a", "b", "c", "d", "e"], input_size=96, num_segments=8, attributes_val_path="a.json")
    Path("classes.csv").write_text("id,name\n" + "".join(f"{i},{n}\n" for i, n in enumerate(["kite", "guitar", "bicycle", "plant", "candle"])))
    data.label_list = "classes.csv"
    config, model = SimpleNamespace(data=data, network=SimpleNamespace(), seed=0), load("tiny", "cpu")
    found = [test_model(config, model, attributes=a, split="test", workers=0) for a in ("a.json", Lexicon.load("world"))]
    assert abs(found[0].scores - found[1].scores).max() == 0
    assert all(s.startswith("This is a video about ") for s in (build_dataset(config, "val", branch="both")[i]["sentence"] for i in range(10)))


def test_frame_folders_and_charades_tables(tagger):
    for i, clip in enumerate(CLIPS[:3]):
        Path(f"frames/v{i}").mkdir(parents=True)
        for n, frame in enumerate(read_video(clip, num_frames=10).frames): Image.fromarray(frame).save(f"frames/v{i}/v{i}-{n:06d}.png")
    Path("list.txt").write_text("v0 10 0\n./v1 10 1\nv2 10 1\n")
    Path("table.csv").write_text("video_id,label,start_time,end_time,total_time\nv2,c000,0,1,6\nv0,c001,0,2,6\nv2,c002,1,3,6\n")
    options = ["--root", "frames", "--image-tmpl", "{}-{:06d}.png", "--index-bias", 0, "--quiet"]
    bike("attributes", "list.txt", "--out", "a.json", *options)
    bike("attributes", "table.csv", "--out", "c.json", "--workers", 2, "--batch", 1, *options)
    a, c = read_attributes("a.json"), read_attributes("c.json")
    assert list(a) == ["v0", "./v1", "v2"] and list(c) == ["v2", "v0"] and all(a[v] == c[v] for v in c)


def test_other_settings_other_lists_other_names(tagger):
    dataset(4)
    Path("more.txt").write_text("b/000.mp4 1\n"); Path("a.json").write_text('{"elsewhere.mp4": {"classname_topk": ["x"]}, "b/000.mp4": {"classname_topk": ["x"]}}')
    tag_dataset("list.txt", "videos", "a.json", tagger)
    found = read_attributes("a.json")
    assert found["elsewhere.mp4"] == ["x"] and found["b/000.mp4"] != ["x"] and len(found) == 5    # another's entries: kept, or made anew
    for other, says in ((Tagger(lexicon="world", k=3), "made with top 4, not top 3"), (Tagger(lexicon=few(), k=4), "lexicon world .* lexicon few")):
        with pytest.raises(TaggingError, match=says): tag_dataset("list.txt", "videos", "a.json", other)
    tag_dataset("more.txt", "videos", "a.json", tagger)
    tag_dataset("more.txt", "videos", "a.json", Tagger(lexicon=few(), k=2), name="few")       # a second list of words beside the first
    now = json.loads(Path("a.json").read_text())
    assert {v: e["classname_topk"] for v, e in now.items()} == found and [v for v, e in now.items() if "few_topk" in e] == ["b/000.mp4"]
    assert set(now["b/000.mp4"]["few_topk"]) <= set(few().read_text().split()) and set(json.loads(Path("a.settings.json").read_text())) == {"classname", "few"}
    shutil.copy("videos/b/000.mp4", "videos/elsewhere.mp4"); Path("more.txt").write_text("b/000.mp4 1\nelsewhere.mp4 1\n")
    tag_dataset("more.txt", "videos", "a.json", tagger)                                       # not ours only because it stands in our file
    now = read_attributes("a.json", name="classname")
    assert now["elsewhere.mp4"] == now["b/000.mp4"] and now == found | {"elsewhere.mp4": found["b/000.mp4"]}


def test_words_of_a_single_clip_with_another_lexicon_are_made_anew(tagger, monkeypatch):
    names = dataset(4)
    monkeypatch.chdir("videos")
    Path("list.txt").write_text("".join(f"{n} 0\n" for n in names)); Path("short.txt").write_text(f"{names[0]} 0\n{names[2]} 0\n"); few()
    run = lambda list_: tag_dataset(list_, ".", "a.json", tagger, batch_size=1)
    single = lambda: bike("attributes", names[1], "--lexicon", "few.txt", "--out", "a.json")
    ours = lambda: not set(read_attributes("a.json")[names[1]]) <= set(few().read_text().split())
    single(); run("short.txt"); assert not ours()             # not of the list: it stays
    run("list.txt"); assert ours()
    whole = Path("a.json").read_bytes()
    single(); assert not ours()
    looked = []
    monkeypatch.setattr(tagging, "rows_of", lambda batch, tagger, f=tagging.rows_of: looked.extend(batch["path"]) or f(batch, tagger))
    run("list.txt")
    assert looked == [names[1]] and json.loads(Path("a.json").read_text()) == json.loads(whole)


@pytest.mark.parametrize("text", ["[1]", '{"classname": 3}', '{"classname": {"videos": [1]}}', "{", "null"])
def test_settings_that_are_none_are_named(text, tagger):
    dataset(1); Path("a.json").write_text("{}"); Path("a.settings.json").write_text(text)
    with pytest.raises(TaggingError, match="a.settings.json cannot be read: remove it"): tag_dataset("list.txt", "videos", "a.json", tagger)


def few():
    Path("few.txt").write_text("dog\nkite\nbicycle\nguitar\n")
    return Path("few.txt")


def test_two_runs_at_once_are_refused(tagger):
    from filelock import FileLock
    dataset(2)
    with FileLock(".a.json.lock"):
        with pytest.raises(TaggingError, match="another run"): tag_dataset("list.txt", "videos", "a.json", tagger)
    tag_dataset("list.txt", "videos", "a.json", tagger)


@pytest.mark.parametrize("args, code, says", [
    (["list.txt", "a.mp4"], 2, "give one list"), (["gone.txt"], 1, "gone.txt"), (["list.txt", "--root", "nowhere"], 1, "nowhere"), ([], 2, "--config"),
    (["a.mp4", "--batch", "2"], 2, "--batch"), (["list.txt", "--split", "val"], 2, "--split"), (["list.txt", "--modality", "film"], 1, "film"),
    (["list.txt", "--batch", "0"], 1, "--batch"), (["list.txt", "--batch", "-1"], 1, "--batch"), (["list.txt", "--workers", "-1"], 1, "workers is -1"),
    (["list.txt", "--top", "0"], 1, "k=0"), (["list.txt", "--frames", "0"], 1, "frames=0"), (["list.txt", "--name", "_topk"], 1, "_topk"), (["list.txt", "--out", "bad.txt"], 1, "bad.txt, line 1"), (["list.txt", "--pool", "median"], 1, "median"), (["list.txt", "--model", "tinny"], 1, "tinny"), (["bad.txt"], 1, "line 2")])
def test_mistakes_are_one_sentence(args, code, says):
    dataset(2); Path("bad.txt").write_text("a.mp4 0\nb.mp4\n")
    said = bike("attributes", *args, *(["--quiet"] if code == 1 else []), code=code)
    assert says in said and "Traceback" not in said
    assert code == 2 or len([l for l in said.strip().splitlines() if not l.startswith("note:")]) == 1, said


def test_a_loaded_encoder_does_what_its_name_does(tagger):
    dataset(3)
    loaded = Tagger(tagger.encoder, lexicon="world", k=4)
    assert loaded.encoder is tagger.encoder and loaded.settings == tagger.settings
    tag_dataset("list.txt", "videos", "a.json", tagger)
    assert str(tag_dataset("list.txt", "videos", "a.json", loaded)).endswith("3 of 3 videos")    # its own file: nothing to refuse
