"""How a performance is filmed: colors, light and image quality, and the camera that follows the athlete."""

import colorsys
from dataclasses import dataclass

import numpy as np

from .figure import JOINT_INDEX
from .simulation import Motion, smooth


Color = tuple[int, int, int]


def hsv(hue: float, saturation: float, value: float) -> Color:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return int(255 * red), int(255 * green), int(255 * blue)


def shaded(color: Color, factor: float) -> Color:
    return tuple(min(255, int(channel * factor)) for channel in color)  # type: ignore[return-value]


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


@dataclass(frozen=True)
class Look:
    """Everything about a video that is not the movement: colors, light and image quality."""

    chest: Color
    back: Color
    skin: Color
    hair: Color
    legs: Color
    sleeves: Color
    floor: Color
    wall: Color
    apparatus: Color
    light: float
    noise: float
    ghost: bool

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Look":
        """Return a look of random hues, always with a bright chest, a dark back and a face lighter than the hair."""
        hue = rng.random()
        chest = hsv(rng.random(), rng.uniform(0.0, 0.45), rng.uniform(0.9, 1.0))
        back = hsv(hue, rng.uniform(0.5, 1.0), rng.uniform(0.08, 0.25))
        tone = rng.uniform(0.62, 1.0)
        skin = (int(238 * tone), int(188 * tone), int(158 * tone))
        dark_hall = rng.random() < 0.5
        value = rng.uniform(0.3, 0.45) if dark_hall else rng.uniform(0.5, 0.8)
        return cls(
            chest=chest,
            back=back,
            skin=skin,
            hair=hsv(rng.uniform(0.02, 0.12), rng.uniform(0.3, 0.8), rng.uniform(0.08, 0.3)),
            legs=back if not dark_hall and rng.random() < 0.25 else skin,
            sleeves=skin if rng.random() < 0.5 else back,
            floor=hsv(rng.random(), rng.uniform(0.15, 0.55), np.clip(value + rng.uniform(-0.1, 0.25), 0.2, 0.85)),
            wall=hsv(rng.random(), rng.uniform(0.1, 0.45), value),
            apparatus=hsv(rng.uniform(0.05, 0.15), rng.uniform(0.2, 0.6), rng.uniform(0.45, 0.85)),
            light=rng.uniform(0.8, 1.12),
            noise=rng.uniform(1, 6),
            ghost=bool(rng.random() < 0.4),
        )


class Camera:
    """A camera beside the apparatus that follows the athlete: late, unsteadily and with a drifting zoom."""

    def __init__(self, motion: Motion, rng: np.random.Generator, size: int) -> None:
        joints = motion.joints
        num_frames = len(joints)
        diagonal = rng.uniform(8, 42) * rng.choice([-1, 1])
        azimuth = np.deg2rad(90 + diagonal) * rng.choice([-1, 1])
        elevation, distance = np.deg2rad(rng.uniform(2, 16)), rng.uniform(7, 11)
        middle = 0.25 * (joints.min(1) + joints.max(1)) + 0.5 * joints[:, 0]
        drift = np.cumsum(rng.normal(0, 0.012, (num_frames, 3)), 0)
        target = smooth(middle, rng.uniform(1.5, 4)) + drift - drift.mean(0) + rng.normal(0, 0.08, 3)
        way = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
        self.position = middle.mean(0) + distance * way
        self.forward = unit(target - self.position)
        self.right = unit(np.cross(self.forward, [0.0, 0.0, 1.0]))
        self.up = np.cross(self.right, self.forward)
        zoom = 1 + smooth(np.cumsum(rng.normal(0, 0.006, num_frames)), 2)
        share = rng.uniform(0.54, 0.68)
        self.focal = share * size * distance / _stature(joints[0]) * zoom
        self.center = size / 2 + smooth(rng.normal(0, rng.uniform(0, 0.012) * size, (num_frames, 2)), 0.8)
        self.size = size

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the pixels (T, N, 2) and the pixels per meter (T, N) of points (T, N, 3), or (N, 3) at rest in the
        hall."""
        offsets = np.broadcast_to(points, (len(self.focal), *points.shape[-2:])) - self.position
        depth = np.maximum(np.einsum("tnk,tk->tn", offsets, self.forward), 0.3)
        scale = self.focal[:, None] / depth
        across = np.einsum("tnk,tk->tn", offsets, self.right) * scale
        along = np.einsum("tnk,tk->tn", offsets, self.up) * scale
        return self.center[:, None] + np.stack([across, -along], -1), scale


def _stature(joints: np.ndarray) -> float:
    """Return the height of the standing athlete in meters, from the joints (18, 3) of any frame."""
    chain = [JOINT_INDEX[name] for name in ("head", "neck", "waist", "pelvis")]
    leg = [JOINT_INDEX[name] for name in ("hip_left", "knee_left", "heel_left")]
    return float(sum(np.linalg.norm(np.diff(joints[part], axis=0), axis=1).sum() for part in (chain, leg))) + 0.16
