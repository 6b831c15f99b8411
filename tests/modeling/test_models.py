"""What the three families promise beyond Transformers' own common tests."""

import json

import pytest
import torch
from torch.nn.functional import adaptive_avg_pool1d
from transformers import AutoModel, AutoModelForVideoClassification, BertConfig
from transformers.models.bert.modeling_bert import BertLayer

from modeling_finegym import (
    FineGymVideoTextConfig,
    FineGymVideoTextForVideoClassification,
    FineGymVisionConfig,
    FineGymVisionForVideoClassification,
    FineGymVisionModel,
    SlowOnlyConfig,
    SlowOnlyForVideoClassification,
)
from modeling_finegym.modeling_video_tokens import pool_parts
from tests.small import LABELS, small_model, small_slowonly_config


def backbone(model):
    return model.base_model.backbone


def num_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_full_sizes():
    with torch.device("meta"):
        slowonly = SlowOnlyForVideoClassification(SlowOnlyConfig(num_labels=99))
        vision = FineGymVisionForVideoClassification(FineGymVisionConfig(num_labels=99))
        attributes = {"attribute_names": [str(index) for index in range(66)]}
        cross = FineGymVideoTextForVideoClassification(FineGymVideoTextConfig(num_labels=99, **attributes))
        feature_maps = slowonly.slowonly(torch.empty(1, 32, 3, 224, 224)).last_hidden_state
    assert num_parameters(slowonly.slowonly) == 31_634_496
    assert num_parameters(slowonly) == 31_837_347
    assert feature_maps.shape == (1, 2048, 32, 7, 7)
    # BERT layer 7,087,872; projection 1,573,632; LayerNorm 1,536; 32 positions; classifier 76,131
    assert num_parameters(vision) - num_parameters(backbone(vision)) == (
        3 * 7_087_872 + 1_573_632 + 1_536 + 32 * 768 + 76_131
    )
    assert num_parameters(cross) - num_parameters(backbone(cross)) == 16_108_899


@pytest.mark.parametrize("family", ["vision", "video_text"])
def test_a_frozen_backbone_stays_frozen(family, pixel_values, tmp_path):
    model = small_model(family)
    model.save_pretrained(tmp_path)
    for candidate in (model, AutoModelForVideoClassification.from_pretrained(tmp_path)):
        candidate.train()
        before = {name: tensor.clone() for name, tensor in backbone(candidate).state_dict().items()}
        candidate(pixel_values, labels=torch.tensor([0, 1])).loss.backward()
        assert not any(module.training for block in backbone(candidate).blocks for module in block.modules())
        assert all(parameter.grad is None for parameter in backbone(candidate).parameters())
        assert all(torch.equal(before[name], tensor) for name, tensor in backbone(candidate).state_dict().items())
        trained = [p for name, p in candidate.named_parameters() if "backbone" not in name]
        assert all(parameter.grad is not None for parameter in trained)


def test_the_last_blocks_can_learn(pixel_values):
    model = small_model("vision", num_trainable_blocks=2).train()
    model(pixel_values, labels=torch.tensor([0, 1])).loss.backward()
    learns = [any(p.grad is not None for p in block.parameters()) for block in backbone(model).blocks]
    assert learns == [False, False, False, True, True]
    assert [block.training for block in backbone(model).blocks] == learns


def test_slowonly_freezes_by_its_own_config(pixel_values):
    model = small_model("slowonly", freeze_backbone=True).train()
    model(pixel_values, labels=torch.tensor([0, 1])).loss.backward()
    assert all(parameter.grad is None for parameter in model.slowonly.parameters())
    assert model.classifier.weight.grad is not None


@pytest.mark.parametrize("family", ["vision", "video_text"])
def test_position_embeddings_start_at_a_scale_of_their_own(family):
    config = small_model(family).config
    config.position_initializer_range = 3.0
    model = AutoModelForVideoClassification.from_config(config)
    scales = {name: values.std().item() for name, values in model.named_parameters() if "embeddings.weight" in name}
    large = {name for name, scale in scales.items() if scale > 1}
    assert large == {name for name in scales if "position" in name and "text_embeddings" not in name} != set()


