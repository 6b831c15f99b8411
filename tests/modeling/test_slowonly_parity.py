"""SlowOnly against pytorchvideo, which computes differently: it convolves in three dimensions."""

import copy

import pytest
import torch
from pytorchvideo.models.resnet import create_resnet
from torch import nn

from modeling_finegym import SlowOnlyConfig, SlowOnlyForVideoClassification, SlowOnlyModel


SMALL = {"stem_width": 16, "hidden_sizes": (64, 128, 256, 512)}  # ResNet-50 at a quarter of its width
# (clips, frames, height, width): the ordinary case, odd sizes, a single frame, fewer pixels than the network's stride
SHAPES = [(2, 4, 64, 64), (1, 3, 45, 37), (2, 1, 50, 34), (1, 2, 9, 17)]


def pytorchvideo_slowonly(*, num_classes: int | None, seed: int = 0) -> nn.Module:
    """Build pytorchvideo's Slow-R50 in the sizes of `SMALL`, with no weight or statistic at its initial value."""
    torch.manual_seed(seed)
    network = create_resnet(
        model_depth=50,
        model_num_class=num_classes or 1,
        stem_dim_out=SMALL["stem_width"],
        stem_conv_kernel_size=(1, 7, 7),
        dropout_rate=0,
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.6, 0.9)
            nn.init.normal_(module.bias, std=0.1)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.8, 1.2)
    # its own head averages windows of fixed size; the paper takes the mean over all of time and space
    network.blocks[-1].pool = nn.AdaptiveAvgPool3d(1)
    network.blocks[-1].output_pool = nn.Identity()
    if num_classes is None:
        network.blocks[-1] = nn.Identity()
    return network


def ours_with_weights_of(network: nn.Module) -> SlowOnlyModel:
    model = SlowOnlyModel(SlowOnlyConfig(**SMALL))
    model.load_state_dict(network.state_dict())
    return model


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def noise(shape: tuple[int, ...], seed: int = 1) -> torch.Tensor:
    """Return frames (B, T, 3, H, W)."""
    batch_size, num_frames, height, width = shape
    return torch.randn(batch_size, num_frames, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_names_and_shapes_are_those_of_slow_r50():
    theirs = create_resnet(model_depth=50, stem_conv_kernel_size=(1, 7, 7), head=None)
    with torch.device("meta"):
        ours = SlowOnlyModel(SlowOnlyConfig())
    expected = {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == expected
    assert sum(parameter.numel() for parameter in ours.parameters()) == 31_634_496


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_gradients", [False, True])
def test_outputs_in_eval_mode(shape, with_gradients):
    theirs = pytorchvideo_slowonly(num_classes=None).eval()
    ours = ours_with_weights_of(theirs).eval()
    pixel_values = noise(shape)
    with torch.set_grad_enabled(with_gradients):
        expected = theirs(pixel_values.transpose(1, 2))
        output = ours(pixel_values)
    assert output.last_hidden_state.shape == expected.shape
    assert relative_error(output.last_hidden_state, expected) < 1e-5
    assert relative_error(output.pooler_output, expected.mean((2, 3, 4))) < 1e-5


@pytest.mark.parametrize("shape", [(2, 4, 64, 64), (1, 3, 45, 37)])
def test_gradients_and_running_statistics_of_a_training_step(shape):
    # Double precision, in which rounding cannot hide a wrong term: single precision leaves the gradients of the first
    # layers only three common digits, in pytorchvideo itself as soon as the order of its sums changes.
    theirs = pytorchvideo_slowonly(num_classes=None).double().train()
    ours = ours_with_weights_of(theirs).double().train()
    pixel_values = noise(shape).double()
    expected = theirs(pixel_values.transpose(1, 2))
    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2)).double()
    (expected * direction).sum().backward()
    output = ours(pixel_values).last_hidden_state
    (output * direction).sum().backward()
    assert relative_error(output, expected) < 1e-10
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    for name, parameter in theirs.named_parameters():
        assert relative_error(gradients[name], parameter.grad) < 1e-8, name
    statistics = dict(ours.named_buffers())
    for name, buffer in theirs.named_buffers():
        torch.testing.assert_close(statistics[name], buffer, rtol=1e-10, atol=1e-12, msg=name)


