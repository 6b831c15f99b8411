"""Configurations of the systems of the paper's table 3 that are built on a backbone."""

from .configuration_backbones import BackboneConfig, BNInceptionConfig, S3DConfig
from .configuration_finegym import OnBackboneConfig


# isort: split
from huggingface_hub.dataclasses import strict


MAX_INTEGRATION_SIZE = 2**14

# The levels of classes, from the one whose pathway sees the fewest frames.
LEVELS = ("event", "set", "element")


@strict
class MtnConfig(OnBackboneConfig):
    r"""
    Configuration of [`MtnModel`], a multi-task network after arXiv 2110.05853: three networks of one kind see a clip
    at rising frame rates, for the events, sets and elements of FineGym. Only this much is published with it; the
    other values are this project's. The arguments are those of [`OnBackboneConfig`], with `classifier_dropout` 0.5,
    and:

    Args:
        pathway_intervals (`list[int]`, defaults to `(8, 4, 1)`): Distance between two frames of each pathway, in
            frames of the clip: of 32 frames, 4, 8 and 32.
        integrate_levels (`bool`, defaults to `True`): Classify every level from the features of all three. Otherwise
            each pathway's features are classified alone, as in the first of the two stages of training.
        integration_size (`int`, defaults to 512): Channels of a pathway after its integration layer.
        class_events (`list[int]`), class_sets (`list[int]`): The event and the set of each class, numbered from 0.
            Empty: there is one.
        level_loss_weights (`list[float]`, defaults to `(1.0, 1.0, 1.0)`): Factors on the cross entropies of events,
            sets and elements.
    """

    model_type = "mtn"

    classifier_dropout: float | int = 0.5
    pathway_intervals: list[int] | tuple[int, ...] = (8, 4, 1)
    integrate_levels: bool = True
    integration_size: int = 512
    class_events: list[int] | tuple[int, ...] = ()
    class_sets: list[int] | tuple[int, ...] = ()
    level_loss_weights: list[float | int] | tuple[float | int, ...] = (1.0, 1.0, 1.0)

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if not isinstance(self.vision_config, BackboneConfig):
            raise ValueError(
                f"The pathways of MTN are CNNs of this project, not {self.vision_config.model_type}: their clips have "
                "different lengths."
            )
        if len(self.pathway_intervals) != len(LEVELS) or not all(
            1 <= interval <= self.num_frames for interval in self.pathway_intervals
        ):
            raise ValueError(
                f"pathway_intervals must be three numbers from 1 to num_frames {self.num_frames}, got "
                f"{self.pathway_intervals}."
            )
        if not 1 <= self.integration_size <= MAX_INTEGRATION_SIZE:
            raise ValueError(
                f"integration_size must lie between 1 and {MAX_INTEGRATION_SIZE}, got {self.integration_size}."
            )
        if len(self.level_loss_weights) != len(LEVELS) or min(self.level_loss_weights) < 0:
            raise ValueError(f"level_loss_weights must be three numbers from 0 on, got {self.level_loss_weights}.")
        for name in ("class_events", "class_sets"):
            groups = getattr(self, name)
            if groups and (len(groups) != self.num_labels or set(groups) != set(range(max(groups) + 1))):
                raise ValueError(
                    f"{name} must number a group of each of {self.num_labels} classes, from 0 and without gaps, got "
                    f"{list(groups)[:8]}."
                )

    @property
    def hidden_size(self) -> int:
        return self.video_feature_size

    @property
    def num_video_tokens(self) -> int:
        """Return the tokens of a clip: one of each pathway."""
        return len(LEVELS)

    @property
    def num_places(self) -> int:
        """Return the tokens of a pathway."""
        return 1

    @property
    def level_sizes(self) -> list[int]:
        """Return the number of events, sets and elements."""
        return [max(groups, default=0) + 1 for groups in (self.class_events, self.class_sets)] + [self.num_labels]


