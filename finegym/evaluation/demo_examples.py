"""Videos to click on: gymnasts that are drawn on the spot, which anyone may show.

In: SynthGym's classes. Out: MP4 files of single elements, and of a short routine.
"""

from pathlib import Path

import numpy as np

from finegym.data.labels import ActionClass, Labels
from finegym.data.video_writing import write_video
from finegym.synthgym.generate import LABELS
from finegym.synthgym.motions import compose
from finegym.synthgym.scene import render
from finegym.synthgym.simulation import simulate


# One class of each event, and the elements of a routine on the floor, by SynthGym's ids.
SINGLE = (3, 9, 19, 24)
ROUTINE = (10, 7, 9, 13)
# The seed of the drawings, and their side in pixels.
SEED, SIDE = 12, 224
FRAME_RATE = 25.0


def draw_examples(folder: Path) -> dict[str, str]:
    """Draw gymnasts who perform classes of SynthGym.

    Args:
        folder: The folder to write to.

    Returns:
        What is shown -> the file.
    """
    labels = Labels.read(LABELS["class"])
    examples = {}
    for number in SINGLE:
        action = labels.classes[number]
        path = folder / f"gymnast_{action.event}_{action.id}.mp4"
        write_video(path, _draw(labels, action), fps=FRAME_RATE)
        examples[action.name] = str(path)
    path = folder / "gymnast_routine.mp4"
    write_video(path, np.concatenate([_draw(labels, labels.classes[id]) for id in ROUTINE]), fps=FRAME_RATE)
    return examples | {f"A routine of {len(ROUTINE)} elements": str(path)}


def _draw(labels: Labels, action: ActionClass) -> np.ndarray:
    """Return the frames (T, H, W, 3) of an element; all elements of an event have one look."""
    attributes = [labels.attributes[attribute] for attribute in action.attributes]
    motion = simulate(
        compose(action.event, attributes, np.random.default_rng([SEED, action.id])), action.event, FRAME_RATE
    )
    look = np.random.default_rng([SEED, *action.event.encode()])
    return render(motion, look, size=SIDE).frames
