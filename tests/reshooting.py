"""SynthGym's performances filmed again, by the same camera in the same hall, at other frame rates."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from finegym.data.labels import Labels
from finegym.synthgym.filming import Camera, Look
from finegym.synthgym.generate import FRAME_RATES, Performance, plan
from finegym.synthgym.motions import compose
from finegym.synthgym.scene import SUPERSAMPLING, film
from finegym.synthgym.simulation import Motion, simulate


def performances_of(root: Path, split: str = "val") -> dict[str, Performance]:
    """Return what a SynthGym data set shows, by the ids of its videos."""
    made = json.loads((root / "synthgym.json").read_text())
    labels = Labels.read(root / "labels.json")
    counts = {"train": made["num_train_per_class"], "val": made["num_val_per_class"]}
    wanted = [
        (name, action.id, k) for name, count in counts.items() for action in labels.classes for k in range(count)
    ]
    competitions = plan(labels, wanted, made["seed"], FRAME_RATES[made["split"]])
    shown = [shown for video in competitions for event in video.events for shown in event.performances]
    return {performance.id: performance for performance in shown if performance.split == split}


def film_at(performance: Performance, times: np.ndarray, size: int) -> np.ndarray:
    """Return the frames (T, size, size, 3) uint8 that the camera would have taken at these times, in seconds from its
    first frame: athlete and camera move on straight lines between the pictures of the original."""
    rng = np.random.default_rng(performance.seed)
    program = compose(performance.event, performance.attributes, rng)
    motion = simulate(program, performance.event, performance.fps)
    look = Look.random(rng)
    camera = Camera(motion, rng, size * SUPERSAMPLING)
    places = np.clip(times * performance.fps, 0, len(motion.joints) - 1)
    return film(_moved(motion, places), _carried(camera, places), look, rng).frames


def _moved(motion: Motion, places: np.ndarray) -> Motion:
    return replace(motion, joints=_between(motion.joints, places), axes=_between(motion.axes, places))


def _carried(camera: Camera, places: np.ndarray) -> Camera:
    camera = copy.copy(camera)
    for name in ("forward", "right", "up", "focal", "center"):
        setattr(camera, name, _between(getattr(camera, name), places))
    return camera


def _between(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    first = np.minimum(places.astype(int), len(values) - 2)
    share = (places - first).reshape(-1, *[1] * (values.ndim - 1))
    return values[first] * (1 - share) + values[first + 1] * share
