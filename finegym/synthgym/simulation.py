"""From a motion program to joints in space: eased shapes, planted contacts and ballistic flights."""

from dataclasses import dataclass

import numpy as np

from .figure import HANDS, MASS, SUPPORTS, Body, forward_kinematics, orientation
from .program import BAR_HEIGHT, GRAVITY, TABLE_HEIGHT, Phase, Program


@dataclass(frozen=True)
class Motion:
    """A simulated performance.

    Attributes:
        event: The event: VT, FX, BB or UB.
        fps: The number of frames per second.
        joints: The world positions (T, 18, 3) of the joints in meters.
        axes: The rotations (T, 3, 3) from the body to the world frame; the first column is where the pelvis faces.
        table_x: The position where the hands meet the vaulting table, if they do.
    """

    event: str
    fps: float
    joints: np.ndarray
    axes: np.ndarray
    table_x: float | None = None


def smooth(values: np.ndarray, width: float) -> np.ndarray:
    """Smooth along the first axis with a Gaussian of `width` frames, repeating the edges."""
    offsets = np.arange(-8, 9)
    kernel = np.exp(-0.5 * (offsets / width) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(values, [(8, 8)] + [(0, 0)] * (values.ndim - 1), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 17, axis=0)
    return windows @ kernel


def _ease(times: np.ndarray, keys: list[tuple[float, np.ndarray]]) -> np.ndarray:
    """Return the joint angles (T, 16) between key shapes, starting and stopping softly at each."""
    keys = sorted(keys, key=lambda key: key[0])
    at = np.array([time for time, _ in keys])
    shapes = np.stack([shape for _, shape in keys])
    index = np.clip(np.searchsorted(at, times, side="right") - 1, 0, len(at) - 2)
    share = np.clip((times - at[index]) / np.maximum(at[index + 1] - at[index], 1e-6), 0, 1)
    share = (share * share * (3 - 2 * share))[:, None]
    return shapes[index] * (1 - share) + shapes[index + 1] * share


def _hang_on_bar(local: np.ndarray, grips: np.ndarray) -> np.ndarray:
    """Return the pelvis positions (T, 3) that keep the gripping hands where they are along the bar."""
    hands = np.einsum("th,thj->tj", grips / grips.sum(1, keepdims=True), local[:, HANDS])
    root = np.array([0.0, 0.0, BAR_HEIGHT]) - hands
    for frame in range(1, len(local)):
        share = grips[frame] / grips[frame].sum()
        root[frame, 1] = root[frame - 1, 1] + share @ (local[frame - 1, HANDS, 1] - local[frame, HANDS, 1])
    return root


def _travel(local: np.ndarray, phase_of: list[Phase], fps: float) -> np.ndarray:
    """Return the pelvis positions (T, 3): the lowest hand or foot is planted in contact, the center of mass flies a
    parabola."""
    num_frames = len(local)
    center = np.einsum("j,tjk->tk", MASS, local)
    surface = np.array([phase.surface for phase in phase_of])
    flying = np.array([phase.support == "flight" for phase in phase_of])
    lowest = np.array(SUPPORTS)[local[:, SUPPORTS, 2].argmin(1)]
    root = np.zeros((num_frames, 3))
    root[:, 2] = surface - local[:, SUPPORTS, 2].min(1)
    for frame in range(1, num_frames):
        step = np.array([phase_of[frame].speed / fps, 0.0])
        if flying[frame] or flying[frame - 1]:
            root[frame, :2] = root[frame - 1, :2] + center[frame - 1, :2] - center[frame, :2] + step
        else:
            joint = lowest[frame - 1]
            root[frame, :2] = root[frame - 1, :2] + local[frame - 1, joint, :2] - local[frame, joint, :2] + step
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flying.astype(int), [0]])))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        first, last = max(start - 1, 0), min(stop, num_frames - 1)
        share = (np.arange(start, stop) - first) / (last - first)
        ends = root[[first, last], 2] + center[[first, last], 2]
        rise = 0.5 * GRAVITY * ((last - first) / fps) ** 2 * share * (1 - share)
        height = ends[0] * (1 - share) + ends[1] * share + rise
        floor = min(surface[first], surface[last])
        lifted = floor - local[start:stop, SUPPORTS, 2].min(1)
        root[start:stop, 2] = np.maximum(height - center[start:stop, 2], lifted)
    root[:, 2] = smooth(root[:, 2] + center[:, 2], 0.7) - center[:, 2]
    return root


def simulate(program: Program, event: str, fps: float) -> Motion:
    """Run a program at `fps` frames per second: angles, orientation, contact and flight."""
    body = Body.random(program.rng)
    times = (np.arange(round(program.time * fps)) + 0.5) / fps
    stops = np.array([phase.stop for phase in program.phases])
    phase_of = [program.phases[i] for i in np.minimum(np.searchsorted(stops, times), len(stops) - 1)]
    somersault, twist = (
        smooth(np.deg2rad(np.interp(times, *zip(*track, strict=True))), 1.0)
        for track in (program.somersault, program.twist)
    )
    axes = orientation(somersault, twist)
    local = forward_kinematics(_ease(times, program.shapes), body) @ axes.transpose(0, 2, 1)
    if event == "UB":
        root = _hang_on_bar(local, np.array([phase.grip for phase in phase_of]))
    else:
        root = _travel(local, phase_of, fps)
    joints = local + root[:, None]
    table_x = None
    if event == "VT":
        on_table = [
            i for i, phase in enumerate(phase_of) if phase.surface == TABLE_HEIGHT and phase.support == "ground"
        ]
        table_x = float(joints[on_table][:, HANDS, 0].mean())
    return Motion(event=event, fps=fps, joints=joints, axes=axes, table_x=table_x)
