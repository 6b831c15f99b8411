"""What is written about evaluations: `metrics.json`, the scores of every video, a confusion picture, one table."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from finegym.data.files import replacing, write_text
from finegym.data.labels import Labels
from finegym.data.text import read_json

from .pictures import draw_calibration, draw_confusion
from .protocol import Evaluation


METRICS_FILE = "metrics.json"
# What linear models make of an encoder's features -> how tables call them; see `finegym.evaluation.controls`.
CONTROLS = {
    "linear_control": "logistic regression on the mean",
    "pyramid_control": "logistic regression on mean and 3 parts",
}
SCORES_FILE = "scores.parquet"
HEADER = ("model", "top-1", "mean class accuracy", "parameters", "training s", "evaluated")


def write_report(folder: str | Path, evaluation: Evaluation, labels: Labels) -> None:
    """Write into `folder`: `metrics.json`, `scores.parquet`, `confusion.png` and `calibration.png`.

    What an earlier `metrics.json` says beyond the evaluation, such as the seconds of training, is kept.
    """
    folder = Path(folder)
    write_metrics(folder, evaluation.metrics)
    write_scores(folder / SCORES_FILE, evaluation)
    draw_confusion(folder / "confusion.png", evaluation, labels)
    draw_calibration(folder / "calibration.png", evaluation)


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write `metrics.json`, replacing what an earlier one says of the same things."""
    path = folder / METRICS_FILE
    earlier = read_metrics(folder) if path.is_file() else {}
    write_text(path, json.dumps(earlier | dict(metrics), indent=2, ensure_ascii=False) + "\n")


def read_metrics(folder: str | Path) -> dict[str, Any]:
    """Read a checkpoint's `metrics.json`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds no metrics; the message names it.
    """
    path = Path(folder) / METRICS_FILE
    metrics = read_json(path, what="metrics file", remedy="`finegym evaluate` writes it.", finite=False)
    if not isinstance(metrics, dict) or "top1" not in metrics:
        raise ValueError(f"{path} holds no metrics. `finegym evaluate` writes them.")
    seen = metrics.get("trained_on", [])
    keys = ("dataset", "annotation_version")
    if not isinstance(seen, list) or not all(
        isinstance(row, dict) and all(isinstance(row.get(key), str) for key in keys) for row in seen
    ):
        raise ValueError(f"{path}: `trained_on` must be a list of mappings of {' and '.join(keys)} to texts.")
    return _with_current_names(metrics)


