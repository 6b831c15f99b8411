"""The prepared data set on disk: which videos there are, and which of the expected ones are missing.

A prepared folder contains `clips/<id>.mp4` (or any other layout), `index.parquet` (one row per video), `coverage.json`
(what was expected, what is missing and why) and `labels.json`. `datasets.load_dataset("parquet",
data_files=".../index.parquet")` reads the index too.
"""

import contextlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .files import replacing, write_text
from .text import check_count, check_text, read_json, shorten


INDEX_FILE = "index.parquet"
COVERAGE_FILE = "coverage.json"
LABELS_FILE = "labels.json"
SPLITS = ("train", "val", "test")
# Fifty times Kinetics-700; a table that claims more rows is not read.
MAX_ROWS = 2**25

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("num_frames", pa.int32(), nullable=False),
        pa.field("fps", pa.float64()),
        pa.field("start", pa.float64()),
        pa.field("end", pa.float64()),
        pa.field("group", pa.string()),
        pa.field("fold", pa.int32()),
        pa.field("spans", pa.list_(pa.struct({"attribute": pa.int32(), "start": pa.float64(), "end": pa.float64()}))),
    ]
)
# Indexes written before these columns existed are read as if their values were not known.
OPTIONAL_COLUMNS = ("group", "fold", "spans")


@dataclass(frozen=True)
class AttributeSpan:
    """A stretch of a video in which an attribute happens: its id, and the seconds within the file."""

    attribute: int
    start: float
    end: float


@dataclass(frozen=True)
class Video:
    """One row of an index: a video file, or a stretch of it.

    Attributes:
        start, end: The seconds within the file; None means the whole file.
        fps: The number of frames per second, or None if it is not known.
        group: What the video shares with others that must be on the same side of every split, such as the video it was
            cut from, the athlete or the day. None if it is not known.
        fold: Of several folds the one that validates on this video, or None if there are no folds.
        spans: When each attribute happens, or None if it is not known. An attribute may happen twice.
    """

    id: str
    path: Path
    label: int
    num_frames: int
    start: float | None = None
    end: float | None = None
    group: str | None = None
    fold: int | None = None
    fps: float | None = None
    spans: tuple[AttributeSpan, ...] | None = None


@dataclass(frozen=True)
class Coverage:
    """How much of one split of the annotation is present.

    Attributes:
        num_expected: The number of videos that the annotation lists.
        num_present: The number of videos that the index holds.
        missing: The id of every video that is not there -> the reason.
        annotation_version: The version of the annotation, such as "v1.0"; "own" for data without one.
        empty_classes: The ids of the classes without a single video in this split.
        optical_flow: How the videos' optical flow was computed, as `finegym flow` writes it; None where the videos
            hold pictures.
    """

    num_expected: int
    num_present: int
    missing: dict[str, str]
    annotation_version: str
    empty_classes: list[int]
    optical_flow: dict[str, Any] | None = None


