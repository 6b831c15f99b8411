"""Accuracies in percent, their uncertainty, and differences between two models on the same videos.

Every function takes `scores` of shape (N, C) and `labels` of shape (N,), as tensors or arrays. The predicted class of
a video is the highest-scoring one, the first at a tie. The metrics are FineGym's (https://sdolivia.github.io/FineGym,
FAQ Q3): top-1 over all videos, and the mean of the classes' own accuracies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Interval:
    """A value with the bounds that hold `confidence` of its resamples."""

    value: float
    low: float
    high: float
    confidence: float


@dataclass(frozen=True)
class PairedDifference:
    """Model minus baseline, in percentage points, on the same videos.

    Attributes:
        top1, mean_class_accuracy: The two differences with their intervals.
        num_better, num_worse: The number of videos that only the model, and only the baseline, gets right (means over
            the seeds).
        num_videos: The number of videos compared.
    """

    top1: Interval
    mean_class_accuracy: Interval
    num_better: float
    num_worse: float
    num_videos: int


@dataclass(frozen=True)
class Calibration:
    """How far a model's confidence can be trusted.

    Attributes:
        error: The expected calibration error in percentage points: |confidence - accuracy|, averaged over the videos.
        confidence, accuracy: The mean confidence and the accuracy in percent in each bin of equal width, NaN where
            `num_videos` is 0. Shape (num_bins,).
        num_videos: The number of videos in each bin. Shape (num_bins,).
    """

    error: float
    confidence: np.ndarray
    accuracy: np.ndarray
    num_videos: np.ndarray


def top_k_accuracy(scores: ArrayLike, labels: ArrayLike, *, k: int = 1) -> float:
    """Return the percentage of videos whose class is among the `k` highest scores; 100 with fewer than `k` classes."""
    scores, labels = _checked(scores, labels)
    return 100.0 * float(np.mean(_in_top_k(scores, labels, k)))


def mean_class_accuracy(
    scores: ArrayLike, labels: ArrayLike, *, classes: Literal["present", "union"] = "present"
) -> float:
    """Return the mean over classes of the percentage of a class's videos that are predicted right.

    Args:
        scores: The scores (N, C).
        labels: The true class ids (N,).
        classes: "present" averages over the classes with at least one video. "union" is mmaction2's
            `mean_class_accuracy`: a class without a video counts as 0 as soon as one video is mistaken for it. On a
            complete validation set the two agree.
    """
    confusion = confusion_matrix(scores, labels)
    num_videos, num_right = confusion.sum(axis=1), confusion.diagonal()
    counted = num_videos > 0
    if classes == "union":
        counted |= confusion.sum(axis=0) > 0
    elif classes != "present":
        raise ValueError(f'classes must be "present" or "union", not {classes!r}.')
    return 100.0 * float(np.mean(num_right[counted] / np.maximum(num_videos[counted], 1)))


def per_class_accuracy(scores: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Return the percentage of each class's videos that are predicted right; NaN for a class without a video. Shape
    (C,)."""
    confusion = confusion_matrix(scores, labels)
    num_videos = confusion.sum(axis=1)
    accuracy = np.full(len(confusion), np.nan)
    return np.divide(100.0 * confusion.diagonal(), num_videos, out=accuracy, where=num_videos > 0)


def per_group_accuracy(
    scores: ArrayLike, labels: ArrayLike, *, groups: Sequence[str | None]
) -> dict[str, dict[str, float]]:
    """Return the top-1 and mean class accuracy over the videos of each group of classes, such as the four events or
    the sets.

    A prediction may be of any class: a vault taken for a beam exercise is an error of the vault.

    Args:
        scores: The scores (N, C).
        labels: The true class ids (N,).
        groups: The group of each of the C classes; None leaves a class out.

    Returns:
        Group -> {"top1", "mean_class_accuracy", "num_videos"}, for groups with at least one video, in the order of
        `groups`.
    """
    scores, labels = _checked(scores, labels)
    if len(groups) != scores.shape[1]:
        raise ValueError(f"There are {scores.shape[1]} classes in the scores but {len(groups)} entries in groups.")
    group_of_video = np.array([groups[label] for label in labels], dtype=object)
    report = {}
    for group in dict.fromkeys(group for group in groups if group is not None):
        chosen = group_of_video == group
        if chosen.any():
            report[group] = {
                "top1": top_k_accuracy(scores[chosen], labels[chosen]),
                "mean_class_accuracy": mean_class_accuracy(scores[chosen], labels[chosen]),
                "num_videos": int(chosen.sum()),
            }
    return report


