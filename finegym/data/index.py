"""The prepared dataset on disk: which videos there are, and which of the expected ones are missing.

A prepared folder holds `clips/<id>.mp4` (or any other layout), `index.parquet` (one row per video), `coverage.json`
(what was expected, what is missing and why) and `labels.json`. `datasets.load_dataset("parquet",
data_files=".../index.parquet")` reads the index too.
"""

import json
import math
from collections.abc import Iterable, Mapping
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
SPLITS = ("train", "val")
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
    ]
)


@dataclass(frozen=True)
class Video:
    """One row of an index: a video file, or the stretch of it from `start` to `end` in seconds (None: all of it)."""

    id: str
    path: Path
    label: int
    num_frames: int
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Coverage:
    """How much of one split of the annotation is really there.

    Attributes:
        num_expected: videos the annotation lists.
        num_present: videos the index holds.
        missing: id of every video that is not there -> the reason.
        annotation_version: the version of the annotation, such as "v1.0"; "own" for data without one.
        empty_classes: ids of the classes without a single video in this split.
    """

    num_expected: int
    num_present: int
    missing: dict[str, str]
    annotation_version: str
    empty_classes: list[int]


def write_index(root: str | Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write `root/index.parquet`; the same rows in any order give the same bytes.

    Args:
        root: the prepared folder.
        rows: mappings with `id`, `file` (relative to `root`, with forward slashes), `split` ("train" or "val"),
            `label`, `num_frames` and, if known, `fps`, `start` and `end` in seconds.

    Raises:
        ValueError: naming the video, if an id repeats within a split or a file would lie outside `root`.
    """
    rows = sorted(rows, key=lambda row: (row["split"], row["id"]))
    seen = set()
    for row in rows:
        if row["split"] not in SPLITS:
            raise ValueError(f"Video {row['id']!r} has split {row['split']!r}; the splits are {' and '.join(SPLITS)}.")
        if (row["split"], row["id"]) in seen:
            raise ValueError(f"Video {row['id']!r} stands twice in split {row['split']!r}; ids must be unique.")
        seen.add((row["split"], row["id"]))
        _check_inside(row["file"], f"Video {row['id']!r}")
    table = pa.Table.from_pylist([{name: row.get(name) for name in SCHEMA.names} for row in rows], schema=SCHEMA)
    path = Path(root) / INDEX_FILE
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return path


def read_index(root: str | Path, split: str) -> list[Video]:
    """Read one split of a prepared folder, sorted by video id.

    Raises:
        FileNotFoundError: if the folder has no index.
        ValueError: naming the file, if it is not an index, has no video in `split` or names a file outside the folder.
    """
    root = Path(root)
    path = root / INDEX_FILE
    if not path.is_file():
        raise FileNotFoundError(f"There is no {INDEX_FILE} in {root}. `finegym prepare` makes one.")
    try:
        table = read_rows(path, SCHEMA)
    except ValueError as error:
        raise ValueError(f"{path} is not an index of videos ({error}). `finegym prepare` writes it anew.") from error
    rows = [row for row in table if row["split"] == split]
    if not rows:
        present = sorted({row["split"] for row in table})
        raise ValueError(f"{path} has no video in split {split!r}; its splits are {shorten(present)}.")
    videos: list[Video] = []
    for row in sorted(rows, key=lambda row: row["id"]):
        _check_row(row, path)
        if videos and videos[-1].id == row["id"]:
            raise ValueError(f"{path}: video {row['id']!r} stands twice in split {split!r}; ids must be unique.")
        path_of_file = (root / row["file"]).absolute()
        videos.append(Video(row["id"], path_of_file, row["label"], row["num_frames"], row["start"], row["end"]))
    return videos


def read_rows(path: str | Path, schema: pa.Schema | None = None) -> list[dict[str, Any]]:
    """Read a Parquet file as mappings.

    Args:
        schema: the columns to read and their types; None: all of them.

    Raises:
        ValueError: if it is no Parquet file, lacks a column, or claims more rows than `MAX_ROWS`.
    """
    try:
        with pq.ParquetFile(path, thrift_string_size_limit=2**26, thrift_container_size_limit=2**20) as file:
            if file.metadata.num_rows > MAX_ROWS:
                raise ValueError(f"it claims {file.metadata.num_rows:,} rows, more than {MAX_ROWS:,}")
            table = file.read(columns=schema and schema.names)
        return (table.cast(schema) if schema else table).to_pylist()
    except (pa.ArrowException, ValueError, OSError, KeyError, OverflowError, MemoryError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def write_coverage(root: str | Path, report: Mapping[str, Any]) -> Path:
    """Write `root/coverage.json`: `annotation_version` and, under `splits`, the fields of `Coverage` for each split.

    Other keys (such as the ceiling on the mean class accuracy) are kept for people to read.
    """
    path = Path(root) / COVERAGE_FILE
    write_text(path, json.dumps(report, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    return path


def read_coverage(root: str | Path, split: str) -> Coverage:
    """Read what is known about the completeness of one split.

    Raises:
        FileNotFoundError: if the folder has no coverage report.
        ValueError: naming the file, if it is not a report or does not speak of `split`.
    """
    path = Path(root) / COVERAGE_FILE
    report = read_json(path, what="coverage report", remedy="`finegym prepare` writes one.")
    try:
        part = report["splits"][split]
        missing, empty_classes = part["missing"], part["empty_classes"]
        if not isinstance(missing, dict) or not all(isinstance(reason, str) for reason in missing.values()):
            raise ValueError("`missing` does not give a reason for each id")
        if not isinstance(empty_classes, list):
            raise ValueError("`empty_classes` is no list")
        num_expected, num_present = check_count(part["num_expected"]), check_count(part["num_present"])
        if num_present + len(missing) != num_expected:
            raise ValueError(f"{num_present} present and {len(missing)} missing are not {num_expected} expected")
        return Coverage(
            num_expected=num_expected,
            num_present=num_present,
            missing=missing,
            annotation_version=check_text(report["annotation_version"]),
            empty_classes=[check_count(label) for label in empty_classes],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has no coverage of split {split!r} ({type(error).__name__}: {error}).") from error


def _check_row(row: Mapping[str, Any], path: Path) -> None:
    """Raises `ValueError` for a row of an index that no clip can have."""
    try:
        check_text(row["id"], what="id")
        check_count(row["label"])
        check_count(row["num_frames"])
        times = [row[name] for name in ("start", "end") if row[name] is not None]
        if not all(math.isfinite(time) and time >= 0 for time in times) or times != sorted(set(times)):
            raise ValueError(f"it lasts from {row['start']} s to {row['end']} s")
    except ValueError as error:
        raise ValueError(f"{path}: clip {shorten(row['id'])}: {error}. `finegym prepare` writes it anew.") from error
    _check_inside(row["file"], f"{path}: clip {row['id']!r}")


def _check_inside(file: str, owner: str) -> None:
    parts = PurePosixPath(file).parts
    if not parts or file.startswith("/") or ".." in parts or "\\" in file or "\0" in file:
        raise ValueError(f"{owner} names the file {file!r}, which is not a path inside the dataset folder.")
