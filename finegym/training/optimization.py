"""How the weights move: parameter groups, the learning rate of a step, batch normalization and the moving average."""

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .recipe_sections import OptimizationRecipe


BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def parameter_groups(model: nn.Module, recipe: OptimizationRecipe) -> list[dict]:
    """Return the trainable parameters in groups of one learning rate and one weight decay.

    Not decayed are parameters of at most one dimension (biases, normalization) and embeddings of positions and token
    types, as in Video-Swin's recipe, which the paper's AdamW numbers follow; with `decay_all` all are decayed.
    """
    groups: dict[tuple[float, float], dict] = {}
    scales = backbone_lr_scales(model, recipe)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        exempt = not recipe.decay_all and (
            parameter.ndim <= 1 or "position_embeddings" in name or "token_type" in name
        )
        lr_scale = scales.get(name, 1.0)
        weight_decay = 0.0 if exempt else recipe.weight_decay
        group = groups.setdefault(
            (lr_scale, weight_decay), {"params": [], "names": [], "lr_scale": lr_scale, "weight_decay": weight_decay}
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def backbone_lr_scales(model: nn.Module, recipe: OptimizationRecipe) -> dict[str, float]:
    """Return the factor on the learning rate of every trainable parameter of an encoder's backbone, by name.

    The last block has `backbone_lr_scale`, each block before it `layer_lr_decay` times that of the next (BEiT, arXiv
    2106.08254, counts alike). What lies before the blocks counts as one more, what lies behind them as the last.
    LoRA's matrices start from nothing, as the encoder does, and learn at its rate.

    Raises:
        ValueError: If there is a decay and no block learns.
    """
    scales: dict[str, float] = {}
    blocks = getattr(getattr(model, "base_model", model), "backbone_blocks", [])
    numbers = {id(parameter): number for number, block in enumerate(blocks, 1) for parameter in block.parameters()}
    last = 0
    for name, parameter in model.named_parameters():
        if "backbone" not in name.split("."):
            continue
        last = numbers.get(id(parameter), last)
        if parameter.requires_grad and "lora_" not in name:
            decay = 1.0 if recipe.layer_lr_decay is None else recipe.layer_lr_decay
            scales[name] = recipe.backbone_lr_scale * decay ** (len(blocks) - last)
    if recipe.layer_lr_decay is not None and not scales:
        raise ValueError(
            "optimization.layer_lr_decay is for the blocks of a backbone that learns: set "
            "model.config.num_trainable_blocks, or freeze_backbone: false."
        )
    return scales


def checkpoint_gradients(model: nn.Module) -> None:
    """Let every block compute again in the backward pass what it would otherwise keep.

    Raises:
        ValueError: If a block has batch normalization that learns, whose statistics would move twice.
    """
    for name, block in model.named_modules():
        is_live = any(isinstance(module, BATCH_NORMS) and module.training for module in block.modules())
        if isinstance(block, GradientCheckpointingLayer) and is_live:
            raise ValueError(
                f"optimization.gradient_checkpointing would move the statistics of {name} twice in a step: set "
                "optimization.batch_norm: frozen."
            )
    # its name before and since Transformers 5.20
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    for module in model.modules():
        if hasattr(module, "timm_model"):
            module.timm_model.set_grad_checkpointing(True)


def build_optimizer(model: nn.Module, recipe: OptimizationRecipe) -> torch.optim.Optimizer:
    """Return SGD with momentum, or AdamW, over `parameter_groups`.

    Raises:
        ValueError: If every parameter is frozen.
    """
    groups = parameter_groups(model, recipe)
    if not groups:
        raise ValueError("Every parameter of this model is frozen, so there is nothing to train.")
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum)
    # On a CPU the fused step takes half the time of the one that goes from tensor to tensor.
    fused = all(parameter.device.type == "cpu" for group in groups for parameter in group["params"]) or None
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, eps=recipe.eps, fused=fused)


def learning_rate_factor(step: int, steps_per_epoch: int, recipe: OptimizationRecipe) -> float:
    """Return the factor on the peak learning rate in a step: a pure function, so that nothing needs to be saved.

    The warm-up rises linearly, step by step, and reaches 1 at its last step. After it, "cosine" falls from 1 to 0 over
    the remaining steps; "step" is `gamma` to the number of milestones (in epochs) that have passed.
    """
    num_steps = recipe.epochs * steps_per_epoch
    num_warmup_steps = round(recipe.warmup_epochs * steps_per_epoch)
    if step < num_warmup_steps:
        return (step + 1) / num_warmup_steps
    if recipe.schedule == "step":
        return recipe.gamma ** sum(step >= milestone * steps_per_epoch for milestone in recipe.milestones)
    progress = (step - num_warmup_steps) / max(1, num_steps - num_warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Give every group this learning rate times its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["lr_scale"]


def prepare_batch_norm(model: nn.Module, kind: str) -> nn.Module:
    """Make batch normalization live (as it is), sync (statistics over all processes), frozen, or partial: frozen but
    for the first layer (TSN, arXiv 1608.00859, section 3.2).

    Frozen layers keep their statistics, scale and shift; `train_mode` keeps them in eval mode.

    Raises:
        ValueError: If `kind` is "sync" without CUDA, where torch has no kernel for it.
    """
    if kind == "sync":
        if not torch.cuda.is_available():
            raise ValueError("optimization.batch_norm: sync needs CUDA; on a CPU use live or frozen.")
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in frozen_batch_norms(model, kind):
        module.requires_grad_(False)
    return model


def train_mode(model: nn.Module, batch_norm: str) -> None:
    """Put the model into training mode, with frozen batch normalization left in eval mode."""
    model.train()
    for module in frozen_batch_norms(model, batch_norm):
        module.eval()


def frozen_batch_norms(model: nn.Module, kind: str) -> list[nn.Module]:
    """Return the normalizations that stay as they were at the start."""
    layers = [module for module in model.modules() if isinstance(module, BATCH_NORMS)]
    return {"frozen": layers, "partial": layers[1:]}.get(kind, [])


class MovingAverage:
    """An exponential moving average of a model's trainable weights; buffers stay the model's own."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.averages = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        torch._foreach_lerp_(list(self.averages.values()), list(self.parameters.values()), 1 - self.decay)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averaged weights within the block."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, parameter in self.parameters.items():
            own = parameter.detach().clone()
            parameter.copy_(self.averages[name])
            self.averages[name].copy_(own)


def averaged(average: MovingAverage | None) -> contextlib.AbstractContextManager:
    """Return a block in which the model uses its averaged weights, if there are any."""
    return contextlib.nullcontext() if average is None else average.applied()
