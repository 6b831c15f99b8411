"""The paper's evaluation protocol (section 4.2): eight clips per video, one center crop, their softmax averaged."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers import PreTrainedModel

from finegym.data.index import Coverage, Video
from finegym.data.labels import Labels
from finegym.data.launch import this_process
from finegym.features.cache import Features
from modeling_finegym.clip_scoring import VideoClips, score_videos
from modeling_finegym.video_decoding import VideoDecodingError
from modeling_finegym.video_processing_finegym import FineGymVideoProcessor

from .metrics import calibration, mean_class_accuracy, per_class_accuracy, per_group_accuracy, top_k_accuracy


@dataclass(frozen=True)
class Evaluation:
    """The predictions of a model for a split, the same on every process.

    Attributes:
        scores: The weighted mean (N, C) of the softmax of each video's clips.
        labels: The true class ids (N,).
        video_ids: The ids of the N videos, in the order they were given.
        clip_scores: The softmax (N, K, C) of each distinct clip; rows of zeros where a video has fewer than K.
        weights: The share (N, K) of each distinct clip in `scores`; zeros likewise.
        unreadable: The videos that cannot be decoded, id -> reason. They are in no other field.
        metrics: The contents of `metrics.json`.
    """

    scores: torch.Tensor
    labels: torch.Tensor
    video_ids: list[str]
    clip_scores: torch.Tensor
    weights: torch.Tensor
    unreadable: dict[str, str]
    metrics: dict[str, Any] = field(repr=False)


def evaluate(
    model: PreTrainedModel,
    processor: FineGymVideoProcessor,
    videos: Sequence[Video],
    labels: Labels,
    *,
    num_clips: int = 8,
    batch_size: int = 8,
    num_workers: int = 0,
    features: Features | None = None,
    split: str = "val",
    coverage: Coverage | None = None,
    fold: int | None = None,
    progress: bool = True,
) -> Evaluation:
    """Score every video once, on any number of processes, and compute the metrics.

    Args:
        model: A model for video classification, on its device. It is run in eval mode and left as it was.
        processor: The processor, which decodes, samples and transforms. It is not used where there are features.
        videos: The videos, as `read_index` returns them.
        labels: The classes.
        num_clips: The number of windows of a video; equal ones are run once and weighted (paper: 8).
        batch_size: The number of clips, of several videos, in a forward pass.
        num_workers: The number of processes that decode ahead.
        features: The features of these videos by `EvaluationViews`, in place of their frames.
        split: The name of the split, for the report.
        coverage: The coverage of the split, as `read_coverage` returns it; None if no video is missing.
        fold: The fold of the data set, for the report; None if it has none.
        progress: Whether to show a bar on the main process.

    Raises:
        ValueError: If no video can be read, a label is not one of the model's, or the features are of other videos.
    """
    _check(model, videos, labels, features)
    start, state = time.perf_counter(), this_process()
    share = range(state.process_index, len(videos), state.num_processes)
    loaded = _LoadedVideos(processor, videos, num_clips, features, share)
    is_quiet = not (progress and state.is_main_process)
    was_training = model.training
    model.eval()
    with tqdm(total=len(share), desc=f"Evaluating {split}", unit="video", disable=is_quiet) as bar:
        part = _score(model, loaded, batch_size, num_workers, bar)
    model.train(was_training)
    scored = {position: scores for part in gather_object([part]) for position, scores in part.items()}
    unreadable = {
        videos[position].id: reason for position, reason in sorted(scored.items()) if isinstance(reason, str)
    }
    read = [position for position in range(len(videos)) if not isinstance(scored[position], str)]
    if not read:
        raise ValueError(
            f"None of the {len(videos)} videos can be decoded. The first: {next(iter(unreadable.values()))}"
        )
    scores = torch.stack([scored[position].scores for position in read])
    truth = torch.tensor([videos[position].label for position in read])
    metrics = {
        "dataset": labels.name,
        "synthetic": labels.synthetic,
        "split": split,
        **({} if fold is None else {"fold": fold}),
        "annotation_version": "own" if coverage is None else coverage.annotation_version,
        **({} if coverage is None or coverage.optical_flow is None else {"optical_flow": coverage.optical_flow}),
        "num_evaluated": len(read),
        "num_expected": len(videos) if coverage is None else coverage.num_expected,
        **_sampling(processor, num_clips),
        **measure(scores, truth, labels),
        **_measure_attributes([scored[position].attribute_scores for position in read], truth, model.config),
        "num_parameters": model.num_parameters(),
        "seconds": time.perf_counter() - start,
    }
    return Evaluation(
        scores=scores,
        labels=truth,
        video_ids=[videos[position].id for position in read],
        clip_scores=_padded([scored[position].clip_scores for position in read], num_clips),
        weights=_padded([scored[position].weights for position in read], num_clips),
        unreadable=unreadable,
        metrics=metrics,
    )


def _sampling(processor: FineGymVideoProcessor, num_clips: int) -> dict[str, Any]:
    """Return the number of clips and the frame rate they were sampled at, None if frames were counted."""
    return {
        "num_clips": num_clips,
        "frame_rate": None if processor.protocol_counts_frames else processor.frame_rate,
    }


def measure(scores: torch.Tensor, truth: torch.Tensor, labels: Labels) -> dict[str, Any]:
    """Return the metrics of scores (N, C) that `metrics.json` holds, in percent; classes without a video have no
    accuracy."""
    per_class = per_class_accuracy(scores, truth)
    return {
        "top1": top_k_accuracy(scores, truth),
        # with five classes it is 100 % whatever the model says
        **({"top5": top_k_accuracy(scores, truth, k=5)} if len(labels.names) > 5 else {}),
        "mean_class_accuracy": mean_class_accuracy(scores, truth),
        "calibration_error": calibration(scores, truth).error,
        "per_event": per_group_accuracy(scores, truth, groups=[action.event for action in labels.classes]),
        "per_set": per_group_accuracy(scores, truth, groups=[action.set_name for action in labels.classes]),
        "per_class": {
            name: float(accuracy)
            for name, accuracy in zip(labels.names, per_class, strict=True)
            if accuracy == accuracy
        },
    }


def _measure_attributes(scores: list[torch.Tensor | None], truth: torch.Tensor, config: Any) -> dict[str, float]:
    """Return how often the attributes of a group are right, over videos and groups, and the accuracy of the class
    whose attributes are likeliest together (TQN, arXiv 2104.09496); nothing for models that answer no attributes."""
    if scores[0] is None or not config.class_attributes:
        return {}
    answers = torch.stack([one for one in scores if one is not None]).clamp_min(1e-12).log()  # (N, G, A)
    table = torch.tensor(config.class_attributes)  # (C, G)
    matches = torch.stack([answers[:, group, column] for group, column in enumerate(table.T)]).sum(0)  # (N, C)
    return {
        "attribute_accuracy": 100 * (answers.argmax(-1) == table[truth]).float().mean().item(),
        "match_top1": top_k_accuracy(matches, truth),
        "match_mean_class_accuracy": mean_class_accuracy(matches, truth),
    }


class _LoadedVideos(Dataset):
    """This process's share of the videos: position and clips, or position and the reason why there are none."""

    def __init__(self, processor, videos: Sequence[Video], num_clips: int, features: Features | None, share: range):
        self.processor = processor
        self.videos = videos
        self.num_clips = num_clips
        self.features = features
        self.share = share

    def __len__(self) -> int:
        return len(self.share)

    def __getitem__(self, index: int) -> tuple[int, VideoClips | str]:
        position = self.share[index]
        video = self.videos[position]
        if self.features is not None:
            failure = self.features.failed.get(video.id)
            return position, self.features.video_clips(position) if failure is None else failure
        try:
            return position, self.processor.load_clips(
                video.path,
                self.num_clips,
                start=video.start,
                end=video.end,
                count_frames=self.processor.protocol_counts_frames,
            )
        except (VideoDecodingError, OSError) as error:
            return position, str(error)


