"""A small network can tell from one frame whether the figure shows her chest or back; counting turns needs this."""

import numpy as np
import pytest
import torch
from torch import nn

from finegym.data.labels import Labels
from finegym.synthgym.generate import LABELS
from finegym.synthgym.motions import compose
from finegym.synthgym.scene import render
from finegym.synthgym.simulation import simulate


SIZE = 64
NUM_STEPS = 600


def frames_and_facing(num_repetitions, seed):
    """Return every third frame of `num_repetitions` videos of every class: (N, 3, S, S) uint8 and (N,) bool."""
    labels = Labels.read(LABELS["class"])
    frames, facing = [], []
    for repetition in range(num_repetitions):
        for action in labels.classes:
            rng = np.random.default_rng([seed, repetition, action.id])
            attributes = [labels.attributes[index] for index in action.attributes]
            shown = render(simulate(compose(action.event, attributes, rng), action.event, 25.0), rng, size=SIZE)
            frames.append(shown.frames[::3])
            facing.append(shown.facing[::3] > 0)
    return torch.from_numpy(np.concatenate(frames)).permute(0, 3, 1, 2), torch.from_numpy(np.concatenate(facing))


def block(num_in, num_out, stride):
    return nn.Sequential(
        nn.Conv2d(num_in, num_out, 3, stride, 1, bias=False), nn.BatchNorm2d(num_out), nn.ReLU(inplace=True)
    )


@pytest.mark.slow
def test_a_small_network_reads_the_facing():
    torch.manual_seed(0)
    frames, facing = frames_and_facing(9, seed=1)  # 252 videos
    stages = [block(3, 16, 2), block(16, 32, 2), block(32, 64, 2), block(64, 64, 1), block(64, 64, 2)]
    network = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=NUM_STEPS)
    for _ in range(NUM_STEPS):
        picks = torch.randint(len(frames), (64,))
        batch = frames[picks].float() / 128 - 1
        batch = torch.roll(batch, torch.randint(-4, 5, (2,)).tolist(), (2, 3))
        batch = batch.flip(3) if torch.rand(()) < 0.5 else batch
        loss = nn.functional.binary_cross_entropy_with_logits(network(batch)[:, 0], facing[picks].float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    frames, facing = frames_and_facing(4, seed=2)
    with torch.no_grad():
        guess = torch.cat([network(part.float() / 128 - 1)[:, 0] > 0 for part in frames.split(256)])
    accuracy = (guess == facing).float().mean().item()
    assert 0.4 < facing.float().mean() < 0.6
    assert accuracy > 0.8, f"{100 * accuracy:.1f} % of the frames: front and back have become hard to tell apart"
