"""Mutate videos of every common container and codec at random, and pass each through every door of the project.

A format and a seed name a case. A mutated file may be decoded, or refused by name. Where a file only ends early or is
followed by another, every frame that is returned must be the requested one: each frame shows its own number. What a
decoder makes of a damaged picture that it takes for a sound one is not known.
"""

import json
import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import torch

from finegym.evaluation.apart import ApartProcessor
from modeling_finegym import FineGymVideoProcessor
from tests.footage import mark_rotated, picture

from .fuzz_containers import parts
from .fuzz_doors import MAX_SECONDS, NUM_FRAMES, pass_doors, run_commands


# container -> codec and pixel format
FORMATS = {
    "h264.mp4": ("libx264", "yuv420p"),
    "h264.mkv": ("libx264", "yuv420p"),
    "h264.ts": ("libx264", "yuv420p"),
    "h264.avi": ("libx264", "yuv420p"),
    "h264.flv": ("libx264", "yuv420p"),
    "b_frames.mp4": ("libx264", "yuv420p"),
    "fragments.mp4": ("libx264", "yuv420p"),
    "head_first.mp4": ("libx264", "yuv420p"),
    "10bit.mp4": ("libx264", "yuv420p10le"),
    "rotated.mp4": ("libx264", "yuv420p"),
    "uneven.mp4": ("libx264", "yuv420p"),
    "single.mp4": ("libx264", "yuv420p"),
    "empty.mp4": ("libx264", "yuv420p"),
    "grows.ts": ("libx264", "yuv420p"),
    "hevc.mp4": ("libx265", "yuv420p"),
    "mpeg4.avi": ("mpeg4", "yuv420p"),
    "mpeg2.mpg": ("mpeg2video", "yuv420p"),
    "mjpeg.avi": ("mjpeg", "yuvj420p"),
    "vp8.webm": ("libvpx", "yuv420p"),
    "vp9.webm": ("libvpx-vp9", "yuv420p"),
    "ffv1.mkv": ("ffv1", "yuv420p"),
    "animation.gif": ("gif", "rgb8"),
}
ENCODER = {
    "libx264": {"crf": "12", "preset": "ultrafast"},
    "libx265": {"crf": "12", "preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1"},
}
CONTAINER = {"fragments.mp4": {"movflags": "frag_keyframe+empty_moov"}, "head_first.mp4": {"movflags": "faststart"}}
COUNTS = {"single.mp4": 1, "empty.mp4": 0}


def make_sound(folder: Path) -> dict[str, bytes]:
    """Return the bytes of one intact video in every format."""
    films = {}
    for name, (codec, pixel_format) in FORMATS.items():
        path = folder / name
        numbers = range(COUNTS.get(name, NUM_FRAMES))
        times = [number**2 if name == "uneven.mp4" else number for number in numbers]
        _encode(path, codec, pixel_format, times)
        if name == "rotated.mp4":
            mark_rotated(path)
        films[name] = path.read_bytes()
        if name == "grows.ts":
            _encode(path, codec, pixel_format, times, factor=2)
            films[name] += path.read_bytes()
            path.write_bytes(films[name])
    return films


def _encode(path: Path, codec: str, pixel_format: str, times: list[int], factor: int = 1) -> None:
    """Write one numbered picture at each time, in 25ths of a second."""
    with av.open(str(path), "w", options=CONTAINER.get(path.name, {})) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 64 * factor, 96 * factor, pixel_format
        stream.options = {**ENCODER.get(codec, {}), "g": "12"}
        if path.name == "b_frames.mp4":
            stream.options = {**stream.options, "bf": "2", "b-adapt": "0"}
        if codec not in ENCODER and codec != "gif":
            stream.bit_rate = 4_000_000
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number, 64 * factor, 96 * factor), format="rgb24")
            frame.time_base, frame.pts = Fraction(1, 25), time
            container.mux(stream.encode(frame))
        if times:
            container.mux(stream.encode(None))
        else:
            container.start_encoding()


