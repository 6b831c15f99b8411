"""Weights of half precision computed in float32 where the processor has no arithmetic for them."""

import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForVideoClassification

from modeling_finegym.half_precision import has_arithmetic, in_float32, in_float32_if_faster
from tests.foreign import SIZE, on_foreign


def halved(model, folder, dtype=torch.bfloat16):
    """Return the model as it is loaded in a short type, and a float32 model of the same, rounded weights."""
    model.save_pretrained(folder)
    load = AutoModelForVideoClassification.from_pretrained
    half, rounded = load(folder, dtype=dtype).eval(), load(folder).eval()
    rounded.load_state_dict({name: tensor.float() for name, tensor in half.state_dict().items()})
    return half, rounded


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the flags of /proc/cpuinfo have other names elsewhere")
def test_the_processor_says_what_it_computes_with():
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")).split()
    assert has_arithmetic(torch.bfloat16) == bool({"avx512_bf16", "amx_bf16"} & set(flags))
    assert has_arithmetic(torch.float16) == bool({"avx512_fp16", "amx_fp16"} & set(flags))
    assert has_arithmetic(torch.float32) and has_arithmetic(torch.float64)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_answers_are_those_of_the_rounded_weights_in_float32(model, tmp_path, pixel_values, dtype):
    half, rounded = halved(model, tmp_path, dtype)
    with torch.no_grad():
        expected = rounded(pixel_values, labels=torch.tensor([1, 2]))
        answer = in_float32(half, half.forward, pixel_values, labels=torch.tensor([1, 2]))
        assert torch.equal(answer.logits, expected.logits.to(dtype)) and answer.loss == expected.loss
        assert torch.equal(in_float32(half, half.forward, pixel_values, return_dict=False)[0], answer.logits)
        called = half(pixel_values).logits
    assert called.dtype == half.dtype == half.classifier.weight.dtype == dtype
    torch.testing.assert_close(called, answer.logits, **({"atol": 0.05, "rtol": 0} if has_arithmetic(dtype) else {}))


def test_copies_follow_the_weights(model, tmp_path, pixel_values):
    half, rounded = halved(model, tmp_path)
    state = {name: tensor.clone() for name, tensor in half.state_dict().items()}

    def logits():
        return in_float32(half, half.forward, pixel_values).logits

    with torch.no_grad():
        before = logits()
        half.classifier.weight.mul_(2)
        rounded.classifier.weight.mul_(2)
        assert torch.equal(logits(), rounded(pixel_values).logits.bfloat16()) and not torch.equal(logits(), before)
        half.load_state_dict(state)
        assert torch.equal(logits(), before)
        half.float()
        assert logits().dtype == half(pixel_values).logits.dtype == torch.float32
        half.to(torch.bfloat16)
        assert half(pixel_values).logits.dtype == torch.bfloat16


def test_gradients_reach_the_weights(model, tmp_path, pixel_values):
    half, rounded = halved(model, tmp_path)
    with torch.no_grad():
        in_float32(half, half.forward, pixel_values)  # keeps copies, which have no gradients
    in_float32(half, half.forward, pixel_values, labels=torch.tensor([1, 2])).loss.backward()
    rounded(pixel_values, labels=torch.tensor([1, 2])).loss.backward()
    for expected, parameter in zip(rounded.parameters(), half.parameters(), strict=True):
        assert (parameter.grad is None) == (expected.grad is None)
        if expected.grad is not None:
            assert torch.equal(parameter.grad, expected.grad.to(parameter.dtype))


def test_a_backbone_of_transformers_too():
    """Its features are computed by a method, and their code is not this project's."""
    half = on_foreign("videomae").to(torch.bfloat16).eval()
    rounded = on_foreign("videomae").eval()
    rounded.load_state_dict({name: tensor.float() for name, tensor in half.state_dict().items()})
    pixel_values = torch.randn(2, half.config.num_frames, 3, SIZE, SIZE)
    with torch.inference_mode():
        expected = rounded.get_video_features(pixel_values).bfloat16()
        assert torch.equal(in_float32(half, half._compute_features, pixel_values), expected)
        if not has_arithmetic(torch.bfloat16):
            assert torch.equal(half.get_video_features(pixel_values), expected)
    with torch.no_grad():  # after copies were made in inference mode
        assert torch.equal(in_float32(half, half._compute_features, pixel_values), expected)


def test_threads_do_not_see_each_other_s_weights(model, tmp_path, pixel_values):
    half, _ = halved(model, tmp_path)

    def answer(_) -> torch.Tensor:
        with torch.no_grad():
            return in_float32_if_faster(half, half.forward, pixel_values.bfloat16()).logits

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(answer, range(12))
    assert first.dtype == torch.bfloat16 and all(torch.equal(first, other) for other in others)
