"""Read exactly the requested frames from a video file, even with a variable frame rate, B-frames, a start time other
than zero or rotation metadata. The decoder is PyAV's FFmpeg."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Self

import torch

from .clip_sampling import TIME_TOLERANCE, resample
from .video_headers import HeaderError, count_claimed_samples
from .video_packets import Packet, are_frames, is_cut, scan


try:
    import av
    from av.video.reformatter import VideoReformatter
except ImportError:
    av = VideoReformatter = None

# What decoders raise on damaged files, where PyAV meets streams, formats and sizes that it does not know.
DECODER_ERRORS = () if av is None else (av.FFmpegError, IndexError, RuntimeError, ValueError, MemoryError)
# The limits of a video; larger ones are refused before memory is allocated for them. A frame has at most 8192 x 8192
# pixels, and an aspect ratio beyond which no video shows a person and resizing its short side would fill the memory.
MAX_PIXELS = 2**26
MAX_ASPECT_RATIO = 16
# A day, and its frames at 24 per second.
MAX_SECONDS = 86_400.0
MAX_FRAMES = 2**21
MAX_STREAMS = 64
# The samples of all streams, as an MP4 file claims them: those of a day of video and of its sound.
MAX_SAMPLES = 2**23
# Formats that only name other files or addresses, which a video of a stranger's must not make us read.
PLAYLIST_FORMATS = {
    "avisynth",
    "concat",
    "concatf",
    "dash",
    "hls",
    "image2",
    "imf",
    "rtp",
    "rtsp",
    "sap",
    "sdp",
    "vapoursynth",
}
FORMATS = "" if av is None else ",".join(sorted(av.formats_available - PLAYLIST_FORMATS))
# Jump to a key frame where that saves decoding at least this many frames.
MIN_JUMP = 8
# Where a key frame turns out not to be one (wrong flags, imprecise seeking), read again from this many before it.
NUM_KEY_FRAMES_BACK = 8


class VideoDecodingError(ValueError):
    """A video file cannot be read; the message names the file."""


class _IndexedFile:
    """An open video file whose frames have been counted, within the limits above."""

    def __init__(self, path: str | Path):
        if av is None:
            raise ImportError("Reading video files needs PyAV 18 or later: `pip install -U av`. Arrays do not.")
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path} is not a file.")
        self._open()
        try:
            self._index()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
        self._check_header()
        try:
            self._container = av.open(f"file:{self.path}", options=options)
        except (av.FFmpegError, ValueError) as error:
            raise VideoDecodingError(f"{self.path} is not a readable video: {error}") from error
        try:
            self._choose_stream()
        except BaseException:
            self.close()
            raise

    def _check_header(self) -> None:
        try:
            with open(self.path, "rb", buffering=0) as file:
                num_samples = count_claimed_samples(file)
        except HeaderError as error:
            raise VideoDecodingError(f"{self.path} {error}.") from None
        except OSError as error:
            raise VideoDecodingError(f"{self.path} is not a readable video: {error}") from error
        if num_samples > MAX_SAMPLES:
            raise VideoDecodingError(f"{self.path} claims {num_samples} samples; the limit is {MAX_SAMPLES}.")

    def _choose_stream(self) -> None:
        if len(self._container.streams) > MAX_STREAMS:
            raise VideoDecodingError(
                f"{self.path} has {len(self._container.streams)} streams; the limit is {MAX_STREAMS}."
            )
        if not self._container.streams.video:
            raise VideoDecodingError(f"{self.path} has no video stream.")
        self._stream = self._container.streams.video[0]
        if self._stream.codec_context is None:
            raise VideoDecodingError(f"{self.path} has a video stream of an unknown codec.")
        decoder = self._stream.codec_context
        decoder.thread_count = 1
        decoder.options = {"max_pixels": str(MAX_PIXELS)}
        self.width, self.height, self.pixel_format = decoder.width, decoder.height, decoder.pix_fmt
        self.codec = decoder.codec.canonical_name
        self._check_size(decoder)

    def _check_size(self, picture) -> None:
        """Refuse a stream or a frame that is too large or too narrow."""
        width, height = picture.width, picture.height
        if not 0 < width * height <= MAX_PIXELS:
            raise VideoDecodingError(
                f"{self.path} has frames of {width} x {height} pixels; the limit is {MAX_PIXELS} pixels."
            )
        if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
            raise VideoDecodingError(
                f"{self.path} has frames of {width} x {height} pixels; the limit is a ratio of {MAX_ASPECT_RATIO}."
            )

    def _index(self) -> None:
        rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        try:
            packets = scan(self._container, self._stream, self._check_count)
            # Ascending timestamps if packets are frames; if None, frames are counted from the beginning.
            self._pts: list[int] | None = None
            self._numbers: dict[int, int] = {}
            self._key_frames: list[int] = []
            if are_frames(packets, self._container, self._stream):
                self._index_by_packets(packets)
            else:
                self._index_by_frames(rate)
        except VideoDecodingError:
            raise
        except DECODER_ERRORS as error:
            raise VideoDecodingError(f"{self.path} is damaged: {error}") from error
        self.num_frames = len(self.times)
        if not self.num_frames:
            raise VideoDecodingError(f"{self.path} has no frames.")
        if self.times[-1] > MAX_SECONDS:
            raise VideoDecodingError(
                f"{self.path} lasts {self.times[-1]:.0f} s by its timestamps; the limit is {MAX_SECONDS:.0f} s."
            )
        self.fps = (self.num_frames - 1) / self.times[-1] if self.times[-1] > 0 else float(rate)

    def _check_count(self, count: int) -> None:
        if count > MAX_FRAMES:
            raise VideoDecodingError(f"{self.path} has more than {MAX_FRAMES} frames, which is the limit.")

    def _index_by_packets(self, packets: list[Packet]) -> None:
        shown = {packet.pts: packet for packet in packets if not packet.is_discard}
        self._pts = sorted(shown)
        self._numbers = {pts: number for number, pts in enumerate(self._pts)}
        self._key_frames = [number for number, pts in enumerate(self._pts) if shown[pts].is_keyframe]
        self._damaged = {number for number, pts in enumerate(self._pts) if shown[pts].is_corrupt}
        self.times = [float((pts - self._pts[0]) * self._stream.time_base) for pts in self._pts]

    def _index_by_frames(self, rate: Fraction) -> None:
        """Decode everything once, to find out which frames there are and when they are shown."""
        stamps = []
        self._damaged = set()
        for number, frame, is_whole in self._count():
            if not is_whole:
                self._damaged.add(number)
            stamps.append((None, None) if frame is None else (frame.pts, frame.dts))
            self._check_count(len(stamps))
        self.times = _rising_times(stamps, self._stream.time_base or 1 / rate, rate)

    def _count(self) -> Iterator[tuple[int, "av.VideoFrame | None", bool]]:
        """Yield all frames from the beginning: number, frame (None where the decoder fails), whether it is intact."""
        # Where times are invented, seeking is not exact either.
        self.close()
        self._open()
        decoder = self._stream.codec_context
        decoder.copy_opaque = True
        number, loses, is_whole = 0, False, True
        for packet in self._container.demux(self._stream):
            if packet.size:
                # After a loss, pictures are wrong until one arrives that needs no other.
                is_broken = packet.is_corrupt or is_cut(decoder.name, memoryview(packet))
                loses = is_broken or (loses and not packet.is_keyframe)
                packet.opaque = loses
            try:
                frames = packet.decode()
            except DECODER_ERRORS:
                if number == 0:  # a recording may start with what cannot be decoded yet
                    continue
                frames, loses = [None], True
            for frame in frames:
                is_lost = frame is None or frame.is_corrupt or bool(frame.opaque)
                is_whole = not is_lost and (is_whole or frame.key_frame)
                yield number, frame, is_whole
                number += 1

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        self.close()


class VideoFile(_IndexedFile):
    """
    An open video file. Frames are numbered in the order in which they are shown.

    Attributes:
        num_frames (`int`): Frames in the file.
        times (`list[float]`): When each frame is shown, in seconds from the first one.
        fps (`float`): Mean frame rate in frames per second.
        width (`int`), height (`int`): Size of the coded frames in pixels, before any rotation.
        codec (`str`), pixel_format (`str`): FFmpeg's names for how the file codes pictures and stores pixels, such as
            "h264" and "yuv420p".
    """

    def index_range(self, start: float | None = None, end: float | None = None) -> tuple[int, int]:
        """
        Return the first index, and the one past the last, of the frames shown in `[start, end)`, in seconds from the
        first frame.

        Raises:
            `VideoDecodingError`: no frame is shown in this time.
        """
        first = bisect_left(self.times, (start or 0.0) - TIME_TOLERANCE)
        stop = self.num_frames if end is None else bisect_left(self.times, end - TIME_TOLERANCE)
        if first >= stop:
            raise VideoDecodingError(
                f"{self.path} lasts {self.times[-1]:.3f} s and shows no frame between {start} s and {end} s."
            )
        return first, stop

    def select(
        self, start: float | None = None, end: float | None = None, frame_rate: float | None = None
    ) -> list[int]:
        """
        Return the indices of the frames shown in `[start, end)`, in seconds from the first frame.

        Args:
            frame_rate (`float`, *optional*): Frames per second. If given, return the frames that a camera of this rate
                would have taken: some are skipped or repeated where the file has more or fewer of them.

        Raises:
            `VideoDecodingError`: no frame is shown in this time.
        """
        first, stop = self.index_range(start, end)
        if frame_rate is None:
            return list(range(first, stop))
        return [first + place for place in resample(self.times[first:stop], frame_rate, 1 / self.fps)]

    def frames(self, indices: list[int]) -> torch.Tensor:
        """
        Decode the frames with these indices, in this order; an index may occur more than once.

        Returns:
            `torch.ByteTensor` of shape `(len(indices), height, width, 3)`: RGB, upright.

        Raises:
            `IndexError`: an index is not between 0 and `num_frames - 1`.
            `VideoDecodingError`: a frame cannot be decoded, or frames differ in size.
        """
        if not indices:
            raise IndexError(f"{self.path}: no frame was requested.")
        found: dict[int, torch.Tensor] = {}
        for index, picture in self.pictures(sorted(set(indices))):
            found[index] = picture
            if picture.shape != found[min(found)].shape:
                raise VideoDecodingError(f"{self.path} changes the size of its frames at frame {index}.")
        return torch.stack([found[index] for index in indices])

    def pictures(self, indices: Iterable[int]) -> Iterator[tuple[int, torch.Tensor]]:
        """
        Yield the frames with these indices one by one, in this order: index and `torch.ByteTensor` of shape
        `(height, width, 3)`, RGB and upright. Hold only one of them at a time. Raises the errors of `frames`.
        """
        converter = VideoReformatter()
        for index, frame in self.decode(indices):
            try:
                picture = _to_tensor(frame, converter)
            except DECODER_ERRORS as error:
                raise VideoDecodingError(f"{self.path} is damaged: frame {index} has no picture ({error}).") from error
            yield index, picture

    def decode(self, indices: Iterable[int]) -> Iterator[tuple[int, "av.VideoFrame"]]:
        """
        Yield the frames with these indices one by one, in this order, as the decoder gives them: with the index, not
        converted to RGB, and not turned by `frame.rotation`. Ascending indices are read in one pass, which skips what
        lies between two of them where a key frame allows it.

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
        """Decode ascending indices in one pass; a second attempt starts earlier and skips nothing."""
        position, reason = 0, "the decoder returns no frame"
        for back in (0, NUM_KEY_FRAMES_BACK) if self._pts else (0,):
            try:
                for number, frame, is_whole in (
                    self._count() if self._pts is None else self._read(run[position:], back)
                ):
                    if number < run[position]:
                        continue
                    if number > run[position] or not is_whole:
                        break
                    self._check_size(frame)
                    yield number, frame
                    position += 1
                    if position == len(run):
                        return
            except VideoDecodingError:
                raise
            except DECODER_ERRORS as error:
                # The decoder does not say that it refuses a size.
                refused_size = isinstance(error, av.ArgumentError)
                reason = f"{error}; the limit is {MAX_PIXELS} pixels" if refused_size else str(error)
        raise VideoDecodingError(f"{self.path} is damaged: frame {run[position]} cannot be decoded ({reason}).")

    def _read(self, run: list[int], back: int) -> Iterator[tuple[int, "av.VideoFrame", bool]]:
        """Yield frames numbered by their timestamps, from a key frame on; with `back` 0, skip those that are neither
        in `run` nor needed to decode others."""
        decoder = self._stream.codec_context
        key_frame = self._key_frame(run[0], back)
        if key_frame:
            self._container.seek(self._pts[key_frame], stream=self._stream, backward=True)
        else:
            self._container.seek(0, backward=True)
        wanted = {self._pts[index] for index in run}
        for packet in self._container.demux(self._stream):
            unwanted = back == 0 and packet.pts in self._numbers and packet.pts not in wanted
            decoder.skip_frame = "NONREF" if unwanted else "DEFAULT"
            for frame in packet.decode():
                number = self._numbers.get(frame.pts)
                if number is not None:
                    yield number, frame, not frame.is_corrupt and number not in self._damaged

    def _key_frame(self, index: int, back: int = 0) -> int:
        """Return the last key frame up to `index`, or the one `back` key frames before it; 0 before the first."""
        position = bisect_right(self._key_frames, index) - 1 - back
        return self._key_frames[position] if position >= 0 else 0