def _cut(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def _cut_at_border(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    return data[: chance.choice(parts(data))[chance.randrange(2)]]


def _append(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    return data + chance.choice(others)


def _splice(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    place = chance.randrange(len(data))
    return data[:place] + chance.choice(others)[place:]


def _change_bytes(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Flip bits, write extreme numbers, and delete, repeat and exchange stretches."""
    changed, way = bytearray(data), chance.randrange(5)
    for _ in range(chance.randint(1, 12)):
        place, length = chance.randrange(len(changed)), chance.choice([1, 2, 4, 8, 64, 512])
        other = chance.randrange(len(changed))
        if way == 0:
            changed[place] ^= 1 << chance.randrange(8)
        elif way == 1:
            changed[place : place + 4] = _extreme(chance)
        elif way == 2 and length < len(changed):
            del changed[place : place + length]
        elif way == 3:
            changed[place:place] = changed[place : place + length]
        else:
            stretch = changed[place : place + length]
            changed[place : place + length] = changed[other : other + length]
            changed[other : other + length] = stretch
    return bytes(changed)


def _change_parts(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Drop, repeat, exchange and empty parts of the container."""
    for _ in range(chance.randint(1, 3)):
        spans = parts(data)
        (start, end), (first, last) = sorted(chance.choices(spans, k=2)) if spans else ((0, 0), (0, 0))
        way = chance.randrange(5)
        if way == 0:
            data = data[:start] + data[end:]
        elif way == 1:
            data = data[:end] + data[start:]
        elif way == 2 and end <= first:
            data = data[:start] + data[first:last] + data[end:first] + data[start:end] + data[last:]
        elif way == 3:
            data = data[: start + 8] + bytes(max(0, end - start - 8)) + data[end:]
        else:
            data = data[:last] + data[start:end] + data[last:]
    return data


def _lie(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Write extreme numbers to where headers have theirs: sizes, counts, widths, times."""
    changed = bytearray(data)
    spans = [span for span in parts(data) if span[1] - span[0] < 400] or parts(data)
    for _ in range(chance.randint(1, 4)):
        start, end = chance.choice(spans)
        place = start + 4 * chance.randrange(max(1, min(40, (end - start) // 4)))
        changed[place : place + 4] = _extreme(chance)
    return bytes(changed)


def _extreme(chance: random.Random) -> bytes:
    number = chance.choice([0, 1, 2**16 - 1, 2**24, 2**25, 2**31 - 1, 2**32 - 1])
    return number.to_bytes(4, chance.choice(["big", "little"]))


Mutation = Callable[[bytes, list[bytes], random.Random], bytes]
# Those that leave what is in a file as it is, so that its frames are still known, and the others.
HARMLESS: list[Mutation] = [_cut, _cut_at_border, _append]
HARMFUL: list[Mutation] = [_splice, _change_bytes, _change_bytes, _change_parts, _change_parts, _lie, _lie]


def mutate(content: bytes, others: list[bytes], chance: random.Random) -> tuple[bytes, bool]:
    """Return a mutated file, and whether its frames are those of the intact one, as far as there are any."""
    way = chance.choice(HARMLESS + HARMFUL)
    if not content or not parts(content):
        return content, True
    return way(content, others, chance), way in HARMLESS


def run_case(
    reader: ApartProcessor, films: dict[str, bytes], name: str, chance: random.Random, folder: Path
) -> str | None:
    """Pass one mutated file through every door; return what went wrong, as a kind and a colon before the details, or
    None."""
    content, is_known = mutate(films[name], list(films.values()), chance)
    path = folder / f"case.{name.rpartition('.')[2]}"
    path.write_bytes(content)
    found, problem = run_apart(reader, pass_doors, path)
    if problem:
        return problem
    numbers, others = found["numbers"].tolist(), found["others"].tolist()
    count = COUNTS.get(name, NUM_FRAMES)
    if is_known and numbers[:count] != list(range(min(count, len(numbers)))):
        return f"substitution: frames show {numbers}"
    if is_known and others:
        return f"substitution: frames {others} are others when they are read alone"
    return None


def run_folder(reader: ApartProcessor, films: dict[str, bytes], seed: int, folder: Path) -> str | None:
    """Pass mutated files of every format, and an intact one, through whole commands; return what went wrong, or
    None."""
    videos = folder / "videos" / "leap"
    videos.mkdir(parents=True)
    for number, (name, content) in enumerate(films.items()):
        mutated, _ = mutate(content, list(films.values()), random.Random(f"folder/{name}/{seed}"))
        (videos / f"{number:02}-{name}").write_bytes(mutated if number else content)
    return run_apart(reader, run_commands, folder)[1]


def run_apart(reader: ApartProcessor, function: Callable, path: Path) -> tuple[dict[str, torch.Tensor], str | None]:
    """Return what a function returns in the reader's process, and the first problem."""
    try:
        found = reader.run(function, path)
    except ValueError as error:
        return {}, f"{'hang' if 'takes longer than' in str(error) else 'death'}: {error}"
    problems = json.loads(bytes(found["problems"].tolist()))
    return found, problems[0] if problems else None


def make_reader() -> ApartProcessor:
    """Return the reader of all cases; its process is started again when a case kills it."""
    sizes = {"num_frames": 8, "size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
    return ApartProcessor(FineGymVideoProcessor(**sizes), seconds=30 * MAX_SECONDS)
