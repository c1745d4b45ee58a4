"""Lists, classes, frames, pixels, batches. What the official files and numbers say is compared where they are at hand.

Numbers: `frame_sampling.npz` and `eval_transforms.npz` in the folder of --reference.
Files: ../shared/official, which holds every 37th line of the official lists. Without them these tests are skipped."""
import csv
import hashlib
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from bike_nb import data as D
from bike_nb.attributes import write_attributes
from bike_nb.data import (ALIASES, LABELS, Batches, DataError, MissingVideos, Packed, Record, VideoDataset, build_dataset, epoch_order, few_shot,
                          frame_indices, frame_name, make_loader, read_classes, read_list, train_transform)
from bike_nb.data import test_transform as eval_transform
from bike_nb.splits import write_split
from bike_nb.video import VideoError, read_frames, read_video, write_video

SHARED = Path(__file__).resolve().parents[2] / "shared"


def numbers_of(reference, name):
    return np.load(reference / name)


@pytest.fixture(scope="session")
def lists(tmp_path_factory):
    "Folders of lists in the official layouts: lines of our own with all their oddities, and the official ones where they lie beside the project."
    ours = tmp_path_factory.mktemp("lists")
    for name, file in OFFICIAL_LABELS.items():
        (ours/file).parent.mkdir(exist_ok=True)
        with open(ours/file, "w", encoding="utf-8", newline="") as f:
            if name == "charades": f.writelines(f"c{i:03d} {n}\n" for i, n in enumerate(read_classes(name)))
            else: csv.writer(f).writerows([("id", "name"), *enumerate(read_classes(name))])
    (ours/"k400/train.txt").write_text("".join(f"a(b)_{i:06d} {5 + i} {i * 7 % 400}\n" for i in range(120)))
    (ours/"ucf101/val.txt").write_text("".join(f"v_Dive_g{i:02d}.avi {i % 101}\n" for i in range(120)))
    (ours/"anet/anet_full_for_zeroshot.txt").write_text("".join(f"v_{i}//whole {90 + i} {i % 200}\n" for i in range(200)))
    (ours/"anet/anet_train_instance_fps1.txt").write_text("".join(f"v_{i}/0_9.5 {3 + i} {i % 200}\n" for i in range(120)))
    with open(ours/"charades/Charades_train_split_label.csv", "w", newline="") as f:
        csv.writer(f).writerows([("video_id", "label", "start_time", "end_time", "total_time"), *((f"V{i}", f"c{i % 157:03d}", 1.5 * i, 1.5 * i + i % 3, 400.25) for i in range(200))])
    for name in ("Charades_v1_test.csv", "Charades_v1_train.csv"):
        with open(ours/"charades"/name, "w", newline="") as f:
            csv.writer(f).writerows([("id", "script", "actions", "length"), *((f"W{i}", 'says "hi",\nthen; goes',
                ";".join(f"c{(i + k) % 157:03d} {k}.00 9.20" for k in (0, 1, 0, 5)[:i % 5]), 30.5 + i) for i in range(300))])
    return [ours] + [SHARED/"official"/"lists"] * (SHARED/"official"/"lists").is_dir()


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    "A small dataset of frame folders."
    folder = tmp_path_factory.mktemp("data") / "world"
    write_split(folder, "general", clips=dict(train=12, val=5, test=6), size=80, fps=6, duration=4., format="frames", workers=1)
    return folder


def config_of(folder, **keys):
    data = dict(dataset="world", modality="RGB", num_segments=4, seg_length=1, image_tmpl="img_{:05d}.jpg", input_size=48, label_list=str(folder / "classes.csv"),
                train_root=str(folder), train_list=str(folder / "train.txt"), val_root=str(folder), val_list=str(folder / "val.txt"), random_shift=True)
    return SimpleNamespace(seed=7, data=SimpleNamespace(**data | keys))


def complaint(call, *words):
    with pytest.raises(DataError) as e: call()
    text = str(e.value)
    assert "\n" not in text and all(str(w) in text for w in words), text
    return text


# ---------------------------------------------------------------- class lists

OFFICIAL_LABELS = {"kinetics400": "k400/kinetics_400_labels.csv", "ucf101": "ucf101/ucf_labels.csv", "hmdb51": "hmdb51/hmdb51_labels.csv",
                   "activitynet": "anet/anet1.3_labels.csv", "charades": "charades/Charades_v1_classes.txt",
                   **{f"kinetics600-split{i}": f"k600/k160_labels_split{i}.csv" for i in (1, 2, 3)}}


def test_shipped_lists():
    sizes = {"kinetics400": 400, "ucf101": 101, "hmdb51": 51, "activitynet": 200, "charades": 157, **{f"kinetics600-split{i}": 160 for i in (1, 2, 3)}}
    assert {name: len(read_classes(name)) for name in LABELS} == sizes
    for alias, name in ALIASES.items(): assert read_classes(alias) == read_classes(name)
    assert len({tuple(read_classes(f"kinetics600-split{i}")) for i in (1, 2, 3)}) == 3


# SHA-256 of the names in the official files, one a line, in their order; cut to 16 digits
OFFICIAL_HASHES = {"kinetics400": "a8dafb93a1204d4e", "ucf101": "3ec3894f84996395", "hmdb51": "34fa74047875b6e3", "activitynet": "696d49925655f5ee",
                   "charades": "65ff41554443bff4", "kinetics600-split1": "af31b25d446031c5", "kinetics600-split2": "c7dd90897fb1bcde", "kinetics600-split3": "08c0aa3eccfab8df"}


@pytest.mark.parametrize("name", OFFICIAL_LABELS)
def test_shipped_lists_have_the_official_names(name):
    assert hashlib.sha256("\n".join(read_classes(name)).encode()).hexdigest()[:16] == OFFICIAL_HASHES[name]


@pytest.mark.parametrize("name", OFFICIAL_LABELS)
def test_shipped_lists_equal_the_official_ones(lists, name):
    for path in (folder / OFFICIAL_LABELS[name] for folder in lists):
        assert read_classes(name) == read_classes(path)
        lines = path.read_text(encoding="utf-8").splitlines()      # and once without our reader
        theirs = [line.split(" ", 1)[1] for line in lines] if name == "charades" else [row[1] for row in csv.reader(lines)][1:]
        assert read_classes(name) == theirs


def test_kinetics_of_torchvision():
    from torchvision.models.video import R3D_18_Weights
    assert read_classes("k400") == R3D_18_Weights.KINETICS400_V1.meta["categories"]


