"""TQN's decoder against torch's; its blocks, its padding, its losses."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from modeling_finegym import S3DConfig, TqnConfig, TqnForVideoClassification
from tests.modeling.parity import check_saving_and_checkpointing, clips, randomize, relative_error


GROUPS = {
    "attribute_names": ["", "leap", "turn", "twist"],
    "attribute_group_sizes": [1, 2],
    "class_attributes": [[1, 0], [0, 2], [1, 3], [0, 0]],
}
SMALL = {"num_frames": 24, "num_labels": 4, "num_hidden_layers": 2, "intermediate_size": 48, **GROUPS}


def small_tqn(**changes) -> TqnForVideoClassification:
    torch.manual_seed(0)
    backbone = S3DConfig(width_multiplier=0.125, depths=[1, 1, 1])
    dropout = {"classifier_dropout": 0, "hidden_dropout_prob": 0}
    model = TqnForVideoClassification(TqnConfig(**{"vision_config": backbone, **SMALL, **dropout, **changes}))
    randomize(model.tqn.backbone)
    for name, parameter in model.named_parameters():
        if "backbone" not in name:
            nn.init.normal_(parameter, std=0.3)
    return model.double().eval()


def torch_decoder(model: TqnForVideoClassification) -> nn.TransformerDecoder:
    config = model.config
    sizes = (config.hidden_size, config.num_attention_heads, config.intermediate_size)
    layer = nn.TransformerDecoderLayer(*sizes, 0.0, "relu", batch_first=True, norm_first=True)
    decoder = nn.TransformerDecoder(layer, config.num_hidden_layers, norm=nn.LayerNorm(config.hidden_size))
    decoder.load_state_dict({k.replace("LayerNorm", "norm"): v for k, v in model.tqn.decoder.state_dict().items()})
    return decoder.double().eval()


@pytest.mark.parametrize("padded", [False, True])
def test_the_decoder_is_torchs(padded):
    model = small_tqn()
    video = torch.randn(2, 3, model.config.hidden_size, generator=torch.Generator().manual_seed(1)).double()
    padding = torch.tensor([[False, False, True], [False, True, True]]) if padded else None
    queries = model.tqn.query_embed.weight.expand(2, -1, -1)
    expected = torch_decoder(model)(queries, video, memory_key_padding_mask=padding)
    for options in ({}, {"output_attentions": True}):  # two kernels of attention
        output = model.tqn(video_features=video, padding=padding, **options)
        assert relative_error(output.last_hidden_state, expected) < 1e-10
    expected.square().sum().backward()
    expected = {name: p.grad.clone() for name, p in model.tqn.named_parameters() if p.grad is not None}
    assert expected.keys() == {"query_embed.weight"}  # torch's decoder has weights of its own
    model.zero_grad()
    model.tqn(video_features=video, padding=padding).last_hidden_state.square().sum().backward()
    assert relative_error(model.tqn.query_embed.weight.grad, expected["query_embed.weight"]) < 1e-10
    assert len(output.cross_attentions) == 2 and output.cross_attentions[0].shape == (2, 4, 3, 3)
    torch.testing.assert_close(output.cross_attentions[1].sum(-1), torch.ones(2, 4, 3).double())
    if padded:
        assert output.cross_attentions[0][1, :, :, 1:].abs().max() == 0


def test_blocks_are_seen_apart_and_in_no_order_but_their_frames_are_in_order():
    model, pixel_values = small_tqn(), clips(1, 24, 3, 36, 36)
    blocks = pixel_values.unflatten(1, (3, 8))
    with torch.no_grad():
        features = model.get_video_features(pixel_values)
        for block in range(3):  # the backbone has seen nothing else
            alone = model.tqn.backbone.get_video_features(blocks[:, block])
            assert relative_error(features[:, block : block + 1], alone) < 1e-10
        logits = model(pixel_values).logits
        assert relative_error(model(blocks[:, [2, 0, 1]].flatten(1, 2)).logits, logits) < 1e-10
        assert relative_error(model(blocks.flip(2).flatten(1, 2)).logits, logits) > 1e-3


def test_blocks_that_repeat_the_last_frame_are_not_read():
    model, pixel_values = small_tqn(), clips(2, 24, 3, 36, 36)
    pixel_values[0, 11:] = pixel_values[0, 10]  # the second block ends within, the third is all repeated
    assert model.tqn.find_padding(pixel_values).tolist() == [[False, False, True], [False, False, False]]
    with torch.no_grad():
        outputs = model(pixel_values)
        features = model.get_video_features(pixel_values)
        short = torch_decoder(model)(model.tqn.query_embed.weight[None], features[:1, :2])
        assert relative_error(outputs.logits[:1], model.classifier(short[:, -1])) < 1e-10
        assert relative_error(outputs.attribute_logits[:1], model.attribute_classifier(short[:, :-1])) < 1e-10


def test_the_loss_is_that_of_the_class_and_of_its_attributes():
    model = small_tqn()
    features = torch.randn(3, 3, model.config.hidden_size).double()
    labels = torch.tensor([1, 2, 0])
    outputs = model(video_features=features, labels=labels)
    assert outputs.attribute_logits.shape == (3, 2, 4)
    answers = torch.tensor([[0, 2], [1, 3], [1, 0]])
    expected = (
        F.cross_entropy(outputs.logits, labels)
        + torch.stack(
            [F.cross_entropy(outputs.attribute_logits[:, group], answers[:, group]) for group in range(2)]
        ).mean()
    )
    torch.testing.assert_close(outputs.loss, expected)


@pytest.mark.parametrize(
    ("num_labels", "num_attributes", "num_groups", "num_parameters"),
    [(99, 66, 11, 50_102_085), (288, 98, 12, 50_329_634)],
)
def test_parameter_counts(num_labels, num_attributes, num_groups, num_parameters):
    attributes = {
        "attribute_names": [""] * num_attributes,
        "attribute_group_sizes": [num_attributes - num_groups] + [1] * (num_groups - 1),
    }
    with torch.device("meta"):
        model = TqnForVideoClassification(TqnConfig(num_labels=num_labels, **attributes))
    assert sum(parameter.numel() for parameter in model.parameters()) == num_parameters


def test_saved_with_its_code_and_checkpointed(tmp_path):
    loaded = check_saving_and_checkpointing(small_tqn().float(), clips(1, 24, 3, 36, 36).float(), tmp_path)
    assert loaded.config.class_attributes == GROUPS["class_attributes"] and loaded.config.vision_config.num_frames == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_frames": 20}, "num_frames must be a multiple of block_len, got 20 and 8"),
        ({"num_attention_heads": 5}, "must divide the backbone's 1024 channels"),
        ({"attribute_group_sizes": [1]}, "must sum to the 3 attributes"),
        ({"class_attributes": [[0]]}, "must give each class 2 of 4"),
        ({"class_attributes": [[0, 4]]}, "must give each class 2 of 4"),
        ({"vision_config": {"model_type": "tqn"}}, "is an encoder, not a backbone"),
    ],
)
def test_settings_that_no_network_has_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        TqnConfig(**{**SMALL, **changes})
