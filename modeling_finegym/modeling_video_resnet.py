"""The video ResNet: SlowOnly's trunk with a temporal stem, temporal pooling, temporal shift and non-local blocks,
which make it TSN, TSM, I3D or NL-I3D. All of it is computed in two dimensions, as in `factorized_conv`.

Shapes: B clips, T frames, C channels, H x W pixels.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init

from .configuration_backbones import VideoResNetConfig, divide_up
from .factorized_conv import convolve_and_normalize, frames_to_planes, planes_to_frames
from .modeling_slowonly import (
    BatchNorm,
    SlowOnlyBottleneck,
    SlowOnlyForVideoClassification,
    SlowOnlyModel,
    SlowOnlyPreTrainedModel,
    SlowOnlyResidualBlock,
    SlowOnlyStage,
    SlowOnlyStem,
)


def shift_channels(frames: torch.Tensor, num_frames: int, divisor: int) -> torch.Tensor:
    """
    Apply the temporal shift of TSM: of C channels, take the first C / divisor from the next frame and as many after
    them from the previous frame, zeros where there is none, and keep the others: (B*T, C, H, W) -> (B*T, C, H, W).
    """
    video = frames.permute(0, 2, 3, 1).unflatten(0, (-1, num_frames))  # (B, T, H, W, C)
    width = frames.shape[1] // divisor
    following, preceding, same = video.split([width, width, frames.shape[1] - 2 * width], dim=-1)
    following = F.pad(following[:, 1:], (0, 0, 0, 0, 0, 0, 0, 1))
    preceding = F.pad(preceding[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0))
    return torch.cat([following, preceding, same], dim=-1).flatten(0, 1).permute(0, 3, 1, 2)


class TemporalStemConv3d(nn.Conv3d):
    """A t x 7 x 7 convolution without bias, over frames with their neighbors' channels beside their own."""

    def __init__(self, in_channels: int, out_channels: int, time: int, time_stride: int):
        super().__init__(
            in_channels, out_channels, (time, 7, 7), stride=(time_stride, 2, 2), padding=(time // 2, 3, 3), bias=False
        )

    def forward(self, frames: torch.Tensor, num_frames: int) -> torch.Tensor:
        return self.convolve(frames, num_frames, self.weight, None)

    def convolve(
        self, frames: torch.Tensor, num_frames: int, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """See [`FactorizedConv3d.convolve`]."""
        padding = self.padding[0]
        video = frames.permute(0, 2, 3, 1).unflatten(0, (-1, num_frames))  # (B, T, H, W, C)
        video = F.pad(video, (0, 0, 0, 0, 0, 0, padding, padding))
        shifted = [video[:, step : step + num_frames : self.stride[0]] for step in range(self.kernel_size[0])]
        frames = torch.cat(shifted, dim=-1).flatten(0, 1).permute(0, 3, 1, 2)
        return F.conv2d(frames, weight.transpose(1, 2).flatten(1, 2), bias, self.stride[1:], self.padding[1:])


class VideoResNetStem(SlowOnlyStem):
    """
    t x 7 x 7 convolution and 1 x 3 x 3 maximum of stride 2: (B*T, C, H, W) -> (B*T', stem_width, H/4, W/4), where T'
    is T divided by the strides in time, rounded up.
    """

    def __init__(self, config: VideoResNetConfig):
        super().__init__(config)
        self.pool_stride = config.stem_pool_temporal_stride
        if config.stem_temporal_kernel_size > 1:
            self.conv = TemporalStemConv3d(
                config.num_channels,
                config.stem_width,
                config.stem_temporal_kernel_size,
                config.stem_temporal_stride,
            )

    def shorten(self, num_frames: int) -> int:
        """Return T after the stem."""
        return divide_up(divide_up(num_frames, self.conv.stride[0]), self.pool_stride)

    def forward(self, frames: torch.Tensor, num_frames: int) -> torch.Tensor:
        frames = F.relu(convolve_and_normalize(frames, num_frames, self.conv, self.norm), inplace=True)
        if self.pool_stride > 1:
            num_frames = divide_up(num_frames, self.conv.stride[0])
            frames = frames.unflatten(0, (-1, num_frames))[:, :: self.pool_stride].flatten(0, 1)
            frames = frames.contiguous(memory_format=torch.channels_last)
        return F.max_pool2d(frames, kernel_size=3, stride=2, padding=1)


class VideoResNetBottleneck(SlowOnlyBottleneck):
    """SlowOnly's bottleneck, before which channels may be shifted in time; the identity beside it is never shifted."""

    def __init__(self, config: VideoResNetConfig, *sizes: int, **options: int):
        super().__init__(config, *sizes, **options)
        self.temporal_shift_divisor = config.temporal_shift_divisor

    def forward(self, frames: torch.Tensor, num_frames: int) -> torch.Tensor:
        if self.temporal_shift_divisor:
            frames = shift_channels(frames, num_frames, self.temporal_shift_divisor)
        return super().forward(frames, num_frames)


class VideoResNetResidualBlock(SlowOnlyResidualBlock):
    bottleneck_class = VideoResNetBottleneck


class NonLocalBatchNorm(BatchNorm):
    """A normalization that starts at zero, so that a new non-local block changes nothing."""


class NonLocalBlock(nn.Module):
    """
    Attention from every position in space and time to the positions that remain when each frame is halved: the
    embedded Gaussian form of SlowFast and pytorchvideo, from which the parameter names come, or that of mmaction2.
    """

    def __init__(self, config: VideoResNetConfig, channels: int):
        super().__init__()
        self.conv_theta = nn.Conv3d(channels, channels // 2, 1)
        self.conv_phi = nn.Conv3d(channels, channels // 2, 1)
        self.conv_g = nn.Conv3d(channels, channels // 2, 1)
        self.conv_out = nn.Conv3d(channels // 2, channels, 1)
        self.norm = NonLocalBatchNorm(config, channels)
        self.scale = None if config.non_local_scale else 1.0
        self.pools_first = config.non_local_pool_first

    def forward(self, frames: torch.Tensor, num_frames: int) -> torch.Tensor:
        """(B*T, C, H, W) -> (B*T, C, H, W)"""
        half = [min(2, size) for size in frames.shape[2:]]
        query = self._project(self.conv_theta, _positions(frames, num_frames))
        if self.pools_first:
            pooled = _positions(F.max_pool2d(frames, half), num_frames)
            key, value = (self._project(conv, pooled) for conv in (self.conv_phi, self.conv_g))
        else:
            convolved = (F.conv2d(frames, conv.weight.squeeze(2), conv.bias) for conv in (self.conv_phi, self.conv_g))
            key, value = (_positions(F.max_pool2d(one, half), num_frames) for one in convolved)
        # one head of C / 2 channels, so that the default scale is (C / 2) ** -0.5
        attended = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], scale=self.scale)[:, 0]
        out = self._project(self.conv_out, attended)  # (B, T*H*W, C)
        out = out.unflatten(1, (num_frames, *frames.shape[2:])).flatten(0, 1).permute(0, 3, 1, 2)
        return frames + self.norm(out)

    @staticmethod
    def _project(conv: nn.Conv3d, positions: torch.Tensor) -> torch.Tensor:
        return F.linear(positions, conv.weight.flatten(1), conv.bias)


def _positions(frames: torch.Tensor, num_frames: int) -> torch.Tensor:
    """(B*T, C, H, W) -> (B, T*H*W, C)"""
    return frames.permute(0, 2, 3, 1).unflatten(0, (-1, num_frames)).flatten(1, 3)


class VideoResNetStage(SlowOnlyStage):
    """Residual blocks of one width, non-local blocks after some of them, temporal pooling after the first stage."""

    block_class = VideoResNetResidualBlock

    def __init__(self, config: VideoResNetConfig, index: int):
        super().__init__(config, index)
        places = config.non_local_blocks[index] if config.non_local_blocks else ()
        self.non_local_blocks = nn.ModuleDict(
            {str(place): NonLocalBlock(config, config.hidden_sizes[index]) for place in places}
        )
        self.temporal_stride = config.temporal_pool_size if index == 0 else 1
        self.sees_single_frames &= not places and not config.temporal_shift_divisor and self.temporal_stride == 1

    def shorten(self, num_frames: int) -> int:
        """Return T after the stage."""
        return num_frames // self.temporal_stride

    def forward(self, frames: torch.Tensor, num_frames: int) -> torch.Tensor:
        for place, block in enumerate(self.res_blocks):
            frames = block(frames, num_frames)
            if str(place) in self.non_local_blocks:
                frames = self.non_local_blocks[str(place)](frames, num_frames)
        if self.temporal_stride > 1:
            planes = F.max_pool2d(frames_to_planes(frames, num_frames), (self.temporal_stride, 1))
            frames = planes_to_frames(planes, frames.shape[2:])
        return frames


class VideoResNetPreTrainedModel(SlowOnlyPreTrainedModel):
    config_class = VideoResNetConfig
    base_model_prefix = "video_resnet"
    _no_split_modules = ["VideoResNetResidualBlock", "NonLocalBlock"]

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, NonLocalBatchNorm):
            init.zeros_(module.weight)


class VideoResNetModel(VideoResNetPreTrainedModel, SlowOnlyModel):
    """
    A video ResNet without a classifier: feature maps of shape `(B, 2048, T', H/32, W/32)`, where T' is T, or T divided
    by `temporal_pool_size`. Its arguments and outputs are those of [`SlowOnlyModel`].
    """

    stem_class, stage_class = VideoResNetStem, VideoResNetStage

    def _can_be_chunked(self, frames: torch.Tensor) -> bool:
        return self.config.stem_temporal_kernel_size == 1 and super()._can_be_chunked(frames)


class VideoResNetForVideoClassification(VideoResNetPreTrainedModel, SlowOnlyForVideoClassification):
    """
    A video ResNet with mean pooling over time and space, dropout and a linear classifier. The mean of its frames'
    logits, which TSN and TSM take, is the same.
    """

    model_class = VideoResNetModel


__all__ = ["VideoResNetForVideoClassification", "VideoResNetModel", "VideoResNetPreTrainedModel"]
