"""What a linear model achieves on the same cached features: the control that an encoder must beat to be worth using.

Logistic regressions: on the mean over time; on that mean with the means of three parts of the clip, which knows
beginning, middle and end; and, where the features keep a grid, on these with the means of four quarters of the frame.
"""

import json
import math
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from finegym.data.files import write_text
from finegym.data.index import Video
from finegym.data.labels import Labels
from finegym.data.text import read_json
from finegym.features.cache import Features
from finegym.features.fingerprints import fingerprint
from modeling_finegym.modeling_video_tokens import pool_parts, pool_places

from .metrics import mean_class_accuracy, top_k_accuracy


# Control -> the number of parts of the clip, and the side of the grid, whose means join the mean of all of it.
POOLINGS = {"linear_control": (0, 1), "pyramid_control": (3, 1), "grid_control": (3, 2)}
# Added to the mean cross entropy as decay * |weights|^2; the best in cross-validation is taken. From strong to weak,
# so that each fit starts from the one before.
WEIGHT_DECAYS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
NUM_FOLDS = 3
MAX_ITERATIONS = 100
# The largest number of training features, so that more videos use fewer views: Gym99 in 0.5 GB, its grid in 1 GB.
MAX_ROWS = 2**14
# Raise this whenever the same features yield other controls.
VERSION = 2


@dataclass(frozen=True)
class Control:
    """One fitted control.

    Attributes:
        scores: The weighted mean (N, C) of the clips' probabilities of each readable validation video.
        labels: The true class ids (N,).
        video_ids: The ids of the N videos.
        metrics: The accuracies in percent, `weight_decay`, `num_parameters` and `num_train_views`.
    """

    scores: torch.Tensor
    labels: torch.Tensor
    video_ids: list[str]
    metrics: dict[str, Any] = field(repr=False)


def controls_on(num_places: int) -> list[str]:
    """Return the controls on features with so many places for each moment, the rows and columns of a square."""
    side = math.isqrt(num_places)
    return [name for name, (_, cells) in POOLINGS.items() if cells == 1 or (side >= cells and side**2 == num_places)]


def controls_of(
    train: Features,
    train_videos: Sequence[Video],
    val: Features,
    val_videos: Sequence[Video],
    labels: Labels,
    *,
    num_views: int = 1,
    num_places: int = 1,
) -> dict[str, Any]:
    """Return the metrics of all controls, computed once per cache and kept beside its training features.

    Args:
        train: The features by `TrainingViews`; view v of video i is at `i * num_views + v`.
        train_videos: The videos of these features, with labels and groups.
        val: The features by `EvaluationViews`.
        val_videos: The videos of these features.
        labels: The classes.
        num_views: The number of views of each training video.
        num_places: The number of tokens of each moment.

    Returns:
        `{"key": fingerprint, "linear_control": metrics, "pyramid_control": metrics}`, and "grid_control" where there
        are several places; only the key where the training videos are of a single class.
    """
    known = [[video.label, video.group] for video in (*train_videos, *val_videos)]
    key = fingerprint([VERSION, train.keys, val.keys, known, labels.names])[:16]
    path = train.folder / f"controls-{key}.json"
    if path.is_file():
        return read_json(path, what="file of controls", remedy="Delete it; it is computed again.")
    controls: dict[str, Any] = {"key": key}
    if len({video.label for video in train_videos}) > 1:
        for name in controls_on(num_places):
            numbers = {"num_views": num_views, "num_places": num_places}
            controls[name] = fit_control(name, train, train_videos, val, val_videos, labels, **numbers).metrics
    write_text(path, json.dumps(controls, indent=2) + "\n")
    return controls


