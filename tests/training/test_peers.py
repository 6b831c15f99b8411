"""The other systems of the paper's table 3, each from its recipe to its scores."""

import pytest
from transformers import pipeline

from finegym.data.index import read_index
from finegym.training.loop import train
from finegym.training.recipe_parsing import parse_recipe
from tests.training.tiny import write_recipe


# architecture -> its configuration, what else its recipe says
PEERS = {
    "s3d": ({"width_multiplier": 0.0625, "depths": [1, 1, 1]}, {"data__clip_len": 8, "data__frame_interval": 1}),
}


@pytest.mark.parametrize("architecture", PEERS)
def test_a_peer_is_trained_evaluated_and_used(architecture, root, tmp_path):
    config, changes = PEERS[architecture]
    changes = {"model": {"architecture": architecture, "config": config}, "optimization__epochs": 1, **changes}
    path = write_recipe(tmp_path / "recipe.yaml", "slowonly", root=root, output_dir=tmp_path / "run", **changes)
    metrics = train(parse_recipe(["--config", str(path)]))
    assert metrics["num_evaluated"] == metrics["num_expected"] == 8
    classify = pipeline("video-classification", model=str(tmp_path / "run"), trust_remote_code=True, device="cpu")
    video = read_index(root, "val")[0]
    result = classify(str(video.path), return_clip_scores=True)
    assert len(result["scores"]) == 4 and sum(clip["weight"] for clip in result["clips"]) == pytest.approx(1)
