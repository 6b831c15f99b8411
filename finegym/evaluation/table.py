"""The metrics of several checkpoints side by side, as text, Markdown, CSV or LaTeX.

In: folders with `metrics.json` and, for the intervals, `scores.parquet`. Out: rows, sorted by any column. The best of
a column is marked among the rows that were evaluated on the same videos.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finegym.data.files import write_text
from finegym.data.markdown import plain
from finegym.data.text import safe_text

from .metrics import bootstrap_interval, top_k_accuracy
from .report import METRICS_FILE, SCORES_FILE, read_metrics, read_scores


# What linear models make of an encoder's features -> how tables call them; see `finegym.evaluation.controls`.
CONTROLS = {
    "linear_control": "logistic regression on the mean",
    "pyramid_control": "logistic regression on mean and 3 parts",
    "grid_control": "logistic regression on mean, 3 parts and 4 quarters",
}
METRICS = ("top1", "mean_class_accuracy")
# A field of a row -> the head of its column.
COLUMNS = {
    "model": "model",
    "top1": "top-1",
    "mean_class_accuracy": "mean class accuracy",
    "num_parameters": "parameters",
    "train_seconds": "training s",
    "num_evaluated": "evaluated",
}
EXPLANATION = (
    "* best of its column on the same videos; ( to ) 95 % bootstrap interval over the videos; ± standard deviation "
    "over seeds or folds."
)
# A spreadsheet takes a cell that begins with one of these for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")
LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
}


@dataclass(frozen=True)
class Percentage:
    """An accuracy in percent, with its bootstrap interval (one run) or its standard deviation (several)."""

    value: float
    low: float | None = None
    high: float | None = None
    std: float | None = None

    def __str__(self) -> str:
        if self.std is not None:
            return f"{self.value:.2f} ± {self.std:.2f} %"
        interval = "" if self.low is None else f" ({self.low:.1f} to {self.high:.1f})"
        return f"{self.value:.2f} %{interval}"


@dataclass(frozen=True)
class Row:
    """One row of a table: a checkpoint, the mean of several, or a control."""

    model: str
    top1: Percentage
    mean_class_accuracy: Percentage
    num_parameters: int
    train_seconds: float | None
    num_evaluated: int | None
    num_expected: int | None
    dataset: str
    split: str
    fold: int | None

    @property
    def cells(self) -> dict[str, str]:
        """The texts of the row, under the keys of `COLUMNS`."""
        counts = "" if self.num_evaluated is None else f"{self.num_evaluated:,} of {self.num_expected:,} "
        fold = "" if self.fold is None else f", fold {self.fold}"
        return {
            "model": self.model,
            "top1": str(self.top1),
            "mean_class_accuracy": str(self.mean_class_accuracy),
            "num_parameters": f"{self.num_parameters:,}",
            "train_seconds": "" if self.train_seconds is None else f"{self.train_seconds:.0f}",
            "num_evaluated": f"{counts}{self.dataset} {self.split}{fold}",
        }

    def key(self, column: str) -> Any:
        """Return what rows are sorted by."""
        value = getattr(self, column)
        return value.value if isinstance(value, Percentage) else value


def compare_checkpoints(*folders: Path, sort: str = "mean_class_accuracy", descending: bool = False) -> str:
    """Return the metrics of finished checkpoints, side by side, as text; see `table_rows`."""
    return "\n".join([render_text(table_rows(*folders, sort=sort, descending=descending)), *left_out(*folders)])


def left_out(*folders: Path) -> list[str]:
    """Return a line for each folder in `folders` whose metrics are of no checkpoint and name no data set, such as
    those of a benchmark's control: a table has no row for them."""
    others = [place for folder in map(Path, folders) for place in _places(folder) if _is_no_evaluation(place, folder)]
    return [f"{place}: left out, its {METRICS_FILE} names no data set and is of no checkpoint." for place in others]


def _places(folder: Path) -> list[Path]:
    """Return the folders with metrics: `folder` itself, or those in it."""
    files = [folder / METRICS_FILE] if (folder / METRICS_FILE).is_file() else folder.glob(f"*/{METRICS_FILE}")
    return sorted(file.parent for file in files)


def _is_no_evaluation(place: Path, folder: Path) -> bool:
    return place != folder and not (place / "config.json").is_file() and "dataset" not in read_metrics(place)


