"""What the comparisons with networks of other projects share."""

import torch
from torch import nn
from transformers import AutoModel, AutoModelForVideoClassification, PreTrainedModel


def clips(*shape: int) -> torch.Tensor:
    """Return frames (B, T, C, H, W) that all differ."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).double()


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def randomize(network: nn.Module) -> None:
    """
    Move every weight and statistic of normalization away from its initial value, and let convolutions keep the
    variance of their input, so that what the network sees reaches its output.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            nn.init.uniform_(module.weight, 0.6, 0.9)
            nn.init.normal_(module.bias, std=0.1)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.8, 1.2)


def check_training_step(ours: nn.Module, theirs: nn.Module, output: torch.Tensor, expected: torch.Tensor) -> None:
    """Check that both networks, which list their layers in the same order, have the same gradients and statistics."""
    (expected**2).sum().backward()
    (output**2).sum().backward()
    largest = max(parameter.grad.abs().max() for parameter in theirs.parameters())
    for (name, parameter), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert (parameter.grad - other.grad).abs().max() < 1e-9 * largest, name
    for (name, buffer), other in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(buffer, other, rtol=1e-9, atol=1e-11, msg=name)


def check_saving_and_checkpointing(
    model: PreTrainedModel, pixel_values: torch.Tensor, folder, label: int = 3
) -> PreTrainedModel:
    """
    Check that the Auto classes load a classifier with and without its own code, that the base model is a part of it,
    and that gradient checkpointing changes no gradient. The model must have no dropout. Return the loaded classifier.
    """
    model.eval().save_pretrained(folder)
    logits = model(pixel_values).logits
    for options in ({}, {"trust_remote_code": True}):
        loaded = AutoModelForVideoClassification.from_pretrained(folder, **options).eval()
        torch.testing.assert_close(loaded(pixel_values).logits, logits)
    base = AutoModel.from_pretrained(folder).eval()
    torch.testing.assert_close(base(pixel_values).pooler_output, model.base_model(pixel_values).pooler_output)
    model.train()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.zero_grad()
        model(pixel_values.expand(2, -1, -1, -1, -1), labels=torch.tensor([0, label])).loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients):
        torch.testing.assert_close(checkpointed, plain)
    return loaded
