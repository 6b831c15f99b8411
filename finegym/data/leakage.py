"""Videos that one data set trains on and another validates on.

Gym99 and Gym288 are cut from the same broadcasts, and their splits are not aligned: one video of every Gym99 class is
trained on in Gym99 and validated on in Gym288 and, in v1.1, the other way round. A backbone trained on one and
validated on the other has seen them.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from transformers.utils import cached_file

from finegym.paths import CONFIGURATION

from .index import Video
from .text import read_json


# Computed from FineGym's lists; a test computes them again where the lists are.
LEAKS_FILE = CONFIGURATION / "leaking_videos.json"


def leaking_videos(train_dataset: str, train_version: str, val_dataset: str) -> frozenset[str]:
    """Return the ids of the validation videos of `val_dataset` that `train_dataset` trains on, known without either
    data set's files."""
    pairs = read_json(LEAKS_FILE, what="list of leaking videos", remedy="It belongs to the project.")["pairs"]
    leaking: set[str] = set()
    for pair in pairs:
        if (pair["train"], pair["val"]) == (train_dataset, val_dataset) and train_version in pair["train_versions"]:
            leaking.update(pair["videos"])
    return frozenset(leaking)


def datasets_seen_by(checkpoint: str) -> list[dict[str, Any]]:
    """Return what a checkpoint, in a folder or on the Hub, says that it and its backbone were trained on.

    Returns:
        Mappings with `dataset`, `annotation_version` and, where the data set has folds, the `fold` that was left out.
        The list is empty for weights that say nothing.

    Raises:
        ValueError: If the checkpoint cannot be found or says it in another form; the message names it.
    """
    try:
        path = cached_file(checkpoint, "metrics.json", _raise_exceptions_for_missing_entries=False)
    except OSError as error:
        raise ValueError(f"{checkpoint} cannot be loaded: {error}") from error
    if path is None:
        return []
    content = read_json(path, what="file of metrics", remedy="`finegym evaluate` writes it.", finite=False)
    seen = content.get("trained_on", []) if isinstance(content, dict) else []
    fields = {"dataset": str, "annotation_version": str, "fold": (int, type(None))}
    if not isinstance(seen, list) or not all(
        isinstance(entry, dict)
        and {"dataset", "annotation_version"} <= entry.keys() <= fields.keys()
        and all(isinstance(value, fields[name]) for name, value in entry.items())
        for entry in seen
    ):
        raise ValueError(f"{path}: `trained_on` is not a list of data sets and their versions.")
    return seen


def unseen_videos(
    videos: Sequence[Video], seen: Iterable[dict[str, Any]], dataset: str, *, leave_out: bool = False
) -> list[Video]:
    """Return the validation videos of `dataset`, none of which a model may have been trained on.

    Args:
        videos: The videos to validate on, with their folds.
        seen: What the model was trained on, as `datasets_seen_by` returns it.
        dataset: The name of the videos' data set.
        leave_out: Whether to drop the videos that the model has seen rather than refuse.

    Raises:
        ValueError: If some were trained on and `leave_out` is False.
    """
    left = list(videos)
    for entry in seen:
        name, version, fold = entry["dataset"], entry["annotation_version"], entry.get("fold")
        leaking = set(leaking_videos(name, version, dataset))
        seen_by = f"{name} {version}"
        if name == dataset and fold is not None:
            leaking.update(video.id for video in videos if video.fold not in (None, fold))
            seen_by += f", all folds but {fold}"
        left = check_leakage(leaking, left, seen_by=seen_by, leave_out=leave_out)
    return left


def check_leakage(
    seen_in_training: Iterable[str], val_videos: Iterable[Video], *, seen_by: str, leave_out: bool = False
) -> list[Video]:
    """Refuse to validate a model on videos that it, or its backbone, was trained on.

    Args:
        seen_in_training: The ids of the videos trained on: those of a training index, or `leaking_videos(...)`.
        val_videos: The videos to validate on.
        seen_by: The name of what was trained on them, for the message: "the backbone's gym99 v1.0".
        leave_out: Whether to drop the leaking videos rather than refuse. The caller reports the smaller number.

    Returns:
        The videos to validate on.

    Raises:
        ValueError: If a validation video was trained on and `leave_out` is False.
    """
    val_videos = list(val_videos)
    seen = frozenset(seen_in_training)
    leaking = sorted(video.id for video in val_videos if video.id in seen)
    if leaking and not leave_out:
        raise ValueError(
            f"{len(leaking)} of {len(val_videos)} validation videos were trained on by {seen_by}, such as "
            f"{leaking[0]}. Scores on them would be too good. Take a backbone trained on the same data set and "
            "version, or ask for these videos to be left out."
        )
    return [video for video in val_videos if video.id not in seen]
