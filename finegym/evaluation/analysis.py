"""What is behind an accuracy: hierarchy, training frequency, attributes, confusions, and two models compared.

Every function takes `scores` (N, C), each row the class probabilities of one video, and the true `labels` (N,). All
accuracies are in percent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

import numpy as np
from numpy.typing import ArrayLike

from finegym.data.labels import Labels

from .metrics import confusion_matrix, per_class_accuracy, top_k_accuracy


# Training videos of a class: many is more than 100, few fewer than 20 (Liu et al., "Large-Scale Long-Tailed
# Recognition in an Open World", CVPR 2019).
MANY, FEW = 100, 20


@dataclass(frozen=True)
class GroupAccuracy:
    """How well the videos of one group of classes are recognized.

    Attributes:
        name: The name of the group.
        num_videos: The number of videos whose true class is in the group.
        top1: The percentage of them whose class is right.
        found: The percentage of them whose predicted class is in the group; None where that says nothing.
    """

    name: str
    num_videos: int
    top1: float
    found: float | None = None


@dataclass(frozen=True)
class Confusion:
    """One pair of classes: `num_videos` of `num_true` videos of `true` are taken for `predicted` (class ids)."""

    true: int
    predicted: int
    num_videos: int
    num_true: int


@dataclass(frozen=True)
class McNemar:
    """McNemar's exact test on the videos that only one of two models gets right.

    Attributes:
        num_first, num_second: The number of videos that only the first, and only the second, gets right.
        p_value: The p-value of the hypothesis that both are right equally often (two-sided binomial test).
    """

    num_first: int
    num_second: int
    p_value: float


def group_accuracies(scores: ArrayLike, labels: ArrayLike, groups: Sequence[str | None]) -> list[GroupAccuracy]:
    """Return the accuracy within each group of classes, such as events or sets, and how often the group itself is
    found.

    Args:
        scores: The class probabilities (N, C).
        labels: The true class ids (N,).
        groups: The group of each of the C classes; None leaves a class out.

    Returns:
        The groups with at least one video, in the order of `groups`.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    names = np.array(groups, dtype=object)
    predicted = scores.argmax(axis=1)
    found = []
    for name in dict.fromkeys(group for group in groups if group is not None):
        chosen = names[labels] == name
        if chosen.any():
            top1 = 100 * float(np.mean(predicted[chosen] == labels[chosen]))
            in_group = 100 * float(np.mean(names[predicted[chosen]] == name))
            found.append(GroupAccuracy(name, int(chosen.sum()), top1, in_group))
    return found


def frequency_accuracies(
    scores: ArrayLike, labels: ArrayLike, num_training_videos: Sequence[int]
) -> list[GroupAccuracy]:
    """Return the accuracy on classes with many, a medium number of, and few training videos.

    Args:
        scores: The class probabilities (N, C).
        labels: The true class ids (N,).
        num_training_videos: The number of training videos of each of the C classes.
    """
    names = [f"many (more than {MANY})", f"medium ({FEW} to {MANY})", f"few (fewer than {FEW})"]
    groups = [names[0] if count > MANY else names[2] if count < FEW else names[1] for count in num_training_videos]
    # whether the predicted class is as frequent as the true one says nothing of a model
    found = [replace(group, found=None) for group in group_accuracies(scores, labels, groups)]
    return sorted(found, key=lambda group: names.index(group.name))


def attribute_accuracies(scores: ArrayLike, labels: ArrayLike, classes: Labels) -> list[GroupAccuracy]:
    """Return the accuracy on the videos whose class has an attribute, for each attribute that occurs; worst first."""
    scores, labels = np.asarray(scores), np.asarray(labels)
    right = scores.argmax(axis=1) == labels
    found = []
    for attribute, name in enumerate(classes.attributes[1:], start=1):
        having = [action.id for action in classes.classes if attribute in action.attributes]
        chosen = np.isin(labels, having)
        if chosen.any():
            found.append(GroupAccuracy(name, int(chosen.sum()), 100 * float(right[chosen].mean())))
    return sorted(found, key=lambda group: (group.top1, group.name))


