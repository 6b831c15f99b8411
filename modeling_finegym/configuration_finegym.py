"""Configurations of the 3D vision encoder and the video-text cross encoder."""

import copy

from .configuration_backbones import OWN_BACKBONE_CONFIGS, SlowOnlyConfig
from .configuration_checks import check_labels, check_sizes
from .configuration_token_layouts import TOKEN_LAYOUTS, known_layout


# isort: split
from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig


MAX_POOLED_PARTS = 64
MAX_POOLING_QUERIES = 64
MAX_POOLING_LAYERS = 16
MAX_GRID_SIZE = 64
MAX_BACKBONE_LAYERS = 16
# The output has another form in these than in the layers before the last.
WITHOUT_LAYERS = ("timm_wrapper", "videoprism_vision_model")


@strict
class OnBackboneConfig(PreTrainedConfig):
    r"""
    What the configurations of all models on a backbone share.

    Args:
        vision_config (`dict` or `PreTrainedConfig`): The backbone: one of this project, or the configuration of any
            Transformers model that gives tokens per frame or tubelet (see `TOKEN_LAYOUTS`).
        num_frames (`int`): Frames of a clip. Taken from the backbone; required only for image backbones. This field
            and the next two are written into the configuration of a backbone of this project.
        freeze_backbone (`bool`): Keep the backbone in eval mode and without gradients.
        num_trainable_blocks (`int`, defaults to 0): With `freeze_backbone`, how many of the backbone's last blocks are
            trained: stages of a backbone of this project, layers of one of Transformers.
        backbone_layers (`list[int]`, *optional*): The layers of a backbone of Transformers whose outputs are joined to
            the features, by channel: from 1 to their number, or from the end, where -1 is `last_hidden_state`. The
            default is the last alone.
        classifier_dropout (`float`): Dropout before the classifier.
        initializer_range (`float`): Standard deviation of initial weights.
        num_prefix_tokens (`int`), token_layout (`str`): For a backbone of Transformers, the order of its tokens: how
            many precede the patches, and whether the patches run over "time" first, over "space" first, or belong to
            one "frame" of an image model. Filled in for the models of `TOKEN_LAYOUTS`.
    """

    sub_configs = {"vision_config": AutoConfig}

    vision_config: dict | PreTrainedConfig | None = None
    num_frames: int | None = None
    freeze_backbone: bool = True
    num_trainable_blocks: int = 0
    backbone_layers: list[int] | tuple[int, ...] | None = None
    classifier_dropout: float | int = 0.0
    initializer_range: float = 0.02
    num_prefix_tokens: int | None = None
    token_layout: str | None = None

    def __post_init__(self, **kwargs):
        # the name that earlier versions wrote
        self.num_trainable_blocks = kwargs.pop("num_trainable_stages", self.num_trainable_blocks)
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
        if self.has_own_backbone:
            self.configure_backbone()
        else:
            self._describe_tokens()
        self._check_layers()
        super().__post_init__(**kwargs)
        check_labels(self)

    @property
    def has_own_backbone(self) -> bool:
        """Return whether the backbone is one of this project."""
        return self.vision_config.model_type in OWN_BACKBONE_CONFIGS

    def default_backbone(self) -> PreTrainedConfig:
        """Return the configuration of the backbone where none is named."""
        return SlowOnlyConfig()

    def configure_backbone(self) -> None:
        """Write the fields that both configurations have, which the encoder decides, into the backbone's."""
        self.vision_config = copy.deepcopy(self.vision_config)  # it may belong to another model
        self.vision_config.num_frames = self.num_frames
        self.vision_config.freeze_backbone = self.freeze_backbone
        self.vision_config.num_trainable_blocks = self.num_trainable_blocks
        self.vision_config.check_blocks()

    def _describe_tokens(self):
        model_type = self.vision_config.model_type
        if model_type not in TOKEN_LAYOUTS and (self.num_prefix_tokens is None or self.token_layout is None):
            raise ValueError(
                f"The token layout of {model_type} is not known: set num_prefix_tokens and "
                "token_layout ('time', 'space' or 'frame')."
            )
        num_prefix_tokens, order = known_layout(self.vision_config)
        if self.num_prefix_tokens is None:
            self.num_prefix_tokens = num_prefix_tokens
        if self.token_layout is None:
            self.token_layout = order
        if self.token_layout not in ("time", "space", "frame"):
            raise ValueError(f"token_layout must be 'time', 'space' or 'frame', got {self.token_layout!r}.")

    def _check_layers(self):
        if self.backbone_layers is None:
            return
        model_type = self.vision_config.model_type
        if self.has_own_backbone or model_type in WITHOUT_LAYERS:
            raise ValueError(f"backbone_layers joins layers that are alike, which those of {model_type} are not.")
        num_layers = self.vision_config.num_hidden_layers
        found = [layer % (num_layers + 1) for layer in self.backbone_layers if 0 < abs(layer) <= num_layers]
        if not 0 < len(self.backbone_layers) <= MAX_BACKBONE_LAYERS or len(set(found)) < len(self.backbone_layers):
            raise ValueError(
                f"backbone_layers must name 1 to {MAX_BACKBONE_LAYERS} of the {num_layers} layers of {model_type}, "
                f"each once, got {list(self.backbone_layers)}."
            )

    @property
    def video_feature_size(self) -> int:
        """Return the channels of a video token before the encoder's embedding."""
        return self.vision_config.hidden_size * len(self.backbone_layers or (-1,))

    @property
    def num_moments(self) -> int:
        """Return T', the frames or tubelets of a clip that the backbone tells apart."""
        if self.has_own_backbone:
            return self.vision_config.num_video_tokens
        tubelet_size = getattr(self.vision_config, "tubelet_size", None) or 1
        return self.num_frames // (tubelet_size if isinstance(tubelet_size, int) else tubelet_size[0])

    @property
    def num_video_tokens(self) -> int:
        """Return the video tokens of a clip: one per moment, T'."""
        return self.num_moments


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
        spatial_grid_size (`int` or `str`, defaults to 1): With G, the features of a moment are averaged in the cells
            of a G x G grid, row by row, and there are T' G^2 video tokens with positions in time and in space; "all"
            keeps every place of the backbone. The paper averages over all of space.
        image_size (`int`, *optional*): Height and width of the frames in pixels, which give the number of places where
            all are kept. The default is the backbone's.
        num_pooling_queries (`int`, defaults to 0): Learned queries that attend to all encoded video tokens; their
            answers join the mean.
        num_pooling_layers (`int`, defaults to 1): The blocks through which these queries go: attention among them,
            attention to the tokens, and a network of two layers.
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
    spatial_grid_size: int | str = 1
    image_size: int | None = None
    num_pooling_queries: int = 0
    num_pooling_layers: int = 1
    # read by transformers' BertLayer
    is_decoder: bool = False
    add_cross_attention: bool = False

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.normalize_features and self.standardize_features:
            raise ValueError("normalize_features and standardize_features exclude each other; set one of them.")
        limits = {
            "num_pooled_parts": (0, MAX_POOLED_PARTS),
            "num_pooling_queries": (0, MAX_POOLING_QUERIES),
            "num_pooling_layers": (1, MAX_POOLING_LAYERS),
        }
        for name, (smallest, largest) in limits.items():
            if not smallest <= getattr(self, name) <= largest:
                raise ValueError(f"{name} must lie between {smallest} and {largest}, got {getattr(self, name)}.")
        grid_size = self.spatial_grid_size
        if grid_size != "all" and not (isinstance(grid_size, int) and 1 <= grid_size <= MAX_GRID_SIZE):
            raise ValueError(f'spatial_grid_size must be 1 to {MAX_GRID_SIZE}, or "all", got {grid_size!r}.')
        if self.num_pooling_queries and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} must divide hidden_size {self.hidden_size}."
            )

    @property
    def num_places(self) -> int:
        """Return the video tokens of a moment."""
        if self.spatial_grid_size != "all":
            return self.spatial_grid_size**2
        backbone = self.vision_config
        size = self.image_size or getattr(backbone, "image_size", None) or getattr(backbone, "crop_size", None)
        if self.has_own_backbone:
            return backbone.count_places(self.image_size or backbone.image_size) ** 2
        patch = getattr(backbone, "patch_size", None) or (getattr(backbone, "tubelet_size", None) or (None,))[-1]
        if size is None or patch is None:
            raise ValueError(
                f"{backbone.model_type} does not say how many places it has: set image_size, or a number as "
                "spatial_grid_size."
            )
        sides, patches = ([one] * 2 if isinstance(one, int) else one for one in (size, patch))
        return (sides[0] // patches[0]) * (sides[1] // patches[1])

    @property
    def num_video_tokens(self) -> int:
        """Return the video tokens of a clip: one per moment and place."""
        return self.num_moments * self.num_places

    @property
    def pooled_video_size(self) -> int:
        """Return the channels of the pooled video tokens."""
        return (1 + self.num_pooled_parts + self.num_pooling_queries) * self.hidden_size


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
