"""Where the parts of a video file begin and end: boxes, elements, chunks, packets or blocks, by its first bytes."""

import re
from collections.abc import Iterator


Span = tuple[int, int]
MP4_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"moof", b"traf", b"mvex", b"udta"}
# Matroska: header, segment, tracks, a track, its picture, a cluster, a group of blocks, places of key frames.
EBML_PARENTS = {0x1A45DFA3, 0x18538067, 0x1654AE6B, 0xAE, 0xE0, 0x1F43B675, 0xA0, 0x1C53BB6B}
TS_PACKET = 188


def parts(content: bytes) -> list[Span]:
    """Return the (first, past the last) byte of every part of an intact file, parents before their children."""
    if content[4:8] == b"ftyp":
        return list(_boxes(content, 0, len(content)))
    if content[:4] == b"\x1a\x45\xdf\xa3":
        return list(_elements(content, 0, len(content)))
    if content[:4] == b"RIFF":
        return list(_chunks(content, 0, len(content)))
    if content[:1] == b"\x47" and content[TS_PACKET : TS_PACKET + 1] == b"\x47":
        return [(place, place + TS_PACKET) for place in range(0, len(content), TS_PACKET)]
    if content[:3] == b"GIF":
        return _between(re.finditer(rb"\x21[\xf9\xfe\xff\x01]|\x2c", content), len(content))
    return _between(re.finditer(rb"\x00\x00\x01", content), len(content))  # start codes


def _between(found: Iterator[re.Match], end: int) -> list[Span]:
    places = [0, *(match.start() for match in found), end]
    return [(start, stop) for start, stop in zip(places, places[1:]) if start < stop]


def _boxes(content: bytes, place: int, end: int) -> Iterator[Span]:
    while place + 8 <= end:
        size = int.from_bytes(content[place : place + 4], "big")
        if not 8 <= size <= end - place:
            return
        yield place, place + size
        if content[place + 4 : place + 8] in MP4_PARENTS:
            yield from _boxes(content, place + 8, place + size)
        place += size


def _chunks(content: bytes, place: int, end: int) -> Iterator[Span]:
    while place + 8 <= end:
        size = 8 + int.from_bytes(content[place + 4 : place + 8], "little")
        stop = min(end, place + size + size % 2)
        yield place, stop
        if content[place : place + 4] in (b"RIFF", b"LIST"):
            yield from _chunks(content, place + 12, stop)
        place = stop


def _elements(content: bytes, place: int, end: int) -> Iterator[Span]:
    while place < end:
        name, after = _number(content, place, keeps_mark=True)
        size, after = _number(content, after, keeps_mark=False)
        stop = min(end, after + size)
        if stop <= place:
            return
        yield place, stop
        if name in EBML_PARENTS:
            yield from _elements(content, after, stop)
        place = stop


def _number(content: bytes, place: int, *, keeps_mark: bool) -> tuple[int, int]:
    """Return an EBML number and the position behind it."""
    first = content[place] if place < len(content) else 0
    length = 9 - first.bit_length() if first else 1
    value = int.from_bytes(content[place : place + length], "big")
    return value if keeps_mark else value & ((1 << 7 * length) - 1), place + length
