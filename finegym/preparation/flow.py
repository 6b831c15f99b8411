"""Optical flow of a prepared folder, as a second prepared folder with the same videos, splits and classes.

In: a prepared folder. Out: one whose video files show how the pixels move from each frame to the next: lossless gray
FFV1 in Matroska, twice as wide as the frames, the horizontal motion on the left and the vertical motion on the right.
As in mmaction2's `build_rawframes.py`, frames are resized first, motion is limited to 20 pixels, and -20 to 20 become
0 to 255.
"""

import functools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import filelock
import numpy as np
from tqdm import tqdm

from finegym.data.files import replacing
from finegym.data.index import (
    COVERAGE_FILE,
    LABELS_FILE,
    Video,
    check_inside,
    read_coverage,
    read_rows_of,
    write_coverage,
    write_index,
)
from finegym.data.labels import Labels
from finegym.data.text import parse_json, read_json
from finegym.data.worker_pool import run_each
from modeling_finegym.video_decoding import VideoDecodingError, open_video

from .sources import Source, remove_partial_files


Method = Literal["dis", "tvl1"]
# The largest motion in pixels from a frame to the next (denseflow's `-b 20` in mmaction2).
BOUND = 20.0
# Matroska's clock.
TIME_BASE = Fraction(1, 1000)


@dataclass(frozen=True)
class FlowSettings:
    """How flow is computed: the method, and the shorter side of the frames in pixels. Smaller ones are not
    enlarged."""

    method: Method = "dis"
    short_side: int = 256

    def __post_init__(self):
        if self.short_side < 16:
            raise ValueError(f"short_side must be at least 16 pixels, got {self.short_side}.")


@dataclass(frozen=True)
class FlowResult:
    """The flow of one video: its frames and their rate, or the problem that it is missing for."""

    id: str
    num_frames: int = 0
    fps: float = 0.0
    problem: str | None = None


def compute_flow(root: Path, output: Path, settings: FlowSettings, num_workers: int | None = None) -> str:
    """Write the prepared folder `output` with the optical flow of every video of `root`; return a report.

    A run that was stopped, at any moment and in any way, is resumed by the next one; what is finished is kept.

    Args:
        num_workers: The number of processes; 0 works in this one, None starts one for each core.

    Raises:
        FileNotFoundError: If `root` is not a prepared folder.
        ValueError: If the flow of not one video can be computed, or another run is working on `output`.
        ImportError: If OpenCV, or its module for the method, is not installed.
    """
    flow_function(settings.method)  # before any work, if it is missing
    labels = Labels.read(root / LABELS_FILE)
    rows = read_rows_of(root)
    for split in {split for split, _ in rows}:
        read_coverage(root, split)
    report = read_json(root / COVERAGE_FILE, what="coverage report", remedy="`finegym prepare` writes one.")
    for _, video in rows:
        check_inside(f"clips/{video.id}.mkv", f"Video {video.id!r}")
    output.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(output / ".lock", timeout=0):
            remove_partial_files(output)
            report = _compute_all(rows, report, labels, output, settings, num_workers)
    except filelock.Timeout:
        raise ValueError(f"Another run is working on {output}. Wait for it or stop it.") from None
    return f"{describe(report)}\n  Optical flow ({settings.method}): {output}"


def _compute_all(
    rows: list[tuple[str, Video]],
    report: dict[str, Any],
    labels: Labels,
    output: Path,
    settings: FlowSettings,
    num_workers: int | None,
) -> dict[str, Any]:
    labels.write(output / LABELS_FILE)
    videos = {video.id: video for _, video in rows}.values()
    work = functools.partial(compute_video, output=output, settings=settings)
    num_workers = (os.cpu_count() or 1) if num_workers is None else num_workers
    results = run_each(work, list(videos), num_workers, module=__name__, killed=_killed)
    by_id = {result.id: result for result in tqdm(results, "Optical flow", len(videos), unit="video")}
    problems = {id: result.problem for id, result in by_id.items() if result.problem}
    report = without(report, problems, rows) | {"optical_flow": {**asdict(settings), "bound": BOUND}}
    write_coverage(output, report)
    if len(problems) == len(by_id):
        raise ValueError(f"Not one video has optical flow.\n{describe(report)}")
    kept = ((split, video, by_id[video.id]) for split, video in rows if video.id not in problems)
    write_index(output, (_row(*entry) for entry in kept))
    return report


