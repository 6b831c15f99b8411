"""How the vision models of Transformers lay out their tokens: the one table of what is known about each."""

from typing import NamedTuple

from transformers import PreTrainedConfig


class TokenLayout(NamedTuple):
    r"""
    The order of the tokens in a model's `last_hidden_state`.

    Args:
        num_prefix_tokens (`int`, *optional*): Tokens before the patches, beside registers, which the model's
            configuration counts. None where only the model itself knows.
        order (`str`): Whether a whole frame's patches follow one another ("time"), a place's moments do ("space"), or
            the model sees one "frame".
        source (`str`): The class of Transformers that this was read from.
        attention (`tuple[str]`): The names of the linear layers of its attention, which LoRA adapts by default.
    """

    num_prefix_tokens: int | None
    order: str
    source: str
    attention: tuple[str, ...]


_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
_OPENAI = ("q_proj", "k_proj", "v_proj", "out_proj")

# By model_type. `finegym doctor --backbone` proves a row by experiment.
TOKEN_LAYOUTS = {
    "videomae": TokenLayout(0, "time", "VideoMAEPatchEmbeddings", ("query", "key", "value")),
    "vjepa2": TokenLayout(0, "time", "VJEPA2PatchEmbeddings3D", ("query", "key", "value", "proj")),
    "videoprism_vision_model": TokenLayout(0, "time", "VideoPrismVisionModel", _PROJECTIONS),
    "vivit": TokenLayout(1, "time", "VivitTubeletEmbeddings", _PROJECTIONS),
    "timesformer": TokenLayout(1, "space", "TimesformerEmbeddings", ("qkv",)),
    "vit": TokenLayout(1, "frame", "ViTEmbeddings", _PROJECTIONS),
    "dinov2": TokenLayout(1, "frame", "Dinov2Embeddings", _PROJECTIONS),
    "dinov2_with_registers": TokenLayout(1, "frame", "Dinov2WithRegistersEmbeddings", _PROJECTIONS),
    "dinov3_vit": TokenLayout(1, "frame", "DINOv3ViTEmbeddings", _PROJECTIONS),
    "clip_vision_model": TokenLayout(1, "frame", "CLIPVisionEmbeddings", _OPENAI),
    "siglip_vision_model": TokenLayout(0, "frame", "SiglipVisionEmbeddings", _OPENAI),
    "siglip2_vision_model": TokenLayout(0, "frame", "Siglip2VisionEmbeddings", _OPENAI),
    "ijepa": TokenLayout(0, "frame", "IJepaEmbeddings", _PROJECTIONS),
    "timm_wrapper": TokenLayout(None, "frame", "timm's VisionTransformer.num_prefix_tokens", ("qkv", "proj")),
}


def known_layout(config: PreTrainedConfig) -> tuple[int | None, str | None]:
    """Return how many tokens of a model of Transformers, with registers, precede the patches, and their order; None
    for what is not known."""
    layout = TOKEN_LAYOUTS.get(config.model_type)
    if layout is None or layout.num_prefix_tokens is None:
        return None, None if layout is None else layout.order
    return layout.num_prefix_tokens + (getattr(config, "num_register_tokens", 0) or 0), layout.order
