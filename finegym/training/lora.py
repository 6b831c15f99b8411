"""LoRA: small matrices that learn beside a backbone's frozen weights, through Transformers' PEFT integration."""

import logging
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from modeling_finegym.configuration_token_layouts import TOKEN_LAYOUTS

from .recipe_sections import LoraRecipe


logger = logging.getLogger(__name__)

# Where a checkpoint keeps the matrices alone, as `load_adapter` of the backbone reads them.
ADAPTER_FOLDER = "adapter"


def add_lora(model: PreTrainedModel, recipe: LoraRecipe) -> None:
    """Add trainable matrices to the backbone of a model, whose own weights stay frozen.

    Raises:
        ImportError: If PEFT is not installed.
        ValueError: If the backbone is one of this project, or has no linear layers of the names that are asked for.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ImportError("model.lora needs PEFT: run `pip install 'peft>=0.18'`.") from error
    targets = find_targets(model, recipe.targets)
    backbone = model.base_model.backbone
    alpha = 2 * recipe.rank if recipe.alpha is None else recipe.alpha
    backbone.add_adapter(LoraConfig(r=recipe.rank, lora_alpha=alpha, target_modules=targets))
    model.train(model.training)  # which freezes all the rest
    matrices = [parameter for name, parameter in backbone.named_parameters() if "lora_" in name]
    num_new, num_all = (sum(one.numel() for one in some) for some in (matrices, backbone.parameters()))
    share = 100 * num_new / (num_all - num_new)
    logger.info(f"LoRA learns {num_new:,} weights in {len(targets)} layers, {share:.2f} % of the backbone's number.")


def find_targets(model: PreTrainedModel, names: tuple[str, ...] | None) -> list[str]:
    """Return the linear layers of the backbone's blocks that have one of these last names, or are its attention's.

    Raises:
        ValueError: If there is none, or a name is not found.
    """
    base = model.base_model
    model_type = base.config.vision_config.model_type
    if base.has_own_backbone:
        raise ValueError(
            f"model.lora is for backbones of Transformers: {model_type} has no linear layers. Set "
            "model.config.num_trainable_blocks to train its last stages."
        )
    inside = {id(module) for block in base.backbone_blocks for module in block.modules()}
    layers = [
        name
        for name, module in base.backbone.named_modules()
        if isinstance(module, nn.Linear) and id(module) in inside
    ]
    if names is None:
        names = TOKEN_LAYOUTS[model_type].attention if model_type in TOKEN_LAYOUTS else ()
    missing = [name for name in names if not any(layer.rpartition(".")[2] == name for layer in layers)]
    if missing or not names:
        known = sorted({layer.rpartition(".")[2] for layer in layers})
        wrong = f"{missing[0]} is not among" if missing else "choose from"
        raise ValueError(f"model.lora.targets: {wrong} the linear layers of {model_type}, which are {known}.")
    return [layer for layer in layers if layer.rpartition(".")[2] in names]


@torch.no_grad()
def merged_state(model: PreTrainedModel) -> dict[str, torch.Tensor] | None:
    """Return the weights of a model with LoRA's products added to its layers, under the names that these have without
    LoRA; None for a model without LoRA. The model stays as it is."""
    adapted = {name: module for name, module in model.named_modules() if hasattr(module, "get_delta_weight")}
    if not adapted:
        return None
    state = {}
    for name, tensor in model.state_dict().items():
        if ".lora_" not in name:
            state[name.replace(".base_layer.", ".")] = tensor
    for name, module in adapted.items():
        state[f"{name}.weight"] = state[f"{name}.weight"] + module.get_delta_weight("default")
    return state


def save_adapter(model: PreTrainedModel, folder: Path, backbone: str | None) -> None:
    """Write LoRA's matrices alone, in PEFT's format: `load_adapter` gives them to the backbone that they belong to."""
    adapted = model.base_model.backbone
    for config in adapted.peft_config.values():
        config.base_model_name_or_path = backbone
    adapted.save_pretrained(folder)


__all__ = ["ADAPTER_FOLDER", "add_lora", "find_targets", "merged_state", "save_adapter"]
