"""The videos that a user has, and what is known about each: a folder, a metadata file, or a data set on the Hub."""

import contextlib
import csv
import hashlib
import io
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import datasets

from finegym.data.files import PARTIAL_SUFFIX
from finegym.data.index import read_rows
from finegym.data.text import check_text, parse_json, read_text, safe_text, shorten

from .sources import FoundVideos, Source


logger = logging.getLogger(__name__)

METADATA_SUFFIXES = (".csv", ".jsonl", ".parquet")
METADATA_FILES = tuple(f"metadata{suffix}" for suffix in METADATA_SUFFIXES)
# What people call the splits -> what the index calls them.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "validation", "valid", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
COLUMNS = ("file_name", "label", "start", "end", "split", "group", "attributes")


@dataclass(frozen=True)
class Entry:
    """One video a user has: a file, or `[start, end)` seconds of it.

    Attributes:
        id: An id that is unique within the data set: the path of its file below `clips`.
        source: Its location, or None if the metadata names a file that is not there.
        label: The name of its class.
        file: The path within the source folder, "" for a row of a data set on the Hub.
        split: "train", "val", "test", or None where it is not given.
        group: What it shares with others that belong on the same side of a split; None where it is not given.
        attributes: The attributes of its row in the metadata.
    """

    id: str
    source: "Source | HubRow | None"
    label: str
    file: str = ""
    split: str | None = None
    start: float | None = None
    end: float | None = None
    group: str | None = None
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

    def digest(self) -> str:
        """Return the SHA-256 of the row's video."""
        video = self.rows[self.row][self.column]
        if video.get("bytes") is None:
            return Source(Path(video["path"]), self.name).digest()
        return hashlib.sha256(video["bytes"]).hexdigest()


def folder_entries(folder: Path, found: FoundVideos, metadata_file: Path | None = None) -> Iterator[Entry]:
    """Yield the videos of a folder by its metadata or, where there is none, by the folders they are in.

    Args:
        folder: The folder of the videos.
        found: The videos in it; what is not used is added to `found.refused`.
        metadata_file: A metadata file of any name in `folder`. None takes those named `metadata.*`, in `folder` and in
            the folders of its splits.

    Raises:
        ValueError: If the metadata is not of the documented form; the message names the file and row.
    """
    if metadata_file is not None:
        yield from _metadata_entries(folder, found, [metadata_file])
        return
    subfolders = [path for path in sorted(folder.iterdir()) if path.name.lower() in SPLIT_NAMES]
    metadata = [file for base in (folder, *subfolders) if (file := _metadata_file(base))]
    if metadata:
        yield from _metadata_entries(folder, found, metadata)
        return
    for relative, source in sorted(found.videos.items()):
        split = SPLIT_NAMES.get(relative.parts[0].lower()) if len(relative.parts) > 2 else None
        if len(relative.parts) < 2:
            found.refused[str(relative)] = "no folder names its class"
        else:
            yield Entry(_stem(relative), source, relative.parts[-2], str(relative), split)


def hub_entries(repository: str, refused: dict[str, str]) -> Iterator[Entry]:
    """Yield the rows of a data set on the Hub; those without a label are added to `refused`.

    Raises:
        FileNotFoundError: If there is no such data set.
        ValueError: If it has no Video column or no `label`.
    """
    try:
        splits = datasets.load_dataset(repository)
    except (FileNotFoundError, ConnectionError, datasets.exceptions.DatasetNotFoundError) as error:
        raise FileNotFoundError(f"{repository!r} is neither a folder nor a data set on the Hub: {error}") from error
    for split, rows in splits.items():
        column = next((name for name, kind in rows.features.items() if isinstance(kind, datasets.Video)), None)
        if column is None or "label" not in rows.features:
            raise ValueError(
                f"{repository}, split {split}: needs a Video column and `label`, has {list(rows.features)}."
            )
        rows = rows.cast_column(column, datasets.Video(decode=False))
        label = rows.features["label"]
        for number, row in enumerate(rows.remove_columns(column)):
            name = f"{split}/{number:07d}"
            if isinstance(label, datasets.ClassLabel):
                if row["label"] in (None, -1):  # how test splits withhold their labels
                    refused[name] = "it has no label"
                    continue
                row = row | {"label": label.int2str(row["label"])}
            yield _entry(name, "", HubRow(rows, column, number, name), row, split.lower(), f"{repository}, {name}")


