"""Explanations of TRN, TQN, MTN and of CNNs that shorten time: a TQN whose answer is known, and sums done by hand."""

import pytest
import torch

from finegym.evaluation.attribution import Target, attribute_network, moments_of_frames
from finegym.evaluation.attribution_peers import (
    answered_attributes,
    attribute_pathways,
    attribute_queries,
    attribute_relations,
)
from modeling_finegym import (
    BNInceptionConfig,
    BNInceptionForVideoClassification,
    S3DConfig,
    S3DForVideoClassification,
    TrnConfig,
    TrnForVideoClassification,
)
from tests.modeling.parity import clips
from tests.modeling.test_mtn_parity import small_mtn
from tests.modeling.test_tqn_parity import small_tqn


MOMENT, PADDED = 2, 5  # of 6 moments
GROUP, ATTRIBUTE = 1, 3  # of two groups and three attributes


@pytest.fixture(scope="module")
def known():
    """A TQN in which the query of the second group and that of the class look for the event, and a clip with one.

    Queries are pairs of opposite coordinates, which LayerNorm scales alone: (2, 3) seeks, (4, 5) does not. A seeking
    query attends to channel 0 of the video, the event, and a quiet one to channel 1. What of the event is seen goes to
    the pair (6, 7), which both classifiers read.
    """
    model = small_tqn(num_frames=48, num_hidden_layers=1, num_attention_heads=1).float()
    axes = torch.eye(model.config.hidden_size)
    seeking, quiet, found = (axes[place] - axes[place + 1] for place in (2, 4, 6))
    layer = model.tqn.decoder.layers[0]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "backbone" not in name and not ("LayerNorm" in name and "weight" in name):
                parameter.zero_()
        for name, parameter in model.tqn.decoder.named_parameters():
            if "LayerNorm" in name and "weight" in name:
                parameter.fill_(1)
        model.tqn.query_embed.weight[:] = torch.stack([quiet, seeking, seeking])
        ask = (torch.outer(20 * axes[0], seeking) + torch.outer(100 * axes[1], quiet)) / len(axes) ** 0.5
        layer.multihead_attn.in_proj_weight.copy_(torch.cat([ask, axes, torch.outer(found, axes[0])]))
        layer.multihead_attn.out_proj.weight.copy_(axes)
        model.attribute_classifier.weight[ATTRIBUTE] = found
        model.classifier.weight[2] = found
    features = torch.zeros(1, 6, model.config.hidden_size)
    features[0, :, 0] = torch.tensor([0, 0, 1.0, 0, 0, 3.0])
    features[0, :, 1] = torch.tensor([1.0, 1.0, 0, 1.0, 1.0, 1.0])
    padding = torch.arange(6)[None] == PADDED
    return model, features, padding


@pytest.mark.filterwarnings("error")
def test_every_method_finds_the_moment_of_the_attribute_and_of_the_class(known):
    model, features, padding = known
    with torch.no_grad():
        outputs = model(video_features=features, padding=padding)
    assert outputs.logits[0].argmax() == 2 and outputs.logits[0, 2] > 1
    assert outputs.attribute_logits[0, GROUP].argmax() == ATTRIBUTE
    assert outputs.attribute_logits[0, 0].abs().max() < 0.1
    assert answered_attributes(model, video_features=features, padding=padding)[:1] == [ATTRIBUTE]
    found = attribute_queries(model, features, Target(2, contrast=0), [1, ATTRIBUTE], padding)
    assert found.rows == ["leap", "twist", "the class"] and found.num_attribute_rows == 2
    assert list(found.over_time) == [
        *("integrated gradients", "occlusion", "input gradients", "attention, layer 1", "attention, mean")
    ]
    for name, values in found.over_time.items():
        for row in (1, 2):
            assert values[row].argmax() == MOMENT and values[row, MOMENT] > 0.1, name
            others = [moment for moment in range(6) if moment != MOMENT]
            assert values[row, others].abs().max() < 0.5 * values[row, MOMENT], name
        assert values[:, PADDED].abs().max() == 0, name
        if not name.startswith("attention"):
            assert values[0].abs().max() < 0.02 * values[1, MOMENT], "the other group's query sees nothing"


def test_rows_of_tqn_are_sums_done_by_hand():
    model, pixel_values = small_tqn().float(), clips(1, 24, 3, 36, 36).float()
    pixel_values[0, 16:] = pixel_values[0, 15]  # the last of three blocks is padding
    padding = model.tqn.find_padding(pixel_values)
    assert padding.tolist() == [[False, False, True]]
    target = Target(1, contrast=3)
    with torch.no_grad():
        features = model.get_video_features(pixel_values)
        whole = model(pixel_values)
        outputs = model(video_features=features, padding=padding, output_attentions=True)
        torch.testing.assert_close(outputs.logits, whole.logits)
        found = attribute_queries(model, features, target, [2, 1], padding)
        without = features.clone()
        without[:, 0] = features[:, :2].mean(1)
        changed = model(video_features=without, padding=padding)
    assert found.rows == ["turn", "leap", "the class"]
    for row, (group, attribute) in enumerate(((1, 2), (0, 1))):
        before, after = (values.attribute_logits[0, group] for values in (whole, changed))
        change = (before[attribute] - before[0]) - (after[attribute] - after[0])
        assert found.over_time["occlusion"][row, 0].item() == pytest.approx(change.item(), abs=1e-5)
        for number, layer in enumerate(outputs.cross_attentions, start=1):
            torch.testing.assert_close(found.over_time[f"attention, layer {number}"][row], layer[0, :, group].mean(0))
    change = target.of(whole.logits) - target.of(changed.logits)
    assert found.over_time["occlusion"][2, 0].item() == pytest.approx(change.item(), abs=1e-5)
    summed, expected = found.completeness
    assert summed == pytest.approx(expected, rel=0.02, abs=0.01)


