"""The hall, the camera and the picture: a simulated performance becomes frames.

The front and the back of the athlete differ in brightness, not in hue alone (bright chest and face, dark back and
hair), on a figure that fills half to two thirds of the picture: turns can only be counted by a network that sees which
way she faces.
"""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .figure import JOINT_INDEX
from .motions import BAR_HEIGHT, BEAM_HEIGHT, TABLE_HEIGHT, Motion, smooth


SUPERSAMPLING = 2
NUM_SIDES = 12
LOW_BAR_HEIGHT = 1.7
BAR_GAP = 1.8

Color = tuple[int, int, int]

# (start joint, stop joint, radius at the start, radius at the stop, part), meters.
LIMBS = [
    (JOINT_INDEX[f"{start}_{side}"], JOINT_INDEX[f"{stop}_{side}"], first, last, part)
    for side in ("left", "right")
    for start, stop, first, last, part in (
        ("hip", "knee", 0.085, 0.06, "leg"),
        ("knee", "heel", 0.06, 0.038, "leg"),
        ("heel", "toe", 0.035, 0.025, "foot"),
        ("shoulder", "elbow", 0.046, 0.037, "arm"),
        ("elbow", "hand", 0.037, 0.03, "hand"),
    )
]
# (position along the axis, half width, half depth) of the rings of the two lofted bodies, meters.
TRUNK_RINGS = ((-0.1, 0.09, 0.08), (0.0, 0.135, 0.105), (0.45, 0.115, 0.095), (0.85, 0.16, 0.12), (1.02, 0.145, 0.085))
HEAD_RINGS = ((-0.12, 0.055, 0.065), (-0.06, 0.095, 0.105), (0.05, 0.105, 0.12), (0.115, 0.065, 0.08))


@dataclass(frozen=True)
class Look:
    """Everything about a clip that is not the movement: colors, light and image quality."""

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
        """Any hues, but always a bright chest against a dark back and a face lighter than the hair."""
        hue = rng.random()
        chest = _hsv(rng.random(), rng.uniform(0.0, 0.45), rng.uniform(0.9, 1.0))
        back = _hsv(hue, rng.uniform(0.5, 1.0), rng.uniform(0.08, 0.25))
        tone = rng.uniform(0.62, 1.0)
        skin = (int(238 * tone), int(188 * tone), int(158 * tone))
        dark_hall = rng.random() < 0.5
        value = rng.uniform(0.3, 0.45) if dark_hall else rng.uniform(0.5, 0.8)
        return cls(
            chest=chest,
            back=back,
            skin=skin,
            hair=_hsv(rng.uniform(0.02, 0.12), rng.uniform(0.3, 0.8), rng.uniform(0.08, 0.3)),
            legs=back if not dark_hall and rng.random() < 0.25 else skin,
            sleeves=skin if rng.random() < 0.5 else back,
            floor=_hsv(rng.random(), rng.uniform(0.15, 0.55), np.clip(value + rng.uniform(-0.1, 0.25), 0.2, 0.85)),
            wall=_hsv(rng.random(), rng.uniform(0.1, 0.45), value),
            apparatus=_hsv(rng.uniform(0.05, 0.15), rng.uniform(0.2, 0.6), rng.uniform(0.45, 0.85)),
            light=rng.uniform(0.8, 1.12),
            noise=rng.uniform(1, 6),
            ghost=bool(rng.random() < 0.4),
        )


@dataclass(frozen=True)
class Rendering:
    """A filmed motion.

    Attributes:
        frames: (T, S, S, 3) uint8 RGB.
        facing: (T,) cosine between the chest's normal and the way to the camera; 1 is the front, -1 the back.
    """

    frames: np.ndarray
    facing: np.ndarray


def _hsv(hue: float, saturation: float, value: float) -> Color:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return int(255 * red), int(255 * green), int(255 * blue)


