"""The encoders on foreign backbones, end to end: cache, train, evaluate, save, load."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForVideoClassification,
    AutoVideoProcessor,
    BitImageProcessor,
    Dinov2Config,
    Dinov2Model,
    TimesformerConfig,
    TimesformerModel,
    VideoMAEConfig,
    VideoMAEImageProcessor,
    VideoMAEModel,
    VJEPA2Config,
    VJEPA2Model,
    VJEPA2VideoProcessor,
)

from finegym.data.index import read_index
from finegym.features.cache import EvaluationViews, build_features
from finegym.training.loop import train
from finegym.training.recipe_parsing import parse_recipe
from tests.training.launching import read_losses
from tests.training.tiny import write_recipe


TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
PREDICTOR = {"pred_hidden_size": 16, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
# name -> configuration, model, processor, video tokens of a clip of four frames
BACKBONES = {
    "videomae": (
        VideoMAEConfig(image_size=32, num_frames=4, tubelet_size=2, intermediate_size=32, **TINY),
        VideoMAEModel,
        VideoMAEImageProcessor(**SIZES),
        2,
    ),
    "vjepa2": (
        VJEPA2Config(crop_size=32, frames_per_clip=4, tubelet_size=2, mlp_ratio=2, **PREDICTOR, **TINY),
        VJEPA2Model,
        VJEPA2VideoProcessor(**SIZES),
        2,
    ),
    "timesformer": (
        TimesformerConfig(image_size=32, num_frames=4, intermediate_size=32, **TINY),
        TimesformerModel,
        VideoMAEImageProcessor(image_mean=[0.45] * 3, image_std=[0.225] * 3, **SIZES),
        4,
    ),
    "dinov2": (
        Dinov2Config(image_size=32, patch_size=16, mlp_ratio=2, **TINY),
        Dinov2Model,
        BitImageProcessor(**SIZES),
        4,
    ),
}


@pytest.fixture(params=BACKBONES)
def foreign(request, tmp_path) -> tuple[Path, dict]:
    """Write a checkpoint folder as its users have it; return what a recipe on it must say."""
    config, model_class, processor, num_tokens = BACKBONES[request.param]
    torch.manual_seed(0)
    folder = tmp_path / request.param
    model_class(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder, {"num_tokens": num_tokens}


@pytest.mark.parametrize("family", ["vision", "video_text"])
def test_cache_train_evaluate_save_load(family, foreign, root, tmp_path):
    folder, settings = foreign
    num_tokens = settings.pop("num_tokens")
    path = write_recipe(
        tmp_path / "recipe.yaml", family, root=root, output_dir=tmp_path / "run", backbone=folder, **settings
    )
    metrics = train(parse_recipe(["--config", str(path)]))
    assert metrics["num_evaluated"] == 8
    losses = read_losses(tmp_path / "run")
    assert len(losses) == 8 and all(loss < 10 for loss in losses)

    model, report = AutoModelForVideoClassification.from_pretrained(tmp_path / "run", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert model.config.vision_config.model_type == folder.name
    before = BACKBONES[folder.name][1].from_pretrained(folder).state_dict()
    after = model.base_model.backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before), "the frozen backbone has moved"

    # Evaluating again, from the folder alone and from pixels, gives the same predictions as from the cache.
    processor, videos = AutoVideoProcessor.from_pretrained(tmp_path / "run"), read_index(root, "val")
    own = BACKBONES[folder.name][2]  # mean and std are the backbone's, though the recipe does not name them
    assert [*processor.image_mean, *processor.image_std] == [*own.image_mean, *own.image_std]
    views = EvaluationViews(processor, videos, num_clips=2)
    features = build_features(model, views, tmp_path / "features", dtype="float32", progress=False)
    assert features[0].shape[1:] == (num_tokens, 16)
    num_right = 0
    for position, video in enumerate(videos):
        loaded = processor.load_clips(video.path, num_clips=2)
        with torch.no_grad():
            from_pixels = model(pixel_values=loaded.pixel_values).logits
            from_features = model(video_features=features[position]).logits
        torch.testing.assert_close(from_pixels, from_features, rtol=1e-4, atol=1e-5)
        scores = loaded.weights @ from_pixels.softmax(-1)
        num_right += int(scores.argmax() == video.label)
    assert metrics["top1"] == pytest.approx(100 * num_right / len(videos))


def test_another_normalization_than_the_backbones_is_refused(foreign, root, tmp_path):
    folder, _ = foreign
    wrong = {"data__mean": [0.1, 0.2, 0.3]}
    path = write_recipe(
        tmp_path / "r.yaml", "vision", root=root, output_dir=tmp_path / "run", backbone=folder, **wrong
    )
    with pytest.raises(ValueError, match="Set data.mean and data.std to the backbone's"):
        train(parse_recipe(["--config", str(path)]))


@pytest.mark.parametrize("family", ["vision", "video_text"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_cached_training_is_online_training(family, dtype, root, backbone, tmp_path):
    """One view without augmentation gives the same losses to 1e-4 relative and the same predictions."""
    outcomes = {}
    for mode in ("cached", "online"):
        path = write_recipe(
            tmp_path / f"{mode}.yaml",
            family,
            root=root,
            output_dir=tmp_path / mode,
            backbone=backbone,
            features={"mode": mode, "views": 1, "augment": False, "dtype": dtype},
            optimization__epochs=4,
        )
        train(parse_recipe(["--config", str(path)]))
        model = AutoModelForVideoClassification.from_pretrained(tmp_path / mode)
        processor = AutoVideoProcessor.from_pretrained(tmp_path / mode)
        clips = [processor.load_clips(video.path).pixel_values for video in read_index(root, "val")]
        with torch.no_grad():
            predictions = [model(pixel_values=clip).logits.argmax(-1).tolist() for clip in clips]
        outcomes[mode] = read_losses(tmp_path / mode), predictions
    assert len(outcomes["cached"][0]) == 16
    assert outcomes["cached"][0] == pytest.approx(outcomes["online"][0], rel=1e-4)
    assert outcomes["cached"][1] == outcomes["online"][1]
