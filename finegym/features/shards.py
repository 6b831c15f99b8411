"""Shards: files with the tensors of many videos and their own checksums, and an overview of their contents.

A shard is `features-<work>-<content>.safetensors` with one tensor per video, named after it. It appears as a whole
and is never changed. Its name ends in the hash of its bytes, so that a flipped bit shows; its header says by which
key each tensor was computed.
"""

import contextlib
import fcntl
import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from finegym.data.files import PARTIAL_SUFFIX, replacing
from finegym.data.text import check_text, parse_json, shorten

from .fingerprints import file_fingerprint


INDEX_FILE = "index.parquet"
INDEX_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("name", pa.string()),
        ("shard", pa.string()),
        ("weights", pa.list_(pa.float64())),
        ("reason", pa.string()),
    ]
)
# 128 bits of a SHA-256 in a file name.
DIGEST_LENGTH = 32


@dataclass(frozen=True)
class CachedVideo:
    """Where the features of one video are. A video that cannot be decoded has a reason and no features."""

    shard: Path
    name: str
    weights: tuple[float, ...] = ()
    reason: str | None = None


class Shards:
    """The shards in a folder, and where in them the features of each key are."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.entries: dict[str, CachedVideo] = {}
        self._known: set[str] = set()
        self.scan()

    def scan(self) -> None:
        """Open the shards that are new. A shard whose bytes do not match its name is removed."""
        new = sorted(path for path in self.folder.glob("features-*.safetensors") if path.name not in self._known)
        with ThreadPoolExecutor(4) as pool:
            for path, digest in zip(new, pool.map(_digest_if_there, new), strict=True):
                if digest is None:
                    continue
                if path.stem.rsplit("-", 1)[-1] != digest[:DIGEST_LENGTH]:
                    warnings.warn(
                        f"{path} is damaged. It is removed and its features are computed again.", stacklevel=2
                    )
                    path.unlink(missing_ok=True)
                    continue
                self._known.add(path.name)
                self._take_in(path)

    def _take_in(self, path: Path) -> None:
        try:
            with safe_open(path, framework="pt") as file:
                videos = parse_json((file.metadata() or {})["videos"])
                shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (no dict)
            found = {_key(video): _cached_video(path, name, video, shapes.get(name)) for name, video in videos.items()}
        except (SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} holds no features of this project ({type(error).__name__}: {error}). Delete it, and its "
                "features are computed again."
            ) from error
        self.entries |= found

    def write(self, work: str, tensors: dict[str, torch.Tensor], videos: dict[str, dict[str, Any]]) -> None:
        """Add a shard: features by name and, for each name, the key, the clips' weights and the reason for a
        failure."""
        content = safetensors.torch.save(tensors, metadata={"videos": json.dumps(videos)})
        digest = hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH]
        path = self.folder / f"features-{work}-{digest}.safetensors"
        with replacing(path) as temporary:
            temporary.write_bytes(content)
        self._known.add(path.name)
        self._take_in(path)

    @contextlib.contextmanager
    def claim(self, work: str) -> Iterator[bool]:
        """Lock a piece of work against all other processes; yield False at once if another one holds it.

        The lock is the operating system's, which frees it when its holder dies. What a dead holder left is removed.
        """
        path = self.folder / f".{work}.lock"
        with open(path, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            except OSError as error:
                raise OSError(
                    error.errno, f"The file system of {self.folder} has no file locks: choose a folder on another one"
                ) from error
            for leftover in self.folder.glob(f".features-{work}-*{PARTIAL_SUFFIX}"):
                leftover.unlink(missing_ok=True)
            yield True
            path.unlink(missing_ok=True)  # the work is done, as a process that still waits for this lock will see

    def drop_superseded(self, names: Sequence[str], keys: Sequence[str]) -> None:
        """Drop the entries with one of these names and another key: the features of a file as it was before."""
        current = dict(zip(names, keys, strict=True))
        superseded = {key for key, entry in self.entries.items() if current.get(entry.name, key) != key}
        for shard in {self.entries[key].shard for key in superseded}:
            kept = {
                key: entry for key, entry in self.entries.items() if entry.shard == shard and key not in superseded
            }
            if kept:
                with safe_open(shard, framework="pt") as file:
                    tensors = {entry.name: file.get_tensor(entry.name) for entry in kept.values() if not entry.reason}
                videos = {
                    entry.name: {"key": key, "weights": entry.weights, "reason": entry.reason}
                    for key, entry in kept.items()
                }
                self.write(shard.stem.split("-")[1], tensors, videos)
            shard.unlink()
        for key in superseded:
            del self.entries[key]

    def write_index(self) -> None:
        """Write `index.parquet`: one row per tensor, for people and for `datasets`. The shards are what counts."""
        rows = [
            {
                "key": key,
                "name": entry.name,
                "shard": entry.shard.name,
                "weights": entry.weights,
                "reason": entry.reason,
            }
            for key, entry in sorted(self.entries.items(), key=lambda item: (item[1].name, item[0]))
        ]
        with replacing(self.folder / INDEX_FILE) as temporary:
            pq.write_table(pa.Table.from_pylist(rows, schema=INDEX_SCHEMA), temporary)


def _key(video: dict[str, Any]) -> str:
    return check_text(video["key"], what="key")


def _cached_video(path: Path, name: str, video: dict[str, Any], shape: list[int] | None) -> CachedVideo:
    """Return what a shard says of one video. Raise `ValueError` if that does not fit its tensor."""
    weights, reason = tuple(video["weights"]), video["reason"]
    if reason is not None:
        if not isinstance(reason, str):
            raise ValueError(f"{name}: the reason {shorten(reason)} is not text")
    elif shape is None or len(shape) != 3 or shape[0] != len(weights):
        raise ValueError(f"{name}: {len(weights)} clips have features of shape {shape}")
    if not all(type(weight) in (int, float) for weight in weights):
        raise ValueError(f"{name}: a weight of a clip is not a number")
    return CachedVideo(path, name, weights, reason)


def _digest_if_there(path: Path) -> str | None:
    try:
        return file_fingerprint(path)
    except FileNotFoundError:  # another process has found it damaged
        return None
