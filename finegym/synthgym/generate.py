"""SynthGym on disk: mp4 files, an index and annotations in FineGym's formats and ids, deterministic from a seed."""

import json
import os
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from finegym.data.files import write_text
from finegym.data.index import COVERAGE_FILE, INDEX_FILE, LABELS_FILE, read_index, write_coverage, write_index
from finegym.data.labels import Labels
from finegym.data.text import read_json
from finegym.data.video_writing import write_video
from finegym.data.worker_pool import worker_pool
from finegym.paths import CONFIGURATION
from finegym.preparation.annotations import EVENT_ID_LENGTH, EVENTS, VIDEO_ID_LENGTH, segments_file, split_file

from .motions import compose
from .program import Program
from .scene import Rendering, render
from .simulation import simulate
from .truth import attribute_spans


# Raise this whenever the same seed yields other pictures: folders of another version are refused, not mixed.
VERSION = 1
STATE_FILE = "synthgym.json"
ANNOTATION_VERSION = "v1.0"
LABELS = {
    "class": CONFIGURATION / "synthgym" / "labels.json",
    "order": CONFIGURATION / "synthgym" / "order_labels.json",
}

# FineGym's videos have 25 to 30 frames per second; a series fits one clip of 16 frames, every third, at 25.
FRAME_RATES = {"class": (25.0, 25.0, 30.0), "order": (25.0,)}

_SPLITS = ("train", "val")
_ID_CHARACTERS = string.ascii_letters + string.digits + "-_"


@dataclass(frozen=True)
class Performance:
    """One element to render; everything about it follows from `seed`. Frames count from the start of its video."""

    id: str
    split: str
    label: int
    event: str
    attributes: tuple[str, ...]
    seed: tuple[int, ...]
    fps: float
    first_frame: int
    num_frames: int


@dataclass(frozen=True)
class Event:
    """What one athlete shows on one apparatus, from the first to before the last frame of its video."""

    first_frame: int
    last_frame: int
    performances: list[Performance]


@dataclass(frozen=True)
class Competition:
    """One imagined full-length video: its events and its length in frames."""

    id: str
    fps: float
    events: list[Event]
    num_frames: int


def generate(
    root: str | Path,
    *,
    split: str = "class",
    num_train_per_class: int = 64,
    num_val_per_class: int = 40,
    seed: int = 0,
    size: int = 112,
    num_workers: int | None = None,
    labels: str | Path | None = None,
    progress: bool = True,
) -> None:
    """Render a SynthGym data set.

    Writes `root/clips/<id>.mp4`, `index.parquet`, `coverage.json`, `labels.json` and, under `root/annotations`, the
    annotation JSON, split lists and categories in FineGym's formats. The index says when each attribute happens. The
    same arguments give the same videos; a second call returns at once, and a call after an interruption renders only
    what is missing.

    Args:
        root: The folder to fill.
        split: The classes: "class" for FineGym's own, "order" for series of two jumps that differ only in which comes
            first.
        num_train_per_class: The number of training videos of each class.
        num_val_per_class: The number of validation videos of each class.
        seed: The seed of everything that is random.
        size: The side of the square videos in pixels, an even number.
        num_workers: The number of processes; 0 renders in this one, None starts one for each CPU core this process may
            use.
        labels: The classes to perform, by default `labels.json` or `order_labels.json` in `configuration/synthgym`.
            Movements are composed from their attributes: other classes work too if `motions` knows their elements.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If an argument is impossible, a movement is unknown, or `root` holds another data set.
    """
    if split not in LABELS:
        raise ValueError(f"SynthGym has the splits {', '.join(LABELS)}; {split!r} is none of them.")
    if num_train_per_class < 1 or num_val_per_class < 1:
        raise ValueError("num_train_per_class and num_val_per_class must be at least 1.")
    if size % 2 or size < 32:
        raise ValueError(f"size is {size}; it must be an even number of pixels, at least 32.")
    root = Path(root)
    classes = Labels.read(labels or LABELS[split])
    arguments = {
        "version": VERSION,
        "split": split,
        "num_train_per_class": num_train_per_class,
        "num_val_per_class": num_val_per_class,
        "seed": seed,
        "size": size,
        "classes": classes.names,
    }
    classes = replace(classes, synthetic=True)
    is_complete = _is_complete(root, arguments)
    if is_complete and all(video.spans is not None for part in _SPLITS for video in read_index(root, part)):
        classes.write(root / LABELS_FILE)
        return
    wanted = _every_class(classes, num_train_per_class, num_val_per_class)
    competitions = plan(classes, wanted, seed, FRAME_RATES[split])
    performances = [
        performance for video in competitions for event in video.events for performance in event.performances
    ]
    if is_complete:  # drawn before the index had spans, which follow from the seed as the pictures do
        _write_tables(root, performances, classes)
        return
    write_text(root / STATE_FILE, json.dumps(arguments, indent=2) + "\n")
    render_videos(root, performances, size=size, num_workers=num_workers, progress=progress)
    write_annotations(root / "annotations", competitions, classes)
    classes.write(root / LABELS_FILE)
    _write_tables(root, performances, classes)


