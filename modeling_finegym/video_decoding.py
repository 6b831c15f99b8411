"""Reads just the frames that are asked for from a video file, exactly: also with a variable frame rate, B-frames,
a start time other than zero or rotation metadata. The decoder is PyAV's FFmpeg."""

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import torch


try:
    import av
    from av.video.reformatter import VideoReformatter
except ImportError:
    av = VideoReformatter = None

# 8192 x 8192 pixels: larger frames are refused before memory is taken for them
MAX_PIXELS = 2**26
# Jumping to a key frame is worth it where it saves decoding at least this many frames.
MIN_JUMP = 8
# Where a key frame turns out not to be one (wrong flags, imprecise seeking), read again from this many before it.
NUM_KEY_FRAMES_BACK = 8


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
            raise ImportError("Reading video files needs PyAV 17 or later: `pip install -U av`. Arrays need nothing.")
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
        if self._stream.codec_context is None:
            raise VideoDecodingError(f"{self.path} has a video stream of an unknown codec.")
        self._stream.codec_context.thread_count = 1
        self.width, self.height = self._stream.codec_context.width, self._stream.codec_context.height
        if not 0 < self.width * self.height <= MAX_PIXELS:
            raise VideoDecodingError(
                f"{self.path} declares frames of {self.width} x {self.height} pixels; the limit is {MAX_PIXELS}."
            )
        try:
            packets = [
                (packet.pts, packet.is_keyframe)
                for packet in self._container.demux(self._stream)
                if packet.size and not packet.is_discard
            ]
            self._pts = sorted({pts for pts, _ in packets if pts is not None})
            self._numbers = {pts: number for number, pts in enumerate(self._pts)}
            # AVI and raw streams know no times for some packets, or repeat them: their frames are counted instead
            if len(self._pts) < len(packets):
                self._numbers = {}
                self._pts = list(range(sum(1 for _ in self._read(None, None))))
        except (av.FFmpegError, IndexError) as error:  # IndexError: PyAV meets a stream it did not know of
            raise VideoDecodingError(f"{self.path} is damaged: {error}") from error
        if not self._pts:
            raise VideoDecodingError(f"{self.path} has no frames.")
        self.num_frames = len(self._pts)
        self._key_frames = sorted(
            self._numbers[pts] for pts, is_key_frame in packets if is_key_frame and self._numbers
        )
        rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        clock = (self._stream.time_base or Fraction(1)) if self._numbers else 1 / rate
        self.times = [float((pts - self._pts[0]) * clock) for pts in self._pts]
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
        if not indices:
            raise IndexError(f"{self.path}: no frame was asked for.")
        wanted = sorted(set(indices))
        converter = VideoReformatter()
        found = {index: _to_tensor(frame, converter) for index, frame in self.decode(wanted)}
        return torch.stack([found[index] for index in indices])

    def decode(self, indices: Iterable[int]) -> Iterator[tuple[int, "av.VideoFrame"]]:
        """
        The frames with these indices, one after the other in this order, as the decoder gives them: with the index,
        not converted to RGB, and not turned as `frame.rotation` says. Rising indices are read in one pass, which
        leaves out what lies between two of them where a key frame allows it.

        Raises:
            `IndexError`: an index is not between 0 and `num_frames - 1`.
            `VideoDecodingError`: a frame cannot be decoded.
        """
        indices = list(indices)
        if indices and not 0 <= min(indices) <= max(indices) < self.num_frames:
            raise IndexError(f"{self.path} has frames 0 to {self.num_frames - 1}, asked for {indices}.")
        run: list[int] = []
        for index in indices:
            reads_on = run and run[-1] < index and self._key_frame(index) < run[-1] + MIN_JUMP
            if run and not reads_on:
                yield from self._decode_run(run)
                run = []
            run.append(index)
        if run:
            yield from self._decode_run(run)

    def _decode_run(self, run: list[int]) -> Iterator[tuple[int, "av.VideoFrame"]]:
        """Rising indices in one go; the second attempt starts earlier and leaves nothing out."""
        position, reason = 0, "the decoder gives nothing for it"
        for back in (0, NUM_KEY_FRAMES_BACK):
            key_frame = self._key_frame(run[position], back)
            start = self._pts[key_frame] if key_frame else None
            wanted = {self._pts[index] for index in run} if back == 0 else None
            try:
                for number, frame in self._read(start, wanted):
                    if number == run[position] and not frame.is_corrupt:
                        yield number, frame
                        position += 1
                        if position == len(run):
                            return
                    elif number >= run[position]:
                        break
            except (av.FFmpegError, IndexError) as error:
                reason = str(error)
        raise VideoDecodingError(f"{self.path} is damaged: frame {run[position]} cannot be decoded ({reason}).")

    def _read(self, start: int | None, wanted: set[int] | None) -> Iterator[tuple[int, "av.VideoFrame"]]:
        """Numbered frames from a timestamp (None: the beginning) on; without those neither `wanted` nor needed to
        decode others."""
        decoder = self._stream.codec_context
        self._container.seek(start or 0, stream=None if start is None else self._stream, backward=True)
        count = itertools.count()
        for packet in self._container.demux(self._stream):
            unwanted = wanted is not None and packet.pts in self._numbers and packet.pts not in wanted
            decoder.skip_frame = "NONREF" if unwanted else "DEFAULT"
            for frame in packet.decode():
                number = self._numbers.get(frame.pts) if self._numbers else next(count)
                if number is not None:
                    yield number, frame

    def _key_frame(self, index: int, back: int = 0) -> int:
        """The last key frame up to `index`, or the one so many key frames before it; 0 before the first."""
        position = bisect_right(self._key_frames, index) - 1 - back
        return self._key_frames[position] if position >= 0 else 0

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def _to_tensor(frame: "av.VideoFrame", converter: "VideoReformatter") -> torch.Tensor:
    """A decoded frame -> (H, W, 3) uint8, turned as its display matrix says (counter-clockwise degrees)."""
    # a converter of one's own for every frame, as `frame.to_ndarray("rgb24")` has, takes three times as long
    image = torch.from_numpy(converter.reformat(frame, format="rgb24", threads=1).to_ndarray())
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
