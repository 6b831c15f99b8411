"""The hall as a picture: stands, floor, apparatus and what comes between camera and athlete."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .filming import Camera, Color, Look, hsv, shaded
from .program import BAR_HEIGHT, BEAM_HEIGHT, TABLE_HEIGHT
from .simulation import Motion


LOW_BAR_HEIGHT = 1.7
BAR_GAP = 1.8


@dataclass(frozen=True)
class Prop:
    """A polygon (N, 3), or with a radius in meters a thick line (2, 3), at rest in the hall."""

    points: np.ndarray
    color: Color
    radius: float | None = None


def _box(
    x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], color: Color, near: float
) -> list[Prop]:
    """Return the top and the near side of a box; `near` is the camera's y."""
    top = [[x[0], y[0], z[1]], [x[1], y[0], z[1]], [x[1], y[1], z[1]], [x[0], y[1], z[1]]]
    face = y[1] if near > 0 else y[0]
    side = [[x[0], face, z[1]], [x[1], face, z[1]], [x[1], face, z[0]], [x[0], face, z[0]]]
    return [Prop(np.array(side), shaded(color, 0.75)), Prop(np.array(top), color)]


def _apparatus(motion: Motion, look: Look, near: float) -> tuple[list[Prop], list[Prop]]:
    """Return the props behind and in front of the athlete."""
    color, metal = look.apparatus, (125, 125, 130)
    middle = float(motion.joints[:, 0, 0].mean())
    if motion.event == "BB":
        props = []
        for x in (middle - 1.9, middle + 1.7):
            props += _box((x, x + 0.2), (-0.05, 0.05), (0, BEAM_HEIGHT - 0.14), metal, near)
        return props + _box(
            (middle - 2.5, middle + 2.5), (-0.07, 0.07), (BEAM_HEIGHT - 0.16, BEAM_HEIGHT), color, near
        ), []
    if motion.event == "VT":
        x = motion.table_x or 0.0
        props = _box((x - 6, x - 2.2), (-0.5, 0.5), (0, 0.02), shaded(look.floor, 1.25), near)
        props += _box((x - 2.1, x - 1.0), (-0.35, 0.35), (0, 0.15), (215, 205, 150), near)
        props += _box((x - 0.15, x + 0.25), (-0.2, 0.2), (0, 0.9), metal, near)
        props += _box((x - 0.45, x + 0.6), (-0.47, 0.47), (0.9, TABLE_HEIGHT), color, near)
        return props + _box((x + 1.4, x + 6), (-1.2, 1.2), (0, 0.12), shaded(look.floor, 0.8), near), []
    if motion.event == "UB":
        behind, before = [], []
        for y in (-1.2, 1.2):
            side = before if y * near > 0 else behind
            side.append(Prop(np.array([[0, y, 0], [0, y, BAR_HEIGHT]]), metal, 0.03))
            side.append(Prop(np.array([[BAR_GAP, y, 0], [BAR_GAP, y, LOW_BAR_HEIGHT]]), metal, 0.03))
        behind.append(Prop(np.array([[BAR_GAP, -1.2, LOW_BAR_HEIGHT], [BAR_GAP, 1.2, LOW_BAR_HEIGHT]]), color, 0.02))
        behind.append(Prop(np.array([[0, -1.2, BAR_HEIGHT], [0, 1.2, BAR_HEIGHT]]), color, 0.02))
        return behind, before
    border = [[middle - 14, y, 0] for y in (-3.6, -3.3)] + [[middle + 14, y, 0] for y in (-3.3, -3.6)]
    return [Prop(np.array(border), shaded(look.floor, 1.3))], []


def _floor(motion: Motion, look: Look) -> list[Prop]:
    middle = round(float(motion.joints[:, 0, 0].mean()))
    corners = [[middle - 16, -5, 0], [middle + 16, -5, 0], [middle + 16, 5, 0], [middle - 16, 5, 0]]
    props = [Prop(np.array(corners, float), look.floor)]
    for x in range(middle - 12, middle + 13, 2):
        props.append(Prop(np.array([[x, -5, 0], [x, 5, 0.0]]), shaded(look.floor, 0.86), 0.015))
    return props