def test_trn_over_its_frames():
    torch.manual_seed(0)
    backbone = BNInceptionConfig(width_multiplier=0.0625, depths=[1, 1, 1])
    model = TrnForVideoClassification(
        TrnConfig(vision_config=backbone, hidden_size=8, num_frames=4, num_labels=3)
    ).eval()
    for name, parameter in model.named_parameters():
        if "backbone" not in name:
            torch.nn.init.normal_(parameter, std=0.2)
    features = torch.randn(1, 4, model.config.video_feature_size, generator=torch.Generator().manual_seed(0))
    target = Target(2, contrast=0)
    found = attribute_relations(model, features, target)
    assert found.rows == ["video tokens"] and found.num_attribute_rows == 0
    for moment in range(4):
        without = features.clone()
        without[:, moment] = features.mean(1)
        with torch.no_grad():
            change = [target.of(model(video_features=part).logits).item() for part in (features, without)]
        assert found.over_time["occlusion"][0, moment].item() == pytest.approx(change[0] - change[1], abs=1e-5)
    assert found.completeness[0] == pytest.approx(found.completeness[1], rel=0.06), "ReLUs bend the path"


@pytest.mark.parametrize("freeze_backbone", [False, True])
def test_mtn_over_the_frames_of_its_fastest_pathway(freeze_backbone):
    model = small_mtn(pathway_intervals=[4, 2, 2], freeze_backbone=freeze_backbone).float()
    pixel_values, target = clips(1, 8, 3, 36, 36).float(), Target(1)
    found = attribute_pathways(model, pixel_values, target)
    assert all(values.shape == (1, 4) for values in found.over_time.values())
    without = pixel_values.clone()
    without[:, 2:4] = pixel_values.mean(1, keepdim=True)
    with torch.no_grad():
        change = (target.of(model(pixel_values).logits) - target.of(model(without).logits)).item()
    assert found.over_time["occlusion"][0, 1].item() == pytest.approx(change, abs=1e-5)
    same = small_mtn(pathway_intervals=[4, 2, 2]).float()
    pixels = pixel_values.clone().requires_grad_()
    target.of(same(pixels).logits).sum().backward()
    expected = (pixels.grad * (pixel_values - pixel_values.mean(1, keepdim=True))).sum((0, 2, 3, 4))
    torch.testing.assert_close(found.over_time["input gradients"][0], expected.view(4, 2).sum(1), rtol=1e-3, atol=1e-5)
    networks = [module for module in model.modules() if hasattr(module, "num_frozen_blocks")]
    assert len(networks) == 3 and all(bool(network.num_frozen_blocks) == freeze_backbone for network in networks)


@pytest.mark.parametrize("num_frames", [16, 20])
def test_a_cnn_that_shortens_time_has_fewer_moments_than_frames(num_frames):
    torch.manual_seed(0)
    config = S3DConfig(width_multiplier=0.0625, depths=[1, 1, 1], num_labels=3, freeze_backbone=True)
    model, pixel_values = S3DForVideoClassification(config).eval(), clips(1, num_frames, 3, 36, 36).float()
    found, target = attribute_network(model, pixel_values, Target(1)), Target(1)
    with torch.no_grad():
        logits = model(pixel_values).logits
        num_moments = model.base_model(pixel_values).last_hidden_state.shape[2]
        assert 1 < num_moments < num_frames / 2
        assert found.over_space.sum().item() == pytest.approx(
            (logits[0, 1] - model.classifier.bias[1]).item(), abs=1e-4
        )
        without = pixel_values.clone()
        taken = [place for place, moment in enumerate(moments_of_frames(num_frames, num_moments)) if moment == 1]
        without[:, taken] = pixel_values.mean(1, keepdim=True)
        change = (target.of(logits) - target.of(model(without).logits)).item()
    assert found.over_time["occlusion"].shape == found.over_time["Grad-CAM"].shape == (1, num_moments)
    assert found.over_time["occlusion"][0, 1].item() == pytest.approx(change, abs=1e-4)
    assert found.over_time["input gradients"].abs().min() > 0


def test_tsn_over_its_segments():
    torch.manual_seed(0)
    config = BNInceptionConfig(width_multiplier=0.0625, depths=[1, 1, 1], num_labels=3)
    model, pixel_values = BNInceptionForVideoClassification(config).eval(), clips(1, 3, 3, 64, 64).float()
    found = attribute_network(model, pixel_values, Target(1))
    logit, bias = model(pixel_values).logits[0, 1].item(), model.classifier.bias[1].item()
    assert found.over_space.shape[0] == 3 and found.over_space.sum().item() == pytest.approx(logit - bias, abs=1e-4)