@strict
class TqnConfig(OnBackboneConfig):
    r"""
    Configuration of [`TqnModel`], the temporal query network (arXiv 2104.09496): learned queries, one for each group
    of attributes and one for the class, read the features of all blocks of a clip. The arguments are those of
    [`OnBackboneConfig`], with `num_frames` 64, an S3D that learns, and `classifier_dropout` 0.8; and:

    Args:
        block_len (`int`, defaults to 8): Frames of the blocks into which a clip is cut. Each goes through the backbone
            on its own.
        num_hidden_layers (`int`, defaults to 4), num_attention_heads (`int`, defaults to 4),
        intermediate_size (`int`, defaults to 1024), hidden_dropout_prob (`float`, defaults to 0.1): The decoder, whose
            channels are the backbone's.
        attribute_names (`list[str]`): The vocabulary of attribute texts; entry 0 is "none of the group".
        attribute_group_sizes (`list[int]`): Attributes of each group, in the order of the vocabulary from entry 1 on.
            A clip has at most one of each group. Gym99 has 11 groups, Gym288 12.
        class_attributes (`list[list[int]]`): For each class, its attribute of each group, or 0.
    """

    model_type = "tqn"

    num_frames: int | None = 64
    freeze_backbone: bool = False
    classifier_dropout: float | int = 0.8
    block_len: int = 8
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    intermediate_size: int = 1024
    hidden_dropout_prob: float | int = 0.1
    attribute_names: list[str] | tuple[str, ...] = ("",)
    attribute_group_sizes: list[int] | tuple[int, ...] = ()
    class_attributes: list[list[int]] | tuple[tuple[int, ...], ...] = ()

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.num_frames % self.block_len:
            raise ValueError(
                f"num_frames must be a multiple of block_len, got {self.num_frames} and {self.block_len}."
            )
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} must divide the backbone's {self.hidden_size} "
                "channels."
            )
        if sum(self.attribute_group_sizes) != self.num_attributes - 1:
            raise ValueError(
                f"attribute_group_sizes must sum to the {self.num_attributes - 1} attributes after the first, got "
                f"{sum(self.attribute_group_sizes)}."
            )
        rows = [list(row) for row in self.class_attributes]
        if any(len(row) != self.num_attribute_groups for row in rows) or not all(
            0 <= attribute < self.num_attributes for row in rows for attribute in row
        ):
            raise ValueError(
                f"class_attributes must give each class {self.num_attribute_groups} of {self.num_attributes} "
                "attributes."
            )

    def default_backbone(self) -> S3DConfig:
        return S3DConfig()

    def configure_backbone(self) -> None:
        super().configure_backbone()
        self.vision_config.num_frames = self.block_len

    @property
    def hidden_size(self) -> int:
        return self.video_feature_size

    @property
    def num_attributes(self) -> int:
        return len(self.attribute_names)

    @property
    def num_attribute_groups(self) -> int:
        return len(self.attribute_group_sizes)

    @property
    def num_video_tokens(self) -> int:
        """Return T', the tokens of all blocks together."""
        return self.num_frames // self.block_len * self.vision_config.num_video_tokens


@strict
class TrnConfig(OnBackboneConfig):
    r"""
    Configuration of [`TrnModel`], the multi-scale temporal relation network (arXiv 1711.08496): relations between two
    and more frames of a clip. The arguments are those of [`OnBackboneConfig`], with a BN-Inception that learns,
    `num_frames` 3 (FineGym's supplement, section 1.1), `classifier_dropout` 0.8 and `initializer_range` 0.001; the
    last is of the projection alone, whose inputs the dropout is on. And:

    Args:
        hidden_size (`int`, defaults to 256): Channels of a frame after the projection, and of a relation.
        num_sampled_relations (`int`, defaults to 3): Relations of each number of frames that a training step draws.
    """

    model_type = "trn"

    num_frames: int | None = 3
    freeze_backbone: bool = False
    classifier_dropout: float | int = 0.8
    initializer_range: float = 0.001
    hidden_size: int = 256
    num_sampled_relations: int = 3

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if not 2 <= self.num_video_tokens <= 12:  # 12 frames have 4083 relations
            raise ValueError(f"Relations are between 2 to 12 frames, got {self.num_video_tokens}.")
        if self.num_sampled_relations < 1:
            raise ValueError(f"num_sampled_relations must be at least 1, got {self.num_sampled_relations}.")

    def default_backbone(self) -> BNInceptionConfig:
        return BNInceptionConfig()


__all__ = ["MtnConfig", "TqnConfig", "TrnConfig"]
