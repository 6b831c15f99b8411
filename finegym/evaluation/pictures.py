"""The still pictures of a checkpoint, for its card and for papers: each as PNG and as PDF beside it.

In: an evaluation or the lines of a training history. Out: files that appear as a whole. Colors are Okabe and Ito's,
which color-blind readers can tell apart (https://jfly.uni-koeln.de/color).
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from finegym.data.files import replacing
from finegym.data.labels import Labels

from .analysis import ordered_confusion, set_spans
from .metrics import calibration


if TYPE_CHECKING:
    from .protocol import Evaluation


BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
# The names of at most this many classes fit beside a matrix; for more there are those of the sets.
MAX_NAMED_CLASSES = 40
# What a letter of these names takes, on average, in the size of the names beside a matrix.
INCHES_PER_LETTER = 0.06


def new_figure(width: float, height: float):
    """Return a matplotlib figure of this size in inches; it needs no backend and no closing."""
    from matplotlib.figure import Figure  # imported only to draw: it takes a second

    return Figure(figsize=(width, height), layout="constrained")


def save_picture(figure, path: str | Path) -> None:
    """Write a figure as PNG to `path`, and as PDF beside it."""
    path = Path(path)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    figure.set_layout_engine("none")  # the layout is found: finding it once more takes as long as all the rest
    with replacing(path.with_suffix(".pdf")) as temporary:
        # without a date the same evaluation yields the same file
        figure.savefig(temporary, format="pdf", metadata={"CreationDate": None})


def draw_confusion(path: Path, evaluation: "Evaluation", labels: Labels) -> None:
    """Draw the percentage of each class's videos (rows) taken for each class (columns), related classes side by
    side."""
    save_picture(confusion_figure(evaluation, labels), path)


def confusion_figure(evaluation: "Evaluation", labels: Labels):
    """Return the matplotlib figure of `draw_confusion`."""
    order, counts, shares = ordered_confusion(evaluation.scores, evaluation.labels, labels)
    num_classes = len(order)
    named = num_classes <= MAX_NAMED_CLASSES
    side = 1.5 + 0.2 * num_classes if named else min(9.0, 4 + 0.05 * num_classes)
    longest = max(map(len, labels.names)) if named else 0
    figure = new_figure(side + 1.5 + INCHES_PER_LETTER * longest, side)
    axis = figure.subplots()
    image = axis.imshow(shares, cmap="cividis", vmin=0, vmax=100, interpolation="nearest")
    if named:
        numbers = range(num_classes)
        axis.set_xticks(numbers, [str(number + 1) for number in numbers], fontsize=7)
        names = [f"{labels.names[class_id]}  {number + 1}" for number, class_id in enumerate(order)]
        axis.set_yticks(numbers, names, fontsize=7)
    else:
        _name_sets(axis, set_spans(order, labels))
    if num_classes <= 30 and counts.max(initial=0) < 1000:
        for row, column in np.argwhere(counts):
            color = "black" if shares[row, column] > 55 else "white"
            axis.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=6, color=color)
    axis.set(xlabel="predicted class", ylabel="true class")
    axis.spines[:].set_visible(False)
    figure.colorbar(image, ax=axis, shrink=0.5, label="percent of the true class")
    return figure


def _name_sets(axis, spans: Sequence[tuple[str, int, int]]) -> None:
    centers = [(start + stop - 1) / 2 for _, start, stop in spans]
    names = [name for name, _, _ in spans]
    axis.set_xticks(centers, names, fontsize=6, rotation=60, ha="right", rotation_mode="anchor")
    axis.set_yticks(centers, names, fontsize=6)
    for _, start, _ in spans[1:]:
        axis.axhline(start - 0.5, color="white", linewidth=0.4)
        axis.axvline(start - 0.5, color="white", linewidth=0.4)


def draw_calibration(path: Path, evaluation: "Evaluation") -> None:
    """Draw the accuracy against the confidence in bins of equal width, above the number of videos in each bin."""
    result = calibration(evaluation.scores, evaluation.labels)
    num_bins = len(result.num_videos)
    edges = np.linspace(0, 100, num_bins + 1)[:-1]
    figure = new_figure(4.5, 5)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    style = {"width": 100 / num_bins, "align": "edge", "edgecolor": "white"}
    above.bar(edges, np.nan_to_num(result.accuracy), color=BLUE, **style)
    above.plot([0, 100], [0, 100], color=VERMILION, linestyle=":")
    above.set(ylabel="percent right", xlim=(0, 100), ylim=(0, 100))
    above.set_title(
        f"expected calibration error {result.error:.1f} points\ndotted: as often right as confident", fontsize=9
    )
    bars = below.bar(edges, result.num_videos, color=ORANGE, **style)
    below.bar_label(bars, labels=[str(count) if count else "" for count in result.num_videos], fontsize=6)
    below.margins(y=0.25)
    below.set(xlabel="confidence in percent", ylabel="videos")
    save_picture(figure, path)


def draw_curves(rows: Iterable[Mapping[str, float]], path: Path, *, title: str) -> None:
    """Draw loss, learning rate and accuracies over the epochs: the loss of each line and its running mean, evaluations
    as points.

    Args:
        rows: The lines of `history.jsonl`.
        path: The PNG to write.
        title: The title above the panels.
    """
    rows = list(rows)
    figure = new_figure(12, 3.2)
    losses, rates, accuracies = figure.subplots(1, 3, sharex=True)
    epochs, values = _points(rows, "loss")
    losses.plot(epochs, values, color=BLUE, alpha=0.3, linewidth=0.8, label="each line")
    window = max(1, len(values) // 20)
    if window > 1:
        means = np.convolve(values, np.ones(window) / window, mode="valid")
        losses.plot(epochs[window - 1 :], means, color=BLUE, label=f"mean of {window} lines")
    losses.legend(frameon=False)
    rates.plot(*_points(rows, "learning_rate"), color=BLUE)
    for name, label, color, marker in (
        ("top1", "top-1", BLUE, "o"),
        ("mean_class_accuracy", "mean class accuracy", ORANGE, "x"),
    ):
        accuracies.plot(*_points(rows, name), linestyle="none", marker=marker, color=color, label=label)
    accuracies.legend(frameon=False)
    for axis, label in ((losses, "loss"), (rates, "learning rate"), (accuracies, "accuracy in percent")):
        axis.set(xlabel="epoch", ylabel=label)
    figure.suptitle(title)
    save_picture(figure, path)


def _points(rows: Sequence[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    found = [(row["epoch"], row[name]) for row in rows if name in row]
    return [epoch for epoch, _ in found], [value for _, value in found]