def fit_control(
    name: str,
    train: Features,
    train_videos: Sequence[Video],
    val: Features,
    val_videos: Sequence[Video],
    labels: Labels,
    *,
    num_views: int = 1,
    num_places: int = 1,
) -> Control:
    """Fit one of `POOLINGS` and score the validation videos; the other arguments are `controls_of`'s."""
    used_views = max(1, min(num_views, MAX_ROWS // len(train_videos)))
    places = [
        (index, index * num_views + view)
        for index in range(len(train_videos))
        for view in range(used_views)
        if train.names[index * num_views + view] not in train.failed
    ]
    inputs = torch.cat([_pool(train[place], name, num_places) for _, place in places]).numpy()
    truth = np.array([train_videos[index].label for index, _ in places])
    groups = np.array([train_videos[index].group or f"\0{train_videos[index].id}" for index, _ in places])
    scaler = StandardScaler().fit(inputs)
    inputs = scaler.transform(inputs)
    with warnings.catch_warnings():
        # The accuracy has settled long before the last digits of the weights.
        warnings.simplefilter("ignore", ConvergenceWarning)
        weight_decay = _choose_weight_decay(inputs, truth, groups)
        model = _fit(_new_model(), inputs, truth, weight_decay)
    readable = [place for place in range(len(val_videos)) if val.names[place] not in val.failed]
    scores = []
    for place in readable:
        clips = scaler.transform(_pool(val[place], name, num_places).numpy())
        probabilities = torch.zeros(len(clips), len(labels.classes))
        probabilities[:, model.classes_] = torch.from_numpy(model.predict_proba(clips)).to(probabilities.dtype)
        scores.append(val.video_clips(place).weights @ probabilities)
    stacked, val_truth = torch.stack(scores), torch.tensor([val_videos[place].label for place in readable])
    metrics = {
        "top1": top_k_accuracy(stacked, val_truth),
        "mean_class_accuracy": mean_class_accuracy(stacked, val_truth),
        "weight_decay": weight_decay,
        "num_parameters": (inputs.shape[1] + 1) * len(labels.classes),
        "num_train_views": used_views,
    }
    return Control(stacked, val_truth, [val_videos[place].id for place in readable], metrics)


def _pool(features: torch.Tensor, name: str, num_places: int) -> torch.Tensor:
    """(N, T' P, C) -> what a control reads, (N, channels)"""
    (num_parts, side), places = POOLINGS[name], features.float().unflatten(1, (-1, num_places))
    pooled = pool_parts(places.mean(2), num_parts)
    if side == 1:
        return pooled
    over_time = places.mean(1, keepdim=True).unflatten(2, (math.isqrt(num_places), -1))
    return torch.cat([pooled, pool_places(over_time, side).flatten(1)], dim=-1)


def _choose_weight_decay(inputs: np.ndarray, truth: np.ndarray, groups: np.ndarray) -> float:
    """Return the weight decay with the most right answers on groups of videos that were left out of the fit."""
    names, group = np.unique(groups, return_inverse=True)
    # Videos are in the order of their classes' ids, so the folds must be drawn at random.
    fold = np.random.default_rng(0).permutation(len(names))[group] % NUM_FOLDS

    def count_right(left_out: np.ndarray) -> list[int]:
        num_right = [0] * len(WEIGHT_DECAYS)
        if left_out.all() or not left_out.any() or len(np.unique(truth[~left_out])) < 2:
            return num_right
        model = _new_model()
        for place, weight_decay in enumerate(WEIGHT_DECAYS):
            _fit(model, inputs[~left_out], truth[~left_out], weight_decay)
            num_right[place] = int((model.predict(inputs[left_out]) == truth[left_out]).sum())
        return num_right

    with ThreadPoolExecutor(NUM_FOLDS) as pool:  # where processes were launched, each has one thread of its own
        num_right = np.sum(list(pool.map(count_right, [fold == number for number in range(NUM_FOLDS)])), axis=0)
    return WEIGHT_DECAYS[num_right.argmax()]


def _new_model() -> LogisticRegression:
    return LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True)


def _fit(model: LogisticRegression, inputs: np.ndarray, truth: np.ndarray, weight_decay: float) -> LogisticRegression:
    """Fit with a weight decay; scikit-learn weighs the sum of the losses by C against half the squared weights."""
    return model.set_params(C=1 / (2 * len(truth) * weight_decay)).fit(inputs, truth)
