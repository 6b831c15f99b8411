"""The encoders on foreign backbones, end to end: cache, train, evaluate, save, load."""

import pytest
import torch
from transformers import AutoModel, AutoModelForVideoClassification, AutoVideoProcessor

from finegym.data.index import read_index
from finegym.features.backbones import load_processor
from finegym.features.cache import build_features
from finegym.features.views import EvaluationViews
from finegym.training.loop import train
from finegym.training.recipe_parsing import parse_recipe
from tests.foreign import BACKBONES, NUM_FRAMES, NUM_MOMENTS, write_foreign
from tests.training.launching import read_losses
from tests.training.tiny import write_recipe


# How an encoder may read a backbone, and the video tokens of a moment. Each backbone is read in one of these ways.
READINGS = [
    ({}, 1),
    ({"spatial_grid_size": 2, "num_pooling_queries": 2}, 4),
    ({"spatial_grid_size": "all", "num_pooled_parts": 2}, 16),
]
CASES = [
    *((name, "vision", *READINGS[number % 3]) for number, name in enumerate(BACKBONES)),
    *((name, "video_text", *READINGS[number]) for number, name in enumerate(("vjepa2", "timesformer", "dinov2"))),
]


@pytest.mark.parametrize(("model_type", "family", "reading", "num_places"), CASES)
def test_cache_train_evaluate_save_load(model_type, family, reading, num_places, root, tmp_path):
    folder = write_foreign(tmp_path / model_type, model_type)
    path = write_recipe(tmp_path / "r.yaml", family, root=root, output_dir=tmp_path / "run", backbone=folder)
    options = [text for name, value in reading.items() for text in (f"--model.config.{name}", str(value))]
    path = [*("--config", str(path)), *options]
    metrics = train(parse_recipe(path))
    assert metrics["num_evaluated"] == 8
    losses = read_losses(tmp_path / "run")
    assert len(losses) == 8 and all(loss < 10 for loss in losses)

    model, report = AutoModelForVideoClassification.from_pretrained(tmp_path / "run", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert model.config.vision_config.model_type == model_type
    before = AutoModel.from_pretrained(folder).state_dict()
    after = model.base_model.backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before), "the frozen backbone has moved"

    # Evaluating again, from the folder alone and from pixels, gives the same predictions as from the cache.
    processor, videos = AutoVideoProcessor.from_pretrained(tmp_path / "run"), read_index(root, "val")
    own = load_processor(str(folder))  # mean and std are the backbone's, though the recipe does not name them
    assert [*processor.image_mean, *processor.image_std] == [*own.image_mean, *own.image_std]
    views = EvaluationViews(processor, videos, num_clips=2)
    features = build_features(model, views, tmp_path / "features", dtype="float32", progress=False)
    assert features[0].shape[1:] == (NUM_MOMENTS.get(model_type, NUM_FRAMES) * num_places, 16)
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


def test_another_normalization_than_the_backbones_is_refused(root, tmp_path):
    folder = write_foreign(tmp_path / "vit", "vit")
    wrong = {"data__mean": [0.1, 0.2, 0.3]}
    path = write_recipe(
        tmp_path / "r.yaml", "vision", root=root, output_dir=tmp_path / "run", backbone=folder, **wrong
    )
    with pytest.raises(ValueError, match="Set data.mean and data.std to the backbone's"):
        train(parse_recipe(["--config", str(path)]))


@pytest.mark.parametrize(("family", "dtype"), [("vision", "float16"), ("video_text", "float32")])
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
        )
        train(parse_recipe(["--config", str(path)]))
        model = AutoModelForVideoClassification.from_pretrained(tmp_path / mode)
        processor = AutoVideoProcessor.from_pretrained(tmp_path / mode)
        clips = [processor.load_clips(video.path).pixel_values for video in read_index(root, "val")]
        with torch.no_grad():
            predictions = [model(pixel_values=clip).logits.argmax(-1).tolist() for clip in clips]
        outcomes[mode] = read_losses(tmp_path / mode), predictions
    assert len(outcomes["cached"][0]) == 8
    assert outcomes["cached"][0] == pytest.approx(outcomes["online"][0], rel=1e-4)
    assert outcomes["cached"][1] == outcomes["online"][1]