@pytest.mark.parametrize("text, names", [
    ("id,name\n0,run\n1,walk\n", ["run", "walk"]), ("\ufeffid,name\r\n0,run\r\n\r\n1,walk\r\n", ["run", "walk"]), ("ID, Name\n0,run\n1,walk", ["run", "walk"]),
    ('id,name\n0,"run, then walk"\n1,"say ""hi"""\n', ["run, then walk", 'say "hi"']), ("c000 Holding some clothes\r\nc001 Running", ["Holding some clothes", "Running"]),
    ("run\nwalk fast\n", ["run", "walk fast"]), ("1 on 1\n2 step\n3 point shot\nrun\n", ["1 on 1", "2 step", "3 point shot", "run"]), ("run\n1 on 1\n", ["run", "1 on 1"]), ("id,name\n000,run\n001,walk", ["run", "walk"]), ("id,name\n0,None\n1,nan", ["None", "nan"]),
])
def test_class_files(tmp_path, text, names):
    (tmp_path / "c.csv").write_text(text, newline="")
    assert read_classes(tmp_path / "c.csv") == names


@pytest.mark.parametrize("text, words", [
    ("id,name\n0,run\n2,walk\n", ["line 3", "'2'"]), ("id,name\n1,run\n", ["line 2"]), ("id,name\n0,run\n1,run\n", ["line 3", "'run'"]), ("id,name\n0,\n", ["line 2", "no name"]),
    ("", ["holds no classes"]), ("id,name\n", ["holds no classes"]), ("c000 a\nc002 b\n", ["line 2", "c002"]), ("c000 a\nc001\n", ["line 2", "no name"]), ('id,name\n0,"a\n', ["line 2"]),
    *((text, ["id,name", "count from 0"]) for text in ("0,run\n1,walk\n", "label,name\n0,run\n1,walk\n", "id name\n1 run\n0 walk\n", "1 ApplyEyeMakeup\r\n2 ApplyLipstick\r\n", "0;run")),
])
def test_wrong_class_files(tmp_path, text, words):
    path = tmp_path / "c.csv"
    path.write_text(text)
    complaint(lambda: read_classes(path), path, *words)


