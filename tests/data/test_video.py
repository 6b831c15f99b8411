import hashlib
import random

import av
import numpy as np
import pytest
import torch
from footage import encode, mark_rotated, numbers_of, picture

from finegym.data.video_writing import write_video
from modeling_finegym.video_decoding import VideoDecodingError, open_video


FRAMES = np.stack([picture(number) for number in range(60)])


def test_written_frames_come_back(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, torch.from_numpy(FRAMES), fps=29.97)
    with open_video(path) as file:
        frames = file.frames(list(range(60)))
        assert file.fps == pytest.approx(29.97, abs=1e-3)
    assert np.abs(frames.numpy().astype(int) - FRAMES).mean() < 2
    assert numbers_of(frames) == list(range(60))


def test_a_key_frame_stands_at_least_every_twelve_frames(tmp_path):
    write_video(tmp_path / "clip.mp4", FRAMES, fps=25)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        keys = [number for number, frame in enumerate(container.decode(video=0)) if frame.key_frame]
    assert keys[0] == 0 and max(np.diff([*keys, 60])) <= 12


def test_the_same_frames_give_the_same_bytes(tmp_path):
    digests = set()
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, FRAMES[:30], fps=25)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).digest())
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((0, 64, 64, 3), np.uint8), "no frame"),
        (np.zeros((2, 63, 64, 3), np.uint8), "64x63 have an odd side"),
        (np.zeros((2, 64, 64, 3), np.float32), "float32"),
    ],
)
def test_frames_that_cannot_be_written_leave_no_file(tmp_path, frames, message):
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / "clip.mp4", frames, fps=25)
    assert list(tmp_path.iterdir()) == []


VARIABLE = np.cumsum(np.random.default_rng(0).choice([0.017, 0.040, 0.080], 60)).round(3)
CASES = {
    "b_pyramid.mp4": ({"g": "30", "bf": "5", "preset": "medium", "x264-params": "b-pyramid=normal"}, VARIABLE),
    "open_gop.mp4": ({"g": "12", "bf": "3", "preset": "medium", "x264-params": "open-gop=1"}, VARIABLE),
    "late_start.mkv": ({"g": "250", "preset": "fast"}, VARIABLE + 7),
    "intra_refresh.mp4": ({"g": "250", "bf": "0", "x264-params": "intra-refresh=1"}, VARIABLE),
    "transport.ts": ({"g": "12", "preset": "fast"}, VARIABLE),
    "vp9.webm": ({"codec": "libvpx-vp9", "g": "20", "deadline": "realtime", "cpu-used": "8", "crf": "12"}, VARIABLE),
    "mjpeg.avi": ({"codec": "mjpeg", "pixel_format": "yuvj420p", "clock": 25}, np.arange(60) / 25),
    "mpeg4.avi": ({"codec": "mpeg4", "g": "12", "bf": "2", "qscale": "2", "flags": "+qscale"}, np.arange(60) / 25),
}


@pytest.mark.parametrize("name", CASES)
def test_any_frames_in_any_order_are_the_right_ones(tmp_path, name):
    options, times = CASES[name]
    encode(tmp_path / name, FRAMES, times, **options)
    draw = random.Random(0)
    with open_video(tmp_path / name) as file:
        assert file.num_frames == 60
        for _ in range(25):
            start, step = draw.randrange(60), draw.choice([1, 2, 3, 7])
            indices = list(range(start, 60, step))[: draw.randint(1, 32)]
            if draw.random() < 0.3:
                indices = draw.choices(range(60), k=5)
            assert numbers_of(file.frames(indices)) == indices
            assert [index for index, _ in file.decode(indices)] == indices


def test_a_file_without_its_end_gives_what_is_whole_and_names_itself_for_the_rest(tmp_path):
    encode(tmp_path / "whole.mkv", FRAMES, np.arange(60) / 25, g="10")
    content = (tmp_path / "whole.mkv").read_bytes()
    middle = len(content) // 2
    (tmp_path / "damaged.mkv").write_bytes(content[:middle] + bytes(3000) + content[middle + 3000 :])
    with open_video(tmp_path / "damaged.mkv") as file:
        assert numbers_of(file.frames([0, 1, 2])) == [0, 1, 2]
        with pytest.raises(VideoDecodingError, match="damaged.mkv"):
            file.frames(list(range(file.num_frames)))