def write_index(root: str | Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write `root/index.parquet`; the same rows in any order yield the same bytes.

    Args:
        root: The prepared folder.
        rows: Mappings with `id`, `file` (relative to `root`, with forward slashes), `split` ("train", "val" or
            "test"), `label`, `num_frames` and, if known, `fps`, `start` and `end` in seconds, `group`, `fold` and
            `spans`, a list of mappings with `attribute` (its id), `start` and `end` in seconds.

    Raises:
        ValueError: If an id repeats within a split, a file would be outside `root`, or a group is on two sides of a
            split or in two folds; the message names the video or the group.
    """
    rows = sorted(rows, key=lambda row: (row["split"], row["id"]))
    seen = set()
    for row in rows:
        if row["split"] not in SPLITS:
            raise ValueError(f"Video {row['id']!r} has split {row['split']!r}; the splits are {', '.join(SPLITS)}.")
        if (row["split"], row["id"]) in seen:
            raise ValueError(f"Video {row['id']!r} occurs twice in split {row['split']!r}; ids must be unique.")
        seen.add((row["split"], row["id"]))
        check_inside(row["file"], f"Video {row['id']!r}")
    check_groups(rows)
    table = pa.Table.from_pylist([{name: row.get(name) for name in SCHEMA.names} for row in rows], schema=SCHEMA)
    path = Path(root) / INDEX_FILE
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return path


def check_groups(rows: Iterable[Mapping[str, Any]]) -> None:
    """Refuse to split a group.

    Args:
        rows: Mappings with `split` and, where they are known, `group` and `fold`.

    Raises:
        ValueError: If a group is on two sides of a split or in two folds; the message names it.
    """
    sides: dict[str, tuple[str, int | None]] = {}
    for row in rows:
        group = row.get("group")
        if group is None:
            continue
        side = (row["split"], row.get("fold"))
        if sides.setdefault(group, side) != side:
            (split, fold), (other_split, other_fold) = sides[group], side
            where = f"{split} and {other_split}" if split != other_split else f"folds {fold} and {other_fold}"
            raise ValueError(
                f"The group {group!r} is in {where}: a model would be validated on what it was trained on. Give all "
                "its videos the same split, or leave the splits out so that they are drawn by group."
            )


def read_index(root: str | Path, split: str, *, fold: int | None = None) -> list[Video]:
    """Read one split of a prepared folder, sorted by video id.

    Args:
        root: The prepared folder.
        split: "train", "val" or "test".
        fold: Of a folder with folds, the one to validate on. Its videos are then "val", and those of all the other
            folds "train". "test" is the same for every fold.

    Raises:
        FileNotFoundError: If the folder has no index.
        ValueError: If the file is not an index, has no video in `split`, no such fold, or names a file outside the
            folder; the message names it.
    """
    root = Path(root)
    path = root / INDEX_FILE
    if not path.is_file():
        raise FileNotFoundError(f"There is no {INDEX_FILE} in {root}. `finegym prepare` makes one.")
    try:
        rows = read_rows(path, SCHEMA, optional=OPTIONAL_COLUMNS)
    except ValueError as error:
        raise ValueError(f"{path} is not an index of videos ({error}). `finegym prepare` writes it again.") from error
    if fold is not None:
        rows = [{**row, "split": _split_of_fold(row, fold)} for row in rows]
        folds = sorted({row["fold"] for row in rows if row["fold"] is not None})
        if fold not in folds:
            cure = "`finegym import --folds 5` makes some" if not folds else f"its folds are {shorten(folds)}"
            raise ValueError(f"{path} has no fold {fold}; {cure}.")
    present = sorted({row["split"] for row in rows})
    rows = [row for row in rows if row["split"] == split]
    if not rows:
        raise ValueError(f"{path} has no video in split {split!r}; its splits are {shorten(present)}.")
    videos: list[Video] = []
    for row in sorted(rows, key=lambda row: row["id"]):
        _check_row(row, path)
        if videos and videos[-1].id == row["id"]:
            raise ValueError(f"{path}: video {row['id']!r} occurs twice in split {split!r}; ids must be unique.")
        path_of_file = (root / row["file"]).absolute()
        known = {name: row[name] for name in ("id", "label", "num_frames", "fps", "start", "end", "group", "fold")}
        spans = None if row["spans"] is None else tuple(AttributeSpan(**span) for span in row["spans"])
        videos.append(Video(path=path_of_file, spans=spans, **known))
    return videos


def read_rows(
    path: str | Path, schema: pa.Schema | None = None, *, optional: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Read a Parquet file as mappings.

    Args:
        schema: The columns to read and their types; None reads all of them.
        optional: Columns of the schema that may be absent; their values are None then.

    Raises:
        ValueError: If it is not a Parquet file, lacks a column, or claims more rows than `MAX_ROWS`.
    """
    try:
        with pq.ParquetFile(path, thrift_string_size_limit=2**26, thrift_container_size_limit=2**20) as file:
            if file.metadata.num_rows > MAX_ROWS:
                raise ValueError(f"it claims {file.metadata.num_rows:,} rows, more than {MAX_ROWS:,}")
            absent = [name for name in optional if name not in file.schema_arrow.names]
            table = file.read(columns=schema and [name for name in schema.names if name not in absent])
            for name in absent:
                table = table.append_column(name, pa.nulls(len(table)))
            table = table.select(schema.names) if schema else table
        return (table.cast(schema) if schema else table).to_pylist()
    except (pa.ArrowException, ValueError, OSError, KeyError, OverflowError, MemoryError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def _split_of_fold(row: Mapping[str, Any], fold: int) -> str:
    if row["fold"] is None:
        return row["split"]
    return "val" if row["fold"] == fold else "train"


def read_rows_of(root: str | Path) -> list[tuple[str, Video]]:
    """Read all splits of a prepared folder: the split and the video of each row, sorted by both.

    Raises the errors of `read_index`.
    """
    path = Path(root) / INDEX_FILE
    splits = SPLITS[:1]
    if path.is_file():
        with contextlib.suppress(ValueError):  # which `read_index` reports
            present = {row["split"] for row in read_rows(path, SCHEMA, optional=OPTIONAL_COLUMNS)}
            splits = [split for split in SPLITS if split in present] or splits
    return [(split, video) for split in splits for video in read_index(root, split)]


def write_coverage(root: str | Path, report: Mapping[str, Any]) -> Path:
    """Write `root/coverage.json`: `annotation_version` and, under `splits`, the fields of `Coverage` for each split.

    Other keys (such as the ceiling on the mean class accuracy) are kept for people to read.
    """
    path = Path(root) / COVERAGE_FILE
    write_text(path, json.dumps(report, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    return path


def read_coverage(root: str | Path, split: str, *, fold: int | None = None) -> Coverage:
    """Read how complete one split is, as `read_index` divides it.

    Raises:
        FileNotFoundError: If the folder has no coverage report.
        ValueError: If the file is not a report or does not cover `split`; the message names it.
    """
    path = Path(root) / COVERAGE_FILE
    report = read_json(path, what="coverage report", remedy="`finegym prepare` writes one.")
    try:
        parts = report["splits"] if fold is None or split == "test" else report["folds"][fold]
        if split not in parts:
            raise ValueError(f"it has {', '.join(parts)}")
        part = parts[split]
        missing, empty_classes = part["missing"], part["empty_classes"]
        if not isinstance(missing, dict) or not all(isinstance(reason, str) for reason in missing.values()):
            raise ValueError("`missing` does not give a reason for each id")
        if not isinstance(empty_classes, list):
            raise ValueError("`empty_classes` is not a list")
        if not isinstance(report.get("optical_flow", {}), dict):
            raise ValueError("`optical_flow` is not a table")
        num_expected, num_present = check_count(part["num_expected"]), check_count(part["num_present"])
        if num_present + len(missing) != num_expected:
            raise ValueError(f"{num_present} present and {len(missing)} missing are not {num_expected} expected")
        return Coverage(
            num_expected=num_expected,
            num_present=num_present,
            missing=missing,
            annotation_version=check_text(report["annotation_version"]),
            empty_classes=[check_count(label) for label in empty_classes],
            optical_flow=report.get("optical_flow"),
        )
    except (IndexError, KeyError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} has no coverage of split {split!r} ({reason}).") from error


def _check_row(row: Mapping[str, Any], path: Path) -> None:
    """Refuse a row of an index that no video can have."""
    try:
        check_text(row["id"], what="id")
        check_count(row["label"])
        check_count(row["num_frames"])
        times = [row[name] for name in ("start", "end") if row[name] is not None]
        if not all(math.isfinite(time) and time >= 0 for time in times) or times != sorted(set(times)):
            raise ValueError(f"it lasts from {row['start']} s to {row['end']} s")
        for span in row["spans"] or ():
            check_count(span["attribute"])
            if not all(isinstance(span[edge], float) for edge in ("start", "end")) or not (
                0 <= span["start"] < span["end"] < math.inf
            ):
                raise ValueError(f"attribute {span['attribute']} lasts from {span['start']} s to {span['end']} s")
    except ValueError as error:
        raise ValueError(f"{path}: video {shorten(row['id'])}: {error}. `finegym prepare` writes it again.") from error
    check_inside(row["file"], f"{path}: video {row['id']!r}")


def check_inside(file: str, owner: str) -> None:
    """Refuse the path of a file that does not lie in the data set folder.

    Raises:
        ValueError: If it leads elsewhere; the message names `owner` and the path.
    """
    parts = PurePosixPath(file).parts
    if not parts or file.startswith("/") or ".." in parts or "\\" in file or "\0" in file:
        raise ValueError(f"{owner} names the file {file!r}, which is not a path inside the data set folder.")
