"""A finished checkpoint that is quick to publish, and a Hub to publish it to."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import HfApi, constants
from torch import nn

from finegym.data.labels import ActionClass, Labels
from modeling_finegym import (
    FineGymVideoProcessor,
    FineGymVideoTextConfig,
    FineGymVideoTextForVideoClassification,
    SlowOnlyConfig,
    SlowOnlyForVideoClassification,
)
from tests.hub.foreign import small_slow_r50
from tests.hub.loopback_hub import LoopbackHub


# Words that would do harm on a page, in a header or in a table if they were taken for anything but words.
HOSTILE_NAMES = [
    "(VT) round-off | <script>alert(1)</script>",
    "---\nlicense: mit\n---",
    "![x](https://example.org/x.png) `code` **bold**",
    "{{ repo_id }} {% for x in y %} www.example.org",
]
ATTRIBUTES = ["", "VT", "tucked", "round-off | 0.5 turn", "</details><b>bold</b>"]


def make_checkpoint(
    folder: Path, *, architecture: str = "video_text", dataset: str = "synthgym", seed: int = 0, flow_len: int = 0
) -> Path:
    """Write what train.py and `finegym evaluate` write, with a model of a few thousand weights and invented
    metrics."""
    torch.manual_seed(seed)
    names = HOSTILE_NAMES
    texts = {"id2label": dict(enumerate(names)), "label2id": {name: label for label, name in enumerate(names)}}
    backbone = {"stem_width": 8, "hidden_sizes": (16, 32, 32, 32), "depths": (1, 1, 1, 1), "num_frames": 4}
    if architecture == "slowonly":
        model = SlowOnlyForVideoClassification(
            SlowOnlyConfig(**backbone, num_channels=2 * flow_len or 3, image_size=32, **texts)
        )
    else:
        sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
        vision = SlowOnlyConfig(**backbone, image_size=32)
        config = FineGymVideoTextConfig(vision_config=vision, attribute_names=ATTRIBUTES, **sizes, **texts)
        model = FineGymVideoTextForVideoClassification(config)
    model.save_pretrained(folder)
    crop = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
    flow = {"flow_len": flow_len, "image_mean": [0.5, 0.5], "image_std": [0.5, 0.5]} if flow_len else {}
    FineGymVideoProcessor(num_frames=4, frame_interval=8, **crop, **flow).save_pretrained(folder)
    classes = [ActionClass(id=label, name=name, text=name, event="VT") for label, name in enumerate(names)]
    Labels(name=dataset, classes=classes, attributes=ATTRIBUTES, license="test").write(folder / "labels.json")
    metrics = {
        "dataset": dataset,
        "split": "val",
        "annotation_version": "v1.0",
        "num_evaluated": 30,
        "num_expected": 32,
        "num_clips": 8,
        "top1": 73.333,
        "top5": 100.0,
        "mean_class_accuracy": 71.25,
        "per_event": {"VT": {"top1": 73.333, "mean_class_accuracy": 71.25, "num_videos": 30}},
        "per_class": dict(zip(names, [90.0, 50.0, 71.25, None])),
        "seconds": 1.5,
        "num_parameters": model.num_parameters(),
        "synthetic": dataset == "synthgym",
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    recipe = {
        "name": f"{dataset}-{architecture.replace('_', '-')}",
        "output_dir": str(folder),
        "seed": seed,
        "model": {"architecture": architecture, "backbone": None},
        "data": {"root": "data", "train_split": "train", "clip_len": 4, "frame_interval": 8, "crop_size": 32},
        "optimization": {
            "optimizer": "adamw",
            "learning_rate": 3e-4,
            "weight_decay": 0.05,
            "schedule": "cosine",
            "epochs": 30,
            "batch_size": 32,
            "precision": "fp32",
        },
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "state").mkdir()
    (folder / "state" / "optimizer.safetensors").write_bytes(b"not to be published")
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "video_text")


@pytest.fixture
def checkpoint(finished, tmp_path) -> Path:
    """A copy of the finished checkpoint that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "checkpoint"))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A running loopback Hub; this process's client library uses the protocol it speaks (no Xet)."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    with LoopbackHub() as server:
        yield server


@pytest.fixture
def api(hub) -> HfApi:
    return HfApi(endpoint=hub.url, token=hub.token)


@pytest.fixture(scope="module")
def slow_r50() -> nn.Module:
    return small_slow_r50()