def write_routines(
    root: str | Path, *, num_performances: int = 8, seed: int = 0, size: int = 112
) -> dict[str, np.ndarray]:
    """Write full-length videos, as FineGym has them on YouTube: several events of several elements, with pauses.

    Writes `root/videos/<video id>.mp4` and `root/annotations`, the raw material of `finegym prepare`.

    Returns:
        The rendered frames (T, size, size, 3) uint8 of every annotated element by its id: what cutting must return.
        Pauses are plain gray, so that one frame too many shows.
    """
    root = Path(root)
    classes = Labels.read(LABELS["class"])
    order = np.random.default_rng([seed, VERSION]).permutation(len(classes.classes)).tolist()
    wanted = [(_SPLITS[index % 2], order[index % len(order)], index) for index in range(num_performances)]
    competitions = plan(classes, wanted, seed, frame_rates=(25.0,))
    truth = {}
    for video in competitions:
        frames = np.full((video.num_frames, size, size, 3), 128, np.uint8)
        for performance in (performance for event in video.events for performance in event.performances):
            shown = truth[performance.id] = render_performance(performance, size).frames
            frames[performance.first_frame : performance.first_frame + len(shown)] = shown
        write_video(root / "videos" / f"{video.id}.mp4", frames, fps=video.fps)
    write_annotations(root / "annotations", competitions, classes)
    return truth


# ------------------------------------------------------------------------------------------------------------ the plan


def _every_class(labels: Labels, num_train: int, num_val: int) -> list[tuple[str, int, int]]:
    """Return the (split, label, number within the class) of every performance."""
    counts = zip(_SPLITS, (num_train, num_val), strict=True)
    return [(split, action.id, k) for split, count in counts for action in labels.classes for k in range(count)]


def _program(performance: Performance) -> tuple[Program, np.random.Generator]:
    rng = np.random.default_rng(performance.seed)
    return compose(performance.event, performance.attributes, rng), rng


def render_performance(performance: Performance, size: int) -> Rendering:
    """Simulate and film one planned performance."""
    program, rng = _program(performance)
    return render(simulate(program, performance.event, performance.fps), rng, size=size)


def plan(
    labels: Labels,
    wanted: Sequence[tuple[str, int, int]],
    seed: int,
    frame_rates: Sequence[float],
) -> list[Competition]:
    """Spread performances (split, label, number) over imagined videos.

    An event shows up to four elements, or one vault; a video has up to six events. Training and validation share no
    video. Ids are FineGym's `<video>_E_<start>_<end>_A_<start>_<end>`, in whole seconds.
    """
    competitions = []
    for split in _SPLITS:
        rng = np.random.default_rng([seed, _SPLITS.index(split), 1])
        events: list[list[tuple[int, int]]] = []
        for event in EVENTS.values():
            chosen = [
                (label, k) for where, label, k in wanted if where == split and labels.classes[label].event == event
            ]
            rng.shuffle(chosen)
            length = 1 if event == "VT" else 4
            events += [chosen[start : start + length] for start in range(0, len(chosen), length)]
        rng.shuffle(events)
        for start in range(0, len(events), 6):
            competitions.append(_competition(labels, events[start : start + 6], split, seed, rng, frame_rates))
    return competitions


def _competition(
    labels: Labels,
    events: list[list[tuple[int, int]]],
    split: str,
    seed: int,
    rng: np.random.Generator,
    frame_rates: Sequence[float],
) -> Competition:
    video_id = "".join(rng.choice(list(_ID_CHARACTERS), 11))
    fps = float(rng.choice(frame_rates))
    clock = int(rng.uniform(1, 4) * fps)
    planned = []
    for chosen in events:
        begin = clock
        clock += int(rng.uniform(0.2, 1) * fps)
        drafts = []
        for label, k in chosen:
            action = labels.classes[label]
            attributes = tuple(labels.attributes[index] for index in action.attributes)
            draft = Performance(
                "", split, label, action.event, attributes, (seed, _SPLITS.index(split), label, k), fps, clock, 0
            )
            draft = replace(draft, num_frames=round(_program(draft)[0].time * fps))
            drafts.append(draft)
            # More than a second, so that no two elements of an event begin in the same second and share an id.
            clock += draft.num_frames + int(rng.uniform(1.1, 3) * fps)
        event_id = f"{video_id}_E_{int(begin / fps):06d}_{int(clock / fps):06d}"
        named = []
        for draft in drafts:
            start, end = (
                int((frame - begin) / fps) for frame in (draft.first_frame, draft.first_frame + draft.num_frames)
            )
            named.append(replace(draft, id=f"{event_id}_A_{start:04d}_{end:04d}"))
        planned.append(Event(begin, clock, named))
        clock += int(rng.uniform(1.1, 4) * fps)
    return Competition(video_id, fps, planned, clock)


# --------------------------------------------------------------------------------------------------------- writing


def _video_path(root: Path, video_id: str) -> Path:
    return root / "clips" / f"{video_id}.mp4"


