"""Make video files as they occur in practice, without any of the project's code: what no encoder of libavcodec writes
(packed B-frames, frames that are not coded, field pictures) is assembled byte by byte."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from footage import encode, picture


START_OF_VOP = b"\x00\x00\x01\xb6"
# The last letter says that B-frames are packed; decoders of XviD and DivX look for it.
PACKED_MARK = b"\x00\x00\x01\xb2DivX503b1393p"


@dataclass(frozen=True)
class Vop:
    """One coded picture of an MPEG-4 Part 2 stream: its bytes with any headers before it, and its type, I, P or B."""

    content: bytes
    kind: str


def mpeg4_vops(frames: Sequence[np.ndarray], *, b_frames: int, gop: int = 12, rate: int = 25) -> list[Vop]:
    """Encode frames (H, W, 3) with libavcodec; return the pictures in the order in which they are coded."""
    encoder = av.CodecContext.create("mpeg4", "w")
    encoder.height, encoder.width = frames[0].shape[:2]
    encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", Fraction(1, rate), Fraction(rate)
    encoder.options = {"bf": str(b_frames), "g": str(gop), "qscale": "3", "flags": "+qscale"}
    packets = []
    for number, image in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, rate)
        packets += encoder.encode(frame)
    contents = [bytes(packet) for packet in [*packets, *encoder.encode(None)]]
    return [Vop(content, _kind(content)) for content in contents if content]


def _kind(content: bytes) -> str:
    # The two bits after the start code are the picture's type.
    return "IPB"[content[content.index(START_OF_VOP) + 4] >> 6]


def not_coded(rate: int = 25) -> bytes:
    """Return a P-VOP that says only that the last picture remains (ISO/IEC 14496-2, 6.2.5: vop_coded is 0)."""
    increment = "0" * (rate - 1).bit_length()
    bits = "01" + "0" + "1" + increment + "1" + "0"
    bits += "0" + "1" * ((-len(bits) - 1) % 8)
    return START_OF_VOP + int(bits, 2).to_bytes(len(bits) // 8, "big")


def packed(vops: Sequence[Vop]) -> list[bytes]:
    """Return XviD's packed bitstream: a reference picture and the first B-picture before it share a chunk, and a
    picture that is not coded takes the reference picture's place, so that there is one chunk for every frame."""
    chunks: list[bytes] = []
    reference = b""
    for vop, following in zip(vops, [*vops[1:], Vop(b"", "")], strict=True):
        if vop.kind == "B":
            chunks.append(reference + vop.content)
            reference = b""
            if following.kind != "B":
                chunks.append(not_coded())
        elif following.kind == "B":
            reference = vop.content
        else:
            chunks.append(vop.content)
    first = chunks[0]
    place = first.index(START_OF_VOP)
    return [first[:place] + PACKED_MARK + first[place:], *chunks[1:]]


def write_avi(
    path: Path, chunks: Iterable[bytes], width: int, height: int, *, key_frames: Iterable[int], rate: int = 25
) -> None:
    """Write an AVI 1.0 file with an index and one chunk of MPEG-4 video for every frame."""
    chunks, key_frames = list(chunks), set(key_frames)
    movie, index = b"movi", b""
    for number, chunk in enumerate(chunks):
        index += struct.pack("<4sIII", b"00dc", 16 if number in key_frames else 0, len(movie), len(chunk))
        movie += struct.pack("<4sI", b"00dc", len(chunk)) + chunk + bytes(len(chunk) % 2)
    main = struct.pack("<14I", 1_000_000 // rate, 0, 0, 16, len(chunks), 0, 1, 0, width, height, 0, 0, 0, 0)
    stream = struct.pack("<4s4sIHH8I4h", b"vids", b"XVID", 0, 0, 0, 0, 1, rate, 0, len(chunks), 0, 0, 0, 0, 0, 0, 0)
    picture = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"XVID", width * height * 3, 0, 0, 0, 0)
    streams = _list(b"strl", _chunk(b"strh", stream) + _chunk(b"strf", picture))
    content = _list(b"hdrl", _chunk(b"avih", main) + streams) + _chunk(b"LIST", movie) + _chunk(b"idx1", index)
    path.write_bytes(_chunk(b"RIFF", b"AVI " + content))


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack("<4sI", name, len(content)) + content + bytes(len(content) % 2)


def _list(name: bytes, content: bytes) -> bytes:
    return _chunk(b"LIST", name + content)


