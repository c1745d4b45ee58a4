"""Reading and writing video: every frame carries its own number, so that a wrong frame is seen as such."""
import json, os, struct, subprocess, sys, threading, time, tracemalloc, warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from bike_nb import video as V
from bike_nb.video import Video, VideoError, filmstrip, iter_video, read_video, sample_indices, write_video

try: import decord
except ImportError: decord = None

CLIPS = Path(__file__).parents[2] / "shared" / "clips"
needs_decord = pytest.mark.skipif(decord is None, reason="decord is not installed (there is none for macOS on Arm)")
needs_clips = pytest.mark.skipif(not CLIPS.is_dir(), reason=f"the real clips are not here ({CLIPS})")
BACKENDS = ["pyav", pytest.param("decord", marks=needs_decord), "auto"]
H, W = 96, 128


# ---------------------------------------------------------------- clips whose frames say which they are

def coded(n, first=0):
    "Frames with their number as 16 black or white blocks above a moving pattern."
    y, x = np.mgrid[:H, :W]
    for k in range(first, first + n):
        frame = np.stack([128 + 60 * np.sin((x + 3 * k) / 9), 128 + 60 * np.cos((y - k) / 7), 90 + 0 * x], -1)
        bits = (k >> np.arange(16)[::-1] & 1).reshape(2, 8)
        frame[:32] = np.kron(bits, np.ones((16, 16)))[..., None] * 255
        yield frame.astype(np.uint8)


def number(frame):
    "The number that a frame carries."
    blocks = frame[:32, :W].reshape(2, 16, 8, 16, 3).mean((1, 3, 4)).ravel()
    return int((blocks > 128) @ (1 << np.arange(16)[::-1]))


def numbers(video): return [number(f) for f in video.frames]


