"""Clips that one dataset trains on and another validates on.

Gym99 and Gym288 are cut from the same videos, and their splits are not aligned: one clip of every Gym99 class is
trained on in Gym99 and validated on in Gym288 and, in v1.1, the other way round. A backbone trained on one and
validated on the other has seen them.
"""

from collections.abc import Iterable
from pathlib import Path

from .index import Clip
from .text import read_json


# Computed from FineGym's lists; a test computes them again where the lists are.
LEAKS_FILE = Path(__file__).parents[2] / "configuration" / "leaking_clips.json"


def leaking_clips(train_dataset: str, train_version: str, val_dataset: str) -> frozenset[str]:
    """Ids of the validation clips of `val_dataset` that `train_dataset` trains on, known without either dataset's
    files."""
    pairs = read_json(LEAKS_FILE, what="list of leaking clips", remedy="It belongs to the project.")["pairs"]
    leaking: set[str] = set()
    for pair in pairs:
        if (pair["train"], pair["val"]) == (train_dataset, val_dataset) and train_version in pair["train_versions"]:
            leaking.update(pair["clips"])
    return frozenset(leaking)


def check_leakage(
    seen_in_training: Iterable[str], val_clips: Iterable[Clip], *, seen_by: str, leave_out: bool = False
) -> list[Clip]:
    """Refuse to validate a model on clips that it, or the backbone it grew from, was trained on.

    Args:
        seen_in_training: ids of the clips trained on: those of a training index, or `leaking_clips(...)`.
        val_clips: the clips to validate on.
        seen_by: what was trained on them, for the message: "the backbone's gym99 v1.0".
        leave_out: drop the leaking clips instead of refusing. The caller reports the smaller number.

    Returns:
        The clips to validate on.

    Raises:
        ValueError: if a validation clip was trained on and `leave_out` is False.
    """
    val_clips = list(val_clips)
    seen = frozenset(seen_in_training)
    leaking = sorted(clip.id for clip in val_clips if clip.id in seen)
    if leaking and not leave_out:
        raise ValueError(
            f"{len(leaking)} of {len(val_clips)} validation clips were trained on by {seen_by}, such as {leaking[0]}. "
            "Scores on them would be too good. Take a backbone trained on the same dataset and version, or ask for "
            "these clips to be left out."
        )
    return [clip for clip in val_clips if clip.id not in seen]
