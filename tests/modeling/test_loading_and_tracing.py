"""However a model is loaded, placed, checkpointed or traced, it gives the plain model's numbers."""

import copy

import pytest
import torch
from transformers import AutoModel, AutoModelForVideoClassification
from transformers.utils import is_flash_attn_2_available

from modeling_finegym import VideoResNetConfig
from tests.small import FAMILIES, small_model


# The cross encoder traces every layer of the vision encoder and its own, so the latter is traced by the slow tests.
TRACED = pytest.mark.parametrize(
    "model", ["slowonly", pytest.param("vision", marks=pytest.mark.slow), "video_text"], indirect=True
)


def logits(model, pixel_values: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(pixel_values).logits


def test_built_without_memory_and_then_loaded(tmp_path, model, pixel_values):
    model.save_pretrained(tmp_path)
    with torch.device("meta"):
        empty = type(model)(model.config)
    assert {tensor.device.type for tensor in empty.state_dict().values()} == {"meta"}
    loaded = AutoModelForVideoClassification.from_pretrained(tmp_path).eval()
    assert {tensor.device.type for tensor in [*loaded.parameters(), *loaded.buffers()]} == {"cpu"}
    torch.testing.assert_close(logits(loaded, pixel_values), logits(model, pixel_values))


def test_placed_by_a_device_map(tmp_path, model, pixel_values):
    model.save_pretrained(tmp_path)
    for device_map in ("cpu", "auto", {"": "cpu"}):
        placed = AutoModelForVideoClassification.from_pretrained(tmp_path, device_map=device_map).eval()
        torch.testing.assert_close(logits(placed, pixel_values), logits(model, pixel_values))


def test_with_stages_left_on_disk(tmp_path, model, pixel_values):
    """Offloaded weights are present only while their modules run."""
    model.save_pretrained(tmp_path / "checkpoint")
    prefix = next(name for name, _ in model.named_parameters() if ".blocks.0." in name).split("blocks.0.")[0]
    names = {name.split(".")[0] for name, _ in model.named_parameters()} - {prefix.split(".")[0]}
    device_map = dict.fromkeys(names, "cpu") | {f"{prefix}blocks.{index}": "disk" for index in range(3)}
    device_map |= {f"{prefix}blocks.{index}": "cpu" for index in range(3, 5)}
    # the rest of an encoder, beside its backbone
    inside = [name for name, _ in model.base_model.named_children() if name not in ("blocks", "backbone")]
    device_map |= {f"{model.base_model_prefix}.{name}": "cpu" for name in inside}
    placed = AutoModelForVideoClassification.from_pretrained(
        tmp_path / "checkpoint", device_map=device_map, offload_folder=tmp_path / "offload"
    ).eval()
    assert "meta" in {parameter.device.type for parameter in placed.parameters()}
    torch.testing.assert_close(logits(placed, pixel_values), logits(model, pixel_values), rtol=1e-4, atol=1e-5)


def test_gradient_checkpointing_changes_no_gradient(model, pixel_values):
    model.config.freeze_backbone = False
    model = type(model)(model.config).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    labels, gradients = torch.tensor([0, 2]), []
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for checkpoints in (False, True):
        model.load_state_dict(state)
        if checkpoints:
            model.gradient_checkpointing_enable()
        model.zero_grad()
        model(pixel_values, labels=labels).loss.backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_exported_for_any_number_of_clips(model, pixel_values):
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(model, (), {"pixel_values": pixel_values}, dynamic_shapes={"pixel_values": batch})
    for batch_size in (1, 2, 5):
        others = torch.randn(batch_size, *pixel_values.shape[1:])
        torch.testing.assert_close(
            program.module()(pixel_values=others).logits, logits(model, others), rtol=1e-4, atol=1e-5
        )


@TRACED
def test_compiled_for_inference_as_one_graph(model, pixel_values):
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(logits(compiled, pixel_values), logits(model, pixel_values), rtol=1e-4, atol=1e-5)


@TRACED
def test_compiled_for_training(model, pixel_values):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    plain = copy.deepcopy(model).train()
    compiled = torch.compile(model.train(), backend="aot_eager", fullgraph=True)
    for network in (plain, compiled):
        network(pixel_values=pixel_values, labels=torch.tensor([0, 2])).loss.backward()
    for (name, expected), parameter in zip(plain.named_parameters(), model.parameters(), strict=True):
        if expected.grad is not None:
            torch.testing.assert_close(parameter.grad, expected.grad, rtol=1e-3, atol=1e-4, msg=name)
    for (name, expected), buffer in zip(plain.named_buffers(), model.buffers(), strict=True):
        torch.testing.assert_close(buffer, expected, msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_attention_implementation_may_be_asked_for(family, tmp_path, pixel_values):
    """The backbone has no attention, and so accepts every implementation."""
    model = small_model(family)
    model.save_pretrained(tmp_path)
    load = AutoModelForVideoClassification.from_pretrained
    for implementation in ("eager", "sdpa", "flex_attention"):
        loaded = load(tmp_path, attn_implementation=implementation).eval()
        assert loaded.config._attn_implementation == implementation
        if implementation != "flex_attention":  # which needs a compiler to run
            with torch.no_grad():
                torch.testing.assert_close(loaded(pixel_values).logits, model(pixel_values).logits)
    if not is_flash_attn_2_available():
        with pytest.raises(ImportError, match="FlashAttention2.*installed"):
            load(tmp_path, attn_implementation="flash_attention_2")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_built_in_a_short_type_as_it_is_loaded_in_it(tmp_path, model, dtype):
    """Batch normalization stays in float32 either way."""
    model.save_pretrained(tmp_path)
    loaded = AutoModelForVideoClassification.from_pretrained(tmp_path, dtype=dtype)
    built = AutoModelForVideoClassification.from_config(copy.deepcopy(model.config), dtype=dtype)
    types = {name: tensor.dtype for name, tensor in built.state_dict().items() if tensor.is_floating_point()}
    assert types == {name: loaded.state_dict()[name].dtype for name in types}
    assert {types[name] for name in types if name.endswith("running_var")} == {torch.float32}
    assert types["classifier.weight"] == dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_non_local_block_built_in_a_short_type_normalizes_in_float32(dtype):
    sizes = {"stem_width": 8, "hidden_sizes": (16, 32), "depths": (1, 1), "temporal_kernel_sizes": (1, 1)}
    config = VideoResNetConfig(num_frames=4, image_size=32, non_local_blocks=([], [0]), **sizes)
    model = AutoModel.from_config(config, dtype=dtype).eval()
    types = {name: tensor.dtype for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    assert any("non_local_blocks" in name and types[name] == dtype for name in types)
    assert {types[name] for name in types if "norm" in name} == {torch.float32}
    with torch.no_grad():
        assert model(torch.zeros(1, 4, 3, 32, 32, dtype=dtype)).last_hidden_state.dtype == dtype