def _occluders(camera: Camera, motion: Motion, rng: np.random.Generator) -> list[Prop]:
    """Return what hides the athlete now and then: a judge's head or a post in front of the camera."""
    props = []
    middle = motion.joints[:, 0].mean(0)
    for _ in range(int(rng.choice([0, 1, 2], p=[0.7, 0.2, 0.1]))):
        share = rng.uniform(0.35, 0.6)
        foot = middle + share * (camera.position - middle) + np.array([rng.uniform(-1.5, 1.5), 0, 0])
        sight = middle[2] + share * (camera.position[2] - middle[2])
        color = hsv(rng.random(), 0.3, rng.uniform(0.08, 0.35))
        if rng.random() < 0.6:
            top = sight - rng.uniform(0.45, 0.8) * (1 - share) / 0.5
            props.append(Prop(np.array([[foot[0], foot[1], top - 1.0], [foot[0], foot[1], top - 0.28]]), color, 0.16))
            props.append(Prop(np.array([[foot[0], foot[1], top - 0.1], [foot[0], foot[1], top]]), color, 0.09))
        else:
            props.append(Prop(np.array([[foot[0], foot[1], 0], [foot[0], foot[1], sight + 2]]), color, 0.018))
    return props


def _panorama(look: Look, rng: np.random.Generator, size: int) -> Image.Image:
    """Return the stands, banners and spectators, blurred, four pictures wide and three high."""
    width, height = 2 * size, 3 * size // 2
    wall = np.array(look.wall, float)
    image = Image.new("RGB", (width, height), look.wall)
    draw = ImageDraw.Draw(image)

    def near_wall(spread: float) -> Color:
        return tuple(int(channel) for channel in np.clip(wall + rng.normal(0, spread, 3) + rng.normal(0, 12), 0, 255))

    for _ in range(int(rng.integers(25, 70))):
        x, y = rng.integers(0, width), rng.integers(0, height)
        w, h = rng.integers(4, size // 4), rng.integers(4, size // 6)
        shape = draw.rectangle if rng.random() < 0.7 else draw.ellipse
        shape((x, y, x + w, y + h), fill=near_wall(24))
    for _ in range(int(rng.integers(30, 140))):
        x, y, r = rng.integers(0, width), rng.integers(0, height), rng.uniform(1.0, 3.5)
        draw.ellipse((x, y, x + r, y + 1.3 * r), fill=near_wall(45))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.6))).resize(
        (2 * width, 2 * height), Image.Resampling.BILINEAR
    )


class Hall:
    """Backdrop, floor and apparatus, projected for every frame."""

    def __init__(self, motion: Motion, camera: Camera, look: Look, rng: np.random.Generator) -> None:
        near = float(camera.position[1])
        behind, before = _apparatus(motion, look, near)
        self.behind = [(prop, *camera.project(prop.points)) for prop in _floor(motion, look) + behind]
        self.before = [(prop, *camera.project(prop.points)) for prop in before + _occluders(camera, motion, rng)]
        self.light = look.light
        self.size = camera.size
        self.panorama = _panorama(look, rng, camera.size)
        yaw = np.unwrap(np.arctan2(camera.forward[:, 1], camera.forward[:, 0]))
        across = -(yaw - yaw.mean()) * camera.focal.mean() - camera.center[:, 0] + camera.size / 2
        along = -np.arcsin(camera.forward[:, 2]) * camera.focal.mean() * 0.8 - camera.center[:, 1] + camera.size / 2
        corner = np.array([self.panorama.width, self.panorama.height]) - camera.size
        offsets = corner / 2 + np.stack([across, along - along.mean()], -1) + rng.uniform(-0.3, 0.3, 2) * camera.size
        self.corners = np.clip(offsets, 0, corner).astype(int)
        shadow = motion.joints[:, :1] * [1, 1, 0] + [0, 0, 0.001]
        self.shadow = None if motion.event in ("UB", "BB") else camera.project(shadow)
        self.shadow_color = shaded(look.floor, 0.6 * look.light)

    def backdrop(self, frame: int) -> Image.Image:
        """Return a new picture (S, S) of the stands, to paint on."""
        x, y = self.corners[frame].tolist()
        return self.panorama.crop((x, y, x + self.size, y + self.size))

    def paint(self, draw: ImageDraw.ImageDraw, frame: int, *, before: bool) -> None:
        """Paint what is behind the athlete, or in front of her."""
        for prop, pixels, scale in self.before if before else self.behind:
            points = pixels[frame].ravel().tolist()
            color = shaded(prop.color, self.light)
            if prop.radius is None:
                draw.polygon(points, fill=color)
                continue
            radius = prop.radius * float(scale[frame].mean())
            draw.line(points, fill=color, width=max(1, round(2 * radius)))
            if prop.radius > 0.05:
                x, y = points[2:]
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
        if self.shadow is not None and not before:
            (x, y), radius = self.shadow[0][frame, 0], 0.3 * self.shadow[1][frame, 0]
            draw.ellipse((x - radius, y - 0.2 * radius, x + radius, y + 0.2 * radius), fill=self.shadow_color)
