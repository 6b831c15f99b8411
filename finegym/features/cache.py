"""Features of a frozen backbone, computed once and kept: (T', D) half floats for every view of every video.

A folder of features contains shards (see `shards`). A video has one tensor (K, T', D), for its K distinct test clips
or for one training view, under a key that covers all that it depends on: the backbone's weights, how frames become
input, which frames, the decoder, and the bytes of the source file.

Any number of processes may fill one folder. The work is cut by content, and each piece is held by a file lock that
dies with its holder: a second process, or one started after a kill, finds what is done and computes the rest.
"""

import errno
import itertools
import json
import shutil
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers import PreTrainedModel

from finegym.data.files import write_text
from finegym.data.launch import this_process
from finegym.data.text import read_json, read_text
from modeling_finegym.clip_scoring import VideoClips, run_packed
from modeling_finegym.video_decoding import VideoDecodingError

from .fingerprints import describe_backbone, describe_decoder, fingerprint, fingerprint_files
from .shards import CachedVideo, Shards
from .views import Views


# Raise this whenever the same settings yield other features: folders of another version are never used.
FORMAT_VERSION = 1
DESCRIPTION_FILE = "description.json"
SOURCES_FILE = "sources.json"
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Small enough that a kill loses little and many processes find work, large enough that files stay few.
SHARD_SIZES = (16, 256)


class Features(Dataset):
    """Opened features, memory-mapped: `features[position]` is a tensor (K, T', D).

    Attributes:
        folder: The folder that holds them.
        names, keys: The names and keys of the videos; a key says how the features were computed.
        failed: Name -> reason, for the videos that cannot be decoded; asking for their features raises `KeyError`.
    """

    def __init__(self, folder: Path, names: Sequence[str], keys: Sequence[str], entries: Sequence[CachedVideo]):
        self.folder = folder
        self.names = list(names)
        self.keys = list(keys)
        self.entries = list(entries)
        self.failed = {
            name: entry.reason for name, entry in zip(names, entries, strict=True) if entry.reason is not None
        }
        self._shards: dict[Path, safe_open] = {}

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, position: int) -> torch.Tensor:
        entry = self.entries[position]
        if entry.reason is not None:
            raise KeyError(f"{entry.name} has no features: {entry.reason}")
        if entry.shard not in self._shards:
            self._shards[entry.shard] = safe_open(entry.shard, framework="pt")
        return self._shards[entry.shard].get_tensor(entry.name)

    def video_clips(self, position: int) -> VideoClips:
        """Return the features of a video's distinct test clips and their weights, as `score_videos` takes them."""
        weights = torch.tensor(self.entries[position].weights)
        return VideoClips(weights, video_features=self[position])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shards": {}}  # open files do not travel to other processes


def build_features(
    model: PreTrainedModel,
    views: Views,
    root: str | Path,
    *,
    dtype: str = "float16",
    backbone: dict[str, Any] | None = None,
    **options,
) -> Features:
    """Open the features of these views below `root`, computing what is not there yet.

    Each way of computing features has a folder of its own there, named by the fingerprint of backbone, views and
    decoder. See `extract_features` for the other arguments and the errors.
    """
    backbone = backbone or describe_backbone(model)
    folder = Path(root) / fingerprint(_describe(backbone, views, dtype))[:16]
    return extract_features(model, views, folder, dtype=dtype, backbone=backbone, **options)