def _score(model, videos: _LoadedVideos, batch_size: int, num_workers: int, bar: tqdm) -> dict[int, Any]:
    """Return the `VideoScores` by position, or the reason why there are none."""
    scored: dict[int, Any] = {}
    waiting: list[int] = []

    def readable() -> Iterator[VideoClips]:
        for position, clips in DataLoader(videos, batch_size=None, num_workers=num_workers):
            if isinstance(clips, str):
                scored[position] = clips
                bar.update()
            else:
                waiting.append(position)
                yield clips

    for scores in score_videos(model, readable(), batch_size):
        scored[waiting.pop(0)] = scores
        bar.update()
    return scored


def _padded(rows: list[torch.Tensor], length: int) -> torch.Tensor:
    """Stack tensors (K_i, ...) to (N, length, ...), with zeros at the end."""
    padded = rows[0].new_zeros(len(rows), length, *rows[0].shape[1:])
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
    return padded


def _check(model: PreTrainedModel, videos: Sequence[Video], labels: Labels, features: Features | None) -> None:
    if not videos:
        raise ValueError("There is no video to evaluate.")
    if model.config.num_labels != len(labels.classes):
        raise ValueError(
            f"The model tells {model.config.num_labels} classes apart and {labels.name} has {len(labels.classes)}: "
            "take the label file that it was trained with."
        )
    for video in videos:
        if not 0 <= video.label < len(labels.classes):
            raise ValueError(
                f"Video {video.id} has label {video.label} of {len(labels.classes)} classes of {labels.name}."
            )
    if features is not None and features.names != [video.id for video in videos]:
        raise ValueError(
            "The features are not those of these videos: compute them with `EvaluationViews` of the same list."
        )
