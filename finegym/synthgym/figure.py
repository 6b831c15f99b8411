"""The gymnast: bodies, joint angles, body shapes and forward kinematics.

Body frame: x points out of the chest, y to the athlete's left, z from the pelvis to the head; the pelvis is the
origin. Lengths are meters, joint angles degrees, rotations radians.
"""

from dataclasses import dataclass, fields

import numpy as np


LIMB_ANGLES = ("hip", "spread", "knee", "foot", "shoulder", "lift", "elbow")
ANGLES = tuple(f"{name}_{side}" for name in LIMB_ANGLES for side in ("left", "right")) + ("spine", "neck")
ANGLE_INDEX = {name: index for index, name in enumerate(ANGLES)}

JOINTS = (
    *("pelvis", "waist", "neck", "head"),
    *("shoulder_left", "elbow_left", "hand_left", "shoulder_right", "elbow_right", "hand_right"),
    *("hip_left", "knee_left", "heel_left", "toe_left", "hip_right", "knee_right", "heel_right", "toe_right"),
)
JOINT_INDEX = {name: index for index, name in enumerate(JOINTS)}
HANDS = [JOINT_INDEX["hand_left"], JOINT_INDEX["hand_right"]]
SUPPORTS = [JOINT_INDEX[name] for name in ("toe_left", "toe_right", "heel_left", "heel_right")] + HANDS

# Rough share of the body mass lumped at each joint (trunk 50 %, head 8 %, arms 10 %, legs 32 %).
_MASS = np.array([0.2, 0.2, 0.1, 0.08] + [0.015, 0.02, 0.015] * 2 + [0.04, 0.07, 0.04, 0.01] * 2)
MASS = _MASS / _MASS.sum()


@dataclass(frozen=True)
class Body:
    """Segment lengths in meters; the defaults make an athlete about 1.55 m tall."""

    trunk: float = 0.48
    neck: float = 0.21
    shoulder_width: float = 0.155
    upper_arm: float = 0.27
    forearm: float = 0.29
    hip_width: float = 0.085
    thigh: float = 0.39
    shank: float = 0.38
    foot: float = 0.17

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Body":
        """Return an athlete between about 1.38 and 1.72 m, with her own proportions."""
        scale = rng.uniform(0.9, 1.1)
        return cls(**{field.name: field.default * scale * rng.uniform(0.94, 1.06) for field in fields(cls)})


def pose(**angles: float) -> np.ndarray:
    """Return a body shape as a vector of joint angles (16,), degrees, in the order of `ANGLES`.

    `hip=30` sets both hips, `hip_left=30` one of them. Hip, shoulder and elbow bend forward, the knee backward; a
    shoulder of 0 hangs down, 180 is overhead. Spread and lift move a leg or an arm sideways, foot 0 is flat and 60
    pointed, a positive spine or neck bends forward and a negative one arches.
    """
    values = {"spread": 4.0, "foot": 55.0, "shoulder": 15.0, "lift": 12.0, "elbow": 8.0, **angles}
    vector = np.zeros(len(ANGLES))
    for name in LIMB_ANGLES:
        for side in ("left", "right"):
            vector[ANGLE_INDEX[f"{name}_{side}"]] = values.get(f"{name}_{side}", values.get(name, 0.0))
    for name in ("spine", "neck"):
        vector[ANGLE_INDEX[name]] = values.get(name, 0.0)
    return vector


def mirror(angles: np.ndarray) -> np.ndarray:
    """Return any array whose last axis is `ANGLES` with left and right exchanged."""
    swapped = angles.copy()
    swapped[..., 0 : 2 * len(LIMB_ANGLES) : 2] = angles[..., 1 : 2 * len(LIMB_ANGLES) : 2]
    swapped[..., 1 : 2 * len(LIMB_ANGLES) : 2] = angles[..., 0 : 2 * len(LIMB_ANGLES) : 2]
    return swapped


SHAPES: dict[str, np.ndarray] = {
    "stand": pose(foot=0),
    "reach": pose(shoulder=172, lift=10, foot=10),
    "present": pose(shoulder=85, lift=75, foot=5),
    "crouch": pose(hip=42, knee=62, shoulder=-40, spine=18, foot=-12),
    "take_off": pose(hip=-4, shoulder=168, lift=6, spine=-6),
    "tuck": pose(hip=130, knee=132, shoulder=62, elbow=38, spine=36, neck=15),
    "pike": pose(hip=124, knee=2, shoulder=66, elbow=5, spine=26),
    "layout": pose(hip=-4, shoulder=28, lift=8, spine=-6),
    "wrap": pose(hip=2, shoulder=45, elbow=112, lift=10),
    "open": pose(hip=22, knee=12, shoulder=120, lift=25, spine=5, foot=20),
    "land": pose(hip=55, knee=66, shoulder=82, lift=28, spine=18, foot=-15),
    "arch": pose(hip=-32, shoulder=176, spine=-46, knee=14, neck=-28),
    "hollow": pose(hip=26, shoulder=165, spine=16),
    "handstand": pose(hip=-2, shoulder=179, lift=6),
    "lunge": pose(hip_left=52, knee_left=46, hip_right=-24, shoulder=160, spine=12, foot=5),
    "kick_over": pose(hip_left=-8, hip_right=-74, shoulder=176),
    "split": pose(
        hip_left=88, hip_right=-86, shoulder_left=85, lift_left=20, shoulder_right=60, lift_right=72, spread=2
    ),
    "swing": pose(hip_left=66, hip_right=-24, shoulder=55, lift=55, spread=2),
    "switched": pose(
        hip_left=-86, hip_right=90, shoulder_right=85, lift_right=20, shoulder_left=60, lift_left=72, spread=2
    ),
    "straddle": pose(hip=92, spread=66, shoulder=85, lift=42, spine=12),
    "wolf": pose(hip_left=98, hip_right=100, knee_left=118, shoulder=88, lift=30, spine=10, spread=1),
    "sheep": pose(hip=-46, knee=112, spine=-46, neck=-42, shoulder=140, lift=45),
    "passe": pose(hip_right=58, knee_right=112, spread_right=28, shoulder=80, lift=30, elbow=48, foot_left=42),
    "turn_prepare": pose(
        hip_left=32, knee_left=38, hip_right=-26, shoulder_left=78, shoulder_right=20, lift_right=78, foot=0
    ),
    "turn_end": pose(hip_right=-28, shoulder=82, lift=70, foot_left=0),
    "bar_arch": pose(hip=-24, shoulder=186, spine=-16, knee=4, lift=4),
    "bar_kick": pose(hip=38, shoulder=160, spine=16, lift=4),
    "bar_handstand": pose(hip=0, shoulder=180, lift=4),
    "run": pose(
        hip_left=62,
        knee_left=80,
        hip_right=-28,
        knee_right=30,
        shoulder_left=-35,
        shoulder_right=50,
        elbow=85,
        spine=8,
    ),
    "step_out": pose(hip_left=28, knee_left=36, hip_right=-22, shoulder=82, lift=60, foot=0),
}


