"""What is written about evaluations: `metrics.json`, the scores of every video, pictures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from finegym.data.files import replacing, write_text
from finegym.data.index import read_rows
from finegym.data.labels import Labels
from finegym.data.text import read_json

from .pictures import draw_calibration, draw_confusion


if TYPE_CHECKING:  # tables read what is written here, without torch
    from .protocol import Evaluation


METRICS_FILE = "metrics.json"
SCORES_FILE = "scores.parquet"


def write_report(folder: str | Path, evaluation: "Evaluation", labels: Labels) -> None:
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
    for key in ("dataset", "split", "experiment"):
        if not isinstance(metrics.get(key, ""), str):
            raise ValueError(f"{path}: `{key}` must be a text. `finegym evaluate` writes the file again.")
    for key in ("seed", "fold"):
        if not isinstance(metrics.get(key), int | None):
            raise ValueError(f"{path}: `{key}` must be a whole number. `finegym evaluate` writes the file again.")
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


def write_scores(path: Path, evaluation: "Evaluation") -> None:
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


def read_scores(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores (N, C) and the true class ids (N,) of a file that `write_scores` wrote.

    Raises:
        ValueError: If it is not such a file; the message names it.
    """
    schema = pa.schema([("label", pa.int64()), ("scores", pa.list_(pa.float32()))])
    try:
        rows = read_rows(path, schema)
        scores, labels = np.array([row["scores"] for row in rows], np.float64), [row["label"] for row in rows]
        if scores.ndim != 2 or not np.isfinite(scores).all() or not {*labels} <= {*range(scores.shape[1])}:
            raise ValueError("its rows are not a label and the finite scores of all classes")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no scores ({error}). `finegym evaluate` writes it again.") from error
    return scores, np.array(labels)
