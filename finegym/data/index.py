"""The prepared dataset on disk: which clips there are, and which of the expected ones are missing.

A prepared folder holds `clips/<id>.mp4` (or any other layout), `index.parquet` (one row a clip), `coverage.json` (what
was expected, what is missing and why) and `labels.json`. `datasets.load_dataset("parquet",
data_files=".../index.parquet")` reads the index too.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .files import replacing, write_text


INDEX_FILE = "index.parquet"
COVERAGE_FILE = "coverage.json"
LABELS_FILE = "labels.json"
SPLITS = ("train", "val")

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
class Clip:
    """One clip of an index. `start` and `end` are seconds within the file; None means the whole file."""

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
        num_expected: clips the annotation lists.
        num_present: clips the index holds.
        missing: id of every clip that is not there -> the reason.
        annotation_version: the version of the annotation, such as "v1.0"; "own" for data without one.
        empty_classes: ids of the classes without a single clip in this split.
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
        ValueError: naming the clip, if an id repeats within a split or a file would lie outside `root`.
    """
    rows = sorted(rows, key=lambda row: (row["split"], row["id"]))
    seen = set()
    for row in rows:
        if row["split"] not in SPLITS:
            raise ValueError(f"Clip {row['id']!r} has split {row['split']!r}; the splits are {' and '.join(SPLITS)}.")
        if (row["split"], row["id"]) in seen:
            raise ValueError(f"Clip {row['id']!r} stands twice in split {row['split']!r}; ids must be unique.")
        seen.add((row["split"], row["id"]))
        _check_inside(row["file"], f"Clip {row['id']!r}")
    table = pa.Table.from_pylist([{name: row.get(name) for name in SCHEMA.names} for row in rows], schema=SCHEMA)
    path = Path(root) / INDEX_FILE
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return path


def read_index(root: str | Path, split: str) -> list[Clip]:
    """Read one split of a prepared folder, sorted by clip id.

    Raises:
        FileNotFoundError: if the folder has no index.
        ValueError: naming the file, if it is not an index, has no clip in `split` or names a file outside the folder.
    """
    root = Path(root)
    path = root / INDEX_FILE
    if not path.is_file():
        raise FileNotFoundError(f"There is no {INDEX_FILE} in {root}. `finegym prepare` makes one.")
    try:
        table = pq.read_table(path, columns=SCHEMA.names).cast(SCHEMA)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise ValueError(f"{path} is not an index of clips ({error}). `finegym prepare` writes it anew.") from error
    rows = [row for row in table.to_pylist() if row["split"] == split]
    if not rows:
        present = sorted(set(table["split"].to_pylist()))
        raise ValueError(f"{path} has no clip in split {split!r}; its splits are {present}.")
    clips = []
    for row in sorted(rows, key=lambda row: row["id"]):
        _check_inside(row["file"], f"{path}: clip {row['id']!r}")
        path_of_clip = (root / row["file"]).absolute()
        clips.append(Clip(row["id"], path_of_clip, row["label"], row["num_frames"], row["start"], row["end"]))
    return clips


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
    if not path.is_file():
        raise FileNotFoundError(f"There is no {COVERAGE_FILE} in {root}. `finegym prepare` writes one.")
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        part = report["splits"][split]
        return Coverage(
            num_expected=part["num_expected"],
            num_present=part["num_present"],
            missing=dict(part["missing"]),
            annotation_version=report["annotation_version"],
            empty_classes=list(part["empty_classes"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has no coverage of split {split!r} ({type(error).__name__}: {error}).") from error


def _check_inside(file: str, owner: str) -> None:
    parts = PurePosixPath(file).parts
    if not parts or file.startswith("/") or ".." in parts or "\\" in file or "\0" in file:
        raise ValueError(f"{owner} names the file {file!r}, which is not a path inside the dataset folder.")
