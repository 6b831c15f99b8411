"""The analysis against values computed by hand, scikit-learn, and statistics computed another way."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix

from finegym.data.labels import ActionClass, Labels
from finegym.evaluation import analysis
from finegym.evaluation.metrics import bootstrap_interval


CLASSES = Labels(
    "test",
    [
        ActionClass(0, "leap with 0.5 turn", "", event="FX", set_name="leaps", attributes=(1, 3)),
        ActionClass(1, "salto tucked", "", event="FX", set_name="saltos", attributes=(2,)),
        ActionClass(2, "leap with 1 turn", "", event="FX", set_name="leaps", attributes=(1, 4)),
        ActionClass(3, "leap", "", event="BB", set_name="beam leaps", attributes=(1,)),
    ],
    ["", "leap", "salto", "0.5 turn", "1 turn", "never seen"],
)


def one_hot(predicted, confidence=0.7):
    scores = np.full((len(predicted), 4), (1 - confidence) / 3)
    scores[np.arange(len(predicted)), predicted] = confidence
    return scores


LABELS = np.array([0, 0, 0, 1, 1, 2, 3, 3])
PREDICTED = np.array([0, 2, 2, 1, 3, 0, 3, 3])


def test_a_group_is_found_where_the_prediction_lies_in_it():
    found = analysis.group_accuracies(one_hot(PREDICTED), LABELS, [action.event for action in CLASSES.classes])
    assert [(group.name, group.num_videos) for group in found] == [("FX", 6), ("BB", 2)]
    assert [group.top1 for group in found] == pytest.approx([100 * 2 / 6, 100])
    assert [group.found for group in found] == pytest.approx([100 * 5 / 6, 100])


def test_every_group_agrees_with_scikit_learn():
    generator = np.random.default_rng(0)
    labels, scores = generator.integers(0, 4, 200), generator.dirichlet(np.ones(4), 200)
    events = np.array([action.event for action in CLASSES.classes])
    predicted = scores.argmax(1)
    for group in analysis.group_accuracies(scores, labels, list(events)):
        chosen = events[labels] == group.name
        assert group.top1 == pytest.approx(100 * accuracy_score(labels[chosen], predicted[chosen]))
        assert group.found == pytest.approx(100 * accuracy_score(events[labels][chosen], events[predicted][chosen]))


def test_classes_are_grouped_by_their_training_videos():
    found = analysis.frequency_accuracies(one_hot(PREDICTED), LABELS, [101, 100, 19, 20])
    assert [group.name.split()[0] for group in found] == ["many", "medium", "few"]
    assert [group.num_videos for group in found] == [3, 4, 1]
    assert [group.top1 for group in found] == pytest.approx([100 / 3, 75, 0])


def test_attributes_that_occur_come_worst_first():
    found = analysis.attribute_accuracies(one_hot(PREDICTED), LABELS, CLASSES)
    assert [(group.name, group.num_videos) for group in found] == [
        ("1 turn", 1),
        ("0.5 turn", 3),
        ("leap", 6),
        ("salto", 2),
    ]
    assert [group.top1 for group in found] == pytest.approx([0, 100 / 3, 50, 50])


def test_the_worst_pairs_are_those_of_scikit_learns_matrix():
    generator = np.random.default_rng(1)
    labels, scores = generator.integers(0, 4, 300), generator.dirichlet(np.ones(4), 300)
    matrix = confusion_matrix(labels, scores.argmax(1), labels=range(4))
    pairs = analysis.worst_confusions(scores, labels, count=5)
    off_diagonal = sorted(matrix[~np.eye(4, dtype=bool)], reverse=True)[:5]
    assert [pair.num_videos for pair in pairs] == off_diagonal
    for pair in pairs:
        assert matrix[pair.true, pair.predicted] == pair.num_videos
        assert matrix[pair.true].sum() == pair.num_true


def test_of_two_pairs_with_equal_counts_the_one_with_the_larger_share_comes_first():
    pairs = analysis.worst_confusions(one_hot(PREDICTED), LABELS)
    assert [(pair.true, pair.predicted) for pair in pairs] == [(0, 2), (2, 0), (1, 3)]


def test_confident_mistakes_are_wrong_and_sorted():
    scores = one_hot(PREDICTED)
    scores[2], scores[4] = one_hot([2], 0.95)[0], one_hot([3], 0.9)[0]
    assert analysis.confident_mistakes(scores, LABELS, count=3) == [2, 4, 1]


def test_relatives_stand_side_by_side():
    assert analysis.hierarchical_order(CLASSES) == [0, 2, 1, 3]


@pytest.mark.parametrize(
    "texts, marked",
    [
        (("leap with 1.5 turn", "leap with 2 turn"), (["1.5"], ["2"])),
        (("salto tucked", "salto tucked with 1 twist"), ([], ["with", "1", "twist"])),
        (("leap", "leap"), ([], [])),
    ],
)
def test_what_differs_between_two_texts_is_marked(texts, marked):
    first, second = analysis.differing_words(*texts)
    assert ([word for word, differs in first if differs], [word for word, differs in second if differs]) == marked
    assert " ".join(word for word, _ in first) == texts[0] and " ".join(word for word, _ in second) == texts[1]


def test_mcnemar_is_the_binomial_test_of_the_discordant_videos():
    labels = np.zeros(12, int)
    first = one_hot([0] * 9 + [1] * 3)
    second = one_hot([1] * 8 + [0] * 4)
    test = analysis.mcnemar(first, second, labels)
    assert (test.num_first, test.num_second) == (8, 3)
    # two-sided: twice the probability of at most 3 of 11 heads
    assert test.p_value == pytest.approx(2 * sum([1, 11, 55, 165]) / 2**11)
    assert analysis.mcnemar(first, first, labels).p_value == 1


def test_gains_are_differences_of_class_accuracies():
    gains = analysis.class_gains(one_hot(LABELS), one_hot(PREDICTED), LABELS)
    assert gains == pytest.approx([100 * 2 / 3, 50, 100, 0])


def test_top5_has_an_interval_that_holds_what_it_should():
    """For 60 data sets of 80 videos, each in the top five with probability 0.9, all but a few of the 95 % intervals
    include 90 % (the binomial's 0.1 % quantile of 60 draws at 0.9 is 46)."""
    generator = np.random.default_rng(2)
    held = 0
    for seed in range(60):
        scores = np.tile(np.arange(10.0, 0, -1), (80, 1)) / 55
        labels = np.where(generator.random(80) < 0.9, generator.integers(0, 5, 80), generator.integers(5, 10, 80))
        interval = bootstrap_interval(scores, labels, metric="top5", num_resamples=300, seed=seed)
        held += interval.low <= 90 <= interval.high
    assert held >= 46
