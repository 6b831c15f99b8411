"""Explanations of models whose answer is known, and of small random models against sums done by hand."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from finegym.commands.line import main
from finegym.data.labels import ActionClass, Labels
from finegym.evaluation.attribution import Target, attribute_encoder, attribute_network, rollout
from finegym.evaluation.explain import find_class, load_clip
from modeling_finegym import FineGymVideoProcessor, FineGymVideoTextConfig, FineGymVideoTextForVideoClassification
from modeling_finegym.video_decoding import open_video
from tests.small import LABELS, small_model, small_slowonly_config


MOMENT, ATTRIBUTE = 5, 2  # of 8 moments and 4 attributes


@pytest.fixture(scope="module")
def known():
    """A cross encoder in which attribute 2 looks for the event, and class 1 is said if it finds it; and such a clip.

    Tokens are pairs of opposite coordinates, which LayerNorm leaves alone: (0, 1) a quiet moment, (2, 3) the event,
    (4, 5) attribute 2, (6, 7) the other attributes. Only attribute 2 attends to the event, only the event has a value,
    and the classifier reads the text alone.
    """
    config = FineGymVideoTextConfig(
        vision_config=small_slowonly_config(),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        attribute_names=["", "leap", "jump", "0.5 turn"],
        use_position_embeddings=False,
        use_token_type_embeddings=False,
        id2label={0: "nothing", 1: "jump"},
        label2id={"nothing": 0, "jump": 1},
    )
    model = FineGymVideoTextForVideoClassification(config).eval()
    axes = torch.eye(8)
    quiet, event, seeking, other = (axes[place] - axes[place + 1] for place in (0, 2, 4, 6))
    answer = axes[0] + axes[1] - axes[2] - axes[3]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "backbone" not in name and "LayerNorm.weight" not in name:
                parameter.zero_()
        base, layer = model.base_model, model.base_model.encoder.layer[0]
        base.video_embeddings.projection.weight[:, 0], base.video_embeddings.projection.weight[:, 1] = quiet, event
        base.text_embeddings.word_embeddings.weight[:] = other
        base.text_embeddings.word_embeddings.weight[ATTRIBUTE] = seeking
        query = torch.outer(event, seeking) + 4 * torch.outer(other, other) + 4 * torch.outer(quiet, quiet + event)
        layer.attention.self.query.weight.copy_(query)
        layer.attention.self.key.weight.copy_(axes)
        layer.attention.self.value.weight.copy_(torch.outer(answer, event) / 2)
        layer.attention.output.dense.weight.copy_(axes)
        model.classifier.weight[1, 8:] = answer
    features = torch.zeros(1, 8, config.video_feature_size)
    features[:, :, 0] = 1
    features[:, MOMENT, :2] = torch.tensor([0.5, 1.0])  # a pure event would leave LayerNorm no gradient
    return model, features


@pytest.mark.filterwarnings("error")
def test_every_method_finds_the_one_moment_and_the_one_attribute(known):
    model, features = known
    with torch.no_grad():
        assert model(video_features=features).logits[0, 1] > 1
        assert model(video_features=features[:, :1].expand(-1, 8, -1)).logits.abs().max() < 1e-3, "no event, no answer"
    for target in (Target(1), Target(1, contrast=0)):
        found = attribute_encoder(model, features, target, [1, ATTRIBUTE])
        assert found.rows == ["leap", "jump", "all other attributes", "video tokens"]
        for name, values in found.over_time.items():
            if not name.startswith("attention"):
                assert values[1].argmax() == MOMENT and values[1, MOMENT] > 0.01, name
                assert values[[0, 2, 3]].abs().max() < 0.02 * values[1, MOMENT], name
            else:
                assert values[1].argmax() == MOMENT, name
        assert found.over_time["attention, layer 1"][1, MOMENT] > 0.8
        for name, values in found.over_attributes.items():
            assert values.argmax() == ATTRIBUTE, name
            assert values[[0, 1, 3]].abs().max() < 0.02 * values[ATTRIBUTE], name


@pytest.mark.parametrize(
    "fields",
    [{}, {"num_pooled_parts": 3}, {"spatial_grid_size": 2, "num_pooling_queries": 2}],
    ids=["mean", "parts", "space"],
)
@pytest.mark.parametrize("family", ["video_text", "vision"])
def test_integrated_gradients_are_complete_and_occlusion_is_a_difference_of_logits(family, fields):
    model = small_model(family, **fields)
    num_places = model.config.num_places
    features = torch.randn(1, 8 * num_places, 64, generator=torch.Generator().manual_seed(0))
    baseline = features.view(1, 8, num_places, 64).mean(1, keepdim=True).expand(-1, 8, -1, -1).flatten(1, 2)
    for target in (Target(2), Target(2, contrast=0)):

        def logit(target=target, **inputs):
            with torch.no_grad():
                return target.of(model(**inputs).logits)[0].item()

        found = attribute_encoder(model, features, target, [1, 3] if family == "video_text" else [])
        whole = logit(video_features=features) - logit(video_features=baseline)
        assert found.over_time["integrated gradients"].sum().item() == pytest.approx(whole, abs=1e-4)
        assert found.completeness == pytest.approx((whole, whole), abs=1e-4)
        for moment in range(8):
            without = features.clone()
            tokens = slice(moment * num_places, (moment + 1) * num_places)
            without[:, tokens] = baseline[:, tokens]
            change = logit(video_features=features) - logit(video_features=without)
            assert found.over_time["occlusion"][:, moment].sum().item() == pytest.approx(change, abs=1e-5)
        if family == "video_text":
            ids = torch.arange(4)[None]
            blank = logit(video_features=features) - logit(video_features=features, attribute_ids=0 * ids)
            assert found.over_attributes["integrated gradients"].sum().item() == pytest.approx(blank, abs=1e-4)
            for attribute in range(4):
                blanked = torch.where(ids == attribute, 0, ids)
                change = logit(video_features=features) - logit(video_features=features, attribute_ids=blanked)
                assert found.over_attributes["occlusion"][attribute].item() == pytest.approx(change, abs=1e-5)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_attention_is_the_models_own_and_rollout_is_the_papers():
    model = small_model("video_text")
    features = torch.randn(1, 8, 64, generator=torch.Generator().manual_seed(0))
    found = attribute_encoder(model, features, Target(0), [1, 3]).over_time
    assert model.config._attn_implementation != "eager", "the model is left as it was"
    model.set_attn_implementation("eager")
    layers = [layer[0].mean(0).detach() for layer in model(video_features=features, output_attentions=True).attentions]
    for number, whole in enumerate(layers, start=1):
        torch.testing.assert_close(whole.sum(-1), torch.ones(12))
        expected = torch.stack([whole[9, :8], whole[11, :8], whole[[8, 10], :8].mean(0), whole[:8, :8].mean(0)])
        torch.testing.assert_close(found[f"attention, layer {number}"], expected)
    by_hand = torch.eye(12).double()
    for whole in layers:
        by_hand = (whole.double() + torch.eye(12)) / 2 @ by_hand
    torch.testing.assert_close(found["attention rollout"][0], by_hand[9, :8].float())
    torch.testing.assert_close(rollout(torch.stack(layers)).sum(-1), torch.ones(12))


@pytest.mark.parametrize("contrast", [None, 2])
def test_grad_cam_is_the_classifiers_share_of_every_place(contrast):
    model, target = small_model("slowonly"), Target(1, contrast)
    pixels = torch.randn(1, 8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = attribute_network(model, pixels, target)
    with torch.no_grad():
        maps = model.base_model(pixels).last_hidden_state[0]  # (channels, T, h, w)
        logits = model(pixels).logits[0]
        weight, bias = model.classifier.weight, model.classifier.bias
        expected = torch.einsum("c,cthw->thw", target.of(weight.T), maps) / maps[0].numel()
        torch.testing.assert_close(found.over_space, expected)
        assert found.over_space.sum().item() == pytest.approx((target.of(logits) - target.of(bias)).item(), abs=1e-5)
        without = pixels.clone()
        without[:, 3] = pixels.mean(1)
        change = target.of(logits) - target.of(model(without).logits[0])
    assert found.over_time["occlusion"][0, 3].item() == pytest.approx(change.item(), abs=1e-5)


def checkpoint_of(family, folder):
    small_model(family).save_pretrained(folder)
    size = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
    FineGymVideoProcessor(**size, num_frames=8, frame_interval=2, frame_rate=25).save_pretrained(folder)
    classes = [ActionClass(label, name, name, attributes=(label + 1,)) for label, name in LABELS.items()]
    Labels("small", classes, ["", "leap", "jump", "0.5 turn"]).write(folder / "labels.json")
    return folder


@pytest.mark.parametrize(
    "family", ["video_text", *(pytest.param(family, marks=pytest.mark.slow) for family in ("vision", "slowonly"))]
)
def test_the_command_draws_and_writes_numbers(family, tmp_path, video_path, capsys):
    folder, output = checkpoint_of(family, tmp_path / family), tmp_path / "why.png"
    with torch.no_grad(), open_video(video_path) as file:
        clip = load_clip(FineGymVideoProcessor.from_pretrained(folder), file)
        other = small_model(family)(pixel_values=clip.pixel_values).logits[0].argmin().item()
    arguments = ["explain", str(video_path), "--model", str(folder), "--output", str(output)]
    assert main([*arguments, "--contrast", str(other)]) == 0
    capsys.readouterr()
    numbers = json.loads(output.with_suffix(".json").read_text())
    assert numbers["contrast"] == LABELS[other] and numbers["scores"][0]["label"] == numbers["class"]
    assert len(numbers["moment_times"]) == len(numbers["frame_times"]) == 8
    assert (numbers["over_space"] is not None) == (family == "slowonly")
    if family == "video_text":
        assert numbers["attributes_of_class"] and len(numbers["over_time"]["occlusion"]) == 5
        assert numbers["integrated_gradients_sum"] == pytest.approx(numbers["difference_of_logits"], abs=1e-3)
    with Image.open(output) as image:
        assert min(image.size) > 300 and len(set(image.convert("L").tobytes())) > 50
    assert output.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    assert main([*arguments, "--contrast", numbers["class"]]) == 1
    assert "give another class as the contrast" in capsys.readouterr().err
    assert main([*arguments, "--contrast", "cartwheel"]) == 1
    assert "No class of this model matches 'cartwheel'" in capsys.readouterr().err


def test_the_clip_is_the_processors_and_its_times_are_the_files(tmp_path, video_path):
    processor = FineGymVideoProcessor(
        size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}, num_frames=8, frame_interval=3
    )
    with open_video(video_path) as file:
        clip = load_clip(processor, file)
    torch.testing.assert_close(clip.pixel_values, processor(str(video_path), return_tensors="pt").pixel_values)
    np.testing.assert_allclose(np.diff(clip.times), 3 / 25, atol=1e-4)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (processor.image_mean, processor.image_std))
    shown = (torch.from_numpy(clip.frames).permute(0, 3, 1, 2) / 255 - mean) / std
    assert (shown - clip.pixel_values[0]).abs().max() < 0.02


def test_a_class_is_found_by_id_name_or_part():
    names = ["split leap", "switch leap", "2"]
    assert [find_class(text, names) for text in ("split leap", "SWITCH", "1", "2")] == [0, 1, 1, 2]
    with pytest.raises(ValueError, match="2 classes of this model matches 'leap': split leap; switch leap"):
        find_class("leap", names)