def _row(split: str, video: Video, result: FlowResult) -> dict[str, Any]:
    spans = None
    if video.spans is not None:  # in seconds of a file that began earlier
        begin = video.start or 0.0
        spans = [asdict(span) | {"start": span.start - begin, "end": span.end - begin} for span in video.spans]
    known = {name: getattr(video, name) for name in ("id", "label", "group", "fold")}
    size = {"num_frames": result.num_frames, "fps": result.fps}
    return {**known, **size, "split": split, "file": f"clips/{video.id}.mkv", "spans": spans}


def without(report: dict[str, Any], problems: Mapping[str, str], rows: Iterable[tuple[str, Video]]) -> dict[str, Any]:
    """Return a coverage report in which videos that were present are missing, each for its reason."""
    rows = list(rows)

    def shorten(parts: dict[str, Any], split_of: Callable[[str, Video], str]) -> dict[str, Any]:
        shortened = {}
        for split, part in parts.items():
            videos = [video for own, video in rows if split_of(own, video) == split]
            lost = {video.id: problems[video.id] for video in videos if video.id in problems}
            present = {video.label for video in videos if video.id not in problems}
            emptied = {video.label for video in videos} - present
            missing = part["missing"] | lost
            shortened[split] = part | {
                "num_present": part["num_present"] - len(lost),
                "missing": missing,
                "missing_by_reason": dict(Counter(reason.split(":")[0] for reason in missing.values())),
                "empty_classes": sorted({*part["empty_classes"], *emptied}),
            }
        return shortened

    changed: dict[str, Any] = {"splits": shorten(report["splits"], lambda split, video: split)}
    if report.get("folds"):
        changed["folds"] = [shorten(parts, _in_fold(fold)) for fold, parts in enumerate(report["folds"])]
    if problems and report.get("mean_class_accuracy_ceiling") is not None:
        kept = [(split, video.label) for split, video in rows if video.id not in problems]
        validated, trained = ({label for own, label in kept if own == split} for split in ("val", "train"))
        changed["mean_class_accuracy_ceiling"] = 100 * len(validated & trained) / max(1, len(validated))
    return report | changed


def _in_fold(fold: int) -> Callable[[str, Video], str]:
    """Return what gives the split of a video where one fold is validated on."""
    return lambda split, video: split if video.fold is None else "val" if video.fold == fold else "train"


def describe(report: dict[str, Any]) -> str:
    """Return how many videos of each split have flow, and why others have none, as text."""
    lines = []
    for split, part in report["splits"].items():
        lines.append(f"  {split}: {part['num_present']:,} of {part['num_expected']:,} videos")
        for reason, count in part["missing_by_reason"].items():
            example = next(text for text in part["missing"].values() if text.split(":")[0] == reason)
            lines.append(f"    {count:,} missing: {example}")
    return "\n".join(lines)


def _killed(video: Video) -> FlowResult:
    return FlowResult(video.id, problem=f"undecodable: {video.path.name} kills the decoder")


def compute_video(video: Video, output: Path, settings: FlowSettings) -> FlowResult:
    """Write the flow of one video unless it is there already; one that has none is a result with its problem."""
    import cv2

    path = output / "clips" / f"{video.id}.mkv"
    try:
        made_from = {
            "id": video.id,
            "source": Source(video.path, video.path.name).digest(),
            "start": video.start,
            "end": video.end,
            **asdict(settings),
            "opencv": cv2.__version__,
        }
        found = finished_flow(path, video.id, made_from)
        return found or write_flow(video, path, settings, made_from)
    except (VideoDecodingError, av.FFmpegError, cv2.error) as error:
        return FlowResult(video.id, problem=f"undecodable: {' '.join(str(error).split())}")
    except OSError as error:
        return FlowResult(video.id, problem=f"unreadable: {error}")