def _with_current_names(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics under the current names; earlier versions called the videos of a data set clips."""
    renamed = {"num_train_clips": "num_train_videos", "num_bad_train_clips": "num_bad_train_videos"}
    metrics = {renamed.get(name, name): value for name, value in metrics.items()}
    for groups in metrics.keys() & {"per_event", "per_set"}:
        metrics[groups] = {
            group: {"num_videos" if name == "num_clips" else name: value for name, value in values.items()}
            for group, values in metrics[groups].items()
        }
    return metrics


def write_scores(path: Path, evaluation: Evaluation) -> None:
    """Write one row per video: id, label, scores, and the scores and the weight of each distinct clip."""
    distinct = [int((weights > 0).sum()) for weights in evaluation.weights]
    table = pa.table(
        {
            "id": evaluation.video_ids,
            "label": evaluation.labels.tolist(),
            "scores": evaluation.scores.tolist(),
            "clip_scores": [rows[:n].tolist() for rows, n in zip(evaluation.clip_scores, distinct, strict=True)],
            "weights": [rows[:n].tolist() for rows, n in zip(evaluation.weights, distinct, strict=True)],
        }
    )
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def table(*folders: Path) -> str:
    """Return the metrics of finished checkpoints, side by side.

    Runs that differ in seed or fold alone are followed by a row of their mean and standard deviation, and the encoders
    of one cache of features by its controls: what a linear model achieves on the same features.

    Args:
        folders: Checkpoint folders, and folders that hold checkpoint folders.

    Returns:
        The table as text.

    Raises:
        FileNotFoundError: If neither a folder nor any folder in it has a `metrics.json`; the message names it.
        ValueError: If a figure is missing; the message names the file.
    """
    found: dict[str, dict[str, Any]] = {}
    for folder in map(Path, folders):
        files = [folder / METRICS_FILE] if (folder / METRICS_FILE).is_file() else folder.glob(f"*/{METRICS_FILE}")
        checkpoints = sorted(file.parent for file in files)
        if not checkpoints:
            raise FileNotFoundError(
                f"There is no {METRICS_FILE} in any folder in {folder}. Train or evaluate a model first."
            )
        for checkpoint in checkpoints:
            tested = [checkpoint / "test"] if (checkpoint / "test" / METRICS_FILE).is_file() else []
            for place in [checkpoint, *tested]:
                name = checkpoint.absolute().name if len(folders) == 1 else str(checkpoint)
                found[f"{name} (test)" if place in tested else name] = _table_metrics(place)
    rows = [(metrics["mean_class_accuracy"], metrics_row(name, metrics)) for name, metrics in found.items()]
    rows += [
        (float(np.mean([found[name]["mean_class_accuracy"] for name in names])), _mean_row(title, found, names))
        for title, names in _repetitions(found).items()
    ]
    rows += _control_rows(found)
    return render_table(HEADER, [row for _, row in sorted(rows, key=lambda pair: pair[0])])


def _table_metrics(folder: Path) -> dict[str, Any]:
    metrics = read_metrics(folder)
    try:
        float(metrics["mean_class_accuracy"])
        metrics_row("", metrics)
        for control in CONTROLS:
            if control in metrics.get("controls", {}):
                metrics_row("", metrics | metrics["controls"][control])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{folder / METRICS_FILE} lacks a figure or has an impossible one ({error}). `finegym evaluate` writes it "
            "again."
        ) from error
    return metrics


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


def _mean_row(title: str, found: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> tuple[str, ...]:
    first = found[names[0]]
    return (
        title,
        *(_spread([found[name][metric] for name in names]) for metric in ("top1", "mean_class_accuracy")),
        f"{first['num_parameters']:,}",
        "",
        f"{first['dataset']} {first['split']}",
    )


def _control_rows(found: Mapping[str, Mapping[str, Any]]) -> list[tuple[float, tuple[str, ...]]]:
    """Return the controls of each cache of features; for several repetitions of an experiment their mean."""
    repeated = list(_repetitions(found).values())
    alone = [[name] for name in found if not any(name in names for names in repeated)]
    rows = {}
    for names in [*repeated, *alone]:
        by_key = {found[name]["controls"]["key"]: found[name] for name in names if "controls" in found[name]}
        for control, title in CONTROLS.items():
            values = [metrics["controls"][control] for metrics in by_key.values() if control in metrics["controls"]]
            if values:
                metrics = next(iter(by_key.values()))
                row = (
                    title,
                    *(_spread([value[metric] for value in values]) for metric in ("top1", "mean_class_accuracy")),
                    f"{values[0]['num_parameters']:,}",
                    "",
                    f"{metrics['dataset']} {metrics['split']}",
                )
                mean = float(np.mean([value["mean_class_accuracy"] for value in values]))
                rows[control, frozenset(by_key)] = mean, row
    return list(rows.values())


def _spread(values: Sequence[float]) -> str:
    """Return the percentage, with the standard deviation (of a sample) where there are several."""
    if len(values) == 1:
        return f"{values[0]:.2f} %"
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f} %"


def metrics_row(name: str, metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """Return one row under `HEADER`."""
    seconds = metrics.get("train_seconds")
    fold = "" if metrics.get("fold") is None else f", fold {metrics['fold']}"
    return (
        name,
        f"{metrics['top1']:.2f} %",
        f"{metrics['mean_class_accuracy']:.2f} %",
        f"{metrics['num_parameters']:,}",
        "" if seconds is None else f"{seconds:.0f}",
        f"{metrics['num_evaluated']:,} of {metrics['num_expected']:,} {metrics['dataset']} {metrics['split']}{fold}",
    )


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
