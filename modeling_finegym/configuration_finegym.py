"""Configurations of SlowOnly, the 3D vision encoder and the video-text cross encoder."""

import copy

import transformers


__version__ = "0.1.0"
MINIMUM_TRANSFORMERS = (5, 15)

if tuple(int(part) for part in transformers.__version__.split(".")[:2]) < MINIMUM_TRANSFORMERS:
    raise ImportError(
        f"modeling_finegym {__version__} needs transformers >= {'.'.join(map(str, MINIMUM_TRANSFORMERS))}, found "
        f"{transformers.__version__}. Run `pip install -U 'transformers>=5.15,<6'`."
    )

# after the check: an old transformers has no PreTrainedConfig, and its error would say only that
from huggingface_hub.dataclasses import strict  # noqa: E402
from transformers import AutoConfig, PreTrainedConfig  # noqa: E402


# Far beyond any network of this kind, and small enough that a config from a stranger cannot fill memory or hang.
LARGEST = {
    "num_channels": 1024,
    "num_frames": 4096,
    "frame_interval": 1024,
    "image_size": 4096,
    "stem_width": 2**14,
    "hidden_sizes": 2**16,
    "depths": 128,
    "temporal_kernel_sizes": 63,
    "hidden_size": 2**14,
    "num_hidden_layers": 256,
    "num_attention_heads": 1024,
    "intermediate_size": 2**17,
}
MAX_STAGES = 16
MAX_LABELS = 100_000


def check_sizes(config: PreTrainedConfig, num_labels: int | None) -> None:
    """
    Refuse sizes that no network of this kind has.

    Raises:
        `ValueError`: a size is out of range; the message names the field.
    """
    for name, largest in LARGEST.items():
        value = getattr(config, name, None)
        # features of other backbones are read by an encoder without layers
        smallest = 0 if name == "num_hidden_layers" else 1
        sizes = value if isinstance(value, (list, tuple)) else (1,) if value is None else (value,)
        if len(sizes) <= MAX_STAGES:  # a stage may have one size for each of its blocks
            sizes = [
                size for one in sizes for size in (one[: largest + 1] if isinstance(one, (list, tuple)) else [one])
            ]
        if (isinstance(value, (list, tuple)) and len(value) > MAX_STAGES) or not all(
            smallest <= size <= largest for size in sizes
        ):
            raise ValueError(f"{name} must lie between {smallest} and {largest}, got {value}.")
    if num_labels is not None and not 0 <= num_labels <= MAX_LABELS:
        raise ValueError(f"num_labels must lie between 0 and {MAX_LABELS}, got {num_labels}.")


def check_labels(config: PreTrainedConfig) -> None:
    """
    Refuse class names that do not name every class.

    Raises:
        `ValueError`: a class has no name, or a name no class; the message says what is expected.
    """
    names = config.id2label
    if len(names) > MAX_LABELS or set(names) != set(range(len(names))):
        raise ValueError(f"id2label must name the classes from 0 on, at most {MAX_LABELS}; got {len(names)} names.")
    if not all(isinstance(name, str) for name in names.values()):
        raise ValueError("id2label must map to strings.")


