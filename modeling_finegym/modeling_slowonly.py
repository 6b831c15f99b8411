"""SlowOnly: a 3-D ResNet without temporal stride, the backbone of the paper (section 4.2).

Parameter names and shapes are pytorchvideo's (`blocks.0.conv.weight`, 5-D), so its state dicts load unchanged.

Shapes: B clips, T frames, C channels, H x W pixels.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .configuration_backbones import BackboneConfig, SlowOnlyConfig
from .factorized_conv import FactorizedConv3d, convolve_and_normalize, fold_frames, is_traced, unfold_frames
from .half_precision import HalfPrecisionMixin
from .publishing_finegym import PublishedModelMixin


# Frames are taken in chunks while no kernel looks at neighboring frames, so that activations stay in a CPU's caches.
# The stem's output for a chunk has this size: of 4, 8, 16 and 32 MB, it was the fastest on two cores with 32 MB of
# cache.
CHUNK_BYTES = 8 * 2**20


@dataclass
class SlowOnlyModelOutput(ModelOutput):
    r"""
    Args:
        last_hidden_state (`torch.FloatTensor` of shape `(batch_size, hidden_size, num_frames, height, width)`):
            Feature maps of the last stage; height and width are 1/32 of the input's, rounded up.
        pooler_output (`torch.FloatTensor` of shape `(batch_size, hidden_size)`): Their mean over time and space.
        hidden_states (`tuple(torch.FloatTensor)`, with `output_hidden_states=True`): The outputs of the stem and of
            each stage, each of shape `(batch_size, channels, num_frames, height, width)`.
    """

    last_hidden_state: torch.FloatTensor | None = None
    pooler_output: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None


class BatchNorm(nn.BatchNorm2d):
    """Batch normalization over frames, in float32 even where the model is built in a shorter type."""

    def __init__(self, config: BackboneConfig, num_channels: int):
        dtype = torch.promote_types(torch.get_default_dtype(), torch.float32)
        super().__init__(num_channels, config.batch_norm_eps, config.batch_norm_momentum, dtype=dtype)


class SlowOnlyStem(nn.Module):
    """1 x 7 x 7 convolution and 1 x 3 x 3 maximum of stride 2: (B*T, C, H, W) -> (B*T, stem_width, H/4, W/4)."""

    def __init__(self, config: SlowOnlyConfig):
        super().__init__()
        self.conv = FactorizedConv3d(config.num_channels, config.stem_width, space=7, stride=2)
        self.norm = BatchNorm(config, config.stem_width)

    def shorten(self, num_frames: int) -> int:
        """Return T after the stem."""
        return num_frames

    def forward(self, frames: torch.Tensor, num_frames: int) -> torch.Tensor:
        frames = F.relu(convolve_and_normalize(frames, num_frames, self.conv, self.norm), inplace=True)
        return F.max_pool2d(frames, kernel_size=3, stride=2, padding=1)


class ResidualBatchNorm(BatchNorm):
    """The last normalization of a residual branch; with `zero_init_residual` the branch adds nothing at first."""


class SlowOnlyBottleneck(nn.Module):
    """t x 1 x 1, 1 x 3 x 3 (which carries the stride) and 1 x 1 x 1 convolutions."""

    def __init__(
        self, config: SlowOnlyConfig, in_channels: int, out_channels: int, temporal_kernel_size: int, stride: int
    ):
        super().__init__()
        width = out_channels // 4
        self.conv_a = FactorizedConv3d(in_channels, width, time=temporal_kernel_size)
        self.norm_a = BatchNorm(config, width)
        self.conv_b = FactorizedConv3d(width, width, space=3, stride=stride)
        self.norm_b = BatchNorm(config, width)
        self.conv_c = FactorizedConv3d(width, out_channels)
        self.norm_c = ResidualBatchNorm(config, out_channels)

    def forward(self, frames: torch.Tensor, num_frames: int) -> torch.Tensor:
        frames = F.relu(convolve_and_normalize(frames, num_frames, self.conv_a, self.norm_a), inplace=True)
        frames = F.relu(convolve_and_normalize(frames, num_frames, self.conv_b, self.norm_b), inplace=True)
        return convolve_and_normalize(frames, num_frames, self.conv_c, self.norm_c)


class SlowOnlyResidualBlock(GradientCheckpointingLayer):
    """A bottleneck beside the identity, or beside a 1 x 1 x 1 convolution where channels or size change."""

    bottleneck_class = SlowOnlyBottleneck

    def __init__(
        self, config: SlowOnlyConfig, in_channels: int, out_channels: int, temporal_kernel_size: int, stride: int
    ):
        super().__init__()
        if in_channels != out_channels or stride != 1:
            self.branch1_conv = FactorizedConv3d(in_channels, out_channels, stride=stride)
            self.branch1_norm = BatchNorm(config, out_channels)
        else:
            self.branch1_conv = None
        self.branch2 = self.bottleneck_class(config, in_channels, out_channels, temporal_kernel_size, stride)

    def forward(self, frames: torch.Tensor, num_frames: int) -> torch.Tensor:
        residual = frames
        if self.branch1_conv is not None:
            residual = convolve_and_normalize(frames, num_frames, self.branch1_conv, self.branch1_norm)
        return F.relu(self.branch2(frames, num_frames).add_(residual), inplace=True)


class SlowOnlyStage(nn.Module):
    """Residual blocks of one width; every stage but the first halves height and width."""

    block_class = SlowOnlyResidualBlock

    def __init__(self, config: SlowOnlyConfig, index: int):
        super().__init__()
        out_channels = config.hidden_sizes[index]
        in_channels = config.hidden_sizes[index - 1] if index else config.stem_width
        kernel_sizes = config.kernel_sizes_of(index)
        self.sees_single_frames = max(kernel_sizes) == 1
        self.res_blocks = nn.ModuleList(
            self.block_class(
                config,
                out_channels if block else in_channels,
                out_channels,
                kernel_size,
                stride=2 if index and not block else 1,
            )
            for block, kernel_size in enumerate(kernel_sizes)
        )

    def shorten(self, num_frames: int) -> int:
        """Return T after the stage."""
        return num_frames

    def forward(self, frames: torch.Tensor, num_frames: int) -> torch.Tensor:
        for block in self.res_blocks:
            frames = block(frames, num_frames)
        return frames


class SlowOnlyPreTrainedModel(PublishedModelMixin, HalfPrecisionMixin, PreTrainedModel):
    config_class = SlowOnlyConfig
    base_model_prefix = "slowonly"
    main_input_name = "pixel_values"
    input_modalities = ("video",)
    supports_gradient_checkpointing = True
    # there is no attention, so every implementation gives the same result, even where an outer model chooses one
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True
    _no_split_modules = ["SlowOnlyResidualBlock"]
    # folding multiplies by these in float32, whatever the dtype of the convolutions
    _keep_in_fp32_modules_strict = ["norm", "norm_a", "norm_b", "norm_c", "branch1_norm"]

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, std=self.config.initializer_range)
            init.zeros_(module.bias)
        elif isinstance(module, ResidualBatchNorm) and self.config.zero_init_residual:
            init.zeros_(module.weight)


class SlowOnlyModel(SlowOnlyPreTrainedModel):
    """SlowOnly without a classifier: feature maps of shape `(B, 2048, T, H/32, W/32)`."""

    _keys_to_ignore_on_load_unexpected = [r"^classifier\."]  # a trained classifier's backbone is taken from it
    stem_class, stage_class = SlowOnlyStem, SlowOnlyStage

    def __init__(self, config: SlowOnlyConfig):
        super().__init__(config)
        self.blocks = nn.ModuleList(
            [self.stem_class(config), *(self.stage_class(config, index) for index in range(len(config.depths)))]
        )
        self.freeze_backbone = config.freeze_backbone
        self.num_trainable_blocks = config.num_trainable_blocks
        self.post_init()
        self.train(self.training)  # what the configuration freezes goes to eval mode

    @property
    def num_frozen_blocks(self) -> int:
        """Return how many blocks, counted from the stem, are in eval mode and without gradients."""
        return len(self.blocks) - self.num_trainable_blocks if self.freeze_backbone else 0

    def train(self, mode: bool = True):
        super().train(mode)
        for block in self.blocks[: self.num_frozen_blocks]:
            nn.Module.train(block, False).requires_grad_(False)
        return self

    def get_input_embeddings(self):
        return self.blocks[0].conv

    @can_return_tuple
    def forward(
        self, pixel_values: torch.Tensor, output_hidden_states: bool | None = None, **kwargs
    ) -> SlowOnlyModelOutput:
        r"""
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
                Normalized frames, as the video processor returns them.
            output_hidden_states (`bool`, *optional*): Also return the outputs of the stem and of each
                stage.

        Raises:
            `ValueError`: `pixel_values` does not have this shape.
        """
        check_pixel_values(pixel_values, self.config.num_channels)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        num_frames = pixel_values.shape[1]
        frames = pixel_values.to(self.blocks[0].conv.weight.dtype).flatten(0, 1)  # (B*T, C, H, W)
        frames = frames.contiguous(memory_format=torch.channels_last)
        hidden_states, start = [], 0
        if not output_hidden_states and self._can_be_chunked(frames):
            start = 1
            while start < len(self.blocks) and self.blocks[start].sees_single_frames:
                start += 1
            frames = self._run_in_chunks(frames, self.blocks[:start])
        for index, block in enumerate(self.blocks[start:], start=start):
            with torch.set_grad_enabled(torch.is_grad_enabled() and index >= self.num_frozen_blocks):
                frames = block(frames, num_frames)
            num_frames = block.shorten(num_frames)
            if output_hidden_states:
                hidden_states.append(unfold_frames(frames, num_frames))
                frames = fold_frames(hidden_states[-1])  # so that they have gradients
        video = unfold_frames(frames, num_frames)
        return SlowOnlyModelOutput(
            last_hidden_state=video,
            pooler_output=video.mean(dim=(2, 3, 4)),
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
        )

    def _can_be_chunked(self, frames: torch.Tensor) -> bool:
        frozen = self.num_frozen_blocks == len(self.blocks) or not (self.training or torch.is_grad_enabled())
        return frozen and frames.device.type == "cpu" and not is_traced()

    @torch.no_grad()
    def _run_in_chunks(self, frames: torch.Tensor, blocks: nn.ModuleList) -> torch.Tensor:
        bytes_per_frame = self.config.stem_width * frames[0, 0].numel() // 4 * frames.element_size()
        chunks = []
        for chunk in frames.split(max(1, CHUNK_BYTES // max(1, bytes_per_frame))):
            for block in blocks:
                chunk = block(chunk, num_frames=1)  # every frame is a video of its own
            chunks.append(chunk)
        return torch.cat(chunks)

    def get_video_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map frames (B, T, C, H, W) to features (B, T, hidden_size), averaged over space (paper, section 3.1)."""
        feature_maps = self(pixel_values, return_dict=True).last_hidden_state  # (B, hidden_size, T, h, w)
        return feature_maps.mean(dim=(3, 4)).transpose(1, 2)


