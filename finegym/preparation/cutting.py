"""Cutting videos out of source files: one decode pass over a file yields all that is cut from it, in as many processes
as there are cores."""

import contextlib
import functools
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import av

from finegym.data.files import replacing
from finegym.data.video_writing import VideoWriter
from finegym.data.worker_pool import run_each
from modeling_finegym.video_decoding import VideoDecodingError, VideoFile, open_video

from .damage import reason_of_damage


# A cut may end this much after its file does: cutting tools and annotators round to frames, and to tenths of a
# second.
END_TOLERANCE = 0.1
# Seconds that one source may take: cutting the longest video allowed, a day at 25 frames per second, takes as long at
# 150 per second.
MAX_SECONDS = 4 * 3600.0
MAX_NAME_BYTES = 255


class VideoSource(Protocol):
    """Anything that can provide a video as a file during a `with` block."""

    name: str

    def as_file(self, scratch: Path) -> contextlib.AbstractContextManager[Path]: ...

    def digest(self) -> str: ...


@dataclass(frozen=True)
class Encoding:
    """How videos are written: the shorter side in pixels, the most frames between two key frames, x264's rate
    factor."""

    short_side: int = 256
    key_interval: int = 12
    crf: int = 18

    def __post_init__(self):
        if self.short_side < 16 or self.short_side % 2:
            raise ValueError(f"short_side must be an even number from 16 on, got {self.short_side}.")
        if self.key_interval < 1 or not 0 <= self.crf <= 51:
            raise ValueError(f"key_interval is at least 1 and crf 0 to 51, got {self.key_interval} and {self.crf}.")


@dataclass(frozen=True)
class Cut:
    """One video to make: `[start, end)` in seconds of its source (None means its beginning, or its end) becomes
    `file`."""

    id: str
    file: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Job:
    """All videos of one source."""

    source: VideoSource
    cuts: tuple[Cut, ...]


@dataclass(frozen=True)
class CutResult:
    """What became of a `Cut`: frames and frame rate of the finished video, or the problem that it is missing for."""

    id: str
    num_frames: int = 0
    fps: float = 0.0
    problem: str | None = None


def run_jobs(jobs: Sequence[Job], root: Path, encoding: Encoding, num_workers: int) -> Iterator[CutResult]:
    """Make the videos of all jobs under `root`, and yield the results as they come, in any order.

    Videos that are there already, made from the same source in the same way, are kept. A source that kills the process
    that decodes it, or takes longer than `MAX_SECONDS`, costs only its own videos.

    Args:
        num_workers: The number of processes; 0 works in this one.
    """
    cut = functools.partial(cut_source, root=root, encoding=encoding)
    for results in run_each(cut, jobs, num_workers, module=__name__, killed=_killed, seconds=MAX_SECONDS):
        yield from results


def cut_source(job: Job, root: Path, encoding: Encoding) -> list[CutResult]:
    """Make the videos of one source that are not there yet; one that cannot be made is a result with its problem."""
    try:
        digest = job.source.digest()
    except OSError as error:
        return [CutResult(cut.id, problem=f"unreadable: {job.source.name}: {error}") for cut in job.cuts]
    stamps = {cut: _stamp(digest, cut, encoding) for cut in job.cuts}
    results = {cut: _too_long(cut) or finished_video(root / cut.file, cut.id, stamps[cut]) for cut in job.cuts}
    todo = [cut for cut in sorted(job.cuts, key=lambda cut: (cut.start or 0.0, cut.id)) if results[cut] is None]
    if todo:
        for cut, problem in _cut_source(job.source, todo, root, encoding, stamps):
            failed = CutResult(cut.id, problem=problem)
            results[cut] = failed if problem else finished_video(root / cut.file, cut.id, stamps[cut])
    return [results[cut] for cut in job.cuts]


