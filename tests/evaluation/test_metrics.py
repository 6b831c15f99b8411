"""The metrics against scikit-learn, mmaction2's published definition, and cases counted by hand."""

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle

from finegym.evaluation.metrics import (
    bootstrap_interval,
    calibration,
    confusion_matrix,
    mean_class_accuracy,
    paired_difference,
    per_class_accuracy,
    per_group_accuracy,
    top_k_accuracy,
)


@pytest.fixture
def scored():
    generator = np.random.default_rng(0)
    labels = generator.integers(7, size=400)
    logits = generator.normal(size=(400, 7)) + 1.5 * np.eye(7)[labels]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("k", [1, 3, 5])
def test_top_k_is_scikit_learns(scored, k):
    expected = oracle.top_k_accuracy_score(scored[1], scored[0], k=k, labels=range(7))
    assert top_k_accuracy(*scored, k=k) == pytest.approx(100 * expected, abs=1e-12)


def test_mean_class_accuracy_is_balanced_accuracy(scored):
    scores, labels = scored
    kept = labels != 3  # class 3 has no video but is predicted: scikit-learn warns and omits it, as we do
    with pytest.warns(UserWarning):
        expected = oracle.balanced_accuracy_score(labels[kept], scores[kept].argmax(axis=1))
    assert (scores[kept].argmax(axis=1) == 3).any()
    assert mean_class_accuracy(scores[kept], labels[kept]) == pytest.approx(100 * expected, abs=1e-12)


def test_union_counts_a_class_that_is_only_predicted_as_zero(scored):
    scores, labels = scored
    kept = labels != 3
    recall = oracle.recall_score(
        labels[kept], scores[kept].argmax(axis=1), average="macro", zero_division=0.0
    )  # scikit-learn's macro average runs over the union of true and predicted classes, as mmaction2's does
    assert mean_class_accuracy(scores[kept], labels[kept], classes="union") == pytest.approx(100 * recall, abs=1e-12)
    assert mean_class_accuracy(scores[kept], labels[kept], classes="union") < mean_class_accuracy(
        scores[kept], labels[kept]
    )
    assert mean_class_accuracy(scores, labels, classes="union") == mean_class_accuracy(scores, labels)


def test_confusion_and_per_class_are_scikit_learns(scored):
    scores, labels = scored
    predictions = scores.argmax(axis=1)
    np.testing.assert_array_equal(
        confusion_matrix(*scored), oracle.confusion_matrix(labels, predictions, labels=range(7))
    )
    expected = oracle.recall_score(labels, predictions, average=None)
    np.testing.assert_allclose(per_class_accuracy(*scored), 100 * expected)
    absent = per_class_accuracy(scores[labels != 3], labels[labels != 3])
    assert np.isnan(absent[3]) and np.isfinite(np.delete(absent, 3)).all()


def test_groups_count_errors_into_other_groups():
    scores = torch.eye(3)[[0, 1, 2, 0, 2]]
    labels = torch.tensor([0, 0, 1, 1, 2])
    report = per_group_accuracy(scores, labels, groups=["VT", "VT", "FX"])
    assert report == {
        "VT": {"top1": 25.0, "mean_class_accuracy": 25.0, "num_videos": 4},
        "FX": {"top1": 100.0, "mean_class_accuracy": 100.0, "num_videos": 1},
    }
    assert list(per_group_accuracy(scores, labels, groups=["VT", None, "FX"])) == ["VT", "FX"]


def test_a_tie_goes_to_the_first_class():
    scores, labels = np.full((3, 4), 0.25), np.array([0, 1, 3])
    assert top_k_accuracy(scores, labels) == pytest.approx(100 / 3)
    assert confusion_matrix(scores, labels)[:, 0].tolist() == [1, 1, 0, 1]


