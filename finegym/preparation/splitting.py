"""What is trained on and what is validated on: the splits that a user gives, or splits drawn by class and by group.

Videos of one group (one source video, athlete or day) are on one side of every split. A model that is validated on
pieces of what it was trained on looks far better than it is.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .entries import Entry


# How file names show that videos are pieces of something: a numbered group as in `v_Jump_g01_c02`, or a last part that
# counts or times the pieces, as in `meeting-3_007` and `day2 clip 4`.
GROUP_PATTERNS = (
    r"^(.*?_g\d+)_c\d+",
    r"^(.+?)[ _.-]+(?:clip|cut|part|seg|segment|scene|shot|rep|take|c|s)?[ _.-]?\d+(?:[ _.-]+\d+)*(?=\.\w+$)",
)
# The share of the videos that must share their group with others before names are taken for groups.
MIN_SHARE_IN_GROUPS = 0.5


@dataclass(frozen=True)
class Division:
    """How the validation videos are drawn where none are given.

    Attributes:
        group: A regular expression that is searched for in each file's path: what its brackets hold, or all of the
            match where it has none, names the group. By default, groups are the metadata's.
        val_share: The share to validate on.
        num_folds: The number of folds to draw; the first is the split "val" where no fold is asked for. By default,
            there is one split.
    """

    group: str | None = None
    val_share: float = 0.2
    num_folds: int | None = None

    def __post_init__(self):
        if not 0 < self.val_share < 1:
            raise ValueError(f"val_share is a share between 0 and 1, got {self.val_share}.")


@dataclass(frozen=True)
class Place:
    """Where a video goes: its split, and of several folds the one that validates on it (None: it is in none)."""

    split: str
    fold: int | None = None


def name_groups(entries: Sequence[Entry], pattern: str | None) -> list[Entry]:
    """Return the entries with their groups: by a pattern on file names, by the metadata, or by the file that several
    are cut from.

    Args:
        entries: The videos.
        pattern: The regular expression of `Division.group`.

    Raises:
        ValueError: If the pattern is not a regular expression or does not fit a file name, or if only some rows of the
            metadata name a group.
    """
    if pattern is not None:
        return _name_by_pattern(entries, pattern)
    without = [entry.id for entry in entries if entry.group is None]
    if 0 < len(without) < len(entries):
        raise ValueError(f"Some videos have a group and {without[0]!r} has none. Give it to all or to none.")
    num_cuts = Counter(entry.file for entry in entries if entry.file)
    if without and max(num_cuts.values(), default=1) > 1:
        return [replace(entry, group=entry.file) for entry in entries]
    return list(entries)


def guess_groups(entries: Sequence[Entry]) -> tuple[str, Counter[str]] | None:
    """Return the pattern by which file names look like groups, and the number of videos in each; None if they do not.

    A name that is the same for all videos of a class, as `kick` in `kick_001.mp4`, tells the class and no group.
    """
    for pattern in GROUP_PATTERNS:
        matches = [re.search(pattern, entry.file.rpartition("/")[2]) for entry in entries]
        if not entries or not all(matches):
            continue
        groups = [match[1] for match in matches]
        sizes = Counter(groups)
        of_class = defaultdict(set)
        for entry, group in zip(entries, groups, strict=True):
            of_class[entry.label].add(group)
        in_company = sum(size for size in sizes.values() if size > 1)
        several = sum(len(names) > 1 for names in of_class.values())
        if in_company >= MIN_SHARE_IN_GROUPS * len(entries) and several >= len(of_class) / 2:
            return pattern, sizes
    return None


def divide(entries: Sequence[Entry], division: Division) -> dict[str, Place]:
    """Return the place of each video: as the user gives it or, where no validation split is given, drawn from the
    others.

    Test videos are set apart and never drawn from. Without groups, each class of two videos or more gives the same
    share, chosen by a hash of the ids; with groups, or for folds, scikit-learn's `StratifiedGroupKFold` decides.

    Args:
        entries: The videos that can be read.
        division: How they are drawn.

    Raises:
        ValueError: If only some videos have a split, a group is split, or there is nothing to draw from.
    """
    places = {entry.id: Place("test") for entry in entries if entry.split == "test"}
    others = sorted((entry for entry in entries if entry.split != "test"), key=lambda entry: entry.id)
    given = {entry.split for entry in others}
    if not others or given == {"val"}:
        raise ValueError("There is no video to train on: all of them are of other splits.")
    if "val" in given and None in given:
        unsaid = next(entry.id for entry in others if entry.split is None)
        raise ValueError(f"Some videos have a split and {unsaid!r} has none. Give it to all or to none.")
    if "val" in given and division.num_folds is not None:
        raise ValueError("--folds draws the validation videos, and they are given: leave out one of the two.")
    if "val" in given:
        return places | {entry.id: Place(entry.split or "train") for entry in others}
    if division.num_folds is not None:
        folds = _draw_folds(others, division.num_folds)
        return places | {
            entry.id: Place("train" if fold else "val", fold) for entry, fold in zip(others, folds, strict=True)
        }
    draw = _draw_by_group if others[0].group else _draw_by_hash
    validated = draw(others, division.val_share)
    return places | {entry.id: Place("val" if entry.id in validated else "train") for entry in others}


def _name_by_pattern(entries: Sequence[Entry], pattern: str) -> list[Entry]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"--group {pattern!r} is not a regular expression: {error}.") from error
    named = []
    for entry in entries:
        if not entry.file:
            raise ValueError("--group reads file names, and a data set of the Hub has none: give it a `group` column.")
        match = expression.search(entry.file)
        if match is None:
            raise ValueError(f"--group {pattern!r} does not fit the file {entry.file!r}.")
        group = "/".join(part for part in match.groups() if part) if expression.groups else match[0]
        if not group:
            raise ValueError(f"--group {pattern!r} finds an empty name in the file {entry.file!r}.")
        named.append(replace(entry, group=group))
    return named


def _draw_by_hash(entries: Sequence[Entry], val_share: float) -> set[str]:
    by_class = defaultdict(list)
    for entry in entries:
        by_class[entry.label].append(entry.id)
    validated: set[str] = set()
    for ids in by_class.values():
        ids.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
        if len(ids) > 1:
            validated.update(ids[: max(1, round(val_share * len(ids)))])
    return validated


def _draw_by_group(entries: Sequence[Entry], val_share: float) -> set[str]:
    """Return about this share of the videos. The only group of a class is trained on, or nothing could be learned
    about it."""
    groups_of: Mapping[str, set[str]] = defaultdict(set)
    for entry in entries:
        groups_of[entry.label].add(entry.group)
    needed = {next(iter(groups)) for groups in groups_of.values() if len(groups) == 1}
    free = [entry for entry in entries if entry.group not in needed]
    num_groups = len({entry.group for entry in free})
    if num_groups < 2:
        raise ValueError(
            f"There are {len(set.union(*groups_of.values()))} groups, too few to validate on some and to train on "
            "every class. Give splits in the metadata, or name smaller groups."
        )
    num_parts = max(2, min(num_groups, round(1 / min(val_share, 1 - val_share))))
    parts = _draw_folds(free, num_parts)
    num_classes = [
        len({entry.label for entry, part in zip(free, parts, strict=True) if part == number})
        for number in range(num_parts)
    ]
    chosen = int(np.argmax(num_classes))
    return {entry.id for entry, part in zip(free, parts, strict=True) if (part == chosen) == (val_share <= 0.5)}


def _draw_folds(entries: Sequence[Entry], num_folds: int) -> list[int]:
    """Return the fold of each entry. Videos without a group are groups of their own."""
    from sklearn.model_selection import StratifiedGroupKFold  # here, because it takes a second

    groups = [entry.group or f"\0{entry.id}" for entry in entries]
    if num_folds < 2 or len(set(groups)) < num_folds:
        raise ValueError(f"{len(set(groups))} groups of videos cannot be divided into {num_folds} folds.")
    labels = [entry.label for entry in entries]
    if max(Counter(labels).values()) < num_folds:
        raise ValueError(f"No class has the {num_folds} videos that {num_folds} folds need; ask for fewer folds.")
    folds = np.zeros(len(entries), dtype=int)
    splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=0)
    for number, (_, chosen) in enumerate(splitter.split(np.zeros((len(entries), 1)), labels, groups)):
        folds[chosen] = number
    return folds.tolist()
