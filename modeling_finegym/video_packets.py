"""Whether the packets of a video file say which frames it has: one frame to a packet, shown at the packet's time.

Where they do, frames are numbered without decoding any. Where they may not, only a decoder knows: demuxers make times
up for AVI, program streams and raw streams; packed B-frames put two pictures into a packet and none into another;
pictures that are not coded or not shown, and second fields, have a packet and no frame."""

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Packet(NamedTuple):
    """What is kept of a packet: its time in ticks of the stream, and how it is marked."""

    pts: int | None
    is_keyframe: bool
    is_discard: bool
    is_corrupt: bool
    may_hide: bool  # it may hold no frame, or more than one


# By FFmpeg's names, which it gives by content: containers in which one sample is one picture and has its own time.
TIMED_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
# FFmpeg's AV_FIELD_PROGRESSIVE: whole pictures, as the parser of the first ones found.
PROGRESSIVE = 1
# After the start code and a header of a few bytes, a picture that is not coded ends.
LONGEST_NOT_CODED = 15
START_OF_VOP = b"\x00\x00\x01\xb6"


def _no_hidden_frame(content: memoryview) -> bool:
    return False


def _mpeg4_may_hide(content: memoryview) -> bool:
    """MPEG-4 Part 2: anything but one coded picture (ISO/IEC 14496-2, 6.2.5)."""
    before, _, picture = content.tobytes().partition(START_OF_VOP)
    return len(picture) <= LONGEST_NOT_CODED or START_OF_VOP in picture


def _vp8_may_hide(content: memoryview) -> bool:
    """VP8: a reference picture that is not shown (RFC 6386, 9.1)."""
    return not content[0] >> 4 & 1


def _vp9_may_hide(content: memoryview) -> bool:
    """VP9: a single picture that is not shown (bitstream specification, 6.2); in a superframe the last one is."""
    if content[-1] >> 5 == 0b110:
        return False
    bits = f"{content[0]:08b}"
    place = 5 if bits[2:4] == "11" else 4
    shows_existing, is_shown = bits[place] == "1", bits[place + 2] == "1"
    return not (shows_existing or is_shown)


# Codecs in which, but for what these functions find, a packet is one frame.
ONE_FRAME_CODECS: dict[str, Callable[[memoryview], bool]] = {
    **dict.fromkeys(("h264", "hevc", "av1", "ffv1", "prores", "dnxhd", "mjpeg", "png"), _no_hidden_frame),
    "mpeg4": _mpeg4_may_hide,
    "vp8": _vp8_may_hide,
    "vp9": _vp9_may_hide,
}


def is_cut(codec: str, content: memoryview) -> bool:
    """Whether a GIF picture lacks its end, which neither its demuxer nor its decoder reports (GIF89a, 20 to 23)."""
    if codec != "gif":
        return False
    place = 0
    try:
        if content[:3] == b"GIF":
            place = 13 + _size_of_table(content[10])
        while content[place] == 0x21:
            place = _after_blocks(content, place + 2)
        _after_blocks(content, place + 11 + _size_of_table(content[place + 9]))
    except IndexError:
        return True
    return False


def _size_of_table(flags: int) -> int:
    return 6 << (flags & 7) if flags & 0x80 else 0


def _after_blocks(content: memoryview, place: int) -> int:
    while content[place]:
        place += content[place] + 1
    return place + 1


def scan(container, stream, check_count: Callable[[int], None]) -> list[Packet]:
    """The packets of a stream, in the order in which they are stored, without empty ones. `check_count` is told every
    now and then how many there are, and raises where they are too many."""
    may_hide = ONE_FRAME_CODECS.get(stream.codec_context.codec.canonical_name, _no_hidden_frame)
    looks_inside = may_hide is not _no_hidden_frame
    packets: list[Packet] = []
    for packet in container.demux(stream):
        if packet.size:
            hides = looks_inside and may_hide(memoryview(packet))
            packets.append(Packet(packet.pts, packet.is_keyframe, packet.is_discard, packet.is_corrupt, hides))
            if not len(packets) & 4095:
                check_count(len(packets))
    check_count(len(packets))
    return packets


def are_frames(packets: Sequence[Packet], container, stream) -> bool:
    """Whether each packet that is not to be discarded is one frame, shown at its time."""
    decoder = stream.codec_context
    if container.format.name not in TIMED_CONTAINERS or decoder.codec.canonical_name not in ONE_FRAME_CODECS:
        return False
    # Copied from elsewhere, the two fields of a picture can be two samples.
    if decoder.codec.canonical_name == "h264" and decoder.field_order != PROGRESSIVE:
        return False
    times = [packet.pts for packet in packets if not packet.is_discard]
    if None in times or len(set(times)) < len(times) or any(packet.may_hide for packet in packets):
        return False
    discarded = [packet.pts for packet in packets if packet.is_discard]
    if not times or (discarded and (None in discarded or max(discarded) >= min(times))):
        return False
    # Pictures shown before the first one need others that the file lacks.
    if not packets[0].is_keyframe or min(packet.pts for packet in packets) < packets[0].pts:
        return False
    # Times in the order of the packets were copied from a container without times if pictures are reordered.
    return not decoder.has_b_frames or times != sorted(times) or not _has_b_pictures(container, stream)


def _has_b_pictures(container, stream) -> bool:
    """Whether an H.264 stream has pictures that may be shown before those that they need; True if nobody looked."""
    settings = stream.codec_context.extradata
    if stream.codec_context.codec.canonical_name != "h264" or not settings or settings[0] != 1:
        return True
    size_of_length = (settings[4] & 3) + 1  # ISO/IEC 14496-15, 5.3.3.1
    container.seek(0, backward=True)
    return any(_is_b_picture(bytes(packet), size_of_length) for packet in container.demux(stream) if packet.size)


def _is_b_picture(content: bytes, size_of_length: int) -> bool:
    """By the first slice's header (ITU-T H.264, 7.3.3): first_mb_in_slice, 0 in one bit, and slice_type, 1 or 6."""
    place = 0
    while place + size_of_length + 2 < len(content):
        length = int.from_bytes(content[place : place + size_of_length], "big")
        place += size_of_length
        if content[place] & 31 in (1, 5):
            return f"{content[place + 1]:08b}"[1:].startswith(("010", "00111"))
        place += length
    return False