class SlowOnlyForVideoClassification(SlowOnlyPreTrainedModel):
    """SlowOnly with mean pooling over time and space, dropout and a linear classifier."""

    model_class = SlowOnlyModel

    def __init__(self, config: SlowOnlyConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        setattr(self, self.base_model_prefix, self.model_class(config))
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def get_video_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map frames (B, T, C, H, W) to (B, T, hidden_size); see [`SlowOnlyModel.get_video_features`]."""
        return self.base_model.get_video_features(pixel_values)

    @can_return_tuple
    def forward(
        self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None, **kwargs
    ) -> ImageClassifierOutput:
        r"""
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
                Normalized frames, as the video processor returns them.
            labels (`torch.LongTensor` of shape `(batch_size,)`, *optional*): Classes; the loss is their cross entropy.

        Raises:
            `ValueError`: `pixel_values` does not have this shape.
        """
        outputs = self.base_model(pixel_values, **kwargs)
        logits = self.classifier(self.dropout(outputs.pooler_output))
        loss = None
        if labels is not None:
            loss = self.loss_function(labels, logits, self.config)
        return ImageClassifierOutput(loss=loss, logits=logits, hidden_states=outputs.hidden_states)


def check_pixel_values(pixel_values: torch.Tensor, num_channels: int) -> None:
    """Raise a `ValueError` unless `pixel_values` is `(batch_size, num_frames, num_channels, height, width)`."""
    if pixel_values is None:
        raise ValueError("pixel_values are missing: expected (batch_size, num_frames, num_channels, height, width).")
    if pixel_values.ndim != 5 or pixel_values.shape[2] != num_channels or 0 in pixel_values.shape:
        raise ValueError(
            f"pixel_values must have shape (batch_size, num_frames, {num_channels}, height, width), got "
            f"{tuple(pixel_values.shape)}."
        )
    if not pixel_values.is_floating_point():
        raise ValueError(
            f"pixel_values must be normalized floats, got {pixel_values.dtype}: pass the frames through the video "
            "processor first."
        )


__all__ = ["SlowOnlyForVideoClassification", "SlowOnlyModel", "SlowOnlyPreTrainedModel"]
