"""Training clips and their order: pure functions of the seed and the position."""

import functools
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from finegym.data.dataset import IGNORED_LABEL, ClipDataset, StepSampler, collate
from finegym.data.index import Video
from finegym.data.transforms import augment, clip_generator
from finegym.data.video_writing import write_video
from modeling_finegym.video_decoding import VideoDecodingError


SIZE = 32


def gray_video(path, num_frames):
    """A video whose frame t has gray level 4t."""
    levels = 4 * np.arange(num_frames, dtype=np.uint8)
    write_video(path, np.broadcast_to(levels[:, None, None, None], (num_frames, SIZE, SIZE, 3)), fps=25, crf=0)
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    lengths = {"short": 5, "exact": 8, "long": 40, "longer": 50}
    return [
        Video(name, gray_video(folder / f"{name}.mp4", length), label, length)
        for label, (name, length) in enumerate(lengths.items())
    ]


def make_dataset(videos, **changes):
    transform = functools.partial(augment, short_side=SIZE, crop_size=24, scale=(0.3, 1.0))
    settings = {"seed": 0, "clip_len": 4, "frame_interval": 2, "transform": transform}
    return ClipDataset(videos, **{**settings, **changes})


def same(first, second):
    return torch.equal(first["pixel_values"], second["pixel_values"]) and first["labels"] == second["labels"]


def frame_numbers(item):
    """Return which frames of `gray_video` the clip holds, as read from its pictures."""
    levels = item["pixel_values"][:, 0, 0, 0] * 0.229 + 0.485
    return (levels * 255 / 4).round().int().tolist()


def test_an_item_depends_on_seed_epoch_and_video_alone(videos):
    dataset = make_dataset(videos)
    items = {(epoch, index): dataset[epoch, index] for epoch in range(3) for index in range(4)}
    backwards = make_dataset(videos[::-1])
    for (epoch, index), item in reversed(items.items()):
        assert same(backwards[epoch, 3 - index], item)
    assert not same(items[0, 2], items[1, 2])
    assert not same(make_dataset(videos, seed=1)[0, 2], items[0, 2])


@pytest.mark.parametrize("num_workers", [1, 3])
def test_workers_change_nothing(videos, num_workers):
    dataset = make_dataset(videos)
    sampler = StepSampler(4, batch_size=2, num_steps=6, seed=3)
    alone = list(DataLoader(dataset, batch_sampler=sampler, collate_fn=collate))
    together = list(DataLoader(dataset, batch_sampler=sampler, collate_fn=collate, num_workers=num_workers))
    for first, second in zip(alone, together, strict=True):
        assert torch.equal(first["pixel_values"], second["pixel_values"])
        assert torch.equal(first["labels"], second["labels"])


def test_clips_are_windows_of_the_video_and_short_videos_loop(videos):
    dataset = make_dataset(videos)
    starts = set()
    for epoch in range(60):
        numbers = frame_numbers(dataset[epoch, 2])
        assert numbers == list(range(numbers[0], numbers[0] + 8, 2))
        starts.add(numbers[0])
    assert min(starts) <= 3 and 30 <= max(starts) <= 32
    assert frame_numbers(dataset[0, 0]) == [0, 2, 4, 1]
    assert frame_numbers(make_dataset(videos, out_of_range="repeat_last")[0, 0]) == [0, 2, 4, 4]


def test_a_part_of_a_file_is_a_video(videos):
    part = Video("part", videos[2].path, 0, 10, start=20 / 25, end=30 / 25)
    dataset = make_dataset([part])
    for number in range(30):
        assert min(frame_numbers(dataset[number, 0])) >= 20 and max(frame_numbers(dataset[number, 0])) < 30


def test_cached_frames_change_nothing(videos):
    decoding, cached = make_dataset(videos), make_dataset(videos)
    cached.cache_frames(SIZE, progress=False)
    for key in itertools.product(range(3), range(4)):
        assert same(decoding[key], cached[key])