def table_rows(*folders: Path, sort: str = "mean_class_accuracy", descending: bool = False) -> list[Row]:
    """Read the metrics of finished checkpoints.

    Runs that differ in seed or fold alone are followed by a row of their mean and standard deviation, and the encoders
    of one cache of features by its controls: what a linear model achieves on the same features.

    Args:
        folders: Checkpoint folders, and folders that hold checkpoint folders; `left_out` says what in them is none.
        sort: The column to sort by, a key of `COLUMNS`. Rows without a value in it come last.
        descending: Whether the largest comes first.

    Raises:
        FileNotFoundError: If neither a folder nor any folder in it has a `metrics.json`; the message names it.
        ValueError: If a figure is missing or the scores are of another evaluation; the message names the file.
    """
    found: dict[str, dict[str, Any]] = {}
    rows = []
    for folder in map(Path, folders):
        checkpoints = [place for place in _places(folder) if not _is_no_evaluation(place, folder)]
        if not checkpoints:
            raise FileNotFoundError(
                f"There is no {METRICS_FILE} in any folder in {folder}. Train or evaluate a model first."
            )
        for checkpoint in checkpoints:
            tested = [checkpoint / "test"] if (checkpoint / "test" / METRICS_FILE).is_file() else []
            for place in [checkpoint, *tested]:
                name = checkpoint.absolute().name if len(folders) == 1 else str(checkpoint)
                name = f"{name} (test)" if place in tested else name
                rows.append(read_row(name, place))
                found[name] = read_metrics(place)
    rows += [_mean_row(title, found, names) for title, names in _repetitions(found).items()]
    rows += _control_rows(found)
    known = [row for row in rows if row.key(sort) is not None]
    return sorted(known, key=lambda row: row.key(sort), reverse=descending) + [row for row in rows if row not in known]


def read_row(model: str, folder: Path) -> Row:
    """Return the row of one folder with metrics and, for the intervals, scores.

    Raises:
        FileNotFoundError: If there are no metrics.
        ValueError: If a figure is missing or the scores are of another evaluation; the message names the file.
    """
    metrics = read_metrics(folder)
    try:
        row = _row(model, metrics, {metric: Percentage(float(metrics[metric])) for metric in METRICS})
        for control in CONTROLS:
            if control in metrics.get("controls", {}):
                _control_percentages([metrics["controls"][control]])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{folder / METRICS_FILE} lacks a figure or has an impossible one ({error}). {_remedy(folder)}"
        ) from error
    return row if not (folder / SCORES_FILE).is_file() else _row(model, metrics, _with_intervals(folder, row))


def _remedy(folder: Path) -> str:
    if (folder / "config.json").is_file():
        return "`finegym evaluate` writes it again."
    return "There is no checkpoint beside it to evaluate again: leave the folder out."


def _row(model: str, metrics: Mapping[str, Any], percentages: Mapping[str, Percentage]) -> Row:
    row = Row(
        model=model,
        **percentages,
        num_parameters=metrics["num_parameters"],
        train_seconds=metrics.get("train_seconds"),
        num_evaluated=metrics["num_evaluated"],
        num_expected=metrics["num_expected"],
        dataset=metrics["dataset"],
        split=metrics["split"],
        fold=metrics.get("fold"),
    )
    _ = row.cells  # an impossible figure shows here
    return row


def _with_intervals(folder: Path, row: Row) -> dict[str, Percentage]:
    scores, labels = read_scores(folder / SCORES_FILE)
    if abs(top_k_accuracy(scores, labels) - row.top1.value) > 0.01:
        raise ValueError(
            f"{folder / SCORES_FILE} and {METRICS_FILE} are of different evaluations. `finegym evaluate` writes both "
            "again."
        )
    intervals = {metric: bootstrap_interval(scores, labels, metric=metric) for metric in METRICS}
    return {
        metric: Percentage(getattr(row, metric).value, interval.low, interval.high)
        for metric, interval in intervals.items()
    }


