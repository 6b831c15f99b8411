"""Mixup against torch's cross entropy with shares as targets."""

import pytest
import torch
from torch.nn import functional as F

from finegym.data.dataset import IGNORED_LABEL
from finegym.training.mixup import mix_clips, sum_mixed_losses


NUM_CLASSES = 5


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_inputs_and_targets_are_mixed_by_the_same_shares():
    """Each clip is its own label, so what a mixed clip holds is what its loss must be measured against."""
    labels = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2])
    inputs = F.one_hot(labels, NUM_CLASSES).double()[:, None].expand(-1, 3, -1)  # (B, T', classes)
    mixed, partners, shares = mix_clips({"video_features": inputs}, labels, alpha=0.4)
    targets = mixed["video_features"][:, 0]
    assert (targets.count_nonzero(1) == 2).sum() >= 4 and torch.allclose(targets.sum(1), torch.ones(8).double())
    logits = torch.randn(8, NUM_CLASSES).double()
    expected = F.cross_entropy(logits, targets, reduction="sum")
    torch.testing.assert_close(
        sum_mixed_losses(logits, labels, partners, shares.double()), expected, rtol=1e-6, atol=0
    )


def test_the_shares_are_drawn_from_the_beta_distribution():
    """Its mean is 1/2 and its variance 1 / (4 (2 alpha + 1))."""
    alpha = 0.3
    _, _, shares = mix_clips({}, torch.zeros(40_000, dtype=torch.long), alpha)
    assert shares.mean().item() == pytest.approx(0.5, abs=0.01)
    assert shares.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)


def test_a_clip_that_could_not_be_read_is_mixed_with_none():
    labels = torch.tensor([0, IGNORED_LABEL, 2, 3])
    frames = torch.randn(4, 2, 3, 8, 8)
    frames[1] = 1e6
    for _ in range(20):
        mixed, partners, shares = mix_clips({"pixel_values": frames}, labels, alpha=1.0)
        unread = (labels == IGNORED_LABEL) | (partners == IGNORED_LABEL)
        assert unread.any() and shares[unread].eq(1).all()
        assert mixed["pixel_values"][[0, 2, 3]].abs().max() < 10
        loss = sum_mixed_losses(torch.zeros(4, NUM_CLASSES), labels, partners, shares)
        torch.testing.assert_close(loss, 3 * torch.tensor(NUM_CLASSES).log())
