"""Read what an MP4 or QuickTime file claims, before FFmpeg reserves memory for it.

FFmpeg keeps some seventy bytes for every sample that the tables of such a file claim, and a few bytes can claim any
number of them (ISO/IEC 14496-12): a constant sample size (8.7.3), a track run without sizes (8.8.8), and edits that
show the same samples again (8.6.6)."""

import re
from collections.abc import Iterator
from typing import BinaryIO


# The boxes at the top level of a file in which FFmpeg's demuxer looks for tables, and the free space in which it
# recovers a movie that was deleted.
HOLDERS = set(b"moov moof trak traf mdia minf stbl stsd edts mvex udta tref dinf meta wave sinf schi iprp".split())
FREE, RECOVERED = {b"free", b"hoov"}, {b"mvhd", b"cmov"}
NAME = re.compile(rb"stsz|stz2|trun|elst|cmov|trak|stts|soun")
# Where a table has its number of entries, counted from the end of its name.
PLACES = {b"stsz": 8, b"stz2": 8, b"trun": 4, b"elst": 4, b"stts": 4}
# The tables of a day of video, with sound, take half of this.
MAX_HEADER_BYTES = 2**27


class HeaderError(ValueError):
    """A header is of a form that may unfold to any size."""


def count_claimed_samples(file: BinaryIO) -> int:
    """Return how many samples the tables of a file claim, counting those that edits repeat; 0 for other containers.

    Raises:
        `HeaderError`: a header is compressed, or larger than that of any video.
    """
    return sum(map(_count_in, _headers(file)))


def _headers(file: BinaryIO) -> Iterator[bytes]:
    """Yield the content of the boxes at the top level that may hold tables."""
    position, size = 0, file.seek(0, 2)
    while position + 8 <= size:
        file.seek(position)
        head = file.read(24)
        length, name, start = int.from_bytes(head[:4], "big"), head[4:8], 8
        if length == 1:
            length, start = int.from_bytes(head[8:16], "big"), 16
        length = size - position if length == 0 else min(length, size - position)
        if length < start:
            return
        if name in HOLDERS or (name in FREE and head[start + 4 : start + 8] in RECOVERED):
            if length > MAX_HEADER_BYTES:
                raise HeaderError(f"has a header of more than {MAX_HEADER_BYTES} bytes, which is the limit")
            file.seek(position + start)
            yield file.read(length - start)
        position += length


def _count_in(header: bytes) -> int:
    """Return the samples that the tables of a movie, or of a fragment, claim, wherever in it these are: FFmpeg reads
    them in unusual places too."""
    total, samples, edits, is_sound, steps = 0, 0, 0, False, []
    for found in NAME.finditer(header):
        name, place = found[0], found.end()
        if name == b"trak":
            total += _count_of_track(samples, edits, is_sound, steps)
            samples, edits, is_sound, steps = 0, 0, False, []
            continue
        if name == b"soun":
            is_sound = True
            continue
        length = int.from_bytes(header[place - 8 : place - 4], "big")
        if length == 1:
            place += 8
        elif length and not 12 <= length <= len(header):
            continue  # a number within a table that looks like a name
        if name == b"cmov":
            raise HeaderError("has a compressed header, which may unfold to any size")
        count = int.from_bytes(header[place + PLACES[name] : place + PLACES[name] + 4], "big")
        if name == b"stts":
            steps.append((count, header[place + 12 : place + 16]))
        elif name == b"elst":
            edits += count
        else:
            samples += count
    return total + _count_of_track(samples, edits, is_sound, steps)


def _count_of_track(samples: int, edits: int, is_sound: bool, steps: list[tuple[int, bytes]]) -> int:
    # Of sound that is not compressed, FFmpeg keeps chunks, and every sample is a tick long.
    if is_sound and steps == [(1, b"\0\0\0\1")]:
        return 0
    return samples * max(1, edits)
