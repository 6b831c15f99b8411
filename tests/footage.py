"""Videos whose every frame shows its own number, encoded without any of the project's code."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


# Twelve wide gray bars for twelve bits of the frame number survive any coding and scaling.
NUM_BITS = 12
DARK, LIGHT = 60, 200


def picture(number: int, height: int = 64, width: int = 96) -> np.ndarray:
    """Return (height, width, 3) uint8: the bits of `number` as bars, and a moving ramp below them."""
    bars = [LIGHT if number >> bit & 1 else DARK for bit in range(NUM_BITS)]
    image = np.repeat(np.array(bars, np.uint8)[np.linspace(0, NUM_BITS - 1e-6, width).astype(int)][None], height, 0)
    ramp = (np.arange(width) * 2 + number * 3) % 160 + 40
    image[3 * height // 4 :] = ramp.astype(np.uint8)
    return np.repeat(image[..., None], 3, -1)


def number_of(image: np.ndarray) -> int:
    """Return the number that a (decoded, scaled) picture shows."""
    height, width = image.shape[:2]
    columns = ((np.arange(NUM_BITS) + 0.5) * width / NUM_BITS).astype(int)
    return sum(1 << bit for bit, x in enumerate(columns) if image[: height // 2, x].mean() > (DARK + LIGHT) / 2)


def numbers_of(frames: np.ndarray) -> list[int]:
    return [number_of(np.asarray(frame)) for frame in frames]


def encode(
    path: Path,
    frames: Sequence[np.ndarray],
    times: Sequence[float],
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    audio: bool = False,
    clock: int = 1000,
    **options: str,
) -> None:
    """Write frames at the given times (seconds, rounded to a `clock`th of one)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = Fraction(1, clock)
        stream.options = {"crf": "12", "preset": "ultrafast", **options} if codec == "libx264" else options
        sound = container.add_stream("aac", rate=8000, layout="mono") if audio else None
        for image, time in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.time_base, frame.pts = Fraction(1, clock), round(time * clock)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound:
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
            samples.sample_rate, samples.pts = 8000, 0
            container.mux(sound.encode(samples))
            container.mux(sound.encode(None))


def mark_rotated(path: Path) -> None:
    """Mark an MP4 to be rotated clockwise by 90 degrees when shown, as phones do."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def moving_square(num_frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Return distinct frames (T, H, W, 3): a bright square moves over a gradient, and the gray level counts frames."""
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    frames[..., 0] = np.linspace(0, 120, width, dtype=np.uint8)
    for index in range(num_frames):
        frames[index, ..., 1] = 20 + index * 200 // max(num_frames, 1)
        left = index * (width - 12) // max(num_frames - 1, 1)
        frames[index, 8:20, left : left + 12, 2] = 230
    return frames
