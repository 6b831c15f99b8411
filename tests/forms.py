"""The same video in other forms: as cameras of other frame rates would have filmed it, and as other programs store it.

What encoder and container allow is lossless, so that every frame can be compared bit for bit."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from footage import mark_rotated
from video_zoo import mpeg4_vops, packed, write_avi


CLOCK = 90_000
LOSSLESS = {"qp": "0", "preset": "ultrafast", "g": "12", "colorspace": "smpte170m", "color_range": "tv"}


def times_at(rate: float | str, duration: float) -> np.ndarray:
    """Return when a camera takes pictures, in seconds: at a rate, or "variable" as a telephone in changing light."""
    if rate == "variable":
        times = np.concatenate([[0.0], np.cumsum(np.random.default_rng(0).choice([0.016, 0.033, 0.05], 10_000))])
        return times[times < duration - 0.008]
    return np.arange(max(1, round(duration * float(rate)))) / float(rate)


def nearest(times: Sequence[float], wanted: np.ndarray) -> list[int]:
    """Return which of the pictures taken at `times` is nearest to each of the wanted times."""
    return np.abs(np.asarray(times)[None] - wanted[:, None]).argmin(1).tolist()


def read_frames(path: Path) -> tuple[list[av.VideoFrame], list[float]]:
    """Return what libavcodec decodes, and when it is shown in seconds."""
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        frames = list(container.decode(video=0))
    return frames, [float((frame.pts - frames[0].pts) * frame.time_base) for frame in frames]


def write_frames(
    path: Path, frames: Sequence[av.VideoFrame], times: Sequence[float], *, pixel_format: str = "yuv420p"
) -> None:
    """Write frames of a decoder as H.264 without loss, at the given times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, pixel_format
        stream.codec_context.time_base, stream.options = Fraction(1, CLOCK), LOSSLESS
        for image, time in zip(frames, times, strict=True):
            frame = image.reformat(format=pixel_format)
            if frame is image:  # the same picture may be written more than once, each time at another time
                frame = av.VideoFrame.from_ndarray(image.to_ndarray(), format=pixel_format)
            frame.time_base, frame.pts = Fraction(1, CLOCK), round(time * CLOCK)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def resample_file(rate: float | str, source: Path, target: Path) -> None:
    """Write a file as a camera of another rate would have filmed it: its frames, some skipped or repeated."""
    frames, times = read_frames(source)
    wanted = times_at(rate, times[-1] + times[1])
    write_frames(target, [frames[index] for index in nearest(times, wanted)], wanted.tolist())


def _xvid(source: Path, target: Path) -> None:
    frames, times = read_frames(source)
    pictures = [frame.to_ndarray(format="rgb24") for frame in frames]
    rate = round(1 / times[1])
    chunks = packed(mpeg4_vops(pictures, b_frames=2, rate=rate))
    keys = range(0, len(chunks), 12)
    write_avi(target, chunks, frames[0].width, frames[0].height, key_frames=keys, rate=rate)


def _rotated(source: Path, target: Path) -> None:
    """Store pictures on their side, with a mark in the file to turn them back, as telephones do."""
    frames, times = read_frames(source)
    on_side = []
    for frame in frames:
        height, width = frame.height, frame.width
        luma, *chroma = np.split(frame.to_ndarray().ravel(), [height * width, height * width * 5 // 4])
        planes = [luma.reshape(height, width), *(plane.reshape(height // 2, width // 2) for plane in chroma)]
        turned = np.concatenate([np.rot90(plane).ravel() for plane in planes])
        on_side.append(av.VideoFrame.from_ndarray(turned.reshape(width * 3 // 2, height), format="yuv420p"))
    write_frames(target, on_side, times)
    mark_rotated(target)


def _ten_bits(source: Path, target: Path) -> None:
    frames, times = read_frames(source)
    write_frames(target, frames, times, pixel_format="yuv420p10le")


# By name, with the suffix: what writes a source file anew.
FORMS: dict[str, Callable[[Path, Path], None]] = {
    "xvid_packed.avi": _xvid,
    "ntsc.mp4": partial(resample_file, 30_000 / 1001),
    "sixty.mp4": partial(resample_file, 60.0),
    "variable.mp4": partial(resample_file, "variable"),
    "rotated.mp4": _rotated,
    "ten_bits.mp4": _ten_bits,
}
