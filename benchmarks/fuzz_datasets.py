"""The readers of what describes videos: metadata, annotations of published sets, archives, prepared folders."""

import csv
import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from finegym.data.index import read_coverage, read_index, write_index
from finegym.data.labels import ActionClass, Labels
from finegym.preparation.annotations import read_categories, read_segments, read_sets, read_split
from finegym.preparation.own_data import plan_own_data
from finegym.preparation.published_sets import plan_published_set, read_published_set
from finegym.preparation.sources import find_video_files

from .fuzz_mutations import Reader, written


CLIP = "0LtLS9wROrk_E_002407_002435_A_0003_0005"
ROWS = [{"file_name": f"leap/{name}.mp4", "label": "leap", "start": 0.5, "end": 2, "split": "train"} for name in "ab"]
SEGMENTS = {
    CLIP[:11]: {
        CLIP[12:27]: {
            "event": 4,
            "timestamps": [[2407.32, 2435.28]],
            "segments": {CLIP[28:]: {"timestamps": [[3.45, 5.64]], "stages": 1}},
        }
    }
}
SETS = "set: 1; VT_0\nset: 2; FX_0\n"
CATEGORIES = "Clabel: 0; set: 1; Glabel: 1; (VT) leap\nClabel: 1; set: 1; Glabel: 2; (VT) turn\n"
# A class of Diving48 and its lists; Something-Something's classes, lists and answers.
DIVES = {
    "Diving48_vocab.json": [["Back", "15som", "05Twis", "FREE"], ["Forward", "15som", "NoTwis", "PIKE"]],
    "Diving48_V2_train.json": [{"vid_name": "a", "label": 0, "start_frame": 0, "end_frame": 48}],
    "Diving48_V2_test.json": [{"vid_name": "b", "label": 1, "start_frame": 0, "end_frame": 48}],
}
THINGS = {
    "labels.json": {"Holding something": "0", "Moving something": "1"},
    "train.json": [{"id": "1", "template": "Holding [something]"}],
    "validation.json": [{"id": "2", "template": "Moving [something]"}],
}


def _labels(folder: Path) -> Path:
    classes = [ActionClass(0, "a", "a", "VT", 1, "v", 1, (1,)), ActionClass(1, "b", "b")]
    Labels("x", classes, ["", "p"]).write(folder / "labels.json")
    return folder / "labels.json"


def _coverage(folder: Path) -> Path:
    part = {"num_expected": 2, "num_present": 1, "missing": {"a": "video absent"}, "empty_classes": [1]}
    (folder / "coverage.json").write_text(json.dumps({"annotation_version": "v1.0", "splits": {"val": part}}))
    return folder / "coverage.json"


def _index(folder: Path) -> Path:
    rows = [
        {"id": f"{n}", "file": f"clips/{n}.mp4", "split": "val", "label": n, "num_frames": 9, "fps": 25.0}
        for n in range(3)
    ]
    return write_index(folder, rows)


def _videos(folder: Path) -> None:
    (folder / "leap").mkdir(exist_ok=True)
    for name in ("a.mp4", "b.mp4"):
        (folder / "leap" / name).write_bytes(b"video")


def _metadata(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        _videos(folder)
        path = folder / name
        if name.endswith("csv"):
            with open(path, "w", newline="") as file:
                writer = csv.DictWriter(file, ROWS[0])
                writer.writeheader()
                writer.writerows(ROWS)
        elif name.endswith("jsonl"):
            path.write_text("\n".join(json.dumps({**row, "attributes": ["p"]}) for row in ROWS))
        else:
            pq.write_table(pa.Table.from_pylist(ROWS), path)
        return path

    return make


def _attributes(folder: Path) -> Path:
    _videos(folder)
    (folder / "attributes.json").write_text(json.dumps({"leap": ["split", "high"]}))
    return folder / "attributes.json"


def _archive(folder: Path) -> Path:
    with tarfile.open(folder / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("leap/a.mp4", f"leap/{'ü' * 70}.mp4"):
            member = tarfile.TarInfo(name)
            member.size = 5
            archive.addfile(member, io.BytesIO(b"video"))
    return folder / "a.tar"


def _published(files: dict[str, object], mutated: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        for name, content in files.items():
            (folder / name).write_text(json.dumps(content))
        (folder / "test-answers.csv").write_text("3;Holding something\n4;Moving something\n")
        return folder / mutated

    return make


def _packed(folder: Path) -> Path:
    for name, content in DIVES.items():
        (folder / name).write_text(json.dumps(content))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("rgb/a.mp4")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"video"))
    (folder / "rgb.tar.gz").write_bytes(gzip.compress(packed.getvalue()))
    return folder / "rgb.tar.gz"


def _read_packed(folder: Path) -> object:
    published = read_published_set("diving48", folder, name="x")
    (folder / "root").mkdir()
    return plan_published_set(published, folder, folder / "root")


def _plan(folder: Path) -> object:
    return plan_own_data(str(folder), name="x")


def _read_diving48(folder: Path) -> object:
    return read_published_set("diving48", folder, name="x")


def _read_ssv2(folder: Path) -> object:
    return read_published_set("ssv2", folder, name="x")


DATASETS = {
    "labels": Reader(_labels, lambda folder: Labels.read(folder / "labels.json")),
    "index": Reader(_index, lambda folder: read_index(folder, "val")),
    "coverage": Reader(_coverage, lambda folder: read_coverage(folder, "val")),
    "metadata.csv": Reader(_metadata("metadata.csv"), _plan),
    "metadata.jsonl": Reader(_metadata("metadata.jsonl"), _plan),
    "metadata.parquet": Reader(_metadata("metadata.parquet"), _plan),
    "attributes": Reader(_attributes, _plan),
    "split": Reader(written("x.txt", f"{CLIP} 3\n"), lambda folder: read_split(folder / "x.txt")),
    "sets": Reader(written("x.txt", SETS), lambda folder: read_sets(folder / "x.txt")),
    "categories": Reader(written("x.txt", CATEGORIES), lambda folder: read_categories(folder / "x.txt")),
    "segments": Reader(written("x.json", json.dumps(SEGMENTS)), lambda folder: read_segments(folder / "x.json")),
    "diving48 classes": Reader(_published(DIVES, "Diving48_vocab.json"), _read_diving48),
    "diving48 list": Reader(_published(DIVES, "Diving48_V2_train.json"), _read_diving48),
    "ssv2 classes": Reader(_published(THINGS, "labels.json"), _read_ssv2),
    "ssv2 list": Reader(_published(THINGS, "train.json"), _read_ssv2),
    "ssv2 answers": Reader(_published(THINGS, "test-answers.csv"), _read_ssv2),
    "archive": Reader(_archive, find_video_files),
    "packed archive": Reader(_packed, _read_packed),
}
