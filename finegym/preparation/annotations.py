"""FineGym's annotation files, read once and typed.

FineGym comes as one JSON file of events and sub-actions (versions v1.0 and v1.1), split lists of sub-action ids with
class labels, and lists of classes ("categories") and sets. Source of the formats: https://sdolivia.github.io/FineGym
and its `resources/dataset/`.

A sub-action id is `<video>_E_<start>_<end>_A_<start>_<end>`: an 11-character YouTube id, the event's seconds in the
video and the sub-action's seconds in the event, both cut to whole seconds. YouTube ids may contain `-` and `_`, so ids
are split at fixed offsets, and cutting always uses the float times of the JSON, never the seconds in the id.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finegym.data.labels import Labels
from finegym.data.text import read_json, read_text


VERSIONS = ("v1.0", "v1.1")
EVENTS = {1: "VT", 2: "FX", 3: "BB", 4: "UB"}

VIDEO_ID_LENGTH = len("0LtLS9wROrk")
EVENT_ID_LENGTH = len("0LtLS9wROrk_E_002407_002435")
VIDEO_ID = re.compile(r"[A-Za-z0-9_-]{11}")
EVENT_ID = re.compile(VIDEO_ID.pattern + r"_E_[0-9]{6}_[0-9]{6}")
SUB_ACTION_ID = re.compile(EVENT_ID.pattern + r"_A_[0-9]{4}_[0-9]{4}")
NUMBER = "[0-9]{1,6}"

# (train, val) sub-actions of a data set: https://sdolivia.github.io/FineGym, counted in the files themselves. v1.0 is
# what the paper used.
PUBLISHED_COUNTS = {
    ("gym99", "v1.0"): (20_484, 8_521),
    ("gym99", "v1.1"): (26_320, 8_521),
    ("gym288", "v1.0"): (22_671, 9_646),
    ("gym288", "v1.1"): (29_334, 9_646),
}

REMEDY = "`finegym fetch` gets FineGym's files."


@dataclass(frozen=True)
class SubAction:
    """One performed element: `[start, end)` in seconds of the full video, `event_offset` seconds after which its event
    begins.

    A vault is annotated in three stages (take-off, flight, landing) and is one sub-action from the first to the last
    of them.
    """

    id: str
    event: str
    start: float
    end: float
    event_offset: float
    num_stages: int

    @property
    def video_id(self) -> str:
        return self.id[:VIDEO_ID_LENGTH]

    @property
    def event_id(self) -> str:
        return self.id[:EVENT_ID_LENGTH]


@dataclass(frozen=True)
class Segments:
    """What an annotation JSON says: the sub-actions by id, and the ids whose entry cannot be used with the reason."""

    sub_actions: dict[str, SubAction]
    problems: dict[str, str]
    num_videos: int
    num_events: int


@dataclass(frozen=True)
class Category:
    """One line of a category file. `id` is None in the 530-class list, whose classes are known by their element
    (Glabel)."""

    id: int | None
    set: int
    element: int
    event: str
    text: str


@dataclass(frozen=True)
class Annotation:
    """One data set in one version: class label by sub-action id for both splits, its classes, and the times if the
    JSON was given."""

    name: str
    version: str
    train: dict[str, int]
    val: dict[str, int]
    labels: Labels
    segments: Segments | None


def segments_file(version: str) -> str:
    return f"finegym_annotation_info_{version}.json"


def split_file(dataset: str, split: str, version: str) -> str:
    # The validation lists are the same in both versions and their file names carry none.
    return f"{dataset}_train_element_{version}.txt" if split == "train" else f"{dataset}_val_element.txt"


def read_annotation(folder: str | Path, dataset: str, version: str, labels: Labels) -> Annotation:
    """Read everything about one data set from a folder of FineGym's files.

    Args:
        folder: The folder of the two split lists and, if sub-actions are to be cut out of longer videos, of the JSON.
        dataset: The prefix of the split lists, such as "gym99" or "gym288".
        version: The version of the annotation, "v1.0" or "v1.1".
        labels: The classes of the data set.

    Raises:
        FileNotFoundError: If a split list is missing.
        ValueError: If the version is unknown, a line is malformed, a label is not a class of `labels`, a sub-action is
            in both splits, or the published lists of Gym99 and Gym288 do not have their published lengths; the message
            names the file.
    """
    if version not in VERSIONS:
        raise ValueError(f"FineGym's annotation has the versions {', '.join(VERSIONS)}; {version!r} is none of them.")
    folder = Path(folder)
    splits = {}
    for split in ("train", "val"):
        path = folder / split_file(dataset, split, version)
        splits[split] = read_split(path)
        unknown = sorted({label for label in splits[split].values() if label >= len(labels.classes)})
        if unknown:
            raise ValueError(
                f"{path} uses the labels {unknown[:5]}, but {labels.name!r} has {len(labels.classes)} classes."
            )
    both = sorted(splits["train"].keys() & splits["val"].keys())
    if both:
        raise ValueError(f"{folder}: {len(both)} sub-actions of {dataset} are in both splits, such as {both[0]}.")
    counts = (len(splits["train"]), len(splits["val"]))
    published = PUBLISHED_COUNTS.get((dataset, version), counts)
    if counts != published:
        raise ValueError(
            f"{folder}: {dataset} {version} has {counts[0]} training and {counts[1]} validation sub-actions; "
            f"published are {published[0]} and {published[1]}. A file is incomplete or of another version: "
            "run `finegym fetch` again."
        )
    path = folder / segments_file(version)
    segments = read_segments(path) if path.is_file() else None
    return Annotation(dataset, version, splits["train"], splits["val"], labels, segments)


def read_split(path: str | Path) -> dict[str, int]:
    """Read a split list, `<sub-action id> <label>` a line, as label by sub-action id.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is malformed or an id repeats; the message names the file and line.
    """
    labels: dict[str, int] = {}
    for number, line in enumerate(_read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        sub_action_id, _, label = line.strip().partition(" ")
        if not SUB_ACTION_ID.fullmatch(sub_action_id) or not re.fullmatch(NUMBER, label):
            raise ValueError(f"{path}, line {number}: expected `<sub-action id> <label>`, found {line[:80]!r}.")
        if sub_action_id in labels:
            raise ValueError(f"{path}, line {number}: {sub_action_id} occurs twice.")
        labels[sub_action_id] = int(label)
    return labels


def read_sets(path: str | Path) -> dict[int, str]:
    """Read `set_categories.txt`, `set: <number>; <name>` a line, as name by number.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is malformed; the message names the file and line.
    """
    sets = {}
    for number, line in enumerate(_read_text(path).splitlines(), 1):
        match = re.fullmatch(rf"set: *({NUMBER}); *(\S+) *", line)
        if not match:
            raise ValueError(f"{path}, line {number}: expected `set: <number>; <name>`, found {line[:80]!r}.")
        sets[int(match[1])] = match[2]
    return sets


def read_categories(path: str | Path) -> list[Category]:
    """Read `gym99_categories.txt`, `gym288_categories.txt` or `gym530_categories.txt`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is malformed or the class ids do not count up from 0; the message names the file and
            line.
    """
    categories = []
    for number, line in enumerate(_read_text(path).splitlines(), 1):
        match = re.search(r"; (\((VT|FX|BB|UB)\) .*\S)", line)
        fields = dict(re.findall(rf"(Clabel|set|Glabel): *({NUMBER});", line[: match.start() + 1])) if match else {}
        if not match or not {"set", "Glabel"} <= fields.keys():
            raise ValueError(
                f"{path}, line {number}: expected `Clabel: 0; set: 1; Glabel: 1; (VT) text`, found {line[:80]!r}."
            )
        label = int(fields["Clabel"]) if "Clabel" in fields else None
        if label is not None and label != len(categories):
            raise ValueError(f"{path}, line {number}: class {label} is where class {len(categories)} is expected.")
        categories.append(Category(label, int(fields["set"]), int(fields["Glabel"]), match[2], match[1]))
    return categories


def read_segments(path: str | Path) -> Segments:
    """Read the annotation JSON, v1.0 or v1.1.

    An event may have no segments (null). Sub-actions are timed relative to their event; the rows returned are
    absolute. Entries that cannot be used, such as one that ends before it starts, are returned as `problems`, never
    dropped silently.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not FineGym's JSON at all; the message names it.
    """
    content = read_json(path, what="JSON file", remedy=f"Is the download complete? {REMEDY}")
    if not isinstance(content, dict) or not all(isinstance(events, dict) for events in content.values()):
        raise ValueError(f"{path} is not FineGym's annotation: expected events by video id.")
    sub_actions: dict[str, SubAction] = {}
    problems: dict[str, str] = {}
    num_events = 0
    for video, events in content.items():
        for event_name, event in events.items():
            num_events += 1
            segments = event.get("segments") if isinstance(event, dict) else event
            if not isinstance(segments, dict | None):
                problems[f"{video}_{event_name}"] = "annotation unusable: its segments are not a mapping"
                continue
            for name, segment in (segments or {}).items():
                sub_action_id = f"{video}_{event_name}_{name}"
                try:
                    sub_actions[sub_action_id] = _sub_action(sub_action_id, event, segment)
                except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
                    problems[sub_action_id] = f"annotation unusable: {error}"
    return Segments(sub_actions, problems, len(content), num_events)


def _sub_action(sub_action_id: str, event: dict[str, Any], segment: dict[str, Any]) -> SubAction:
    if not SUB_ACTION_ID.fullmatch(sub_action_id):
        raise ValueError(f"{sub_action_id!r} is not the id of a sub-action")
    if event["event"] not in EVENTS:
        raise ValueError(f"event {event['event']!r} is none of {EVENTS}")
    offset = float(event["timestamps"][0][0])
    stages = segment["timestamps"]
    start, end = offset + float(stages[0][0]), offset + float(stages[-1][1])
    if not (math.isfinite(start) and math.isfinite(end) and 0 <= start < end):
        raise ValueError(f"it runs from {start} s to {end} s")
    return SubAction(sub_action_id, EVENTS[event["event"]], start, end, offset, len(stages))


def _read_text(path: str | Path) -> str:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}. {REMEDY}")
    return read_text(path)
