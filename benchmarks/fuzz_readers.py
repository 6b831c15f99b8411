"""Pass files that strangers may write, mutated at random, through every reader of the project.

A reader and a seed name a case. A reader may accept a mutated file, or refuse it with a documented error that names
the file; anything else is a failure.
"""

import hashlib
import json
import random
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch

from finegym.data.checkpoints import load_config
from finegym.data.index import read_coverage, read_index, write_index
from finegym.data.labels import ActionClass, Labels
from finegym.data.text import read_yaml
from finegym.evaluation.table import compare_checkpoints
from finegym.features.fingerprints import fingerprint_files
from finegym.features.shards import Shards
from finegym.hub.foreign_files import read_tensors
from finegym.preparation.annotations import read_categories, read_segments, read_sets, read_split
from finegym.preparation.own_data import plan_own_data
from finegym.preparation.sources import find_video_files
from finegym.training.state import RunState, find_state, load_state, save_state
from finegym.training.sweep import read_variations
from modeling_finegym import FineGymVideoTextConfig


DOCUMENTED = (ValueError, FileNotFoundError)
MAX_SECONDS = 10.0
VALUES = [None, True, -1, 0, 1.5, 10**30, float("nan"), "", "x", "\x1b[2J", "../../x", "\ud800"]
VALUES += [[], {}, [[]], {"x": {}}]
CLIP = "0LtLS9wROrk_E_002407_002435_A_0003_0005"


@dataclass(frozen=True)
class Reader:
    """`make(folder)` writes a valid folder and returns the file to mutate; `read(folder)` reads it."""

    make: Callable[[Path], Path]
    read: Callable[[Path], object]


def mutate(content: bytes, chance: random.Random) -> bytes:
    """Mutate a file: as JSON or CSV if it is one of these, else its bytes."""
    try:
        value = json.loads(content)
    except ValueError:
        value = None
    if isinstance(value, (dict, list)) and chance.random() < 0.8:
        for _ in range(chance.randint(1, 3)):
            value = _change_value(value, chance)
        return json.dumps(value).encode("utf-8", "surrogatepass")
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(data) + 1)
        way = chance.randrange(6)
        if way == 0:
            del data[place:]
        elif way == 1:
            data[place : place + 1] = bytes([chance.randrange(256)])
        elif way == 2:
            data[place:place] = bytes(chance.randrange(256) for _ in range(chance.randrange(8)))
        elif way == 3:
            del data[place : place + chance.randrange(64)]
        elif way == 4:
            data[place:place] = data[place : place + chance.randrange(256)]
        else:
            number = chance.choice([0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1])
            data[place : place + 8] = number.to_bytes(8, chance.choice(["little", "big"]))
    return bytes(data)


def _change_value(value, chance: random.Random):
    """Replace, drop, repeat or rename one part of a JSON value."""
    if not isinstance(value, (dict, list)) or not value or chance.random() < 0.15:
        return chance.choice(VALUES)
    value = value.copy()
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = chance.choice(keys)
    way = chance.randrange(5)
    if way == 0:
        del value[key]
    elif way == 1 and isinstance(value, dict):
        value[chance.choice(["", "x", "id", "../x", "9" * 50])] = value.pop(key)
    elif way == 2 and isinstance(value, list):
        value.append(value[key])
    else:
        value[key] = _change_value(value[key], chance)
    return value


def _labels(folder: Path) -> Path:
    Labels("x", [ActionClass(0, "a", "a", "VT", 1, "v", 1, (1,)), ActionClass(1, "b", "b")], ["", "p"]).write(
        folder / "labels.json"
    )
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
    for name in ("a.mp4", "b.mp4"):
        (folder / "leap").mkdir(exist_ok=True)
        (folder / "leap" / name).write_bytes(b"video")


ROWS = [{"file_name": f"leap/{name}.mp4", "label": "leap", "start": 0.5, "end": 2, "split": "train"} for name in "ab"]