def extract_features(
    model: PreTrainedModel,
    views: Views,
    folder: str | Path,
    *,
    dtype: str = "float16",
    batch_size: int = 8,
    num_workers: int = 0,
    progress: bool = True,
    backbone: dict[str, Any] | None = None,
) -> Features:
    """Open the features of these views in `folder`, computing what is not there yet.

    Every process of a launch calls this, and other launches may at the same time; it returns when all are there.

    Args:
        model: Any model with `get_video_features`, on its device; its backbone is run in eval mode.
        views: `EvaluationViews` or `TrainingViews`.
        folder: The folder of the features of one way of computing; shards that a flipped bit has damaged are computed
            again.
        dtype: The data type of the cached features: "float16", "bfloat16" or "float32".
        batch_size: The number of clips, of several videos, in a forward pass.
        num_workers: The number of processes that decode ahead.
        progress: Whether to show the estimate and a bar on the main process.
        backbone: The result of `describe_backbone` for the model, if it is known already.

    Raises:
        ValueError: If the folder was filled in another way, the disk cannot hold the features, or they do not fit
            `dtype`.
        OSError: If the disk is full all the same; finished shards are kept.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {list(DTYPES)}, not {dtype!r}.")
    folder = Path(folder)
    description = _describe(backbone or describe_backbone(model), views, dtype)
    _claim_folder(folder, description)
    digests = fingerprint_files(views.sources, folder / SOURCES_FILE)
    common = fingerprint(description)
    keys = [
        fingerprint([common, name, digests[Path(source)], views.content(position)])
        for position, (name, source) in enumerate(zip(views.names, views.sources, strict=True))
    ]
    state = this_process()
    shards = Shards(folder)
    if any(key not in shards.entries for key in keys):
        was_training = model.training
        model.eval()
        show = progress and state.is_main_process
        extraction = _Extraction(model, views, keys, shards, DTYPES[dtype], batch_size, num_workers, show)
        extraction.run(state.process_index, state.num_processes)
        model.train(was_training)
        if state.is_main_process:
            shards.write_index()
    return Features(folder, views.names, keys, [shards.entries[key] for key in keys])


def _describe(backbone: dict[str, Any], views: Views, dtype: str) -> dict[str, Any]:
    return {
        "format": FORMAT_VERSION,
        "backbone": backbone,
        "views": views.describe(),
        "decoder": describe_decoder(),
        "dtype": dtype,
    }


def _claim_folder(folder: Path, description: dict[str, Any]) -> None:
    """Record how the folder is filled, or refuse it if it was filled in another way."""
    path = folder / DESCRIPTION_FILE
    text = json.dumps(description, indent=2, sort_keys=True) + "\n"
    if not path.is_file():
        write_text(path, text)
    elif read_text(path) != text:
        remedy = "Choose another folder, or delete this one."
        before, after = read_json(path, what="description of features", remedy=remedy), json.loads(text)
        changed = [name for name in after if not isinstance(before, dict) or before.get(name) != after[name]]
        raise ValueError(
            f"{folder} holds features that were computed with another {' and another '.join(changed)} (see {path}). "
            "Choose another folder, or delete this one."
        )


class _Groups(Dataset):
    """Videos for a loader, by groups: their clips, or in their place the reason why they cannot be decoded."""

    def __init__(self, views: Views, positions: Sequence[int]):
        self.views = views
        self.groups = [list(group) for _, group in itertools.groupby(positions, key=views.groups.__getitem__)]

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> tuple[list[int], list[VideoClips] | str]:
        try:
            return self.groups[index], self.views.load(self.groups[index])
        except VideoDecodingError as error:
            return self.groups[index], str(error)


@dataclass
class _Extraction:
    """One process's part in computing what is missing in a folder."""

    model: PreTrainedModel
    views: Views
    keys: list[str]
    shards: Shards
    dtype: torch.dtype
    batch_size: int
    num_workers: int
    progress: bool

    def run(self, rank: int, num_processes: int) -> None:
        """Compute all pieces, this process's share first, until none is missing."""
        pieces = self._pieces()
        first = len(pieces) * rank // num_processes
        waiting = deque(pieces[first:] + pieces[:first])
        self._estimate([position for piece in waiting for position in piece], num_processes)
        total, num_done = sum(map(self._num_clips, pieces)), 0
        with tqdm(total=total, desc="Extracting features", unit="clip", disable=not self.progress) as self.bar:
            while waiting:
                num_waiting = len(waiting)
                for _ in range(num_waiting):
                    piece = waiting.popleft()
                    if self._finish(piece):
                        num_done += self._num_clips(piece)
                        self.bar.update(num_done - self.bar.n)
                    else:
                        waiting.append(piece)
                if len(waiting) == num_waiting:  # other processes hold all that is left
                    time.sleep(0.2)

    def _pieces(self) -> list[list[int]]:
        """Return the missing videos, cut by content and not by what is missing, so that all processes cut alike."""
        least: dict[int, str] = {}  # of each group's keys, so that a group stays together
        for group, key in zip(self.views.groups, self.keys, strict=True):
            least[group] = min(key, least.get(group, key))
        order = sorted(range(len(self.keys)), key=lambda position: (least[self.views.groups[position]], position))
        size = min(max(len(order) // 32, SHARD_SIZES[0]), SHARD_SIZES[1])
        pieces = [self._missing(order[start : start + size]) for start in range(0, len(order), size)]
        return [piece for piece in pieces if piece]

    def _num_clips(self, piece: list[int]) -> int:
        return sum(self.views.num_distinct_clips[position] for position in piece)

    def _missing(self, positions: Iterable[int]) -> list[int]:
        return [position for position in positions if self.keys[position] not in self.shards.entries]

    def _finish(self, piece: list[int]) -> bool:
        """Compute what is missing of a piece; return False if another process is working on it."""
        work = min(self.keys[position] for position in piece)[:12]
        try:
            with self.shards.claim(work) as mine:
                self.shards.scan()
                missing = self._missing(piece)
                if mine and missing:
                    self.shards.write(work, *self._compute(missing))
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            num_done = len(self.keys) - len(self._missing(range(len(self.keys))))
            raise OSError(
                error.errno,
                f"There is no room left at {self.shards.folder}. The features of {num_done} of {len(self.keys)} "
                "videos are complete and stay. Make room and start again: only the others will be computed",
            ) from error
        return not self._missing(piece)

    def _compute(self, positions: list[int]) -> tuple[dict[str, torch.Tensor], dict[str, dict[str, Any]]]:
        tensors, videos = {}, {}
        order: deque[str] = deque()

        def readable() -> Iterator[torch.Tensor]:
            loader = DataLoader(_Groups(self.views, positions), batch_size=None, num_workers=self.num_workers)
            for group, loaded in loader:
                for number, position in enumerate(group):
                    name = self.views.names[position]
                    video = videos[name] = {"key": self.keys[position], "weights": [], "reason": None}
                    if isinstance(loaded, str):
                        video["reason"] = loaded
                        continue
                    video["weights"] = loaded[number].weights.tolist()
                    order.append(name)
                    yield loaded[number].pixel_values

        for features in run_packed(self.model.get_video_features, readable(), self.batch_size):
            name = order.popleft()
            tensors[name] = features.to("cpu", self.dtype).contiguous()
            if not tensors[name].isfinite().all():
                raise ValueError(f"The features of {name} do not fit {self.dtype}. Use bfloat16 or float32.")
        return tensors, videos

    def _estimate(self, positions: list[int], num_processes: int) -> None:
        """Try one video, report what the rest will take, and refuse what the disk cannot hold."""
        groups = _Groups(self.views, positions)
        readable = next((index for index in range(len(groups)) if not isinstance(groups[index][1], str)), None)
        if readable is None:
            return
        start = time.perf_counter()
        videos = groups[readable][1]
        loading = (time.perf_counter() - start) / sum(len(video.weights) for video in videos)
        for _ in range(2):  # the first time pays for the start, as the search above did for loading
            start = time.perf_counter()
            [features] = run_packed(self.model.get_video_features, [videos[0].pixel_values[:1]], 1)
            computing = time.perf_counter() - start
        num_clips = sum(self.views.num_distinct_clips[position] for position in positions)
        num_bytes = num_clips * features.numel() * self.dtype.itemsize
        free = shutil.disk_usage(self.shards.folder).free
        if num_bytes > free:
            raise ValueError(
                f"The features take {_gigabytes(num_bytes)}, {self.shards.folder} has room for {_gigabytes(free)}. "
                "Make room, choose another folder, or compute fewer views."
            )
        seconds = max(loading / self.num_workers, computing) if self.num_workers else loading + computing
        if self.progress:
            tqdm.write(
                f"Features of {len(positions)} videos, {num_clips} clips of {features.shape[1]} x {features.shape[2]} "
                f"{str(self.dtype).removeprefix('torch.')}: {_gigabytes(num_bytes)} at {self.shards.folder}, about "
                f"{timedelta(seconds=round(num_clips * seconds / num_processes))} h on {num_processes} process(es)."
            )


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.3f} GB"