def test_residual_branches_can_start_at_zero():
    config = small_model("slowonly").config
    for zero_init_residual in (True, False):
        config.zero_init_residual = zero_init_residual
        weights = AutoModelForVideoClassification.from_config(config).state_dict()
        scales = torch.cat([values for name, values in weights.items() if "norm_c.weight" in name])
        assert torch.equal(scales, torch.full_like(scales, not zero_init_residual))


@pytest.mark.parametrize("family", ["vision", "video_text"])
def test_features_stand_in_for_frames(family, pixel_values):
    model = small_model(family)
    features = model.get_video_features(pixel_values)
    assert features.shape == (2, 8, 64)
    assert torch.equal(model(pixel_values).logits, model(video_features=features).logits)


def test_encoder_layers_are_berts(pixel_values):
    model = small_model("vision")
    config = BertConfig(hidden_size=32, num_attention_heads=4, intermediate_size=64, attn_implementation="eager")
    features = model.get_video_features(pixel_values)
    tokens = model.finegym_vision.video_embeddings(features)
    for layer in model.finegym_vision.encoder.layer:
        oracle = BertLayer(config).eval()
        oracle.load_state_dict(layer.state_dict())
        tokens = oracle(tokens)
    assert torch.allclose(tokens, model.finegym_vision(video_features=features).last_hidden_state, atol=1e-6)


def test_cross_encoder_by_hand(pixel_values):
    """Follow the paper's section 3.2 step by step: embeddings, positions, types, two layers, mean per modality."""
    model = small_model("video_text")
    base, features = model.finegym_video_text, model.get_video_features(pixel_values)
    video = features @ base.video_embeddings.projection.weight.T + base.video_embeddings.projection.bias
    video = base.video_embeddings.output.LayerNorm(video + base.video_embeddings.position_embeddings.weight)
    text = base.text_embeddings.word_embeddings.weight + base.text_embeddings.position_embeddings.weight
    text = base.text_embeddings.output.LayerNorm(text).expand(2, -1, -1)
    types = base.cross_embeddings.token_type_embeddings.weight
    cross = torch.cat([video + types[0], text + types[1]], 1) + base.cross_embeddings.position_embeddings.weight
    cross = base.cross_embeddings.output.LayerNorm(cross)
    for layer in base.encoder.layer:
        cross = layer(cross)
    pooled = torch.cat([cross[:, :8].mean(1), cross[:, 8:].mean(1)], -1)
    assert torch.allclose(model.classifier(pooled), model(pixel_values).logits, atol=1e-6)


def test_the_text_stream_is_a_set_of_learned_queries(pixel_values):
    """Moving an attribute's three rows together changes nothing: the texts act only through their ids."""
    model = small_model("video_text")
    expected, order = model(pixel_values).logits, torch.tensor([2, 0, 3, 1])
    base = model.finegym_video_text
    with torch.no_grad():
        rows = base.cross_embeddings.position_embeddings.weight[8:]
        for weight in (
            base.text_embeddings.word_embeddings.weight,
            base.text_embeddings.position_embeddings.weight,
            rows,
        ):
            weight.copy_(weight[order].clone())
    assert torch.allclose(model(pixel_values).logits, expected, atol=1e-6)


def test_order_needs_positions(pixel_values):
    features = small_model("vision").get_video_features(pixel_values)
    reverse = features.flip(1)
    with_positions, without = small_model("vision"), small_model("vision", use_position_embeddings=False)
    assert torch.allclose(without(video_features=features).logits, without(video_features=reverse).logits, atol=1e-6)
    difference = with_positions(video_features=features).logits - with_positions(video_features=reverse).logits
    assert difference.abs().max() > 1e-4


