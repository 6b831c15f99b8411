"""The project's own architectures, one row each; nothing else asks which of them a model is.

A row says what a recipe calls the architecture, which classes it has, how cards describe it and what a recipe may ask
of it. To add one: its modeling file in `modeling_finegym/` (which also exports and registers its classes), a row here,
a recipe in `configuration/` and a test. Its published code is the file that defines its classes. A model that others
are built on offers `get_video_features` and is named in `OWN_BACKBONES` of `modeling_on_backbone.py` as
well.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal


if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Architecture:
    """One row of the table.

    Attributes:
        prefix: The prefix of the names of its classes in `modeling_finegym`. They are looked up when they are asked
            for, so that a recipe can be read without torch.
        title: The name that the paper gives it, with `{0.field}` for fields of the configuration.
        description: The name in the first sentence of a card, likewise.
        needs_backbone: Whether it is built on another model, which a recipe names and whose configuration is its
            `vision_config`.
        takes_features: Whether it can be trained on the cached features of a frozen backbone.
        needs_attributes: Whether it reads attribute texts, so that its labels must have some.
        needs_levels: Whether its labels must have FineGym's levels above the classes, events and sets.
        has_own_loss: Whether its loss has other terms beside the cross entropy of the classes.
        in_two_stages: Whether it is trained in two stages, the second of which starts from a checkpoint of the first.
        is_transformer: Whether it is quantized as a Transformer.
    """

    prefix: str
    title: str
    description: str
    needs_backbone: bool = False
    takes_features: bool = False
    needs_attributes: bool = False
    needs_levels: bool = False
    has_own_loss: bool = False
    in_two_stages: bool = False
    is_transformer: bool = False

    @property
    def config_class(self) -> "type[PreTrainedConfig]":
        """Its configuration; `config_class.model_type` is its name in config.json."""
        return self._class("Config")

    @property
    def model_class(self) -> "type[PreTrainedModel]":
        return self._class("Model")

    @property
    def classifier_class(self) -> "type[PreTrainedModel]":
        return self._class("ForVideoClassification")

    def _class(self, suffix: str) -> type:
        import modeling_finegym

        return getattr(modeling_finegym, self.prefix + suffix)

    @property
    def code_file(self) -> str:
        """The published file that defines its classes, such as `modeling_slowonly.py`."""
        return f"{self.classifier_class.__module__.rpartition('.')[2]}.py"

    def describe(self, template: str, config: dict[str, Any]) -> str:
        """`title` or `description` of a model with this config.json."""
        return template.format(self.config_class.from_dict(config))

    @property
    def config_fields(self) -> set[str]:
        """The fields of its configuration that a recipe's `model.config` may set."""
        return set(self.config_class.__dataclass_fields__) - {"vision_config", "num_labels", "id2label", "label2id"}


ARCHITECTURES = {
    "slowonly": Architecture(
        "SlowOnly",
        title="SlowOnly",
        description="A SlowOnly 3D CNN",
    ),
    "video_resnet": Architecture(
        "VideoResNet",
        title="{0.system}",
        description="A video ResNet with the settings of {0.system}",
    ),
    "s3d": Architecture(
        "S3D",
        title="S3D",
        description="An S3D 3D CNN",
    ),
    "bn_inception": Architecture(
        "BNInception",
        title="TSN (BN-Inception)",
        description="A 2D CNN on frames of several segments (TSN)",
    ),
    "vision": Architecture(
        "FineGymVision",
        title="3D vision encoder (B = {0.num_hidden_layers})",
        description="A Transformer encoder of {0.num_hidden_layers} layers over the features of a frozen 3D CNN",
        needs_backbone=True,
        takes_features=True,
        is_transformer=True,
    ),
    "video_text": Architecture(
        "FineGymVideoText",
        title="Video-text cross encoder",
        description="A Transformer over the features of a frozen 3D CNN and a fixed set of attribute texts",
        needs_backbone=True,
        takes_features=True,
        needs_attributes=True,
        is_transformer=True,
    ),
    "trn": Architecture(
        "Trn",
        title="TRN (multi-scale)",
        description="A temporal relation network over the features of a 2D CNN",
        needs_backbone=True,
    ),
    "tqn": Architecture(
        "Tqn",
        title="TQN",
        description="A temporal query network over the features of a 3D CNN",
        needs_backbone=True,
        needs_attributes=True,
        has_own_loss=True,
    ),
    "mtn": Architecture(
        "Mtn",
        title="MTN",
        description="A multi-task network of three CNNs at rising frame rates, for events, sets and elements",
        needs_backbone=True,
        takes_features=True,
        needs_levels=True,
        has_own_loss=True,
        in_two_stages=True,
    ),
}

# What `model.architecture` of a recipe may be.
ArchitectureName = Literal[tuple(ARCHITECTURES)]


def find_architecture(model_type: str) -> Architecture | None:
    """Return the row of a `model_type` of config.json; None if it is not one of the project's own."""
    rows = ARCHITECTURES.values()
    return next((row for row in rows if row.config_class.model_type == model_type), None)
