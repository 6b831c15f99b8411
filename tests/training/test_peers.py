"""The other systems of the paper's table 3, each from its recipe to its scores."""

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForVideoClassification, AutoVideoProcessor, pipeline

from finegym.data.index import read_index
from finegym.hub.card import render_card
from finegym.hub.checkpoint import Checkpoint
from finegym.training.loop import train
from finegym.training.recipe_parsing import parse_recipe
from tests.training.tiny import write_recipe


S3D = {"model": {"architecture": "s3d", "config": {"width_multiplier": 0.0625, "depths": [1, 1, 1]}}}
CLIPS = {"data__clip_len": 8, "data__frame_interval": 1}
TSN = {
    "model": {"architecture": "bn_inception", "config": {"width_multiplier": 0.0625, "depths": [1, 1, 1]}},
}
SEGMENTS = {"data__clip_len": 3, "data__sampling": "segments", "data__num_clips": 1}
# name -> the backbone, and what its recipe says
PEERS = {
    "s3d": (None, S3D | CLIPS),
    "bn_inception": (None, TSN | SEGMENTS),
    "trn": ("bn_inception", {"model": {"architecture": "trn", "config": {"hidden_size": 8}}} | SEGMENTS),
    "tqn": (
        "s3d",
        {
            "model": {"architecture": "tqn", "config": {"num_hidden_layers": 1, "intermediate_size": 16}},
            **CLIPS,
            "data__clip_len": 16,
            "data__out_of_range": "repeat_last",
        },
    ),
}


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    """Return a function that trains a peer, and its backbone before it, once."""
    folder = tmp_path_factory.mktemp("peers")

    def run(name: str) -> Path:
        backbone, changes = PEERS[name]
        if not (folder / name).exists():
            model = changes["model"] | ({} if backbone is None else {"backbone": str(run(backbone))})
            changes = changes | {"model": model, "optimization__epochs": 1, "optimization__learning_rate": 0.01}
            path = write_recipe(folder / f"{name}.yaml", "slowonly", root=root, output_dir=folder / name, **changes)
            train(parse_recipe(["--config", str(path)]))
        return folder / name

    return run


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_trained_evaluated_and_used(name, trained, root):
    folder = trained(name)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["num_evaluated"] == metrics["num_expected"] == 8
    classify = pipeline("video-classification", model=str(folder), trust_remote_code=True, device="cpu")
    video = str(read_index(root, "val")[0].path)
    result = classify(video, return_clip_scores=True)
    assert len(result["scores"]) == 4 and sum(clip["weight"] for clip in result["clips"]) == pytest.approx(1)
    card = str(render_card(Checkpoint.read(folder), "someone/peer"))
    assert Checkpoint.read(folder).model_name in card and ("groups were answered rightly" in card) == (name == "tqn")


def test_attribute_answers_are_measured_and_shown(trained, root):
    """In the tiny data set every class has one attribute, and every attribute is a group of its own."""
    folder = trained("tqn")
    metrics = json.loads((folder / "metrics.json").read_text())
    model = AutoModelForVideoClassification.from_pretrained(folder).eval()
    processor = AutoVideoProcessor.from_pretrained(folder)
    classify = pipeline("video-classification", model=str(folder), trust_remote_code=True, device="cpu")
    num_right, num_matched, videos = 0, 0, read_index(root, "val")
    for video in videos:
        clip = processor.load_clips(video.path).pixel_values[:1]
        with torch.no_grad():
            answers = model(clip).attribute_logits[0].softmax(-1)
        has = torch.eye(4, dtype=torch.long) * torch.arange(1, 5)  # class by group
        num_right += (answers.argmax(-1) == has[video.label]).sum().item()
        likelihood = [math.prod(answers[group, has[label, group]].item() for group in range(4)) for label in range(4)]
        num_matched += likelihood.index(max(likelihood)) == video.label
        shown = classify(str(video.path), attributes=True)["attributes"]
        names = ["", "right", "left", "down", "up"]
        assert [row["label"] for row in shown] == [names[id] for id in answers.argmax(-1).tolist() if id]
    assert metrics["attribute_accuracy"] == pytest.approx(100 * num_right / (4 * len(videos)))
    assert metrics["match_top1"] == pytest.approx(100 * num_matched / len(videos))
    s3d = pipeline("video-classification", model=str(trained("s3d")), trust_remote_code=True, device="cpu")
    with pytest.raises(ValueError, match="answers no attributes"):
        s3d(str(videos[0].path), attributes=True)
