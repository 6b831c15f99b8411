"""`finegym fuse`: late fusion of two runs, such as the RGB and the flow stream of a two-stream network.

In: the metrics, labels and scores that two evaluations on the same videos wrote. Out: the same report for the weighted
mean of their scores. It is a row of a table, not a checkpoint: no single network gives these scores.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from finegym.data.index import LABELS_FILE, read_rows
from finegym.data.labels import Labels

from .evaluate import report_of
from .html_report import HTML_FILE, write_html_report
from .protocol import Evaluation, measure
from .report import METRICS_FILE, SCORES_FILE, read_metrics, read_scores, write_report
from .table import read_row, render_text


# Two runs are of the same evaluation if they agree in these.
SHARED = ("dataset", "split", "fold", "annotation_version", "num_expected", "num_evaluated")


def fuse_runs(runs: Sequence[Path], output: Path, *, weights: Sequence[float] = (1.0, 1.0), root: Path | None) -> str:
    """Write the report of the weighted mean of two runs' scores, which are means of softmax over clips.

    Args:
        runs: Two folders with metrics.json, scores.parquet and labels.json.
        output: The folder to write to, which must be empty or new.
        weights: The weight of each run.
        root: The prepared data set folder, for report.html, which compares the fusion with both runs; without it there
            is none.

    Returns:
        The metrics of both runs and of the fusion as a table.

    Raises:
        FileNotFoundError: If a folder lacks one of the files.
        ValueError: If the runs are not of the same videos and classes, or the weights are not positive; the message
            says where they differ.
    """
    if min(weights) < 0 or sum(weights) <= 0:
        raise ValueError(f"--weights must not be negative, and not both 0, got {list(weights)}.")
    if output.exists() and any(output.iterdir()):
        raise ValueError(f"{output} is not empty: name a new folder for the fused results.")
    first, second = (_read(folder) for folder in runs)
    _check_same(runs, first, second)
    shares = [weight / sum(weights) for weight in weights]
    order = {video: position for position, video in enumerate(second.video_ids)}
    theirs = second.scores[[order[video] for video in first.video_ids]]
    scores = shares[0] * first.scores + shares[1] * theirs
    labels = Labels.read(runs[0] / LABELS_FILE)
    kept = {name: first.metrics[name] for name in (*SHARED, "synthetic", "num_clips") if name in first.metrics}
    metrics = {
        **kept,
        **measure(scores, first.labels, labels),
        "num_parameters": sum(one.metrics.get("num_parameters", 0) for one in (first, second)),
        "fused": [str(folder) for folder in runs],
        "fusion_weights": list(weights),
    }
    fused = _evaluation(scores, first.labels, first.video_ids, metrics)
    output.mkdir(parents=True, exist_ok=True)
    write_report(output, fused, labels)
    labels.write(output / LABELS_FILE)
    rows = [read_row(str(folder), folder) for folder in (*runs, output)]
    lines = [f"Written to {output}: {METRICS_FILE}, scores of every video, confusion and calibration."]
    if root is not None:
        evaluations = {"fused": fused, str(runs[0]): first, str(runs[1]): second}
        write_html_report(output / HTML_FILE, *report_of(evaluations, labels, root, metrics["split"]))
        lines.append(f"Open {output / HTML_FILE} in a browser to look into them.")
    return "\n".join([render_text(rows), *lines])


def _read(folder: Path) -> Evaluation:
    metrics = read_metrics(folder)
    for name in (SCORES_FILE, LABELS_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing: `finegym evaluate` writes scores, a run its labels.")
    scores, truth = read_scores(folder / SCORES_FILE)
    try:
        ids = [row["id"] for row in read_rows(folder / SCORES_FILE, pa.schema([("id", pa.string())]))]
    except ValueError as error:
        raise ValueError(f"{folder / SCORES_FILE} holds no ids of videos ({error}).") from error
    if len(set(ids)) < len(ids):
        raise ValueError(f"{folder / SCORES_FILE} has a video twice.")
    if metrics.get("num_evaluated", len(ids)) != len(ids):
        raise ValueError(f"{folder}: {SCORES_FILE} and {METRICS_FILE} are of different evaluations.")
    return _evaluation(torch.from_numpy(scores), torch.from_numpy(truth), ids, metrics)


def _evaluation(scores: torch.Tensor, labels: torch.Tensor, ids: list[str], metrics: dict[str, Any]) -> Evaluation:
    """Return an evaluation whose videos have one clip each: what runs keep of single clips cannot be fused."""
    return Evaluation(
        scores=scores,
        labels=labels,
        video_ids=ids,
        clip_scores=scores[:, None],
        weights=torch.ones(len(scores), 1),
        unreadable={},
        metrics=metrics,
    )


def _check_same(runs: Sequence[Path], first: Evaluation, second: Evaluation) -> None:
    names = [Labels.read(folder / LABELS_FILE).names for folder in runs]
    if names[0] != names[1]:
        differing = next((pair for pair in zip(*names, strict=False) if pair[0] != pair[1]), "their number")
        raise ValueError(f"{runs[0]} and {runs[1]} tell other classes apart; they differ in {differing}.")
    for name in SHARED:
        values = [one.metrics.get(name) for one in (first, second)]
        if values[0] != values[1]:
            raise ValueError(f"{runs[0]} and {runs[1]} differ in {name}: {values[0]} and {values[1]}.")
    apart = sorted({*first.video_ids} ^ {*second.video_ids})
    if apart:
        holder = runs[0] if apart[0] in first.video_ids else runs[1]
        raise ValueError(f"{runs[0]} and {runs[1]} are of other videos: only {holder} has {apart[0]!r}.")
    truth = dict(zip(second.video_ids, second.labels.tolist(), strict=True))
    for video, label in zip(first.video_ids, first.labels.tolist(), strict=True):
        if truth[video] != label:
            raise ValueError(f"Video {video!r} has label {label} in {runs[0]} and {truth[video]} in {runs[1]}.")
    if first.scores.shape[1] != len(names[0]) or second.scores.shape[1] != len(names[0]):
        raise ValueError(f"{runs[0]} or {runs[1]} has scores of another number of classes than its labels.")