def test_calibration_against_a_plain_loop(scored):
    scores, labels = scored
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == labels
    error = 0.0
    for low, high in zip(np.linspace(0, 1, 16)[:-1], np.linspace(0, 1, 16)[1:], strict=True):
        chosen = (confidence > low) & (confidence <= high)
        if chosen.any():
            error += chosen.mean() * abs(confidence[chosen].mean() - right[chosen].mean())
    result = calibration(*scored)
    assert result.error == pytest.approx(100 * error)
    assert result.num_videos.sum() == len(labels)
    with pytest.raises(ValueError, match="probabilities"):
        calibration(10 * scores, labels)


def test_bootstrap_interval_agrees_with_the_binomial(scored):
    interval = bootstrap_interval(*scored, num_resamples=4000)
    accuracy = top_k_accuracy(*scored)
    standard_error = np.sqrt(accuracy * (100 - accuracy) / len(scored[1]))
    assert interval.value == pytest.approx(accuracy)
    assert interval.low == pytest.approx(accuracy - 1.96 * standard_error, abs=0.6)
    assert interval.high == pytest.approx(accuracy + 1.96 * standard_error, abs=0.6)
    assert bootstrap_interval(*scored, num_resamples=4000) == interval
    per_class = bootstrap_interval(*scored, metric="mean_class_accuracy")
    assert per_class.value == pytest.approx(mean_class_accuracy(*scored))
    with pytest.raises(ValueError, match="metric"):
        bootstrap_interval(*scored, metric="top-1")


def test_paired_difference_is_sharper_than_two_intervals():
    generator = np.random.default_rng(1)
    labels = generator.integers(5, size=1000)
    baseline = np.eye(5)[np.where(generator.random(1000) < 0.7, labels, (labels + 1) % 5)]
    better = baseline.copy()
    mended = np.flatnonzero(baseline.argmax(axis=1) != labels)[:20]
    better[mended] = np.eye(5)[labels[mended]]
    result = paired_difference(better, baseline, labels)
    assert result.top1.value == pytest.approx(2.0)
    assert (result.num_better, result.num_worse, result.num_videos) == (20, 0, 1000)
    assert 0.8 < result.top1.low < 2.0 < result.top1.high < 3.2
    unpaired = bootstrap_interval(better, labels)
    assert result.top1.high - result.top1.low < 0.5 * (unpaired.high - unpaired.low)
    same = paired_difference(baseline, baseline, labels)
    assert (same.top1.low, same.top1.high) == (0.0, 0.0)


def test_paired_difference_over_seeds_covers_their_spread():
    generator = np.random.default_rng(2)
    labels = np.repeat(np.arange(4), 250)

    def predicted(accuracy):
        return np.eye(4)[np.where(generator.random(1000) < accuracy, labels, (labels + 1) % 4)]

    baseline = np.stack([predicted(0.7) for _ in range(3)])
    model = np.stack([predicted(accuracy) for accuracy in (0.62, 0.75, 0.88)])
    spread = paired_difference(model, baseline, labels)
    one_seed = paired_difference(model[1], baseline[1], labels)
    assert spread.top1.value == pytest.approx(
        np.mean([top_k_accuracy(a, labels) - top_k_accuracy(b, labels) for a, b in zip(model, baseline, strict=True)])
    )
    assert spread.top1.high - spread.top1.low > 1.5 * (one_seed.top1.high - one_seed.top1.low)
    with pytest.raises(ValueError, match="same .seeds, videos."):
        paired_difference(model[:2], baseline, labels)


@pytest.mark.parametrize(
    "scores, labels, message",
    [
        (np.zeros((2, 3)), [0, 3], "3 classes"),
        (np.zeros((2, 3)), [0, -1], "classes"),
        (np.zeros((0, 3)), [], "at least one video"),
        (np.zeros(3), [0], "videos, classes"),
        ([[0.0, np.nan]], [0], "video 0 are not finite"),
    ],
)
def test_wrong_input_is_named(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        top_k_accuracy(np.asarray(scores), np.asarray(labels, dtype=int))
