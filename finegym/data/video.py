"""Writing clips: H.264 in MP4, made to be read back at random positions."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace

from .files import replacing


# Fine enough that the time of every frame of any usual frame rate is kept to 1/90 millisecond (MPEG's own clock).
TIME_BASE = Fraction(1, 90_000)


def write_video(
    path: str | Path,
    frames: torch.Tensor | np.ndarray | Iterable[np.ndarray],
    *,
    fps: float,
    key_interval: int = 12,
    crf: int = 18,
) -> None:
    """Write RGB frames as an H.264 MP4 of constant frame rate.

    The same frames give the same bytes. A key frame stands at least every `key_interval` frames, so that reading from any
    position decodes at most that many frames too much.

    Args:
        path: the file to write; it appears when it is complete.
        frames: uint8 of shape (num_frames, height, width, 3), or an iterable of (height, width, 3) arrays. Height and width are
            even: 4:2:0 chroma has no half samples.
        fps: frames per second.
        key_interval: the largest distance between two key frames, in frames.
        crf: x264's constant rate factor; 18 is visually lossless, 0 is lossless up to the chroma subsampling.

    Raises:
        ValueError: naming the file, if there is no frame or the frames are not even-sized uint8 RGB.
    """
    if isinstance(frames, torch.Tensor):
        frames = frames.numpy()
    with replacing(path) as temporary:
        with ClipWriter(temporary, fps=fps, key_interval=key_interval, crf=crf) as writer:
            for position, frame in enumerate(frames):
                if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
                    raise ValueError(f"{path}: frame {position} is {frame.dtype} {frame.shape}, not uint8 (H, W, 3).")
                if frame.shape[0] % 2 or frame.shape[1] % 2:
                    raise ValueError(f"{path}: frames of {frame.shape[1]}x{frame.shape[0]} have an odd side; pad or crop them.")
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                writer.write(picture, position / fps)
        if writer.num_frames == 0:
            raise ValueError(f"{path}: there is no frame to write.")


class ClipWriter:
    """An open MP4 that takes frames one by one, with their times, and converts them to limited-range BT.601 4:2:0."""

    def __init__(self, path: str | Path, *, fps: float, key_interval: int = 12, crf: int = 18):
        self.num_frames = 0
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        self._stream = self._container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        self._stream.time_base = self._stream.codec_context.time_base = TIME_BASE
        self._stream.pix_fmt = "yuv420p"
        # One thread, so that the bytes do not depend on the machine; whoever writes many clips uses many processes.
        self._stream.codec_context.thread_count = 1
        self._stream.options = {
            "crf": str(crf),
            "preset": "veryfast",
            "g": str(key_interval),
            "colorspace": "smpte170m",
            "color_range": "tv",
        }

    def __enter__(self) -> Self:
        return self

    def write(self, frame: av.VideoFrame, time: float) -> None:
        """Append a frame; `time` is in seconds from the start of the clip and grows from call to call."""
        if self.num_frames == 0:
            self._stream.width, self._stream.height = frame.width, frame.height
        frame = frame.reformat(
            format="yuv420p", dst_colorspace=Colorspace.SMPTE170M, dst_color_range=ColorRange.MPEG
        )
        frame.time_base = TIME_BASE
        frame.pts = round(time / TIME_BASE)
        self._container.mux(self._stream.encode(frame))
        self.num_frames += 1

    def __exit__(self, kind, error, traceback) -> None:
        if kind is None and self.num_frames:
            self._container.mux(self._stream.encode(None))
        self._container.close()
