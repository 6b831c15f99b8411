"""What features are computed of: the distinct test clips of every video, or its training views.

In: videos, and how their clips are sampled and turned into input. Out: the clips, and everything but the files' bytes
and the backbone that changes their features.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from finegym.data.dataset import ClipDataset
from finegym.data.index import Video
from modeling_finegym.clip_sampling import sample_clips
from modeling_finegym.clip_scoring import VideoClips
from modeling_finegym.video_processing_finegym import FineGymVideoProcessor


class Views(Protocol):
    """What features are computed of: `EvaluationViews` or `TrainingViews`. One video becomes one tensor."""

    names: list[str]  # one per video, unique
    sources: list[Path]  # the file of each video
    num_distinct_clips: list[int]  # K, how many clips each video yields
    groups: list[int]  # videos with the same number are best loaded together

    def describe(self) -> dict[str, Any]:
        """Return what holds for all videos and changes their features."""

    def content(self, position: int) -> list[Any]:
        """Return what changes the features of this video, apart from the bytes of its file."""

    def load(self, positions: Sequence[int]) -> list[VideoClips]:
        """Return the clips of one group's videos at these positions."""


class EvaluationViews:
    """The distinct test clips of every video, by the paper's protocol.

    Args:
        processor: The processor, which decodes, samples, resizes, crops and normalizes.
        videos: The videos, as `read_index` returns them.
        num_clips: The number of windows of a video; equal ones are computed once (paper, section 4.2: 8).
        count_frames: Whether to sample by numbers of frames rather than by time; None asks the processor.
    """

    def __init__(
        self,
        processor: FineGymVideoProcessor,
        videos: Sequence[Video],
        *,
        num_clips: int = 8,
        count_frames: bool | None = None,
    ):
        self.processor = processor
        self.count_frames = processor.protocol_counts_frames if count_frames is None else count_frames
        self.videos = list(videos)
        self.num_clips = num_clips
        self.names = [video.id for video in self.videos]
        self.sources = [video.path for video in self.videos]
        self.num_distinct_clips = [len(self._indices(video)) for video in self.videos]
        self.groups = list(range(len(self.videos)))

    def _indices(self, video: Video) -> list[list[int]]:
        num_frames = video.num_frames
        if not self.count_frames and self.processor.frame_rate and video.fps:
            num_frames = max(1, round(num_frames / video.fps * self.processor.frame_rate))
        return sample_clips(
            num_frames,
            clip_len=self.processor.num_frames,
            frame_interval=self.processor.frame_interval,
            num_clips=self.num_clips,
            out_of_range=self.processor.out_of_range,
            sampling=self.processor.sampling,
        )[0]

    def describe(self) -> dict[str, Any]:
        rule = {"num_clips": self.num_clips, "count_frames": self.count_frames}
        return {"views": "test", **rule, "processor": self.processor.to_dict()}

    def content(self, position: int) -> list[Any]:
        video = self.videos[position]
        return [video.start, video.end, self._indices(video)]

    def load(self, positions: Sequence[int]) -> list[VideoClips]:
        return [
            self.processor.load_clips(
                video.path, self.num_clips, start=video.start, end=video.end, count_frames=self.count_frames
            )
            for video in (self.videos[position] for position in positions)
        ]


class TrainingViews:
    """`num_views` random training views of every video: what the data set returns in its first `num_views` epochs.

    Args:
        dataset: The data set to view; (seed, epoch, video id) fix its windows, crops and flips, and so every view.
        num_views: The number of views K of a video; view v of video i is at position `i * num_views + v`.
        transform: The settings of the data set's transform, as JSON.
    """

    def __init__(self, dataset: ClipDataset, *, num_views: int, transform: dict[str, Any]):
        self.dataset = dataset
        self.num_views = num_views
        self.transform = transform
        self.names = [f"{video.id}#{view}" for video in dataset.videos for view in range(num_views)]
        self.sources = [video.path for video in dataset.videos for _ in range(num_views)]
        self.num_distinct_clips = [1] * len(self.names)
        self.groups = [position // num_views for position in range(len(self.names))]

    def describe(self) -> dict[str, Any]:
        names = ("seed", "clip_len", "frame_interval", "frame_rate", "out_of_range", "sampling")
        rule = {name: getattr(self.dataset, name) for name in names}
        return {"views": "training", "transform": self.transform, **rule}

    def position(self, index: int, epoch: int) -> int:
        """Return the position of a video's view in an epoch."""
        return index * self.num_views + epoch % self.num_views

    def content(self, position: int) -> list[Any]:
        index, view = divmod(position, self.num_views)
        video = self.dataset.videos[index]
        return [view, video.start, video.end, video.num_frames]

    def load(self, positions: Sequence[int]) -> list[VideoClips]:
        views = self.dataset.views(
            positions[0] // self.num_views, [position % self.num_views for position in positions]
        )
        return [VideoClips(torch.ones(1), pixel_values=view[None]) for view in views]