def test_class_file_that_is_none(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00id")
    complaint(lambda: read_classes(tmp_path / "x.csv"), "UTF-8")
    complaint(lambda: read_classes(tmp_path), "folder")
    complaint(lambda: read_classes(tmp_path / "no.csv"), "no.csv")
    complaint(lambda: read_classes("k401"), "k401", "kinetics400")


# ---------------------------------------------------------------- lists

def test_official_lists(lists):
    "Every line becomes a record with the very path, count and label that it says."
    classes = dict(k400=400, ucf101=101, anet=200)
    paths = [p for folder in lists for p in sorted(folder.glob("*/*.txt")) if "classes" not in p.name]
    assert len(paths) >= (16 if len(lists) > 1 else 4)
    for path in paths:
        records, lines = read_list(path, num_classes=classes[path.parent.name]), path.read_text().splitlines()
        assert len(records) == len(lines) > 90
        for i, (r, line) in enumerate(zip(records, lines), 1):
            parts = line.split(" ")
            assert (r.path, r.label, r.num_frames, r.line) == (parts[0], int(parts[-1]), int(parts[1]) if len(parts) == 3 else None, i)
    for folder in lists:
        assert any("//" in r.path for r in read_list(folder / "anet" / "anet_full_for_zeroshot.txt"))
        with pytest.warns(UserWarning, match="fewer than 8"): short = read_list(folder / "anet" / "anet_train_instance_fps1.txt", min_frames=8)
        assert min(r.num_frames for r in short) == 8


def test_official_charades(lists):
    classes = read_classes("charades")
    for folder in (f / "charades" for f in lists):
        rows = list(csv.reader(open(folder / "Charades_train_split_label.csv", newline="")))[1:]
        records = read_list(folder / "Charades_train_split_label.csv", num_classes=157)
        assert [(r.path, f"c{r.label:03d}", r.start, r.end, r.total) for r in records] == [(a, b, float(c), float(d), float(e)) for a, b, c, d, e in rows if float(d) > float(c)]
        empty = 0
        for name in ("Charades_v1_test.csv", "Charades_v1_train.csv"):
            records, rows = read_list(folder / name, num_classes=157), list(csv.DictReader(open(folder / name, newline="")))
            assert len(records) == len(rows) == 300
            for r, row in zip(records, rows):
                assert r.path == row["id"] and r.label is None and r.total == float(row["length"])
                assert set(r.labels) == {int(a.split(" ")[0][1:]) for a in row["actions"].split(";") if a} and len(set(r.labels)) == len(r.labels)
                empty += not r.labels
        assert empty and len(classes) == 157


@pytest.mark.parametrize("text, words", [
    ("a 30 0\nb 31\n", ["line 2"]), ("a 30 0\nb x 1\n", ["line 2", "'x'"]), ("a 30 0\n\nb 31 9\n", ["line 3", "9", "0 to 4"]), ("a 30 0\nb 31 -1\n", ["line 2", "-1"]),
    ("a.mp4 0\nb.mp4 30 1\n", ["line 2"]), ("a.mp4 0\nb.mp4\n", ["line 2"]), ("a.mp4 0\nb.mp4 one\n", ["line 2", "'one'"]), ("a.mp4 1.0\n", ["line 1"]), ("\n \n", ["empty"]), ("", ["empty"]),
    ("video_id,label,start_time,end_time,total_time\nA,c001,1,2,3\nB,c009,1,2,3\n", ["line 3", "9"]), ("video_id,label,start_time,end_time,total_time\nA,x,1,2,3\n", ["line 2"]),
    ("video_id,label,start_time,end_time,total_time\nA,c001,1,2\n", ["line 2", "4 columns"]), ("video_id,label,start_time,end_time,total_time\nA,c001,nan,2,3\n", ["line 2", "nan"]),
    ("video_id,label,start_time,end_time,total_time\n", ["no rows"]), ("video_id,label,start_time,end_time,total_time\nA,c001,2,2,3\n", ["end before they start"]),
    ("id,actions,length\nA,c001 1 2;c002,3\n", ["line 2", "c002"]), ("id,actions,length\nA,c009 1 2,3\n", ["line 2"]), ("id,actions,length\n,c001 1 2,3\n", ["line 2"]), ("id,actions,length\nA,,x\n", ["line 2"]),
])
def test_wrong_lists(tmp_path, text, words):
    path = tmp_path / "list.txt"
    path.write_text(text)
    complaint(lambda: read_list(path, num_classes=5), path, *words)


def test_list_details(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("\ufeffmy videos/a b 30 0\r\nx\t12\t4  \r\n\r\n", newline="")
    assert [(r.path, r.num_frames, r.label, r.line) for r in read_list(path)] == [("my videos/a b", 30, 0, 1), ("x", 12, 4, 2)]
    path.write_text("my videos/a b.mp4 3\n")
    assert read_list(path, kind="video") == [Record("my videos/a b.mp4", 3, line=1)]
    complaint(lambda: read_list(path, kind="frames"), "'video'")
    complaint(lambda: read_list(path, kind="charades-train"), "video_id")
    complaint(lambda: read_list(path, kind="pictures"), "pictures")
    complaint(lambda: read_list(tmp_path), "folder")


# ---------------------------------------------------------------- few-shot

def test_few_shot():
    records = [Record(f"v{i}", i % 7, 30) for i in range(100)]
    with_four = few_shot(records, 4, seed=3)
    once = with_four[:28]
    assert with_four == once * (100 // 28)                         # the official n_repeat
    assert {label: sum(r.label == label for r in once) for label in range(7)} == dict.fromkeys(range(7), 4)
    assert len(set(once)) == 28 and few_shot(records, 4, seed=3) == with_four and set(few_shot(records, 4, seed=4)) != set(once)
    assert set(few_shot(records, 2, seed=3)) < set(once)
    assert few_shot(records, 4, seed=3, repeat=False) == once
    assert few_shot(records[:14], 2, seed=0) and len(few_shot(records[:13] + records[20:21], 2)) == 14
    complaint(lambda: few_shot(records, 15, classes=list("abcdefg")), "class 2 (c)", "14 clips", "15")
    complaint(lambda: few_shot(records, 2, classes=list("abcdefgh")), "class 7 (h)", "0 clips")
    complaint(lambda: few_shot(records, 0), "shot=0")
    complaint(lambda: few_shot([], 2), "none")
    complaint(lambda: few_shot([Record("a", None, labels=(1,))], 1), "one label")


# ---------------------------------------------------------------- frames

def test_frame_sampling_parity(reference):
    "All arrays, exactly. The uniform training indices come from Python's `random`, seeded once; those of dense sampling from NumPy, seeded before each."
    numbers = numbers_of(reference, "frame_sampling.npz")
    seed, compared, varied = int(numbers["numpy_seed"]), 0, set()
    random.seed(seed)
    for key in numbers.files:
        if key == "numpy_seed": continue
        kind, n, segments, *clips = key.split("/")
        mode, how = kind.split("_")
        np.random.seed(seed)
        ours = frame_indices(mode, int(n), int(segments), how == "dense", *map(int, clips), rng=random if kind == "train_uniform" else np.random)
        assert ours.dtype == np.int64 and ours.shape == numbers[key].shape and (ours == numbers[key]).all(), key
        compared, varied = compared + 1, varied | {kind}
    assert compared == len(numbers.files) - 1 and varied == {"train_uniform", "train_dense", "val_uniform", "val_dense", "test_uniform", "test_dense"}


@pytest.mark.parametrize("segments", [1, 3, 8, 16, 32])
def test_frame_indices_stay_inside(segments):
    rng = random.Random(0)
    for n in [*range(1, 40), 127, 128, 129, 130, 299, 5000]:
        for mode, dense, clips in [("train", False, 1), ("train", True, 1), ("val", False, 1), ("val", True, 1), ("segment", False, 1), ("segment", True, 1),
                                   *[("test", d, c) for d in (False, True) for c in (1, 2, 3, 10)]]:
            x = frame_indices(mode, n, segments, dense, clips, rng)
            assert x.shape == (segments * (clips if mode == "test" else 1),) and x.min() >= 0 and x.max() < n
            if mode in ("train", "segment") and not dense: assert (np.diff(x) >= 0).all()


def test_dense_test_with_one_clip():
    "The official formula divides by zero; ours is the middle one of three."
    for n in (100, 128, 129, 300, 1001):
        one, three = frame_indices("test", n, 8, True, 1), frame_indices("test", n, 8, True, 3)
        assert (one == three[8:16]).all() or n < 128


def test_segment_sampling_as_the_textbook():
    "The official datasets/charades.py in plain NumPy, with the same generator."
    for n in (1, 5, 8, 9, 30, 200):
        np.random.seed(n)
        if n <= 8: expected = np.sort(np.concatenate([np.arange(n), np.random.randint(n, size=8 - n)]))
        else:
            ticks = [i * n // 8 for i in range(9)]
            expected = np.array([ticks[i] + np.random.randint(ticks[i + 1] - ticks[i]) for i in range(8)])
        np.random.seed(n)
        assert (frame_indices("segment", n, 8, rng=np.random) == expected).all()


def test_read_frames(tmp_path):
    "Frames by their number are those of the whole film, by both decoders."
    film = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 3), np.uint8).repeat(6, 1).repeat(6, 2)
    path = write_video(tmp_path / "film.mp4", film, fps=10)
    whole = read_video(path, num_frames=None, backend="pyav").frames
    for backend in ("auto", "pyav"):
        got = read_frames(path, [39, 0, 7, 7], backend)
        assert np.abs(got.frames.astype(int) - whole[[39, 0, 7, 7]]).max() <= 1 and np.allclose(got.times, [3.9, 0, .7, .7])
    assert (read_frames(path, lambda n: np.arange(n) // 2, "pyav").frames == whole[np.arange(40) // 2]).all()
    for bad in ([40], [-1], [], [.5], lambda n: [n]):
        with pytest.raises(VideoError): read_frames(path, bad)


# ---------------------------------------------------------------- pixels

def official_scale(numbers, crop):
    "The size of the shorter side behind the arrays: the only one that gives the centre crops."
    fits = []
    for scale in range(crop, 3 * crop):
        gaps = [np.abs(eval_transform(crop, scale=scale)(pictures_of(numbers, p)).flatten(0, 2).numpy() - numbers[f"{p}_center"]).max() for p in ("landscape", "portrait")]
        if max(gaps) < 1e-5: fits.append(scale)
    assert len(fits) == 1, f"scales that fit: {fits}"
    return fits[0]


def pictures_of(numbers, kind): return [Image.fromarray(f) for f in numbers[f"{kind}_frames"]]


def test_eval_transforms_parity(reference):
    "Every array, bit by bit: crops in the official order, the frames of a crop together, stacked on the channels."
    numbers = numbers_of(reference, "eval_transforms.npz")
    crop = numbers["landscape_center"].shape[-1]
    scale, compared = official_scale(numbers, crop), 0
    for key in numbers.files:
        kind, name = key.split("_")
        if name == "frames": continue
        ours = eval_transform(crop, dict(center=1, three=3, five=5, ten=10)[name], scale=scale)(pictures_of(numbers, kind)).flatten(0, 2).numpy()
        assert ours.dtype == np.float32 and ours.shape == numbers[key].shape and (ours == numbers[key]).all(), key
        compared += 1
    assert compared >= 8


def test_scaling_as_torchvision():
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize
    rng = np.random.default_rng(0)
    for h, w in [(72, 96), (97, 61), (64, 64), (65, 64), (33, 200), (255, 256)]:
        picture = Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8))
        for size in (32, 64):
            assert np.array_equal(D._scaled(picture, size), Resize(size, InterpolationMode.BICUBIC)(picture))
            theirs = CenterCrop(30)(Resize(size, InterpolationMode.BICUBIC)(picture))
            x = eval_transform(30, scale=size, preprocess_cfg=dict(mean=[0.] * 3, std=[1.] * 3))([picture])[0, 0]
            assert torch.equal((x * 255).round().byte().permute(1, 2, 0), torch.from_numpy(np.array(theirs)))


def test_sizes_of_the_official_configs():
    assert [(t.size, t.scale) for t in map(eval_transform, (224, 336, 96))] == [(224, 256), (336, 336), (96, 96)]
    assert [(t.size, t.scale) for t in map(train_transform, (224, 336, 96))] == [(224, 256), (336, 336), (96, 96)]
    assert train_transform().crop_scale == (.08, 1.) and train_transform().grayscale == .2 and train_transform().flip
    complaint(lambda: eval_transform(64, scale=56), "56")


def textbook_training(pictures, size, scale, rng, p_grey=.2):
    "The official augmentation, step by step with torchvision."
    from torchvision.transforms import Grayscale, InterpolationMode, Resize
    import math
    pictures = [Resize(scale, InterpolationMode.BICUBIC)(p) for p in pictures]
    w, h = pictures[0].size
    while True:
        area, aspect = rng.uniform(.08, 1) * w * h, rng.uniform(3 / 4, 4 / 3)
        a, b = int(round(math.sqrt(area * aspect))), int(round(math.sqrt(area / aspect)))
        if rng.random() < .5: a, b = b, a
        if a <= w and b <= h: break
    x, y = rng.randint(0, w - a), rng.randint(0, h - b)
    pictures = [p.crop((x, y, x + a, y + b)).resize((size, size), Image.BILINEAR) for p in pictures]
    if rng.random() < .5: pictures = [p.transpose(Image.FLIP_LEFT_RIGHT) for p in pictures]
    if rng.random() < p_grey: pictures = [Grayscale(3)(p) for p in pictures]
    x = torch.from_numpy(np.concatenate(pictures, 2)).permute(2, 0, 1).contiguous().float().div(255)
    mean, std = (torch.tensor(v * len(pictures)).view(-1, 1, 1) for v in ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]))
    return x.sub_(mean).div_(std)


