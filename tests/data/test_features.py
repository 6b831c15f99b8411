"""The cache of features: what it holds, when it may be used again, and what happens to it when things go wrong."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from finegym.data.dataset import ClipDataset
from finegym.data.features import EvaluationViews, TrainingViews, build_features, extract_features
from finegym.data.index import Clip
from finegym.data.transforms import augment
from finegym.data.video import write_video
from modeling_finegym import (
    FineGymVideoProcessor,
    SlowOnlyConfig,
    SlowOnlyForVideoClassification,
)


LENGTHS = (5, 9, 20, 31, 44)
TRANSFORM = {"short_side": 20, "crop_size": 16, "scale": (0.5, 1.0), "ratio": (0.75, 1.25), "flip": 0.5}


def make_model(seed: int = 0) -> SlowOnlyForVideoClassification:
    torch.manual_seed(seed)
    config = SlowOnlyConfig(
        num_frames=4,
        image_size=16,
        stem_width=4,
        hidden_sizes=(8, 8),
        depths=(1, 1),
        temporal_kernel_sizes=(1, 3),
        num_labels=3,
    )
    return SlowOnlyForVideoClassification(config).eval()


def make_processor(**changes) -> FineGymVideoProcessor:
    settings = {"size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 16}, "num_frames": 4}
    return FineGymVideoProcessor(**{**settings, "frame_interval": 2, **changes})


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Clip]:
    folder = tmp_path_factory.mktemp("videos")
    generator = np.random.default_rng(0)
    made = []
    for number, length in enumerate(LENGTHS):
        coarse = generator.integers(0, 256, size=(length, 6, 8, 3), dtype=np.uint8)
        path = folder / f"{number}.mp4"
        write_video(path, coarse.repeat(4, axis=1).repeat(4, axis=2), fps=25)
        made.append(Clip(f"clip {number}", path, number % 3, length))
    return made


@pytest.fixture
def own_clips(clips, tmp_path) -> list[Clip]:
    """The clips with files that a test may change."""
    folder = tmp_path / "videos"
    folder.mkdir()
    return [Clip(clip.id, Path(shutil.copy(clip.path, folder)), clip.label, clip.num_frames) for clip in clips]


class Counted:
    """A model's `get_video_features` that counts the clips it is given."""

    def __init__(self, model):
        self.num_clips = 0
        self.function = model.get_video_features
        model.get_video_features = self

    def __call__(self, pixel_values):
        self.num_clips += len(pixel_values)
        return self.function(pixel_values)


def training_views(clips, *, num_views, seed=0):
    dataset = ClipDataset(clips, seed=seed, clip_len=4, frame_interval=2, transform=partial(augment, **TRANSFORM))
    return TrainingViews(dataset, num_views=num_views, transform=TRANSFORM)


quiet = {"progress": False}


def test_features_are_those_of_the_model(clips, tmp_path):
    model, processor = make_model(), make_processor()
    features = extract_features(
        model, EvaluationViews(processor, clips), tmp_path / "f", dtype="float32", batch_size=3, **quiet
    )
    assert len(features) == len(clips)
    for position, clip in enumerate(clips):
        direct = processor.load_clips(clip.path)
        with torch.no_grad():
            expected = model.get_video_features(direct.pixel_values)
        torch.testing.assert_close(features[position], expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(features.video_clips(position).weights, direct.weights)


def test_a_second_time_computes_nothing(clips, tmp_path):
    views = EvaluationViews(make_processor(), clips)
    first = build_features(make_model(), views, tmp_path, **quiet)
    model = make_model()
    counted = Counted(model)
    second = build_features(model, views, tmp_path, **quiet)
    assert counted.num_clips == 0
    assert all(torch.equal(first[position], second[position]) for position in range(len(clips)))