def _shade(color: Color, factor: float) -> Color:
    return tuple(min(255, int(channel * factor)) for channel in color)  # type: ignore[return-value]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


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
        self.forward = _unit(target - self.position)
        self.right = _unit(np.cross(self.forward, [0.0, 0.0, 1.0]))
        self.up = np.cross(self.right, self.forward)
        zoom = 1 + smooth(np.cumsum(rng.normal(0, 0.006, num_frames)), 2)
        share = rng.uniform(0.54, 0.68)
        self.focal = share * size * distance / _stature(joints[0]) * zoom
        self.center = size / 2 + smooth(rng.normal(0, rng.uniform(0, 0.012) * size, (num_frames, 2)), 0.8)
        self.size = size

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (T, N, 2) and pixels per meter (T, N) of points (T, N, 3), or (N, 3) at rest in the hall."""
        offsets = np.broadcast_to(points, (len(self.focal), *points.shape[-2:])) - self.position
        depth = np.maximum(np.einsum("tnk,tk->tn", offsets, self.forward), 0.3)
        scale = self.focal[:, None] / depth
        across = np.einsum("tnk,tk->tn", offsets, self.right) * scale
        along = np.einsum("tnk,tk->tn", offsets, self.up) * scale
        return self.center[:, None] + np.stack([across, -along], -1), scale


def _stature(joints: np.ndarray) -> float:
    """Height of the standing athlete in meters, from the joints (18, 3) of any frame."""
    chain = [JOINT_INDEX[name] for name in ("head", "neck", "waist", "pelvis")]
    leg = [JOINT_INDEX[name] for name in ("hip_left", "knee_left", "heel_left")]
    return float(sum(np.linalg.norm(np.diff(joints[part], axis=0), axis=1).sum() for part in (chain, leg))) + 0.16


# ------------------------------------------------------------------------------------------------------ the athlete


def _trunk_frames(motion: Motion) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Left, front and up (T, 3) of the chest."""
    joints = motion.joints
    left = _unit(joints[:, JOINT_INDEX["shoulder_left"]] - joints[:, JOINT_INDEX["shoulder_right"]])
    up = _unit(joints[:, JOINT_INDEX["neck"]] - joints[:, JOINT_INDEX["waist"]])
    return left, _unit(np.cross(left, up)), up


def _ring(center: np.ndarray, left: np.ndarray, front: np.ndarray, width: float, depth: float) -> np.ndarray:
    """An ellipse (T, K, 3) about `center`, from the front round by the left."""
    angle = 2 * np.pi * np.arange(NUM_SIDES) / NUM_SIDES
    return (
        center[:, None]
        + depth * np.cos(angle)[None, :, None] * front[:, None]
        + width * np.sin(angle)[None, :, None] * left[:, None]
    )


