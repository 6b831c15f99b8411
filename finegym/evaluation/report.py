"""What is written about evaluations: `metrics.json`, the scores of every video, a confusion picture, one table."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from finegym.data.files import replacing, write_text
from finegym.data.labels import Labels
from finegym.data.text import read_json

from .pictures import draw_calibration, draw_confusion
from .protocol import Evaluation


METRICS_FILE = "metrics.json"
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
    """Write `metrics.json` over what an earlier one said of the same things."""
    path = folder / METRICS_FILE
    earlier = read_metrics(folder) if path.is_file() else {}
    write_text(path, json.dumps(earlier | dict(metrics), indent=2, ensure_ascii=False) + "\n")


def read_metrics(folder: str | Path) -> dict[str, Any]:
    """Read a checkpoint's `metrics.json`.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: naming the file, if it is not one.
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
    """The same metrics, where earlier versions counted the videos of a data set under the name of clips."""
    renamed = {"num_train_clips": "num_train_videos", "num_bad_train_clips": "num_bad_train_videos"}
    metrics = {renamed.get(name, name): value for name, value in metrics.items()}
    for groups in metrics.keys() & {"per_event", "per_set"}:
        metrics[groups] = {
            group: {"num_videos" if name == "num_clips" else name: value for name, value in values.items()}
            for group, values in metrics[groups].items()
        }
    return metrics


def write_scores(path: Path, evaluation: Evaluation) -> None:
    """One row per video: id, label, scores, and the scores and the weight of each distinct clip."""
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


def table(folder: Path) -> str:
    """The metrics of every finished checkpoint in a folder, side by side.

    Args:
        folder: holds checkpoint folders.

    Returns:
        The table as text.

    Raises:
        FileNotFoundError: if there is none with a `metrics.json`.
    """
    found = {path.parent.name: read_metrics(path.parent) for path in sorted(folder.glob(f"*/{METRICS_FILE}"))}
    if not found:
        raise FileNotFoundError(
            f"There is no {METRICS_FILE} in any folder in {folder}. Train or evaluate a model first."
        )
    rows = {}
    for name, metrics in found.items():
        try:
            rows[name] = float(metrics["mean_class_accuracy"]), metrics_row(name, metrics)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{folder / name / METRICS_FILE} lacks a figure or has an impossible one ({error}). `finegym "
                "evaluate` writes it anew."
            ) from error
    return render_table(HEADER, [row for _, row in sorted(rows.values(), key=lambda pair: pair[0])])


def metrics_row(name: str, metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """One row under `HEADER`."""
    seconds = metrics.get("train_seconds")
    return (
        name,
        f"{metrics['top1']:.2f} %",
        f"{metrics['mean_class_accuracy']:.2f} %",
        f"{metrics['num_parameters']:,}",
        "" if seconds is None else f"{seconds:.0f}",
        f"{metrics['num_evaluated']:,} of {metrics['num_expected']:,} {metrics['dataset']} {metrics['split']}",
    )


def render_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Text in columns: the first to the left, numbers to the right."""
    rows = [header, *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(zip(row, widths))
        )
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
