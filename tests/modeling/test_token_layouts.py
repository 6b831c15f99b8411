"""Backbones of Transformers, every row of the table: their tokens, their layers, and which blocks learn."""

import math

import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d
from transformers import Siglip2ImageProcessor

from finegym.features.token_experiment import CLEARLY, examine_tokens
from modeling_finegym import FineGymVisionConfig
from modeling_finegym.configuration_token_layouts import TOKEN_LAYOUTS
from modeling_finegym.modeling_on_backbone import cut_patches
from tests.foreign import BACKBONES, NUM_FRAMES, NUM_MOMENTS, NUM_PREFIX_TOKENS, SIZE, WITHOUT_LAYERS, on_foreign


@pytest.fixture(params=BACKBONES)
def model_type(request) -> str:
    return request.param


@pytest.fixture
def frames() -> torch.Tensor:
    return torch.randn(2, NUM_FRAMES, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))


def test_every_row_of_the_table_is_tested():
    assert BACKBONES.keys() == TOKEN_LAYOUTS.keys()


def test_a_change_moves_the_tokens_that_the_table_says(model_type):
    model = on_foreign(model_type, spatial_grid_size="all")
    report = examine_tokens(model, SIZE)
    assert (report.num_moments, report.num_places) == (NUM_MOMENTS.get(model_type, NUM_FRAMES), 16)
    assert model.config.num_prefix_tokens == NUM_PREFIX_TOKENS.get(model_type, 0)
    assert report.is_proved, report
    if TOKEN_LAYOUTS[model_type].order == "frame":
        assert math.isinf(report.time_contrast), "a frame of an image model is seen alone"
    assert model.config.backbone_layers is None and report.trained_bytes > 0


@pytest.mark.parametrize(
    ("model_type", "wrong"),
    [
        ("videomae", {"token_layout": "space"}),
        ("timesformer", {"token_layout": "time"}),
        ("vit", {"num_prefix_tokens": 0}),
        ("dinov3_vit", {"num_prefix_tokens": 1}),
        ("siglip_vision_model", {"num_prefix_tokens": 1}),
    ],
)
def test_a_wrong_layout_is_found_out(model_type, wrong):
    model = on_foreign(model_type, spatial_grid_size="all", **wrong)
    try:
        report = examine_tokens(model, SIZE)
    except ValueError:
        return  # another number of tokens than there are places
    assert min(report.time_contrast, report.space_contrast) < CLEARLY


def test_a_grid_averages_the_places_of_its_cells(model_type, frames):
    every, mean, grid = (
        on_foreign(model_type, spatial_grid_size=size).get_video_features(frames) for size in ("all", 1, 2)
    )
    num_moments = NUM_MOMENTS.get(model_type, NUM_FRAMES)
    assert (every.shape, grid.shape) == ((2, num_moments * 16, 16), (2, num_moments * 4, 16))
    maps = every.reshape(2 * num_moments, 4, 4, 16)
    torch.testing.assert_close(maps.mean((1, 2)).view_as(mean), mean)
    cells = [maps[:, row : row + 2, column : column + 2].mean((1, 2)) for row in (0, 2) for column in (0, 2)]
    torch.testing.assert_close(torch.stack(cells, 1).view_as(grid), grid)
    pooled = adaptive_avg_pool2d(maps.permute(0, 3, 1, 2), 3).flatten(2).transpose(1, 2).reshape(2, -1, 16)
    uneven = on_foreign(model_type, spatial_grid_size=3).get_video_features(frames)
    torch.testing.assert_close(uneven, pooled)


@pytest.mark.parametrize("model_type", [name for name in BACKBONES if name not in WITHOUT_LAYERS])
def test_layers_are_joined_by_channel(model_type, frames):
    model, outputs = on_foreign(model_type, backbone_layers=[1, -1], spatial_grid_size="all"), []
    first = model.backbone_blocks[0]
    first.register_forward_hook(
        lambda module, inputs, output: outputs.append(output[0] if isinstance(output, tuple) else output)
    )
    features = model.get_video_features(frames)
    last = on_foreign(model_type, spatial_grid_size="all").get_video_features(frames)
    assert torch.equal(features[..., 16:], last) and model(video_features=features).pooler_output.shape == (2, 24)
    tokens = outputs[0][:, model.config.num_prefix_tokens :]
    if TOKEN_LAYOUTS[model_type].order == "space":
        tokens = tokens.unflatten(1, (16, -1)).transpose(1, 2)
    torch.testing.assert_close(features[..., :16], tokens.reshape(2, -1, 16))


@pytest.mark.parametrize("num_trainable_blocks", [0, 2])
def test_the_last_blocks_learn(model_type, frames, num_trainable_blocks):
    model = on_foreign(model_type, num_trainable_blocks=num_trainable_blocks).train()
    model(frames).pooler_output.square().sum().backward()
    blocks = model.backbone_blocks
    learns = [False] * (3 - num_trainable_blocks) + [True] * num_trainable_blocks
    assert [block.training for block in blocks] == learns
    moved = {name for name, parameter in model.backbone.named_parameters() if parameter.grad is not None}
    named = {id(parameter): name for name, parameter in model.backbone.named_parameters()}
    expected = {
        named[id(parameter)] for block in blocks[3 - num_trainable_blocks :] for parameter in block.parameters()
    }
    assert moved == expected


def test_blocks_that_are_not_there_cannot_learn():
    with pytest.raises(
        ValueError, match="num_trainable_blocks must lie between 0 and 3, the blocks of this vit, got 4"
    ):
        on_foreign("vit", num_trainable_blocks=4)


def test_patches_are_those_of_siglip2s_processor():
    frames = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    ours, extra = cut_patches(frames, 8)
    processor = Siglip2ImageProcessor(
        do_resize=False, do_rescale=False, do_normalize=False, patch_size=8, max_num_patches=12
    )
    theirs = processor(list(frames), return_tensors="pt")
    assert torch.equal(ours, theirs["pixel_values"])
    assert torch.equal(extra["spatial_shapes"], theirs["spatial_shapes"])
    assert torch.equal(extra["pixel_attention_mask"], theirs["pixel_attention_mask"].long())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vision_config": {"model_type": "resnet"}}, "token layout of resnet is not known"),
        ({"vision_config": {"model_type": "vit"}, "backbone_layers": [13]}, r"1 to 16 of the 12 layers of vit"),
        ({"vision_config": {"model_type": "vit"}, "backbone_layers": [-1, 12]}, "each once"),
        ({"backbone_layers": [1, 2]}, "those of slowonly are not"),
        ({"spatial_grid_size": 0}, 'must be 1 to 64, or "all", got 0'),
        ({"spatial_grid_size": "some"}, "got 'some'"),
        ({"num_pooling_queries": 65}, "num_pooling_queries must lie between 0 and 64"),
        ({"num_pooling_queries": 1, "num_pooling_layers": 0}, "num_pooling_layers must lie between 1 and 16"),
        ({"num_pooling_queries": 1, "hidden_size": 40}, "num_attention_heads 12 must divide hidden_size 40"),
    ],
)
def test_a_wrong_choice_of_tokens_is_refused(values, message):
    with pytest.raises(Exception, match=message):
        FineGymVisionConfig(num_frames=8, **values)
