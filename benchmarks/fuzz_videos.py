"""Pass randomly mutated videos through the video processor in a separate process.

A format and a seed name a case. A mutated file may be decoded, or refused by name. Where a file only ends early, every
frame that is returned must be the requested one: each frame shows its own number.
"""

import random
import time
from fractions import Fraction
from pathlib import Path

import av
import torch

from finegym.evaluation.apart import ApartProcessor
from modeling_finegym import FineGymVideoProcessor
from modeling_finegym.clip_scoring import VideoClips
from modeling_finegym.video_decoding import open_video
from tests.footage import mark_rotated, numbers_of, picture


NUM_FRAMES = 24
MAX_SECONDS = 10.0
# container -> codec and pixel format
FORMATS = {
    "h264.mp4": ("libx264", "yuv420p"),
    "h264.mkv": ("libx264", "yuv420p"),
    "h264.ts": ("libx264", "yuv420p"),
    "h264.avi": ("libx264", "yuv420p"),
    "10bit.mp4": ("libx264", "yuv420p10le"),
    "rotated.mp4": ("libx264", "yuv420p"),
    "uneven.mp4": ("libx264", "yuv420p"),
    "single.mp4": ("libx264", "yuv420p"),
    "mpeg4.avi": ("mpeg4", "yuv420p"),
    "mpeg2.mpg": ("mpeg2video", "yuv420p"),
    "mjpeg.avi": ("mjpeg", "yuvj420p"),
    "vp8.webm": ("libvpx", "yuv420p"),
    "vp9.webm": ("libvpx-vp9", "yuv420p"),
    "ffv1.mkv": ("ffv1", "yuv420p"),
    "animation.gif": ("gif", "rgb8"),
}


def make_sound(folder: Path) -> dict[str, bytes]:
    """Return the bytes of one intact video in every format."""
    films = {}
    for name, (codec, pixel_format) in FORMATS.items():
        path = folder / name
        count = 1 if name.startswith("single") else NUM_FRAMES
        uneven = name.startswith("uneven")
        _encode(path, codec, pixel_format, [number**2 if uneven else number for number in range(count)])
        if name.startswith("rotated"):
            mark_rotated(path)
        films[name] = path.read_bytes()
    return films


def _encode(path: Path, codec: str, pixel_format: str, times: list[int]) -> None:
    """Write one numbered picture at each time, in 25ths of a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, pixel_format
        if codec == "libx264":
            stream.options = {"crf": "12", "preset": "ultrafast"}
        elif codec != "gif":
            stream.bit_rate = 4_000_000
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.time_base, frame.pts = Fraction(1, 25), time
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def mutate(content: bytes, others: list[bytes], chance: random.Random) -> tuple[bytes, bool]:
    """Return a mutated file, and whether it is an intact one that only ends early."""
    data = bytearray(content)
    way = chance.randrange(8)
    if way == 0:
        return bytes(data[: chance.randrange(len(data))]), True
    if way == 1:
        return bytes(data + chance.choice(others)), False
    if way == 2:
        place = chance.randrange(len(data))
        return bytes(data[:place] + chance.choice(others)[place:]), False
    for _ in range(chance.randint(1, 12)):
        place, length = chance.randrange(len(data)), chance.choice([1, 2, 4, 8, 64, 512])
        if way == 3:  # false numbers: sizes, counts, widths, times
            number = chance.choice([0, 1, 2**16 - 1, 2**31 - 1, 2**32 - 1])
            data[place : place + 4] = number.to_bytes(4, "big")
        elif way == 4:
            del data[place : place + length]
        elif way == 5:
            data[place:place] = data[place : place + length]
        elif way == 6:
            other = chance.randrange(len(data))
            data[place : place + length], data[other : other + length] = (
                data[other : other + length],
                data[place : place + length],
            )
        else:
            data[place] ^= 1 << chance.randrange(8)
        if not data:
            break
    return bytes(data), False


class NumberReader(FineGymVideoProcessor):
    """A processor that returns, in place of the clips' weights, the number that each frame of the video shows."""

    def load_clips(self, video, *options) -> VideoClips:
        if not isinstance(video, str):  # the processor's own call for the file that it has opened
            return super().load_clips(video, *options)
        start = time.process_time()
        super().load_clips(video, num_clips=2)
        with open_video(video) as file:
            images = [file.frames([index])[0] for index in range(min(file.num_frames, 4 * NUM_FRAMES))]
        seconds = time.process_time() - start
        if seconds > MAX_SECONDS:
            raise ValueError(f"{video} takes longer than {MAX_SECONDS:.0f} s of the processor: {seconds:.0f} s.")
        turned = [image if image.shape[0] < image.shape[1] else torch.rot90(image) for image in images]
        return VideoClips(torch.tensor(numbers_of([image.numpy() for image in turned])))


def run_case(
    reader: ApartProcessor, films: dict[str, bytes], name: str, chance: random.Random, folder: Path
) -> str | None:
    """Decode one mutated file; return what went wrong, as a kind and a colon before the details, or None."""
    content, only_cut = mutate(films[name], list(films.values()), chance)
    path = folder / f"case.{name.rpartition('.')[2]}"
    path.write_bytes(content)
    try:
        numbers = reader.load_clips(path).weights.tolist()
    except ValueError as error:
        text = str(error)
        if "kills the decoder" in text:
            return f"death: {text}"
        if "takes longer than" in text:
            return f"hang: {text}"
        return None if path.name in text else f"undocumented: {text[:200]}"
    # a picture rotated by 90 degrees shows horizontal bars
    if only_cut and not name.startswith("rotated") and numbers != list(range(len(numbers))):
        return f"substitution: frames show {numbers}"
    return None


def make_reader() -> ApartProcessor:
    """Return the reader of all cases; its process is started again when a case kills it."""
    sizes = {"num_frames": 8, "size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
    return ApartProcessor(NumberReader(**sizes), seconds=12 * MAX_SECONDS)