def test_training_transform_as_the_textbook():
    gen, kinds = np.random.default_rng(0), set()
    pictures = [Image.fromarray(gen.integers(0, 256, (90, 120, 3), dtype=np.uint8)) for _ in range(3)]
    for seed in range(40):
        ours = train_transform(56, scale=64)(pictures, random.Random(seed))
        assert ours.shape == (1, 3, 3, 56, 56) and torch.equal(ours.flatten(0, 2), textbook_training(pictures, 56, 64, random.Random(seed))), seed
        raw = ours[0] * torch.tensor(D.CLIP_STD).view(3, 1, 1) + torch.tensor(D.CLIP_MEAN).view(3, 1, 1)
        kinds.add(bool((raw[:, 0] - raw[:, 2]).abs().max() < 1e-5))
    assert kinds == {True, False}                                  # some grey, some not


def test_training_transform_treats_all_frames_alike():
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 70, 3), dtype=np.uint8))
    for seed in range(20):
        x = train_transform(32)([picture] * 4, random.Random(seed))[0]
        assert all(torch.equal(x[0], f) for f in x)


def test_flip_and_grey_can_be_switched_off():
    "Without both, a picture that is red on the left stays so; with flip, it turns in half of the clips; other draws do not move."
    a = np.zeros((64, 64, 3), np.uint8); a[:, :32, 0] = 255
    picture, plain = [Image.fromarray(a)], dict(mean=[0.] * 3, std=[1.] * 3)
    left = lambda x: bool(x[0, 0, 0, :, 0].mean() > x[0, 0, 0, :, -1].mean())
    make = lambda **k: [train_transform(32, plain, crop_scale=(.9, 1), **k)(picture, random.Random(s)) for s in range(200)]
    off, on, grey = make(flip=False, grayscale=0), make(flip=True, grayscale=0), make(flip=False, grayscale=1)
    assert all(map(left, off)) and .4 < np.mean([left(x) for x in on]) < .6
    assert all(torch.equal(x, y if left(y) else y.flip(-1)) for x, y in zip(off, on))
    assert all(torch.equal(x[0, 0, 0], x[0, 0, 2]) for x in grey) and not any(torch.equal(x[0, 0, 0], x[0, 0, 2]) for x in off)
    share = np.mean([torch.equal(x[0, 0, 0], x[0, 0, 2]) for x in make(flip=False)])
    assert .1 < share < .3


# ---------------------------------------------------------------- datasets

def textbook_test(folder, n, size, scale, segments, template, bias):
    "Centre crops of evenly spread frames, written down plainly."
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize
    frames = []
    for i in range(segments):
        with Image.open(folder / template.format(int(n / segments * i) + bias)) as p: picture = p.convert("RGB")
        picture = CenterCrop(size)(Resize(scale, InterpolationMode.BICUBIC)(picture))
        x = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
        frames.append((x - torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)) / torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1))
    return torch.stack(frames)


def test_a_whole_set_against_the_textbook(world):
    "An official-layout list and configuration: pixels and labels of every test clip."
    for split, name in (("val", "val"), ("test", "val")):
        data = build_dataset(config_of(world), split)
        lines = (world / f"{name}.txt").read_text().split("\n")[:-1]
        assert len(data) == len(lines) == 5
        for i, line in enumerate(lines):
            path, n, label = line.split(" ")
            sample = data[i]
            assert torch.equal(sample["frames"][0], textbook_test(world / path, int(n), 48, 48, 4, "img_{:05d}.jpg", 1))
            assert sample["label"] == int(label) and sample["label"].dtype == torch.int64 and sample["path"] == path and sample["index"] == i and sample["missing"] == ""
            assert sample["frames"].dtype == torch.float32


