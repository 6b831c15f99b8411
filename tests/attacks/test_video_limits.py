"""Videos that ask for more than any video needs: each is refused by name, with the limit, before memory is used."""

import functools
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from footage import encode, picture

from finegym.data.dataset import ClipDataset
from finegym.data.index import Video
from finegym.data.transforms import augment
from finegym.evaluation.timeline import score_windows
from modeling_finegym import FineGymVideoProcessor, video_decoding
from modeling_finegym.video_decoding import VideoDecodingError, open_video


def png(width: int, height: int, *, is_whole: bool = True) -> bytes:
    """Return a gray picture, or one that only claims its size."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = zlib.compress(bytes((width + 1) * height) if is_whole else b"\0")
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def write_pngs(path: Path, contents: list[bytes], times: list[int], num_streams: int = 1) -> None:
    """Write pictures as a video of 64 x 48 pixels, shown at times in milliseconds."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("png", rate=25) for _ in range(num_streams)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt, stream.time_base = 64, 48, "gray", Fraction(1, 1000)
        for content, time in zip(contents, times, strict=True):
            for stream in streams:
                packet = av.Packet(content)
                packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 1000), True
                packet.pts = packet.dts = time
                container.mux(packet)


def read_all(path: Path) -> None:
    with open_video(path) as video:
        video.frames(video.select())


def score(path: Path) -> None:
    FineGymVideoProcessor(num_frames=4, frame_interval=1).load_clips(path)


def draw_timeline(path: Path) -> None:
    score_windows(
        torch.nn.Identity().eval(),
        FineGymVideoProcessor(num_frames=4, frame_interval=1),
        str(path),
        window=2.0,
        stride=0.5,
        progress=False,
    )


@pytest.mark.parametrize("read", [read_all, score, draw_timeline])
@pytest.mark.parametrize(
    ("name", "contents", "times", "message"),
    [
        (
            "grows.mov",
            [png(64, 48)] * 3 + [png(16128, 8192, is_whole=False)],
            [0, 40, 80, 120],
            r"frame 3 cannot .* the limit is 67108864 pixels",
        ),
        ("narrows.mov", [png(64, 48)] * 3 + [png(2, 4096)], [0, 40, 80, 120], "2 x 4096 pixels; the limit is a ratio"),
    ],
)
def test_what_a_stream_claims_or_becomes_is_bounded(tmp_path, name, contents, times, message, read):
    write_pngs(tmp_path / name, contents, times)
    with pytest.raises(VideoDecodingError, match=message) as caught:
        read(tmp_path / name)
    assert name in str(caught.value)


@pytest.mark.parametrize("read", [read_all, score, draw_timeline])
def test_claimed_time_is_bounded(tmp_path, read):
    encode(tmp_path / "lasts.mkv", [picture(0), picture(1)], [0, 39_000_000], codec="ffv1")
    with pytest.raises(VideoDecodingError, match=r"lasts.mkv lasts 39000000 s .* the limit is 86400 s"):
        read(tmp_path / "lasts.mkv")


def test_a_needle_is_no_film(tmp_path):
    encode(tmp_path / "needle.mkv", [np.zeros((2, 4096, 3), np.uint8)] * 2, [0, 0.04], codec="ffv1")
    with pytest.raises(
        VideoDecodingError, match="needle.mkv has frames of 4096 x 2 pixels; the limit is a ratio of 16"
    ):
        open_video(tmp_path / "needle.mkv")


def test_streams_are_bounded(tmp_path):
    write_pngs(tmp_path / "many.mov", [png(64, 48)], [0], num_streams=65)
    with pytest.raises(VideoDecodingError, match="many.mov has 65 streams; the limit is 64"):
        open_video(tmp_path / "many.mov")


