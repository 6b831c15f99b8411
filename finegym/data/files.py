"""Finding video files, and writing files so that they are either there as a whole or not at all."""

import contextlib
import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path


PARTIAL_SUFFIX = ".partial"
# File systems take names of 255 bytes; the rest is for what `replacing` puts around them.
LONGEST_NAME = 200
DIGEST_LENGTH = 32

VIDEO_SUFFIXES = frozenset(
    (
        ".264",
        ".265",
        ".3gp",
        ".asf",
        ".avi",
        ".divx",
        ".dv",
        ".f4v",
        ".flv",
        ".gif",
        ".h264",
        ".h265",
        ".hevc",
        ".m2ts",
    )
    + (".m2v", ".m4v", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm")
    + (".wmv",)
)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; if the block succeeds, the file there becomes `path`.

    A reader sees the old file or the new one. A process killed inside the block leaves only a hidden
    `.<name>.<pid>.partial`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:DIGEST_LENGTH]
    temporary = path.with_name(f".{name}.{os.getpid()}{PARTIAL_SUFFIX}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a small UTF-8 text file as a whole."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def list_video_files(folder: Path) -> list[Path]:
    """Return the video files in a folder and its subfolders, known by their suffixes and sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())


def expand_names(names: Sequence[str]) -> list[str]:
    """List files, addresses, and the video files in folders and behind patterns, each once and in this order.

    Raises:
        FileNotFoundError: If a name is not a video, a folder or a pattern; the message names it.
    """
    videos: dict[str, None] = {}
    for name in names:
        path = Path(name)
        if name.startswith(("http://", "https://")) or path.is_file():
            found = [name]
        elif path.is_dir():
            found = list(map(str, list_video_files(path)))
        else:
            found = sorted(file for file in glob.glob(name, recursive=True) if Path(file).is_file())
        if not found:
            raise FileNotFoundError(
                f"{name} is neither a video nor a folder or pattern with videos ({', '.join(sorted(VIDEO_SUFFIXES))})."
            )
        videos.update(dict.fromkeys(found))
    return list(videos)