def _rising_times(stamps: list[tuple[int | None, int | None]], clock: Fraction, rate: Fraction) -> list[float]:
    """Return when frames are shown, in seconds from the first one: by presentation times where these ascend, else by
    decoding times where those do (as FFmpeg does), else by presentation times of which some neighbors are equal, as
    browsers record them, else by the declared rate."""
    for may_rest in (False, True):
        for ticks in zip(*stamps):
            # The last frames arrive after the last packet, and have no decoding time.
            num_known = len(ticks)
            while num_known and ticks[num_known - 1] is None:
                num_known -= 1
            known = ticks[:num_known]
            if not known or None in known:
                continue
            steps = [second - first for first, second in zip(known, known[1:])]
            if all(step > 0 for step in steps) or (may_rest and min(steps) == 0 and 2 * steps.count(0) < len(steps)):
                times = [float((tick - known[0]) * clock) for tick in _spread_equal(known)]
                return times + [times[-1] + float(place / rate) for place in range(1, len(ticks) - num_known + 1)]
    return [float(number / rate) for number in range(len(stamps))]


def _spread_equal(ticks: Sequence[int]) -> list[Fraction]:
    """Return ascending ticks, of which neighbors may be equal, with these spread evenly up to the next."""
    groups = [(tick, len(list(group))) for tick, group in groupby(ticks)]
    last = groups[-1][0] + Fraction(groups[-1][0] - groups[0][0], max(1, len(groups) - 1))
    following = [tick for tick, _ in groups[1:]] + [last]
    return [
        tick + Fraction(end - tick) * place / count
        for (tick, count), end in zip(groups, following)
        for place in range(count)
    ]


def _to_tensor(frame: "av.VideoFrame", converter: "VideoReformatter") -> torch.Tensor:
    """Map a decoded frame to (H, W, 3) uint8, turned by its display matrix (counter-clockwise degrees)."""
    # a new converter for every frame, as in `frame.to_ndarray("rgb24")`, takes three times as long
    image = torch.from_numpy(converter.reformat(frame, format="rgb24", threads=1).to_ndarray())
    quarter_turns = round(frame.rotation / 90) % 4
    return torch.rot90(image, quarter_turns, dims=(0, 1)) if quarter_turns else image


def open_video(path: str | Path) -> VideoFile:
    """
    Open a local video file; use it as a context manager.

    Raises:
        `FileNotFoundError`: there is no such file.
        `VideoDecodingError`: it is not a readable video.
    """
    return VideoFile(path)