def test_outputs_and_running_statistics_of_a_training_step_in_single_precision():
    # Other kernels differ by 1.4e-4 here; in double precision, above, the tolerance is strict.
    theirs = pytorchvideo_slowonly(num_classes=None).train()
    ours = ours_with_weights_of(theirs).train()
    pixel_values = noise((2, 4, 64, 64))
    assert relative_error(ours(pixel_values).last_hidden_state, theirs(pixel_values.transpose(1, 2))) < 1e-3
    statistics = dict(ours.named_buffers())
    for name, buffer in theirs.named_buffers():
        assert relative_error(statistics[name].float(), buffer.float()) < 1e-3, name


def test_logits_and_loss():
    theirs = pytorchvideo_slowonly(num_classes=7).eval()
    ours = SlowOnlyForVideoClassification(SlowOnlyConfig(**SMALL, num_labels=7)).eval()
    backbone = {name: tensor for name, tensor in theirs.state_dict().items() if not name.startswith("blocks.5.")}
    ours.slowonly.load_state_dict(backbone)
    ours.classifier.load_state_dict(theirs.blocks[-1].proj.state_dict())
    pixel_values, labels = noise((3, 2, 40, 40)), torch.tensor([0, 6, 3])
    with torch.no_grad():
        expected = theirs(pixel_values.transpose(1, 2)).flatten(1)
        output = ours(pixel_values, labels=labels)
    assert relative_error(output.logits, expected) < 1e-5
    assert output.loss.item() == pytest.approx(nn.functional.cross_entropy(expected, labels).item(), rel=1e-5)


def test_frames_in_chunks_of_every_size_give_the_same(monkeypatch):
    """The number of frames in a chunk affects memory, never the result."""
    theirs = pytorchvideo_slowonly(num_classes=None).eval()
    ours = ours_with_weights_of(theirs).eval()
    pixel_values = noise((3, 5, 64, 64))
    with torch.no_grad():
        expected = theirs(pixel_values.transpose(1, 2))
        for num_bytes in (1, 200_000, 2**30):
            monkeypatch.setattr("modeling_finegym.modeling_slowonly.CHUNK_BYTES", num_bytes)
            assert relative_error(ours(pixel_values).last_hidden_state, expected) < 1e-5


def test_bfloat16_is_close_and_keeps_its_statistics_in_float32(tmp_path):
    theirs = pytorchvideo_slowonly(num_classes=None).eval()
    ours_with_weights_of(theirs).save_pretrained(tmp_path)
    ours = SlowOnlyModel.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    assert ours.blocks[0].conv.weight.dtype == torch.bfloat16
    assert {module.running_var.dtype for module in ours.modules() if isinstance(module, nn.BatchNorm2d)} == {
        torch.float32
    }
    pixel_values = noise((1, 4, 64, 64))
    with torch.no_grad():
        expected = theirs(pixel_values.transpose(1, 2))
        output = ours(pixel_values).last_hidden_state
    assert output.dtype == torch.bfloat16
    assert ((output.float() - expected).norm() / expected.norm()).item() < 0.03


def test_folding_changes_nothing_that_is_saved():
    ours = ours_with_weights_of(pytorchvideo_slowonly(num_classes=None)).eval()
    before = copy.deepcopy(ours.state_dict())
    with torch.no_grad():
        ours(noise((1, 2, 32, 32)))
    after = ours.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_folded_weights_follow_the_weights():
    """Inference between training steps uses the new weights, not those that were folded before."""
    ours = ours_with_weights_of(pytorchvideo_slowonly(num_classes=None)).eval()
    pixel_values = noise((1, 2, 32, 32))
    with torch.no_grad():
        ours(pixel_values)
    other = pytorchvideo_slowonly(num_classes=None, seed=5).eval()
    ours.load_state_dict(other.state_dict())
    with torch.no_grad():
        assert relative_error(ours(pixel_values).last_hidden_state, other(pixel_values.transpose(1, 2))) < 1e-5
