"""Training clips as a data set and the order in which they are seen, both pure functions of the seed and the position.

Nothing here depends on the number of processes or workers, or on what was drawn before. That is why a run can stop
anywhere and resume, on any number of processes, with the same clips, crops and flips.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.utils.data import Dataset, Sampler
from tqdm import tqdm

from modeling_finegym.clip_sampling import random_clip
from modeling_finegym.optical_flow import check_flow_file, count_starts, join_flow, split_flow, stack_frames
from modeling_finegym.video_decoding import VideoDecodingError, VideoFile, open_video

from .index import Video
from .transforms import clip_generator, resize_short_side


# The label that cross entropy leaves out (torch's and Transformers' `ignore_index`).
IGNORED_LABEL = -100


class ClipDataset(Dataset):
    """One clip of each video, cut and augmented at random for training.

    `dataset[(epoch, index)]` is `{"pixel_values": float32 (T, 3, H, W), "labels": int}`, where window, crop and flip
    depend on (seed, epoch, video id) alone. `dataset[index]` takes the epoch from `set_epoch`, for loaders that know
    only indices.

    Args:
        videos: The videos, as `read_index` returns them.
        seed: The seed of all random choices.
        clip_len: The number of frames of a clip, T.
        frame_interval: The distance between two of these frames, in frames of the video.
        out_of_range: What follows the end of a short video: "loop" or "repeat_last".
        sampling: "segments" draws a frame from each of `clip_len` equal parts; anything else draws a window.
        short_side: The length in pixels of the shorter side to which frames are resized as they are read, so that only
            one is held in full size. If None, `transform` gets them as they are.
        antialias: Whether to smooth frames that get smaller.
        flow_len: The number of frames of optical flow that make one frame of a clip; 0 for pictures.
        transform: Frames uint8 (N, height, width, 3) and a generator -> (N, 3, H, W), see `transforms.augment`. Of
            flow, the frames have two channels, and a clip `2 * flow_len`.
        num_views: The number of epochs after which windows, crops and flips repeat. If None, they never do.
        skip_unreadable: Whether to return a video that cannot be read as blank frames with the label that losses
            ignore, and the reason under "error"; otherwise the error is raised.
    """

    def __init__(
        self,
        videos: Sequence[Video],
        *,
        seed: int,
        clip_len: int,
        frame_interval: int,
        out_of_range: str = "loop",
        sampling: str = "centers",
        frame_rate: float | None = None,
        short_side: int | None = None,
        antialias: bool = True,
        flow_len: int = 0,
        transform: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
        num_views: int | None = None,
        skip_unreadable: bool = False,
    ):
        self.videos = list(videos)
        self.seed = seed
        self.clip_len = clip_len
        self.frame_interval = frame_interval
        self.out_of_range = out_of_range
        self.sampling = sampling
        self.frame_rate = frame_rate
        self.short_side = short_side
        self.antialias = antialias
        self.flow_len = flow_len
        self.transform = transform
        self.num_views = num_views
        self.skip_unreadable = skip_unreadable
        self.epoch = 0
        self._cache: list[torch.Tensor | Exception] | None = None

    def __len__(self) -> int:
        return len(self.videos)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        epoch, index = key if isinstance(key, tuple) else (self.epoch, key)
        epoch = epoch if self.num_views is None else epoch % self.num_views
        video = self.videos[index]
        try:
            [pixel_values] = self.views(index, [epoch])
        except (VideoDecodingError, OSError) as error:
            if not self.skip_unreadable:
                raise
            blank = torch.zeros(1, 8, 8, 2 if self.flow_len else 3, dtype=torch.uint8)
            blank = self.transform(blank, clip_generator(self.seed, epoch, video.id))
            blank = blank.repeat(1, max(1, self.flow_len), 1, 1).expand(self.clip_len, -1, -1, -1)
            return {"pixel_values": blank, "labels": IGNORED_LABEL, "error": (video.id, str(error))}
        return {"pixel_values": pixel_values, "labels": video.label}

    def views(self, index: int, epochs: Sequence[int]) -> list[torch.Tensor]:
        """Return a video's `pixel_values` (T, 3, H, W) in several epochs; a frame that several see is decoded once."""
        video = self.videos[index]
        generators = [clip_generator(self.seed, epoch, video.id) for epoch in epochs]
        with self._frames(index) as (num_frames, read):
            windows = [self._window(num_frames, generator) for generator in generators]
            needed = sorted({frame for window in windows for frame in window})
            frames = read(needed)
        place = {frame: position for position, frame in enumerate(needed)}
        views = []
        for window, generator in zip(windows, generators):
            # A short video is looped: what is in the clip more than once is transformed once.
            distinct = sorted(set(window))
            seen = frames if len(distinct) == len(needed) else frames[[place[frame] for frame in distinct]]
            seen = self.transform(seen, generator)[[distinct.index(frame) for frame in window]]
            views.append(join_flow(seen, self.flow_len))
        return views

    def cache_frames(self, short_side: int, *, num_threads: int = 2, progress: bool = True) -> None:
        """Decode every video once and keep all its frames in memory as uint8 of this short side.

        Worth it for small videos on machines where decoding takes longer than the model. A video that cannot be read
        is remembered as such.

        Raises:
            ValueError: If the memory that is free does not hold the frames, by the index's numbers of frames and the
                size of the first video's. Nothing is read then. Each process of a launch keeps its own.
        """
        self._check_memory(short_side)

        def read(video: Video) -> torch.Tensor | Exception:
            try:
                with open_video(video.path) as file:
                    return self._read(file, file.select(video.start, video.end, self.frame_rate), short_side)
            except (VideoDecodingError, OSError) as error:
                return error

        with ThreadPoolExecutor(num_threads) as pool:
            frames = tqdm(
                pool.map(read, self.videos), "Decoding videos", total=len(self), unit="video", disable=not progress
            )
            self._cache = list(frames)

    def _check_memory(self, short_side: int) -> None:
        for video in self.videos:
            with contextlib.suppress(VideoDecodingError, OSError), open_video(video.path) as file:
                first = file.select(video.start, video.end, self.frame_rate)[:1]
                frame = self._read(file, first, short_side)[0]
                break
        else:
            return
        num_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        num_frames = sum(
            video.num_frames * self.frame_rate / video.fps if self.frame_rate and video.fps else video.num_frames
            for video in self.videos
        )
        needed, free = num_processes * num_frames * frame.numel(), available_memory()
        if needed > free:
            raise ValueError(
                f"data.cache_frames would keep {round(num_frames):,} frames of {frame.shape[1]} x {frame.shape[0]} "
                f"pixels, {needed / 1e9:.1f} GB on {num_processes} process(es), and {free / 1e9:.1f} GB of memory are "
                "free: set it to false, or choose a smaller data.short_side."
            )

    @contextlib.contextmanager
    def _frames(self, index: int) -> Iterator[tuple[int, Callable[[list[int]], torch.Tensor]]]:
        """How many frames a video has, and what reads those of given numbers."""
        if self._cache is not None:
            frames = self._cache[index]
            if isinstance(frames, Exception):
                raise frames
            yield len(frames), lambda indices: frames[indices]
            return
        video = self.videos[index]
        with open_video(video.path) as file:
            shown = file.select(video.start, video.end, self.frame_rate)
            yield len(shown), lambda indices: self._read(file, [shown[index] for index in indices], self.short_side)

    def _window(self, num_frames: int, generator: torch.Generator) -> list[int]:
        window = random_clip(
            count_starts(num_frames, self.flow_len),
            clip_len=self.clip_len,
            frame_interval=self.frame_interval,
            out_of_range=self.out_of_range,
            sampling=self.sampling,
            generator=generator,
        )
        return stack_frames(window, num_frames, self.flow_len)

    def _read(self, file: VideoFile, indices: Sequence[int], short_side: int | None) -> torch.Tensor:
        """Return frames (N, height, width, 3), or (N, height, width, 2) of flow, each resized as soon as it is
        decoded."""
        if self.flow_len:
            check_flow_file(file)
        elif short_side is None:
            return file.frames(list(indices))
        frames = {}
        for index, picture in file.pictures(sorted(set(indices))):
            frame = split_flow(picture[None]) if self.flow_len else picture[None]
            frames[index] = (frame if short_side is None else resize_short_side(frame, short_side, self.antialias))[0]
        return torch.stack([frames[index] for index in indices])