@pytest.mark.parametrize("suffix", ["mkv", "ts"])
def test_frames_are_bounded(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(video_decoding, "MAX_FRAMES", 20)
    encode(tmp_path / f"long.{suffix}", [picture(number) for number in range(21)], np.arange(21) / 25)
    with pytest.raises(VideoDecodingError, match=f"long.{suffix} has more than 20 frames"):
        open_video(tmp_path / f"long.{suffix}")


@pytest.mark.parametrize(
    "text", ["ffconcat version 1.0\nfile film.mp4\n", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfilm.mp4\n"]
)
def test_a_list_of_other_files_is_no_video(tmp_path, text):
    encode(tmp_path / "film.mp4", [picture(number) for number in range(4)], np.arange(4) / 25)
    (tmp_path / "list.mp4").write_text(text)
    with pytest.raises(VideoDecodingError, match=r"list\.mp4 is not a readable video"):
        open_video(tmp_path / "list.mp4")


def clips_of_training(path: Path) -> torch.Tensor:
    transform = functools.partial(augment, short_side=64, crop_size=56)
    dataset = ClipDataset(
        [Video("large", path, 0, 64)], seed=0, clip_len=64, frame_interval=1, short_side=64, transform=transform
    )
    return dataset[0]["pixel_values"]


def test_frames_of_several_sizes_make_one_error(tmp_path):
    write_pngs(tmp_path / "sizes.mov", [png(64, 48), png(96, 48)], [0, 40])
    with pytest.raises(VideoDecodingError, match="sizes.mov changes the size of its frames at frame 1"):
        read_all(tmp_path / "sizes.mov")


class Memory:
    """How far the memory of this process grows from here on."""

    PEAK = Path("/proc/self/clear_refs")

    def __init__(self):
        if not self.PEAK.exists():
            pytest.skip("the largest memory of a process can be reset on Linux only")
        self.PEAK.write_text("5")
        self.before = self.read("VmRSS")

    @staticmethod
    def read(name: str) -> int:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024

    def grown(self) -> int:
        return self.read("VmHWM") - self.before


@pytest.mark.parametrize(
    "load",
    [
        lambda processor, path: processor.load_clips(path).pixel_values,
        lambda processor, path: processor(str(path), do_sample_frames=False, return_tensors="pt").pixel_values,
        lambda processor, path: clips_of_training(path),
    ],
    ids=["load_clips", "processor", "training"],
)
def test_memory_does_not_grow_with_the_source(load, tmp_path):
    """Load clips of 64 distinct frames of 960 x 720 pixels, 0.5 GB as floats, for a result of 2 MB."""
    frames = [picture(number, 720, 960) for number in range(8)] * 8
    encode(tmp_path / "large.mp4", frames, np.arange(64) / 25, g="8")
    processor = FineGymVideoProcessor(
        num_frames=8, frame_interval=1, num_clips=8, size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56}
    )
    processor.load_clips(tmp_path / "large.mp4", num_clips=1)
    memory = Memory()
    pixel_values = load(processor, tmp_path / "large.mp4")
    grown = memory.grown()
    assert pixel_values.flatten(0, -4).shape == (64, 3, 56, 56)
    assert grown < 4 * pixel_values.numel() + 64 * 960 * 720 + 32e6


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["mov", "avi"])
def test_memory_grows_with_the_number_of_frames_as_stated(tmp_path, suffix):
    """Load clips of a film of two hours and more, whose packets tell its frames (mov) or do not (avi)."""
    num_frames = 200_000
    with av.open(str(tmp_path / f"long.{suffix}"), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray"
        content = png(64, 48)
        for number in range(num_frames):
            packet = av.Packet(content)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), True
            packet.pts = packet.dts = number
            container.mux(packet)
    processor = FineGymVideoProcessor(num_frames=4, size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    write_pngs(tmp_path / "short.mov", [content] * 4, [0, 40, 80, 120])
    processor.load_clips(tmp_path / "short.mov")
    memory = Memory()
    pixel_values = processor.load_clips(tmp_path / f"long.{suffix}").pixel_values
    grown = memory.grown()
    assert grown < 4 * pixel_values.numel() + 64 * 64 * 48 + 512 * num_frames + 32e6