def test_frames_that_do_not_fit_into_memory_are_refused_before_they_are_read(videos, tmp_path):
    (tmp_path / "torn.mp4").write_bytes(b"not a video")
    long = [replace(video, num_frames=10**9) for video in videos]
    dataset = make_dataset([Video("torn", tmp_path / "torn.mp4", 1, 10), *long])
    with pytest.raises(
        ValueError, match=r"4,000,000,010 frames of \d+ x \d+ pixels, [\d.]+ GB on 1 process.*short_side"
    ):
        dataset.cache_frames(SIZE, progress=False)
    assert dataset._cache is None


def test_unreadable_videos_are_an_error_or_left_out(videos, tmp_path):
    (tmp_path / "torn.mp4").write_bytes(videos[2].path.read_bytes()[:200])
    broken = [Video("torn", tmp_path / "torn.mp4", 1, 40), Video("gone", tmp_path / "gone.mp4", 2, 40)]
    strict = make_dataset(broken)
    with pytest.raises(VideoDecodingError, match="torn.mp4"):
        strict[0, 0]
    with pytest.raises(FileNotFoundError, match="gone.mp4"):
        strict[0, 1]
    for cache in (False, True):
        lenient = make_dataset([*broken, videos[1]], skip_unreadable=True)
        if cache:
            lenient.cache_frames(SIZE, progress=False)
        batch = collate([lenient[0, index] for index in range(3)])
        assert batch["labels"].tolist() == [IGNORED_LABEL, IGNORED_LABEL, 1]
        assert set(batch["errors"]) == {"torn", "gone"} and "torn.mp4" in batch["errors"]["torn"]
        assert batch["pixel_values"].shape == (3, 4, 3, 24, 24)


def test_loaders_that_know_only_indices_get_the_epoch_that_was_set(videos):
    dataset = make_dataset(videos)
    dataset.set_epoch(2)
    assert len(dataset) == 4 and same(dataset[3], dataset[2, 3])


def test_batches_keep_channels_last_in_memory(videos):
    batch = collate([make_dataset(videos)[0, index] for index in range(2)])
    assert "errors" not in batch
    assert batch["pixel_values"].transpose(1, 2).is_contiguous(memory_format=torch.channels_last_3d)
    features = collate([{"video_features": torch.zeros(4, 7), "labels": 1}] * 3)
    assert features["video_features"].shape == (3, 4, 7)


@pytest.mark.parametrize("world_size", [1, 2, 3, 6])
def test_processes_share_the_same_batches(world_size):
    def sampler(**place):
        return StepSampler(50, batch_size=6, num_steps=20, seed=1, **place)

    whole = list(sampler())
    shares = [list(sampler(rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert [sum((share[step] for share in shares), []) for step in range(20)] == whole
    # resuming at any step, on any number of processes, gives the rest of the same stream
    assert list(sampler(first_step=13)) == whole[13:]
    assert len(sampler(first_step=13)) == 7


def test_an_epoch_sees_no_clip_twice():
    sampler = StepSampler(50, batch_size=6, num_steps=24, seed=1)
    steps = list(sampler)
    for epoch in range(3):
        seen = sum(steps[epoch * 8 : (epoch + 1) * 8], [])
        assert {number for number, _ in seen} == {epoch}
        assert len({index for _, index in seen}) == 48
    assert steps[:8] != steps[8:16]
    assert list(StepSampler(50, batch_size=6, num_steps=24, seed=2)) != steps


def test_batches_that_cannot_be_made_are_refused():
    with pytest.raises(ValueError, match="batch of 8 clips cannot be filled from 7"):
        StepSampler(7, batch_size=8, num_steps=1, seed=0)
    with pytest.raises(ValueError, match="8 clips does not divide among 3 processes"):
        StepSampler(20, batch_size=8, num_steps=1, seed=0, world_size=3)


def test_the_order_is_a_shuffle_of_all_videos():
    order = torch.randperm(9, generator=clip_generator(4, 2, "order")).tolist()
    batch = StepSampler(9, batch_size=9, num_steps=5, seed=4).global_batch(2)
    assert batch == [(2, index) for index in order] and sorted(order) == list(range(9))
