"""The reader of videos: what it gives equals decoding the whole file frame by frame, or it says in a line why not."""

import io
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import DATA
from madevideos import decoded, pattern, turn, write_sound, write_video

from twoviews.data import videodecode, videoindex
from twoviews.data.videodecode import VideoError, frames_at, header, index_of
from twoviews.errors import UserError

N = 32
FINE = {"bf": "2", "preset": "medium"}
OPEN = {"x264-params": "open-gop=1:bframes=3:keyint=10:b-adapt=0", "preset": "medium"}
REFRESH = {"x264-params": "intra-refresh=1:keyint=10:bframes=0", "preset": "medium"}
VP9 = {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}}
JUMPY = (np.arange(N) ** 2 * 3 + np.arange(N) * 20).tolist()  # milliseconds
MADE = {
    "plain.mp4": {},
    "plain.mkv": {},
    "plain.avi": {},
    "plain.mov": {},
    "plain.ts": {},
    "plain.flv": {},
    "plain.webm": VP9,
    "b.mp4": {"options": FINE},
    "b.ts": {"options": FINE},
    "b.avi": {"options": FINE},
    "b.h264": {"options": FINE},
    "open.mp4": {"options": OPEN},
    "open.mkv": {"options": OPEN},
    "open.ts": {"options": OPEN},
    "refresh.mp4": {"options": REFRESH},
    "xvid.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "motion.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "moving.gif": {"codec": "gif", "pixels": "rgb8"},
    "grey.mp4": {"pixels": "gray"},
    "ten.mp4": {"pixels": "yuv420p10le"},
    "full.mp4": {"pixels": "yuv444p"},
    "alpha.mov": {"codec": "png", "pixels": "rgba"},
    "jumpy.mp4": {"times": JUMPY},
    "jumpy.mkv": {"times": JUMPY},
    "late.mp4": {"times": (5000 + 40 * np.arange(N)).tolist()},
    "sound.mp4": {"sound": True},
    "fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return lambda name, **more: write_video(folder / name, pattern(N), **{**MADE.get(name, {}), **more})


def read(path, places, **more):
    file = os.fsencode(path)
    return frames_at(file, index_of(file), places, **more)


def agrees(path, reference):
    """Any frames, in any order, found by seeking from fresh, equal those of decoding the whole."""
    file = os.fsencode(path)
    index, n = index_of(file), len(reference)
    assert len(index) == n
    assert (np.diff(index.pts) > 0).all()
    np.testing.assert_array_equal(frames_at(file, index, np.arange(n)), reference)
    for place in range(0, n, 3):
        np.testing.assert_array_equal(frames_at(file, index, [place])[0], reference[place])
    for places in ([n - 1, 0, n // 2, 0], [n - 1, max(0, n - 2)], np.arange(0, n, 4)[::-1]):
        np.testing.assert_array_equal(frames_at(file, index, places), reference[places])
    return index


@pytest.mark.parametrize("name", MADE)
def test_frames_equal_decoding_the_whole_file(made, name):
    path = made(name)
    index = agrees(path, decoded(path))
    assert len(index) == N
    times = JUMPY if "jumpy" in name else 40 * np.arange(N)
    np.testing.assert_allclose(index.seconds, np.array(times) / 1000, atol=0.006)  # a GIF counts hundredths
    assert index.length > index.seconds[-1]


@pytest.mark.parametrize(
    "name", ["multi_stream_nasa_13013.mp4", "nasa_13013_rotated.mp4", "test_non_zero_start.mp4", "testsrc2_vp9.webm"]
)
def test_hard_cases(name):
    path = DATA / "video" / "decoder_cases" / name
    if not path.exists():
        pytest.skip(f"{name} is not there; set TWOVIEWS_DATA to the folder of the data sets")
    index, places = index_of(os.fsencode(path)), np.array([11, 0, 7, 7])
    reference = decoded(path)[:12] if "multi" not in name else decoded(path)
    assert len(index) == {"mul": 390, "nas": 17, "tes": 12}[name[:3]] if "vp9" not in name else 30
    turns = 1 if "rotated" in name else 0
    wanted = np.rot90(reference, turns, (1, 2))[places]
    np.testing.assert_array_equal(read(path, places), wanted if turns else reference[places])
    if "multi" in name:
        head = header(os.fsencode(path))
        assert (head.width, head.height, head.streams) == (480, 270, 2)
        np.testing.assert_array_equal(read(path, [389, 300])[1], reference[300])


def test_a_clip_without_a_frame_count(tmp_path):
    import av

    path = write_video(tmp_path / "a.mkv", pattern(N))
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 0
    assert header(os.fsencode(path)) == (pytest.approx(N / 25), 64, 48, 25.0, 1)
    assert len(index_of(os.fsencode(path))) == N


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_carried_out(made, degrees):
    path = made(f"turned{degrees}.mp4")
    still = decoded(path)
    turn(path, degrees)
    np.testing.assert_array_equal(read(path, [3, 20]), np.rot90(still, -degrees // 90, (1, 2))[[3, 20]])
    cv2 = pytest.importorskip("cv2")
    capture = cv2.VideoCapture(str(path))
    assert capture.read()[1].shape == read(path, [0])[0].shape
    capture.release()


def test_of_two_streams_the_one_that_is_marked(tmp_path):
    large, small = pattern(12, 96, 128), pattern(20, 24, 32)
    for number, streams in enumerate(((small, large), (large, small))):
        path = write_video(tmp_path / f"{number}.mp4", streams[0], more=streams[1:])
        assert header(os.fsencode(path)).streams == 2
        agrees(path, decoded(path))
        assert read(path, [0]).shape == streams[0][:1].shape


def test_one_frame(tmp_path):
    path = write_video(tmp_path / "one.mp4", pattern(1))
    index = agrees(path, decoded(path))
    assert index.length == pytest.approx(0.04)


@pytest.mark.parametrize("pixels", ["yuv420p", "bgr0"])
def test_odd_sizes_and_none_is_changed(tmp_path, pixels):
    x = pattern(9, 37, 51)
    path = write_video(tmp_path / "odd.mkv", x, codec="ffv1", pixels=pixels)
    agrees(path, decoded(path))
    if pixels == "bgr0":
        np.testing.assert_array_equal(read(path, np.arange(9)), x)


def test_a_broadcast_joined_in_its_midst(made, tmp_path):
    whole = made("plain.ts")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(whole.read_bytes()[: 188 * 3] + whole.read_bytes()[188 * 20 :])
    every = decoded(whole)
    index = index_of(os.fsencode(joined))
    assert 10 <= len(index) < N
    np.testing.assert_array_equal(read(joined, np.arange(len(index))), every[-len(index) :])


@pytest.mark.parametrize("side", [24, 17, 47])
def test_frames_are_reduced_to_the_mean_of_what_a_pixel_covers(tmp_path, side):
    x = pattern(5)
    path = write_video(tmp_path / "a.mkv", x, codec="ffv1", pixels="bgr0")
    small = read(path, [1, 4], max_side=side)
    assert small.shape == (2, side, round(64 * side / 48), 3)
    if side == 24:
        mean = x[[1, 4]].reshape(2, 24, 2, 32, 2, 3).mean((2, 4))
        assert np.abs(small - mean).max() <= 1
    np.testing.assert_array_equal(read(path, [1], max_side=48), x[[1]])
    np.testing.assert_array_equal(read(path, [1], max_side=400), x[[1]])


def test_an_upright_clip_is_reduced_by_its_own_shorter_side(made):
    path = turn(made("upright.mp4"), 90)
    assert read(path, [0], max_side=24).shape == (1, 32, 24, 3)


def test_files_in_memory_and_names_with_colons(tmp_path):
    path = write_video("file:" + str(tmp_path / "12:30.mp4"), pattern(N))
    path = tmp_path / "12:30.mp4"
    reference = read(path, [3, 30])
    memory = io.BytesIO(path.read_bytes())
    memory.read()
    np.testing.assert_array_equal(frames_at(memory, index_of(memory), [3, 30]), reference)
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        np.testing.assert_array_equal(read("12:30.mp4", [3, 30]), reference)
    finally:
        os.chdir(here)


def _one(job):
    file, index, place = job
    return frames_at(file, index, [place])[0]


def test_threads_and_forked_workers(made):
    file = os.fsencode(made("plain.mp4"))
    index = index_of(file)
    wanted = frames_at(file, index, np.arange(N))
    jobs = [(file, index, place) for place in range(N)]
    with ThreadPoolExecutor(4) as pool:
        np.testing.assert_array_equal(np.stack(list(pool.map(_one, jobs))), wanted)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        np.testing.assert_array_equal(np.stack(pool.map(_one, jobs)), wanted)


def test_no_file_stays_open(made):
    path = made("plain.mp4")
    held = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else pytest.skip("no /proc")
    for _ in range(5):
        read(path, [0, 30])
    assert len(os.listdir("/proc/self/fd")) == held


def test_places_that_are_none(made):
    path = made("plain.mp4")
    with pytest.raises(UserError, match="frames 3 to 32 of a video that has 32"):
        read(path, [3, N])
    with pytest.raises(UserError, match="frames -1 to 2"):
        read(path, [2, -1])
    with pytest.raises(UserError, match="no frames are asked for"):
        read(path, [])
    with pytest.raises(UserError, match="unknown video reader 'pyva', did you mean 'pyav'"):
        read(path, [0], reader="pyva")


def everything(path):
    """All that can be asked of a video."""
    file = os.fsencode(path)
    header(file)
    index = index_of(file)
    return frames_at(file, index, np.arange(len(index)))


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("empty.mp4", b"", "empty: it has no bytes"),
        ("text.mp4", b"a word and a word\n" * 200, "a text, not a video"),
        ("noise.mp4", np.random.default_rng(0).bytes(50_000), "not a video, or of a kind that is not read"),
        ("noise.avi", np.random.default_rng(1).bytes(50_000), "not a video, or of a kind that is not read"),
        ("list.mp4", b"#EXTM3U\n#EXTINF:5,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n", "a text, not a video"),
        ("list.mp4", b"ffconcat version 1.0\nfile plain.mp4\n", "a list of videos, not a video"),
    ],
)
def test_what_is_no_video(tmp_path, made, name, data, says):
    write_video(tmp_path / "plain.mp4", pattern(3))
    (tmp_path / name).write_bytes(data)
    with pytest.raises(VideoError, match=says) as found:
        everything(tmp_path / name)
    assert "\n" not in str(found.value)


def test_no_file_and_no_video(tmp_path):
    with pytest.raises(VideoError, match="no such file"):
        header(os.fsencode(tmp_path / "nothing.mp4"))
    with pytest.raises(VideoError, match="is a directory"):
        header(os.fsencode(tmp_path))
    with pytest.raises(VideoError, match="no video in it"):
        header(os.fsencode(write_sound(tmp_path / "sound.mp4")))


FORMS = {
    "plain.mp4": {},
    "fast.mp4": {"container_options": {"movflags": "faststart"}},
    "fragments.mp4": {},
    "plain.mov": {},
    "plain.mkv": {},
    "plain.webm": {},
    "plain.avi": {},
}


@pytest.mark.parametrize("sound", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_cut_short(made, tmp_path, name, sound):
    """Wherever it is cut, be it between two frames or within the sound."""
    if sound and name == "plain.webm":
        pytest.skip("the sound of these tests is none that WebM holds")
    data = made(name, sound=sound, **FORMS[name]).read_bytes()
    everything(made(name, sound=sound, **FORMS[name]))
    for share in (0.3, 0.6, 0.9, 0.97, 1):
        (tmp_path / name).write_bytes(data[: int(len(data) * share) - 1])
        with pytest.raises(VideoError, match=r"cut short: [\d,]+ of [\d,]+ bytes are there"):
            everything(tmp_path / name)


def test_what_lies_behind_the_last_box_is_left_alone(made, tmp_path):
    for name in ("plain.mp4", "plain.avi"):
        whole = everything(made(name))
        for tail in (b"\0" * 40, b"TAG" + b" " * 125, b"\xff" * 9):
            (tmp_path / name).write_bytes(made(name).read_bytes() + tail)
            np.testing.assert_array_equal(everything(tmp_path / name), whole)


@pytest.mark.parametrize("kind", ["mp4", "avi"])
def test_flipped_bytes_in_one_stretch(tmp_path, kind):
    """What rests on a damaged frame is none, and the stretches between other key frames are read as before."""
    whole = write_video(tmp_path / f"whole.{kind}", pattern(60, 96, 128))
    reference, data = decoded(whole), bytearray(whole.read_bytes())
    rng = np.random.default_rng(3)
    for place in len(data) // 3 + rng.integers(0, len(data) // 9, 40):
        data[place] ^= 0xFF
    path = tmp_path / f"flipped.{kind}"
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"damaged or cut short: \d+ of 60 frames can be read"):
        read(path, np.arange(60))
    others = [*range(10), *range(40, 60)]
    np.testing.assert_array_equal(read(path, others), reference[others])


def test_thousands_of_flipped_bytes(made, tmp_path):
    for seed, name in enumerate(("plain.mp4", "plain.mkv", "plain.avi", "plain.ts")):
        data = np.frombuffer(made(name).read_bytes(), np.uint8).copy()
        rng = np.random.default_rng(seed)
        data[rng.integers(0, len(data), 3000)] = rng.integers(0, 256, 3000, np.uint8)
        (tmp_path / name).write_bytes(data.tobytes())
        with pytest.raises(VideoError):
            everything(tmp_path / name)


def test_a_frame_that_does_not_come_is_not_replaced(made, monkeypatch):
    """An index that says more than there is, as of a file that has changed since."""
    file = os.fsencode(made("plain.mp4"))
    index = index_of(file)
    more = videoindex.VideoIndex(np.append(index.pts, index.pts[-1] + 512), index.keys, index.base, index.rate)
    with pytest.raises(VideoError, match="32 of 33 frames can be read"):
        frames_at(file, more, [0, 32])


def test_torchcodec_gives_the_same_or_says_why_not(made, monkeypatch):
    path = made("b.mp4")
    file, places = os.fsencode(path), [5, 0, 31, 5]
    index = index_of(file)
    monkeypatch.setenv(videodecode.READER, "torchcodec")
    try:
        from torchcodec.decoders import VideoDecoder

        VideoDecoder(str(path))
    except (ImportError, RuntimeError, OSError):
        with pytest.raises(UserError, match="'torchcodec' does not load .*; leave TWOVIEWS_VIDEO_READER out"):
            frames_at(file, index, places)
        return
    np.testing.assert_array_equal(frames_at(file, index, places), frames_at(file, index, places, reader="pyav"))
