"""Mixup: the clips of a forward pass mixed in pairs, and the loss of what they then show (Zhang et al., ICLR 2018)."""

import torch
from torch.nn import functional as F

from finegym.data.dataset import IGNORED_LABEL


def mix_clips(
    inputs: dict[str, torch.Tensor], labels: torch.Tensor, alpha: float
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Mix every clip with another of the same forward pass, by a share of its own.

    Args:
        inputs: Frames or features, each (B, ...).
        labels: The classes (B,). A clip that could not be read, or whose partner could not, stays as it is.
        alpha: The shares are drawn from Beta(alpha, alpha), with torch's global generator.

    Returns:
        The mixed inputs, the labels of the partners (B,), and the shares (B,) of the clips' own labels.
    """
    order = torch.randperm(len(labels)).to(labels.device)
    shares = torch.distributions.Beta(alpha, alpha).sample((len(labels),)).to(labels.device)
    partners = labels[order]
    shares = shares.masked_fill((labels == IGNORED_LABEL) | (partners == IGNORED_LABEL), 1.0)
    mixed = {}
    for name, values in inputs.items():
        own = shares.to(values.dtype).view(-1, *[1] * (values.ndim - 1))
        mixed[name] = own * values + (1 - own) * values[order]
    return mixed, partners, shares


def sum_mixed_losses(
    logits: torch.Tensor, labels: torch.Tensor, partners: torch.Tensor, shares: torch.Tensor
) -> torch.Tensor:
    """Return the cross entropies with both labels, weighted by their shares, summed over the clips."""
    own = F.cross_entropy(logits, labels, reduction="none")
    return (shares * own + (1 - shares) * F.cross_entropy(logits, partners, reduction="none")).sum()
