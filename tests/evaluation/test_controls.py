"""The linear controls, on features that are given rather than computed."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from finegym.data.index import Video
from finegym.data.labels import ActionClass, Labels
from finegym.evaluation import controls
from finegym.evaluation.controls import controls_of, controls_on, fit_control
from finegym.features.cache import Features
from finegym.features.shards import CachedVideo


NUM_TIMES, SIZE = 6, 8
LABELS = Labels("drawn", [ActionClass(number, name, name) for number, name in enumerate(("up", "down"))], [])


def features(folder, values, names):
    folder.mkdir(exist_ok=True)
    shard = folder / f"{names[0].replace('#', '-')}.safetensors"
    save_file({name: value.half() for name, value in zip(names, values, strict=True)}, shard)
    entries = [
        CachedVideo(shard, name, (1 / len(value),) * len(value)) for name, value in zip(names, values, strict=True)
    ]
    return Features(folder, names, [f"key of {name}" for name in names], entries)


def drawn(folder, num_videos, seed, *, ordered, num_views=1, num_clips=1):
    """Make features whose class is which third is bright, first or last (`ordered`), or how bright all of it is."""
    generator = torch.Generator().manual_seed(seed)
    videos, values, names = [], [], []
    for index in range(num_videos):
        label = index % 2
        videos.append(Video(f"{seed}-{index}", Path("x"), label, 9))
        for view in range(num_views):
            value = torch.randn(num_clips, NUM_TIMES, SIZE, generator=generator)
            part = value[:, :2] if label == 0 else value[:, 4:]
            (part if ordered else value)[..., 0] += 3.0 if ordered else 1.0 - 2.0 * label
            values.append(value)
            names.append(f"{seed}-{index}#{view}" if num_views > 1 else f"{seed}-{index}")
    return features(folder, values, names), videos


def test_only_parts_know_the_order(tmp_path):
    train, train_videos = drawn(tmp_path / "train", 200, 0, ordered=True, num_views=2)
    val, val_videos = drawn(tmp_path / "val", 200, 1, ordered=True, num_clips=2)
    arguments = (train, train_videos, val, val_videos, LABELS)
    linear = fit_control("linear_control", *arguments, num_views=2)
    pyramid = fit_control("pyramid_control", *arguments, num_views=2)
    assert linear.metrics["top1"] < 65 and pyramid.metrics["top1"] > 95
    assert linear.metrics["num_parameters"] == 2 * (SIZE + 1)
    assert pyramid.metrics["num_parameters"] == 2 * (4 * SIZE + 1)
    assert pyramid.scores.shape == (200, 2) and pyramid.video_ids == [video.id for video in val_videos]
    torch.testing.assert_close(pyramid.scores.sum(1), torch.ones(200))


def test_controls_average_over_places(tmp_path):
    """Two places, one above and one below the mean by the same amount, are as good as the mean."""
    fitted = []
    for name, spread in (("mean", 0.0), ("places", 1.0)):
        sets = []
        for split, seed in (("train", 0), ("val", 1)):
            given, videos = drawn(tmp_path / split, 100, seed, ordered=True)
            values = [given[place][:, :, None].float() for place in range(len(videos))]
            if spread:
                values = [torch.cat([value + spread, value - spread], 2) for value in values]
            folder = tmp_path / f"{split} {name}"
            sets += [features(folder, [value.flatten(1, 2) for value in values], given.names), videos]
        fitted.append(fit_control("pyramid_control", *sets, LABELS, num_places=2 if spread else 1))
    numbers = [control.metrics["num_parameters"] for control in fitted]
    assert numbers[0] == numbers[1] and fitted[0].metrics["top1"] > 90
    # the values are rounded to half floats on their way
    torch.testing.assert_close(fitted[0].scores, fitted[1].scores, rtol=0, atol=0.02)


def test_only_quarters_know_the_place(tmp_path):
    """The class is which corner of the frame is bright; the mean over the frame is the same for both."""
    sets = []
    for split, seed in (("train", 0), ("val", 1)):
        generator, videos, values = torch.Generator().manual_seed(seed), [], []
        for index in range(100):
            videos.append(Video(f"{split}-{index}", Path("x"), index % 2, 9))
            values.append(torch.randn(1, NUM_TIMES, 4, 4, SIZE, generator=generator))
            corner = values[-1][:, :, :2, :2] if index % 2 == 0 else values[-1][:, :, 2:, 2:]
            corner[..., 0] += 2.0
        tokens = [value.flatten(1, 3) for value in values]
        sets += [features(tmp_path / split, tokens, [video.id for video in videos]), videos]
    found = controls_of(*sets, LABELS, num_places=16)
    assert found["pyramid_control"]["top1"] < 65 and found["grid_control"]["top1"] > 95
    assert found["grid_control"]["num_parameters"] == 2 * ((1 + 3 + 4) * SIZE + 1)


def test_a_grid_has_a_control_of_its_own_where_it_has_quarters():
    assert controls_on(1) == controls_on(8) == ["linear_control", "pyramid_control"]
    assert controls_on(4) == controls_on(49) == ["linear_control", "pyramid_control", "grid_control"]


def test_the_objective_is_mean_cross_entropy_plus_the_decay():
    """At the optimum the gradient of that objective is zero; torch's autograd computes it."""
    generator = torch.Generator().manual_seed(0)
    inputs, truth = torch.randn(300, 5, generator=generator), torch.randint(3, (300,), generator=generator)
    model = LogisticRegression(max_iter=5000, tol=1e-9)
    controls._fit(model, inputs.double().numpy(), truth.numpy(), 1e-2)
    weight = torch.tensor(model.coef_, requires_grad=True)
    bias = torch.tensor(model.intercept_, requires_grad=True)
    (F.cross_entropy(inputs.double() @ weight.T + bias, truth) + 1e-2 * weight.square().sum()).backward()
    assert weight.grad.abs().max() < 1e-6 and bias.grad.abs().max() < 1e-6


