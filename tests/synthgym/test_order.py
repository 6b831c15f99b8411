"""The order split has series of two jumps, whose classes differ only in which comes first.

The encoder reads the figure's joints in place of a backbone's features, so the test shows whether order can be told at
all; `make bench-synthgym` measures what is reached from pixels.
"""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from finegym.data.labels import Labels
from finegym.synthgym.generate import LABELS, plan
from finegym.synthgym.motions import compose
from finegym.synthgym.simulation import simulate
from modeling_finegym import FineGymVisionConfig, FineGymVisionForVideoClassification, SlowOnlyConfig
from modeling_finegym.clip_sampling import sample_clips


NUM_FRAMES, NUM_FEATURES = 16, 56


@pytest.fixture(scope="module")
def series():
    """Joints (N, 16, 56) relative to the hips, sampled as SynthGym's recipes do, and classes (N,), per split."""
    labels, splits = Labels.read(LABELS["order"]), {}
    for split, count in (("train", 24), ("val", 12)):
        wanted = [(split, action.id, number) for action in labels.classes for number in range(count)]
        performances = [
            performance
            for video in plan(labels, wanted, 0, frame_rates=(25.0,))
            for event in video.events
            for performance in event.performances
        ]
        features = []
        for performance in performances:
            rng = np.random.default_rng(performance.seed)
            joints = simulate(
                compose(performance.event, performance.attributes, rng), performance.event, performance.fps
            ).joints
            indices = sample_clips(len(joints), clip_len=NUM_FRAMES, frame_interval=3, num_clips=1)[0][0]
            around_hips = (joints - joints[:, :1])[indices].reshape(NUM_FRAMES, -1)
            features.append(np.pad(around_hips, ((0, 0), (0, NUM_FEATURES - around_hips.shape[1]))))
        splits[split] = np.array(features, np.float32), np.array([performance.label for performance in performances])
    return splits


def accuracy_of_encoder(series, *, use_position_embeddings: bool) -> float:
    torch.manual_seed(0)
    backbone = SlowOnlyConfig(hidden_sizes=(8, 8, 8, NUM_FEATURES), stem_width=8, num_frames=NUM_FRAMES)
    config = FineGymVisionConfig(
        vision_config=backbone,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        num_labels=8,
        use_position_embeddings=use_position_embeddings,
    )
    model = FineGymVisionForVideoClassification(config)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    (features, labels), (val_features, val_labels) = (tuple(map(torch.as_tensor, series[k])) for k in ("train", "val"))
    model.train()
    for _ in range(15):
        for batch in torch.randperm(len(labels)).split(16):
            optimizer.zero_grad()
            model(video_features=features[batch], labels=labels[batch]).loss.backward()
            optimizer.step()
    with torch.no_grad():
        answers = model.eval()(video_features=val_features).logits.argmax(-1)
    return 100 * (answers == val_labels).float().mean().item()


def test_an_encoder_with_positions_tells_the_order_and_one_without_does_not(series):
    # knowing the two jumps but not their order is right half the time
    assert accuracy_of_encoder(series, use_position_embeddings=True) > 85
    assert accuracy_of_encoder(series, use_position_embeddings=False) < 65


def test_a_mean_over_time_does_not_tell_the_order(series):
    (features, labels), (val_features, val_labels) = series["train"], series["val"]
    scaler = StandardScaler().fit(features.mean(1))
    control = LogisticRegression(C=1.0, max_iter=2000).fit(scaler.transform(features.mean(1)), labels)
    assert 100 * control.score(scaler.transform(val_features.mean(1)), val_labels) < 65
