"""Configurations of the networks that turn frames into features."""

import math

from .configuration_checks import check_labels, check_sizes  # first: it refuses an old transformers by name


# isort: split
from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


def divide_up(count: int, divisor: int) -> int:
    """Return a quotient, rounded up."""
    return -(-count // divisor)


@strict
class BackboneConfig(PreTrainedConfig):
    r"""
    What the configurations of all backbones share.

    Args:
        num_channels (`int`, defaults to 3): Channels of a frame.
        num_frames (`int`): Frames of a clip.
        frame_interval (`int`), image_size (`int`, defaults to 224): The frames that the model was trained on: their
            distance in the video, and their height and width in pixels. For information only: the video processor
            decides, and any other size works too.
        batch_norm_eps (`float`, defaults to 1e-5), batch_norm_momentum (`float`, defaults to 0.1): torch's defaults.
        classifier_dropout (`float`, defaults to 0.5): Dropout before the classifier.
        freeze_backbone (`bool`, defaults to `False`): Keep stem and stages in eval mode and without gradients.
        num_trainable_blocks (`int`, defaults to 0): With `freeze_backbone`, how many of the last stages are
            trained nevertheless.
        initializer_range (`float`, defaults to 0.01): Standard deviation of the classifier's initial weights.
    """

    num_channels: int = 3
    num_frames: int = 32
    frame_interval: int = 2
    image_size: int = 224
    batch_norm_eps: float = 1e-5
    batch_norm_momentum: float = 0.1
    classifier_dropout: float | int = 0.5
    freeze_backbone: bool = False
    num_trainable_blocks: int = 0
    initializer_range: float = 0.01

    def __post_init__(self, **kwargs):
        # the name that earlier versions wrote
        self.num_trainable_blocks = kwargs.pop("num_trainable_stages", self.num_trainable_blocks)
        check_sizes(self, kwargs.get("num_labels"))
        self.check_blocks()
        super().__post_init__(**kwargs)
        check_labels(self)

    def check_blocks(self) -> None:
        """Raise a `ValueError` unless there are as many stages as `num_trainable_blocks` says."""
        if not 0 <= self.num_trainable_blocks <= len(self.depths):
            raise ValueError(
                f"num_trainable_blocks must lie between 0 and {len(self.depths)}, got {self.num_trainable_blocks}."
            )

    @property
    def num_video_tokens(self) -> int:
        """Return T', the time steps of the last stage."""
        return self.num_frames

    def count_places(self, size: int) -> int:
        """Return the places along a side of the last stage's maps for frames of a height or width in pixels: they are
        halved twice in the stem and once before every stage but the first, rounded up."""
        return -(-size // 2 ** (1 + len(self.depths)))

    @property
    def num_hidden_layers(self) -> int:
        return len(self.depths)


@strict
class SlowOnlyConfig(BackboneConfig):
    r"""
    Configuration of [`SlowOnlyModel`], the Slow pathway of SlowFast (arXiv 1812.03982) as a 3-D ResNet. The defaults
    are the paper's backbone: SlowOnly-R50 on 32 frames of 224 x 224 pixels, every second frame (section 4.2). The
    arguments are those of [`BackboneConfig`], with mmaction2's dropout (`I3DHead`), and:

    Args:
        stem_width (`int`, defaults to 64): Output channels of the stem.
        hidden_sizes (`list[int]`, defaults to `(256, 512, 1024, 2048)`): Output channels of the stages; a bottleneck's
            inner width is a quarter of it.
        depths (`list[int]`, defaults to `(3, 4, 6, 3)`): Bottlenecks per stage.
        temporal_kernel_sizes (`list[int]`, defaults to `(1, 1, 3, 3)`): Temporal kernel of the first convolution of
            every bottleneck, per stage. There is no temporal stride.
        zero_init_residual (`bool`, defaults to `False`): Start every bottleneck's last normalization at zero.
    """

    model_type = "slowonly"

    stem_width: int = 64
    hidden_sizes: list[int] | tuple[int, ...] = (256, 512, 1024, 2048)
    depths: list[int] | tuple[int, ...] = (3, 4, 6, 3)
    temporal_kernel_sizes: list[int] | tuple[int, ...] = (1, 1, 3, 3)
    zero_init_residual: bool = False

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if not len(self.hidden_sizes) == len(self.depths) == len(self.temporal_kernel_sizes):
            raise ValueError(
                f"hidden_sizes, depths and temporal_kernel_sizes have one entry per stage, got {self.hidden_sizes}, "
                f"{self.depths} and {self.temporal_kernel_sizes}."
            )
        if any(size % 4 for size in self.hidden_sizes):
            raise ValueError(f"hidden_sizes must be multiples of 4, got {self.hidden_sizes}.")
        if any(size % 2 == 0 for stage in range(len(self.depths)) for size in self.kernel_sizes_of(stage)):
            raise ValueError(f"temporal_kernel_sizes must be odd, got {self.temporal_kernel_sizes}.")

    def kernel_sizes_of(self, stage: int) -> list[int]:
        """Return the temporal kernels of a stage, one per bottleneck."""
        return [self.temporal_kernel_sizes[stage]] * self.depths[stage]

    @property
    def hidden_size(self) -> int:
        return self.hidden_sizes[-1]


@strict
class VideoResNetConfig(SlowOnlyConfig):
    r"""
    Configuration of [`VideoResNetModel`]: SlowOnly's trunk with what other video ResNets add. The
    defaults are a 2-D ResNet-50 on frames (TSN); the other three are

    - TSM (arXiv 1811.08383): `temporal_shift_divisor=8`;
    - I3D as a 3-D ResNet (arXiv 1705.07750, in pytorchvideo's form): `stem_temporal_kernel_size=5`,
      `temporal_kernel_sizes=[[3, 3, 3], [3, 1, 3, 1], [3, 1, 3, 1, 3, 1], [1, 3, 1]]`, `temporal_pool_size=2`;
    - NL-I3D (arXiv 1711.07971): I3D with `non_local_blocks=[[], [1, 3], [1, 3, 5], []]`.

    The arguments are those of [`SlowOnlyConfig`], and:

    Args:
        num_frames (`int`, defaults to 3): Frames of a clip (FineGym's supplement, section 1.1: 3 segments).
        frame_interval (`int`, defaults to 1): Distance between two of them; ignored for frames of segments.
        temporal_kernel_sizes (`list[int]` or `list[list[int]]`, defaults to `(1, 1, 1, 1)`): Temporal kernel of the
            first convolution of the bottlenecks, per stage or per bottleneck.
        stem_temporal_kernel_size (`int`, defaults to 1): Frames that the stem's kernel covers.
        stem_temporal_stride (`int`, defaults to 1): Distance in frames between two outputs of the stem's convolution;
            mmaction2's I3D has 2, and so the next.
        stem_pool_temporal_stride (`int`, defaults to 1): The stem's pool keeps one in this many frames.
        temporal_pool_size (`int`, defaults to 1): Take the maximum over this many frames after the first stage, which
            leaves one of them.
        temporal_shift_divisor (`int`, defaults to 0): Before each bottleneck's first convolution, one in this many
            channels is taken from the next frame and one from the previous frame; 0: none.
        non_local_blocks (`list[list[int]]`, defaults to `()`): The bottlenecks of each stage that a non-local block
            follows.
        non_local_scale (`bool`, defaults to `True`): Divide the products of non-local blocks by the root of their
            channels. mmaction2's do not.
        non_local_pool_first (`bool`, defaults to `True`): Halve the frames that non-local blocks look at before their
            convolutions, not after them as mmaction2 does.
    """

    model_type = "video_resnet"

    num_frames: int = 3
    frame_interval: int = 1
    temporal_kernel_sizes: list | tuple = (1, 1, 1, 1)
    stem_temporal_kernel_size: int = 1
    stem_temporal_stride: int = 1
    stem_pool_temporal_stride: int = 1
    temporal_pool_size: int = 1
    temporal_shift_divisor: int = 0
    non_local_blocks: list | tuple = ()
    non_local_scale: bool = True
    non_local_pool_first: bool = True

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        for stage, (sizes, depth) in enumerate(zip(self.temporal_kernel_sizes, self.depths)):
            if isinstance(sizes, (list, tuple)) and len(sizes) != depth:
                raise ValueError(
                    f"temporal_kernel_sizes of stage {stage} must be one number or {depth}, one per bottleneck, got "
                    f"{sizes}."
                )
        if self.stem_temporal_kernel_size < 1 or self.stem_temporal_kernel_size % 2 == 0:
            raise ValueError(f"stem_temporal_kernel_size must be odd, got {self.stem_temporal_kernel_size}.")
        for name in ("stem_temporal_stride", "stem_pool_temporal_stride", "temporal_pool_size"):
            if not 1 <= getattr(self, name) <= self.num_frames:
                raise ValueError(
                    f"{name} must lie between 1 and num_frames {self.num_frames}, got {getattr(self, name)}."
                )
        if self.num_video_tokens < 1:
            raise ValueError(f"The strides in time leave nothing of num_frames {self.num_frames}.")
        if self.stem_temporal_kernel_size == 1 and max(self.stem_temporal_stride, self.stem_pool_temporal_stride) > 1:
            raise ValueError("A stem with strides in time needs a stem_temporal_kernel_size above 1.")
        if self.temporal_shift_divisor and not 2 <= self.temporal_shift_divisor <= self.stem_width:
            raise ValueError(
                f"temporal_shift_divisor must be 0 or lie between 2 and stem_width {self.stem_width}, got "
                f"{self.temporal_shift_divisor}."
            )
        places = [list(places) for places in self.non_local_blocks]
        if places and (
            len(places) != len(self.depths)
            or any(not 0 <= place < depth for stage, depth in zip(places, self.depths) for place in stage)
        ):
            raise ValueError(f"non_local_blocks must name bottlenecks of each of {len(self.depths)} stages: {places}.")

    def kernel_sizes_of(self, stage: int) -> list[int]:
        """Return the temporal kernels of a stage, one per bottleneck."""
        sizes = self.temporal_kernel_sizes[stage]
        return list(sizes) if isinstance(sizes, (list, tuple)) else [sizes] * self.depths[stage]

    @property
    def system(self) -> str:
        """Return which of the four it is, or comes closest to."""
        if self.non_local_blocks:
            return "NL-I3D"
        if self.stem_temporal_kernel_size > 1:
            return "I3D"
        return "TSM" if self.temporal_shift_divisor else "TSN (ResNet)"

    @property
    def num_video_tokens(self) -> int:
        """Return T', the time steps of the last stage."""
        num_frames = divide_up(divide_up(self.num_frames, self.stem_temporal_stride), self.stem_pool_temporal_stride)
        return num_frames // self.temporal_pool_size


@strict
class InceptionConfig(BackboneConfig):
    r"""
    What the two Inception networks share: stages of blocks, each of four branches beside each other. The arguments are
    those of [`BackboneConfig`], and:

    Args:
        width_multiplier (`float`, defaults to 1.0): Factor on the channels of every layer.
        depths (`list[int]`): Blocks of each stage, the last ones; the default is all of them.
    """

    blocks = ()  # of each stage: the widths of each block's branches, those before a kernel beside those after it

    width_multiplier: float | int = 1.0
    depths: list[int] | tuple[int, ...] = ()

    def __post_init__(self, **kwargs):
        if not 0 < self.width_multiplier <= 16:
            raise ValueError(f"width_multiplier must lie between 0 and 16, got {self.width_multiplier}.")
        depths = [len(stage) for stage in self.blocks]
        if len(self.depths) != len(depths) or not all(0 < own <= all for own, all in zip(self.depths, depths)):
            raise ValueError(f"depths must be at least 1 and at most {depths}, got {list(self.depths)}.")
        super().__post_init__(**kwargs)

    def widen(self, width: int) -> int:
        """Return the channels of a layer that has `width` in the published network."""
        return max(1, round(width * self.width_multiplier))

    @property
    def hidden_size(self) -> int:
        return self.count_channels(self.blocks[-1][-1])

    def count_places(self, size: int) -> int:
        """See [`BackboneConfig.count_places`]; here each of the three stages halves them."""
        return -(-size // 32)

    def blocks_of(self, stage: int) -> tuple:
        """Return the widths of a stage's blocks."""
        return self.blocks[stage][-self.depths[stage] :]


@strict
class S3DConfig(InceptionConfig):
    r"""
    Configuration of [`S3DModel`], the separable Inception of arXiv 1712.04851 without gates, in torchvision's form.
    The arguments are those of [`InceptionConfig`]; `num_frames` is 8, the block of TQN (arXiv 2105.05155), `depths`
    `(2, 5, 2)`, and `batch_norm_eps` 1e-3 and `classifier_dropout` 0.2, as in torchvision.
    """

    model_type = "s3d"
    # 1x1x1; 3x3x3 twice, each after its reduction; the projection of the pool (table 1 of arXiv 1409.4842)
    blocks = (
        (
            (64, (96, 128), (16, 32), 32),  # Mixed_3b
            (128, (128, 192), (32, 96), 64),
        ),
        (
            (192, (96, 208), (16, 48), 64),  # Mixed_4b
            (160, (112, 224), (24, 64), 64),
            (128, (128, 256), (24, 64), 64),
            (112, (144, 288), (32, 64), 64),
            (256, (160, 320), (32, 128), 128),
        ),
        (
            (256, (160, 320), (32, 128), 128),  # Mixed_5b
            (384, (192, 384), (48, 128), 128),
        ),
    )

    num_frames: int = 8
    frame_interval: int = 1
    batch_norm_eps: float = 1e-3
    classifier_dropout: float | int = 0.2
    depths: list[int] | tuple[int, ...] = (2, 5, 2)

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.num_video_tokens < 1:
            raise ValueError(f"num_frames must be at least 5, got {self.num_frames}: S3D divides time by eight.")

    def count_places(self, size: int) -> int:
        """See [`BackboneConfig.count_places`]; the last time they are rounded down."""
        return -(-size // 16) // 2

    def count_channels(self, widths: tuple) -> int:
        """Return the channels of a block: those of its four branches together."""
        point, (_, middle), (_, large), pooled = widths
        return sum(self.widen(width) for width in (point, middle, large, pooled))

    @property
    def num_video_tokens(self) -> int:
        """Return T': time is halved in the stem and before the second and the third stage, at last rounded down."""
        return math.ceil(math.ceil(self.num_frames / 2) / 2) // 2


@strict
class BNInceptionConfig(InceptionConfig):
    r"""
    Configuration of [`BNInceptionModel`], the 2-D network of TSN and TRN: Inception with batch normalization
    (arXiv 1502.03167), in the form that has been trained on ImageNet for Caffe. The arguments are those of
    [`InceptionConfig`]; `num_frames` is 3 (FineGym's supplement, section 1.1: 3 segments), `depths` `(3, 5, 2)`.
    """

    model_type = "bn_inception"
    # 1x1; 3x3 after its reduction; two 3x3 after theirs; the pool and its projection. Blocks that have no 1x1 and no
    # projection halve height and width.
    blocks = (
        (
            (64, (64, 64), (64, 96, 96), ("average", 32)),  # 3a
            (64, (64, 96), (64, 96, 96), ("average", 64)),
            (0, (128, 160), (64, 96, 96), ("max", 0)),
        ),
        (
            (224, (64, 96), (96, 128, 128), ("average", 128)),  # 4a
            (192, (96, 128), (96, 128, 128), ("average", 128)),
            (160, (128, 160), (128, 160, 160), ("average", 128)),
            (96, (128, 192), (160, 192, 192), ("average", 128)),
            (0, (128, 192), (192, 256, 256), ("max", 0)),
        ),
        (
            (352, (192, 320), (160, 224, 224), ("average", 128)),  # 5a
            (352, (192, 320), (192, 224, 224), ("max", 128)),
        ),
    )

    num_frames: int = 3
    frame_interval: int = 1
    depths: list[int] | tuple[int, ...] = (3, 5, 2)

    def count_channels(self, widths: tuple, in_channels: int = 0) -> int:
        """Return the channels of a block; where the pool has no projection, those of its input are among them."""
        point, (_, middle), (_, _, large), (_, pooled) = widths
        channels = [self.widen(width) for width in (point, middle, large, pooled) if width]
        return sum(channels) + (0 if pooled else in_channels)

    @property
    def stem_width(self) -> int:
        return self.widen(64)


BACKBONE_CONFIGS = (SlowOnlyConfig, VideoResNetConfig, S3DConfig, BNInceptionConfig)

# The backbones whose code is published with the encoders, by their model_type.
OWN_BACKBONE_CONFIGS = {config.model_type: config for config in BACKBONE_CONFIGS}

__all__ = ["BNInceptionConfig", "S3DConfig", "SlowOnlyConfig", "VideoResNetConfig"]