def _render_video(task: tuple[Path, Performance, int]) -> None:
    root, performance, size = task
    write_video(_video_path(root, performance.id), render_performance(performance, size).frames, fps=performance.fps)


def render_videos(
    root: Path, performances: Iterable[Performance], *, size: int, num_workers: int | None, progress: bool
) -> None:
    """Render and write the videos that are not there yet."""
    tasks = [
        (root, performance, size) for performance in performances if not _video_path(root, performance.id).is_file()
    ]
    if num_workers is None:
        num_workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    bar = {"total": len(tasks), "desc": "SynthGym", "unit": "video", "disable": not progress}
    if num_workers == 0:
        for task in tqdm(tasks, **bar):
            _render_video(task)
        return
    with worker_pool(num_workers, __name__) as pool:
        for _ in tqdm(pool.map(_render_video, tasks, chunksize=4), **bar):
            pass


def _is_complete(root: Path, arguments: dict) -> bool:
    state = root / STATE_FILE
    if not state.is_file():
        if (root / INDEX_FILE).exists():
            raise ValueError(f"{root} holds a data set that SynthGym did not write; choose another folder.")
        return False
    found = read_json(state, what="state of SynthGym", remedy=f"Delete {root} and draw it again.")
    changed = sorted(key for key in arguments.keys() | found.keys() if arguments.get(key) != found.get(key))
    if changed:
        raise ValueError(
            f"{root} holds SynthGym videos made with another {', '.join(changed)}; delete it or choose another folder."
        )
    return (root / COVERAGE_FILE).is_file()


def _spans(performance: Performance, labels: Labels) -> list[dict[str, float]]:
    """Return when each attribute happens, as the index stores it, to the millisecond and within the video."""
    duration = performance.num_frames / performance.fps
    return [
        {
            "attribute": labels.attributes.index(attribute),
            "start": round(start, 3),
            "end": round(min(end, duration), 3),
        }
        for attribute, start, end in attribute_spans(_program(performance)[0], performance.attributes)
        if start < duration
    ]


def _write_tables(root: Path, performances: list[Performance], labels: Labels) -> None:
    write_index(
        root,
        (
            {
                "id": performance.id,
                "file": f"clips/{performance.id}.mp4",
                "split": performance.split,
                "label": performance.label,
                "num_frames": performance.num_frames,
                "fps": performance.fps,
                "spans": _spans(performance, labels),
            }
            for performance in performances
        ),
    )
    splits = {}
    for split in _SPLITS:
        shown = [performance for performance in performances if performance.split == split]
        empty = sorted({action.id for action in labels.classes} - {performance.label for performance in shown})
        splits[split] = {"num_expected": len(shown), "num_present": len(shown), "missing": {}, "empty_classes": empty}
    write_coverage(root, {"annotation_version": ANNOTATION_VERSION, "splits": splits})


def write_annotations(folder: Path, competitions: list[Competition], labels: Labels) -> None:
    """Write the annotation JSON, the split lists and the class and set lists, in FineGym's formats."""
    content = {video.id: dict(_event_entry(video.fps, event) for event in video.events) for video in competitions}
    write_text(folder / segments_file(ANNOTATION_VERSION), json.dumps(content) + "\n")
    performances = [
        performance for video in competitions for event in video.events for performance in event.performances
    ]
    for split in _SPLITS:
        lines = sorted(
            f"{performance.id} {performance.label}\n" for performance in performances if performance.split == split
        )
        write_text(folder / split_file(labels.name, split, ANNOTATION_VERSION), "".join(lines))
    sets = sorted({(action.set, action.set_name) for action in labels.classes})
    write_text(folder / "set_categories.txt", "".join(f"set: {number}; {name}\n" for number, name in sets))
    categories = (
        f"Clabel: {action.id:3d}; set: {action.set:2d}; Glabel: {action.element:3d}; {action.text}\n"
        for action in labels.classes
        if action.element is not None
    )
    write_text(folder / f"{labels.name}_categories.txt", "".join(categories))


def _event_entry(fps: float, event: Event) -> tuple[str, dict]:
    """Return the name and the entry of one event; sub-actions are timed from its start, vaults in three stages."""
    number = next(number for number, name in EVENTS.items() if name == event.performances[0].event)
    segments = {}
    for performance in event.performances:
        num_stages = 3 if performance.event == "VT" else 1
        edges = np.linspace(
            performance.first_frame, performance.first_frame + performance.num_frames, num_stages + 1
        ).round()
        # A hundredth of a second early, so that no frame's own time is an edge: exactly `num_frames` lie within.
        times = [round(frame / fps - 0.01 - event.first_frame / fps, 2) for frame in edges.tolist()]
        stages = [[start, end] for start, end in zip(times[:-1], times[1:], strict=True)]
        segments[performance.id[EVENT_ID_LENGTH + 1 :]] = {"stages": num_stages, "timestamps": stages}
    span = [round(frame / fps, 2) for frame in (event.first_frame, event.last_frame)]
    name = event.performances[0].id[VIDEO_ID_LENGTH + 1 : EVENT_ID_LENGTH]
    return name, {"event": number, "timestamps": [span], "segments": segments}
