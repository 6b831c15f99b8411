"""S3D against torchvision, which convolves and pools in three dimensions."""

import pytest
import torch
from torch import nn
from torchvision.models.video import s3d

from modeling_finegym import S3DConfig, S3DForVideoClassification, S3DModel
from tests.modeling.parity import check_saving_and_checkpointing, check_training_step, clips, randomize, relative_error


@pytest.fixture
def pair() -> tuple[nn.Module, S3DModel]:
    """Build torchvision's network, and ours with its weights: both list their layers in the order of the data."""
    torch.manual_seed(0)
    theirs = s3d(num_classes=5).features.double()
    randomize(theirs)
    ours = S3DModel(S3DConfig(batch_norm_momentum=1e-3)).double()
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    return theirs, ours


def test_outputs(pair):
    theirs, ours = (network.eval() for network in pair)
    for shape in [(2, 8, 3, 48, 48), (1, 13, 3, 38, 66), (1, 5, 3, 17, 17)]:
        pixel_values = clips(*shape)
        with torch.no_grad():
            expected = theirs(pixel_values.transpose(1, 2))
            output = ours(pixel_values)
            assert output.last_hidden_state.shape == expected.shape
            assert relative_error(output.last_hidden_state, expected) < 1e-10
            features = ours.get_video_features(pixel_values)
            assert relative_error(features, expected.mean((3, 4)).transpose(1, 2)) < 1e-10
            config = S3DConfig(num_frames=shape[1])
            assert features.shape[1:] == (config.num_video_tokens, config.hidden_size)
            assert relative_error(ours.get_video_features(pixel_values.flip(1)).flip(1), features) > 1e-3
    assert relative_error(ours(pixel_values).last_hidden_state, expected) < 1e-10  # with gradients, unfolded


def test_gradients_and_running_statistics_of_a_training_step(pair):
    theirs, ours = (network.train() for network in pair)
    pixel_values = clips(2, 9, 3, 64, 66)  # large enough that several positions remain for every statistic
    expected, output = theirs(pixel_values.transpose(1, 2)), ours(pixel_values).last_hidden_state
    assert relative_error(output, expected) < 1e-10
    check_training_step(ours, theirs, output, expected)


def test_logits():
    torch.manual_seed(0)
    theirs = s3d(num_classes=5).double().eval()
    ours = S3DForVideoClassification(S3DConfig(num_labels=5)).double().eval()
    state = dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True))
    ours.load_state_dict(state | {"classifier.weight": state["classifier.weight"].flatten(1)})
    theirs.avgpool = nn.AvgPool3d((2, 2, 2))  # its window of 2 x 7 x 7 on 2 x 2 positions
    pixel_values = clips(1, 16, 3, 64, 64)
    with torch.no_grad():
        assert relative_error(ours(pixel_values).logits, theirs(pixel_values.transpose(1, 2))) < 1e-10


@pytest.mark.parametrize(("num_labels", "num_parameters"), [(99, 8_011_523), (400, 8_320_048)])
def test_parameter_counts(num_labels, num_parameters):
    """With 400 classes there are as many as torchvision documents for its weights."""
    with torch.device("meta"):
        model = S3DForVideoClassification(S3DConfig(num_labels=num_labels))
    assert sum(parameter.numel() for parameter in model.parameters()) == num_parameters
    assert sum(parameter.numel() for parameter in model.base_model.parameters()) == 7_910_048


def test_saved_with_its_code_and_checkpointed(tmp_path):
    torch.manual_seed(0)
    model = S3DForVideoClassification(
        S3DConfig(width_multiplier=0.125, depths=[1, 2, 1], num_labels=5, classifier_dropout=0)
    )
    loaded = check_saving_and_checkpointing(model, clips(1, 8, 3, 40, 40).float(), tmp_path)
    assert loaded.config.hidden_size == 128


def test_what_it_cannot_take_is_named():
    with pytest.raises(ValueError, match="num_frames must be at least 5, got 4"):
        S3DConfig(num_frames=4)
    with pytest.raises(ValueError, match="width_multiplier must lie between 0 and 16"):
        S3DConfig(width_multiplier=0)
    with pytest.raises(ValueError, match=r"at most \[2, 5, 2\], got \[2, 6, 2\]"):
        S3DConfig(depths=[2, 6, 2])
    model = S3DModel(S3DConfig(width_multiplier=0.125, depths=[1, 1, 1]))
    for shape in [(1, 4, 3, 32, 32), (1, 8, 3, 32, 16)]:
        with pytest.raises(ValueError, match="at least 5 frames of 17 x 17 pixels"):
            model(clips(*shape).float())