def copy_streams(source: Path, target: Path, *, keeps_times: bool = True) -> None:
    """Copy the packets to another container; without times, each is shown when it is decoded, as with `ffmpeg -c
    copy`."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = read.streams.video[0]
        copy = written.add_stream_from_template(stream)
        for packet in read.demux(stream):
            if packet.size:
                packet.pts = packet.pts if keeps_times else packet.dts
                packet.stream = copy
                written.mux(packet)


def cut_start(source: Path, target: Path, num_packets: int, *, shift: bool) -> None:
    """Copy a file without its first packets, so that it starts with what cannot be decoded; or, with `shift`, copy all
    packets with negative times for the first ones, which an edit list then hides."""
    with av.open(str(source)) as read, av.open(str(target), "w", options={"avoid_negative_ts": "disabled"}) as written:
        stream = read.streams.video[0]
        copy = written.add_stream_from_template(stream)
        packets = [packet for packet in read.demux(stream) if packet.size]
        origin = packets[num_packets].pts
        for packet in packets if shift else packets[num_packets:]:
            packet.pts, packet.dts = packet.pts - origin, packet.dts - origin
            packet.stream = copy
            written.mux(packet)


class _Bits:
    """Write the bits of an H.264 header, most significant first."""

    def __init__(self) -> None:
        self.bits = ""

    def fixed(self, value: int, width: int) -> "_Bits":
        self.bits += f"{value:0{width}b}"
        return self

    def golomb(self, *values: int) -> "_Bits":
        """Write numbers from zero on as Exponential-Golomb codes (ITU-T H.264, 9.1)."""
        for value in values:
            self.bits += f"{value + 1:b}".zfill(2 * (value + 1).bit_length() - 1)
        return self

    def aligned(self, first: str, rest: str = "0") -> bytes:
        bits = self.bits + first
        bits += rest * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8, "big")


def _unit(header: int, payload: bytes) -> bytes:
    """Return a NAL unit with its start code (ITU-T H.264, 7.3.1 and annex B)."""
    while b"\x00\x00\x01" in payload or b"\x00\x00\x00" in payload:
        for code in (b"\x00\x00\x00", b"\x00\x00\x01"):
            payload = payload.replace(code, b"\x00\x00\x03" + code[2:], 1)
    return b"\x00\x00\x00\x01" + bytes([header]) + payload


def field_pictures(frames: Sequence[np.ndarray]) -> list[bytes]:
    """Return H.264 in which every frame is two field pictures of uncoded macroblocks (I_PCM), one access unit per
    field.

    Args:
        frames: gray pictures of shape (H, W), with sides divisible by 32 and 16, and no value below 2.
    """
    height, width = frames[0].shape
    sps = _Bits().fixed(77, 8).fixed(0, 8).fixed(30, 8)
    sps.golomb(0, 0, 0, 0, 1).fixed(0, 1).golomb(width // 16 - 1, height // 32 - 1).fixed(0b001000, 6)
    pps = _Bits().golomb(0, 0).fixed(0, 2).golomb(0, 0, 0).fixed(0, 3).golomb(0, 0, 0).fixed(0b100, 3)
    units = []
    for number, frame in enumerate(frames):
        for is_bottom in (0, 1):
            is_first = number == 0 and not is_bottom
            slice_header = _Bits().golomb(0, 7, 0).fixed(number % 16, 4).fixed(1, 1).fixed(is_bottom, 1)
            if is_first:
                slice_header.golomb(0)
            slice_header.fixed((2 * number + is_bottom) % 16, 4).fixed(0, 2 if is_first else 1).golomb(0, 1)
            field = frame[is_bottom::2]
            blocks = field.reshape(height // 32, 16, width // 16, 16).swapaxes(1, 2).reshape(-1, 256)
            gray = bytes([128]) * 128
            payload = slice_header.golomb(25).aligned("") + blocks[0].tobytes() + gray
            for block in blocks[1:]:
                payload += _Bits().golomb(25).aligned("") + block.tobytes() + gray
            unit = _unit(0x65 if is_first else 0x61, payload + b"\x80")
            units.append((_unit(0x67, sps.aligned("1")) + _unit(0x68, pps.aligned("1")) if is_first else b"") + unit)
    return units


def write_packets(
    path: Path, codec: str, packets: Sequence[bytes], width: int, height: int, *, ticks: int = 1
) -> None:
    """Return packets in the order of their times, one every `ticks` fiftieths of a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number, content in enumerate(packets):
            packet = av.Packet(content)
            packet.stream, packet.time_base = stream, Fraction(1, 50)
            packet.pts = packet.dts = number * ticks
            packet.is_keyframe = number == 0
            container.mux(packet)