@pytest.mark.parametrize(
    ("family", "inputs", "message"),
    [
        (
            "slowonly",
            lambda x: {"pixel_values": x[0]},
            r"batch_size, num_frames, 3, height, width\), got \(8, 3, 32, 32\)",
        ),
        ("slowonly", lambda x: {"pixel_values": x.transpose(1, 2)}, r"got \(2, 3, 8, 32, 32\)"),
        ("slowonly", lambda x: {"pixel_values": x.byte()}, "uint8"),
        ("vision", lambda x: {"pixel_values": x[:, :5]}, "clips of 8 frames, got 5"),
        ("vision", lambda x: {}, "either pixel_values or video_features"),
        ("vision", lambda x: {"video_features": torch.zeros(2, 8, 63)}, r"\(batch_size, 8, 64\), got \(2, 8, 63\)"),
        ("vision", lambda x: {"video_features": torch.zeros(2, 7, 64)}, r"got \(2, 7, 64\)"),
        ("video_text", lambda x: {"pixel_values": x, "attribute_ids": torch.tensor([[0, 4]] * 2)}, "between 0 and 3"),
        ("video_text", lambda x: {"pixel_values": x, "attribute_ids": torch.tensor([[0, 1]])}, r"\(2, up to 4\)"),
    ],
)
def test_a_wrong_input_says_what_was_expected(family, inputs, message, pixel_values):
    with pytest.raises(ValueError, match=message):
        small_model(family)(**inputs(pixel_values))


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (SlowOnlyConfig, {"depths": (1, 2)}, "one entry per stage"),
        (SlowOnlyConfig, {"temporal_kernel_sizes": (1, 1, 2, 3)}, "odd"),
        (SlowOnlyConfig, {"hidden_sizes": (10, 20, 40, 80)}, "multiples of 4"),
        (SlowOnlyConfig, {"num_trainable_blocks": 7}, "between 0 and 4"),
        (FineGymVisionConfig, {"vision_config": {"model_type": "dinov2"}}, "set num_frames"),
        (FineGymVisionConfig, {"vision_config": {"model_type": "resnet"}, "num_frames": 8}, "token layout"),
        (FineGymVisionConfig, {"hidden_size": "wide"}, "hidden_size"),
        (FineGymVisionConfig, {"normalize_features": True, "standardize_features": True}, "exclude each other"),
        (FineGymVisionConfig, {"num_pooled_parts": 65}, "between 0 and 64"),
    ],
)
def test_a_wrong_config_is_refused(config, values, message):
    with pytest.raises(Exception, match=message):
        config(**values)


def test_part_of_the_vocabulary_can_be_asked(pixel_values):
    model = small_model("video_text")
    whole = model(pixel_values, attribute_ids=torch.arange(4).expand(2, -1)).logits
    assert torch.equal(whole, model(pixel_values).logits)
    assert model(pixel_values, attribute_ids=torch.tensor([[1, 2]] * 2)).logits.shape == (2, 3)


def test_auto_model_loads_the_base_of_a_classifier(model, tmp_path, pixel_values):
    model.save_pretrained(tmp_path)
    base, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert report["missing_keys"] == set()
    assert report["unexpected_keys"] == set()
    assert torch.equal(base(pixel_values).pooler_output, model.base_model(pixel_values).pooler_output)


