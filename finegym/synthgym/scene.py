"""The scene put together: a simulated performance becomes frames."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .athlete import Athlete
from .filming import Camera, Look
from .hall import Hall
from .simulation import Motion


SUPERSAMPLING = 2


@dataclass(frozen=True)
class Rendering:
    """A filmed motion.

    Attributes:
        frames: The frames, (T, S, S, 3) uint8 RGB.
        facing: The cosine (T,) between the chest's normal and the direction to the camera; 1 is the front, -1 the
            back.
    """

    frames: np.ndarray
    facing: np.ndarray


def _develop(frames: np.ndarray, look: Look, rng: np.random.Generator) -> np.ndarray:
    """Return frames (T, S, S, 3) uint8 with ghosting and sensor noise."""
    if look.ghost:
        frames[1:] = ((frames[1:].astype(np.uint16) * 3 + frames[:-1]) // 4).astype(np.uint8)
    size = frames.shape[1]
    grain = rng.normal(0, look.noise, (2 * size, 2 * size, 1)).astype(np.int16)
    for frame in frames:
        x, y = rng.integers(0, size, 2)
        np.clip(frame + grain[y : y + size, x : x + size], 0, 255, out=frame, casting="unsafe")
    return frames


def render(motion: Motion, rng: np.random.Generator, *, size: int = 112, look: Look | None = None) -> Rendering:
    """Film a motion from a random place: `size` is the side of the square frames in pixels."""
    look = look or Look.random(rng)
    return film(motion, Camera(motion, rng, size * SUPERSAMPLING), look, rng)


def film(motion: Motion, camera: Camera, look: Look, rng: np.random.Generator) -> Rendering:
    """Film a motion with a camera that has been set up."""
    hall = Hall(motion, camera, look, rng)
    athlete = Athlete(motion, camera, look)
    size = camera.size // SUPERSAMPLING
    frames = np.empty((len(motion.joints), size, size, 3), np.uint8)
    for index in range(len(frames)):
        image = hall.backdrop(index)
        draw = ImageDraw.Draw(image)
        hall.paint(draw, index, before=False)
        athlete.paint(draw, index)
        hall.paint(draw, index, before=True)
        frames[index] = np.asarray(image.reduce(SUPERSAMPLING))
    return Rendering(_develop(frames, look, rng), athlete.facing)


def contact_sheet(
    rows: Sequence[tuple[str, np.ndarray]], *, num_columns: int = 12, label_width: int = 150
) -> Image.Image:
    """Return one row of `num_columns` evenly spaced frames for each (title, frames (T, S, S, 3) uint8)."""
    size = rows[0][1].shape[1]
    sheet = Image.new("RGB", (label_width + num_columns * size, size * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (title, frames) in enumerate(rows):
        picks = np.linspace(0, len(frames) - 1, num_columns).round().astype(int)
        sheet.paste(Image.fromarray(np.concatenate(list(frames[picks]), 1)), (label_width, row * size))
        draw.multiline_text((4, row * size + size // 3), title, fill="black")
    return sheet
