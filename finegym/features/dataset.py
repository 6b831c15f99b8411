"""Cached features as a training data set."""

import functools
from typing import Any

import torch
from torch.utils.data import Dataset

from finegym.data.dataset import IGNORED_LABEL

from .cache import Features
from .views import TrainingViews


class FeatureDataset(Dataset):
    """View e mod K of a video in epoch e: what `ClipDataset` returns in its first K epochs, through the backbone.

    `dataset[(epoch, index)]` is `{"video_features": float32 (T', D), "labels": int}`.

    Args:
        features: The features of `views`.
        views: The K views of every video.
    """

    def __init__(self, features: Features, views: TrainingViews):
        self.features = features
        self.views = views

    def __len__(self) -> int:
        return len(self.views.dataset)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, index = key
        video, position = self.views.dataset.videos[index], self.views.position(index, epoch)
        reason = self.features.failed.get(self.features.names[position])
        if reason is None:
            return {"video_features": self.features[position][0].float(), "labels": video.label}
        return {"video_features": torch.zeros(self.shape), "labels": IGNORED_LABEL, "error": (video.id, reason)}

    @functools.cached_property
    def shape(self) -> tuple[int, int]:
        """(T', D)"""
        readable = next(place for place, name in enumerate(self.features.names) if name not in self.features.failed)
        return tuple(self.features[readable].shape[1:])