@strict
class SlowOnlyConfig(PreTrainedConfig):
    r"""
    Configuration of [`SlowOnlyModel`], the Slow pathway of SlowFast (arXiv 1812.03982) as a 3-D ResNet. The defaults
    are the paper's backbone: SlowOnly-R50 on 32 frames of 224 x 224 pixels, every second frame.

    Args:
        num_channels (`int`, defaults to 3): Channels of a frame.
        num_frames (`int`, defaults to 32): Frames of a clip (paper, section 4.2). Any other length works too.
        frame_interval (`int`, defaults to 2), image_size (`int`, defaults to 224): The frames that the model was
            trained on: their distance in the video, and their height and width in pixels (paper, section 4.2).
            For information only: the video processor decides, and any other size works too.
        stem_width (`int`, defaults to 64): Output channels of the stem.
        hidden_sizes (`list[int]`, defaults to `(256, 512, 1024, 2048)`): Output channels of the stages; a bottleneck's
            inner width is a quarter of it.
        depths (`list[int]`, defaults to `(3, 4, 6, 3)`): Bottlenecks per stage.
        temporal_kernel_sizes (`list[int]`, defaults to `(1, 1, 3, 3)`): Temporal kernel of the first convolution of
            every bottleneck, per stage. There is no temporal stride.
        batch_norm_eps (`float`, defaults to 1e-5), batch_norm_momentum (`float`, defaults to 0.1): torch's defaults.
        classifier_dropout (`float`, defaults to 0.5): Dropout before the classifier (mmaction2's `I3DHead`).
        zero_init_residual (`bool`, defaults to `False`): Start every bottleneck's last normalization at zero.
        freeze_backbone (`bool`, defaults to `False`): Keep stem and stages in eval mode and without gradients.
        num_trainable_stages (`int`, defaults to 0): With `freeze_backbone`, how many of the last stages are
            trained nevertheless.
        initializer_range (`float`, defaults to 0.01): Standard deviation of the classifier's initial weights.
    """

    model_type = "slowonly"

    num_channels: int = 3
    num_frames: int = 32
    frame_interval: int = 2
    image_size: int = 224
    stem_width: int = 64
    hidden_sizes: list[int] | tuple[int, ...] = (256, 512, 1024, 2048)
    depths: list[int] | tuple[int, ...] = (3, 4, 6, 3)
    temporal_kernel_sizes: list[int] | tuple[int, ...] = (1, 1, 3, 3)
    batch_norm_eps: float = 1e-5
    batch_norm_momentum: float = 0.1
    classifier_dropout: float | int = 0.5
    zero_init_residual: bool = False
    freeze_backbone: bool = False
    num_trainable_stages: int = 0
    initializer_range: float = 0.01

    def __post_init__(self, **kwargs):
        check_sizes(self, kwargs.get("num_labels"))
        if not len(self.hidden_sizes) == len(self.depths) == len(self.temporal_kernel_sizes):
            raise ValueError(
                f"hidden_sizes, depths and temporal_kernel_sizes have one entry per stage, got {self.hidden_sizes}, "
                f"{self.depths} and {self.temporal_kernel_sizes}."
            )
        if any(size % 4 for size in self.hidden_sizes):
            raise ValueError(f"hidden_sizes must be multiples of 4, got {self.hidden_sizes}.")
        if any(size % 2 == 0 for stage in range(len(self.depths)) for size in self.kernel_sizes_of(stage)):
            raise ValueError(f"temporal_kernel_sizes must be odd, got {self.temporal_kernel_sizes}.")
        self.check_stages()
        super().__post_init__(**kwargs)
        check_labels(self)

    def check_stages(self) -> None:
        """Raise a `ValueError` unless there are as many stages as `num_trainable_stages` says."""
        if not 0 <= self.num_trainable_stages <= len(self.depths):
            raise ValueError(
                f"num_trainable_stages must lie between 0 and {len(self.depths)}, got {self.num_trainable_stages}."
            )

    def kernel_sizes_of(self, stage: int) -> list[int]:
        """Return the temporal kernels of a stage, one per bottleneck."""
        return [self.temporal_kernel_sizes[stage]] * self.depths[stage]

    @property
    def num_video_tokens(self) -> int:
        """Return T', the time steps of the last stage."""
        return self.num_frames

    @property
    def hidden_size(self) -> int:
        return self.hidden_sizes[-1]

    @property
    def num_hidden_layers(self) -> int:
        return len(self.depths)


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
        temporal_pool_size (`int`, defaults to 1): Take the maximum over this many frames after the first stage, which
            leaves one of them.
        temporal_shift_divisor (`int`, defaults to 0): Before each bottleneck's first convolution, one in this many
            channels is taken from the next frame and one from the previous frame; 0: none.
        non_local_blocks (`list[list[int]]`, defaults to `()`): The bottlenecks of each stage that a non-local block
            follows.
    """

    model_type = "video_resnet"

    num_frames: int = 3
    frame_interval: int = 1
    temporal_kernel_sizes: list | tuple = (1, 1, 1, 1)
    stem_temporal_kernel_size: int = 1
    temporal_pool_size: int = 1
    temporal_shift_divisor: int = 0
    non_local_blocks: list | tuple = ()

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
        if not 1 <= self.temporal_pool_size <= self.num_frames:
            raise ValueError(
                f"temporal_pool_size must lie between 1 and num_frames {self.num_frames}, got "
                f"{self.temporal_pool_size}."
            )
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
        return self.num_frames // self.temporal_pool_size


# The backbones whose code is published with the encoders, by their model_type.
OWN_BACKBONE_CONFIGS = {config.model_type: config for config in (SlowOnlyConfig, VideoResNetConfig)}

# The order of the tokens in the `last_hidden_state` of a Transformers vision model: how many come before the patches,
# and whether the patches run over time first ("time") or over space first ("space"). Read from the models' embeddings.
TOKEN_LAYOUTS = {
    "videomae": (0, "time"),
    "vjepa2": (0, "time"),
    "vivit": (1, "time"),
    "timesformer": (1, "space"),
    "vit": (1, "frame"),
    "dinov2": (1, "frame"),
}


@strict
class FineGymVisionConfig(PreTrainedConfig):
    r"""
    Configuration of [`FineGymVisionModel`], the 3D vision encoder (paper, section 3.1): BERT layers over the spatially
    pooled features of a frozen backbone. What the paper leaves open follows UniVL, whose encoder it names.

    Args:
        vision_config (`dict` or `PreTrainedConfig`): The backbone: a [`SlowOnlyConfig`], or the configuration of any
            Transformers model that gives tokens per frame or tubelet (VideoMAE, V-JEPA 2, TimeSformer, ViViT, ViT,
            DINOv2).
        num_frames (`int`): Frames of a clip. Taken from the backbone; required only for image backbones. This field
            and the next two are written into the configuration of a SlowOnly backbone.
        freeze_backbone (`bool`, defaults to `True`): Keep the backbone in eval mode and without gradients (section 3).
        num_trainable_stages (`int`, defaults to 0): With `freeze_backbone`, how many of SlowOnly's last stages are
            trained.
        hidden_size (`int`, defaults to 768), num_hidden_layers (`int`, defaults to 3),
        num_attention_heads (`int`, defaults to 12), intermediate_size (`int`, defaults to 3072): The encoder.
        hidden_act (`str`, defaults to `"gelu"`), hidden_dropout_prob (`float`, defaults to 0.1),
        attention_probs_dropout_prob (`float`, defaults to 0.1), layer_norm_eps (`float`, defaults to 1e-12),
        initializer_range (`float`, defaults to 0.02): BERT's and UniVL's.
        use_position_embeddings (`bool`, defaults to `True`): Without them the encoder cannot tell the order of
            the frames.
        position_initializer_range (`float`, defaults to 0.02): BERT's. The video tokens that they are added to are
            about twenty times larger: start them larger where there are only a few thousand steps to learn order.
        normalize_features (`bool`, defaults to `False`): LayerNorm on the backbone's features (UniVL's
            NormalizeVideo).
        classifier_dropout (`float`, defaults to 0.0): Dropout before the classifier.
        num_prefix_tokens (`int`), token_layout (`str`): For a backbone of Transformers, the order of its tokens: how
            many precede the patches, and whether the patches run over "time" first, over "space" first, or belong to
            one "frame" of an image model. Filled in for the models named above.
    """

    model_type = "finegym_vision"
    sub_configs = {"vision_config": AutoConfig}

    vision_config: dict | PreTrainedConfig | None = None
    num_frames: int | None = None
    freeze_backbone: bool = True
    num_trainable_stages: int = 0
    hidden_size: int = 768
    num_hidden_layers: int = 3
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    use_position_embeddings: bool = True
    position_initializer_range: float = 0.02
    normalize_features: bool = False
    classifier_dropout: float | int = 0.0
    num_prefix_tokens: int | None = None
    token_layout: str | None = None
    # read by transformers' BertLayer
    is_decoder: bool = False
    add_cross_attention: bool = False

    def __post_init__(self, **kwargs):
        if self.vision_config is None:
            self.vision_config = SlowOnlyConfig()
        elif isinstance(self.vision_config, dict):
            values = dict(self.vision_config)
            model_type = values.pop("model_type", SlowOnlyConfig.model_type)
            if model_type in (FineGymVisionConfig.model_type, FineGymVideoTextConfig.model_type):
                raise ValueError(f"vision_config describes a {model_type}, which is an encoder, not a backbone.")
            if model_type in OWN_BACKBONE_CONFIGS:
                self.vision_config = OWN_BACKBONE_CONFIGS[model_type](**values)
            else:
                self.vision_config = AutoConfig.for_model(model_type, **values)
        if self.num_frames is None:
            self.num_frames = getattr(self.vision_config, "num_frames", None) or getattr(
                self.vision_config, "frames_per_clip", None
            )
        if self.num_frames is None:
            raise ValueError(f"{self.vision_config.model_type} is an image model: set num_frames, the clip's length.")
        check_sizes(self, kwargs.get("num_labels"))
        if self.vision_config.model_type in OWN_BACKBONE_CONFIGS:
            self.configure_backbone()
        else:
            self._describe_tokens()
        super().__post_init__(**kwargs)
        check_labels(self)

    def configure_backbone(self) -> None:
        """Write the fields that both configurations have, which the encoder decides, into the backbone's."""
        self.vision_config = copy.deepcopy(self.vision_config)  # it may belong to another model
        self.vision_config.num_frames = self.num_frames
        self.vision_config.freeze_backbone = self.freeze_backbone
        self.vision_config.num_trainable_stages = self.num_trainable_stages
        self.vision_config.check_stages()

    def _describe_tokens(self):
        layout = TOKEN_LAYOUTS.get(self.vision_config.model_type)
        if layout is None and (self.num_prefix_tokens is None or self.token_layout is None):
            raise ValueError(
                f"The token layout of {self.vision_config.model_type} is not known: set num_prefix_tokens and "
                "token_layout ('time', 'space' or 'frame')."
            )
        if self.num_prefix_tokens is None:
            self.num_prefix_tokens = layout[0] + (getattr(self.vision_config, "num_register_tokens", 0) or 0)
        if self.token_layout is None:
            self.token_layout = layout[1]
        if self.token_layout not in ("time", "space", "frame"):
            raise ValueError(f"token_layout must be 'time', 'space' or 'frame', got {self.token_layout!r}.")
        if self.num_trainable_stages:
            raise ValueError("num_trainable_stages counts SlowOnly's stages; with another backbone leave it at 0.")

    @property
    def video_feature_size(self) -> int:
        """Return the channels of a video token before the encoder's embedding."""
        return self.vision_config.hidden_size

    @property
    def num_video_tokens(self) -> int:
        """Return T', the video tokens of a clip, one per frame or tubelet."""
        if self.vision_config.model_type in OWN_BACKBONE_CONFIGS:
            return self.vision_config.num_video_tokens
        tubelet_size = getattr(self.vision_config, "tubelet_size", None) or 1
        return self.num_frames // (tubelet_size if isinstance(tubelet_size, int) else tubelet_size[0])


@strict
class FineGymVideoTextConfig(FineGymVisionConfig):
    r"""
    Configuration of [`FineGymVideoTextModel`], the video-text cross encoder (paper, section 3.2): BERT layers over the
    video tokens and one token per attribute text. All arguments of [`FineGymVisionConfig`], and:

    Args:
        num_hidden_layers (`int`, defaults to 2): The paper's cross encoder has two layers (section 3.2).
        attribute_names (`list[str]`): The vocabulary of attribute texts; entry 0 is the blank attribute. Gym99 has 66,
            Gym288 98 (section 4.4).
        use_token_type_embeddings (`bool`, defaults to `True`): Type 0 for video tokens and 1 for text tokens.
    """

    model_type = "finegym_video_text"

    num_hidden_layers: int = 2
    attribute_names: list[str] | tuple[str, ...] = ("",)
    use_token_type_embeddings: bool = True

    @property
    def num_attributes(self) -> int:
        return len(self.attribute_names)


__all__ = ["FineGymVideoTextConfig", "FineGymVisionConfig", "SlowOnlyConfig", "VideoResNetConfig"]