def worst_confusions(scores: ArrayLike, labels: ArrayLike, *, count: int = 20) -> list[Confusion]:
    """Return the pairs of classes that are mistaken most often: by number of videos and, at a tie, by share of the
    true class."""
    confusion = confusion_matrix(scores, labels)
    totals = confusion.sum(axis=1)
    np.fill_diagonal(confusion, 0)
    pairs = [
        Confusion(int(true), int(predicted), int(confusion[true, predicted]), int(totals[true]))
        for true, predicted in np.argwhere(confusion)
    ]
    return sorted(pairs, key=lambda pair: (-pair.num_videos, -pair.num_videos / pair.num_true))[:count]


def confident_mistakes(scores: ArrayLike, labels: ArrayLike, *, count: int = 12) -> list[int]:
    """Return the positions of the videos that are wrong with the highest confidence, the most confident first."""
    scores, labels = np.asarray(scores), np.asarray(labels)
    wrong = np.flatnonzero(scores.argmax(axis=1) != labels)
    order = np.argsort(-scores[wrong].max(axis=1), kind="stable")
    return wrong[order[:count]].tolist()


def hierarchical_order(classes: Labels) -> list[int]:
    """Return the class ids by event, then by set, then by id: related classes are side by side in a confusion
    matrix."""
    events = {name: place for place, name in enumerate(dict.fromkeys(action.event for action in classes.classes))}
    sets = {name: place for place, name in enumerate(dict.fromkeys(action.set_name for action in classes.classes))}
    key = {action.id: (events[action.event], sets[action.set_name], action.id) for action in classes.classes}
    return sorted(key, key=key.get)


def ordered_confusion(
    scores: ArrayLike, labels: ArrayLike, classes: Labels
) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Return the class ids in `hierarchical_order`, and in this order the confusion matrix in videos and in percent of
    each true class."""
    order = hierarchical_order(classes)
    counts = confusion_matrix(scores, labels)[np.ix_(order, order)]
    return order, counts, 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def set_spans(order: Sequence[int], classes: Labels) -> list[tuple[str, int, int]]:
    """Return the runs of one set in an order of class ids: name, first place and the place past the last."""
    sets = [classes.classes[class_id].set_name or "" for class_id in order]
    starts = [place for place in range(len(sets)) if place == 0 or sets[place] != sets[place - 1]]
    return [(sets[start], start, stop) for start, stop in zip(starts, [*starts[1:], len(sets)], strict=True)]


def differing_words(text: str, other: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Return the words of two texts, each with whether it is missing in the other one.

    Example:
        `differing_words("leap with 1.5 turn", "leap with 2 turn")` marks "1.5" and "2".
    """
    words, others = text.split(), other.split()
    shared, shared_others = set(), set()
    for match in SequenceMatcher(a=words, b=others, autojunk=False).get_matching_blocks():
        shared.update(range(match.a, match.a + match.size))
        shared_others.update(range(match.b, match.b + match.size))
    return (
        [(word, position not in shared) for position, word in enumerate(words)],
        [(word, position not in shared_others) for position, word in enumerate(others)],
    )


def mcnemar(scores: ArrayLike, other_scores: ArrayLike, labels: ArrayLike) -> McNemar:
    """Test whether two models are right equally often on the same videos."""
    from scipy.stats import binomtest  # imported only to test: it takes a second

    labels = np.asarray(labels)
    right = np.asarray(scores).argmax(axis=1) == labels
    other = np.asarray(other_scores).argmax(axis=1) == labels
    first, second = int((right & ~other).sum()), int((other & ~right).sum())
    p_value = binomtest(first, first + second).pvalue if first + second else 1.0
    return McNemar(first, second, float(p_value))


def class_gains(scores: ArrayLike, other_scores: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Return the first model's accuracy on each class minus the second's, in points; NaN without a video. Shape
    (C,)."""
    return per_class_accuracy(scores, labels) - per_class_accuracy(other_scores, labels)


def summary(scores: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Return the top-1 and top-5 accuracies; top-5 is left out where five classes or fewer make it 100 % by
    definition."""
    result = {"top1": top_k_accuracy(scores, labels)}
    if np.asarray(scores).shape[1] > 5:
        result["top5"] = top_k_accuracy(scores, labels, k=5)
    return result
