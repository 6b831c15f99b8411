"""Configurations of the 3D vision encoder and the video-text cross encoder."""

import copy

from .configuration_backbones import OWN_BACKBONE_CONFIGS, SlowOnlyConfig
from .configuration_checks import check_labels, check_sizes


# isort: split
from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig


# The order of the tokens in the `last_hidden_state` of a Transformers vision model: how many come before the patches,
# beside registers, and whether a whole frame's patches follow one another ("time"), a place's moments do ("space"), or
# the model sees one frame ("frame"). Read from the models' embeddings.
TOKEN_LAYOUTS = {
    "videomae": (0, "time"),
    "vjepa2": (0, "time"),
    "vivit": (1, "time"),
    "timesformer": (1, "space"),
    "vit": (1, "frame"),
    "dinov2": (1, "frame"),
    "dinov2_with_registers": (1, "frame"),
    "dinov3_vit": (1, "frame"),
    "clip_vision_model": (1, "frame"),
    "siglip_vision_model": (0, "frame"),
    "ijepa": (0, "frame"),
}


MAX_POOLED_PARTS = 64


@strict
class OnBackboneConfig(PreTrainedConfig):
    r"""
    What the configurations of all models on a backbone share.

    Args:
        vision_config (`dict` or `PreTrainedConfig`): The backbone: one of this project, or the configuration of any
            Transformers model that gives tokens per frame or tubelet (VideoMAE, V-JEPA 2, TimeSformer, ViViT, ViT,
            DINOv2).
        num_frames (`int`): Frames of a clip. Taken from the backbone; required only for image backbones. This field
            and the next two are written into the configuration of a backbone of this project.
        freeze_backbone (`bool`): Keep the backbone in eval mode and without gradients.
        num_trainable_stages (`int`, defaults to 0): With `freeze_backbone`, how many of the last stages of a backbone
            of this project are trained.
        classifier_dropout (`float`): Dropout before the classifier.
        initializer_range (`float`): Standard deviation of initial weights.
        num_prefix_tokens (`int`), token_layout (`str`): For a backbone of Transformers, the order of its tokens: how
            many precede the patches, and whether the patches run over "time" first, over "space" first, or belong to
            one "frame" of an image model. Filled in for the models named above.
    """

    sub_configs = {"vision_config": AutoConfig}

    vision_config: dict | PreTrainedConfig | None = None
    num_frames: int | None = None
    freeze_backbone: bool = True
    num_trainable_stages: int = 0
    classifier_dropout: float | int = 0.0
    initializer_range: float = 0.02
    num_prefix_tokens: int | None = None
    token_layout: str | None = None

    def __post_init__(self, **kwargs):
        if self.vision_config is None:
            self.vision_config = self.default_backbone()
        elif isinstance(self.vision_config, dict):
            values = dict(self.vision_config)
            model_type = values.pop("model_type", SlowOnlyConfig.model_type)
            if model_type in OWN_BACKBONE_CONFIGS:
                self.vision_config = OWN_BACKBONE_CONFIGS[model_type](**values)
            else:
                self.vision_config = AutoConfig.for_model(model_type, **values)
        if isinstance(self.vision_config, OnBackboneConfig):
            model_type = self.vision_config.model_type
            raise ValueError(f"vision_config describes a {model_type}, which is an encoder, not a backbone.")
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

    def default_backbone(self) -> PreTrainedConfig:
        """Return the configuration of the backbone where none is named."""
        return SlowOnlyConfig()

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
            raise ValueError(
                "num_trainable_stages counts the stages of a backbone of this project; with another leave it at 0."
            )

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
class FineGymVisionConfig(OnBackboneConfig):
    r"""
    Configuration of [`FineGymVisionModel`], the 3D vision encoder (paper, section 3.1): BERT layers over the spatially
    pooled features of a frozen backbone. What the paper leaves open follows UniVL, whose encoder it names. The
    arguments are those of [`OnBackboneConfig`], and:

    Args:
        hidden_size (`int`, defaults to 768), num_hidden_layers (`int`, defaults to 3),
        num_attention_heads (`int`, defaults to 12), intermediate_size (`int`, defaults to 3072): The encoder.
        hidden_act (`str`, defaults to `"gelu"`), hidden_dropout_prob (`float`, defaults to 0.1),
        attention_probs_dropout_prob (`float`, defaults to 0.1), layer_norm_eps (`float`, defaults to 1e-12): BERT's
            and UniVL's, as is `initializer_range`, 0.02.
        use_position_embeddings (`bool`, defaults to `True`): Without them the encoder cannot tell the order of
            the frames.
        position_initializer_range (`float`, defaults to 0.02): BERT's. The video tokens that they are added to are
            about twenty times larger: start them larger where there are only a few thousand steps to learn order.
        normalize_features (`bool`, defaults to `False`): LayerNorm on the backbone's features (UniVL's
            NormalizeVideo).
        standardize_features (`bool`, defaults to `False`): In its place, standardize every channel of the features by
            its mean and deviation over the training features, which the checkpoint keeps.
        num_pooled_parts (`int`, defaults to 0): With P parts, the mean of the video tokens is followed by the means of
            P parts of the clip, so that the classifier knows them apart. The paper pools with the mean alone.
    """

    model_type = "finegym_vision"

    hidden_size: int = 768
    num_hidden_layers: int = 3
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    layer_norm_eps: float = 1e-12
    use_position_embeddings: bool = True
    position_initializer_range: float = 0.02
    normalize_features: bool = False
    standardize_features: bool = False
    num_pooled_parts: int = 0
    # read by transformers' BertLayer
    is_decoder: bool = False
    add_cross_attention: bool = False

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.normalize_features and self.standardize_features:
            raise ValueError("normalize_features and standardize_features exclude each other; set one of them.")
        if not 0 <= self.num_pooled_parts <= MAX_POOLED_PARTS:
            raise ValueError(
                f"num_pooled_parts must lie between 0 and {MAX_POOLED_PARTS}, got {self.num_pooled_parts}."
            )

    @property
    def pooled_video_size(self) -> int:
        """Return the channels of the pooled video tokens."""
        return (1 + self.num_pooled_parts) * self.hidden_size


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


__all__ = ["FineGymVideoTextConfig", "FineGymVisionConfig", "OnBackboneConfig"]