def finished_flow(path: Path, video_id: str, made_from: dict[str, Any]) -> FlowResult | None:
    """Return the flow at `path`, if it is there and was made so."""
    if not path.is_file():
        return None
    try:
        with av.open(str(path)) as container:
            comment = parse_json(container.metadata.get("COMMENT", ""))
        if comment["made_from"] == made_from:
            return FlowResult(video_id, int(comment["num_frames"]), float(comment["fps"]))
    except (av.FFmpegError, ValueError, TypeError, KeyError):
        pass
    return None


def write_flow(video: Video, path: Path, settings: FlowSettings, made_from: dict[str, Any]) -> FlowResult:
    """Write the flow of a video as a lossless gray file, which keeps what it was made from."""
    with open_video(video.path) as file:
        first, stop = file.index_range(video.start, video.end)
        times = [time - file.times[first] for time in file.times[first:stop]]
        result = FlowResult(video.id, max(1, stop - first - 1), file.fps)
        comment = {"made_from": made_from, "num_frames": result.num_frames, "fps": result.fps}
        grays = (_gray(picture.numpy(), settings.short_side) for _, picture in file.pictures(range(first, stop)))
        with replacing(path) as temporary:
            _write_video(temporary, flow_pictures(grays, settings.method), times, file.fps, json.dumps(comment))
    return result


def _gray(picture: np.ndarray, short_side: int) -> np.ndarray:
    """(H, W, 3) RGB -> (h, w)"""
    import cv2

    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    scale = short_side / min(gray.shape)
    if scale >= 1:
        return gray
    height, width = (max(1, round(side * scale)) for side in gray.shape)
    return cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA)


def flow_pictures(grays: Iterable[np.ndarray], method: Method) -> Iterator[np.ndarray]:
    """Yield the flow from each gray frame (H, W) to the next as a picture (H, 2W); of one frame alone, no motion."""
    compute = flow_function(method)
    previous, alone = None, True
    for gray in grays:
        if previous is not None:
            alone = False
            yield to_picture(compute(previous, gray))
        previous = gray
    if previous is not None and alone:
        yield to_picture(np.zeros((*previous.shape, 2), np.float32))


def to_picture(flow: np.ndarray) -> np.ndarray:
    """Map flow (H, W, 2), x and y in pixels, to a picture (H, 2W) uint8: x beside y, no motion at 128."""
    levels = np.rint((np.clip(flow, -BOUND, BOUND) + BOUND) * (255 / (2 * BOUND))).astype(np.uint8)
    return np.concatenate([levels[..., 0], levels[..., 1]], axis=1)


def flow_function(method: Method) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return what maps two gray frames (H, W) to the flow (H, W, 2) from one to the other, in pixels.

    Raises:
        ImportError: If OpenCV, or its module for the method, is not installed.
    """
    try:
        import cv2

        if method == "dis":
            algorithm = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        else:
            algorithm = cv2.optflow.createOptFlow_DualTVL1()
    except (ImportError, AttributeError):
        raise ImportError(
            "Optical flow is computed by OpenCV: `pip install opencv-contrib-python-headless`, in place of any other "
            "opencv package."
        ) from None
    cv2.setNumThreads(1)  # the videos are shared among processes
    return lambda first, second: algorithm.calc(first, second, None)


def _write_video(path: Path, pictures: Iterable[np.ndarray], times: list[float], fps: float, comment: str) -> None:
    # the same pictures give the same bytes
    options = {"fflags": "+bitexact"}
    with av.open(str(path), "w", format="matroska", container_options=options) as container:
        container.metadata["COMMENT"] = comment
        stream = container.add_stream("ffv1", rate=Fraction(fps).limit_denominator(1001))
        stream.pix_fmt = "gray"
        stream.time_base = stream.codec_context.time_base = TIME_BASE
        stream.codec_context.thread_count = 1
        last = -1
        for picture, time in zip(pictures, times):
            if last < 0:
                stream.height, stream.width = picture.shape
            frame = av.VideoFrame.from_ndarray(picture, format="gray")
            frame.time_base = TIME_BASE
            frame.pts = last = max(round(time / TIME_BASE), last + 1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