def available_memory() -> int:
    """Return how many bytes of memory are free here: of the machine, and of this process's control group."""
    sizes, group = [psutil.virtual_memory().available], Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # no group, or no limit, which reads "max"
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        sizes.append(limit - used)
    return min(sizes)


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack items to a batch: tensors get a first dimension B, labels become (B,), errors (if any) a dict id ->
    reason."""
    batch: dict[str, Any] = {"labels": torch.tensor([item["labels"] for item in items])}
    if "video_features" in items[0]:
        batch["video_features"] = torch.stack([item["video_features"] for item in items])
    else:
        # In memory the channels stay last, as SlowOnly wants them.
        frames = [item["pixel_values"].permute(0, 2, 3, 1) for item in items]
        batch["pixel_values"] = torch.stack(frames).permute(0, 1, 4, 2, 3)
    errors = dict(item["error"] for item in items if "error" in item)
    if errors:
        batch["errors"] = errors
    return batch


class StepSampler(Sampler[list[tuple[int, int]]]):
    """The clips of every step, a pure function of (seed, step); what one process sees of them is its slice.

    An epoch is one random order of all videos, cut into global batches; the videos that do not fill the last batch are
    left to other epochs. Iterating yields, for each step from `first_step` on, this process's list of (epoch, index).

    Args:
        num_videos: The size of the data set.
        batch_size: The number of clips of a step over all processes.
        num_steps: The step at which the run ends.
        seed: The seed of the order.
        first_step: The step to start or resume at.
        rank, world_size: The slice of every batch that is this process's.

    Raises:
        ValueError: If there are fewer videos than one batch takes, or a batch does not divide among the processes.
    """

    def __init__(
        self,
        num_videos: int,
        *,
        batch_size: int,
        num_steps: int,
        seed: int,
        first_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        if num_videos < batch_size:
            raise ValueError(
                f"A batch of {batch_size} clips cannot be filled from {num_videos} training videos; lower batch_size."
            )
        if batch_size % world_size:
            raise ValueError(f"A global batch of {batch_size} clips does not divide among {world_size} processes.")
        self.num_videos = num_videos
        self.batch_size = batch_size
        self.num_steps = num_steps
        self.seed = seed
        self.first_step = first_step
        self.rank = rank
        self.world_size = world_size
        self.steps_per_epoch = num_videos // batch_size
        self._order: tuple[int, list[int]] = (-1, [])

    def __len__(self) -> int:
        return self.num_steps - self.first_step

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        share = self.batch_size // self.world_size
        for step in range(self.first_step, self.num_steps):
            yield self.global_batch(step)[self.rank * share : (self.rank + 1) * share]

    def global_batch(self, step: int) -> list[tuple[int, int]]:
        """Return the (epoch, index) of every clip of a step, over all processes."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._order[0] != epoch:
            order = torch.randperm(self.num_videos, generator=clip_generator(self.seed, epoch, "order"))
            self._order = (epoch, order.tolist())
        start = position * self.batch_size
        return [(epoch, index) for index in self._order[1][start : start + self.batch_size]]