def check_ids(entries: Sequence[Entry], source: str) -> None:
    """Refuse two videos that would share a file, and a file whose name cannot be stored.

    Raises:
        ValueError: If there are any; the message names one.
    """
    seen = set()
    for entry in entries:
        if "\\" in entry.id or safe_text(entry.id, one_line=True) != entry.id:
            raise ValueError(f"{source}: the file name {entry.id!r} has a character that not every disk can store.")
        if entry.id in seen:
            raise ValueError(f"{source}: two videos are called {entry.id!r}. Rename one of the files.")
        seen.add(entry.id)


def _metadata_entries(folder: Path, found: FoundVideos, files: Sequence[Path]) -> Iterator[Entry]:
    unused = dict(found.videos)
    for file in files:
        base = PurePosixPath(file.parent.relative_to(folder).as_posix())
        rows = _read_rows(file)
        ignored = sorted({str(column) for row in rows for column in row} - set(COLUMNS))
        if ignored:
            logger.warning(f"{file}: {shorten(ignored)} are not used. The columns that are: {', '.join(COLUMNS)}.")
        for number, row in enumerate(rows, 1):
            where = f"{file}, row {number}"
            relative = base / _text(row, "file_name", where)
            if relative.is_absolute() or ".." in relative.parts:
                raise ValueError(f"{where}: the file {str(relative)!r} is not inside the folder.")
            unused.pop(relative, None)
            split = str(row.get("split") or (base.name if base.name else "")).strip().lower() or None
            yield _entry(_stem(relative), str(relative), found.videos.get(relative), row, split, where)
    found.refused.update({str(relative): "the metadata does not name it" for relative in unused})


def _entry(name: str, file: str, source: Any, row: Mapping[str, Any], split: str | None, where: str) -> Entry:
    start, end = _seconds(row, "start", where), _seconds(row, "end", where)
    if start is not None and end is not None and start >= end:
        raise ValueError(f"{where}: the video ends at {end} s, before it starts at {start} s.")
    if start is not None or end is not None:
        name += f"_{start or 0:.3f}_" + ("end" if end is None else f"{end:.3f}")
    attributes = row.get("attributes") or ()
    if isinstance(attributes, str):
        attributes = attributes.split("|")
    if not isinstance(attributes, Sequence) or not all(isinstance(phrase, str) for phrase in attributes):
        raise ValueError(f"{where}: attributes are {shorten(attributes)}, not a list of texts.")
    phrases = tuple(phrase.strip() for phrase in attributes if phrase.strip())
    if split is not None and split not in SPLIT_NAMES:
        raise ValueError(f"{where}: the split {split!r} is none of {', '.join(SPLIT_NAMES)}.")
    group = None if row.get("group") in (None, "") else _text(row, "group", where)
    return Entry(name, source, _text(row, "label", where), file, SPLIT_NAMES.get(split), start, end, group, phrases)


def _stem(relative: PurePosixPath) -> str:
    return str(relative.with_suffix(""))


def _metadata_file(folder: Path) -> Path | None:
    files = [folder / name for name in METADATA_FILES if (folder / name).is_file()]
    if len(files) > 1:
        raise ValueError(f"{folder} has {' and '.join(file.name for file in files)}; keep one of them.")
    return files[0] if files else None


def _read_rows(path: Path) -> list[dict[str, Any]]:
    try:
        if path.suffix.lower() == ".csv":
            text = read_text(path).removeprefix("\ufeff")
            rows: list[Any] = list(csv.DictReader(io.StringIO(text, newline="")))
        elif path.suffix.lower() == ".jsonl":
            rows = [parse_json(line) for line in read_text(path).split("\n") if line.strip()]
        else:
            rows = read_rows(path)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not rows:
        raise ValueError(f"{path} has no row. Its columns are {', '.join(COLUMNS)}; the first two are needed.")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ValueError(f"{path}, row {number}: {shorten(row)} is not a mapping of columns to values.")
    return rows


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    if value is None or (isinstance(value, str) and not value.strip()):
        columns = shorten([name for name in row if name is not None])
        raise ValueError(f"{where}: there is no {column!r}; its columns are {columns}.")
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