def _direction(angle: np.ndarray) -> np.ndarray:
    """Return the unit vector (T, 3) tilted forward by `angle` (T,) from the z axis."""
    return np.stack([np.sin(angle), np.zeros_like(angle), np.cos(angle)], -1)


def _limb(down: np.ndarray, front: np.ndarray, forward: np.ndarray, sideways: np.ndarray, side: int) -> np.ndarray:
    """Return the unit vectors (T, 3) of a limb swung `forward` and `sideways` (T,) from `down`, on a trunk that faces
    `front`."""
    forward, sideways = forward[:, None], sideways[:, None]
    left = np.array([0.0, 1.0, 0.0])
    return np.cos(sideways) * (np.sin(forward) * front + np.cos(forward) * down) + side * np.sin(sideways) * left


def forward_kinematics(angles: np.ndarray, body: Body) -> np.ndarray:
    """Return the joint positions (T, 18, 3) in the body frame, meters, for joint angles (T, 16) in degrees."""
    radians = np.deg2rad(angles)
    angle = {name: radians[:, index] for name, index in ANGLE_INDEX.items()}
    joints = np.zeros((len(angles), len(JOINTS), 3))
    waist = joints[:, 1] = 0.45 * body.trunk * _direction(0.4 * angle["spine"])
    neck = joints[:, 2] = waist + 0.55 * body.trunk * _direction(angle["spine"])
    joints[:, 3] = neck + body.neck * _direction(angle["spine"] + angle["neck"])
    up, front = _direction(angle["spine"]), _direction(angle["spine"] + np.pi / 2)
    pelvis_down, pelvis_front = np.array([0.0, 0.0, -1.0]), np.array([1.0, 0.0, 0.0])
    left = np.array([0.0, 1.0, 0.0])
    for name, side in (("left", 1), ("right", -1)):
        shoulder, lift, elbow = (angle[f"{part}_{name}"] for part in ("shoulder", "lift", "elbow"))
        start = JOINT_INDEX[f"shoulder_{name}"]
        joints[:, start] = neck - 0.04 * up + side * body.shoulder_width * left
        joints[:, start + 1] = joints[:, start] + body.upper_arm * _limb(-up, front, shoulder, lift, side)
        bent = _limb(-up, front, shoulder + elbow, lift * np.cos(elbow), side)
        joints[:, start + 2] = joints[:, start + 1] + body.forearm * bent

        hip, spread, knee, foot = (angle[f"{part}_{name}"] for part in ("hip", "spread", "knee", "foot"))
        start = JOINT_INDEX[f"hip_{name}"]
        joints[:, start] = side * body.hip_width * left
        joints[:, start + 1] = joints[:, start] + body.thigh * _limb(pelvis_down, pelvis_front, hip, spread, side)
        shank = _limb(pelvis_down, pelvis_front, hip - knee, spread, side)
        joints[:, start + 2] = joints[:, start + 1] + body.shank * shank
        flat = np.pi / 2 - foot
        joints[:, start + 3] = joints[:, start + 2] + body.foot * _limb(
            pelvis_down, pelvis_front, hip - knee + flat, spread, side
        )
    return joints


def orientation(somersault: np.ndarray, twist: np.ndarray) -> np.ndarray:
    """Return the rotations (T, 3, 3) from the body to the world frame.

    The body twists about its long axis and then somersaults about the world's y axis, in radians. The somersault moves
    the head of an upright body towards +x: forward for an athlete who faces +x (twist 0), backward for one facing -x.
    """
    zeros, ones = np.zeros_like(twist), np.ones_like(twist)
    cos, sin = np.cos(twist), np.sin(twist)
    about_z = np.stack([cos, -sin, zeros, sin, cos, zeros, zeros, zeros, ones], -1).reshape(-1, 3, 3)
    cos, sin = np.cos(somersault), np.sin(somersault)
    about_y = np.stack([cos, zeros, sin, zeros, ones, zeros, -sin, zeros, cos], -1).reshape(-1, 3, 3)
    return about_y @ about_z