def confusion_matrix(scores: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Return the number of videos of each class (row) predicted to be of each class (column). Shape (C, C)."""
    scores, labels = _checked(scores, labels)
    num_classes = scores.shape[1]
    pairs = labels * num_classes + scores.argmax(axis=1)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def calibration(scores: ArrayLike, labels: ArrayLike, *, num_bins: int = 15) -> Calibration:
    """Compare confidence and accuracy in bins of equal width.

    Fifteen bins are those of Guo et al., "On Calibration of Modern Neural Networks" (2017).

    Raises:
        ValueError: If the scores are not probabilities, as the means of softmaxes are.
    """
    scores, labels = _checked(scores, labels)
    if scores.min() < -1e-4 or np.abs(scores.sum(axis=1) - 1).max() > 1e-3:
        raise ValueError("Calibration needs probabilities: each row of scores must be non-negative and sum to 1.")
    confidence = np.clip(scores.max(axis=1), 0, 1)
    right = scores.argmax(axis=1) == labels
    # Bins are open below and closed above, so that a confidence of exactly 1 lies in the last one.
    bins = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    num_videos = np.bincount(bins, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(bins, weights=confidence, minlength=num_bins) / num_videos
        accuracy = np.bincount(bins, weights=right, minlength=num_bins) / num_videos
    gap = np.nan_to_num(np.abs(mean_confidence - accuracy))
    return Calibration(100 * float(gap @ num_videos) / len(labels), 100 * mean_confidence, 100 * accuracy, num_videos)


def bootstrap_interval(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    metric: Literal["top1", "top5", "mean_class_accuracy"] = "top1",
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return a metric with its percentile bootstrap interval over the videos.

    Args:
        scores: The scores (N, C), or (S, N, C) for S training seeds; then seeds are resampled too, and the value is
            their mean.
        labels: The true class ids (N,).
        metric: The metric, one of three.
        confidence: The share of the resamples between the bounds.
        num_resamples: The number of times the videos are drawn with replacement.
        seed: The seed of the draws.
    """
    names = {"top1": ("top1", 1), "top5": ("top1", 5), "mean_class_accuracy": ("mean_class_accuracy", 1)}
    if metric not in names:
        raise ValueError(f"metric must be one of {list(names)}, not {metric!r}.")
    name, k = names[metric]
    values = _values_of_metrics(_right(scores, labels, k=k), labels, num_resamples=num_resamples, seed=seed)
    return _interval(*values[name], confidence)


def paired_difference(
    scores: ArrayLike,
    baseline_scores: ArrayLike,
    labels: ArrayLike,
    *,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> PairedDifference:
    """Return what a model gains over a baseline on the same videos, with percentile bootstrap intervals.

    Comparing video by video removes the spread that both share (hard videos are hard for both), which is most of it.

    Args:
        scores: The scores of the model, (N, C), or (S, N, C) for S training seeds, each paired with the baseline at
            the same position.
        baseline_scores: The scores of the baseline, of the same shape.
        labels: The true class ids (N,).
        confidence, num_resamples, seed: The same as for `bootstrap_interval`. Seeds are resampled together with the
            videos, so that the interval covers new videos and new training runs.
    """
    right, right_baseline = _right(scores, labels), _right(baseline_scores, labels)
    if right.shape != right_baseline.shape:
        raise ValueError(
            "A paired difference needs the same (seeds, videos) on both sides, not "
            f"{right.shape} against {right_baseline.shape}."
        )
    difference = right.astype(float) - right_baseline
    values = _values_of_metrics(difference, labels, num_resamples=num_resamples, seed=seed)
    return PairedDifference(
        top1=_interval(*values["top1"], confidence),
        mean_class_accuracy=_interval(*values["mean_class_accuracy"], confidence),
        num_better=float((difference > 0).sum(axis=1).mean()),
        num_worse=float((difference < 0).sum(axis=1).mean()),
        num_videos=difference.shape[1],
    )


def _checked(scores: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or not len(labels):
        raise ValueError(
            "Expected scores (videos, classes) and labels (videos,) with at least one video, not "
            f"{scores.shape} and {labels.shape}."
        )
    if not np.isfinite(scores).all():
        video = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
        raise ValueError(f"The scores of video {video} are not finite: the model has diverged or overflowed.")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(
            f"Labels are between {labels.min()} and {labels.max()}, but there are {scores.shape[1]} classes."
        )
    return scores, labels.astype(np.int64)


def _right(scores: ArrayLike, labels: ArrayLike, *, k: int = 1) -> np.ndarray:
    """Return whether the class of each video is among the `k` highest scores, with each seed. (S, N)"""
    scores = np.asarray(scores)
    seeds = scores[None] if scores.ndim == 2 else scores
    return np.stack([_in_top_k(*_checked(one, labels), k) for one in seeds])


def _in_top_k(scores: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.any(best == labels[:, None], axis=1)


def _values_of_metrics(
    values: np.ndarray, labels: ArrayLike, *, num_resamples: int, seed: int
) -> dict[str, tuple[float, np.ndarray]]:
    """Return both metrics of per-video values (S, N), on all videos and on each resample. They are linear in the
    values, so that a difference of two models may be resampled like one model."""
    labels = np.asarray(labels)
    num_seeds, num_videos = values.shape
    membership = np.eye(labels.max() + 1)[labels]  # (N, C)
    generator = np.random.default_rng(seed)

    def metrics(weights: np.ndarray, video_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weighted, per_class = weights * video_values, weights @ membership
        accuracy = np.divide(
            weighted @ membership, per_class, out=np.full(per_class.shape, np.nan), where=per_class > 0
        )
        return 100 * weighted.sum(axis=1) / weights.sum(axis=1), 100 * np.nanmean(accuracy, axis=1)

    resamples = []
    chunk = max(1, 10**7 // num_videos)  # about 80 MB a matrix
    for start in range(0, num_resamples, chunk):
        size = min(chunk, num_resamples - start)
        draws = generator.integers(num_videos, size=(size, num_videos))
        weights = np.stack([np.bincount(draw, minlength=num_videos) for draw in draws]).astype(float)
        seeds = generator.integers(num_seeds, size=(size, num_seeds))
        resamples.append(metrics(weights, values[seeds].mean(axis=1)))
    whole = metrics(np.ones((1, num_videos)), values.mean(axis=0, keepdims=True))
    return {
        name: (float(whole[position][0]), np.concatenate([part[position] for part in resamples]))
        for position, name in enumerate(("top1", "mean_class_accuracy"))
    }


def _interval(value: float, resampled: np.ndarray, confidence: float) -> Interval:
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high), confidence)
