"""The actions of a whole routine: a window slides over the video, and overlapping windows are averaged."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from tqdm import tqdm

from modeling_finegym.clip_scoring import score_videos
from modeling_finegym.video_decoding import VideoFile, open_video
from modeling_finegym.video_processing_finegym import FineGymVideoProcessor


@dataclass(frozen=True)
class Segment:
    """A stretch of a video with one action. `start` and `end` are seconds; `score` is the mean over the stretch."""

    start: float
    end: float
    label: str
    score: float

    def __str__(self) -> str:
        return f"{self.start:8.2f} - {self.end:8.2f} s  {self.score:6.4f}  {self.label}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def slide(start: float, end: float, *, window: float, stride: float) -> list[tuple[float, float]]:
    """Return the windows from `start` to `end`, in seconds. The last one ends at `end`; a shorter video is one window.

    Raises:
        ValueError: If a length is not positive, or the stride leaves gaps between the windows.
    """
    if not 0 < stride <= window:
        raise ValueError(f"The stride must be positive and no longer than the window: {stride} s and {window} s.")
    if end - start <= window:
        return [(start, end)]
    count = int((end - start - window) / stride + 1e-9) + 1
    starts = [start + number * stride for number in range(count)]
    if starts[-1] + window < end - 1e-9:
        starts.append(end - window)
    # Whole microseconds, so that windows that meet share an edge.
    return [(round(first, 6), round(first + window, 6)) for first in starts]


def score_windows(
    model: torch.nn.Module,
    processor: FineGymVideoProcessor,
    path: str,
    *,
    window: float,
    stride: float,
    num_clips: int = 1,
    start: float | None = None,
    end: float | None = None,
    batch_size: int = 8,
    progress: bool = True,
) -> tuple[list[tuple[float, float]], torch.Tensor]:
    """Score each window of a video as a video of its own.

    Returns:
        The windows in seconds, and their scores of shape (num_windows, num_labels).

    Raises:
        FileNotFoundError, ValueError: If the file cannot be read, or a length is not positive.
    """
    with open_video(path) as video:
        windows = slide(*shown_between(video, start, end), window=window, stride=stride)
        loaded = (
            processor.load_clips(video, num_clips, start=first, end=last)
            for first, last in tqdm(windows, unit="window", disable=not progress)
        )
        scores = [result.scores for result in score_videos(model, loaded, batch_size)]
    return windows, torch.stack(scores)


def shown_between(video: VideoFile, start: float | None = None, end: float | None = None) -> tuple[float, float]:
    """Return when the frames shown in `[start, end)` begin and end, in seconds. The last one is shown for as long as
    the average one."""
    first, stop = video.index_range(start, end)
    last = video.times[stop - 1]
    return video.times[first], last + 1 / video.fps if video.fps else last


def find_segments(
    windows: Sequence[tuple[float, float]], scores: torch.Tensor, names: Sequence[str], *, min_score: float = 0.0
) -> list[Segment]:
    """Average the scores of overlapping windows and join neighboring stretches of the same best class.

    Args:
        windows: The (start, end) of each window in seconds.
        scores: The scores (num_windows, num_labels).
        names: The names of the classes.
        min_score: The score below which a stretch is left out.
    """
    edges = sorted({edge for window in windows for edge in window})
    segments: list[Segment] = []
    for start, end in zip(edges, edges[1:]):
        covering = [number for number, (first, last) in enumerate(windows) if first <= start and end <= last]
        score, label = scores[covering].mean(dim=0).max(dim=0)
        if score.item() < min_score:
            continue
        segment = Segment(start, end, names[label], score.item())
        if segments and segments[-1].label == segment.label and segments[-1].end == start:
            segment = _join(segments.pop(), segment)
        segments.append(segment)
    return segments


def _join(first: Segment, second: Segment) -> Segment:
    lengths = first.end - first.start, second.end - second.start
    score = (first.score * lengths[0] + second.score * lengths[1]) / sum(lengths)
    return Segment(first.start, second.end, first.label, score)


def to_subtitles(segments: Sequence[Segment]) -> str:
    """Return the timeline as SubRip (SRT) text."""
    blocks = []
    for number, segment in enumerate(segments, start=1):
        times = f"{_clock(segment.start)} --> {_clock(segment.end)}"
        blocks.append(f"{number}\n{times}\n{_one_line(segment.label)} ({segment.score:.2f})\n")
    return "\n".join(blocks)


def _clock(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02},{rest % 1000:03}"


def _one_line(label: str) -> str:
    """Return a label on one line; players end a subtitle at an empty line, and some take <...> and {...} for
    markup."""
    return " ".join(label.split()).translate(str.maketrans("<>{}", "‹›()"))
