"""Your own classes: a folder of videos, with metadata or without, or a dataset on the Hub with a Video column.

Layouts of a folder, those of `datasets`' videofolder:

- one folder per class, `<class>/<file>`, or per split and class, `train/<class>/<file>`;
- a `metadata.csv`, `metadata.jsonl` or `metadata.parquet` with the columns `file_name` and `label`, and optionally
`start` and `end`
  in seconds, `split` and `attributes` (a list, or texts separated by `|`).

Splits are called train and val; "validation", "valid", "dev" and "test" mean val too, the first of them that is there.
Where nothing says what is validated on, every class of two videos and more gives a share of them, chosen by a hash of
their ids.
"""

import contextlib
import csv
import hashlib
import io
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import datasets
import huggingface_hub.constants
from tqdm import tqdm

from finegym.data.files import PARTIAL_SUFFIX
from finegym.data.index import INDEX_FILE, read_rows
from finegym.data.labels import ActionClass, Labels
from finegym.data.text import check_text, parse_json, read_json, read_text, safe_text, shorten

from .assemble import assemble
from .cutting import Cut, Encoding, Job
from .plan import Plan
from .sources import FoundVideos, Source, find_videos


METADATA_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
ATTRIBUTES_FILE = "attributes.json"
TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "validation", "valid", "dev", "test")
# Words and signs at which `--attributes names` takes a class name apart.
SEPARATORS = re.compile(r"[,;/()|]|\b(?:with|and|to|into|from)\b")


@dataclass(frozen=True)
class Entry:
    """One video a user has: a file, or `[start, end)` seconds of it."""

    id: str
    source: "Source | HubRow | None"
    label: str
    split: str | None = None
    start: float | None = None
    end: float | None = None
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True)
class HubRow:
    """One row of a `datasets.Dataset` with a Video column that is not decoded."""

    rows: datasets.Dataset
    column: str
    row: int
    name: str

    @contextlib.contextmanager
    def as_file(self, scratch: Path) -> Iterator[Path]:
        video = self.rows[self.row][self.column]
        if video.get("bytes") is None:
            yield Path(video["path"])
            return
        copy = scratch / f".{hashlib.sha256(self.name.encode()).hexdigest()[:16]}{PARTIAL_SUFFIX}"
        try:
            copy.write_bytes(video["bytes"])
            yield copy
        finally:
            copy.unlink(missing_ok=True)


def import_videos(
    source: str,
    root: Path,
    name: str | None = None,
    attributes: str | None = None,
    val_share: float = 0.2,
    short_side: int = 256,
    key_interval: int = 12,
    crf: int = 18,
    num_workers: int | None = None,
) -> str:
    """Turn your own videos into a dataset: short videos, labels, an index and a coverage report.

    Args:
        source: a folder with one folder per class or with metadata, or the id of a dataset on the Hub with a Video
            column.
        root: the folder to write.
        name: what the dataset is called in metrics and model cards; by default the name of `root`.
        attributes: a JSON file of the attributes of each class, `{"class": ["attribute", ...]}`; or "names" to take
            the class names apart. By default the metadata's, or those of `attributes.json` in the folder, or none.
        val_share: the share of each class to validate on, where neither folders nor metadata tell.
        short_side: pixels of the shorter side of the videos.
        key_interval: the largest distance between two key frames, in frames.
        crf: x264's constant rate factor; 18 is visually lossless.
        num_workers: processes; by default one for each core (none for a few videos), 0 for none but this one.

    Returns:
        The coverage report as text.

    Raises:
        FileNotFoundError: if there is neither such a folder nor such a dataset.
        ValueError: naming the file and row, if the metadata is not of the documented form.
    """
    plan = plan_own_data(source, name=name or root.name, attributes=attributes, val_share=val_share)
    return assemble(plan, root, Encoding(short_side, key_interval, crf), num_workers)


