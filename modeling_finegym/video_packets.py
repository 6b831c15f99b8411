"""Decide whether the packets of a video file tell its frames: one frame per packet, shown at the packet's time.

Where they do, frames are numbered without decoding any. Elsewhere only a decoder knows: demuxers invent times for AVI,
program streams and raw streams; packed B-frames put two pictures into one packet and none into another; pictures that
are not coded or not shown, and second fields, have a packet but no frame.

A raw stream does not say how long it is. Where one ends within its last picture and the decoder does not notice, that
picture is what FFmpeg makes of the part that is there."""

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Packet(NamedTuple):
    """What is kept of a packet: its time in ticks of the stream, and its flags."""

    pts: int | None
    is_keyframe: bool
    is_discard: bool
    is_corrupt: bool
    may_hide: bool  # it may hold no frame, or more than one
    is_b_picture: bool  # known only as long as times ascend


# Containers in which one sample is one picture and has its own time, by the names that FFmpeg gives to their content.
TIMED_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
# FFmpeg's AV_FIELD_PROGRESSIVE: whole pictures, as the parser found in the first ones.
PROGRESSIVE = 1
# A picture that is not coded ends after the start code and a header of a few bytes.
LONGEST_NOT_CODED = 15
START_OF_VOP = b"\x00\x00\x01\xb6"


def _no_hidden_frame(content: memoryview) -> bool:
    return False


def _mpeg4_may_hide(content: memoryview) -> bool:
    """Return whether an MPEG-4 Part 2 packet is anything but one coded picture (ISO/IEC 14496-2, 6.2.5)."""
    before, _, picture = content.tobytes().partition(START_OF_VOP)
    return len(picture) <= LONGEST_NOT_CODED or START_OF_VOP in picture


def _vp8_may_hide(content: memoryview) -> bool:
    """Return whether a VP8 packet is a reference picture that is not shown (RFC 6386, 9.1)."""
    return not content[0] >> 4 & 1


def _vp9_may_hide(content: memoryview) -> bool:
    """Return whether a VP9 packet is a single picture that is not shown (bitstream specification, 6.2); the last
    picture of a superframe is shown."""
    if content[-1] >> 5 == 0b110:
        return False
    bits = f"{content[0]:08b}"
    place = 5 if bits[2:4] == "11" else 4
    shows_existing, is_shown = bits[place] == "1", bits[place + 2] == "1"
    return not (shows_existing or is_shown)


# Codecs in which a packet is one frame, except for what these functions find.
ONE_FRAME_CODECS: dict[str, Callable[[memoryview], bool]] = {
    **dict.fromkeys(("h264", "hevc", "av1", "ffv1", "prores", "dnxhd", "mjpeg", "png"), _no_hidden_frame),
    "mpeg4": _mpeg4_may_hide,
    "vp8": _vp8_may_hide,
    "vp9": _vp9_may_hide,
}


def is_cut(codec: str, content: memoryview) -> bool:
    """Return whether a GIF picture lacks its end, which neither demuxer nor decoder reports (GIF89a, 20 to 23)."""
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
    """Return the packets of a stream in the order in which they are stored, without empty ones. Call `check_count`
    from time to time with their number; it raises where there are too many."""
    may_hide = ONE_FRAME_CODECS.get(stream.codec_context.codec.canonical_name, _no_hidden_frame)
    looks_inside = may_hide is not _no_hidden_frame
    size_of_length = _size_of_length(stream)
    ascends, last = size_of_length > 0, None
    packets: list[Packet] = []
    for packet in container.demux(stream):
        if packet.size:
            pts, is_discard = packet.pts, packet.is_discard
            if ascends and not is_discard:
                ascends = pts is not None and (last is None or pts > last)
                last = pts
            is_b_picture = ascends and _is_b_picture(memoryview(packet), size_of_length)
            hides = looks_inside and may_hide(memoryview(packet))
            packets.append(Packet(pts, packet.is_keyframe, is_discard, packet.is_corrupt, hides, is_b_picture))
            if not len(packets) & 4095:
                check_count(len(packets))
    check_count(len(packets))
    return packets


def are_frames(packets: Sequence[Packet], container, stream) -> bool:
    """Return whether each packet that is not to be discarded is one frame, shown at its time."""
    decoder = stream.codec_context
    if container.format.name not in TIMED_CONTAINERS or decoder.codec.canonical_name not in ONE_FRAME_CODECS:
        return False
    # The two fields of a picture can be two samples where they were copied from another container.
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
    # If pictures are reordered, times in the order of the packets were copied from a container without times.
    if not decoder.has_b_frames or times != sorted(times):
        return True
    return _size_of_length(stream) > 0 and not any(packet.is_b_picture for packet in packets)


def _size_of_length(stream) -> int:
    """Return how many bytes say the length of a unit of an H.264 stream that may reorder pictures (ISO/IEC 14496-15,
    5.3.3.1); 0 for other streams, and where it is not known."""
    decoder = stream.codec_context
    settings = decoder.extradata
    if decoder.codec.canonical_name != "h264" or not decoder.has_b_frames or not settings or settings[0] != 1:
        return 0
    return (settings[4] & 3) + 1


def _is_b_picture(content: memoryview, size_of_length: int) -> bool:
    """Read the first slice's header (ITU-T H.264, 7.3.3): first_mb_in_slice, 0 in one bit, and slice_type, 1 or 6."""
    place = 0
    while place + size_of_length + 2 < len(content):
        length = int.from_bytes(content[place : place + size_of_length], "big")
        place += size_of_length
        if content[place] & 31 in (1, 5):
            return f"{content[place + 1]:08b}"[1:].startswith(("010", "00111"))
        place += length
    return False
