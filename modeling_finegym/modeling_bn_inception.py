"""BN-Inception, the network of TSN and TRN: a 2-D network on each frame (arXiv 1502.03167).

Shapes: B clips, T frames, C channels, H x W pixels.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_backbones import BNInceptionConfig, InceptionConfig
from .factorized_conv import convolve_and_normalize
from .modeling_slowonly import BatchNorm, SlowOnlyForVideoClassification, SlowOnlyModel, SlowOnlyPreTrainedModel


class FrameConv2d(nn.Conv2d):
    """A k x k convolution of frames with a bias, under the protocol of [`FactorizedConv3d`]."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2)

    def forward(self, frames: torch.Tensor, num_frames: int) -> torch.Tensor:
        return super().forward(frames)

    def convolve(
        self, frames: torch.Tensor, num_frames: int, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """Convolve with other weights of the same shape and a bias of shape `(out_channels,)`."""
        return F.conv2d(frames, weight, bias, self.stride, self.padding)


class ConvNorm(nn.Module):
    """A convolution, its normalization and a ReLU."""

    def __init__(self, config: InceptionConfig, conv: nn.Module):
        super().__init__()
        self.conv = conv
        self.norm = BatchNorm(config, conv.out_channels)

    def forward(self, frames: torch.Tensor, num_frames: int) -> torch.Tensor:
        return F.relu(convolve_and_normalize(frames, num_frames, self.conv, self.norm), inplace=True)


class BNInceptionStem(nn.Module):
    """Three convolutions and two maxima: (B*T, C, H, W) -> (B*T, 192, H/8, W/8)."""

    def __init__(self, config: BNInceptionConfig):
        super().__init__()
        width = config.widen(64)
        self.conv1 = ConvNorm(config, FrameConv2d(config.num_channels, width, 7, stride=2))
        self.conv2_reduce = ConvNorm(config, FrameConv2d(width, width))
        self.conv2 = ConvNorm(config, FrameConv2d(width, config.widen(192), 3))

    @property
    def conv(self) -> nn.Module:
        return self.conv1.conv

    def shorten(self, num_frames: int) -> int:
        return num_frames

    def forward(self, frames: torch.Tensor, num_frames: int) -> torch.Tensor:
        frames = F.max_pool2d(self.conv1(frames, num_frames), kernel_size=3, stride=2, ceil_mode=True)
        frames = self.conv2(self.conv2_reduce(frames, num_frames), num_frames)
        return F.max_pool2d(frames, kernel_size=3, stride=2, ceil_mode=True)


class BNInceptionBlock(GradientCheckpointingLayer):
    """Up to four branches beside each other: 1x1, 3x3, two 3x3, and a pool with its projection."""

    def __init__(self, config: BNInceptionConfig, in_channels: int, widths: tuple):
        super().__init__()
        point, (reduced, middle), (reduced_twice, first, second), (self.pool, pooled) = widths
        stride = 1 if point else 2

        def layer(width_in: int, width: int, *kernel: int) -> ConvNorm:
            return ConvNorm(config, FrameConv2d(width_in, config.widen(width), *kernel))

        self.conv_1x1 = layer(in_channels, point) if point else None
        self.conv_3x3 = nn.ModuleList(
            [layer(in_channels, reduced), layer(config.widen(reduced), middle, 3, stride)],
        )
        self.double_3x3 = nn.ModuleList(
            [
                layer(in_channels, reduced_twice),
                layer(config.widen(reduced_twice), first, 3),
                layer(config.widen(first), second, 3, stride),
            ]
        )
        self.pool_proj = layer(in_channels, pooled) if pooled else None

    def forward(self, frames: torch.Tensor, num_frames: int) -> torch.Tensor:
        branches = [] if self.conv_1x1 is None else [self.conv_1x1(frames, num_frames)]
        for layers in (self.conv_3x3, self.double_3x3):
            branch = frames
            for layer in layers:
                branch = layer(branch, num_frames)
            branches.append(branch)
        if self.pool_proj is None:
            branches.append(F.max_pool2d(frames, kernel_size=3, stride=2, ceil_mode=True))
        else:
            pool = F.avg_pool2d if self.pool == "average" else F.max_pool2d
            branches.append(self.pool_proj(pool(frames, kernel_size=3, stride=1, padding=1), num_frames))
        return torch.cat(branches, dim=1)


class BNInceptionStage(nn.Module):
    """Blocks; the last one of the first two stages halves height and width."""

    sees_single_frames = True

    def __init__(self, config: BNInceptionConfig, index: int):
        super().__init__()
        in_channels = config.widen(192)
        for stage in range(index):
            for widths in config.blocks_of(stage):
                in_channels = config.count_channels(widths, in_channels)
        self.blocks = nn.ModuleList()
        for widths in config.blocks_of(index):
            self.blocks.append(BNInceptionBlock(config, in_channels, widths))
            in_channels = config.count_channels(widths, in_channels)

    def shorten(self, num_frames: int) -> int:
        return num_frames

    def forward(self, frames: torch.Tensor, num_frames: int) -> torch.Tensor:
        for block in self.blocks:
            frames = block(frames, num_frames)
        return frames


class BNInceptionPreTrainedModel(SlowOnlyPreTrainedModel):
    config_class = BNInceptionConfig
    base_model_prefix = "bn_inception"
    _no_split_modules = ["BNInceptionBlock"]
    _keep_in_fp32_modules_strict = ["norm"]


class BNInceptionModel(BNInceptionPreTrainedModel, SlowOnlyModel):
    """
    BN-Inception without a classifier: feature maps of shape `(B, 1024, T, H/32, W/32)`. Its arguments and outputs are
    those of [`SlowOnlyModel`]; height and width are multiples of 32.
    """

    stem_class, stage_class = BNInceptionStem, BNInceptionStage

    def forward(self, pixel_values: torch.Tensor, output_hidden_states: bool | None = None, **kwargs):
        """See [`SlowOnlyModel.forward`]. Raise a `ValueError` where height or width is no multiple of 32 as well."""
        if pixel_values is not None and any(size % 32 for size in pixel_values.shape[-2:]):
            height, width = pixel_values.shape[-2:]
            raise ValueError(f"BN-Inception takes frames of multiples of 32 pixels, got {height} x {width}.")
        return super().forward(pixel_values, output_hidden_states=output_hidden_states, **kwargs)


class BNInceptionForVideoClassification(BNInceptionPreTrainedModel, SlowOnlyForVideoClassification):
    """TSN: BN-Inception on each frame, the mean over space and frames, dropout and a linear classifier."""

    model_class = BNInceptionModel


__all__ = ["BNInceptionForVideoClassification", "BNInceptionModel", "BNInceptionPreTrainedModel"]
