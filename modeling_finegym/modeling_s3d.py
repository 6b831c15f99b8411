"""S3D: Inception blocks over video whose kernels are separated into space and time (arXiv 1712.04851), in the form of
torchvision, without the gates of S3D-G. All of it is computed in two dimensions, as in `factorized_conv`.

Shapes: B clips, T frames, C channels, H x W pixels.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_backbones import S3DConfig
from .factorized_conv import FactorizedConv3d, frames_to_planes, planes_to_frames
from .modeling_bn_inception import ConvNorm
from .modeling_slowonly import SlowOnlyForVideoClassification, SlowOnlyModel, SlowOnlyPreTrainedModel


class SeparableConv(nn.Module):
    """A k x k x k convolution as 1 x k x k, which takes the stride in space, and k x 1 x 1, which takes it in time."""

    def __init__(self, config: S3DConfig, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1):
        super().__init__()
        space = FactorizedConv3d(in_channels, out_channels, space=kernel_size, stride=stride)
        time = FactorizedConv3d(out_channels, out_channels, time=kernel_size, time_stride=stride)
        self.spatial, self.temporal = ConvNorm(config, space), ConvNorm(config, time)

    def forward(self, frames: torch.Tensor, num_frames: int) -> torch.Tensor:
        return self.temporal(self.spatial(frames, num_frames), num_frames)


def max_pool(frames: torch.Tensor, num_frames: int, kernel_size: int, stride: int, padding: int) -> torch.Tensor:
    """
    Return the maximum over cubes of frames (B*T, C, H, W): first over space, then over time.

    Raises:
        `ValueError`: the clip is shorter or smaller than a cube.
    """
    if min(num_frames, *frames.shape[2:]) + 2 * padding < kernel_size:
        raise ValueError("S3D divides time by eight and space by 32: give it at least 5 frames of 17 x 17 pixels.")
    frames = F.max_pool2d(frames, kernel_size, stride, padding)
    planes = F.max_pool2d(frames_to_planes(frames, num_frames), (kernel_size, 1), (stride, 1), (padding, 0))
    return planes_to_frames(planes, frames.shape[2:])


class S3DStem(nn.Module):
    """Convolutions before the Inception blocks: (B*T, C, H, W) -> (B*T/2, 192, H/8, W/8)."""

    def __init__(self, config: S3DConfig):
        super().__init__()
        width = config.widen(64)
        self.conv_1a = SeparableConv(config, config.num_channels, width, kernel_size=7, stride=2)
        self.conv_2b = ConvNorm(config, FactorizedConv3d(width, width))
        self.conv_2c = SeparableConv(config, width, config.widen(192), kernel_size=3)

    @property
    def conv(self) -> nn.Module:
        return self.conv_1a.spatial.conv

    def shorten(self, num_frames: int) -> int:
        return (num_frames + 1) // 2

    def forward(self, frames: torch.Tensor, num_frames: int) -> torch.Tensor:
        frames = self.conv_1a(frames, num_frames)
        num_frames = self.shorten(num_frames)
        frames = F.max_pool2d(frames, kernel_size=3, stride=2, padding=1)
        frames = self.conv_2c(self.conv_2b(frames, num_frames), num_frames)
        return F.max_pool2d(frames, kernel_size=3, stride=2, padding=1)


class S3DBlock(GradientCheckpointingLayer):
    """Four branches beside each other: 1x1x1, two separable 3x3x3, and a maximum with its projection."""

    def __init__(self, config: S3DConfig, in_channels: int, widths: tuple):
        super().__init__()
        point, *separable, pooled = widths
        self.branch0 = ConvNorm(config, FactorizedConv3d(in_channels, config.widen(point)))
        self.branch1, self.branch2 = (
            nn.ModuleList(
                [
                    ConvNorm(config, FactorizedConv3d(in_channels, config.widen(reduced))),
                    SeparableConv(config, config.widen(reduced), config.widen(width), kernel_size=3),
                ]
            )
            for reduced, width in separable
        )
        self.branch3 = ConvNorm(config, FactorizedConv3d(in_channels, config.widen(pooled)))

    def forward(self, frames: torch.Tensor, num_frames: int) -> torch.Tensor:
        pooled = max_pool(frames, num_frames, kernel_size=3, stride=1, padding=1)
        branches = [self.branch0(frames, num_frames)]
        for reduce, separable in (self.branch1, self.branch2):
            branches.append(separable(reduce(frames, num_frames), num_frames))
        branches.append(self.branch3(pooled, num_frames))
        return torch.cat(branches, dim=1)


class S3DStage(nn.Module):
    """Inception blocks of one size; a maximum halves time and space before the second and the third stage."""

    sees_single_frames = False
    pools = (None, (3, 1), (2, 0))  # kernel size and padding

    def __init__(self, config: S3DConfig, index: int):
        super().__init__()
        self.pool = self.pools[index]
        in_channels = config.widen(192)
        if index:
            in_channels = config.count_channels(config.blocks_of(index - 1)[-1])
        self.blocks = nn.ModuleList()
        for widths in config.blocks_of(index):
            self.blocks.append(S3DBlock(config, in_channels, widths))
            in_channels = config.count_channels(widths)

    def shorten(self, num_frames: int) -> int:
        """Return T after the stage."""
        if self.pool is None:
            return num_frames
        kernel_size, padding = self.pool
        return (num_frames + 2 * padding - kernel_size) // 2 + 1

    def forward(self, frames: torch.Tensor, num_frames: int) -> torch.Tensor:
        if self.pool is not None:
            kernel_size, padding = self.pool
            frames = max_pool(frames, num_frames, kernel_size, stride=2, padding=padding)
        for block in self.blocks:
            frames = block(frames, self.shorten(num_frames))
        return frames


class S3DPreTrainedModel(SlowOnlyPreTrainedModel):
    config_class = S3DConfig
    base_model_prefix = "s3d"
    _no_split_modules = ["S3DBlock"]
    _keep_in_fp32_modules_strict = ["norm"]


class S3DModel(S3DPreTrainedModel, SlowOnlyModel):
    """
    S3D without a classifier: feature maps of shape `(B, 1024, T/8, H/32, W/32)`. Its arguments and outputs are those
    of [`SlowOnlyModel`]; a clip has at least 5 frames.
    """

    stem_class, stage_class = S3DStem, S3DStage

    def _can_be_chunked(self, frames: torch.Tensor) -> bool:
        return False  # every layer looks at neighboring frames


class S3DForVideoClassification(S3DPreTrainedModel, SlowOnlyForVideoClassification):
    """
    S3D with mean pooling over time and space, dropout and a linear classifier. Where T/8 is at most 2, torchvision's
    pool of 2 x 7 x 7 windows gives the same on 224 x 224 pixels.
    """

    model_class = S3DModel


__all__ = ["S3DForVideoClassification", "S3DModel", "S3DPreTrainedModel"]
