"""Features that keep space, and layers before the last: what the cache holds of them; the mean's stay as they were."""

import pytest
import torch

from finegym.commands.features import features as write_features
from finegym.features.backbones import load_feature_model
from finegym.features.cache import build_features
from finegym.features.fingerprints import describe_backbone
from finegym.features.views import EvaluationViews
from modeling_finegym import FineGymVisionConfig, FineGymVisionModel
from tests.features.test_extract import checkpoint, read, videos  # noqa: F401 (fixtures)
from tests.features.test_features import make_model, make_processor
from tests.features.test_features import videos as few_videos  # noqa: F401 (a fixture)
from tests.foreign import on_foreign, write_foreign


def on_slowonly(**changes) -> FineGymVisionModel:
    backbone = make_model()
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "num_hidden_layers": 1}
    model = FineGymVisionModel(FineGymVisionConfig(vision_config=backbone.config, image_size=16, **sizes, **changes))
    model.backbone.load_state_dict(backbone.slowonly.state_dict())
    return model.eval()


@pytest.mark.parametrize("spatial_grid_size", [2, "all"])
def test_the_cache_holds_the_grid(spatial_grid_size, few_videos, tmp_path, capfd):  # noqa: F811
    model = on_slowonly(spatial_grid_size=spatial_grid_size)
    features = build_features(model, EvaluationViews(make_processor(), few_videos), tmp_path, dtype="float32")
    num_clips = sum(len(features[position]) for position in range(len(few_videos)))
    # stem and second stage leave an eighth of 16 pixels: 2 x 2 places
    assert all(features[position].shape[1:] == (16, 8) for position in range(len(few_videos)))
    size = f"{num_clips * 16 * 8 * 4 / 1e9:.3f} GB"
    assert f"{num_clips} clips of 16 x 8 float32: {size} at {features.folder}" in capfd.readouterr().out
    clips = make_processor().load_clips(few_videos[2].path)
    with torch.no_grad():
        expected = model(pixel_values=clips.pixel_values).pooler_output
    torch.testing.assert_close(model(video_features=features[2]).pooler_output, expected, rtol=1e-4, atol=1e-6)


def test_grids_and_layers_have_addresses_of_their_own_and_the_mean_has_its_old_one():
    described = [describe_backbone(on_slowonly(spatial_grid_size=size)) for size in (1, 2, "all")]
    # the names that caches have been addressed by since the first version
    assert described[0] == describe_backbone(make_model()) and described[0].keys() == {"class", "settings", "weights"}
    settings = described[0]["settings"]
    assert (settings["num_trainable_stages"], settings["freeze_backbone"]) == (0, False)
    assert "num_trainable_blocks" not in settings
    assert [one.get("read") for one in described] == [None, {"spatial_grid_size": 2}, {"spatial_grid_size": "all"}]
    layers = describe_backbone(on_foreign("vit", backbone_layers=[1, -1]))
    assert layers["read"] == {"backbone_layers": [1, -1]}
    assert not any("read" in describe_backbone(on_foreign(name)) for name in ("vit", "dinov3_vit", "timm_wrapper"))
    other = describe_backbone(on_foreign("dinov3_vit", num_prefix_tokens=1))
    assert other["read"] == {"num_prefix_tokens": 1}, "a layout that was set by hand gives other features"


@pytest.mark.parametrize(("spatial_grid_size", "num_tokens"), [(1, 4), (2, 16), ("all", 64)])
def test_any_backbone_writes_a_grid(spatial_grid_size, num_tokens, videos, tmp_path):  # noqa: F811
    folder = str(write_foreign(tmp_path / "vit", "vit"))
    options = {"clip_len": 4, "spatial_grid_size": spatial_grid_size}
    write_features(videos, model=folder, output=tmp_path / "features", **options)
    assert {tensor.shape[1:] for tensor in read(tmp_path / "features").values()} == {(num_tokens, 16)}
    model, processor = load_feature_model(folder, **options)
    clips = processor.load_clips(videos / "vault/b.mp4")
    with torch.no_grad():
        expected = model.get_video_features(clips.pixel_values)
    written = read(tmp_path / "features")["vault/b.mp4"]
    torch.testing.assert_close(written.float(), expected, rtol=1e-2, atol=1e-3)


def test_an_own_backbone_writes_a_grid_and_an_encoder_has_its_own(videos, checkpoint, tmp_path):  # noqa: F811
    options = {"output": tmp_path / "features", "spatial_grid_size": 2}
    write_features(videos, model=str(checkpoint), **options)
    assert {tensor.shape[1:] for tensor in read(tmp_path / "features").values()} == {(16, 8)}
    on_slowonly().save_pretrained(tmp_path / "encoder")
    make_processor().save_pretrained(tmp_path / "encoder")
    with pytest.raises(ValueError, match="is an encoder, whose own spatial_grid_size is 1"):
        write_features(videos, model=str(tmp_path / "encoder"), **options)