def _repetitions(found: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the runs of each experiment, which differ in seed or fold, by the title of the row of their means."""
    experiments: dict[Any, list[str]] = {}
    for name, metrics in found.items():
        if "experiment" in metrics:
            experiments.setdefault((metrics["experiment"], metrics["dataset"], metrics["split"]), []).append(name)
    titled = {}
    for names in experiments.values():
        draws = {(found[name].get("seed"), found[name].get("fold")) for name in names}
        if 1 < len(names) == len(draws):
            parts = [part for part in names[0].split(",") if not re.fullmatch(r"(.*/)?(seed|fold)=.*", part)]
            what = "folds" if len({fold for _, fold in draws}) > 1 else "seeds"
            titled[f"{','.join(parts)} mean of {len(names)} {what}".strip()] = names
    return titled


def _mean_row(title: str, found: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> Row:
    runs = [found[name] for name in names]
    percentages = {metric: _mean([run[metric] for run in runs]) for metric in METRICS}
    return Row(title, **percentages, **_shared(runs[0], runs[0]["num_parameters"]))


def _shared(metrics: Mapping[str, Any], num_parameters: int) -> dict[str, Any]:
    nothing = dict.fromkeys(("train_seconds", "num_evaluated", "num_expected", "fold"))
    return {
        **nothing,
        "num_parameters": num_parameters,
        "dataset": metrics["dataset"],
        "split": metrics["split"],
    }


def _control_rows(found: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Return the controls of each cache of features; for several repetitions of an experiment their mean."""
    repeated = list(_repetitions(found).values())
    alone = [[name] for name in found if not any(name in names for names in repeated)]
    rows = {}
    for names in [*repeated, *alone]:
        by_key = {found[name]["controls"]["key"]: found[name] for name in names if "controls" in found[name]}
        for control, title in CONTROLS.items():
            values = [metrics["controls"][control] for metrics in by_key.values() if control in metrics["controls"]]
            if values:
                shared = _shared(next(iter(by_key.values())), values[0]["num_parameters"])
                rows[control, frozenset(by_key)] = Row(title, **_control_percentages(values), **shared)
    return list(rows.values())


def _control_percentages(values: Sequence[Mapping[str, Any]]) -> dict[str, Percentage]:
    return {metric: _mean([float(value[metric]) for value in values]) for metric in METRICS}


def _mean(values: Sequence[float]) -> Percentage:
    """Return the mean percentage, with the standard deviation (of a sample) where there are several."""
    return Percentage(float(np.mean(values)), std=float(np.std(values, ddof=1)) if len(values) > 1 else None)


def best_of(rows: Sequence[Row]) -> set[tuple[int, str]]:
    """Return the places (row, metric) with the highest value among at least two rows on the same videos."""
    places = set()
    for metric in METRICS:
        groups: dict[tuple, list[int]] = {}
        for place, row in enumerate(rows):
            groups.setdefault((row.dataset, row.split, row.fold), []).append(place)
        for group in groups.values():
            values = [round(rows[place].key(metric), 2) for place in group]  # as they are shown
            places |= {
                (place, metric) for place, value in zip(group, values) if value == max(values) and len(group) > 1
            }
    return places


def _cells(rows: Sequence[Row], mark: str, escape=lambda text: text) -> list[list[str]]:
    best = best_of(rows)
    return [
        [mark.format(escape(text)) if (place, column) in best else escape(text) for column, text in row.cells.items()]
        for place, row in enumerate(rows)
    ]


def render_text(rows: Sequence[Row]) -> str:
    """Return the rows as columns of text; the best are marked by a star."""
    return render_table(list(COLUMNS.values()), _cells(rows, "* {}"))


def render_markdown(rows: Sequence[Row]) -> str:
    """Return a Markdown table with the best in bold."""
    lines = [list(COLUMNS.values()), ["---", *["---:"] * 4, "---"], *_cells(rows, "**{}**", plain)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def render_latex(rows: Sequence[Row]) -> str:
    """Return a LaTeX `tabular` with the best in bold; it needs the package booktabs."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cells) + r" \\"

    body = [line(cells) for cells in _cells(rows, r"\textbf{{{}}}", _escape_latex)]
    return "\n".join(
        [r"\begin{tabular}{lrrrrl}", r"\toprule", line(list(COLUMNS.values())), r"\midrule", *body, r"\bottomrule"]
        + [r"\end{tabular}", ""]
    )


def _escape_latex(text: str) -> str:
    safe = safe_text(text, one_line=True).replace("±", "\0")
    return "".join(LATEX.get(character, character) for character in safe).replace("\0", r"$\pm$")


def render_csv(rows: Sequence[Row]) -> str:
    """Return one line a row with plain numbers, bounds and standard deviations in columns of their own."""
    parts = ("", "_low", "_high", "_std")
    header = ["model", *(f"{metric}{part}" for metric in METRICS for part in parts)]
    header += ["num_parameters", "train_seconds", "num_evaluated", "num_expected", "dataset", "split", "fold"]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        numbers = [
            number
            for metric in METRICS
            for value in [getattr(row, metric)]
            for number in (value.value, value.low, value.high, value.std)
        ]
        rest = [row.num_parameters, row.train_seconds, row.num_evaluated, row.num_expected]
        writer.writerow([_cell(row.model), *numbers, *rest, _cell(row.dataset), _cell(row.split), row.fold])
    return buffer.getvalue()


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text


RENDERERS = {".md": render_markdown, ".csv": render_csv, ".tex": render_latex}


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write rows to a file that ends in .md, .csv or .tex."""
    write_text(path, RENDERERS[path.suffix.lower()](rows))


def render_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return the rows as columns of text, the first left-aligned and the numbers right-aligned."""
    rows = [header, *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(zip(row, widths))
        )
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