def encode(path, n=90, codec="libx264", pix="yuv420p", options=None, stamps=None, tick=None, rate=25, frames=None, format=None):
    "A clip by PyAV alone, in whatever codec and container."
    with av.open(str(path), "w", format=format, options={"movflags": "faststart"} if Path(path).suffix in (".mp4", ".mov") else {}) as out:
        stream = out.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = W, H, pix
        if tick: stream.codec_context.time_base = tick
        for k, frame in enumerate(coded(n) if frames is None else frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if stamps is not None: picture.pts, picture.time_base = stamps[k], tick
            out.mux(stream.encode(picture))
        out.mux(stream.encode())
    return path


KINDS = {   # name: codec, pixels, options. Keyframes often enough to be jumped to.
    "h264.mp4": ("libx264", "yuv420p", {"g": "24"}),
    "h264_open_gop.mp4": ("libx264", "yuv420p", {"x264-params": "keyint=24:open-gop=1:bframes=3"}),
    "h264_refresh.mp4": ("libx264", "yuv420p", {"x264-params": "intra-refresh=1:keyint=40"}),
    "h264_444.mp4": ("libx264", "yuv444p", {"g": "24"}),
    "h264_10bit.mp4": ("libx264", "yuv420p10le", {"g": "24"}),
    "h264_full_range.mov": ("libx264", "yuvj420p", {"g": "24"}),
    "h264.mkv": ("libx264", "yuv420p", {"g": "24"}),
    "h264.ts": ("libx264", "yuv420p", {"g": "24"}),
    "h264.avi": ("libx264", "yuv420p", {"g": "24", "bf": "0"}),
    "h264_b.avi": ("libx264", "yuv420p", {"g": "24", "bf": "2"}),
    "h264.flv": ("libx264", "yuv420p", {"g": "24"}),
    "h265.mp4": ("libx265", "yuv420p", {"x265-params": "keyint=24:open-gop=1:log-level=none"}),
    "h265.mkv": ("libx265", "yuv420p10le", {"x265-params": "keyint=24:log-level=none"}),
    "vp9.webm": ("libvpx-vp9", "yuv420p", {"g": "24", "deadline": "realtime", "cpu-used": "8"}),
    "av1.mp4": ("libsvtav1", "yuv420p", {"preset": "8", "crf": "1", "svtav1-params": "keyint=24"}),
    "mpeg4.mp4": ("mpeg4", "yuv420p", {"g": "24", "bf": "2"}),
    "mpeg4.avi": ("mpeg4", "yuv420p", {"g": "24"}),
    "mpeg4_b.avi": ("mpeg4", "yuv420p", {"g": "24", "bf": "2"}),
    "mpeg2.mpg": ("mpeg2video", "yuv420p", {"g": "12", "bf": "2"}),
    "mpeg2.ts": ("mpeg2video", "yuv420p", {"g": "12", "bf": "2"}),
    "mjpeg.avi": ("mjpeg", "yuvj420p", {}),
    "prores.mov": ("prores_ks", "yuv422p10le", {}),
    "ffv1.mkv": ("ffv1", "bgr0", {}),
    "wmv.wmv": ("wmv2", "yuv420p", {}),
    "raw.h264": ("libx264", "yuv420p", {"g": "24"}),
}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    "A function that makes a clip of a kind, once."
    folder = tmp_path_factory.mktemp("kinds")

    def make(name):
        path = folder / name
        if not path.exists():
            codec, pix, options = KINDS[name]
            encode(path, codec=codec, pix=pix, options=options)
        return path
    return make


@pytest.fixture
def plain(kinds): return kinds("h264.mp4")


def quietly(function, *args, **kwargs):
    "The result, and the warnings as strings."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return function(*args, **kwargs), [str(w.message) for w in caught]


# ---------------------------------------------------------------- the right frames, whatever the file

@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_right_frames(kinds, name):
    path, rng = kinds(name), np.random.default_rng(0)
    every, said = quietly(read_video, path, num_frames=None, backend="pyav")
    assert numbers(every) == list(range(90)) and not said
    np.testing.assert_allclose(every.times, np.arange(90) / 25, atol=.001)
    assert every.duration == pytest.approx(3.6, abs=.002) and every.fps == pytest.approx(25, rel=1e-3)
    index = V._scan(path)
    for _ in range(6):        # a few frames at random places: by jumps in the one, step by step in the other
        ranks = np.sort(rng.choice(90, 5, replace=False))
        assert [number(p) for _, p in V._grab(index, ranks, jump=2)] == ranks.tolist()
        assert [number(p) for _, p in V._grab(index, ranks)] == ranks.tolist()


@needs_decord
@pytest.mark.parametrize("name", KINDS)
def test_decord_gives_the_same_or_is_not_used(kinds, name):
    path = kinds(name)
    index, rng, used = V._scan(path), np.random.default_rng(1), 0
    for _ in range(4):
        ranks = np.sort(rng.choice(90, 6, replace=False))
        try: found = dict(V._by_decord(index, ranks))
        except V._Unfit: continue
        used += 1
        assert [number(found[r]) for r in ranks] == ranks.tolist()
        for rank, picture in V._grab(index, ranks): assert np.abs(picture.astype(int) - found[rank]).mean() < 1
    assert used in (0, 4)
    assert used == 4 or not name.startswith(("h264.m", "h264_open", "h264_10", "h264_full", "h265", "vp9", "mpeg4.mp4")), "decord should have read this"
    auto = read_video(path, num_frames=7)
    assert numbers(auto) == [6, 19, 32, 45, 57, 70, 83]


@needs_decord
def test_decord_cannot_jump_in_h265(kinds):
    "The reason for our detour. Should this fail one day, `_from_the_start` can go."
    path = str(kinds("h265.mkv"))
    assert any(number(decord.VideoReader(path)[k].asnumpy()) != k for k in range(24, 90, 3))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_rate_is_chosen_by_time(tmp_path, backend, suffix):
    times = np.concatenate([np.arange(0, 1, .02), [1.5, 3, 3.1, 7, 9.96]])
    path = write_video(tmp_path / f"vfr{suffix}", coded(len(times)), times=times)
    for request in [dict(num_frames=8), dict(num_frames=5, start=.51, end=8), dict(fps=2), dict(fps=3, start=2, end=7.5)]:
        video = read_video(path, backend=backend, **request)
        start, end = request.get("start", 0), request.get("end", 10.0)
        if "fps" in request: moments = np.arange(start, end - 1e-9, 1 / request["fps"])
        else: moments = start + (np.arange(request["num_frames"]) + .5) * (end - start) / request["num_frames"]
        expected = [max(k for k, t in enumerate(times) if t <= m + 1e-3) for m in moments]
        if "fps" in request: expected = sorted(set(expected))
        assert numbers(video) == expected
        np.testing.assert_allclose(video.times, times[expected], atol=.001)
    assert video.duration == pytest.approx(10.0, abs=.05)
    with av.open(str(path)) as container: assert container.duration / 1e6 == pytest.approx(10.0, abs=.05)      # what a player believes


def test_times_start_at_zero_wherever_the_clock_does(tmp_path):
    path = encode(tmp_path / "late.mkv", stamps=[5000 + 40 * k for k in range(90)], tick=Fraction(1, 1000))
    for backend in ("pyav", "auto"):
        video = read_video(path, num_frames=3, backend=backend)
        np.testing.assert_allclose(video.times, np.array([15, 45, 75]) / 25, atol=1e-6)
        assert numbers(video) == [15, 45, 75]


def test_matroska_rounding_does_not_repeat_frames(tmp_path):
    path = encode(tmp_path / "thirty.mkv", n=60, rate=30)
    assert numbers(read_video(path, fps=30)) == list(range(60))
    assert numbers(read_video(path, fps=15)) == list(range(0, 60, 2))
    assert numbers(read_video(path, num_frames=30)) == list(range(1, 60, 2))


def test_count_and_rate_against_the_definition(plain):
    assert numbers(read_video(plain, num_frames=9)) == list(range(5, 90, 10))
    assert numbers(read_video(plain, num_frames=180)) == sorted([*range(90)] * 2)
    assert numbers(read_video(plain, fps=1000)) == list(range(90))              # each frame once
    assert numbers(read_video(plain, fps=5, start=1, end=2)) == [25, 30, 35, 40, 45]
    assert numbers(read_video(plain, fps=5, start=1.01, end=2)) == [25, 30, 35, 40, 45]   # on the screen at 1.01 s
    assert numbers(read_video(plain, num_frames=None, start=3.4)) == [85, 86, 87, 88, 89]
    assert numbers(read_video(plain, num_frames=1, start=3.59, end=100)) == [89]


def test_indices_by_time_against_brute_force():
    rng = np.random.default_rng(3)
    for _ in range(200):
        times = np.cumsum(rng.exponential(.2, rng.integers(1, 30))); times -= times[0]
        end = times[-1] + rng.uniform(.01, 1); start = rng.uniform(0, end * .9); fps = rng.uniform(.2, 20); n = int(rng.integers(1, 12))
        shown = lambda m: max([k for k, t in enumerate(times) if t <= m + V._ROUNDING] or [0])
        moments = start + np.arange(int(np.ceil((end - start - V._ROUNDING) * fps))) / fps
        assert sample_indices(times, None, fps, start, end).tolist() == sorted({shown(m) for m in moments})
        assert sample_indices(times, n, None, start, end).tolist() == [shown(start + (i + .5) * (end - start) / n) for i in range(n)]


def test_a_claim_of_a_thousand_years_costs_nothing():
    began = time.perf_counter()
    assert sample_indices(np.array([0., 1, 3e10]), fps=25).tolist() == [0, 1, 2]
    assert time.perf_counter() - began < 1


# ---------------------------------------------------------------- which way up, which stream

def patched(path, box, offset, values, code=">i"):
    "A copy of an mp4 with numbers in one of its header boxes overwritten."
    data = bytearray(path.read_bytes())
    at = data.find(box) + 4 + offset
    for k, v in enumerate(values): struct.pack_into(code, data, at + 4 * k, v)
    out = path.with_name(f"{path.stem}_{box.decode()}_{'_'.join(map(str, values))}{path.suffix}")
    out.write_bytes(data)
    return out


ONE = 65536
MATRICES = {  # a, b, c, d of the header, and what a player shows: for each pixel (x, y) of the file its place on the screen
    "upright": (1, 0, 0, 1), "90": (0, 1, -1, 0), "180": (-1, 0, 0, -1), "270": (0, -1, 1, 0),
    "mirror": (-1, 0, 0, 1), "upside_down": (1, 0, 0, -1), "transposed": (0, 1, 1, 0), "antitransposed": (0, -1, -1, 0)}


def displayed(frame, a, b, c, d):
    "What the display matrix says, pixel by pixel."
    y, x = np.mgrid[:frame.shape[0], :frame.shape[1]]
    u, v = a * x + c * y, b * x + d * y
    u, v = u - u.min(), v - v.min()
    out = np.empty((v.max() + 1, u.max() + 1, 3), np.uint8)
    out[v, u] = frame
    return out


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", MATRICES)
def test_display_matrix(plain, name, backend):
    a, b, c, d = MATRICES[name]
    path = patched(plain, b"tkhd", 40, [a * ONE, b * ONE, 0, c * ONE, d * ONE])
    if backend == "decord" and a * d - b * c < 0:
        with pytest.raises(VideoError, match="decord"): read_video(path, backend=backend)      # it knows no mirrors
        return
    expected = [displayed(f, a, b, c, d) for f in read_video(plain, num_frames=4, backend="pyav").frames]
    np.testing.assert_array_equal(read_video(path, num_frames=4, backend=backend).frames, expected)
    np.testing.assert_array_equal(next(iter_video(path, block=1)).frames[0], displayed(read_video(plain, 90).frames[0], a, b, c, d))


@pytest.mark.parametrize("backend", ["pyav", "auto"])
def test_a_film_that_begins_in_black_is_mirrored_too(tmp_path, backend):
    "On a black first picture, all decoders agree."
    path = write_video(tmp_path / "fade.mp4", [*np.zeros((3, H, W, 3), np.uint8), *coded(30, 3)])
    mirrored = patched(path, b"tkhd", 40, [-ONE, 0, 0, 0, ONE])
    np.testing.assert_array_equal(read_video(mirrored, num_frames=4, backend=backend).frames, read_video(path, num_frames=4, backend="pyav").frames[:, :, ::-1])


def two_streams(path, sizes, cover=None, black=0):
    "A file with several video streams; frames of the k-th are numbered from 100 k on, the first ones are `black`."
    with av.open(str(path), "w") as out:
        streams = []
        for k, (w, h) in enumerate(sizes):
            s = out.add_stream("libx264", rate=25, options={"g": "12"}); s.width, s.height, s.pix_fmt = w, h, "yuv420p"
            streams.append(s)
        if cover:
            c = out.add_stream("mjpeg" if cover == "mjpeg" else "png", rate=1); c.width, c.height = 640, 480
            c.pix_fmt = "yuvj420p" if cover == "mjpeg" else "rgb24"
            c.disposition = av.stream.Disposition.attached_pic.value
        for t in range(30):
            for k, s in enumerate(streams):
                frame = next(coded(1, 100 * k + t)) * (t >= black); big = np.zeros((s.height, s.width, 3), np.uint8); big[:H, :W] = frame
                out.mux(s.encode(av.VideoFrame.from_ndarray(big, format="rgb24")))
        for s in streams: out.mux(s.encode())
        if cover:
            out.mux(c.encode(av.VideoFrame.from_ndarray(np.full((480, 640, 3), 200, np.uint8), format="rgb24"))); out.mux(c.encode())
    return path


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sizes", [[(W, H), (160, 128)], [(160, 128), (W, H)], [(W, H), (160, 128), (144, 112)]])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_largest_stream(tmp_path, sizes, suffix, backend):
    path = two_streams(tmp_path / f"two{suffix}", sizes)
    largest = sizes.index((160, 128))
    try: video = read_video(path, num_frames=3, backend=backend)
    except VideoError as e:
        assert backend == "decord" and "decord is not fit" in str(e)      # it prefers another one, and nobody can tell it not to
        return
    assert video.frames.shape[1:3] == (128, 160) and numbers(video) == [100 * largest + k for k in (5, 15, 25)]


@pytest.mark.parametrize("backend", ["pyav", "auto"])
@pytest.mark.parametrize("black", [0, 3])
def test_equal_streams_are_not_mixed_up(tmp_path, backend, black):
    path = two_streams(tmp_path / "twins.mp4", [(W, H), (W, H)], black=black)
    assert numbers(read_video(path, num_frames=3, backend=backend)) == [5, 15, 25]


@pytest.mark.parametrize("cover", ["mjpeg", "png"])
def test_a_cover_picture_is_no_video(tmp_path, cover):
    path = two_streams(tmp_path / "covered.mp4", [(W, H)], cover=cover)
    with av.open(str(path)) as c: assert len(c.streams.video) == 2
    for backend in ("pyav", "auto"): assert numbers(read_video(path, num_frames=2, backend=backend)) == [7, 22]


def test_edit_lists_are_honoured_and_no_damage(plain):
    start = struct.unpack(">i", plain.read_bytes()[plain.read_bytes().find(b"elst") + 16:][:4])[0]
    trimmed = patched(plain, b"elst", 8, [2000, start + 12800])      # phones trim like this: 2 s from second 1 on
    for backend in ("pyav", "auto"):
        video, said = quietly(read_video, trimmed, num_frames=None, backend=backend)
        assert numbers(video) == list(range(25, 75)) and not said
        assert video.times[0] == 0 and video.duration == pytest.approx(2.0)
        assert numbers(read_video(trimmed, num_frames=4, backend=backend)) == [31, 43, 56, 68]


def test_interlaced_halves_make_one_frame():
    "Packets of second fields carry no time of their own."
    rows = [(t, t, 2, t == 0) if t % 2 == 0 else (None, t, 0, False) for t in range(20)]
    assert V._pictures_only(rows) == rows[::2]
    assert V._clock(V._pictures_only(rows), "mpegts", .02, 25)[2:] == (True, False)


@needs_decord
def test_colours_of_deep_video_follow_the_tags(tmp_path):
    "10-bit BT.709 and BT.2020 clips: the two backends agree, and the colours are the written ones."
    for name in ("bt709", "bt2020nc"):
        path = encode(tmp_path / f"{name}.mp4", codec="libx265", pix="yuv420p10le", n=12,
                      options={"x265-params": f"keyint=6:log-level=none:colormatrix={name}"})
        a, b = (read_video(path, num_frames=6, backend=k).frames.astype(int) for k in ("pyav", "decord"))
        assert np.abs(a - b).mean() < 1


# ---------------------------------------------------------------- the real clips

REAL = {"arm_wrestling.mp4": (280, 256, 340, 10.0), "av1_video.mkv": (125, 360, 640, 5.0), "flipping_a_pancake.mkv": (310, 240, 426, 10.333),
        "h265_10bits.mp4": (30, 200, 200, 1.0), "nasa_13013.mp4": (390, 270, 480, 13.013), "rotated_0.mov": (3, 320, 568, .1),
        "rotated_90.mov": (3, 568, 320, .1), "test.avi": (164, 240, 320, 6.56), "unordered.mov": (4, 50, 50, .125)}


@needs_clips
@pytest.mark.parametrize("name", REAL)
def test_real_clips(name):
    count, height, width, duration = REAL[name]
    by_pyav, said = quietly(read_video, CLIPS / name, num_frames=12, backend="pyav")
    assert not said and by_pyav.frames.shape == (12, height, width, 3) and by_pyav.duration == pytest.approx(duration, abs=.002)
    index = V._scan(CLIPS / name)
    assert len(index.times) == count and index.times[0] == 0 and np.all(np.diff(index.times) > 0)
    moments = (np.arange(12) + .5) * by_pyav.duration / 12
    assert np.all(by_pyav.times <= moments + .001) and np.all(moments - by_pyav.times < duration / count + .001)
    auto = read_video(CLIPS / name, num_frames=12)
    assert np.abs(auto.frames.astype(int) - by_pyav.frames).mean() < 1
    if decord is None: return
    if name == "av1_video.mkv":
        with pytest.raises(VideoError, match="av1_video.mkv: decord is not fit"): read_video(CLIPS / name, backend="decord")
    else:
        by_decord = read_video(CLIPS / name, num_frames=12, backend="decord")
        assert np.abs(by_decord.frames.astype(int) - by_pyav.frames).mean((1, 2, 3)).max() < 1
        np.testing.assert_array_equal(by_decord.times, by_pyav.times)


@needs_clips
def test_real_clips_block_by_block():
    for name in REAL:
        blocks = list(iter_video(CLIPS / name, block=50))
        assert sum(map(len, blocks)) == REAL[name][0]
        again = read_video(CLIPS / name, num_frames=None, backend="pyav")
        for k, b in enumerate(blocks): np.testing.assert_array_equal(b.frames, again.frames[50 * k:50 * k + 50])
        if name == "nasa_13013.mp4": break       # the longest; the others after it are short


@needs_clips
@pytest.mark.parametrize("backend", ["pyav", "auto"])
def test_the_corrupted_clip_is_read_in_part(backend):
    video, said = quietly(read_video, CLIPS / "corrupted.mp4", backend=backend)
    assert len(video) == 8 and video.times[-1] < 3 and len(said) == 1 and "of 50 frames (between 2.90 s and 4.90 s)" in said[0]


# ---------------------------------------------------------------- bad input

def header_only(path):
    "An mp4 with a video track and not a single frame."
    with av.open(str(path), "w", options={"movflags": "empty_moov+frag_keyframe"}) as out:
        s = out.add_stream("libx264", rate=25); s.width, s.height, s.pix_fmt = W, H, "yuv420p"
        out.start_encoding()
    return path


def sound(path, cover=False):
    with av.open(str(path), "w") as out:
        s = out.add_stream("aac", rate=8000, layout="mono")
        if cover:
            c = out.add_stream("mjpeg", rate=1); c.width, c.height, c.pix_fmt = 64, 64, "yuvj420p"
            c.disposition = av.stream.Disposition.attached_pic.value
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono"); frame.rate = 8000
        out.mux(s.encode(frame)); out.mux(s.encode())
        if cover: out.mux(c.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24"))); out.mux(c.encode())
    return path


def bad_files(folder, plain):
    good = plain.read_bytes()
    moov_last = folder / "moov_last.mp4"
    with av.open(str(moov_last), "w") as out:
        s = out.add_stream("libx264", rate=25); s.width, s.height, s.pix_fmt = W, H, "yuv420p"
        for f in coded(20): out.mux(s.encode(av.VideoFrame.from_ndarray(f, format="rgb24")))
        out.mux(s.encode())
    zeroed = bytearray(good); zeroed[good.find(b"mdat") + 4:] = bytes(len(good) - good.find(b"mdat") - 4)
    made = {"empty.mp4": b"", "text.mp4": b"This is no film. " * 99, "notes.txt": b"Neither is this. " * 99, "noise.mkv": np.random.default_rng(0).bytes(5000),
            "one_byte.mp4": b"\0", "cut.mp4": moov_last.read_bytes()[:3000], "zeroed.mp4": bytes(zeroed), "head.mp4": good[:40]}
    for name, data in made.items(): (folder / name).write_bytes(data)
    header_only(folder / "frameless.mp4"); sound(folder / "sound.m4a"); sound(folder / "album.mp4", cover=True)
    return {"missing.mp4": "no such file", "empty.mp4": "empty", "text.mp4": "cannot be read as a video", "notes.txt": "only text", "noise.mkv": "cannot be read",
            "one_byte.mp4": "cannot be read", "cut.mp4": "table of contents is lost", "zeroed.mp4": "none of its 90 frames", "head.mp4": "no video|cannot be read", "frameless.mp4": "holds no frames",
            "sound.m4a": "only audio", "album.mp4": "only audio and a cover picture", ".": "folder"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_files(tmp_path, plain, backend):
    for name, reason in bad_files(tmp_path, plain).items():
        path = tmp_path / name
        for read in (lambda: read_video(path, backend=backend), lambda: list(iter_video(path))):
            if backend == "decord" and name == "zeroed.mp4": reason = "none of its 90 frames|decord is not fit"
            with pytest.raises(VideoError, match=reason) as e: read()
            said = str(e.value)
            assert said.startswith(f"{path}: ") and "\n" not in said and len(said) < len(str(path)) + 200, said
            assert e.value.__cause__ is None


@pytest.mark.parametrize("request_", [dict(num_frames=0), dict(num_frames=-3), dict(num_frames=2.5), dict(num_frames="8"), dict(num_frames=True), dict(fps=0), dict(fps=-1),
                                      dict(fps=float("nan")), dict(fps=float("inf")), dict(fps="2"), dict(start=-1), dict(start=float("nan")), dict(start="1"), dict(start=None),
                                      dict(end=0), dict(start=2, end=2), dict(start=2, end=1), dict(end="2"), dict(start=3.6), dict(start=99), dict(backend="cv2")])
def test_bad_requests(plain, request_):
    with pytest.raises(VideoError, match="h264.mp4: ") as e: read_video(plain, **request_)
    assert list(request_)[0] in str(e.value)
    if set(request_) <= {"fps", "start", "end"}:
        with pytest.raises(VideoError): iter_video(plain, **request_)      # at once, not at the first block


def test_other_bad_paths(tmp_path, plain):
    for path in (None, 7, b"\xff\xfe", "a\0b.mp4", "x" * 5000 + ".mp4", ""):
        with pytest.raises(VideoError): read_video(path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.mp4")
        with pytest.raises(VideoError, match="not a regular file"): read_video(tmp_path / "pipe.mp4")
    with pytest.raises(VideoError, match="block"): iter_video(plain, block=0)
    if os.geteuid():
        locked = tmp_path / "locked.mp4"; locked.write_bytes(plain.read_bytes()); locked.chmod(0)
        with pytest.raises(VideoError, match="permission"): read_video(locked)


def test_more_frames_than_any_memory(plain):
    with pytest.raises(VideoError, match="h264.mp4: num_frames=10+ frames do not fit into memory"): read_video(plain, 10**15)


@pytest.mark.parametrize("orientation,turns", [(1, 0), (3, 2), (6, 1), (8, 3)])
def test_a_photo_that_lies_on_its_side(tmp_path, orientation, turns):
    from PIL import Image
    exif = Image.Exif(); exif[0x0112] = orientation
    frame = next(coded(1)); Image.fromarray(frame).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    assert np.abs(read_video(tmp_path / "photo.jpg", 1).frames[0].astype(int) - np.rot90(frame, -turns)).mean() < 5


def test_odd_names(tmp_path, plain):
    for name in ("with space.mp4", "a:b.mp4", "file:c.mp4", "100%d.mp4", "ünï.mp4", "no_ending", "-dash.mp4"):
        path = tmp_path / name
        path.write_bytes(plain.read_bytes())
        assert numbers(read_video(path, num_frames=1)) == [45] and numbers(read_video(str(path), num_frames=1)) == [45]
    here = os.getcwd()
    os.chdir(tmp_path)
    try: assert numbers(read_video("a:b.mp4", num_frames=1)) == [45]
    finally: os.chdir(here)


# ---------------------------------------------------------------- damage

@pytest.mark.parametrize("backend", ["pyav", "auto"])
@pytest.mark.parametrize("name", ["h264.mp4", "h264.mkv", "h264.flv", "h264.avi", "mjpeg.avi"])
@pytest.mark.parametrize("keep", [.85, .6, .3])
def test_a_download_that_broke_off(tmp_path, kinds, name, keep, backend):
    data = kinds(name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[:int(len(data) * keep)])
    every, said = quietly(read_video, path, num_frames=None, backend=backend)
    assert 0 < len(every) < 90 and len(every) >= 90 * keep - 30
    np.testing.assert_allclose(every.times, np.array(numbers(every)) / 25, atol=.001)          # all that is given is right
    assert len(said) == 1 and str(path) in said[0] and ("missing" in said[0] or "stops at" in said[0])
    eight, _ = quietly(read_video, path, backend=backend)
    assert len(eight) == 8 and numbers(eight) == sorted(numbers(eight)) and eight.times[-1] < eight.duration < 3.6
    with pytest.raises(VideoError, match="past the end"): quietly(read_video, path, start=3.55, backend=backend)
    blocks, said = quietly(lambda: list(iter_video(path, block=10)))
    assert [n for b in blocks for n in numbers(b)] == numbers(every) and said


def truth(path): return read_video(path, num_frames=None, backend="pyav").frames.astype(int)


def hit(plain, trials, seed=5):
    "Yield a file again and again, each time with forty other bytes of its pictures overwritten."
    good, rng = plain.read_bytes(), np.random.default_rng(seed)
    first = good.find(b"mdat") + 4 if plain.suffix == ".mp4" else len(good) // 5
    for trial in range(trials):
        data, at = bytearray(good), int(rng.integers(first + (len(good) - first) // 3, len(good) - 60))
        data[at:at + 40] = rng.bytes(40)
        path = plain.with_name(f"hit_{trial}{plain.suffix}")
        path.write_bytes(data)
        yield path


def spoiled(video, expected):
    "The numbers of the frames that are wrong."
    ranks = (video.times * 25).round().astype(int)
    return ranks[np.abs(video.frames - expected[ranks]).mean((1, 2, 3)) > 1].tolist()


WAYS = {"iter": lambda p: list(iter_video(p, block=7)), "iter, five a second": lambda p: list(iter_video(p, fps=5)), "five a second": lambda p: [read_video(p, fps=5, backend="pyav")],
        "eight": lambda p: [read_video(p, 8)], "all": lambda p: [read_video(p, None)]}


@pytest.mark.parametrize("name,trials", [("h264.mp4", 20), ("h264.mkv", 6), ("mpeg4.mp4", 3)])
def test_no_way_to_read_gives_a_spoiled_frame(kinds, name, trials):
    "A B-frame comes before the damaged frame that it leans on; and decord's FFmpeg mentions some losses in passing."
    expected = truth(kinds(name))
    for path in hit(kinds(name), trials):
        for way, read in WAYS.items():
            for video in quietly(read, path)[0]: assert not spoiled(video, expected), (path.name, way)


@needs_decord
def test_a_loss_that_ffmpeg_only_mentions_is_heard(kinds):
    "Of the kinds above none is concealed silently, and none that is whole makes FFmpeg say so."
    for name in KINDS:
        index = V._scan(kinds(name))
        with V._complaints(decord) as heard:
            try: sum(1 for _ in V._from_the_start(decord.VideoReader(str(kinds(name)), ctx=decord.cpu(0)), range(len(index.times))))
            except Exception: continue
        assert 32 not in heard, name
    V._ear()[1](None, 32, b"concealing %d DC errors", None); V._ear()[1](None, 32, b"Video uses a non-standard way", None)
    assert V._ear()[0][-1:] == [32] and V._ear()[0].count(32) == 1


def test_a_false_alarm_is_no_warning(plain, monkeypatch):
    monkeypatch.setattr(V, "_held_back", lambda *a: (_ for _ in ()).throw(V._Damaged("nothing")))
    blocks, said = quietly(lambda: list(iter_video(plain)))
    assert sum(map(len, blocks)) == 90 and not said


def test_joined_transport_streams(tmp_path):
    "The clock starts anew, or between the ticks of the first: the frames are counted."
    def part(first, start):
        return encode(tmp_path / f"{first}.ts", options={"g": "12", "bf": "0"}, frames=coded(50, first), stamps=[start + 40 * k for k in range(50)], tick=Fraction(1, 1000)).read_bytes()
    for start in (0, 13, 513):
        path = tmp_path / "joined.ts"; path.write_bytes(part(0, 0) + part(100, start))
        for read in (lambda: [read_video(path, None)], lambda: list(iter_video(path))):
            parts, said = quietly(read)
            assert sum(map(numbers, parts), []) == [*range(50), *range(100, 150)] and not said
            np.testing.assert_allclose(np.concatenate([p.times for p in parts]), np.arange(100) / 25, atol=1e-6)


@pytest.mark.parametrize("backend", ["pyav", "auto"])
def test_of_a_damaged_file_the_good_frames_remain(plain, backend):
    "Bytes are overwritten at random. What is given must be right, and what is missing must be said."
    expected, seen = truth(plain), 0
    for trial, path in enumerate(hit(plain, 12)):
        video, said = quietly(read_video, path, num_frames=None, backend=backend)
        assert not spoiled(video, expected), f"trial {trial}: frames {spoiled(video, expected)} are wrong and given as good"
        assert (len(video) < 90) == bool(said)
        if said: assert f"{90 - len(video)} of 90 frames" in said[0]
        seen += bool(said)
    assert seen >= 10        # a hit of forty bytes seldom goes unnoticed


def test_streams_that_appear_midway(tmp_path, kinds):
    "A transport stream may announce less than it holds; PyAV then ends with an IndexError, which must not reach anybody."
    def programme(pid): return struct.pack(">BHB", 0x47, 0x4000 | pid, 0x10) + b"\0\0\1\xc0\0\0\x80\x80\5!\0\1\0\1" + b"\xff\xfb\x90\0" * 42 + b"\0\0"
    data = kinds("h264.ts").read_bytes()
    cells = [data[k:k + 188] for k in range(0, len(data), 188)]
    extra = programme(0x1234)
    assert len(extra) == 188
    path = tmp_path / "late.ts"
    path.write_bytes(b"".join(cells[:60] + [extra] * 8 + cells[60:] + [extra] * 8))
    video, said = quietly(read_video, path, num_frames=None)
    assert numbers(video) == list(range(90)) and not said


def test_damage_does_not_stop_the_walk(tmp_path, plain):
    data = bytearray(plain.read_bytes()); at = int(len(data) * .6)
    data[at:at + 60] = b"\xff" * 60
    path = tmp_path / "hit.mp4"; path.write_bytes(data)
    every, _ = quietly(read_video, path, num_frames=None, backend="pyav")
    blocks, said = quietly(lambda: list(iter_video(path, block=7)))
    assert [n for b in blocks for n in numbers(b)] == numbers(every) and len(every) > 60 and 89 in numbers(every) and len(said) == 1
    fives, _ = quietly(lambda: list(iter_video(path, fps=5)))
    assert len(fives) == 1 and set(numbers(fives[0])) <= set(numbers(every))


FUZZ = """
import json, random, sys, time, warnings
from pathlib import Path
from bike_nb.video import VideoError, iter_video, read_video
warnings.simplefilter("ignore")
source, folder, backend, seed, trials, where = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:5], int(sys.argv[5]), sys.argv[6]
good, rng, count, slowest = source.read_bytes(), random.Random(seed), {"read": 0, "refused": 0}, 0.0
path = folder / f"fuzz_{backend}{source.suffix}"
for trial in range(trials):
    data = bytearray(good)
    if where == "cut": data = data[:rng.randrange(len(data))]
    else:
        low, high = {"head": (0, min(2500, len(data))), "body": (0, len(data)), "tail": (len(data) * 2 // 3, len(data))}[where]
        for _ in range(rng.choice([1, 3, 20])): data[rng.randrange(low, high)] = rng.randrange(256)
    path.write_bytes(data)
    began = time.perf_counter()
    try:
        video = read_video(path, backend=backend)
        assert len(video) == 8 and (video.times[1:] >= video.times[:-1]).all(), "times"
        if trial % 4 == 0: sum(len(b) for b in iter_video(path, fps=10))
        count["read"] += 1
    except VideoError as e:
        assert str(e).startswith(str(path)), e
        count["refused"] += 1
    slowest = max(slowest, time.perf_counter() - began)
print(json.dumps(count | {"slowest": slowest}))
"""


@pytest.mark.parametrize("where", ["cut", "head", "body", "tail"])
@pytest.mark.parametrize("name", ["h264.mp4", "h264.mkv", "h264.ts", "mpeg4_b.avi"])
def test_mutated_files_never_crash_hang_or_print(tmp_path, kinds, name, where):
    "In a process of its own: a crash, a hang and a word on stderr would all be seen."
    for backend in ("pyav", "auto"):
        done = subprocess.run([sys.executable, "-c", FUZZ, str(kinds(name)), str(tmp_path), backend, where, "16", where],
                              capture_output=True, text=True, timeout=100, cwd=Path(__file__).parents[1])
        assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
        said = [line for line in done.stderr.splitlines() if "video_reader.cc" not in line]     # decord's C++ has one line of its own
        assert not said, said[:5]
        result = json.loads(done.stdout)
        assert result["read"] + result["refused"] == 16
        if where == "tail": assert result["read"] >= 8       # most of the film is intact


# ---------------------------------------------------------------- backends

def test_without_decord(plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "decord", None)
    assert numbers(read_video(plain, num_frames=2)) == [22, 67]
    with pytest.raises(VideoError, match="decord is not fit.*decord"): read_video(plain, backend="decord")


@needs_decord
def test_decord_goes_first(plain, monkeypatch):
    used = []
    real = decord.VideoReader
    monkeypatch.setattr(decord, "VideoReader", lambda *a, **k: used.append(1) or real(*a, **k))
    read_video(plain); assert used == [1]
    read_video(plain, backend="pyav"); assert used == [1]
    monkeypatch.setattr(V, "_LONG", 10)           # in long files, jumps are quicker
    read_video(plain); assert used == [1]
    read_video(plain, backend="decord"); assert used == [1, 1]


@needs_decord
def test_a_decord_that_lies_is_not_believed(plain, monkeypatch):
    real = decord.VideoReader

    class Shifted(real):
        def next(self): return decord.nd.array(np.zeros((H, W, 3), np.uint8))
    monkeypatch.setattr(decord, "VideoReader", Shifted)
    with pytest.raises(VideoError, match="another picture"): read_video(plain, backend="decord")
    assert numbers(read_video(plain, num_frames=2)) == [22, 67]

    class Short(real):
        def __len__(self): return 89
    monkeypatch.setattr(decord, "VideoReader", Short)
    with pytest.raises(VideoError, match="89 frames instead of 90"): read_video(plain, backend="decord")


@needs_decord
def test_listening_to_decord_leaves_no_trace(plain):
    for _ in range(3):
        with V._complaints(decord) as heard: pass
        assert heard == [] and not V._listening.locked()
    with pytest.raises(ZeroDivisionError):
        with V._complaints(decord): 1 / 0
    assert not V._listening.locked()


def test_many_threads_at_once(plain, kinds):
    paths, wrong = [plain, kinds("h264.mkv"), kinds("vp9.webm")], []

    def work(k):
        for i in range(4):
            try:
                if numbers(read_video(paths[(i + k) % 3], num_frames=3)) != [15, 45, 75]: wrong.append(k)
            except Exception as e: wrong.append(e)
    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads: t.start()
    for t in threads: t.join(30)
    assert not any(t.is_alive() for t in threads) and not wrong


# ---------------------------------------------------------------- memory

LONG = 2400            # frames of 320×240: 553 MB of pictures


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    with av.open(str(path), "w") as out:
        s = out.add_stream("libx264", rate=25, options={"g": "250", "preset": "ultrafast"}); s.width, s.height, s.pix_fmt = 320, 240, "yuv420p"
        canvas = np.zeros((240, 320, 3), np.uint8)
        for k in range(LONG):
            canvas[:H, :W] = next(coded(1, k)); canvas[120:, k % 320] = 255
            out.mux(s.encode(av.VideoFrame.from_ndarray(canvas, format="rgb24")))
        out.mux(s.encode())
    return path


def peak_of(work):
    "Peak of what Python and NumPy hold meanwhile, in MB."
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally: tracemalloc.stop()


def test_memory_does_not_grow_with_the_length(long_clip):
    seen = []

    def walk():
        for part in iter_video(long_clip, block=16): seen.extend(numbers(part))
    assert peak_of(walk) < 16 * 240 * 320 * 3 / 1e6 * 3 + 5      # three blocks and a little
    assert seen == list(range(LONG))
    video = []
    assert peak_of(lambda: video.append(read_video(long_clip, num_frames=8))) < 8
    assert numbers(video[0]) == [int((k + .5) * LONG / 8) for k in range(8)]
    kept = peak_of(lambda: [part for part in iter_video(long_clip, end=16, block=16)])
    assert kept > 90          # the yardstick itself: 400 frames kept are seen


RSS = """
import sys
from bike_nb.video import iter_video, read_video
def now(): return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1e3      # peak, MB
read_video(sys.argv[1], num_frames=2, end=1); before = now()
if sys.argv[2] == "eight": assert len(read_video(sys.argv[1], num_frames=8)) == 8
elif sys.argv[2] == "walk": assert sum(len(p) for p in iter_video(sys.argv[1], block=16)) == int(sys.argv[3])
else: assert len(read_video(sys.argv[1], num_frames=None)) == int(sys.argv[3])
print(now() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak memory of a process in /proc")
def test_memory_of_the_whole_process(long_clip):
    rise = {}
    for mode in ("eight", "walk", "all"):
        done = subprocess.run([sys.executable, "-c", RSS, str(long_clip), mode, str(LONG)], capture_output=True, text=True, timeout=55, cwd=Path(__file__).parents[1])
        assert done.returncode == 0, done.stderr[-800:]
        rise[mode] = float(done.stdout)
    assert rise["all"] > 500          # all frames kept: the yardstick
    assert rise["eight"] < 120 and rise["walk"] < 120, rise


# ---------------------------------------------------------------- writing, showing, importing

@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".avi"])
def test_write_and_read_again(tmp_path, suffix):
    frames = np.stack(list(coded(30)))
    path = write_video(tmp_path / f"out{suffix}", frames, fps=12.5, crf=10)
    assert path == tmp_path / f"out{suffix}"
    for backend in ("pyav", "auto"):
        video = read_video(path, num_frames=None, backend=backend)
        assert numbers(video) == list(range(30)) and video.fps == pytest.approx(12.5)
        np.testing.assert_allclose(video.times, np.arange(30) / 12.5, atol=.001)
        assert np.abs(video.frames.astype(int) - frames).mean() < 3
    flat = np.full((5, 64, 64, 3), (200, 60, 30), np.uint8)
    again = read_video(write_video(tmp_path / f"flat{suffix}", flat)).frames
    assert np.abs(again.astype(int) - flat[0]).max() <= 3           # colours, not only brightness


@pytest.mark.parametrize("height,width", [(33, 64), (64, 33), (33, 35), (1, 1), (2, 2), (3, 200)])
def test_odd_sizes_grow_by_one(tmp_path, height, width):
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8) // 8 + 100
    video = read_video(write_video(tmp_path / "odd.mp4", [frame] * 3, crf=5), num_frames=1)
    assert video.frames.shape[1:3] == (height + height % 2, width + width % 2)
    assert np.abs(video.frames[0, :height, :width].astype(int) - frame).mean() < 12
    grey = np.abs(video.frames[0].mean(-1)[:, -1] - video.frames[0].mean(-1)[:, -2]).mean()
    if width % 2: assert grey < 12       # the last column twice


def test_quality_and_rate(tmp_path):
    frames = np.stack(list(coded(20)))
    sizes = [write_video(tmp_path / f"{crf}.mp4", frames, crf=crf).stat().st_size for crf in (5, 20, 40)]
    assert sizes[0] > sizes[1] > sizes[2]
    assert read_video(write_video(tmp_path / "ntsc.mp4", frames, fps=30000 / 1001)).fps == pytest.approx(29.97003, abs=1e-4)
    pictures = [__import__("PIL.Image", fromlist=["Image"]).fromarray(f) for f in frames]
    assert numbers(read_video(write_video(tmp_path / "pil.mp4", iter(pictures)), num_frames=None)) == list(range(20))


def test_what_cannot_be_written(tmp_path):
    frames = np.stack(list(coded(4)))
    keep = write_video(tmp_path / "keep.mp4", frames)
    before = keep.read_bytes()

    def breaks_off():
        yield frames[0]
        raise RuntimeError("the source broke off")
    for bad, say in [([], "no frames"), (frames.astype(float), "uint8"), (frames[..., :1], "uint8"), (frames[0], "uint8"),
                     ([frames[0], frames[0][:50]], "one size"), (np.zeros((3, 0, 8, 3), np.uint8), "uint8")]:
        with pytest.raises(VideoError, match=f"keep.mp4: .*{say}"): write_video(keep, bad)
    with pytest.raises(RuntimeError): write_video(keep, breaks_off())
    assert keep.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["keep.mp4"]
    for request, say in [(dict(fps=0), "fps=0"), (dict(fps=-5), "fps"), (dict(fps="a"), "fps"), (dict(fps=float("nan")), "fps"), (dict(crf=99), "crf"), (dict(times=[0, 1]), "times"),
                         (dict(times=[0, 1, 1, 2]), "increase"), (dict(times=[-1, 0, 1, 2]), "not below 0"), (dict(times="abcd"), "numbers of seconds")]:
        with pytest.raises(VideoError, match=say): write_video(tmp_path / "new.mp4", frames, **request)
    for times, say in [([0, 1], "more frames than the 2 times"), (range(6), "4 frames and 6 times")]:
        with pytest.raises(VideoError, match=say): write_video(tmp_path / "new.mp4", iter(frames), times=times)
    for name in ("new.docx", "new", "new.webm", "nowhere/new.mp4"):
        with pytest.raises(VideoError, match="cannot be written"): write_video(tmp_path / name, frames)
    with pytest.raises(VideoError, match="cannot be written"): write_video(tmp_path / ("x" * 300 + ".mp4"), frames)
    assert [p.name for p in tmp_path.iterdir()] == ["keep.mp4"]
    assert len(read_video(write_video(tmp_path / ("x" * 250 + ".mp4"), frames), num_frames=None)) == 4      # as long as a name may be


def test_a_video_shows_itself(plain, tmp_path):
    from PIL import Image
    import io
    video = read_video(plain)
    assert repr(video) == "Video(8 frames 96×128, 0.2–3.4 s of 3.6 s at 25 fps, 'h264.mp4')" and len(video) == 8
    shown = Image.open(io.BytesIO(video._repr_png_()))
    assert shown.size == filmstrip(video).size == (8 * 112 + 7 * 4, 100)
    assert filmstrip(read_video(plain, 90), columns=5, height=48).size == (5 * 64 + 4 * 4, 64)
    strip = np.asarray(shown)[:84]                                  # the tiles are the frames
    for k in range(8):
        tile = strip[:, k * 116:k * 116 + 112].astype(float)
        small = np.asarray(Image.fromarray(video.frames[k]).resize((112, 84)), float)
        assert np.abs(tile - small).mean() < 1
    assert filmstrip(Video(video.frames[:0], video.times[:0], 25, 3.6)).size == (1, 100)


def test_import_brings_neither_torch_nor_matplotlib():
    code = "import sys, bike_nb.video; print([m for m in ('torch', 'matplotlib', 'decord', 'open_clip', 'torchvision') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1]).stdout.strip() == "[]"