def test_bf16_keeps_the_normalization_in_float32(model, tmp_path, pixel_values):
    model.save_pretrained(tmp_path)
    half, report = AutoModelForVideoClassification.from_pretrained(
        tmp_path, dtype=torch.bfloat16, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert {p.dtype for name, p in half.named_parameters() if ".norm" in name and "blocks" in name} == {torch.float32}
    assert {b.dtype for name, b in half.named_buffers() if "running" in name} == {torch.float32}
    assert half.classifier.weight.dtype == torch.bfloat16
    with torch.no_grad():
        assert torch.allclose(half(pixel_values).logits.float(), model(pixel_values).logits, atol=0.05)


@pytest.mark.parametrize("num_tokens", [1, 2, 6, 16])
def test_parts_are_those_of_adaptive_pooling(num_tokens):
    tokens = torch.rand(2, num_tokens, 3, dtype=torch.float64)
    for num_parts in (1, 2, 3, 5):
        parts = adaptive_avg_pool1d(tokens.transpose(1, 2), num_parts).transpose(1, 2).flatten(1)
        torch.testing.assert_close(pool_parts(tokens, num_parts), torch.cat([tokens.mean(1), parts], 1))
    assert torch.equal(pool_parts(tokens, 0), tokens.mean(1))


@pytest.mark.parametrize("family", ["vision", "video_text"])
def test_pooled_parts_and_standardized_features(family, pixel_values, tmp_path):
    """Constant channels, which are taken off again, and their scale change no answer; the checkpoint keeps both."""
    model = small_model(family, num_pooled_parts=2, standardize_features=True)
    features = model.get_video_features(pixel_values)
    outputs = model.base_model(video_features=features)
    assert outputs.pooler_output.shape == (2, (3 + (family == "video_text")) * model.config.hidden_size)
    assert model(video_features=features).logits.shape == (2, model.config.num_labels)
    logits = model(video_features=features).logits
    norm = model.base_model.video_embeddings.feature_norm
    norm.mean += 5
    norm.std *= 3
    torch.testing.assert_close(model(video_features=3 * features + 5).logits, logits)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForVideoClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded(video_features=3 * features + 5).logits, model(video_features=3 * features + 5).logits)


def test_overfits_eight_clips(request):
    for family in ("slowonly", "vision", "video_text"):
        generator = torch.Generator().manual_seed(5)
        clips = torch.randn(8, 8, 3, 32, 32, generator=generator)
        labels = torch.arange(8) % len(LABELS)
        changes = {} if family == "slowonly" else {"freeze_backbone": False}
        model = small_model(family, **changes).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for _ in range(60):
            optimizer.zero_grad()
            model(clips, labels=labels).loss.backward()
            optimizer.step()
        assert (model.eval()(clips).logits.argmax(-1) == labels).all(), family


def test_vision_model_without_head_is_what_the_classifier_holds():
    assert isinstance(small_model("vision").base_model, FineGymVisionModel)


def test_the_encoder_decides_what_both_configurations_hold(tmp_path):
    for family, config_class in (("vision", FineGymVisionConfig), ("video_text", FineGymVideoTextConfig)):
        config = config_class(vision_config=small_slowonly_config(), num_trainable_blocks=1, num_frames=4)
        config.save_pretrained(tmp_path / family)
        saved = json.loads((tmp_path / family / "config.json").read_text())["vision_config"]
        assert (saved["freeze_backbone"], saved["num_trainable_blocks"], saved["num_frames"]) == (True, 1, 4)


def test_a_configuration_of_an_earlier_version_is_read():
    """Its field counted the stages of this project's backbones and was called after them."""
    saved = small_model("vision", num_trainable_blocks=2).config.to_dict()
    for values in (saved, saved["vision_config"]):
        values["num_trainable_stages"] = values.pop("num_trainable_blocks")
    config = FineGymVisionConfig.from_dict(saved)
    assert (config.num_trainable_blocks, config.vision_config.num_trainable_blocks) == (2, 2)
    assert "num_trainable_stages" not in config.to_json_string()


def test_the_backbone_of_another_model_is_left_as_it_is():
    backbone = small_slowonly_config()
    FineGymVisionConfig(vision_config=backbone, num_trainable_blocks=1)
    assert (backbone.freeze_backbone, backbone.num_trainable_blocks) == (False, 0)


@pytest.mark.parametrize("config_class", [FineGymVisionConfig, FineGymVideoTextConfig])
@pytest.mark.parametrize("num_trainable_blocks", [-1, 5, 6])
def test_an_encoder_cannot_train_blocks_that_its_backbone_lacks(config_class, num_trainable_blocks):
    with pytest.raises(ValueError, match=f"num_trainable_blocks must lie between 0 and 4, got {num_trainable_blocks}"):
        config_class(vision_config=small_slowonly_config(), num_trainable_blocks=num_trainable_blocks)
