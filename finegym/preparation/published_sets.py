"""Diving48 and Something-Something V2, from the annotation files and archives that their authors distribute.

Diving48 (http://www.svcl.ucsd.edu/projects/resound/dataset.html), version 2:
    Diving48_vocab.json                     [["Back", "15som", "05Twis", "FREE"], ...]: four attributes of each class
    Diving48_V2_train.json, .._test.json    [{"vid_name": .., "label": 0, "start_frame": 0, "end_frame": 48}, ...]
    Diving48_rgb.tar.gz                     rgb/<vid_name>.mp4, each one dive

Something-Something V2 (https://www.qualcomm.com/developer/software/something-something-v-2-dataset), with or without
the prefix `something-something-v2-`:
    labels.json                             {"Approaching something with your camera": "0", ...}
    train.json, validation.json             [{"id": "78687", "template": "Holding [something] next to ..", ..}, ...]
    test.json, test-answers.csv             [{"id": "1420"}, ...] and lines `id;class`
    20bn-something-something-v2-00, -01 ..  the parts of one compressed archive of <id>.webm

Zip files around any of these are not opened: `unzip` them first.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from finegym.data.files import write_text
from finegym.data.index import COVERAGE_FILE, INDEX_FILE, read_rows
from finegym.data.labels import ActionClass, Labels
from finegym.data.text import check_count, check_text, read_json, read_text, shorten

from .cutting import Cut, Encoding, Job
from .formats import FormatName
from .packed import SUFFIXES, find_packed, unpack
from .plan import Plan, Row
from .sources import FoundVideos, by_known_id, find_video_files


REMEDY = "Download the authors' file again."
DIVING48_ATTRIBUTES = ("take-off", "somersaults", "twists", "position")
PREFIXES = ("", "something-something-v2-")
ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
# The plain tars, while an import is not complete; and what it was made from, when it is.
UNPACKED, FINISHED = ".unpacked-{}.tar", ".finished.json"
ABSENT = "video absent"


@dataclass(frozen=True)
class PublishedSet:
    """What the annotation files say: the classes, the version, every video in its split, and what else to know."""

    labels: Labels
    version: str
    rows: list[Row]
    notes: list[str] = field(default_factory=list)


def read_published_set(format: FormatName, folder: Path, *, name: str, license: str = "") -> PublishedSet:
    """Read the annotation files of a data set, which lie in a folder or in a folder in it.

    Args:
        format: Whose files they are.
        folder: The folder.
        name: The name of the data set in metrics and model cards.
        license: The terms of the videos.

    Raises:
        FileNotFoundError: If a file is not there; the message names it.
        ValueError: If a file is not of the documented form; the message names it and the row.
    """
    readers: dict[str, Callable[..., PublishedSet]] = {"diving48": _read_diving48, "ssv2": _read_ssv2}
    return readers[format](folder, name=name, license=license)


def plan_published_set(published: PublishedSet, source: Path, root: Path) -> Plan:
    """Match the videos of a data set with the files in a folder; archives are unpacked where files are missing.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If no file is one of its videos, or an archive cannot be unpacked; the message names it.
    """
    ids = [row.id for row in published.rows]
    found = find_video_files(source)
    archives = find_packed(source) if source.is_dir() else []
    if any(not known for known in map(by_known_id(found, ids).get, ids)):
        for number, parts in enumerate(archives):
            tar = root / UNPACKED.format(number)
            unpack(parts, tar)
            _add(found, find_video_files(tar))
    for path in (path for parts in archives for path in parts):
        found.refused.pop(path.relative_to(source).as_posix(), None)
        if not path.name.lower().endswith(SUFFIXES):
            found.ignored["files without a suffix"] -= 1
    found.ignored = +found.ignored
    known = by_known_id(found, ids)
    if not known:
        raise ValueError(
            f"{source} holds {len(found.videos):,} videos, none of which the lists of {published.labels.name} name; "
            f"they name {', '.join(ids[:3])}. Expected are files with these names, or the authors' archives."
            + _advice_on_zips(source)
        )
    jobs = [Job(video, (Cut(name, f"clips/{name}.mp4"),)) for name, video in known.items()]
    missing = {name: f"{ABSENT}: {name}" for name in ids if name not in known}
    notes = list(published.notes)
    num_others = len(found.videos) - len(known)
    if num_others:
        notes.append(f"{num_others:,} videos are in no list with classes and were left out.")
    rows = published.rows
    return Plan(
        published.labels, published.version, lambda finished: rows, jobs, missing, found.refused, found.ignored, notes
    )


def describe_import(published: PublishedSet, source: Path, encoding: Encoding) -> str | None:
    """Return a hash of all that an import depends on; None where no archive would have to be unpacked to know more."""
    if not find_packed(source):
        return None
    files = {path.relative_to(source).as_posix(): path.stat() for path in source.rglob("*") if path.is_file()}
    stamps = sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in files.items())
    content = json.dumps([asdict(published), asdict(encoding), stamps], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def finished_import(root: Path, made_from: str | None) -> tuple[dict[str, Any], list[str]] | None:
    """Return the coverage report and the notes of an import that was finished from the same lists and archives, if all
    its videos are there; None otherwise."""
    if made_from is None or not all((root / name).is_file() for name in (FINISHED, INDEX_FILE, COVERAGE_FILE)):
        return None
    finished = read_json(root / FINISHED, what="note", remedy=f"Delete {root / FINISHED}.")
    if finished.get("made_from") != made_from or not all(
        (root / row["file"]).is_file() for row in read_rows(root / INDEX_FILE)
    ):
        return None
    return read_json(root / COVERAGE_FILE, what="coverage report", remedy=f"Delete {root / FINISHED}."), finished[
        "notes"
    ]


def finish(root: Path, made_from: str | None, report: Mapping[str, Any], notes: Sequence[str]) -> None:
    """Delete the plain tars of a complete import, and note what it was made from, unless a video failed that may
    succeed another time."""
    reasons = (reason for part in report["splits"].values() for reason in part["missing"].values())
    if made_from is not None and all(reason.startswith(ABSENT) for reason in reasons):
        write_text(root / FINISHED, json.dumps({"made_from": made_from, "notes": list(notes)}))
    for path in (*root.glob(UNPACKED.format("*")), *root.glob(UNPACKED.format("*").replace(".tar", ".json"))):
        path.unlink()


def _add(found: FoundVideos, others: FoundVideos) -> None:
    for relative, source in others.videos.items():
        found.videos.setdefault(relative, source)
    found.refused.update(others.refused)


def _read_diving48(folder: Path, *, name: str, license: str) -> PublishedSet:
    path = _locate(folder, "Diving48_vocab.json")
    vocabulary = _read_list(path)
    for number, texts in enumerate(vocabulary):
        is_class = isinstance(texts, list) and len(texts) == len(DIVING48_ATTRIBUTES)
        if not is_class or not all(isinstance(text, str) and text for text in texts):
            raise ValueError(
                f"{path}, class {number}: {shorten(texts)} is not {', '.join(DIVING48_ATTRIBUTES)}. {REMEDY}"
            )
    groups = [list(dict.fromkeys(texts[group] for texts in vocabulary)) for group in range(len(DIVING48_ATTRIBUTES))]
    first = [1 + sum(map(len, groups[:group])) for group in range(len(groups))]
    classes = []
    for number, texts in enumerate(vocabulary):
        attributes = tuple(first[group] + groups[group].index(text) for group, text in enumerate(texts))
        classes.append(ActionClass(number, " ".join(texts), " ".join(texts), attributes=attributes))
    try:
        labels = Labels(
            name,
            classes,
            ["", *(text for group in groups for text in group)],
            source="Diving48 V2",
            license=license,
            attribute_group_sizes=tuple(map(len, groups)),
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error} {REMEDY}") from error
    rows, num_later = [], 0
    for split, file in (("train", "Diving48_V2_train.json"), ("val", "Diving48_V2_test.json")):
        path = _locate(folder, file)
        for where, row in _mappings(path):
            rows.append(Row(_id(row, "vid_name", where), split, _label(row.get("label"), labels, where)))
            num_later += row.get("start_frame") not in (0, None)
    notes = ["the authors' test list, on which results are reported, is the split val."]
    if num_later:
        notes.append(f"{num_later:,} videos are listed from a later frame than the first; all of each was taken.")
    return PublishedSet(labels, "V2", _without_repetition(rows, folder), notes)


def _read_ssv2(folder: Path, *, name: str, license: str) -> PublishedSet:
    path = _locate(folder, "labels.json")
    content = read_json(path, what="list of classes", remedy=REMEDY)
    try:
        ids = {check_text(text, what="class"): int(number) for text, number in content.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a mapping of classes to numbers ({error}). {REMEDY}") from error
    if sorted(ids.values()) != list(range(len(ids))):
        raise ValueError(f"{path} does not number its {len(ids)} classes from 0 on. {REMEDY}")
    classes = [ActionClass(number, text, text) for text, number in sorted(ids.items(), key=lambda item: item[1])]
    labels = Labels(name, classes, [], source="Something-Something V2", license=license)
    rows = []
    for split, file in (("train", "train.json"), ("val", "validation.json")):
        for where, row in _mappings(_locate(folder, file)):
            template = row.get("template")
            text = re.sub(r"[\[\]]", "", template) if isinstance(template, str) else template
            rows.append(Row(_id(row, "id", where), split, _label_of(text, ids, where)))
    notes = []
    answers = _find(folder, "test-answers.csv")
    if answers is None:
        notes.append("the test videos have no classes without test-answers.csv, and were left out.")
    for number, line in enumerate(read_text(answers).splitlines() if answers else (), 1):
        video, _, text = line.partition(";")
        where = f"{answers}, line {number}"
        rows.append(Row(_id({"id": video.strip()}, "id", where), "test", _label_of(text.strip(), ids, where)))
    return PublishedSet(labels, "V2", _without_repetition(rows, folder), notes)


def _locate(folder: Path, name: str) -> Path:
    path = _find(folder, name)
    if path is None:
        raise FileNotFoundError(
            f"There is no {name} in {folder} or in a folder in it. The authors' page has it.{_advice_on_zips(folder)}"
        )
    return path


def _advice_on_zips(folder: Path) -> str:
    zips = sorted(path.name for path in folder.rglob("*.zip")) if folder.is_dir() else []
    return f" {zips[0]} is a zip file, which is not opened: unzip it first." if zips else ""


def _find(folder: Path, name: str) -> Path | None:
    folders = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())] if folder.is_dir() else []
    paths = (place / f"{prefix}{name}" for place in folders for prefix in PREFIXES)
    return next((path for path in paths if path.is_file()), None)


def _read_list(path: Path) -> list[Any]:
    content = read_json(path, what="annotation file", remedy=REMEDY)
    if not isinstance(content, list) or not content:
        raise ValueError(f"{path} must be a list of rows, not {shorten(content)}. {REMEDY}")
    return content


def _mappings(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a list, each with its place for messages."""
    for number, row in enumerate(_read_list(path)):
        where = f"{path}, row {number}"
        if not isinstance(row, dict):
            raise ValueError(f"{where}: {shorten(row)} is not a mapping. {REMEDY}")
        yield where, row


def _id(row: dict[str, Any], key: str, where: str) -> str:
    value = str(row.get(key))
    if row.get(key) is None or not ID.fullmatch(value):
        raise ValueError(f"{where}: {key} is {shorten(row.get(key))}, which is not the name of a video. {REMEDY}")
    return value


def _label(value: Any, labels: Labels, where: str) -> int:
    try:
        label = check_count(value)
    except ValueError as error:
        raise ValueError(f"{where}: label: {error}. {REMEDY}") from error
    if label >= len(labels.classes):
        raise ValueError(f"{where}: label {label} is not one of the {len(labels.classes)} classes. {REMEDY}")
    return label


def _label_of(text: Any, ids: dict[str, int], where: str) -> int:
    if not isinstance(text, str) or text not in ids:
        raise ValueError(f"{where}: {shorten(text)} is not a class of labels.json. {REMEDY}")
    return ids[text]


def _without_repetition(rows: Sequence[Row], folder: Path) -> list[Row]:
    seen: dict[str, str] = {}
    for row in rows:
        if row.id in seen:
            raise ValueError(f"{folder}: video {row.id!r} is listed in {seen[row.id]} and in {row.split}. {REMEDY}")
        seen[row.id] = row.split
    return list(rows)
