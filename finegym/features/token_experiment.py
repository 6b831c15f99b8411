"""What a backbone gives, and a small experiment that proves the order of its tokens."""

from dataclasses import dataclass

import torch
from torch import nn

from modeling_finegym import FineGymVisionModel


# How much farther than any other a token must move to be where the change was.
CLEARLY = 1.5


@dataclass(frozen=True)
class TokenReport:
    """What a backbone gives for one clip.

    Attributes:
        num_moments: T', the frames or tubelets that it tells apart.
        num_places: P, the places of each.
        num_channels: The channels C of a token.
        time_contrast: How much farther the tokens of a changed moment move than those of any other; infinite where no
            other moves.
        space_contrast: Likewise for a place.
        trained_bytes: The memory that a forward pass keeps for a backward pass through all of it.
    """

    num_moments: int
    num_places: int
    num_channels: int
    time_contrast: float
    space_contrast: float
    trained_bytes: int

    @property
    def is_proved(self) -> bool:
        """Whether the tokens moved where the layout says."""
        return min(self.time_contrast, self.space_contrast) > CLEARLY

    def feature_bytes(self, grid_size: int | None) -> int:
        """Return the size of a clip's cached features in float16, on a grid or, with None, of all places."""
        num_places = self.num_places if grid_size is None else grid_size**2
        return 2 * self.num_moments * num_places * self.num_channels


def examine_tokens(model: FineGymVisionModel, size: int) -> TokenReport:
    """Move one moment and one corner of a random clip, and see which tokens move.

    The tokens are read after the first layer, where attention has mixed them least; where the layers before the last
    have another form, at the end.

    Args:
        model: The backbone under an encoder that keeps all places (`spatial_grid_size="all"`), in eval mode.
        size: The height and width of a frame in pixels.

    Raises:
        ValueError: If the model gives another number of tokens than its layout says.
    """
    config = model.config
    generator = torch.Generator().manual_seed(0)
    num_channels = getattr(config.vision_config, "num_channels", None) or 3
    clip = torch.randn(1, config.num_frames, num_channels, size, size, generator=generator).to(model.device)
    read_at = config.backbone_layers
    if not config.has_own_backbone and hasattr(config.vision_config, "num_hidden_layers"):
        config.backbone_layers = (1,)
    try:
        contrasts = _contrast_of_moment(model, clip), _contrast_of_corner(model, clip)
    finally:
        config.backbone_layers = read_at
    features = model.read_features(clip, None)
    num_places = features.shape[1] // config.num_moments
    return TokenReport(config.num_moments, num_places, features.shape[2], *contrasts, _trained_bytes(model, clip))


@torch.no_grad()
def _movement(model: FineGymVisionModel, clip: torch.Tensor, changed: torch.Tensor) -> torch.Tensor:
    """Return how far each token moves, (T', P)."""
    moved = (model.get_video_features(changed) - model.get_video_features(clip))[0].norm(dim=-1)
    return moved.unflatten(0, (model.config.num_moments, -1))


def _contrast_of_moment(model: FineGymVisionModel, clip: torch.Tensor) -> float:
    num_moments = model.config.num_moments
    if num_moments == 1:
        return float("inf")
    moment = num_moments // 2
    changed = clip.clone()
    changed[:, moment * clip.shape[1] // num_moments] *= -1
    return _contrast(_movement(model, clip, changed).mean(1), moment)


def _contrast_of_corner(model: FineGymVisionModel, clip: torch.Tensor) -> float:
    num_places = model.config.num_places
    side = round(num_places**0.5)
    if num_places == 1:
        return float("inf")
    changed = clip.clone()
    cell = clip.shape[-1] // side
    changed[..., :cell, -cell:] *= -1  # the upper right one: rows and columns cannot be mistaken
    return _contrast(_movement(model, clip, changed).mean(0), side - 1)


def _contrast(moved: torch.Tensor, place: int) -> float:
    others = torch.cat([moved[:place], moved[place + 1 :]]).max().item()
    return moved[place].item() / others if others else float("inf")


def _trained_bytes(model: nn.Module, clip: torch.Tensor) -> int:
    """Return the bytes of what autograd keeps, without the weights."""
    required = {parameter: parameter.requires_grad for parameter in model.parameters()}
    weights = {parameter.untyped_storage().data_ptr() for parameter in required}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.requires_grad_(True)
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model.get_video_features(clip)
    finally:
        for parameter, was_required in required.items():
            parameter.requires_grad_(was_required)
    return sum(kept.values())


__all__ = ["TokenReport", "examine_tokens"]
