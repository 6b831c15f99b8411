"""Reads just the frames that are asked for from a video file, exactly: also with a variable frame rate, B-frames,
a start time other than zero or rotation metadata. The decoder is PyAV's FFmpeg."""

from bisect import bisect_left
from fractions import Fraction
from pathlib import Path

import torch


try:
    import av
except ImportError:
    av = None

# 8192 x 8192 pixels: larger frames are refused before memory is taken for them
MAX_PIXELS = 2**26


class VideoDecodingError(ValueError):
    """A video file cannot be read; the message names the file."""


class VideoFile:
    """
    An open video file. Frames are numbered in the order in which they are shown.

    Attributes:
        num_frames (`int`): Frames in the file.
        times (`list[float]`): When each frame is shown, in seconds from the first one.
        fps (`float`): Mean frame rate in frames per second.
        width (`int`), height (`int`): Size of the coded frames in pixels, before any rotation.
    """

    def __init__(self, path: str | Path):
        if av is None:
            raise ImportError("Reading video files needs PyAV: run `pip install av`. Arrays of frames need nothing.")
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path} is not a file.")
        try:
            self._container = av.open(f"file:{self.path}", options={"protocol_whitelist": "file"})
        except (av.FFmpegError, ValueError) as error:
            raise VideoDecodingError(f"{self.path} is not a readable video: {error}") from error
        try:
            self._index()
        except BaseException:
            self.close()
            raise

    def _index(self) -> None:
        if not self._container.streams.video:
            raise VideoDecodingError(f"{self.path} has no video stream.")
        self._stream = self._container.streams.video[0]
        self._stream.codec_context.thread_count = 1
        self.width, self.height = self._stream.codec_context.width, self._stream.codec_context.height
        if not 0 < self.width * self.height <= MAX_PIXELS:
            raise VideoDecodingError(
                f"{self.path} declares frames of {self.width} x {self.height} pixels; the limit is {MAX_PIXELS}."
            )
        try:
            packets = [
                packet for packet in self._container.demux(self._stream) if packet.size and not packet.is_discard
            ]
            if any(packet.pts is None for packet in packets):  # AVI and raw streams: only decoding tells the times
                self._container.seek(0)
                frames = list(self._container.decode(self._stream))
                self._pts, self._key_pts = sorted(frame.pts for frame in frames), []
            else:
                self._pts = sorted({packet.pts for packet in packets})
                self._key_pts = sorted(packet.pts for packet in packets if packet.is_keyframe)
        except (av.FFmpegError, TypeError) as error:
            raise VideoDecodingError(f"{self.path} is damaged: {error}") from error
        if not self._pts:
            raise VideoDecodingError(f"{self.path} has no frames.")
        time_base = self._stream.time_base or Fraction(1, 1)
        self.num_frames = len(self._pts)
        self.times = [float((pts - self._pts[0]) * time_base) for pts in self._pts]
        rate = self._stream.average_rate or self._stream.guessed_rate or 0
        self.fps = (self.num_frames - 1) / self.times[-1] if self.times[-1] > 0 else float(rate)

    def index_range(self, start: float | None = None, end: float | None = None) -> tuple[int, int]:
        """
        The frames shown in `[start, end)`, in seconds from the first frame: the first index and the one past the last.

        Raises:
            `VideoDecodingError`: no frame is shown in this time.
        """
        # timestamps are rounded to the file's clock, commonly milliseconds: half of one decides nothing
        first = bisect_left(self.times, (start or 0.0) - 5e-4)
        stop = self.num_frames if end is None else bisect_left(self.times, end - 5e-4)
        if first >= stop:
            raise VideoDecodingError(
                f"{self.path} lasts {self.times[-1]:.3f} s and shows no frame between {start} s and {end} s."
            )
        return first, stop

    def frames(self, indices: list[int]) -> torch.Tensor:
        """
        The frames with these indices, in this order; an index may come more than once.

        Returns:
            `torch.ByteTensor` of shape `(len(indices), height, width, 3)`: RGB, upright.

        Raises:
            `IndexError`: an index is not between 0 and `num_frames - 1`.
            `VideoDecodingError`: a frame cannot be decoded.
        """
        if not indices or min(indices) < 0 or max(indices) >= self.num_frames:
            raise IndexError(f"{self.path} has frames 0 to {self.num_frames - 1}, asked for {indices}.")
        wanted = {self._pts[index] for index in indices}
        found = self._decode(wanted, start=self._pts[min(indices)])
        if found.keys() != wanted:  # an index of key frames that does not hold: read from the beginning
            found = self._decode(wanted, start=self._pts[0])
        if missing := [index for index in sorted(set(indices)) if self._pts[index] not in found]:
            raise VideoDecodingError(
                f"{self.path} is damaged: {len(missing)} of {len(wanted)} frames cannot be decoded, the first is "
                f"frame {missing[0]}."
            )
        return torch.stack([found[self._pts[index]] for index in indices])

    def _decode(self, wanted: set[int], start: int) -> dict[int, torch.Tensor]:
        last, found = max(wanted), {}
        try:
            self._container.seek(start, stream=self._stream, backward=True)
            for frame in self._container.decode(self._stream):
                if frame.pts in wanted:
                    found[frame.pts] = _to_tensor(frame)
                if frame.pts is not None and frame.pts >= last:
                    break
        except av.FFmpegError as error:
            if not found:
                raise VideoDecodingError(f"{self.path} is damaged: {error}") from error
        return found

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def _to_tensor(frame) -> torch.Tensor:
    """A decoded frame -> (H, W, 3) uint8, turned as its display matrix says (counter-clockwise degrees)."""
    image = torch.from_numpy(frame.to_ndarray(format="rgb24"))
    quarter_turns = round(frame.rotation / 90) % 4
    return torch.rot90(image, quarter_turns, dims=(0, 1)) if quarter_turns else image


def open_video(path: str | Path) -> VideoFile:
    """
    Opens a local video file; use it as a context manager.

    Raises:
        `FileNotFoundError`: there is no such file.
        `VideoDecodingError`: it is not a readable video.
    """
    return VideoFile(path)
