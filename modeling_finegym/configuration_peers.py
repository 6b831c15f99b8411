"""Configurations of the systems of the paper's table 3 that are built on a backbone."""

from .configuration_backbones import BNInceptionConfig, S3DConfig
from .configuration_finegym import OnBackboneConfig


# isort: split
from huggingface_hub.dataclasses import strict


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


__all__ = ["TqnConfig", "TrnConfig"]