def _cut_source(
    source: VideoSource, cuts: Sequence[Cut], root: Path, encoding: Encoding, stamps: dict[Cut, str]
) -> Iterator[tuple[Cut, str | None]]:
    """Write the videos of one source, in the order of their start; yield each with its problem, or None when it is
    written. Of a file that is cut off, only those that end before the cut are made."""
    left = list(cuts)
    reason = None
    path = root
    try:
        with source.as_file(root) as path:
            reason = reason_of_damage(path, source.name)
            with open_video(path) as video:
                whole = [cut for cut in cuts if reason and cut.end is None]
                results = _cut_video(video, [cut for cut in cuts if cut not in whole], root, encoding, stamps)
                for cut, problem in itertools.chain(results, ((cut, reason) for cut in whole)):
                    left.remove(cut)
                    yield cut, problem and problem.replace(str(path), source.name)
    except (VideoDecodingError, FileNotFoundError) as error:
        # The file may be a copy out of an archive, which is gone when somebody reads this.
        problem = f"undecodable: {str(error).replace(str(path), source.name)}"
        for cut in left:
            yield cut, reason or problem


def _too_long(cut: Cut) -> CutResult | None:
    if max(len(os.fsencode(part)) for part in Path(cut.file).parts) <= MAX_NAME_BYTES:
        return None
    return CutResult(cut.id, problem=f"name too long: {cut.file} has a part of more than {MAX_NAME_BYTES} bytes")


def finished_video(path: Path, video_id: str, stamp: str) -> CutResult | None:
    """Return the video at `path`, if it is there and was made as `stamp` says."""
    if not path.is_file():
        return None
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if container.metadata.get("comment") != stamp or not stream.frames:
                return None
            return CutResult(video_id, stream.frames, float(stream.average_rate))
    except (av.FFmpegError, IndexError):
        return None


def _stamp(digest: str, cut: Cut, encoding: Encoding) -> str:
    """Return what a video was made from: the bytes of its source, not its name, which may come to mean others."""
    made_from = {"id": cut.id, "source": digest, "start": cut.start, "end": cut.end, **asdict(encoding)}
    return json.dumps(made_from, sort_keys=True)


def _cut_video(
    video: VideoFile,
    cuts: Sequence[Cut],
    root: Path,
    encoding: Encoding,
    stamps: dict[Cut, str],
) -> Iterator[tuple[Cut, str | None]]:
    """Write videos in the order of their start; yield each with its problem, or None when it is written."""
    ranges: dict[Cut, tuple[int, int]] = {}
    for cut in cuts:
        problem = _reason_against(video, cut)
        if problem:
            yield cut, problem
        else:
            ranges[cut] = video.index_range(cut.start, cut.end)
    remaining = list(ranges)
    while remaining:
        frames = video.decode([index for cut in remaining for index in range(*ranges[cut])])
        while remaining:
            cut = remaining.pop(0)
            first, stop = ranges[cut]
            path = root / cut.file
            options = {"fps": video.fps, **asdict(encoding), "comment": stamps[cut]}
            try:
                with replacing(path) as temporary, VideoWriter(temporary, **options) as writer:
                    for index, frame in itertools.islice(frames, stop - first):
                        writer.write(frame, video.times[index] - video.times[first])
            except (VideoDecodingError, av.FFmpegError) as error:
                if isinstance(error, OSError):
                    raise
                yield cut, f"undecodable: {error}"
                break  # the decode pass ended here; the next one begins with the next video
            yield cut, None


def _reason_against(video: VideoFile, cut: Cut) -> str | None:
    """Return why a cut cannot be made from a readable file."""
    duration = video.times[-1] + 1 / video.fps
    if cut.end is not None and cut.end > duration + END_TOLERANCE:
        return f"video too short: it ends at {duration:.2f} s, the segment at {cut.end:.2f} s"
    try:
        video.index_range(cut.start, cut.end)
    except VideoDecodingError:
        return f"segment empty: no frame is shown from {cut.start} s to {cut.end} s"
    return None


def _killed(job: Job) -> list[CutResult]:
    reason = f"undecodable: {job.source.name} kills the decoder, or takes longer than {MAX_SECONDS:.0f} s"
    return [CutResult(cut.id, problem=reason) for cut in job.cuts]