def _metadata(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        _videos(folder)
        path = folder / name
        if name.endswith("csv"):
            path.write_text("\n".join([",".join(ROWS[0]), *(",".join(map(str, row.values())) for row in ROWS)]))
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


def _written(name: str, text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return make


SEGMENTS = {
    CLIP[:11]: {
        CLIP[12:27]: {
            "event": 4,
            "timestamps": [[2407.32, 2435.28]],
            "segments": {CLIP[28:]: {"timestamps": [[3.45, 5.64]], "stages": 1}},
        }
    }
}
METRICS = {
    "top1": 50.0,
    "mean_class_accuracy": 40.0,
    "num_parameters": 7,
    "num_evaluated": 1,
    "num_expected": 2,
    "dataset": "x",
    "split": "val",
    "trained_on": [{"dataset": "x", "annotation_version": "v1.0"}],
}


def _metrics(folder: Path) -> Path:
    (folder / "run").mkdir()
    return _written("run/metrics.json", json.dumps(METRICS))(folder)


def _state(folder: Path) -> Path:
    tensors = {"model": {"w": torch.zeros(2)}, "optimizer": {"momentum_buffer/w": torch.zeros(2)}}
    return save_state(folder, RunState(3, {"name": "x"}, "h", {"a": "b"}, tensors=tensors), keep=1) / "state.json"


def _read_state(folder: Path) -> RunState:
    """Read the state with a hash that fits the mutated file, as an attacker would write it."""
    state = folder / "step_00000003"
    manifest = json.loads((state / "manifest.json").read_text())
    manifest["state.json"] = hashlib.sha256((state / "state.json").read_bytes()).hexdigest()
    (state / "manifest.json").write_text(json.dumps(manifest))
    return load_state(find_state(folder))


def _shard(folder: Path) -> Path:
    videos = {"a": {"key": "k", "weights": [1.0], "reason": None}}
    (folder / "metadata.json").write_text(json.dumps(videos))
    return folder / "metadata.json"


def _read_shard(folder: Path) -> Shards:
    text = (folder / "metadata.json").read_text(encoding="utf-8", errors="replace")
    content = safetensors.torch.save({"a": torch.zeros(1, 4, 8)}, metadata={"videos": text})
    name = f"features-w-{hashlib.sha256(content).hexdigest()[:32]}.safetensors"
    (folder / name).write_bytes(content)
    try:
        return Shards(folder)
    except ValueError as error:
        raise ValueError(f"metadata.json: {error}") from error  # the mutated file


def _sources(folder: Path) -> Path:
    (folder / "a.mp4").write_bytes(b"video")
    fingerprint_files([folder / "a.mp4"], folder / "sources.json")
    (folder / "sources.json").write_text(json.dumps({str(folder / "a.mp4"): [5, 1, 2, 3, "0" * 64]}))
    return folder / "sources.json"


def _config(folder: Path) -> Path:
    FineGymVideoTextConfig(attribute_names=["", "p"], hidden_size=32, num_attention_heads=4).save_pretrained(folder)
    return folder / "config.json"


def _weights(folder: Path) -> Path:
    torch.save({"state_dict": {"x.weight": torch.zeros(3, 2)}}, folder / "x.pth")
    return folder / "x.pth"


def _archive(folder: Path) -> Path:
    import io
    import tarfile

    with tarfile.open(folder / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("leap/a.mp4", f"leap/{'ü' * 70}.mp4"):
            member = tarfile.TarInfo(name)
            member.size = 5
            archive.addfile(member, io.BytesIO(b"video"))
    return folder / "a.tar"


def _plan(folder: Path) -> object:
    return plan_own_data(str(folder), name="x")


RECIPE = "name: x\nmodel:\n  architecture: slowonly\ndata: {root: data, scale: [0.1, 1.0]}\n"
SETS = "set: 1; VT_0\nset: 2; FX_0\n"
CATEGORIES = "Clabel: 0; set: 1; Glabel: 1; (VT) leap\nClabel: 1; set: 1; Glabel: 2; (VT) turn\n"
READERS = {
    "labels": Reader(_labels, lambda folder: Labels.read(folder / "labels.json")),
    "index": Reader(_index, lambda folder: read_index(folder, "val")),
    "coverage": Reader(_coverage, lambda folder: read_coverage(folder, "val")),
    "metadata.csv": Reader(_metadata("metadata.csv"), _plan),
    "metadata.jsonl": Reader(_metadata("metadata.jsonl"), _plan),
    "metadata.parquet": Reader(_metadata("metadata.parquet"), _plan),
    "attributes": Reader(_attributes, _plan),
    "split": Reader(_written("x.txt", f"{CLIP} 3\n"), lambda folder: read_split(folder / "x.txt")),
    "sets": Reader(_written("x.txt", SETS), lambda folder: read_sets(folder / "x.txt")),
    "categories": Reader(_written("x.txt", CATEGORIES), lambda folder: read_categories(folder / "x.txt")),
    "segments": Reader(_written("x.json", json.dumps(SEGMENTS)), lambda folder: read_segments(folder / "x.json")),
    "metrics": Reader(_metrics, compare_checkpoints),
    "recipe": Reader(_written("x.yaml", RECIPE), lambda folder: read_yaml(folder / "x.yaml", what="recipe")),
    "sweep": Reader(_written("x.yaml", "seed: [0, 1]\n"), lambda folder: read_variations(folder / "x.yaml")),
    "state": Reader(_state, _read_state),
    "features": Reader(_shard, _read_shard),
    "sources": Reader(_sources, lambda folder: fingerprint_files([folder / "a.mp4"], folder / "sources.json")),
    "config": Reader(_config, load_config),
    "foreign weights": Reader(_weights, lambda folder: read_tensors(folder / "x.pth")),
    "archive": Reader(_archive, find_video_files),
}


def run_case(name: str, chance: random.Random, folder: Path) -> str | None:
    """Read one mutated file in an empty folder; return what went wrong, or None."""
    reader = READERS[name]
    path = reader.make(folder)
    path.write_bytes(mutate(path.read_bytes(), chance))
    start = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(folder)
    except DOCUMENTED as error:
        text = str(error)
        # about a whole folder the message may name the folder, as where nothing in it is a video
        if path.name not in text and path.parent.name not in text and folder.name not in text:
            return f"{type(error).__name__} without the file's name: {text[:200]}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    seconds = time.process_time() - start
    return f"took {seconds:.0f} s" if seconds > MAX_SECONDS else None
