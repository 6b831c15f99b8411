"""Videos that one dataset trains on and another validates on.

Gym99 and Gym288 are cut from the same broadcasts, and their splits are not aligned: one video of every Gym99 class is
trained on in Gym99 and validated on in Gym288 and, in v1.1, the other way round. A backbone trained on one and
validated on the other has seen them.
"""

from collections.abc import Iterable

from finegym.paths import CONFIGURATION

from .index import Video
from .text import read_json


# Computed from FineGym's lists; a test computes them again where the lists are.
LEAKS_FILE = CONFIGURATION / "leaking_videos.json"


def leaking_videos(train_dataset: str, train_version: str, val_dataset: str) -> frozenset[str]:
    """Ids of the validation videos of `val_dataset` that `train_dataset` trains on, known without either dataset's
    files."""
    pairs = read_json(LEAKS_FILE, what="list of leaking videos", remedy="It belongs to the project.")["pairs"]
    leaking: set[str] = set()
    for pair in pairs:
        if (pair["train"], pair["val"]) == (train_dataset, val_dataset) and train_version in pair["train_versions"]:
            leaking.update(pair["videos"])
    return frozenset(leaking)


def check_leakage(
    seen_in_training: Iterable[str], val_videos: Iterable[Video], *, seen_by: str, leave_out: bool = False
) -> list[Video]:
    """Refuse to validate a model on videos that it, or the backbone it grew from, was trained on.

    Args:
        seen_in_training: ids of the videos trained on: those of a training index, or `leaking_videos(...)`.
        val_videos: the videos to validate on.
        seen_by: what was trained on them, for the message: "the backbone's gym99 v1.0".
        leave_out: drop the leaking videos instead of refusing. The caller reports the smaller number.

    Returns:
        The videos to validate on.

    Raises:
        ValueError: if a validation video was trained on and `leave_out` is False.
    """
    val_videos = list(val_videos)
    seen = frozenset(seen_in_training)
    leaking = sorted(video.id for video in val_videos if video.id in seen)
    if leaking and not leave_out:
        raise ValueError(
            f"{len(leaking)} of {len(val_videos)} validation videos were trained on by {seen_by}, such as "
            f"{leaking[0]}. Scores on them would be too good. Take a backbone trained on the same dataset and "
            "version, or ask for these videos to be left out."
        )
    return [video for video in val_videos if video.id not in seen]