@pytest.mark.parametrize("template, bias, first", [("frame{:d}.jpg", None, 0), ("image_{:06d}.jpg", None, 1), ("image_{:04d}.jpg", 0, 0), ("{}-{:06d}.jpg", None, 1), ("frame{:d}.jpg", 5, 5)])
def test_templates_and_bias(tmp_path, template, bias, first):
    "Frame k is of brightness 10·k: the numbers that are read are those that are meant."
    folder = tmp_path / "deep" / "clip{1}+"                         # odd characters included
    folder.mkdir(parents=True)
    for k in range(12): Image.new("RGB", (40, 30), (10 * k,) * 3).save(folder / frame_name(template, k + first, folder.name).replace(".jpg", ".png"))
    template = template.replace(".jpg", ".png") if "frame{:d}" not in template else template
    if template.endswith(".jpg"):
        for p in folder.iterdir(): p.rename(p.with_suffix(".jpg"))
    plain = dict(mean=[0.] * 3, std=[1.] * 3)
    data = VideoDataset([Record("deep//clip{1}+", 0, 12)], ["a"], tmp_path, eval_transform(24, preprocess_cfg=plain), "test", segments=4, template=template, index_bias=bias, clips=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = data[0]
    assert x["note"] == x["missing"] == ""
    assert ((x["frames"].mean((2, 3, 4)) * 25.5).round().int() == torch.tensor([[0, 3, 6, 9], [2, 5, 8, 11]])).all()


def test_the_listing_counts_not_the_list(world, tmp_path):
    "As in the official code: whatever number the list gives."
    path = (world / "val.txt").read_text().split(" ")[0]
    a, b = (VideoDataset([Record(path, 0, n)], ["a"] * 20, world, eval_transform(48), "val", segments=4)[0]["frames"] for n in (24, 999))
    assert torch.equal(a, b)


def test_views_are_crops_times_clips(world):
    "Crop by crop, and clip by clip in each, as `images.view(-1, segments, …)` of the official test sees them."
    config = config_of(world)
    data = build_dataset(config, "test", clips=3, crops=10)
    x = data[1]["frames"]
    assert x.shape == (30, 4, 3, 48, 48) and data.views == 30
    record = data.records[1]
    pictures = [Image.open(world / record.path / f"img_{i + 1:05d}.jpg").convert("RGB") for i in frame_indices("test", 24, 4, clips=3)]
    assert torch.equal(x.view(10, 12, 3, 48, 48), eval_transform(48, crops=10)(pictures))
    assert build_dataset(config, "val", clips=3)[0]["frames"].shape[0] == 1


def test_training_frames_and_random_shift(world):
    config = config_of(world)
    a = build_dataset(config, "train")
    assert not torch.equal(a[0]["frames"], a[1, 0]["frames"]) and torch.equal(a[0]["frames"], a[0, 0]["frames"])
    b = build_dataset(config_of(world, flip=False, grayscale=0., crop_scale=(1., 1.), random_shift=False), "train")
    assert len(b) == 12 and b.transform.flip is False and b.random_shift is False


def test_few_shot_and_checks_of_the_configuration(world):
    classes = read_classes(world / "classes.csv")
    list_ = world / "train.txt"
    labels = {r.label for r in read_list(list_)}
    assert len(labels) < len(classes)
    complaint(lambda: build_dataset(config_of(world, shot=1), "train"), "0 clips")
    complaint(lambda: build_dataset(config_of(world, num_classes=400), "train"), "400", "20")
    complaint(lambda: build_dataset(config_of(world, val_root="/bpfs/nowhere"), "val"), "val_root", "/bpfs/nowhere")
    complaint(lambda: build_dataset(config_of(world, val_list=None), "val"), "val_list")
    complaint(lambda: build_dataset(config_of(world, label_list=None), "val"), "label_list")
    complaint(lambda: build_dataset(config_of(world, label_list="kinetics1000"), "val"), "kinetics1000")
    complaint(lambda: build_dataset(config_of(world, modality="flow"), "val"), "flow")
    complaint(lambda: build_dataset(config_of(world, image_tmpl="img.jpg"), "val"), "img.jpg")
    complaint(lambda: build_dataset(config_of(world), "val", branch="words"), "words")
    complaint(lambda: build_dataset(config_of(world), "test", crops=2), "crops=2")
    for fps in (0, -3): complaint(lambda: build_dataset(config_of(world, fps=fps), "val"), f"data.fps is {fps}")
    for record in (Record("a", 3), Record("a", None, labels=(0, 3))):
        complaint(lambda: VideoDataset([record], list("abc"), decode=False, sentences=["x"])[0], "a has the label 3", "3 classes")


def test_short_videos_are_left_out_in_training_only(world, tmp_path):
    (tmp_path / "list.txt").write_text((world / "val.txt").read_text() + "val/short 5 0\n")
    config = config_of(world, val_list=str(tmp_path / "list.txt"))
    with pytest.warns(UserWarning, match="1 of the 6 records"): assert len(build_dataset(config, "val")) == 5
    assert len(build_dataset(config, "test")) == 6


def test_dense(world):
    assert build_dataset(config_of(world, dense=True), "train").dense and build_dataset(config_of(world, dense=True), "val").dense
    assert not build_dataset(config_of(world, dense=True), "test", dense=False).dense
    assert build_dataset(config_of(world), "test", dense=True, clips=1)[0]["frames"].shape == (1, 4, 3, 48, 48)


# ---------------------------------------------------------------- Charades

@pytest.fixture(scope="session")
def charades(tmp_path_factory):
    "Two videos of 100 frames at 4 frames a second; frame k (from 1) is of brightness k."
    root = tmp_path_factory.mktemp("charades")
    for vid in ("AAAAA", "BBBBB"):
        (root / vid).mkdir()
        for k in range(1, 101): Image.new("L", (20, 16), k).save(root / vid / f"{vid}-{k:06d}.png")
    (root / "train.csv").write_text("video_id,label,start_time,end_time,total_time\r\nAAAAA,c002,5.00,15.00,25.00\r\nBBBBB,c001,20.00,31.00,25.00\r\n"
                                    "BBBBB,c001,3.00,3.00,25.00\r\nAAAAA,c000,1.00,1.10,25.00\r\nBBBBB,c000,24.00,30.00,40.00\r\n", newline="")
    (root / "test.csv").write_text('id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\r\n'
                                   'AAAAA,S,Room,5,6,Yes,"one, two",a;b,"x\r\ny",c002 5 15;c000 1 2;c002 16 17,25.00\r\nBBBBB,S,Room,5,6,Yes,s,a,d,,25.00\r\n', newline="")
    (root / "classes.txt").write_text("c000 Holding some clothes\r\nc001 Running\r\nc002 Sitting\r\n", newline="")
    return SimpleNamespace(seed=0, data=SimpleNamespace(dataset="charades", modality="RGB", num_segments=8, image_tmpl="{}-{:06d}.png", fps=4, input_size=16,
        label_list=str(root / "classes.txt"), train_root=str(root), train_list=str(root / "train.csv"), val_root=str(root), val_list=str(root / "test.csv"), num_classes=3, shot=None))


def brightness(x): return (x["frames"].mean((2, 3, 4)) * 255).round().int()


def test_charades_segments(charades):
    with pytest.warns(UserWarning, match="1 of the 5 records .* end before they start"): data = build_dataset(charades, "train", dict(mean=[0.] * 3, std=[1.] * 3))
    assert len(data) == 4 and not data.multi_label and [int(data[i]["label"]) for i in range(4)] == [2, 1, 0, 0]
    seen = [torch.cat([brightness(data[e, i])[0] for e in range(40)]) for i in range(4)]
    for i, (low, high) in enumerate([(21, 60), (81, 100), (5, 5), (97, 100)]):       # first frame is number 1; 31 s is cut to the length of 25 s
        assert seen[i].min() == low and seen[i].max() == high, (i, seen[i].min(), seen[i].max())


def test_charades_test(charades):
    data = build_dataset(charades, "test", dict(mean=[0.] * 3, std=[1.] * 3))
    assert data.multi_label and len(data) == 2
    assert data[0]["labels"].tolist() == [1, 0, 1] and data[1]["labels"].tolist() == [0, 0, 0] and data[0]["labels"].dtype == torch.float32 and "label" not in data[0]
    assert brightness(data[0])[0].tolist() == [1 + int(12.5 * i) for i in range(8)]
    batch = next(iter(make_loader(data, 2)))
    assert batch["labels"].shape == (2, 3) and batch["frames"].shape == (2, 1, 8, 3, 16, 16)


def test_charades_segments_of_files(tmp_path, monkeypatch):
    "A file knows when its frames are shown, so no rate has to be given; in every mode the frames lie in their segment."
    write_split(tmp_path / "w", "multi-label", clips=dict(train=4, val=1, test=1), size=32, fps=5, workers=1)
    keys = dict(dataset="charades", modality="video", label_list=str(tmp_path / "w" / "classes.txt"), train_root=str(tmp_path / "w" / "train"))
    config, read, found = config_of(tmp_path / "w", **keys, train_list=str(tmp_path / "w" / "train_segments.csv"), num_segments=8), D._read, []
    monkeypatch.setattr(D, "_read", lambda *args: found.append(read(*args)) or found[-1])
    for random_shift in (True, False):
        config.data.random_shift = random_shift
        data = build_dataset(config, "train")
        for i, r in enumerate(data.records):
            found.clear()
            assert data[i]["missing"] == data[i]["note"] == ""
            times = np.concatenate([index.times[ranks] for index, ranks, _ in found])
            assert (times >= r.start).all() and (times < r.end).all() and len(set(times)) > 1, r
    assert len(data) > 4
    late = VideoDataset([Record(data.records[0].path, 0, start=50, end=60, total=90)], data.classes, data.root, data.transform, segments=4, modality="video")
    assert late[0]["missing"] == "" and set(found[-1][1]) == {59}                       # behind the end of the file: its last frame


def test_charades_lists_in_the_wrong_place(charades):
    swapped = SimpleNamespace(**vars(charades.data) | dict(train_list=charades.data.val_list, val_list=charades.data.train_list))
    complaint(lambda: build_dataset(SimpleNamespace(seed=0, data=swapped), "train"), "charades-train")
    complaint(lambda: build_dataset(SimpleNamespace(seed=0, data=swapped), "test"), "charades-test")


# ---------------------------------------------------------------- attributes

def test_attributes(world, tmp_path):
    paths = [line.split(" ")[0] for line in (world / "train.txt").read_text().splitlines()]
    write_attributes(tmp_path / "a.json", {p.replace("/", "//"): [f"word{i}", "sun", "tree", "dog", "cat", "sixth"] for i, p in enumerate(paths)})
    config = config_of(world, attributes_train_path=str(tmp_path / "a.json"), select_topk_attributes=3, train_root="/nowhere")
    data = build_dataset(config, "train", branch="attributes")          # no frame is read, so no root is needed
    assert [data[i]["sentence"] for i in range(12)] == [f"This is a video about word{i},sun,tree" for i in range(12)]
    batch = next(iter(make_loader(data, 4, workers=1)))
    assert set(batch) == {"sentence", "label", "index", "path", "missing", "note"} and len(batch["sentence"]) == 4
    config.data.train_root = str(world)
    both = build_dataset(config, "train", branch="both")[2]
    assert both["sentence"].endswith("word2,sun,tree") and both["frames"].shape == (1, 4, 3, 48, 48)
    assert "sentence" not in build_dataset(config, "train")[0]
    write_attributes(tmp_path / "b.json", {p: ["sun"] for p in paths[:3] + paths[4:]})
    config.data.attributes_train_path = str(tmp_path / "b.json")
    complaint(lambda: build_dataset(config, "train", branch="both"), "b.json", paths[3], "line 4", "1 of the 12")
    config.data.attributes_train_path = None
    complaint(lambda: build_dataset(config, "train", branch="both"), "attributes_train_path")
    config.data.attributes_train_path = str(tmp_path / "c.json")
    complaint(lambda: build_dataset(config, "train", branch="both"), "c.json")


# ---------------------------------------------------------------- what is missing

@pytest.fixture
def damaged(world, tmp_path):
    "The world with a folder missing, an empty one, one of broken pictures, one without a frame, and files of various kinds."
    folder = tmp_path / "damaged"
    shutil.copytree(world, folder)
    paths = [folder / line.split(" ")[0] for line in (folder / "train.txt").read_text().splitlines()]
    shutil.rmtree(paths[1])
    for p in paths[2].iterdir(): p.unlink()
    for p in paths[5].iterdir(): p.write_bytes(p.read_bytes()[:200])
    for p in paths[7].glob("img_0000*.jpg"): p.unlink()
    return folder, paths


@pytest.mark.parametrize("workers", [0, 2])
def test_missing_videos_in_training(damaged, workers):
    folder, paths = damaged
    data = build_dataset(config_of(folder), "train")
    loader = make_loader(data, 4, workers=workers, shuffle=True, seed=1, drop_last=True)
    with pytest.warns(UserWarning) as said:
        for epoch in range(3):
            loader.set_epoch(epoch)
            batches = list(loader)
            shown = [p for b in batches for p in b["path"]]
            assert len(shown) == 12 and not {str(p.relative_to(folder)) for p in (paths[1], paths[2], paths[5])} & set(shown)
            assert all(torch.isfinite(b["frames"]).all() and b["frames"].flatten(1).std(1).min() > 0 for b in batches)
            for b in batches:                                      # the label belongs to what is shown
                for p, y, i in zip(b["path"], b["label"], b["index"]): assert data.records[int(i)].path == p and data.records[int(i)].label == y
    assert set(loader.missing.paths) == {str(paths[i]) for i in (1, 2, 5)} and len(loader.missing) == 3
    texts = sorted(str(w.message) for w in said)
    assert len(texts) == len(set(t.split(":")[0] for t in texts)) == 4 and all("\n" not in t for t in texts)      # once each, the gap too
    assert any("no such folder" in t for t in texts) and any("is empty" in t for t in texts) and any("frames can be read" in t for t in texts) and any("nearest" in t for t in texts)
    assert "3 videos" in loader.missing.summary()


@pytest.mark.parametrize("workers", [0, 2])
def test_missing_videos_in_a_test(damaged, workers):
    folder, paths = damaged
    data = build_dataset(config_of(folder, val_list=str(folder / "train.txt")), "test", crops=3, clips=2)
    loader = make_loader(data, 5, workers=workers)
    with pytest.warns(UserWarning): batches = list(loader)
    missing = {i for b in batches for i, m in zip(b["index"].tolist(), b["missing"]) if m}
    assert missing == {1, 2, 5} and [i for b in batches for i in b["index"].tolist()] == list(range(12))
    for b in batches:
        assert b["frames"].shape[1:] == (6, 4, 3, 48, 48)
        for m, x in zip(b["missing"], b["frames"]): assert (x == 0).all() == bool(m)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert MissingVideos().see(dict(path=["a", "b"], missing=["", ""], note=["", ""])).tolist() == [True, True] and MissingVideos().summary() == ""


def test_nearest_frame(damaged):
    folder, paths = damaged
    numbers = sorted(int(p.stem[4:]) for p in paths[7].iterdir())
    assert numbers[0] == 10
    pictures, note = D._read_folder(paths[7], lambda n: [2, n - 1], "img_{:05d}.jpg", 1)
    assert np.array_equal(pictures[0], Image.open(paths[7] / "img_00010.jpg")) and "frame 3" in note and "(10)" in note and str(paths[7]) in note


def test_all_missing(damaged, tmp_path):
    folder, paths = damaged
    for workers in (0, 1):
        data = build_dataset(config_of(folder, train_root=str(tmp_path)), "train")
        with pytest.raises(DataError, match="12 videos in a row cannot be read.*no such folder"): list(make_loader(data, 2, workers=workers, shuffle=True, drop_last=True))
    wrong = build_dataset(config_of(folder, image_tmpl="image_{:06d}.jpg", val_list=str(folder / "test.txt")), "test")
    assert "data.image_tmpl" in wrong[0]["note"] and wrong[0]["missing"]


def test_damaged_files(world, tmp_path):
    "Video files: read by number, a bad one named, a damaged one with a note."
    film = [np.asarray(Image.open(p).convert("RGB")) for p in sorted((world / (world / "val.txt").read_text().split(" ")[0]).iterdir())]
    shutil.copy(write_video(tmp_path / "a.mp4", film, fps=6), tmp_path / "b.mp4")
    (tmp_path / "bad.mp4").write_text("no video")
    (tmp_path / "list.txt").write_text("a.mp4 0\nbad.mp4 1\nnone.mp4 2\nb 3\n")
    config = config_of(world, modality="video", val_root=str(tmp_path), val_list=str(tmp_path / "list.txt"))
    data = build_dataset(config, "test")
    frames = read_video(tmp_path / "a.mp4", num_frames=None, backend="pyav").frames
    expected = eval_transform(48)([Image.fromarray(frames[i]) for i in frame_indices("test", len(frames), 4)])
    first, fourth = data[0], data[3]
    assert (first["note"], fourth["note"]) == ("", "")
    assert torch.equal(first["frames"], expected) and torch.equal(fourth["frames"], expected)
    with pytest.warns(UserWarning) as said: loader = make_loader(data, 2, workers=1); list(loader)
    assert set(loader.missing.paths) == {str(tmp_path / n) for n in ("bad.mp4", "none.mp4")} and len(said) == 2


def test_workers_after_a_video_was_opened_here(tmp_path):
    "The remains of a decoder in the parent once made forked workers wait for threads that do not exist."
    write_video(tmp_path / "a.mp4", np.random.default_rng(0).integers(0, 255, (30, 64, 64, 3), np.uint8), fps=6)
    code = ("import sys; from bike_nb.data import *; from bike_nb.video import read_video, iter_video\n"
            "folder = sys.argv[1]\n"
            "for backend in ('pyav', 'auto'): read_video(folder + '/a.mp4', backend=backend)\n"
            "half = iter_video(folder + '/a.mp4', block=4); next(half)\n"
            "data = VideoDataset([Record('a.mp4', 0)] * 8, ['x'], folder, train_transform(32), segments=4, modality='video')\n"
            "print(sum(len(list(make_loader(data, 2, workers=2))) for _ in range(2)), len(list(half)))")
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try: assert process.communicate(timeout=50)[0].split() == ["8", "7"]
        except subprocess.TimeoutExpired: pytest.fail("the workers hang")
        finally:
            if process.poll() is None: os.killpg(process.pid, signal.SIGKILL)


# ---------------------------------------------------------------- batches

def test_batches_of_ranks_are_parts_of_the_global_batch():
    for n, size, world_size in [(64, 4, 2), (67, 4, 2), (37, 3, 3), (8, 2, 4)]:
        for drop_last in (True, False):
            parts = [list(Batches(n, size, True, 5, 2, r, world_size, drop_last, 0)) for r in range(world_size)]
            whole = list(Batches(n, size * world_size, True, 5, 2, 0, 1, drop_last, 0))
            joined = [sum(step, []) for step in zip(*parts)]
            assert joined == whole[:len(joined)] and len({len(p) for p in parts}) == 1 and len(whole) - len(joined) in (0, 0 if drop_last else 1)
            assert all(len(b) for p in parts for b in p)
            for start in range(len(parts[0]) + 1): assert list(Batches(n, size, True, 5, 2, 0, world_size, drop_last, start)) == parts[0][start:]
            assert len(Batches(n, size, True, 5, 2, 0, world_size, drop_last, 1)) == len(parts[0]) - 1
    seen = [i for _, i in sum(Batches(64, 4, True, 0, 3, 0, 1, True, 0), [])]
    assert sorted(seen) == list(range(64)) and seen != sorted(seen) and {e for e, _ in sum(Batches(64, 4, True, 0, 3, 0, 1, True, 0), [])} == {3}


def test_evaluation_is_neither_padded_nor_shuffled():
    for n, size, world_size in [(10, 4, 3), (2, 4, 3), (12, 4, 3), (1, 1, 1)]:
        parts = [[i for b in Batches(n, size, False, 0, 0, r, world_size, False, 0) for _, i in b] for r in range(world_size)]
        assert parts == [list(range(n))[r::world_size] for r in range(world_size)]


def test_the_order_never_changes():
    "A run that is taken up again years later must find the order it left: numbers written down once."
    assert epoch_order(10, 0, 0).tolist() == ORDER and sorted(epoch_order(10, 1024, 3)) == list(range(10))
    assert [random.Random("sample 0 0 0").random(), random.Random("sample 7 1 3").random()] == DRAWS


ORDER = [6, 1, 0, 5, 3, 8, 7, 9, 2, 4]
DRAWS = [0.7401749077530095, 0.697846555689979]


def test_data_do_not_depend_on_workers_ranks_or_the_past(world):
    config = config_of(world)
    take = lambda **k: [(b["path"], b["frames"]) for b in make_loader(build_dataset(config, "train"), shuffle=True, seed=7, epoch=2, drop_last=True, **k)]
    same = lambda a, b: len(a) == len(b) and all(p == q and torch.equal(x, y) for (p, x), (q, y) in zip(a, b))
    alone = take(batch_size=4)
    random.seed(99); np.random.seed(99); torch.manual_seed(99)
    assert same(alone, take(batch_size=4, workers=2)) and same(alone, take(batch_size=4, workers=3))
    assert same(alone[1:], take(batch_size=4, start=1, workers=2))
    ranks = [take(batch_size=2, rank=r, world=2, workers=r) for r in range(2)]
    assert same(alone, [(p + q, torch.cat([x, y])) for (p, x), (q, y) in zip(*ranks)])
    loader = make_loader(build_dataset(config, "train"), 4, workers=2, shuffle=True, seed=7, drop_last=True)      # workers that stay alive
    for epoch, start in ((0, 0), (2, 1), (2, 0)):
        loader.set_epoch(epoch, start)
        got = [(b["path"], b["frames"]) for b in loader]
    assert same(alone, got)
    loader.set_epoch(2)
    next(iter(loader))                                             # a round that is broken off
    assert same(alone, [(b["path"], b["frames"]) for b in loader])


def test_loader_leaves_the_global_generators_alone(world):
    data = build_dataset(config_of(world), "train")
    torch.manual_seed(0); random.seed(0); np.random.seed(0)
    before = torch.get_rng_state(), random.getstate(), pickle.dumps(np.random.get_state())
    for workers in (0, 1): list(make_loader(data, 4, workers=workers, shuffle=True))
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == random.getstate() and before[2] == pickle.dumps(np.random.get_state())


def test_datasets_can_be_pickled(world):
    "Workers may be spawned instead of forked (macOS, Windows)."
    for split in ("train", "test"):
        data = build_dataset(config_of(world), split)
        assert torch.equal(pickle.loads(pickle.dumps(data))[0]["frames"], data[0]["frames"])


def test_impossible_loaders(world):
    data = build_dataset(config_of(world), "train")
    complaint(lambda: make_loader(data, 13, shuffle=True, drop_last=True), "12 videos", "13")
    complaint(lambda: make_loader(data, 0), "batch_size=0")
    complaint(lambda: make_loader(data, 1, rank=1), "rank=1")
    complaint(lambda: make_loader(data, 1, seed=-1), "seed=-1")
    with pytest.raises(IndexError): data[12]
    assert torch.equal(data[-1]["frames"], data[11]["frames"])


def test_packed():
    items = [("a", i, None, (1, 2)) for i in range(300)]
    packed = Packed(items)
    assert list(packed) == items and packed[5:9] == items[5:9] and packed[-300] == items[0] and len(pickle.loads(pickle.dumps(packed))) == 300
    assert items[7] in packed
    for i in (300, -301):
        with pytest.raises(IndexError): packed[i]


def test_import_is_light():
    "Reading data needs neither a model nor a plot."
    code = "import sys, bike_nb.data; print([m for m in ('open_clip', 'matplotlib', 'torchvision', 'decord') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


# ---------------------------------------------------------------- classes that a mirror turns into each other

def half_bright(folder, label):
    "A list of one folder whose pictures are bright on the left half."
    (folder / "clip").mkdir(parents=True)
    picture = np.zeros((48, 48, 3), np.uint8)
    picture[:, :24] = 200
    for k in range(1, 10): Image.fromarray(picture).save(folder / "clip" / f"img_{k:05d}.png")
    (folder / "train.txt").write_text(f"clip 9 {label}\n")
    (folder / "classes.csv").write_text("id,name\n0,left\n1,right\n2,stays\n")
    return config_of(folder, val_list=str(folder / "train.txt"), image_tmpl="img_{:05d}.png", crop_scale=[1., 1.], grayscale=0., mirrors=[["left", "right"]])


@pytest.mark.parametrize("label", [0, 1, 2])
def test_labels_turn_with_their_clips(tmp_path, label):
    config = half_bright(tmp_path / "data", label)
    data, seen = build_dataset(config, "train"), []
    for epoch in range(40):
        sample = data[epoch, 0]
        x = sample["frames"][0].mean((0, 1, 2))                                      # (w,)
        as_it_was = bool(x[:20].sum() > x[-20:].sum())
        assert int(sample["label"]) == (label if as_it_was or label == 2 else 1 - label)
        seen.append(as_it_was)
    assert 8 <= sum(seen) <= 32
    for split in ("val", "test"):
        sample = build_dataset(config, split)[0]
        assert int(sample["label"]) == label and sample["frames"][0, ..., :20].mean() > sample["frames"][0, ..., -20:].mean()


def test_pictures_turn_once(tmp_path):
    config = half_bright(tmp_path / "data", 0)
    records, mirrors = read_list(config.data.train_list), config.data.mirrors
    complaint(lambda: VideoDataset(records, ["left", "right"], tmp_path, train_transform(48), mirrors=mirrors), "flip=False")
    assert VideoDataset(records, ["left", "right"], tmp_path, train_transform(48), "val", mirrors=mirrors).mirrors == {0: 1, 1: 0}      # no mirror but in training


@pytest.mark.parametrize("value, says", [([["left", "up"]], "'up', which is no class"), ([["left", "right"], ["right", "stays"]], "'right', which is in two pairs"),
                                         (["left"], "give pairs of class names"), ([1, 2], "holds 1: give pairs")])
def test_pairs_that_are_none(tmp_path, value, says):
    config = half_bright(tmp_path / "data", 0)
    config.data.mirrors = value
    with pytest.raises(DataError) as error: build_dataset(config, "train")
    assert says in str(error.value) and "\n" not in str(error.value)