def prepared_root(root: str) -> Path:
    """The prepared folder that `data.root` of a recipe means. Your own videos are imported first, into the Hub's cache
    folder.

    Of several processes only one may call this at a time; the others then find the work done.

    Args:
        root: a prepared folder, a folder of your own videos, or the id of a dataset on the Hub.

    Raises:
        FileNotFoundError: if it is none of these.
        ValueError: naming the file and row, if the videos' metadata is not of the documented form.
    """
    folder = Path(root)
    if (folder / INDEX_FILE).is_file():
        return folder
    key = hashlib.sha256(str(folder.absolute() if folder.is_dir() else root).encode()).hexdigest()[:12]
    cache = Path(huggingface_hub.constants.HF_HOME) / "finegym" / key / folder.name
    tqdm.write(import_videos(root, cache))
    return cache


def plan_own_data(source: str, *, name: str, attributes: str | None = None, val_share: float = 0.2) -> Plan:
    """Read a videofolder or, if there is no such folder, a dataset of the Hub.

    Args:
        source: a folder, or the id of a dataset on the Hub.
        name: what the dataset is called in labels, metrics and model cards.
        attributes: a JSON file of the attributes of each class, `{"class": ["attribute", ...]}`; or "names" to take
            the class names apart (see `attributes_from_name`). None: the metadata, or `attributes.json` in the folder,
            or none at all.
        val_share: the share of each class to validate on, where neither folders nor metadata tell.

    Raises:
        FileNotFoundError: if there is neither such a folder nor such a dataset.
        ValueError: naming the file and line, if the metadata is not of the documented form.
    """
    if not 0 < val_share < 1:
        raise ValueError(f"val_share is a share between 0 and 1, got {val_share}.")
    folder = Path(source)
    found = find_videos(folder) if folder.is_dir() else FoundVideos()
    entries = list(_folder_entries(folder, found) if folder.is_dir() else _hub_entries(source))
    if not entries:
        raise ValueError(f"{source} holds no video. Expected are `<class>/<file>` or {', '.join(METADATA_FILES)}.")
    _check_ids(entries, source)
    entries = _one_validation_split(entries, found.refused)
    classes = sorted({entry.label for entry in entries})
    by_class = _attributes_by_class(entries, classes, attributes, folder)
    labels = _labels(name, source, classes, by_class)
    expected: dict[str, dict[str, int]] = {"train": {}, "val": {}}
    for entry, split in zip(entries, _splits(entries, val_share), strict=True):
        expected[split][entry.id] = labels.label2id[entry.label]
    missing = {entry.id: f"video absent: {entry.id}" for entry in entries if entry.source is None}
    cuts: dict[Any, list[Cut]] = defaultdict(list)
    for entry in entries:
        if entry.source is not None:
            cuts[entry.source].append(Cut(entry.id, f"clips/{entry.id}.mp4", entry.start, entry.end))
    jobs = [Job(video, tuple(of_video)) for video, of_video in cuts.items()]
    return Plan(labels, "own", expected, jobs, missing, found.refused)


def attributes_from_name(name: str) -> list[str]:
    """The attributes in a class name: the phrases between commas, semicolons, slashes, brackets, bars and the words
    with, and, to, into, from; in lower case, underscores read as blanks.

    >>> attributes_from_name("Salto backward, tucked with 1 twist")
    ['salto backward', 'tucked', '1 twist']
    """
    phrases = (" ".join(phrase.split()) for phrase in SEPARATORS.split(name.lower().replace("_", " ")))
    return list(dict.fromkeys(phrase for phrase in phrases if phrase))


def _folder_entries(folder: Path, found: FoundVideos) -> Iterator[Entry]:
    subfolders = [path for path in sorted(folder.iterdir()) if path.name.lower() in (*TRAIN_NAMES, *VAL_NAMES)]
    metadata = [file for base in (folder, *subfolders) if (file := _metadata_file(base))]
    if not metadata:
        for relative, source in sorted(found.videos.items()):
            split = relative.parts[0].lower() if len(relative.parts) > 2 else None
            if len(relative.parts) < 2 or relative.parts[0].startswith("metadata"):
                found.refused[str(relative)] = "no folder names its class"
            else:
                named = split in TRAIN_NAMES or split in VAL_NAMES
                yield Entry(str(relative.with_suffix("")), source, relative.parts[-2], split if named else None)
        return
    unused = dict(found.videos)
    for file in metadata:
        base = PurePosixPath(file.parent.relative_to(folder).as_posix())
        for number, row in enumerate(_read_rows(file), 1):
            where = f"{file}, row {number}"
            relative = base / _text(row, "file_name", where)
            if relative.is_absolute() or ".." in relative.parts:
                raise ValueError(f"{where}: the file {str(relative)!r} is not inside the folder.")
            unused.pop(relative, None)
            split = str(row.get("split") or (base.name if base.name else "")).strip().lower() or None
            yield _entry(str(relative.with_suffix("")), found.videos.get(relative), row, split, where)
    found.refused.update({str(relative): "the metadata does not name it" for relative in unused})


