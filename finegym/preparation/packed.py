"""Compressed tar archives, whole or cut into numbered parts, unpacked once into a plain tar from which videos are read
by position."""

import gzip
import io
import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from finegym.data.files import replacing, write_text
from finegym.data.text import read_json

from .sources import free_bytes


SUFFIXES = (".tar.gz", ".tgz")
# The parts into which large archives are cut: `cat NAME-?? | tar zx`.
PART = re.compile(r"(.+)-[0-9]{2}")
GZIP = b"\x1f\x8b"
# Videos hardly shrink; what grows more than this is no archive of videos.
MAX_GROWTH = 20
BLOCK_BYTES = 2**20


class _Joined(io.RawIOBase):
    """The bytes of several files, one after the other."""

    def __init__(self, paths: Sequence[Path]):
        super().__init__()
        self._paths = list(paths)
        self._file = open(self._paths.pop(0), "rb")  # noqa: SIM115 (closed with this object)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while not (count := self._file.readinto(buffer)) and self._paths:
            self._file.close()
            self._file = open(self._paths.pop(0), "rb")  # noqa: SIM115
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def find_packed(folder: Path) -> list[list[Path]]:
    """Return the compressed tar archives below a folder, each as the list of its parts in order."""
    archives: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        part = PART.fullmatch(path.name)
        if path.is_file() and path.name.lower().endswith(SUFFIXES):
            archives[path] = [path]
        elif path.is_file() and part and not path.suffix:
            archives.setdefault(path.with_name(part[1]), []).append(path)
    return [parts for parts in archives.values() if _begins_as_gzip(parts[0])]


def unpack(parts: Sequence[Path], target: Path) -> None:
    """Write the plain tar of a compressed one to `target`; one that is there already, of the same parts, is kept.

    Raises:
        ValueError: If the archive is damaged or incomplete, or there is no room for it; the message names it.
    """
    stamp = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in parts]
    note = target.with_suffix(".json")
    if target.is_file() and note.is_file() and read_json(note, what="note", remedy=f"Delete {note}.") == stamp:
        return
    size = sum(path.stat().st_size for path in parts)
    if free_bytes(target.parent) < size:
        raise ValueError(f"{target.parent}: unpacking {parts[0].name} takes {size / 1e9:.1f} GB, more than is free.")
    written = 0
    try:
        with (
            replacing(target) as temporary,
            _Joined(parts) as joined,
            gzip.GzipFile(fileobj=io.BufferedReader(joined)) as stream,
            open(temporary, "wb") as file,
            tqdm(desc=f"Unpacking {parts[0].name}", unit="B", unit_scale=True) as progress,
        ):
            while block := stream.read(BLOCK_BYTES):
                written += file.write(block)
                progress.update(len(block))
                if written > MAX_GROWTH * max(size, BLOCK_BYTES):
                    raise ValueError(f"{parts[0]} unpacks to more than {MAX_GROWTH} times its size: no videos do.")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(
            f"{parts[0]}{f' and the {len(parts) - 1} parts after it' if len(parts) > 1 else ''} cannot be unpacked "
            f"({error}). Download what is incomplete again."
        ) from error
    write_text(note, json.dumps(stamp))


def _begins_as_gzip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == GZIP
