"""A recipe: everything that decides a training run, read from one YAML file and the command line."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from finegym.architectures import ARCHITECTURES
from finegym.data.files import write_text

from .recipe_sections import (
    CheckpointingRecipe,
    DataRecipe,
    EvaluationRecipe,
    FeaturesRecipe,
    LoggingRecipe,
    ModelRecipe,
    OptimizationRecipe,
)


@dataclass(frozen=True)
class Recipe:
    """One experiment.

    Attributes:
        name: The name of the experiment.
        output_dir: The checkpoint folder to write. It also holds the run's state and logs.
        model: What is trained.
        data: Which videos, and how a clip of one becomes model input.
        optimization: How the weights are updated.
        features: How an encoder gets the features of its frozen backbone.
        evaluation: When and how the validation split is scored.
        logging: What is reported.
        checkpointing: How often the state of the run is saved.
        seed: The seed of the initial weights, the order of the videos, augmentation and dropout.
    """

    name: str
    output_dir: str
    model: ModelRecipe
    data: DataRecipe
    optimization: OptimizationRecipe
    features: FeaturesRecipe = field(default_factory=FeaturesRecipe)
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)
    logging: LoggingRecipe = field(default_factory=LoggingRecipe)
    checkpointing: CheckpointingRecipe = field(default_factory=CheckpointingRecipe)
    seed: int = 0

    def __post_init__(self):
        if self.features.mode == "cached" and not ARCHITECTURES[self.model.architecture].takes_features:
            raise ValueError(
                "features.mode: cached is for models on a frozen backbone; "
                f"{self.model.architecture} itself is trained on pixels (mode: online)."
            )
        if self.optimization.mixup is not None and ARCHITECTURES[self.model.architecture].has_own_loss:
            raise ValueError(
                f"optimization.mixup mixes labels of classes, but the loss of {self.model.architecture} has others "
                "too; leave it out."
            )
        config = self.model.config
        if self.model.lora and (config.get("num_trainable_blocks") or config.get("freeze_backbone") is False):
            raise ValueError(
                "model.lora adapts a frozen backbone; leave out num_trainable_blocks and freeze_backbone."
            )
        learning = {
            "num_trainable_blocks": config.get("num_trainable_blocks"),
            "freeze_backbone: false": config.get("freeze_backbone") is False,
            "model.lora": bool(self.model.lora),
        }
        for name, is_set in learning.items():
            if self.features.mode == "cached" and is_set:
                raise ValueError(f"Cached features are of a frozen backbone; with {name} set features.mode: online.")

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain lists, dicts and scalars, as JSON and YAML have them."""
        return json.loads(json.dumps(asdict(self)))

    def save(self, path: str | Path) -> None:
        """Write the recipe with every field as a YAML file that `parse_recipe` reads back unchanged."""
        write_text(path, yaml.safe_dump(self.to_dict(), sort_keys=False))


# What may change between a run and its resumption: none of it touches the weights.
HARMLESS_FIELDS = (
    "name",
    "output_dir",
    "data.root",
    "data.labels",
    "data.val_split",
    "data.leave_out_leaking",
    "data.num_clips",
    "data.num_workers",
    "data.cache_frames",
    "data.max_bad_share",
    "optimization.gradient_checkpointing",
    "features.folder",
    "model.backbone",
    "evaluation",
    "logging",
    "checkpointing",
)


# What recipes had no word for at first: left out, these do not change a recipe's hash.
LATER_FIELDS = (
    "data.flow_len",
    "model.lora.rank",
    "model.lora.alpha",
    "model.lora.targets",
    "optimization.layer_lr_decay",
    "optimization.mixup",
)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings: `{"a": {"b": 1}}` becomes `{"a.b": 1}`."""
    flat = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def changed_fields(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the fields that decide the weights and differ between two recipes (as `to_dict` returns them): name ->
    (before, after)."""
    before, after = flatten(before), flatten(after)
    changed = {}
    for name in sorted(before.keys() | after.keys()):
        harmless = any(name == harmless or name.startswith(f"{harmless}.") for harmless in HARMLESS_FIELDS)
        if not harmless and before.get(name) != after.get(name):
            changed[name] = (before.get(name), after.get(name))
    return changed


def recipe_hash(values: dict[str, Any]) -> str:
    """Return the SHA-256 of the fields that decide the weights."""
    flat = flatten(values)
    # in tuples, so that None counts as a value
    decisive = {name: (value,) for name, value in flat.items() if value is not None or name not in LATER_FIELDS}
    decisive = {name: decisive[name] for name in changed_fields(decisive, {})}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


# What runs of one experiment may differ in: tables show the mean over them.
REPEATED_FIELDS = ("seed", "features.seed", "data.fold")


def experiment_hash(values: dict[str, Any]) -> str:
    """Return the SHA-256 of what decides the weights apart from seeds and folds: the same for all repetitions of an
    experiment.

    A backbone counts by its architecture and settings rather than by its folder, as each repetition may have its own.
    """
    flat = flatten(values)
    return recipe_hash({name: value for name, value in flat.items() if name not in REPEATED_FIELDS})