def _hub_entries(repository: str) -> Iterator[Entry]:
    try:
        splits = datasets.load_dataset(repository)
    except (FileNotFoundError, ConnectionError, datasets.exceptions.DatasetNotFoundError) as error:
        raise FileNotFoundError(
            f"{repository!r} is neither a folder nor a dataset that the Hub gives: {error}"
        ) from error
    for split, rows in splits.items():
        column = next((name for name, kind in rows.features.items() if isinstance(kind, datasets.Video)), None)
        if column is None or "label" not in rows.features:
            raise ValueError(
                f"{repository}, split {split}: needs a Video column and `label`, has {list(rows.features)}."
            )
        rows = rows.cast_column(column, datasets.Video(decode=False))
        label = rows.features["label"]
        for number, row in enumerate(rows.remove_columns(column)):
            if isinstance(label, datasets.ClassLabel):
                row = row | {"label": label.int2str(row["label"])}
            name = f"{split}/{number:07d}"
            yield _entry(name, HubRow(rows, column, number, name), row, split.lower(), f"{repository}, {name}")


def _entry(video_id: str, source: Any, row: Mapping[str, Any], split: str | None, where: str) -> Entry:
    start, end = _seconds(row, "start", where), _seconds(row, "end", where)
    if start is not None and end is not None and start >= end:
        raise ValueError(f"{where}: the video ends at {end} s, before it starts at {start} s.")
    if start is not None or end is not None:
        video_id += f"_{start or 0:.3f}_" + ("end" if end is None else f"{end:.3f}")
    attributes = row.get("attributes") or ()
    if isinstance(attributes, str):
        attributes = attributes.split("|")
    if not isinstance(attributes, Sequence) or not all(isinstance(phrase, str) for phrase in attributes):
        raise ValueError(f"{where}: attributes are {shorten(attributes)}, not a list of texts.")
    phrases = tuple(phrase.strip() for phrase in attributes if phrase.strip())
    if split is not None and split not in (*TRAIN_NAMES, *VAL_NAMES):
        raise ValueError(f"{where}: the split {split!r} is none of {', '.join((*TRAIN_NAMES, *VAL_NAMES))}.")
    return Entry(video_id, source, _text(row, "label", where), split, start, end, phrases)


def _metadata_file(folder: Path) -> Path | None:
    files = [folder / name for name in METADATA_FILES if (folder / name).is_file()]
    if len(files) > 1:
        raise ValueError(f"{folder} has {' and '.join(file.name for file in files)}; keep one of them.")
    return files[0] if files else None


def _read_rows(path: Path) -> list[dict[str, Any]]:
    try:
        if path.suffix == ".csv":
            return list(csv.DictReader(io.StringIO(read_text(path).removeprefix("\ufeff"), newline="")))
        if path.suffix == ".jsonl":
            rows = [parse_json(line) for line in read_text(path).split("\n") if line.strip()]
        else:
            rows = read_rows(path)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ValueError(f"{path}, row {number}: {shorten(row)} is no mapping of columns to values.")
    return rows


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    if value is None or value == "":
        raise ValueError(f"{where}: there is no {column!r}.")
    if type(value) not in (str, int):
        raise ValueError(f"{where}: {column} is {shorten(value)}, neither a text nor a whole number.")
    try:
        return check_text(str(value).strip(), what=column)
    except ValueError as error:
        raise ValueError(f"{where}: {error}.") from error


def _seconds(row: Mapping[str, Any], column: str, where: str) -> float | None:
    value = row.get(column)
    if value is None or value == "":
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (ValueError, TypeError, OverflowError):
        seconds = math.nan
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{where}: {column} is {shorten(value)}, not seconds from the beginning of the file.")
    return seconds


