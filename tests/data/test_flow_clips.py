"""Clips of optical flow: which frames they stack, in which order of channels, and what a flip does to them."""

import functools

import numpy as np
import pytest
import torch

from finegym.data.dataset import ClipDataset
from finegym.data.index import Video
from finegym.data.transforms import augment, clip_generator
from finegym.preparation.flow import _write_video
from modeling_finegym import FineGymVideoProcessor
from modeling_finegym.optical_flow import stack_frames
from modeling_finegym.video_decoding import VideoDecodingError


NUM_FRAMES = 13
PLAIN = {"image_mean": [0, 0], "image_std": [1 / 255, 1 / 255], "size": {"shortest_edge": 32}}
PLAIN |= {"crop_size": {"height": 32, "width": 32}, "num_frames": 3, "num_clips": 1, "sampling": "segments"}


@pytest.fixture
def flow_file(tmp_path):
    """Frame t has x = 10 + t and y = 200 - t everywhere."""
    pictures = [
        np.concatenate([np.full((32, 32), 10 + t), np.full((32, 32), 200 - t)], axis=1).astype(np.uint8)
        for t in range(NUM_FRAMES)
    ]
    _write_video(tmp_path / "flow.mkv", pictures, [t / 25 for t in range(NUM_FRAMES)], 25.0, "{}")
    return tmp_path / "flow.mkv"


def channels(frames: list[int], flow_len: int = 5, last: int = NUM_FRAMES - 1) -> torch.Tensor:
    """Return the channels of stacks that begin at these frames, (T, 2 * flow_len): x1, y1, x2, y2 and so on."""
    shown = [[min(first + step, last) for step in range(flow_len)] for first in frames]
    return torch.tensor([[value for t in stack for value in (10 + t, 200 - t)] for stack in shown]).float()


def test_the_processor_stacks_the_flow_of_segments(flow_file):
    """Of 13 frames, stacks of five begin at nine places, three for each segment: its middle (TSN's dataset.py)."""
    processor = FineGymVideoProcessor(flow_len=5, **PLAIN)
    expected = channels([1, 4, 7])
    clips = processor.load_clips(flow_file).pixel_values
    assert clips.shape == (1, 3, 10, 32, 32)
    torch.testing.assert_close(clips[0].mean((2, 3)), expected)
    torch.testing.assert_close(processor(flow_file, return_tensors="pt").pixel_values[0].mean((2, 3)), expected)
    saved = FineGymVideoProcessor.from_dict(processor.to_dict())
    torch.testing.assert_close(saved.load_clips(flow_file).pixel_values, clips)


def test_past_the_end_the_last_frame_is_repeated():
    assert stack_frames([0, 2], 4, 3) == [0, 1, 2, 2, 3, 3]
    assert stack_frames([0, 2], 4, 0) == [0, 2]


@pytest.mark.parametrize("cached", [False, True])
def test_training_draws_stacks_within_the_video(flow_file, cached):
    sizes = {"short_side": 32, "crop_size": 32, "scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    transform = functools.partial(augment, mean=(0, 0), std=(1 / 255, 1 / 255), flip=0.0, **sizes)
    options = {"clip_len": 3, "frame_interval": 1, "sampling": "segments", "flow_len": 5, "short_side": 32}
    dataset = ClipDataset([Video("a", flow_file, 0, NUM_FRAMES)], seed=0, transform=transform, **options)
    if cached:
        dataset.cache_frames(32, progress=False)
    starts = set()
    for epoch in range(20):
        clip = dataset[epoch, 0]["pixel_values"].mean((2, 3))
        first = (clip[:, 0] - 10).int().tolist()
        torch.testing.assert_close(clip, channels(first))
        assert [0 <= start - 3 * segment < 3 for segment, start in enumerate(first)] == [True] * 3
        starts |= set(first)
    assert starts == set(range(9))


def test_a_flip_turns_horizontal_motion_around():
    frames = torch.randint(256, (4, 20, 20, 2), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    options = {"short_side": 20, "crop_size": 20, "scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    options |= {"mean": (0, 0), "std": (1 / 255, 1 / 255)}
    plain, flipped = (augment(frames, clip_generator(0), flip=flip, **options) for flip in (0.0, 1.0))
    torch.testing.assert_close(plain, frames.permute(0, 3, 1, 2).float())
    torch.testing.assert_close(flipped[:, 0], 255 - plain[:, 0].flip(2))
    torch.testing.assert_close(flipped[:, 1], plain[:, 1].flip(2))


def test_pictures_are_no_flow(video_path):
    processor = FineGymVideoProcessor(flow_len=5, **PLAIN)
    for read in (processor.load_clips, functools.partial(processor, return_tensors="pt")):
        with pytest.raises(
            VideoDecodingError, match="holds pictures. This model sees optical flow, which `finegym flow`"
        ):
            read(video_path)
    dataset = ClipDataset(
        [Video("a", video_path, 0, 70)], seed=0, clip_len=3, frame_interval=1, flow_len=5, transform=lambda f, g: f
    )
    with pytest.raises(VideoDecodingError, match="finegym flow"):
        dataset[0, 0]
    colors = torch.randint(256, (9, 40, 64, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with pytest.raises(ValueError, match="This model sees optical flow"):
        processor.load_clips(colors)
    gray = colors[..., :1].expand(-1, -1, -1, 3)
    assert processor.load_clips(gray).pixel_values.shape == (1, 3, 10, 32, 32)
