"""Why a file is not a readable video: it is empty, it is a text, or its end is missing."""

import re
from pathlib import Path
from typing import BinaryIO


NUM_HEAD_BYTES = 4096
# No text contains these, and hardly any 4 KiB of a video are without them.
CONTROL_CHARACTERS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
# Sizes in a header of AVI or Matroska that mean "not known when this was written".
UNKNOWN_RIFF_SIZES = (0, 0xFFFFFFFF)
MKV_SEGMENT = 0x18538067


def reason_of_damage(path: Path, name: str) -> str | None:
    """Return what is wrong with a file by its bytes alone: "empty: ...", "text: ..." or "truncated: ...".

    Args:
        path: The file.
        name: The user's name for it.

    Returns:
        The kind, a colon and the details; None if nothing shows without decoding.
    """
    size = path.stat().st_size
    if size == 0:
        return f"empty: {name} has no bytes"
    with open(path, "rb") as file:
        head = file.read(NUM_HEAD_BYTES)
        if head.startswith(UTF16_MARKS) or not CONTROL_CHARACTERS.search(head):
            beginning = head[:200].decode("utf-16" if head.startswith(UTF16_MARKS) else "utf-8", errors="replace")
            first_line = (beginning.split("\n")[0].strip() or beginning.strip())[:40]
            return f"text: {name} is not a video but begins with {first_line!r}"
        num_missing = _num_missing_bytes(file, head, size)
    if num_missing is None:
        return None
    if num_missing == 0:
        return f"truncated: {name} ends before its frames or their table"
    return f"truncated: {name} lacks its last {num_missing:,} bytes"


def _num_missing_bytes(file: BinaryIO, head: bytes, size: int) -> int | None:
    """Return how many bytes beyond the end the container promises: 0 if the end is missing and the number is not
    known, None if nothing is missing."""
    if head[4:8] in MP4_BOXES:
        return _missing_of_mp4(file, size)
    if head.startswith(b"RIFF"):
        return _missing_of_avi(file, size)
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return _missing_of_matroska(head, size)
    return None


def _missing_of_mp4(file: BinaryIO, size: int) -> int | None:
    position, has_index = 0, False
    while position + 8 <= size:
        file.seek(position)
        length, kind = int.from_bytes(file.read(4)), file.read(4)
        if length == 1:
            length = int.from_bytes(file.read(8))
        elif length == 0:
            length = size - position
        if length < 8:
            break
        has_index |= kind == b"moov"
        position += length
    if position > size:
        return position - size
    return None if has_index else 0


def _missing_of_avi(file: BinaryIO, size: int) -> int | None:
    """Return how many bytes the list of frames lacks; some writers get the size of the whole file wrong."""
    position = 12
    while position + 12 <= size:
        file.seek(position)
        chunk, length, kind = file.read(4), int.from_bytes(file.read(4), "little"), file.read(4)
        end = position + 8 + length
        if chunk == b"LIST" and kind == b"movi":
            return end - size if length not in UNKNOWN_RIFF_SIZES and end > size else None
        position = end + length % 2
    return max(0, position - size)


def _missing_of_matroska(head: bytes, size: int) -> int | None:
    position = 4
    length, position = _matroska_number(head, position)
    position += length or 0
    if length is None or int.from_bytes(head[position : position + 4]) != MKV_SEGMENT:
        return None
    length, position = _matroska_number(head, position + 4)
    end = position + (length or 0)
    return end - size if end > size else None


def _matroska_number(head: bytes, position: int) -> tuple[int | None, int]:
    """Return a number of variable length and the position behind it; None where all bits are set, which means not
    known."""
    first = head[position] if position < len(head) else 0
    num_bytes = 9 - first.bit_length()
    if num_bytes > 8:
        return None, position
    value = int.from_bytes(head[position : position + num_bytes]) & ((1 << 7 * num_bytes) - 1)
    known = value != (1 << 7 * num_bytes) - 1
    return value if known else None, position + num_bytes
