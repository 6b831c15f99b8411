"""A recipe: everything that decides a training run, read from one YAML file and the command line."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import jsonargparse
import yaml

from finegym.architectures import ARCHITECTURES, ArchitectureName
from finegym.data import arguments as _arguments  # noqa: F401 (recipes hold plain values)
from finegym.data.files import write_text


@dataclass(frozen=True)
class ModelRecipe:
    """What is trained.

    Attributes:
        architecture: slowonly (the CNN alone), vision (3D vision encoder) or video_text (video-text cross encoder).
        backbone: checkpoint folder or Hub id. For slowonly the weights to start from (None: random); the encoders need
            one.
        config: overrides of the architecture's configuration class, such as `num_hidden_layers: 1`.
    """

    architecture: ArchitectureName = "slowonly"
    backbone: str | None = None
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if ARCHITECTURES[self.architecture].needs_backbone and self.backbone is None:
            raise ValueError(
                f"model.backbone is missing: the {self.architecture} encoder needs a trained backbone. Train "
                "slowonly first and give its output_dir, or a Hub id."
            )


@dataclass(frozen=True)
class DataRecipe:
    """Which videos, and how a clip of one becomes model input.

    Attributes:
        root: prepared dataset folder (index.parquet, coverage.json, videos).
        labels: the label file; None: labels.json in `root`.
        train_split, val_split: splits of the index.
        annotation_version: of the annotation the dataset must have been prepared from; None: any.
        leave_out_leaking: leave validation videos out that the backbone was trained on, rather than refuse to start.
        clip_len: frames of a clip.
        frame_interval: distance of two of them in frames of the video.
        num_clips: clips per video in evaluation.
        out_of_range: what stands past the end of a short video.
        sampling: where evaluation's clips of a video lie: "centers" of its parts (mmaction2 0.x), from "ends" to end
            (1.x), or, in training too, a frame from each of `clip_len` equal "segments" (TSN).
        short_side: shorter side of a frame before the crop, in pixels.
        crop_size: height and width of the model's input, in pixels.
        scale: bounds of the random crop's share of the area.
        ratio: bounds of the random crop's width / height.
        flip: probability of a horizontal flip.
        antialias: smooth frames that get smaller, as PIL does and OpenCV, and so mmaction2, does not.
        mean, std: normalization per channel, for values from 0 to 1.
        num_workers: processes per rank that decode.
        cache_frames: decode every training video once and keep it in memory (for small datasets).
        max_bad_share: share of training videos that may turn out unreadable before the run stops.
    """

    root: str
    labels: str | None = None
    train_split: str = "train"
    val_split: str = "val"
    annotation_version: str | None = None
    leave_out_leaking: bool = False
    clip_len: int = 32
    frame_interval: int = 2
    num_clips: int = 8
    out_of_range: Literal["loop", "repeat_last"] = "loop"
    sampling: Literal["centers", "ends", "segments"] = "centers"
    short_side: int = 256
    crop_size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    antialias: bool = True
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    num_workers: int = 0
    cache_frames: bool = False
    max_bad_share: float = 0.01

    def __post_init__(self):
        if self.crop_size > self.short_side:
            raise ValueError(f"data.crop_size {self.crop_size} is larger than data.short_side {self.short_side}.")
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(
                f"data.scale {self.scale} and data.ratio {self.ratio} must be increasing, scale within (0, 1]."
            )


@dataclass(frozen=True)
class FeaturesRecipe:
    """How an encoder gets the features of its frozen backbone.

    Attributes:
        mode: online computes them from pixels in every step, with fresh augmentation, as the paper does; cached
            computes `views`
            versions of each video once and reads them back: exact for evaluation, fewer augmentations for training.
        views: versions of each training video in the cache.
        augment: draw window, crop and flip at random; otherwise one window per video, the same in every epoch, under
            the test transform.
        seed: of these draws; None: the recipe's. With a seed of their own, runs of several seeds share one cache.
        dtype: of the cache.
        folder: of the cache; None: `features` beside the run's output folder.
    """

    mode: Literal["online", "cached"] = "online"
    views: int = 4
    augment: bool = True
    seed: int | None = None
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    folder: str | None = None


@dataclass(frozen=True)
class OptimizationRecipe:
    """How the weights move.

    Attributes:
        optimizer: sgd or adamw.
        learning_rate: at its peak; for the global batch as it stands, nothing is scaled.
        momentum: of SGD.
        betas, eps: of AdamW.
        weight_decay: see `decay_all`.
        decay_all: decay every weight, as mmaction2's SGD does; otherwise not normalization, biases and embeddings of
            positions.
        schedule: step multiplies by `gamma` at the `milestones`; cosine falls to 0 at the end.
        milestones: in epochs.
        gamma: factor at a milestone.
        warmup_epochs: linear rise of the learning rate, step by step.
        epochs: passes over the training videos.
        batch_size: clips of a step over all processes.
        micro_batch_size: clips of one forward pass. Every batch is cut into pieces of this size, dealt to the
            processes in order; each piece has its own dropout masks and batch statistics. With a fixed size these are
            the same on any number of processes. None: each process's share in one piece.
        gradient_accumulation: instead of `micro_batch_size`: pieces into which each process cuts its share.
        grad_clip: largest norm of the gradient; None: no clipping.
        precision: fp32, or bf16 autocast.
        deterministic: only deterministic kernels and a fixed order of sums between processes; for bit-exact runs on
            CUDA.
        compile: torch.compile.
        ema_decay: of an exponential moving average of the weights, which is then evaluated and saved; None: off.
        batch_norm: live (statistics of each forward pass), sync (of all processes' together) or frozen (of the start).
        backbone_lr_scale: factor on the learning rate of an encoder's backbone, where
            model.config.num_trainable_stages lets its last stages learn.
    """

    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-4
    decay_all: bool = False
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    warmup_epochs: float = 0.0
    epochs: int = 1
    batch_size: int = 32
    micro_batch_size: int | None = None
    gradient_accumulation: int = 1
    grad_clip: float | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    deterministic: bool = False
    compile: bool = False
    ema_decay: float | None = None
    batch_norm: Literal["live", "sync", "frozen"] = "live"
    backbone_lr_scale: float = 0.1

    def __post_init__(self):
        if self.schedule == "cosine" and self.milestones:
            raise ValueError(
                "optimization.milestones belong to schedule: step, but the schedule is cosine; leave them out."
            )
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"optimization.milestones must increase, got {self.milestones}.")
        if self.micro_batch_size is not None and self.gradient_accumulation != 1:
            raise ValueError("Give optimization.micro_batch_size or optimization.gradient_accumulation, not both.")
        if min(self.epochs, self.batch_size, self.gradient_accumulation, self.micro_batch_size or 1) < 1:
            raise ValueError("optimization.epochs, batch_size, micro_batch_size and gradient_accumulation start at 1.")

    def pieces_per_process(self, world_size: int) -> int:
        """Into how many forward passes each process cuts its share of a batch.

        Raises:
            ValueError: if the batch does not divide so.
        """
        share, rest = divmod(self.batch_size, world_size)
        pieces = self.gradient_accumulation if self.micro_batch_size is None else share // self.micro_batch_size
        if rest or pieces < 1 or share % pieces or share // pieces != (self.micro_batch_size or share // pieces):
            raise ValueError(
                f"optimization.batch_size {self.batch_size} does not divide among {world_size} processes"
                + (
                    f" in pieces of {self.micro_batch_size} clips."
                    if self.micro_batch_size
                    else f" and {pieces} pieces each."
                )
            )
        return pieces


@dataclass(frozen=True)
class EvaluationRecipe:
    """When and how the validation split is scored.

    Attributes:
        every_epochs: distance of evaluations during training; 0: only at the end.
        batch_size: clips of a forward pass.
    """

    every_epochs: int = 0
    batch_size: int = 32


@dataclass(frozen=True)
class LoggingRecipe:
    """What is reported.

    Attributes:
        every_steps: distance of the lines.
        trackers: any of tensorboard and trackio (which must be installed).
    """

    every_steps: int = 20
    trackers: list[Literal["tensorboard", "trackio"]] = field(default_factory=lambda: ["tensorboard"])


@dataclass(frozen=True)
class CheckpointingRecipe:
    """How often the state of the run is saved, so that it can be resumed.

    Attributes:
        every_steps: distance of the saves; None: at the end of each epoch.
        keep: how many states stay on disk.
    """

    every_steps: int | None = None
    keep: int = 2

    def __post_init__(self):
        if self.keep < 1:
            raise ValueError("checkpointing.keep must be at least 1, or a run could not be resumed.")


@dataclass(frozen=True)
class Recipe:
    """One experiment.

    Attributes:
        name: of the experiment.
        output_dir: the checkpoint folder it produces; its state and logs lie below.
        seed: of the initial weights, the order of the videos, augmentation and dropout.
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
        if self.features.mode == "cached" and self.model.config.get("num_trainable_stages"):
            raise ValueError(
                "Cached features come from a frozen backbone; with num_trainable_stages set features.mode: online."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts and scalars, as JSON and YAML know them."""
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
    "features.folder",
    "model.backbone",
    "evaluation",
    "logging",
    "checkpointing",
)


def parse_recipe(arguments: Sequence[str] | None = None, *, prog: str = "train.py") -> Recipe:
    """Read a recipe from command-line arguments: `--config FILE` and any `--section.key value`; later ones win.

    An unknown or ill-typed key ends the program with a message that names it.
    """
    parser = jsonargparse.ArgumentParser(prog=prog, description="Train one model from one recipe.", allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a recipe; several are laid over one another")
    parser.add_class_arguments(Recipe)
    try:
        values = parser.instantiate(parser.parse_args(arguments))
        return Recipe(**{name: value for name, value in vars(values).items() if name in Recipe.__dataclass_fields__})
    except ValueError as error:
        parser.error(str(error))


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`."""
    flat = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def changed_fields(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The fields that decide the weights and differ between two recipes (as `to_dict` gives them): name -> (before,
    after)."""
    before, after = flatten(before), flatten(after)
    changed = {}
    for name in sorted(before.keys() | after.keys()):
        harmless = any(name == harmless or name.startswith(f"{harmless}.") for harmless in HARMLESS_FIELDS)
        if not harmless and before.get(name) != after.get(name):
            changed[name] = (before.get(name), after.get(name))
    return changed


def recipe_hash(values: dict[str, Any]) -> str:
    """SHA-256 of the fields that decide the weights."""
    decisive = {name: (value,) for name, value in flatten(values).items()}
    decisive = {name: value for name, value in decisive.items() if name in changed_fields(decisive, {})}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