def test_rotation_is_applied(tmp_path):
    upright = FRAMES[:5]
    encode(tmp_path / "telephone.mp4", [np.rot90(frame, 1) for frame in upright], np.arange(5) / 25)
    mark_rotated(tmp_path / "telephone.mp4")
    with open_video(tmp_path / "telephone.mp4") as file:
        frames = file.frames([0, 4]).numpy()
    assert frames.shape == (2, 64, 96, 3)
    assert np.abs(frames.astype(int) - upright[[0, 4]]).mean() < 2


def mutate(content: bytes, draw: random.Random) -> bytes:
    data = bytearray(content)
    kind = draw.choice(["flip", "head", "cut", "zero", "swap"])
    first, second = sorted(draw.sample(range(len(data)), 2))
    if kind == "cut":
        return bytes(data[:second])
    if kind == "zero":
        data[first : first + 500] = bytes(len(data[first : first + 500]))
    elif kind == "swap":
        data = data[:first] + data[second:] + data[first:second]
    else:
        for _ in range(draw.choice([1, 10, 100])):
            data[draw.randrange(1500 if kind == "head" else len(data))] = draw.randrange(256)
    return bytes(data)


@pytest.mark.parametrize("name", ["b_pyramid.mp4", "late_start.mkv", "transport.ts", "mpeg4.avi", "mjpeg.avi"])
def test_a_damaged_file_gives_frames_or_one_error_with_its_name(tmp_path, name):
    options, times = CASES[name]
    encode(tmp_path / name, FRAMES[:30], times[:30], **options)
    content, draw = (tmp_path / name).read_bytes(), random.Random(0)
    damaged = tmp_path / f"damaged-{name}"
    num_errors = 0
    for _ in range(60):
        damaged.write_bytes(mutate(content, draw))
        try:
            with open_video(damaged) as file:
                indices = list(range(0, min(file.num_frames, 64), 2))
                frames = file.frames(indices)
                assert frames.dtype == torch.uint8 and len(frames) == len(indices)
        except VideoDecodingError as error:
            num_errors += 1
            assert f"damaged-{name}" in str(error)
    assert num_errors > 0


def test_frames_at_the_same_time_are_spread_up_to_the_next(tmp_path):
    """A busy browser records some frames of a webcam at the time of the one before, in a file that says no rate."""
    encode(tmp_path / "apart.webm", FRAMES, np.arange(60) / 20, codec="libvpx", g="20", deadline="realtime", crf="12")
    equal = {20: 19, 40: 39, 41: 39, 59: 58}
    with av.open(str(tmp_path / "apart.webm")) as source, av.open(str(tmp_path / "webcam.webm"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        times = [packet.pts for packet in source.demux(video=0) if packet.size]
        source.seek(0)
        for number, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            packet.pts = packet.dts = times[equal.get(number, number)]
            packet.stream = stream
            target.mux(packet)
    with av.open(str(tmp_path / "webcam.webm")) as file:
        stored = [frame.pts for frame in file.decode(video=0)]
        assert [number for number in range(1, 60) if stored[number] == stored[number - 1]] == [20, 40, 41, 59]
    with open_video(tmp_path / "webcam.webm") as file:
        expected = np.arange(60) / 20
        expected[[20, 40, 41]] = [0.95 + 0.1 / 2, 1.95 + 0.15 / 3, 1.95 + 2 * 0.15 / 3]
        last = 2.9 + 2.9 / 55 / 2  # half of a mean step
        assert file.times[:59] == pytest.approx(expected[:59], abs=2e-3) and file.times[59] == pytest.approx(
            last, abs=2e-3
        )
        assert numbers_of(file.frames([0, 19, 20, 41, 59])) == [0, 19, 20, 41, 59]
        assert file.fps == pytest.approx(20, rel=0.02)
