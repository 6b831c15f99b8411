"""`finegym evaluate`: a checkpoint under the paper's protocol."""

from pathlib import Path
from typing import Literal

import torch
from transformers import AutoModelForVideoClassification, PreTrainedModel

from finegym.data.checkpoints import load_model, load_video_processor
from finegym.data.index import LABELS_FILE, Video, read_coverage, read_index
from finegym.data.labels import Labels
from finegym.data.launch import this_process
from finegym.data.leakage import check_leakage, leaking_videos
from finegym.features.cache import EvaluationViews, build_features

from .protocol import Evaluation, evaluate
from .report import HEADER, METRICS_FILE, metrics_row, read_metrics, render_table, write_report


def evaluate_checkpoint(
    *,
    model: str,
    root: Path,
    split: Literal["train", "val"] = "val",
    num_clips: int = 8,
    batch_size: int = 8,
    num_workers: int = 0,
    precision: Literal["fp32", "bf16"] = "fp32",
    features: Path | None = None,
    leave_out_leaking: bool = False,
    output: Path | None = None,
) -> str:
    """Measure a checkpoint by the paper's protocol and write `metrics.json`, the scores of every video and pictures.

    `accelerate launch -m finegym evaluate ...` shares the videos among any number of GPUs and machines.

    Args:
        model: checkpoint folder or Hub id.
        root: prepared dataset folder.
        split: split of the index.
        num_clips: windows spread over each video, equal ones run once (paper, section 4.2: 8).
        batch_size: clips per forward pass.
        num_workers: processes that decode ahead.
        precision: fp32, or weights and activations in bf16.
        features: folder to keep the backbone's features in, so that another head on it costs next to nothing.
        leave_out_leaking: leave out videos that the model was trained on, instead of refusing.
        output: folder to write to; by default the checkpoint's own, or the name of a model of the Hub.

    Returns:
        The result as a table.

    Raises:
        FileNotFoundError: if the dataset is not there.
        ValueError: if the checkpoint cannot be read, knows other classes than the dataset, or was trained on its
            videos.
    """
    labels = Labels.read(root / LABELS_FILE)
    videos = _unseen_videos(model, read_index(root, split), labels, leave_out_leaking)
    state = this_process()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    classifier = load_model(model, AutoModelForVideoClassification, dtype=dtype)
    processor = load_video_processor(model)
    _check_classes(model, classifier, labels)
    classifier.to(state.device).eval()
    cached = None
    options = {"batch_size": batch_size, "num_workers": num_workers}
    if features is not None:
        cached = build_features(
            classifier, EvaluationViews(processor, videos, num_clips=num_clips), features, **options
        )
    result: Evaluation = evaluate(
        classifier,
        processor,
        videos,
        labels,
        num_clips=num_clips,
        features=cached,
        split=split,
        coverage=read_coverage(root, split),
        **options,
    )
    if not state.is_main_process:
        return ""
    folder = output or Path(model)
    write_report(folder, result, labels)
    lines = [render_table(HEADER, [metrics_row(Path(model).name, read_metrics(folder))])]
    lines += [f"left out, unreadable: {video_id}: {reason}" for video_id, reason in result.unreadable.items()]
    return "\n".join(
        [*lines, f"Written to {folder}: {METRICS_FILE}, scores of every video, confusion and calibration."]
    )


def _unseen_videos(model: str, videos: list[Video], labels: Labels, leave_out: bool) -> list[Video]:
    """The videos, unless the checkpoint says that it was trained on some of them."""
    if not (Path(model) / METRICS_FILE).is_file():
        return videos
    for dataset in read_metrics(model).get("trained_on", []):
        name, version = dataset["dataset"], dataset["annotation_version"]
        leaking = leaking_videos(name, version, labels.name)
        videos = check_leakage(leaking, videos, seen_by=f"{name} {version}", leave_out=leave_out)
    return videos


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
