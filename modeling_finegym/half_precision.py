"""Compute weights of half precision in float32 where the processor has no arithmetic for them.

There torch computes a bfloat16 convolution or product several times slower than a float32 one.
"""

import threading
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils._pytree import tree_map


# What `torch.cpu.get_capabilities` calls a processor's arithmetic for a type: of x86, and of ARM.
ARITHMETIC = {
    torch.bfloat16: ("avx512_bf16", "amx_bf16", "avx10_2", "bf16"),
    torch.float16: ("avx512_fp16", "amx_fp16", "avx10_2", "fp16_arith"),
}

# The weights of a model are exchanged while it runs, so such models run one at a time. Of each model, its weights in
# float32, and the address and version of those that they were made of.
_one_at_a_time = threading.RLock()
_copies: weakref.WeakKeyDictionary[nn.Module, dict[str, tuple[tuple[int, int], torch.Tensor]]]
_copies = weakref.WeakKeyDictionary()


def has_arithmetic(dtype: torch.dtype) -> bool:
    """
    Return whether the processor says that it computes with numbers of this type, rather than convert each. Where torch
    does not know (before 2.11), the answer is yes: torch then decides alone.
    """
    if dtype not in ARITHMETIC or not hasattr(torch.cpu, "get_capabilities"):
        return True
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ARITHMETIC[dtype])


class HalfPrecisionMixin:
    """
    Makes a model of bfloat16 or float16 weights compute in float32, in eval mode, on processors without arithmetic for
    that type. Weights, `dtype` and the type of the outputs stay what they are; only the results between them are more
    precise. The first call keeps a float32 copy of the weights, of twice their size, for those that follow.
    """

    def __call__(self, *args, **kwargs):
        return in_float32_if_faster(self, super().__call__, *args, **kwargs)


def in_float32_if_faster(model: nn.Module, function: Callable, *args, **kwargs) -> Any:
    """Return `function(*args, **kwargs)`, which runs `model`, computed as [`HalfPrecisionMixin`] says."""
    is_recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if model.training or is_recorded or (model not in _copies and has_arithmetic(model.dtype)):
        return function(*args, **kwargs)
    with _one_at_a_time:
        return in_float32(model, function, *args, **kwargs)


def in_float32(model: nn.Module, function: Callable, *args, **kwargs) -> Any:
    """Return `function(*args, **kwargs)`, which runs `model`, with weights and inputs of `model.dtype` in float32 and
    outputs in `model.dtype`. The weights of a model that is not on the CPU stay as they are."""
    dtype = model.dtype
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    if dtype not in ARITHMETIC or any(tensor.device.type != "cpu" for tensor in tensors.values()):
        _copies.pop(model, None)
        return function(*args, **kwargs)
    weights = _float32_copies(model, {name: tensor for name, tensor in tensors.items() if tensor.dtype == dtype})
    inputs = tree_map(lambda value: _convert(value, dtype, torch.float32), (args, kwargs))
    outputs = functional_call(_Calling(model, function), weights, *inputs)
    return tree_map(lambda value: _convert(value, torch.float32, dtype), outputs)


def _float32_copies(model: nn.Module, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors in float32 under their names in `_Calling`; those made before where they are unchanged."""
    before, copies, weights = _copies.get(model, {}), {}, {}
    for name, tensor in tensors.items():
        if tensor.is_inference() or (tensor.requires_grad and torch.is_grad_enabled()):
            weights[f"model.{name}"] = tensor.float()  # a copy would have no gradient
            continue
        source = (tensor.data_ptr(), tensor._version)
        if before.get(name, (None,))[0] != source:
            with torch.inference_mode(False), torch.no_grad():
                before[name] = source, tensor.float()
        copies[name] = before[name]
        weights[f"model.{name}"] = copies[name][1]
    _copies[model] = copies
    return weights


def _convert(value: Any, before: torch.dtype, after: torch.dtype) -> Any:
    is_converted = isinstance(value, torch.Tensor) and value.dtype == before and value.ndim > 0  # a loss stays
    return value.to(after) if is_converted else value


class _Calling(nn.Module):
    """A function that runs a model, as a module around it, which `functional_call` asks for."""

    def __init__(self, model: nn.Module, function: Callable):
        super().__init__()
        self.model, self.function = model, function

    def forward(self, *args, **kwargs):
        return self.function(*args, **kwargs)


__all__ = ["HalfPrecisionMixin", "has_arithmetic", "in_float32", "in_float32_if_faster"]
