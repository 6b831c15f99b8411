"""BN-Inception against Cadene's, and TRN's relations against a sum written from `itertools.combinations`."""

import itertools

import pytest
import torch
from pretrainedmodels.models.bninception import BNInception
from torch import nn

from modeling_finegym import (
    BNInceptionConfig,
    BNInceptionForVideoClassification,
    BNInceptionModel,
    TrnConfig,
    TrnForVideoClassification,
)
from tests.modeling.parity import check_saving_and_checkpointing, check_training_step, clips, randomize, relative_error


@pytest.fixture
def pair() -> tuple[nn.Module, BNInceptionModel]:
    """Build Cadene's network, and ours with its weights: both list their layers in the order of the data."""
    torch.manual_seed(0)
    theirs = BNInception(num_classes=5).double()
    randomize(theirs)
    del theirs.last_linear
    ours = BNInceptionModel(BNInceptionConfig()).double()
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    return theirs, ours


def test_feature_maps(pair):
    theirs, ours = (network.eval() for network in pair)
    for shape in [(2, 3, 3, 64, 64), (1, 2, 3, 96, 64)]:
        pixel_values = clips(*shape)
        with torch.no_grad():
            expected = theirs.features(pixel_values.flatten(0, 1)).unflatten(0, shape[:2]).transpose(1, 2)
            output = ours(pixel_values)
            assert relative_error(output.last_hidden_state, expected) < 1e-10
            assert relative_error(ours.get_video_features(pixel_values), expected.mean((3, 4)).transpose(1, 2)) < 1e-10
            states = ours(pixel_values, output_hidden_states=True).hidden_states  # not in chunks
            assert relative_error(states[-1], expected) < 1e-10
    assert relative_error(ours(pixel_values).last_hidden_state, expected) < 1e-10  # with gradients, unfolded


def test_gradients_and_running_statistics_of_a_training_step(pair):
    theirs, ours = (network.train() for network in pair)
    pixel_values = clips(2, 2, 3, 64, 64)
    expected, output = theirs.features(pixel_values.flatten(0, 1)), ours(pixel_values).last_hidden_state
    check_training_step(ours, theirs, output, expected)


def test_the_logits_are_the_mean_of_the_frames(pair):
    """TSN: a classifier on each frame, and the mean of its logits."""
    theirs, ours = (network.eval() for network in pair)
    model = BNInceptionForVideoClassification(BNInceptionConfig(num_labels=5)).double().eval()
    model.bn_inception.load_state_dict(ours.state_dict())
    pixel_values = clips(1, 3, 3, 64, 64)
    with torch.no_grad():
        frames = theirs.features(pixel_values[0]).mean((2, 3))
        assert relative_error(model(pixel_values).logits[0], model.classifier(frames).mean(0)) < 1e-10


def relations_of(model: TrnForVideoClassification, frames: torch.Tensor, chosen: dict[int, list]) -> torch.Tensor:
    """Return the logits of TRN as published: for each number of frames the sum over the relations chosen."""
    logits = torch.zeros(len(frames), model.num_labels, dtype=frames.dtype)
    for scale, relations in zip(range(frames.shape[1], 1, -1), model.relations, strict=True):
        network = nn.Sequential(nn.ReLU(), relations.hidden, nn.ReLU(), relations.classifier)
        for places in chosen[scale]:
            logits += network(torch.cat([frames[:, place] for place in places], dim=1))
    return logits


def small_trn(num_frames: int, **changes) -> TrnForVideoClassification:
    torch.manual_seed(0)
    backbone = BNInceptionConfig(width_multiplier=0.125, depths=(1, 1, 1))
    settings = {"num_frames": num_frames, "hidden_size": 16, "num_labels": 5, "initializer_range": 0.1}
    model = TrnForVideoClassification(TrnConfig(vision_config=backbone, classifier_dropout=0, **settings, **changes))
    return model.double().eval()


@pytest.mark.parametrize("num_frames", [3, 5])
def test_relations(num_frames):
    model = small_trn(num_frames)
    features = clips(2, num_frames, 128)
    with torch.no_grad():
        frames = model.trn.projection(features)
        relations = {
            scale: list(itertools.combinations(range(num_frames), scale)) for scale in range(2, num_frames + 1)
        }
        if num_frames == 3:  # all relations are as many as are drawn
            expected = relations_of(model, frames, relations)
        else:  # the mean over everything that could have been drawn
            single = [
                relations_of(model, frames, {other: [one] if other == scale else [] for other in relations})
                * min(3, len(all))
                / len(all)
                for scale, all in relations.items()
                for one in all
            ]
            expected = sum(single)
        logits = model(video_features=features).logits
        assert relative_error(logits, expected) < 1e-10
        assert relative_error(model(video_features=features.flip(1)).logits, logits) > 1e-3  # in their order


def test_training_draws_three_relations_of_each_number_of_frames():
    model = small_trn(4).train()
    features = clips(2, 4, 128)
    frames = model.trn.projection(features)
    pairs, triples = (list(itertools.combinations(range(4), scale)) for scale in (2, 3))
    sums = {
        (first, second): relations_of(model, frames, {4: [(0, 1, 2, 3)], 3: first, 2: second})
        for first in itertools.combinations(triples, 3)
        for second in itertools.combinations(pairs, 3)
    }
    drawn = set()
    for seed in range(12):
        torch.manual_seed(seed)
        logits = model(video_features=features).logits
        found = [draw for draw, expected in sums.items() if relative_error(logits, expected) < 1e-10]
        assert len(found) == 1
        drawn |= set(found)
    assert len(drawn) > 6


@pytest.mark.parametrize(
    ("config", "num_parameters"),
    [
        (BNInceptionConfig(num_labels=99), 10_371_715),
        (BNInceptionConfig(num_labels=99, num_channels=10), 10_393_667),
        (TrnConfig(num_labels=99), 10_911_718),
        (TrnConfig(num_labels=99, num_frames=8), 13_006_293),
    ],
    ids=["TSN", "TSN on flow", "TRN of 3", "TRN of 8"],
)
def test_parameter_counts(config, num_parameters):
    classes = {"bn_inception": BNInceptionForVideoClassification, "trn": TrnForVideoClassification}
    with torch.device("meta"):
        model = classes[config.model_type](config)
    assert sum(parameter.numel() for parameter in model.parameters()) == num_parameters


def test_tsn_saved_with_its_code_and_checkpointed(tmp_path):
    config = BNInceptionConfig(width_multiplier=0.125, depths=[1, 2, 1], num_labels=5, classifier_dropout=0)
    check_saving_and_checkpointing(BNInceptionForVideoClassification(config), clips(1, 3, 3, 32, 32).float(), tmp_path)


def test_trn_saved_with_its_code_and_checkpointed(tmp_path):
    loaded = check_saving_and_checkpointing(small_trn(3).float(), clips(1, 3, 3, 32, 32).float(), tmp_path)
    assert loaded.config.vision_config.model_type == "bn_inception"


def test_what_they_cannot_take_is_named():
    with pytest.raises(ValueError, match="multiples of 32 pixels, got 64 x 48"):
        BNInceptionModel(BNInceptionConfig(width_multiplier=0.125, depths=[1, 1, 1]))(clips(1, 2, 3, 64, 48).float())
    for num_frames in (1, 13):
        with pytest.raises(ValueError, match=f"between 2 to 12 frames, got {num_frames}"):
            TrnConfig(num_frames=num_frames)
    with pytest.raises(ValueError, match="num_sampled_relations must be at least 1"):
        TrnConfig(num_sampled_relations=0)
