"""MTN against three networks of pytorchvideo and its head written out with torch's functions."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from modeling_finegym import MtnConfig, MtnForVideoClassification, SlowOnlyConfig
from tests.modeling.parity import check_saving_and_checkpointing, clips, relative_error
from tests.modeling.test_slowonly_parity import SMALL, pytorchvideo_slowonly


LEVELS = {"num_labels": 5, "class_events": [0, 0, 1, 1, 1], "class_sets": [0, 1, 2, 2, 3]}
TINY = SlowOnlyConfig(stem_width=8, hidden_sizes=(16, 32), depths=(1, 1), temporal_kernel_sizes=(1, 3))


def small_mtn(backbone: SlowOnlyConfig = TINY, **changes) -> MtnForVideoClassification:
    torch.manual_seed(0)
    settings = {"num_frames": 8, "freeze_backbone": False, "integration_size": 12, "classifier_dropout": 0}
    model = MtnForVideoClassification(MtnConfig(vision_config=backbone, **{**settings, **LEVELS, **changes}))
    for name, parameter in model.named_parameters():
        if "backbone" not in name:
            nn.init.normal_(parameter, std=0.3)
    return model.double().eval()


@pytest.fixture(scope="module")
def networks() -> list[nn.Module]:
    return [pytorchvideo_slowonly(num_classes=None, seed=seed).double().eval() for seed in range(3)]


@pytest.mark.parametrize("integrate_levels", [True, False])
def test_logits_and_losses(networks, integrate_levels):
    weights = [0.5, 2.0, 3.0]
    model = small_mtn(
        SlowOnlyConfig(**SMALL),
        pathway_intervals=[4, 2, 1],
        integrate_levels=integrate_levels,
        level_loss_weights=weights,
    )
    for ours, theirs in zip(model.mtn.backbone, networks, strict=True):
        ours.load_state_dict(theirs.state_dict())
    pixel_values, labels = clips(2, 8, 3, 36, 36), torch.tensor([1, 4])
    frames = ([0, 4], [0, 2, 4, 6], list(range(8)))
    with torch.no_grad():
        features = [
            network(pixel_values[:, seen].transpose(1, 2)).mean((2, 3, 4)) for network, seen in zip(networks, frames)
        ]
        read = features
        if integrate_levels:
            read = [
                F.relu(
                    F.linear(
                        F.layer_norm(one, one.shape[1:], *layer.LayerNorm.parameters()), *layer.projection.parameters()
                    )
                )
                for one, layer in zip(features, model.integrations, strict=True)
            ]
            read = [torch.cat(read, dim=1)] * 3
        heads = (model.event_classifier, model.set_classifier, model.classifier)
        expected = [F.linear(one, *head.parameters()) for one, head in zip(read, heads)]
        losses = [
            F.cross_entropy(one, answer)
            for one, answer in zip(expected, (labels.new([0, 1]), labels.new([1, 3]), labels))
        ]
        outputs = model(pixel_values, labels=labels)
        assert [head.out_features for head in heads] == [2, 4, 5]
        for ours, theirs in zip((outputs.event_logits, outputs.set_logits, outputs.logits), expected):
            assert relative_error(ours, theirs) < 1e-10
        torch.testing.assert_close(outputs.loss, sum(weight * loss for weight, loss in zip(weights, losses)))
        assert relative_error(model.get_video_features(pixel_values), torch.stack(features, dim=1)) < 1e-10
        again = model(video_features=torch.stack(features, dim=1), labels=labels)
        torch.testing.assert_close(again.loss, outputs.loss)
        unread = model(pixel_values[[0, 1, 1]], labels=torch.tensor([1, 4, -100]))  # a video that cannot be read
        torch.testing.assert_close(unread.loss, outputs.loss)


def test_each_level_alone_learns_nothing_from_the_others():
    model = small_mtn(integrate_levels=False).train()
    model(clips(2, 8, 3, 32, 32)).event_logits.sum().backward()
    learned = [any(p.grad.any() for p in pathway.parameters()) for pathway in model.mtn.backbone]
    assert learned == [True, False, False]


def test_parameter_counts():
    """Three trunks of SlowOnly-R50, whose own test holds them to pytorchvideo's, and 3.3 million parameters beside."""
    levels = {"class_events": [n % 4 for n in range(99)], "class_sets": [n % 14 for n in range(99)]}
    integration = 3 * (2 * 2048 + 2048 * 512 + 512)
    for integrate, beside in ((True, integration + (1536 + 1) * (4 + 14 + 99)), (False, (2048 + 1) * (4 + 14 + 99))):
        with torch.device("meta"):
            model = MtnForVideoClassification(MtnConfig(num_labels=99, integrate_levels=integrate, **levels))
        assert sum(parameter.numel() for parameter in model.parameters()) == 3 * 31_634_496 + beside


def test_saved_with_its_code_and_checkpointed(tmp_path):
    loaded = check_saving_and_checkpointing(small_mtn().float(), clips(1, 8, 3, 32, 32).float(), tmp_path)
    assert loaded.config.class_sets == LEVELS["class_sets"]


def test_a_frozen_network_learns_in_its_integration_alone():
    model = small_mtn(freeze_backbone=True).train()
    assert not any(parameter.requires_grad for parameter in model.mtn.backbone.parameters())
    assert not any(module.training for module in model.mtn.backbone.modules() if isinstance(module, nn.BatchNorm2d))
    assert all(parameter.requires_grad for name, parameter in model.named_parameters() if "backbone" not in name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pathway_intervals": [8, 4]}, "pathway_intervals must be three numbers from 1 to num_frames 8"),
        ({"pathway_intervals": [16, 4, 1]}, "pathway_intervals must be three numbers from 1 to num_frames 8"),
        ({"integration_size": 0}, "integration_size must lie between 1 and"),
        ({"level_loss_weights": [1, 1, -1]}, "level_loss_weights must be three numbers from 0 on"),
        ({"class_events": [0, 1]}, "class_events must number a group of each of 5 classes"),
        ({"class_sets": [0, 0, 0, 0, 2]}, "class_sets must number a group of each of 5 classes"),
        ({"backbone": {"model_type": "videomae"}}, "are CNNs of this project, not videomae"),
    ],
)
def test_settings_that_no_network_has_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        small_mtn(**changes)
