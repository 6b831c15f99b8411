"""Writing video files: H.264 in MP4 that can be read quickly at random positions."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import ArrayLike

from .files import replacing


# MPEG's own clock, fine enough to keep the time of every frame of any usual rate to a hundredth of a millisecond.
TIME_BASE = Fraction(1, 90_000)


class VideoWriter:
    """An open MP4 that takes frames one by one with their times. The same frames yield the same bytes.

    Frames are stored as limited-range BT.601 4:2:0, upright. The stream is coded without the loop filter and without
    arithmetic coding (x264's `tune=fastdecode`): files grow by a tenth, and decoding, which every epoch pays for,
    takes half the time.

    Args:
        path: The file to write.
        fps: The nominal number of frames per second, for rate control and players; the times given with the frames are
            what is stored.
        short_side: The length in pixels of the shorter side of the video, an even number; larger frames are scaled to
            it (bicubic) and keep their aspect ratio. Smaller ones are not enlarged. If None, frames stay as they are.
        key_interval: The largest distance between two key frames, in frames.
        crf: x264's constant rate factor; 18 is visually lossless.
        comment: A text for the file's metadata.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fps: float,
        short_side: int | None = None,
        key_interval: int = 12,
        crf: int = 18,
        comment: str = "",
    ):
        self.num_frames = 0
        self._short_side = short_side
        self._size = (0, 0)
        self._last_pts = -1
        # `frame.reformat` would set up a scaler and its threads for every frame: ten times the time of a small
        # picture.
        self._reformatter = VideoReformatter()
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        self._container.metadata["comment"] = comment
        self._stream = self._container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        self._stream.time_base = self._stream.codec_context.time_base = TIME_BASE
        self._stream.pix_fmt = "yuv420p"
        # One thread, so that the bytes do not depend on the machine; many files are written by many processes.
        self._stream.codec_context.thread_count = 1
        self._stream.options = {
            "crf": str(crf),
            "preset": "veryfast",
            "tune": "fastdecode",
            "mbtree": "0",  # x264's AVX-512 code for it gives other bytes from run to run
            "g": str(key_interval),
            "colorspace": "smpte170m",
            "color_range": "tv",
        }

    def __enter__(self) -> Self:
        return self

    def write(self, frame: av.VideoFrame, time: float) -> None:
        """Append a frame; `time` is in seconds from the start of the video and grows from call to call."""
        if self.num_frames == 0:
            self._size = self._stream.width, self._stream.height = self._upright_size(frame)
        frame = self._fit(frame)
        # A frame keeps the type it had in its source, which the encoder would take for a request.
        frame.pict_type = PictureType.NONE
        frame.time_base = TIME_BASE
        # Two frames may share a tick of this clock, but not a time.
        frame.pts = self._last_pts = max(round(time / TIME_BASE), self._last_pts + 1)
        self._container.mux(self._stream.encode(frame))
        self.num_frames += 1

    def _upright_size(self, frame: av.VideoFrame) -> tuple[int, int]:
        size = (frame.width, frame.height) if round(frame.rotation / 90) % 2 == 0 else (frame.height, frame.width)
        if self._short_side is None:
            return size
        scale = min(1.0, self._short_side / min(size))
        width, height = (max(2, min(2 * round(side * scale / 2), side // 2 * 2)) for side in size)
        return width, height

    def _fit(self, frame: av.VideoFrame) -> av.VideoFrame:
        width, height = self._size
        quarter_turns = round(frame.rotation / 90) % 4
        if quarter_turns:
            coded_size = (height, width) if quarter_turns % 2 else (width, height)
            frame = frame.reformat(*coded_size, format="rgb24", interpolation=Interpolation.BICUBIC)
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(np.rot90(frame.to_ndarray(), quarter_turns)), "rgb24"
            )
        return self._reformatter.reformat(
            frame,
            width,
            height,
            format="yuv420p",
            dst_colorspace=Colorspace.SMPTE170M,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BICUBIC,
            threads=1,
        )

    def __exit__(self, kind, error, traceback) -> None:
        try:
            if kind is None and self.num_frames:
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()


def write_video(
    path: str | Path,
    frames: Iterable[ArrayLike],
    *,
    fps: float,
    key_interval: int = 12,
    crf: int = 18,
) -> None:
    """Write RGB frames as an H.264 MP4 of constant frame rate; see `VideoWriter` for the coding.

    Args:
        path: The file to write; it appears when it is complete.
        frames: uint8 of shape (num_frames, height, width, 3), an array or a tensor, or an iterable of (height, width,
            3) arrays. Height and width are even: 4:2:0 chroma has no half samples.
        fps: The number of frames per second.
        key_interval: The largest distance between two key frames, in frames.
        crf: x264's constant rate factor.

    Raises:
        ValueError: If there is no frame or the frames are not even-sized uint8 RGB; the message names the file.
    """
    with replacing(path) as temporary:
        with VideoWriter(temporary, fps=fps, key_interval=key_interval, crf=crf) as writer:
            for position, frame in enumerate(map(np.asarray, frames)):
                if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
                    raise ValueError(f"{path}: frame {position} is {frame.dtype} {frame.shape}, not uint8 (H, W, 3).")
                if frame.shape[0] % 2 or frame.shape[1] % 2:
                    raise ValueError(
                        f"{path}: frames of {frame.shape[1]}x{frame.shape[0]} have an odd side; pad or crop them."
                    )
                writer.write(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"), position / fps)
        if writer.num_frames == 0:
            raise ValueError(f"{path}: there is no frame to write.")


def recode(video: str | Path, path: str | Path, *, short_side: int) -> None:
    """Write a video's frames as a new file that browsers play: without its sound and metadata, such as the place where
    a phone filmed it.

    Args:
        video: The file to read.
        path: The MP4 to write; it appears when it is complete.
        short_side: The length in pixels of the shorter side; smaller videos are not enlarged.

    Raises:
        FileNotFoundError, VideoDecodingError: If there is no such video, or it cannot be read.
    """
    from modeling_finegym.video_decoding import open_video  # imports torch and transformers

    with (
        open_video(video) as file,
        replacing(path) as temporary,
        VideoWriter(temporary, fps=file.fps, short_side=short_side) as writer,
    ):
        for index, frame in file.decode(range(file.num_frames)):
            writer.write(frame, file.times[index])
