"""Space kept: grids of places on this project's backbones, positions in time and space, and pooling by attention."""

import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoModelForVideoClassification

from modeling_finegym import BNInceptionConfig, FineGymVisionConfig, FineGymVisionModel, S3DConfig, VideoResNetConfig
from tests.modeling.parity import relative_error
from tests.small import small_model, small_slowonly_config


CNNS = {
    "slowonly": small_slowonly_config(),
    "video_resnet": VideoResNetConfig(num_frames=8, stem_width=8, hidden_sizes=(16, 32, 32, 64), depths=(1,) * 4),
    "s3d": S3DConfig(num_frames=8, width_multiplier=0.125, depths=(1, 1, 1)),
    "bn_inception": BNInceptionConfig(num_frames=8, width_multiplier=0.125, depths=(1, 1, 1)),
}


@pytest.fixture
def wide_frames() -> torch.Tensor:
    """Frames on which the last stage has several places."""
    return torch.rand(2, 8, 3, 80, 80, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["slowonly", "video_resnet", "s3d"])
def test_places_along_a_side(name):
    config = CNNS[name]
    backbone = AutoModel.from_config(config)
    for size in (64, 80, 90, 97):
        maps = backbone(torch.rand(1, 8, 3, size, size)).last_hidden_state
        assert maps.shape[3:] == (config.count_places(size),) * 2


@pytest.mark.parametrize("name", CNNS)
def test_a_grid_on_the_networks(name):
    wide_frames, features = torch.rand(2, 8, 3, 96, 96, generator=torch.Generator().manual_seed(0)), {}
    for size in ("all", 1, 2):
        torch.manual_seed(0)
        config = FineGymVisionConfig(
            vision_config=CNNS[name], hidden_size=24, num_attention_heads=2, spatial_grid_size=size, image_size=96
        )
        model = FineGymVisionModel(config).eval()
        features[size] = model.get_video_features(wide_frames)
        assert features[size].shape[1] == config.num_video_tokens
        model(video_features=features[size])
    num_moments, width = features[1].shape[1:]
    maps = features["all"].view(2, num_moments, 3, 3, width)
    assert maps.std(dim=(2, 3)).max() > 0
    torch.testing.assert_close(maps.mean((2, 3)), features[1])
    cells = [maps[:, :, row : row + 2, column : column + 2].mean((2, 3)) for row in (0, 1) for column in (0, 1)]
    torch.testing.assert_close(torch.stack(cells, 2).flatten(1, 2), features[2])


def test_a_grid_finer_than_the_places_is_refused(pixel_values):
    with pytest.raises(ValueError, match="spatial_grid_size 2 is finer than the backbone's 1 x 1 places"):
        small_model("vision", spatial_grid_size=2)(pixel_values)


def test_frames_of_another_size_have_other_places(wide_frames):
    with pytest.raises(ValueError, match=r"shape \(batch_size, 8, 64\), got \(2, 72, 64\)"):
        small_model("vision", spatial_grid_size="all")(wide_frames)


@pytest.mark.parametrize("family", ["vision", "video_text"])
def test_tokens_have_positions_in_time_and_space(family):
    features = torch.randn(2, 8, 4, 64, generator=torch.Generator().manual_seed(0))
    moved_in_time, moved_in_space = features.flip(1), features.flip(2)
    for use_position_embeddings in (True, False):
        model = small_model(
            family,
            spatial_grid_size=2,
            use_position_embeddings=use_position_embeddings,
            position_initializer_range=1.0,
        )
        logits, *others = (
            model(video_features=some.flatten(1, 2)).logits for some in (features, moved_in_time, moved_in_space)
        )
        for other in others:
            assert torch.allclose(logits, other, atol=1e-6) != use_position_embeddings


def test_positions_are_those_of_the_moment_and_of_the_place():
    model = small_model("vision", spatial_grid_size=2, position_initializer_range=1.0)
    embeddings = model.finegym_vision.video_embeddings
    features = torch.randn(1, 32, 64)
    expected = embeddings.projection(features).view(1, 8, 2, 2, 32)
    expected = expected + embeddings.position_embeddings.weight.view(8, 1, 1, 32)
    expected = expected + embeddings.spatial_position_embeddings.weight.view(1, 2, 2, 32)
    torch.testing.assert_close(embeddings(features), embeddings.output(expected.flatten(1, 3)))


@pytest.mark.parametrize("num_pooling_layers", [1, 2])
def test_pooling_by_attention_is_torchs_decoder(num_pooling_layers):
    model = small_model(
        "vision", spatial_grid_size=2, num_pooling_queries=3, num_pooling_layers=num_pooling_layers, num_pooled_parts=2
    ).double()
    base, pooling = model.finegym_vision, model.finegym_vision.video_pooling
    for parameter in pooling.parameters():
        nn.init.normal_(parameter, std=0.3)
    layer = nn.TransformerDecoderLayer(32, 4, 64, 0.0, "relu", batch_first=True, norm_first=True)
    decoder = nn.TransformerDecoder(layer, num_pooling_layers, norm=nn.LayerNorm(32)).double().eval()
    weights = {name.replace("LayerNorm", "norm"): value for name, value in pooling.state_dict().items()}
    queries = weights.pop("queries.weight")
    decoder.load_state_dict(weights)
    features = torch.randn(2, 32, 64).double()
    output = base(video_features=features)
    answers = decoder(queries.expand(2, -1, -1), output.last_hidden_state)
    moments = output.last_hidden_state.view(2, 8, 4, 32).mean(2)
    pooled = torch.cat([moments.mean(1), moments[:, :4].mean(1), moments[:, 4:].mean(1), answers.flatten(1)], 1)
    assert relative_error(output.pooler_output, pooled) < 1e-10
    assert relative_error(model(video_features=features).logits, model.classifier(pooled)) < 1e-10


@pytest.mark.parametrize("family", ["vision", "video_text"])
def test_a_saved_model_pools_alike(family, tmp_path):
    model = small_model(family, spatial_grid_size=2, num_pooling_queries=2, num_pooling_layers=2)
    features = torch.randn(2, 32, 64)
    model.save_pretrained(tmp_path)
    loaded, report = AutoModelForVideoClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert torch.equal(loaded(video_features=features).logits, model(video_features=features).logits)
    model.train()(video_features=features, labels=torch.tensor([0, 1])).loss.backward()
    frozen = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert all(".backbone." in name for name in frozen), "everything beside the backbone learns"
