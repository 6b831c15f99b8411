"""TSM from its recipe to its scores, and an encoder on top of it, with the commands that people type."""

import json

import pytest
import torch
from transformers import pipeline

from finegym.data.index import read_index
from modeling_finegym import FineGymVideoProcessor, FineGymVisionConfig, FineGymVisionModel, VideoResNetConfig
from tests.training.launching import run


SMALL_TSM = {
    "stem_width": 8,
    "hidden_sizes": [16, 32],
    "depths": [1, 1],
    "temporal_kernel_sizes": [1, 1],
    "temporal_shift_divisor": 8,
    "classifier_dropout": 0.2,
}


def test_tsm_is_trained_evaluated_and_used_on_frames_of_segments(recipe, root, tmp_path):
    arguments = recipe(
        "slowonly",
        model={"architecture": "video_resnet", "config": SMALL_TSM},
        data__clip_len=3,
        data__sampling="segments",
        data__num_clips=1,
        optimization__batch_norm="partial",
        optimization__epochs=1,
    )
    run(arguments, log=tmp_path / "log")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["num_evaluated"] == metrics["num_expected"] == 8
    processor = FineGymVideoProcessor.from_pretrained(tmp_path / "run")
    assert (processor.sampling, processor.num_frames, processor.num_clips) == ("segments", 3, 1)
    classify = pipeline("video-classification", model=str(tmp_path / "run"), trust_remote_code=True, device="cpu")
    video = read_index(root, "val")[0]
    [clip] = classify(str(video.path), return_clip_scores=True)["clips"]
    assert clip["weight"] == 1.0 and len(clip["scores"]) == 4


@pytest.mark.parametrize("pool", [1, 2])
def test_an_encoder_stands_on_a_video_resnet(pool):
    """Its tokens are the time steps of the last stage, and it does not change while the encoder learns."""
    torch.manual_seed(0)
    backbone = VideoResNetConfig(num_frames=4, **SMALL_TSM, temporal_pool_size=pool)
    head = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "num_hidden_layers": 1}
    model = FineGymVisionModel(FineGymVisionConfig(vision_config=backbone.to_dict(), **head))
    assert model.config.num_video_tokens == 4 // pool
    pixel_values = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    features = model.get_video_features(pixel_values)
    assert features.shape == (2, 4 // pool, 32) and not features.requires_grad
    model.eval()
    torch.testing.assert_close(model(pixel_values).pooler_output, model(video_features=features).pooler_output)
    model.train()
    assert not any(module.training for block in model.backbone.blocks for module in block.modules())