def _check_ids(entries: Sequence[Entry], source: str) -> None:
    seen = set()
    for entry in entries:
        if "\\" in entry.id or safe_text(entry.id, one_line=True) != entry.id:
            raise ValueError(f"{source}: the file name {entry.id!r} has a character that not every disk can store.")
        if entry.id in seen:
            raise ValueError(f"{source}: two videos are called {entry.id!r}. Rename one of the files.")
        seen.add(entry.id)


def _one_validation_split(entries: Sequence[Entry], refused: dict[str, str]) -> list[Entry]:
    """Of several validation splits, such as validation and test, keep the first of `VAL_NAMES` and report the
    others."""
    present = [name for name in VAL_NAMES if any(entry.split == name for entry in entries)]
    for entry in entries:
        if entry.split in present[1:]:
            refused[entry.id] = f"of split {entry.split!r}; {present[0]!r} is what is validated on"
    return [entry for entry in entries if entry.split not in present[1:]]


def _splits(entries: Sequence[Entry], val_share: float) -> list[str]:
    """For each entry "train" or "val": as given or, where not both are given, by a share of each class."""
    given = [None if entry.split is None else "train" if entry.split in TRAIN_NAMES else "val" for entry in entries]
    if {"train", "val"} <= set(given):
        unsaid = next((entry.id for entry in entries if entry.split is None), None)
        if unsaid:
            raise ValueError(f"Some videos have a split and {unsaid!r} has none. Give it to all or to none.")
        return [split for split in given if split]
    by_class = defaultdict(list)
    for entry in entries:
        by_class[entry.label].append(entry.id)
    validated: set[str] = set()
    for video_ids in by_class.values():
        video_ids.sort(key=lambda video_id: hashlib.sha256(video_id.encode()).digest())
        if len(video_ids) > 1:
            validated.update(video_ids[: max(1, round(val_share * len(video_ids)))])
    return ["val" if entry.id in validated else "train" for entry in entries]


def _attributes_by_class(
    entries: Sequence[Entry], classes: Sequence[str], attributes: str | None, folder: Path
) -> dict[str, list[str]]:
    if attributes == "names":
        return {name: attributes_from_name(name) for name in classes}
    path = Path(attributes) if attributes else folder / ATTRIBUTES_FILE
    if attributes and not path.is_file():
        raise FileNotFoundError(
            f"There is no attribute file {path}. To take class names apart, say `--attributes names`."
        )
    if attributes or (path.is_file() and not any(entry.attributes for entry in entries)):
        return _read_attributes(path, classes)
    by_class: dict[str, list[str]] = {name: [] for name in classes}
    for entry in entries:
        by_class[entry.label] += [phrase for phrase in entry.attributes if phrase not in by_class[entry.label]]
    return by_class


def _read_attributes(path: Path, classes: Sequence[str]) -> dict[str, list[str]]:
    remedy = f'{path} must be {{"class": ["attribute", ...]}} for all classes.'
    content = read_json(path, what="attribute file", remedy=remedy)
    by_class = {}
    for name in classes:
        phrases = content.get(name) if isinstance(content, dict) else None
        if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
            raise ValueError(f"{remedy} Those of {name!r} are {shorten(phrases)}.")
        by_class[name] = [phrase.strip() for phrase in phrases]
    unknown = sorted(content.keys() - set(classes))
    if unknown:
        raise ValueError(f"{path} speaks of {unknown[:5]}, which are no classes; the classes are {list(classes)[:5]}.")
    return by_class


def _labels(name: str, source: str, classes: Sequence[str], by_class: Mapping[str, Iterable[str]]) -> Labels:
    texts = list(dict.fromkeys(phrase for action in classes for phrase in by_class[action] if phrase))
    ids = {text: number for number, text in enumerate(texts, 1)}
    actions = [
        ActionClass(number, action, action, attributes=tuple(ids[phrase] for phrase in by_class[action] if phrase))
        for number, action in enumerate(classes)
    ]
    return Labels(name, actions, ["", *texts] if texts else [], source=f"Own data: {Path(source).name}")
