"""`finegym fetch`: FineGym's annotation files from FineGym's site, checked."""

import hashlib
import tempfile
import urllib.parse
from pathlib import Path

from tqdm import tqdm

from finegym.data.files import replacing
from finegym.data.text import MAX_TEXT_BYTES
from modeling_finegym.downloading import DownloadError, download

from .annotations import VERSIONS, read_segments, read_split, segments_file, split_file


BASE_URL = "https://sdolivia.github.io/FineGym/resources/dataset/"
MAX_SILENCE = 30.0

# Of the files as FineGym's site had them at commit 4175b57 of its gh-pages branch.
KNOWN_SHA256 = {
    "gym288_categories.txt": "a1a3be890b8d46e947794902fb06bfbadd39a3ab9f18ac6a6091a8387594c6fb",
    "gym288_train_element_v1.0.txt": "93f6f5696d6cdd390b89546d52cba7f8eb38314026bd8686ec8e0e72dd68ddbd",
    "gym288_train_element_v1.1.txt": "e1a5f459a21cd4b68532bb28bf8e8b80eecd2f15a8e0b1c0d97a6edc62aad379",
    "gym288_val_element.txt": "06d53cedb6edfd361ae82ab6efc3c6e5b8ca6e27ebeb61640b97fda3ef9731ce",
    "gym530_categories.txt": "d092acac914acc56e503674b8b593253ffdb578f27a6f0aa14014d3019dc2d06",
    "gym99_categories.txt": "69b2537736c41e2a2bdd01390c686e6ad36e9d52ef5406328c5e4ef0c5e793f0",
    "gym99_train_element_v1.0.txt": "4ece94c4c9b0d040ac0535c5763da476659640917dbc8cf77f6bf7a57cd4285b",
    "gym99_train_element_v1.1.txt": "1d8697388cbacf5d5e48ec903e70cb9ed758615bc9e7d6bf0ebb1e3389e3585b",
    "gym99_val_element.txt": "9aa3ef86ecdfe223f4cbdd6faccecbe251b4011f78821270743eed8fbf594d0f",
    "set_categories.txt": "27e48dbecc34be1a06ef703ad3c8a10ea445649b3e90185f5f55569db0e3aacf",
}
# The two JSON files were not available when this was written: no checksum is known, so they are checked by their
# contents.
SEGMENT_FILES = tuple(segments_file(version) for version in VERSIONS)


def fetch_annotations(folder: Path = Path("data/finegym"), base_url: str = BASE_URL) -> str:
    """Download FineGym's annotation files, or check those that are there already.

    Correct files in the folder are not downloaded again, so that on a machine without a network they can be put there
    by hand. The annotations are FineGym's, under CC BY-NC 4.0.

    Args:
        folder: The folder for the files.
        base_url: The folder on FineGym's site, or a mirror of it.

    Returns:
        What was found, file by file, and of how many sub-actions in the lists the JSON files have the times.

    Raises:
        ConnectionError: If files can neither be downloaded nor are there; the message gives their addresses.
        ValueError: If a file is not what FineGym published; the message names it.
    """
    if urllib.parse.urlsplit(base_url).scheme not in ("https", "http"):
        raise ValueError(f"base_url must begin with https:// or http://, got {base_url!r}.")
    lines, unreachable = [], {}
    for name in tqdm([*KNOWN_SHA256, *SEGMENT_FILES], "Annotations", unit="file"):
        path = folder / name
        if path.is_file():
            lines.append(f"{name}: there already{_check(path, path.read_bytes())}")
            continue
        try:
            content = _download(urllib.parse.urljoin(base_url, name))
        except DownloadError as error:
            unreachable[name] = error
            continue
        lines.append(f"{name}: downloaded{_check(path, content)}")
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    if unreachable:
        name, error = next(iter(unreachable.items()))
        addresses = "\n".join(f"  {urllib.parse.urljoin(base_url, name)}" for name in unreachable)
        raise ConnectionError(
            f"{len(unreachable)} files could not be downloaded ({name}: {error}). Without network here, "
            f"get them elsewhere, put them into {folder} and run this again to check them:\n{addresses}"
        )
    lines += [_describe_segments(folder, version) for version in VERSIONS]
    return "\n".join(lines)


def _download(url: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="finegym-fetch-") as folder:
        file = Path(folder) / "file"
        download(url, file, max_bytes=MAX_TEXT_BYTES, max_silence=MAX_SILENCE)
        return file.read_bytes()


def _check(path: Path, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    known = KNOWN_SHA256.get(path.name)
    if known is None:
        return f"; no checksum is known for it, SHA-256 {digest}"
    if digest != known:
        raise ValueError(
            f"{path} is not the file that FineGym published: SHA-256 {digest}, expected {known}. Delete it and run "
            "this again; if it stays so, FineGym has changed its lists, and no published number compares with them."
        )
    return ", checksum right"


def _describe_segments(folder: Path, version: str) -> str:
    """Compare a JSON file with the split lists of its version."""
    path = folder / segments_file(version)
    segments = read_segments(path)
    listed = set()
    for dataset in ("gym99", "gym288"):
        for split in ("train", "val"):
            listed.update(read_split(folder / split_file(dataset, split, version)))
    timed = len(listed & segments.sub_actions.keys())
    if not timed:
        raise ValueError(
            f"{path} knows none of the {len(listed):,} sub-actions in the lists; it is not FineGym's {version} "
            "annotation."
        )
    unusable = f", {len(segments.problems):,} entries are unusable" if segments.problems else ""
    return (
        f"{path.name}: {segments.num_videos:,} videos, {segments.num_events:,} events, "
        f"{len(segments.sub_actions):,} sub-actions{unusable}; it has the times of {timed:,} of the {len(listed):,} "
        "sub-actions in the Gym99 and Gym288 lists"
    )
