"""`finegym evaluate`: a checkpoint under the paper's protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from transformers import AutoModelForVideoClassification, PreTrainedModel

from finegym.data.checkpoints import load_model, load_video_processor
from finegym.data.index import LABELS_FILE, read_coverage, read_index
from finegym.data.labels import Labels
from finegym.data.launch import this_process
from finegym.data.leakage import datasets_seen_by, unseen_videos
from finegym.features.cache import build_features
from finegym.features.views import EvaluationViews

from .html_report import HTML_FILE, ModelScores, ReportData, write_html_report
from .protocol import Evaluation, evaluate
from .report import METRICS_FILE, write_report
from .table import read_row, render_text


@dataclass(frozen=True)
class Protocol:
    """How checkpoints are evaluated.

    Attributes:
        root: The prepared data set folder.
        split: The split of its index to evaluate on.
        fold: Of a data set with folds, the one whose videos are the split "val"; None means the one that a checkpoint
            was not trained on.
        num_clips: The number of clips spread over each video, equal ones run once (paper, section 4.2: 8).
        batch_size: The number of clips in a forward pass.
        num_workers: The number of processes that decode ahead.
        precision: The number format of weights and activations, fp32 or bf16; a CPU without arithmetic for bf16
            computes in fp32.
        features: The folder to keep the backbone's features in, so that another head on it costs next to nothing.
        leave_out_leaking: Whether to leave out videos that a model was trained on, rather than refuse.
    """

    root: Path
    split: str = "val"
    fold: int | None = None
    num_clips: int = 8
    batch_size: int = 8
    num_workers: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    features: Path | None = None
    leave_out_leaking: bool = False


def evaluate_checkpoints(models: Sequence[str], protocol: Protocol, *, output: Path | None = None) -> str:
    """Measure checkpoints by the paper's protocol; write the results of each, and one HTML report of all.

    Args:
        models: Checkpoint folders or Hub ids. In the report the others are compared with the first.
        protocol: The settings of the evaluation.
        output: The folder to write to, with a folder for each model where there are several; by default the results go
            into the checkpoints' own folders, or into folders named like the models of the Hub, and the report beside
            those of the first. Results on a split other than "val" go into a folder named by it in there.

    Returns:
        The results as a table; empty in all processes but the main one.

    Raises:
        FileNotFoundError: If the data set is not there.
        ValueError: If a checkpoint cannot be read, knows other classes than the data set, or was trained on its
            videos, or two checkpoints have the same name.
    """
    names = [Path(model).name for model in models]
    if len(set(names)) < len(names):
        raise ValueError(f"Models are told apart by the last part of their name, and these repeat: {names}.")
    labels = Labels.read(protocol.root / LABELS_FILE)
    evaluations, lines, rows = {}, [], []
    for model, name in zip(models, names, strict=True):
        evaluation = _evaluate(model, labels, protocol)
        if not this_process().is_main_process:
            continue
        folder = _own_folder(model, protocol) if output is None else output if len(models) == 1 else output / name
        write_report(folder, evaluation, labels)
        evaluations[name] = evaluation
        rows.append(read_row(name, folder))
        lines += [f"{name}: left out, unreadable: {video}: {why}" for video, why in evaluation.unreadable.items()]
        lines.append(f"Written to {folder}: {METRICS_FILE}, scores of every video, confusion and calibration.")
    if not evaluations:
        return ""
    report = (_own_folder(models[0], protocol) if output is None else output) / HTML_FILE
    write_html_report(report, *report_of(evaluations, labels, protocol.root, protocol.split))
    return "\n".join([render_text(rows), *lines, f"Open {report} in a browser to look into them."])


def _own_folder(model: str, protocol: Protocol) -> Path:
    return Path(model) if protocol.split == "val" else Path(model) / protocol.split


def report_of(
    evaluations: Mapping[str, Evaluation], labels: Labels, root: Path, split: str
) -> tuple[ReportData, list[ModelScores]]:
    """Return the contents of an HTML report on one split: the videos that every model could read."""
    first, *others = evaluations.values()
    shared = [video for video in first.video_ids if all(video in other.video_ids for other in others)]
    models = []
    for name, evaluation in evaluations.items():
        place = {video: position for position, video in enumerate(evaluation.video_ids)}
        models.append(ModelScores(name, evaluation.scores[[place[video] for video in shared]].double().numpy()))
    place = {video: position for position, video in enumerate(first.video_ids)}
    metrics = first.metrics
    data = ReportData(
        classes=labels,
        ids=shared,
        labels=first.labels[[place[video] for video in shared]].numpy(),
        description=f"Evaluated {len(shared):,} of {metrics['num_expected']:,} videos of {labels.name}, "
        f"split {split}, with {metrics['num_clips']} clips a video.",
        videos={video.id: video for video in read_index(root, split, fold=metrics.get("fold"))},
        num_training_videos=_num_training_videos(root, len(labels.classes), metrics.get("fold")),
    )
    return data, models


def _num_training_videos(root: Path, num_classes: int, fold: int | None) -> list[int] | None:
    try:
        videos = read_index(root, "train", fold=fold)
    except ValueError:  # a data set to test on
        return None
    return torch.tensor([video.label for video in videos]).bincount(minlength=num_classes).tolist()


def _evaluate(model: str, labels: Labels, protocol: Protocol) -> Evaluation:
    root, split, fold = protocol.root, protocol.split, protocol.fold
    seen = datasets_seen_by(model)
    if fold is None:
        fold = next((entry.get("fold") for entry in seen if entry["dataset"] == labels.name), None)
    videos = read_index(root, split, fold=fold)
    if split != "train":
        videos = unseen_videos(videos, seen, labels.name, leave_out=protocol.leave_out_leaking)
    dtype = torch.bfloat16 if protocol.precision == "bf16" else torch.float32
    classifier = load_model(model, AutoModelForVideoClassification, dtype=dtype)
    processor = load_video_processor(model)
    _check_classes(model, classifier, labels)
    classifier.to(this_process().device).eval()
    options = {"batch_size": protocol.batch_size, "num_workers": protocol.num_workers}
    features = None
    if protocol.features is not None:
        views = EvaluationViews(processor, videos, num_clips=protocol.num_clips)
        features = build_features(classifier, views, protocol.features, **options)
    return evaluate(
        classifier,
        processor,
        videos,
        labels,
        num_clips=protocol.num_clips,
        features=features,
        split=split,
        coverage=read_coverage(root, split, fold=fold),
        fold=fold,
        **options,
    )


def _check_classes(name: str, model: PreTrainedModel, labels: Labels) -> None:
    if model.config.id2label != labels.id2label:
        known = [model.config.id2label.get(index) for index in range(model.config.num_labels)]
        first = next(
            (index for index, pair in enumerate(zip(known, labels.names, strict=False)) if pair[0] != pair[1]),
            min(len(known), len(labels.names)),
        )
        raise ValueError(
            f"{name} knows {len(known)} classes and {labels.name} has {len(labels.names)}; they differ from class "
            f"{first} on ({known[first : first + 1]} against {labels.names[first : first + 1]})."
        )
