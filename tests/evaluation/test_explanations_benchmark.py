"""`benchmarks.explanations`: its measures by hand, and all of it on three small models."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import explanations
from finegym.data.index import AttributeSpan, Video, read_index
from finegym.data.labels import Labels
from finegym.synthgym.generate import LABELS, generate
from modeling_finegym import FineGymVideoProcessor
from tests.small import small_model


def test_what_happens_when_is_read_off_the_spans():
    spans = (AttributeSpan(3, 0.1, 0.2), AttributeSpan(4, 0.3, 0.4))
    video = Video("a", Path("a.mp4"), 0, 10, fps=20.0, spans=spans)
    times = [0.0, 0.05, 0.10, 0.15, 0.20, 0.25, 0.30, 0.35]  # each frame shows the middle of its 50 ms
    assert explanations.happening(video, [3], times, 8).nonzero()[0].tolist() == [2, 3]
    assert explanations.happening(video, [3, 4], times, 8).nonzero()[0].tolist() == [2, 3, 6, 7]
    assert explanations.happening(video, [3], times, 4).nonzero()[0].tolist() == [1], "two frames a moment"


def test_pointing_precision_and_priors_by_hand():
    truth = np.array([False, True, True, False])
    assert explanations.compare(np.array([0.1, 0.5, 0.9, 0.2]), truth) == {"pointing": 1, "average_precision": 1}
    worst = explanations.compare(np.array([0.9, 0.1, 0.2, 0.8]), truth)
    assert worst == {"pointing": 0, "average_precision": pytest.approx((1 / 3 + 2 / 4) / 2)}
    priors = explanations.priors(truth, np.random.default_rng(0))
    assert priors["chance"]["pointing"] == 0.5 and 0.5 < priors["chance"]["average_precision"] < 0.85
    assert priors["center prior"] == {"pointing": 1, "average_precision": 1}


def test_deletion_and_insertion_replace_one_moment_after_the_other():
    model = small_model("vision")
    features = torch.randn(1, 8, 64, generator=torch.Generator().manual_seed(0))
    order = np.array([5, 0, 3, 1, 2, 4, 7, 6])
    found = explanations.curves(model, features, 1, order)
    mean, deleted, inserted = features.mean(1), features.clone(), features.mean(1, keepdim=True).repeat(1, 8, 1)
    expected = {"deletion": [deleted.clone()], "insertion": [inserted.clone()]}
    for moment in order:
        deleted[:, moment], inserted[:, moment] = mean, features[:, moment]
        expected["deletion"].append(deleted.clone())
        expected["insertion"].append(inserted.clone())
    for curve, steps in expected.items():
        with torch.no_grad():
            shares = model(video_features=torch.cat(steps)).logits.softmax(-1)[:, 1]
        assert found[curve] == pytest.approx(shares.mean().item(), abs=1e-6)


@pytest.mark.slow
def test_every_method_of_every_model_is_measured(tmp_path, capsys):
    content = json.loads(LABELS["class"].read_text())
    content["classes"] = [{**content["classes"][13], "id": 0}]  # one class is always right
    (tmp_path / "classes.json").write_text(json.dumps(content))
    sizes = {"num_train_per_class": 1, "num_val_per_class": 2, "size": 32, "num_workers": 0, "progress": False}
    generate(tmp_path / "data", labels=tmp_path / "classes.json", **sizes)
    labels = Labels.read(tmp_path / "data" / "labels.json")
    named = {"id2label": labels.id2label, "label2id": labels.label2id}
    for run in ("seed0", "seed1"):
        for family in ("slowonly", "vision", "video_text"):
            folder = tmp_path / run / family
            model = small_model(family)
            config = type(model.config).from_dict({**model.config.to_dict(), **named})
            if family == "video_text":
                config.attribute_names = labels.attributes
            torch.manual_seed(0)
            type(model)(config).save_pretrained(folder)
            size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
            FineGymVideoProcessor(**size, num_frames=8, frame_interval=3).save_pretrained(folder)
            (folder / "metrics.json").write_text("{}")
    explanations.main(
        [
            *("--data", str(tmp_path / "data"), "--results", str(tmp_path)),
            *("--runs", str(tmp_path / "seed0"), str(tmp_path / "seed1")),
        ]
    )
    figures = json.loads((tmp_path / "explanations.json").read_text())["figures"]
    for key in (
        "slowonly.Grad-CAM.movement.pointing",
        "vision.attention rollout.deletion",
        "video_text.occlusion.attribute.average_precision",
        "video_text.center prior.attribute.pointing",
        "video_text.chance.insertion.std",
    ):
        assert 0 <= figures[key] <= 1, key
    assert figures["slowonly.Grad-CAM.deletion.std"] == 0, "both runs are the same model"
    assert "video_text\nmethod" in capsys.readouterr().out
    assert all(video.spans for video in read_index(tmp_path / "data", "val"))