def _loft(camera: Camera, rings: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Quads (T, R - 1, K, 4, 2) between neighboring rings, and how much each faces the camera (T, R - 1, K)."""
    points = np.stack(rings, 1)  # (T, R, K, 3)
    pixels, _ = camera.project(points.reshape(len(points), -1, 3))
    pixels = pixels.reshape(*points.shape[:3], 2)
    after = np.roll(pixels, -1, axis=2)
    quads = np.stack([pixels[:, :-1], after[:, :-1], after[:, 1:], pixels[:, 1:]], 3)
    first, second = quads[..., 2, :] - quads[..., 0, :], quads[..., 3, :] - quads[..., 1, :]
    area = first[..., 1] * second[..., 0] - first[..., 0] * second[..., 1]
    lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    return quads, area / np.maximum(lengths, 1e-6)


class Athlete:
    """The projected outlines of the athlete in every frame, ready to be painted."""

    def __init__(self, motion: Motion, camera: Camera, look: Look) -> None:
        joints, look_light = motion.joints, look.light
        self.look, self.light = look, look_light
        left, front, up = _trunk_frames(motion)
        self.facing = np.einsum("tk,tk->t", front, _unit(camera.position - joints[:, JOINT_INDEX["waist"]]))
        pelvis_front, pelvis_left, pelvis_up = (motion.axes[:, :, axis] for axis in range(3))
        spine = joints[:, [JOINT_INDEX[name] for name in ("pelvis", "waist", "neck")]]
        rings = []
        for position, width, depth in TRUNK_RINGS:
            share = position / 0.45 if position < 0.45 else (position - 0.45) / 0.55
            first = 0 if position < 0.45 else 1
            center = spine[:, first] + share * (spine[:, first + 1] - spine[:, first])
            low = position <= 0.0
            rings.append(_ring(center, pelvis_left if low else left, pelvis_front if low else front, width, depth))
        self.trunk = _loft(camera, rings)
        head = joints[:, JOINT_INDEX["head"]]
        head_up = _unit(head - joints[:, JOINT_INDEX["neck"]])
        head_front = _unit(np.cross(left, head_up))
        rings = [_ring(head + at * head_up, left, head_front, width, depth) for at, width, depth in HEAD_RINGS]
        self.head = _loft(camera, rings)
        self.bun, bun_scale = camera.project((head - 0.125 * head_front + 0.05 * head_up)[:, None])
        self.pixels, scale = camera.project(joints)
        self.bun_radius = 0.055 * bun_scale[:, 0]
        self.neck_radius = 0.048 * scale[:, JOINT_INDEX["neck"]]
        starts, stops = [limb[0] for limb in LIMBS], [limb[1] for limb in LIMBS]
        radii = np.array([limb[2:4] for limb in LIMBS])  # (L, 2)
        self.limb_radii = np.stack([scale[:, starts], scale[:, stops]], -1) * radii
        along = _unit(self.pixels[:, stops] - self.pixels[:, starts])
        across = np.stack([-along[..., 1], along[..., 0]], -1)[:, :, None]  # (T, L, 1, 2)
        ends = np.stack([self.pixels[:, starts], self.pixels[:, stops]], 2)  # (T, L, 2, 2)
        sides = across * self.limb_radii[..., None]
        self.limb_quads = np.concatenate([ends + sides, (ends - sides)[:, :, ::-1]], 2)  # (T, L, 4, 2)
        self.limb_ends = ends
        near = scale / scale[:, :1]
        trunk_near = near[:, [0, 2]].mean(1)
        limb_near = 0.5 * (near[:, starts] + near[:, stops])
        self.nearness = np.concatenate([limb_near, trunk_near[:, None], near[:, [JOINT_INDEX["head"]]]], 1)

    def _paint_loft(self, draw: ImageDraw.ImageDraw, loft: tuple, frame: int, front: Color, back: Color) -> None:
        quads, turned = loft[0][frame], loft[1][frame]
        half = NUM_SIDES // 4
        for ring, side in zip(*np.nonzero(turned > 0), strict=True):
            color = front if side < half or side >= NUM_SIDES - half else back
            shade = self.light * (0.78 + 0.25 * min(1.0, turned[ring, side]))
            draw.polygon(quads[ring, side].ravel().tolist(), fill=_shade(color, shade))

    def _paint_limb(self, draw: ImageDraw.ImageDraw, limb: int, frame: int) -> None:
        part = LIMBS[limb][4]
        look = self.look
        color = {"leg": look.legs, "arm": look.sleeves}.get(part, look.skin)
        near = self.nearness[frame, limb] - self.nearness[frame, len(LIMBS)]
        color = _shade(color, self.light * float(np.clip(0.94 + 3.0 * near, 0.72, 1.05)))
        draw.polygon(self.limb_quads[frame, limb].ravel().tolist(), fill=color)
        for (x, y), radius in zip(
            self.limb_ends[frame, limb].tolist(), self.limb_radii[frame, limb].tolist(), strict=True
        ):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)

    def paint(self, draw: ImageDraw.ImageDraw, frame: int) -> None:
        """Paint one frame, far parts first."""
        look = self.look
        for part in np.argsort(self.nearness[frame]).tolist():
            if part < len(LIMBS):
                self._paint_limb(draw, part, frame)
            elif part == len(LIMBS):
                self._paint_loft(draw, self.trunk, frame, look.chest, look.back)
            else:
                neck, head = self.pixels[frame, [JOINT_INDEX["neck"], JOINT_INDEX["head"]]]
                width = max(1, round(2 * self.neck_radius[frame]))
                draw.line([tuple(neck), tuple(head)], fill=_shade(look.skin, 0.9 * self.light), width=width)
                (x, y), radius = self.bun[frame, 0], self.bun_radius[frame]
                bun = (x - radius, y - radius, x + radius, y + radius)
                behind = self.facing[frame] > 0
                if behind:
                    draw.ellipse(bun, fill=_shade(look.hair, self.light))
                self._paint_loft(draw, self.head, frame, look.skin, look.hair)
                if not behind:
                    draw.ellipse(bun, fill=_shade(look.hair, self.light))


# -------------------------------------------------------------------------------------------------------- the hall


@dataclass(frozen=True)
class Prop:
    """A polygon (N, 3), or with a radius in meters a thick line (2, 3), at rest in the hall."""

    points: np.ndarray
    color: Color
    radius: float | None = None


def _box(
    x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], color: Color, near: float
) -> list[Prop]:
    """Top and near side of a box; `near` is the camera's y."""
    top = [[x[0], y[0], z[1]], [x[1], y[0], z[1]], [x[1], y[1], z[1]], [x[0], y[1], z[1]]]
    face = y[1] if near > 0 else y[0]
    side = [[x[0], face, z[1]], [x[1], face, z[1]], [x[1], face, z[0]], [x[0], face, z[0]]]
    return [Prop(np.array(side), _shade(color, 0.75)), Prop(np.array(top), color)]


def _apparatus(motion: Motion, look: Look, near: float) -> tuple[list[Prop], list[Prop]]:
    """Props behind and in front of the athlete."""
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
        props = _box((x - 6, x - 2.2), (-0.5, 0.5), (0, 0.02), _shade(look.floor, 1.25), near)
        props += _box((x - 2.1, x - 1.0), (-0.35, 0.35), (0, 0.15), (215, 205, 150), near)
        props += _box((x - 0.15, x + 0.25), (-0.2, 0.2), (0, 0.9), metal, near)
        props += _box((x - 0.45, x + 0.6), (-0.47, 0.47), (0.9, TABLE_HEIGHT), color, near)
        return props + _box((x + 1.4, x + 6), (-1.2, 1.2), (0, 0.12), _shade(look.floor, 0.8), near), []
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
    return [Prop(np.array(border), _shade(look.floor, 1.3))], []


def _floor(motion: Motion, look: Look) -> list[Prop]:
    middle = round(float(motion.joints[:, 0, 0].mean()))
    corners = [[middle - 16, -5, 0], [middle + 16, -5, 0], [middle + 16, 5, 0], [middle - 16, 5, 0]]
    props = [Prop(np.array(corners, float), look.floor)]
    for x in range(middle - 12, middle + 13, 2):
        props.append(Prop(np.array([[x, -5, 0], [x, 5, 0.0]]), _shade(look.floor, 0.86), 0.015))
    return props


def _occluders(camera: Camera, motion: Motion, rng: np.random.Generator) -> list[Prop]:
    """Now and then a judge's head or a post between the camera and the athlete."""
    props = []
    middle = motion.joints[:, 0].mean(0)
    for _ in range(int(rng.choice([0, 1, 2], p=[0.7, 0.2, 0.1]))):
        share = rng.uniform(0.35, 0.6)
        foot = middle + share * (camera.position - middle) + np.array([rng.uniform(-1.5, 1.5), 0, 0])
        sight = middle[2] + share * (camera.position[2] - middle[2])
        color = _hsv(rng.random(), 0.3, rng.uniform(0.08, 0.35))
        if rng.random() < 0.6:
            top = sight - rng.uniform(0.45, 0.8) * (1 - share) / 0.5
            props.append(Prop(np.array([[foot[0], foot[1], top - 1.0], [foot[0], foot[1], top - 0.28]]), color, 0.16))
            props.append(Prop(np.array([[foot[0], foot[1], top - 0.1], [foot[0], foot[1], top]]), color, 0.09))
        else:
            props.append(Prop(np.array([[foot[0], foot[1], 0], [foot[0], foot[1], sight + 2]]), color, 0.018))
    return props


def _panorama(look: Look, rng: np.random.Generator, size: int) -> Image.Image:
    """Stands, banners and spectators, blurred, four pictures wide and three high."""
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
        self.shadow_color = _shade(look.floor, 0.6 * look.light)

    def backdrop(self, frame: int) -> Image.Image:
        """A new picture (S, S) of the stands, to paint on."""
        x, y = self.corners[frame].tolist()
        return self.panorama.crop((x, y, x + self.size, y + self.size))

    def paint(self, draw: ImageDraw.ImageDraw, frame: int, *, before: bool) -> None:
        """Paint what stands behind the athlete, or in front of her."""
        for prop, pixels, scale in self.before if before else self.behind:
            points = pixels[frame].ravel().tolist()
            color = _shade(prop.color, self.light)
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


def _develop(frames: np.ndarray, look: Look, rng: np.random.Generator) -> np.ndarray:
    """Ghosting and sensor noise on frames (T, S, S, 3) uint8."""
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
    camera = Camera(motion, rng, size * SUPERSAMPLING)
    hall = Hall(motion, camera, look, rng)
    athlete = Athlete(motion, camera, look)
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
    """One row of `num_columns` evenly spaced frames for each (title, frames (T, S, S, 3) uint8)."""
    size = rows[0][1].shape[1]
    sheet = Image.new("RGB", (label_width + num_columns * size, size * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (title, frames) in enumerate(rows):
        picks = np.linspace(0, len(frames) - 1, num_columns).round().astype(int)
        sheet.paste(Image.fromarray(np.concatenate(list(frames[picks]), 1)), (label_width, row * size))
        draw.multiline_text((4, row * size + size // 3), title, fill="black")
    return sheet
