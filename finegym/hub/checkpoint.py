"""A finished checkpoint folder, as a card and a publication read it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finegym.architectures import Architecture, find_architecture
from finegym.data.labels import Labels
from finegym.data.text import read_json, read_yaml
from finegym.evaluation.report import read_metrics


# The video that a card's code runs on; of a model that sees optical flow, as `finegym flow` writes it.
EXAMPLE, FLOW_EXAMPLE = "example.mp4", "example.mkv"
# What a published checkpoint needs, and what a backbone's type needs besides.
REQUIREMENTS = ("transformers>=5.15,<6", "torch", "torchvision", "av")
OF_BACKBONES = {"timm_wrapper": ("timm",)}
NAMES_OF_DATASETS = {"gym99": "Gym99", "gym288": "Gym288", "synthgym": "SynthGym"}


@dataclass(frozen=True)
class Checkpoint:
    """The files beside the weights. `training` and `labels` are empty where the folder has no such file."""

    folder: Path
    config: dict[str, Any]
    processor: dict[str, Any]
    metrics: dict[str, Any]
    recipe: dict[str, Any]
    training: dict[str, Any]
    labels: Labels | None

    @classmethod
    def read(cls, folder: str | Path) -> "Checkpoint":
        """Read everything but the weights, which only have to exist.

        Raises:
            FileNotFoundError: If a file is missing; the message names the first one and the command that writes it.
            ValueError: If a file cannot be read; the message names it.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no checkpoint folder at {folder}.")
        if not list(folder.glob("model*.safetensors")):
            raise FileNotFoundError(f"{folder} has no model.safetensors: training has not finished.")
        return cls(
            folder=folder,
            config=_read(folder / "config.json", "train.py writes it"),
            processor=_read(folder / "video_preprocessor_config.json", "train.py writes it"),
            metrics=read_metrics(folder),
            recipe=_read(folder / "recipe.yaml", "train.py writes it"),
            training=_read(folder / "training.json") if (folder / "training.json").exists() else {},
            labels=Labels.read(folder / "labels.json") if (folder / "labels.json").exists() else None,
        )

    @property
    def dataset(self) -> str:
        """The data set's name as a title shows it."""
        name = str(self.metrics["dataset"])
        return NAMES_OF_DATASETS.get(name, name)

    @property
    def is_synthetic(self) -> bool:
        """Whether the data was drawn by a program, as its labels state, whatever its name."""
        return bool(self.metrics.get("synthetic", self.labels is not None and self.labels.synthetic))

    @property
    def is_finegym(self) -> bool:
        return self.metrics["dataset"] in ("gym99", "gym288") and self.metrics.get("annotation_version") != "own"

    @property
    def shows_a_gymnast(self) -> bool:
        """Whether it knows gymnastics, from FineGym or SynthGym, rather than a user's own data."""
        return self.is_synthetic or self.is_finegym

    @property
    def flow_len(self) -> int:
        """The frames of optical flow that make one frame of a clip; 0 for a model that sees pictures."""
        return self.processor.get("flow_len", 0)  # absent in processors saved before there was flow

    @property
    def example_name(self) -> str:
        return FLOW_EXAMPLE if self.flow_len else EXAMPLE

    @property
    def architecture(self) -> Architecture:
        """The project's own architecture that it has."""
        row = find_architecture(self.config["model_type"])
        if row is None:
            raise ValueError(
                f"{self.folder / 'config.json'}: {self.config['model_type']!r} is not a model of this project."
            )
        return row

    @property
    def requirements(self) -> tuple[str, ...]:
        """The packages that loading it takes, as pip reads them."""
        backbone = self.config.get("vision_config", self.config)["model_type"]
        return (*REQUIREMENTS, *OF_BACKBONES.get(backbone, ()))

    @property
    def num_layers(self) -> int | None:
        """The number of encoder layers; None for a model without any."""
        return self.config.get("num_hidden_layers")

    @property
    def model_name(self) -> str:
        """The model's name in the paper's words."""
        return self.architecture.describe(self.architecture.title, self.config)

    @property
    def title(self) -> str:
        return f"{self.model_name} on {self.dataset}" + (" (synthetic)" if self.is_synthetic else "")


def _read(path: Path, remedy: str = "") -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {remedy}.")
    if path.suffix == ".json":
        content = read_json(path, what="JSON file", remedy=f"{remedy or 'train.py writes it'}.", finite=False)
    else:
        content = read_yaml(path, what="YAML file")
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a table of keys, not {type(content).__name__}.")
    return content