def test_groups_stay_together_in_the_choice_of_the_decay(tmp_path, monkeypatch):
    """Each pair of videos has the same features and a random label: split between folds, pairs would reward
    memorization."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 40, generator=generator).repeat_interleave(2, 0).numpy()
    truth = torch.randint(2, (60,), generator=generator).repeat_interleave(2).numpy()
    scored = []
    fit = controls._fit
    monkeypatch.setattr(controls, "_fit", lambda *arguments: scored.append(arguments) or fit(*arguments))
    controls._choose_weight_decay(inputs, truth, torch.arange(60).repeat_interleave(2).numpy())
    for _, fitted, _, _ in scored:
        rows = [tuple(row) for row in fitted]
        assert all(rows.count(row) == 2 for row in set(rows))


def test_controls_are_computed_once_per_cache(tmp_path, monkeypatch):
    train, train_videos = drawn(tmp_path / "train", 40, 0, ordered=False)
    val, val_videos = drawn(tmp_path / "val", 20, 1, ordered=False)
    first = controls_of(train, train_videos, val, val_videos, LABELS)
    assert first["linear_control"]["top1"] > 90
    monkeypatch.setattr(controls, "fit_control", lambda *_, **__: pytest.fail("fitted again"))
    assert controls_of(train, train_videos, val, val_videos, LABELS) == first
    assert json.loads((tmp_path / "train" / f"controls-{first['key']}.json").read_text()) == first
    with pytest.raises(pytest.fail.Exception, match="fitted again"):
        controls_of(train, list(reversed(train_videos)), val, val_videos, LABELS)


def test_unreadable_videos_are_left_out_and_one_class_has_no_control(tmp_path):
    train, train_videos = drawn(tmp_path / "train", 40, 0, ordered=False)
    val, val_videos = drawn(tmp_path / "val", 20, 1, ordered=False)
    val.failed["1-3"] = train.failed["0-5"] = "damaged"
    control = fit_control("linear_control", train, train_videos, val, val_videos, LABELS)
    assert len(control.labels) == 19 and "1-3" not in control.video_ids
    same = [Video(video.id, video.path, 0, 9) for video in train_videos]
    assert controls_of(train, same, val, val_videos, LABELS).keys() == {"key"}
