"""Finding the videos that a user has, in folders and tar archives, without trusting any name or size in them."""

import contextlib
import hashlib
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from finegym.data.files import PARTIAL_SUFFIX, VIDEO_SUFFIXES


# Archives that cannot be read at a position; they are named in the report rather than passed over.
PACKED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".7z", ".rar")
# Twice the largest of FineGym's videos; a member that claims more is not unpacked.
MAX_MEMBER_BYTES = 8 * 1024**3
# Long names and extended headers are read into memory.
MAX_HEADER_BYTES = 2**20
EXTENSIONS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


@dataclass(frozen=True)
class Source:
    """The bytes of one video: a whole file, or `size` bytes at `offset` of an uncompressed tar archive."""

    path: Path
    name: str
    offset: int = 0
    size: int | None = None

    @contextlib.contextmanager
    def as_file(self, scratch: Path) -> Iterator[Path]:
        """Yield the video as a file of its own; a tar member is copied into `scratch` for the duration of the
        block."""
        if self.size is None:
            yield self.path
            return
        copy = scratch / f".{os.getpid()}{PurePosixPath(self.name).suffix}{PARTIAL_SUFFIX}"
        try:
            with open(self.path, "rb") as archive, open(copy, "wb") as file:
                archive.seek(self.offset)
                remaining = self.size
                while block := archive.read(min(remaining, 2**20)):
                    file.write(block)
                    remaining -= len(block)
            yield copy
        finally:
            copy.unlink(missing_ok=True)

    def digest(self) -> str:
        """Return the SHA-256 of the video's bytes."""
        digest = hashlib.sha256()
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            remaining = self.path.stat().st_size if self.size is None else self.size
            while remaining > 0 and (block := file.read(min(remaining, 2**20))):
                digest.update(block)
                remaining -= len(block)
        return digest.hexdigest()


@dataclass
class FoundVideos:
    """The contents of a source folder.

    Attributes:
        videos: Every video by the path it would have in an unpacked folder, relative to the source.
        refused: Everything that looks like a video or an archive and is not used -> the reason.
        ignored: The number of other files, by suffix.
    """

    videos: dict[PurePosixPath, Source] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)


def find_video_files(source: str | Path) -> FoundVideos:
    """List the videos in a folder and in the tar archives in it, or in a single archive.

    Links to files are followed, as the Hub's cache consists of them; links to folders are not. From an archive only
    regular members with a plain relative path are taken.

    Raises:
        FileNotFoundError: If there is no such folder or archive.
    """
    source = Path(source)
    found = FoundVideos()
    if source.is_file():
        _add_file(found, source, PurePosixPath(source.name))
        return found
    if not source.is_dir():
        raise FileNotFoundError(f"There is no folder {source} to take videos from.")
    for folder, subfolders, files in os.walk(source):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(files):
            path = Path(folder) / name
            if name.startswith("."):
                continue
            relative = path.relative_to(source).as_posix()
            if _stored(relative) != relative:
                found.refused[_stored(relative)] = "its name is not UTF-8: rename it"
            else:
                _add_file(found, path, PurePosixPath(relative))
    return found


def _add_file(found: FoundVideos, path: Path, relative: PurePosixPath) -> None:
    suffix = relative.suffix.lower()
    if suffix == ".tar":
        _add_archive(found, path, relative.parent)
    elif str(relative).lower().endswith(PACKED_SUFFIXES):
        found.refused[str(relative)] = "compressed archive: unpack it first"
    elif suffix in VIDEO_SUFFIXES:
        if path.is_file():
            _add_video(found, relative, Source(path, path.name))
        else:
            found.refused[str(relative)] = "not a file (a broken link?)"
    else:
        found.ignored[suffix or "files without a suffix"] += 1


def _add_archive(found: FoundVideos, path: Path, folder: PurePosixPath) -> None:
    try:
        with tarfile.open(path, "r:", tarinfo=_Member) as archive:
            for member in _members(archive):
                name = PurePosixPath(member.name)
                if name.suffix.lower() not in VIDEO_SUFFIXES:
                    continue
                reason = _reason_to_refuse(member, path)
                if reason:
                    found.refused[f"{path.name}: {_stored(member.name)}"] = reason
                else:
                    _add_video(found, folder / name, Source(path, name.name, member.offset_data, member.size))
    except Exception as error:  # tarfile lets through whatever a damaged header makes int(), str() or seek() raise
        reason = " ".join(str(error).split()) or type(error).__name__
        found.refused[path.name] = f"not a readable tar archive from some place on ({reason})"


class _Member(tarfile.TarInfo):
    """A member whose damaged header is an error: tarfile itself takes one for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0 or member.type in EXTENSIONS and member.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header claims {member.size} bytes")
        return member

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"at byte {archive.offset}: {error}") from None


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members, as long as each comes after the one before it."""
    position = -1
    while True:
        member = archive.next()
        if member is None:
            return
        if member.size < 0 or archive.offset <= position:
            raise tarfile.ReadError(f"{_stored(member.name)} claims {member.size} bytes")
        position = archive.offset
        archive.members.clear()  # a million names would stay in memory
        yield member


def _stored(name: str) -> str:
    """Return a name in a form that a report can store: bytes that are not UTF-8 become escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _add_video(found: FoundVideos, relative: PurePosixPath, source: Source) -> None:
    if relative in found.videos:
        found.refused[f"{source.path.name}: {relative}"] = (
            f"{found.videos[relative].path.name} holds this name already"
        )
    else:
        found.videos[relative] = source


def _reason_to_refuse(member: tarfile.TarInfo, archive: Path) -> str | None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in member.name.replace("\\", "/").split("/") or "\0" in member.name:
        return "its path leaves the archive"
    if _stored(member.name) != member.name:
        return "its name is not UTF-8"
    if not member.isreg() or member.issparse():
        return "not a regular file"
    if member.size > MAX_MEMBER_BYTES:
        return f"it claims {member.size} bytes"
    if not 0 <= member.offset_data <= member.offset_data + member.size <= archive.stat().st_size:
        return "the archive ends inside it"
    return None


def by_known_id(found: FoundVideos, ids: Iterable[str]) -> dict[str, Source]:
    """Return the videos whose file name says that they are one of `ids`: `<id>.mp4`, or `Any title [<id>].mp4` as
    yt-dlp names them.

    Of several files with one id, the first in alphabetical order is taken and the others are listed as refused.
    """
    ids = frozenset(ids)
    known: dict[str, Source] = {}
    for relative, source in sorted(found.videos.items()):
        stem = relative.stem
        if stem not in ids and stem.endswith("]"):
            stem = stem[:-1].rpartition("[")[2]
        if stem in known:
            found.refused[str(relative)] = f"another file is {stem} already"
        elif stem in ids:
            known[stem] = source
    return known


def remove_partial_files(root: Path) -> None:
    """Delete what a killed run left half-written."""
    for path in root.rglob(f".*{PARTIAL_SUFFIX}"):
        path.unlink(missing_ok=True)


def free_bytes(folder: Path) -> int:
    """Return the free space in bytes on the disk of a folder that may not exist yet."""
    while not folder.exists():
        folder = folder.absolute().parent
    return shutil.disk_usage(folder).free
