"""The athlete as a picture: limbs, trunk and head, projected and painted.

Her front and back differ in brightness, not in hue alone (bright chest and face, dark back and hair), on a figure that
fills half to two thirds of the picture: turns can only be counted by a network that sees which way she faces.
"""

import numpy as np
from PIL import ImageDraw

from .figure import JOINT_INDEX
from .filming import Camera, Color, Look, shaded, unit
from .simulation import Motion


NUM_SIDES = 12

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


def _trunk_frames(motion: Motion) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the directions left, front and up (T, 3) of the chest."""
    joints = motion.joints
    left = unit(joints[:, JOINT_INDEX["shoulder_left"]] - joints[:, JOINT_INDEX["shoulder_right"]])
    up = unit(joints[:, JOINT_INDEX["neck"]] - joints[:, JOINT_INDEX["waist"]])
    return left, unit(np.cross(left, up)), up


def _ring(center: np.ndarray, left: np.ndarray, front: np.ndarray, width: float, depth: float) -> np.ndarray:
    """Return an ellipse (T, K, 3) around `center`, from the front by way of the left."""
    angle = 2 * np.pi * np.arange(NUM_SIDES) / NUM_SIDES
    return (
        center[:, None]
        + depth * np.cos(angle)[None, :, None] * front[:, None]
        + width * np.sin(angle)[None, :, None] * left[:, None]
    )


def _loft(camera: Camera, rings: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the quads (T, R - 1, K, 4, 2) between neighboring rings, and how much each faces the camera (T, R - 1,
    K)."""
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
        self.facing = np.einsum("tk,tk->t", front, unit(camera.position - joints[:, JOINT_INDEX["waist"]]))
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
        head_up = unit(head - joints[:, JOINT_INDEX["neck"]])
        head_front = unit(np.cross(left, head_up))
        rings = [_ring(head + at * head_up, left, head_front, width, depth) for at, width, depth in HEAD_RINGS]
        self.head = _loft(camera, rings)
        self.bun, bun_scale = camera.project((head - 0.125 * head_front + 0.05 * head_up)[:, None])
        self.pixels, scale = camera.project(joints)
        self.bun_radius = 0.055 * bun_scale[:, 0]
        self.neck_radius = 0.048 * scale[:, JOINT_INDEX["neck"]]
        starts, stops = [limb[0] for limb in LIMBS], [limb[1] for limb in LIMBS]
        radii = np.array([limb[2:4] for limb in LIMBS])  # (L, 2)
        self.limb_radii = np.stack([scale[:, starts], scale[:, stops]], -1) * radii
        along = unit(self.pixels[:, stops] - self.pixels[:, starts])
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
            draw.polygon(quads[ring, side].ravel().tolist(), fill=shaded(color, shade))

    def _paint_limb(self, draw: ImageDraw.ImageDraw, limb: int, frame: int) -> None:
        part = LIMBS[limb][4]
        look = self.look
        color = {"leg": look.legs, "arm": look.sleeves}.get(part, look.skin)
        near = self.nearness[frame, limb] - self.nearness[frame, len(LIMBS)]
        color = shaded(color, self.light * float(np.clip(0.94 + 3.0 * near, 0.72, 1.05)))
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
                draw.line([tuple(neck), tuple(head)], fill=shaded(look.skin, 0.9 * self.light), width=width)
                (x, y), radius = self.bun[frame, 0], self.bun_radius[frame]
                bun = (x - radius, y - radius, x + radius, y + radius)
                behind = self.facing[frame] > 0
                if behind:
                    draw.ellipse(bun, fill=shaded(look.hair, self.light))
                self._paint_loft(draw, self.head, frame, look.skin, look.hair)
                if not behind:
                    draw.ellipse(bun, fill=shaded(look.hair, self.light))
