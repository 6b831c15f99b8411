"""Score videos by the paper's protocol, for the pipeline, `finegym predict` and `finegym evaluate`: run each distinct
clip of a video once and average the softmax. Clips of many videos are packed into full batches."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch

from .clip_sampling import average_clips


Item = TypeVar("Item")


@dataclass
class VideoClips:
    """
    The distinct clips of one video.

    Args:
        weights (`torch.FloatTensor` of shape `(num_clips,)`): Share of each clip in the score; they sum to 1.
        pixel_values (`torch.FloatTensor` of shape `(num_clips, num_frames, num_channels, height, width)`), or
        video_features (`torch.FloatTensor` of shape `(num_clips, num_video_tokens, video_feature_size)`).
    """

    weights: torch.Tensor
    pixel_values: torch.Tensor | None = None
    video_features: torch.Tensor | None = None

    @property
    def inputs(self) -> tuple[str, torch.Tensor]:
        """Return the name of the model's argument and its value."""
        if self.video_features is not None:
            return "video_features", self.video_features
        return "pixel_values", self.pixel_values


@dataclass
class VideoScores:
    """
    Scores of one video, on the CPU in float32.

    Args:
        scores (`torch.FloatTensor` of shape `(num_labels,)`): Weighted mean of the clips' softmax.
        clip_scores (`torch.FloatTensor` of shape `(num_clips, num_labels)`): Each distinct clip's softmax.
        weights (`torch.FloatTensor` of shape `(num_clips,)`): Share of each clip in `scores`.
        attribute_scores (`torch.FloatTensor` of shape `(num_attribute_groups, num_attributes)`): Weighted mean of the
            clips' softmax for each group of attributes; None for models that answer no attributes.
    """

    scores: torch.Tensor
    clip_scores: torch.Tensor
    weights: torch.Tensor
    attribute_scores: torch.Tensor | None = None


def load_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """
    Yield the items in order, and while one of them is in use, load the next in a thread, so that videos are decoded
    while the model computes. The first is loaded in the caller's thread, where a loader may start its processes.
    """
    items, end = iter(items), object()
    with ThreadPoolExecutor(1) as thread:
        item = next(items, end)
        while item is not end:
            following = thread.submit(next, items, end)
            yield item
            item = following.result()


@torch.no_grad()
def run_packed(
    function: Callable[[torch.Tensor], torch.Tensor], videos: Iterable[torch.Tensor], batch_size: int
) -> Iterator[torch.Tensor]:
    """
    Run `function` on the clips of many videos in full batches and yield each video's part of the results, in order.
    Hold only as many videos as it takes to fill a batch, and one that is loaded meanwhile: however many videos there
    are, at most `2 * batch_size + 3 * num_clips` clips, each of `4 * num_frames * num_channels * height * width` bytes
    in float32, beside what `function` takes.

    Args:
        function: (clips, ...) -> (clips, ...).
        videos: Tensors of shape `(num_clips, ...)`; `num_clips` may differ.
        batch_size (`int`): Clips per call.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be positive, got {batch_size}.")
    clips: deque[torch.Tensor] = deque()  # not yet run
    results: deque[torch.Tensor] = deque()  # of clips whose video is not yet complete
    waiting: deque[int] = deque()  # number of clips of each such video

    def run_batch() -> None:
        results.extend(function(torch.stack([clips.popleft() for _ in range(min(batch_size, len(clips)))])))

    def complete() -> Iterator[torch.Tensor]:
        while waiting and len(results) >= waiting[0]:
            yield torch.stack([results.popleft() for _ in range(waiting.popleft())])

    for video in load_ahead(videos):
        clips.extend(video)
        waiting.append(len(video))
        while len(clips) >= batch_size:
            run_batch()
        yield from complete()
    while clips:
        run_batch()
    yield from complete()


def score_videos(model: torch.nn.Module, videos: Iterable[VideoClips], batch_size: int = 8) -> Iterator[VideoScores]:
    """
    Yield the scores of each video, in order.

    Args:
        model: A model for video classification, in eval mode.
        videos: The videos' distinct clips, all of them frames or all of them features.
        batch_size (`int`): Clips per forward pass, from one video or several.
    """
    if model.training:
        raise ValueError("The model is in training mode: call model.eval() before scoring videos.")
    videos = iter(videos)
    first = next(videos, None)
    if first is None:
        return
    name, _ = first.inputs
    weights: deque[torch.Tensor] = deque()

    def inputs() -> Iterator[torch.Tensor]:
        for video in itertools.chain([first], videos):
            weights.append(video.weights.float())
            yield video.inputs[1]

    def answers(clips: torch.Tensor) -> torch.Tensor:
        """Return the logits of the classes, followed by those of attributes, if there are any."""
        outputs = model(**{name: clips.to(model.device)})
        attribute_logits = getattr(outputs, "attribute_logits", None)
        if attribute_logits is None:
            return outputs.logits.float().cpu()
        return torch.cat([outputs.logits, attribute_logits.flatten(1)], dim=1).float().cpu()

    for answer in run_packed(answers, inputs(), batch_size):
        logits, attribute_logits = answer.tensor_split([model.config.num_labels], dim=1)
        weights_of_video, attribute_scores = weights.popleft(), None
        if attribute_logits.numel():
            by_group = attribute_logits.unflatten(1, (model.config.num_attribute_groups, -1))
            attribute_scores = torch.einsum("c,cgn->gn", weights_of_video, by_group.softmax(-1))
        scores = average_clips(logits, weights_of_video)
        yield VideoScores(scores, logits.softmax(-1), weights_of_video, attribute_scores)