NUM_FRAMES = 30
FRAMES = [picture(number) for number in range(NUM_FRAMES)]
REGULAR = np.arange(NUM_FRAMES) / 25
VARIABLE = np.cumsum(np.random.default_rng(0).choice([0.017, 0.04, 0.08], NUM_FRAMES)).round(3)
X264 = {"g": "12", "bf": "3", "preset": "medium", "x264-params": "b-adapt=0:scenecut=0"}
MPEG2 = {"codec": "mpeg2video", "clock": 25, "g": "12", "bf": "2"}
ENCODED = {
    "h264.mp4": (X264, VARIABLE),
    "unused_b_frames.mp4": ({"g": "12", "bf": "3", "preset": "medium"}, VARIABLE),
    "h264.mkv": (X264, VARIABLE + 7),
    "h264.ts": (X264, VARIABLE),
    "h264.flv": (X264, VARIABLE),
    "h264.avi": ({**X264, "clock": 25}, REGULAR),
    "raw.h264": (X264, REGULAR),
    "open_gop.mp4": ({**X264, "x264-params": "open-gop=1:b-adapt=0:scenecut=0"}, VARIABLE),
    "open_gop.ts": ({**X264, "x264-params": "open-gop=1:b-adapt=0:scenecut=0"}, VARIABLE),
    "interlaced.mp4": ({**X264, "flags": "+ildct+ilme"}, REGULAR),
    "ten_bits.mp4": ({**X264, "pixel_format": "yuv420p10le"}, VARIABLE),
    "open_gop_hevc.mp4": (
        {"codec": "libx265", "x265-params": "keyint=12:bframes=3:open-gop=1:log-level=none"},
        VARIABLE,
    ),
    "hidden_frames.webm": ({"codec": "libvpx", "auto-alt-ref": "1", "lag-in-frames": "16", "g": "20"}, VARIABLE),
    "vp9.webm": ({"codec": "libvpx-vp9", "auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}, VARIABLE),
    "mpeg1.mpg": ({**MPEG2, "codec": "mpeg1video"}, REGULAR),
    "mpeg2.mpg": (MPEG2, REGULAR),
    "mpeg2.ts": (MPEG2, REGULAR),
    "mpeg2.mkv": (MPEG2, REGULAR),
    "interlaced.mpg": ({**MPEG2, "flags": "+ildct+ilme"}, REGULAR),
    "mpeg4.mp4": ({"codec": "mpeg4", "clock": 25, "bf": "2"}, REGULAR),
    "flv1.flv": ({"codec": "flv"}, VARIABLE),
    "mjpeg.avi": ({"codec": "mjpeg", "clock": 25, "pixel_format": "yuvj420p"}, REGULAR),
    "animation.gif": ({"codec": "gif", "clock": 25, "pixel_format": "rgb8"}, REGULAR),
    "ffv1.mkv": ({"codec": "ffv1"}, VARIABLE),
}


def build_zoo(folder: Path) -> dict[str, Path]:
    """Return all the files, by name."""
    for name, (options, times) in ENCODED.items():
        encode(folder / name, FRAMES, times, **options)
    height, width = FRAMES[0].shape[:2]
    for name, chunks in _mpeg4_chunks().items():
        keys = [place for place, chunk in enumerate(chunks) if _kind(chunk) == "I"]
        write_avi(folder / f"{name}.avi", chunks, width, height, key_frames=keys)
        for suffix in ("mp4", "mkv"):
            copy_streams(folder / f"{name}.avi", folder / f"{name}.{suffix}")
        copy_streams(folder / f"{name}.avi", folder / f"{name}_without_times.mp4", keeps_times=False)
    copy_streams(folder / "h264.mp4", folder / "h264_without_times.mp4", keeps_times=False)
    fields = field_pictures([frame[..., 0] for frame in FRAMES])
    pairs = [top + bottom for top, bottom in zip(fields[::2], fields[1::2])]
    write_packets(folder / "field_pairs.mp4", "libx264", pairs, width, height, ticks=2)
    (folder / "fields.h264").write_bytes(b"".join(fields))
    for suffix in ("ts", "mp4", "mkv"):
        write_packets(folder / f"fields.{suffix}", "libx264", fields, width, height)
    for name in ("h264.mp4", "open_gop.mp4", "open_gop.ts", "open_gop_hevc.mp4"):
        cut_start(folder / name, folder / f"starts_late_{name}", 15, shift=False)
    for name in ("h264.mp4", "open_gop.mp4", "open_gop_hevc.mp4"):
        cut_start(folder / name, folder / f"edit_list_{name}", 15, shift=True)
    (folder / "tuned_in_late.ts").write_bytes((folder / "h264.ts").read_bytes()[188 * 20 :])
    return {path.name: path for path in sorted(folder.iterdir())}


def _mpeg4_chunks() -> dict[str, list[bytes]]:
    vops = mpeg4_vops(FRAMES, b_frames=2)
    plain = [vop.content for vop in mpeg4_vops(FRAMES, b_frames=0)]
    gaps = [*plain[:5], not_coded(), *plain[5:13], not_coded(), not_coded(), *plain[13:]]
    return {"packed": packed(vops), "b_frames": [vop.content for vop in vops], "not_coded": gaps}
