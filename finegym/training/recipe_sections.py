"""The sections of a recipe: what each of their keys means, which is its help text, and what contradicts itself.

What contradicts a key of another section is checked in `recipe.py`.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from finegym.architectures import ARCHITECTURES, ArchitectureName


@dataclass(frozen=True)
class LoraRecipe:
    """Small matrices that learn beside the frozen weights of a backbone of Transformers (LoRA, arXiv 2106.09685).

    Attributes:
        rank: The inner width of the product of two matrices that is added to a layer. By default, there is none.
        alpha: The factor on the product, times 1 / rank. By default, it is twice the rank.
        targets: The names of the linear layers that get one, such as q_proj. By default, they are the layers of the
            backbone's attention.
    """

    rank: int | None = None
    alpha: float | None = None
    targets: tuple[str, ...] | None = None

    def __post_init__(self):
        if self.rank is None and (self.alpha is not None or self.targets is not None):
            raise ValueError("model.lora.rank is missing: alpha and targets say nothing without it.")
        if (self.rank is not None and self.rank < 1) or (self.alpha is not None and self.alpha <= 0):
            raise ValueError(f"model.lora.rank starts at 1 and alpha above 0, got {self.rank} and {self.alpha}.")

    def __bool__(self) -> bool:
        """Return whether there is any."""
        return self.rank is not None


@dataclass(frozen=True)
class ModelRecipe:
    """What is trained.

    Attributes:
        architecture: The network to train: slowonly is the CNN alone, vision the 3D vision encoder, video_text the
            video-text cross encoder; the others are systems that the paper compares with.
        backbone: The checkpoint folder or Hub id of the backbone. What is built on one needs it; a CNN starts from its
            weights, or at random without one.
        config: Overrides of the architecture's configuration class, such as `num_hidden_layers: 1`.
        lora: Small matrices that learn in the backbone.
    """

    architecture: ArchitectureName = "slowonly"
    backbone: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    lora: LoraRecipe = field(default_factory=LoraRecipe)

    def __post_init__(self):
        if self.architecture not in ARCHITECTURES:  # null passes for a value
            raise ValueError(f"model.architecture must be one of {', '.join(ARCHITECTURES)}, got {self.architecture}.")
        if self.lora and not ARCHITECTURES[self.architecture].needs_backbone:
            raise ValueError(
                f"model.lora is for what is built on a backbone; {self.architecture} is a network itself."
            )
        if ARCHITECTURES[self.architecture].needs_backbone and self.backbone is None:
            raise ValueError(
                f"model.backbone is missing: the {self.architecture} encoder needs a trained backbone. Train "
                "slowonly first and give its output_dir, or a Hub id."
            )


@dataclass(frozen=True)
class DataRecipe:
    """Which videos, and how a clip of one becomes model input.

    Attributes:
        root: The prepared data set folder, a folder of your own videos, or the id of a data set on the Hub.
        labels: The label file. By default, it is labels.json in `root`.
        train_split: The split of the index to train on.
        val_split: The split of the index to validate on. The split "test" is for `finegym evaluate` alone.
        fold: The fold to validate on, for a data set with folds, in place of its val split. The others are trained on.
        annotation_version: The annotation version that the data set must have been prepared from, such as v1.0. By
            default, any will do.
        leave_out_leaking: Leave out validation videos that the backbone was trained on, rather than refuse to start.
        clip_len: The number of frames of a clip.
        frame_interval: The distance between two frames of a clip, in frames of the video.
        count_frames: Count the frames of each video in training and evaluation, whatever its frame rate, as FineGym's
            protocol does. Otherwise `frame_interval` counts frames at the rate of most training videos, and videos of
            other rates are sampled by time. Other people's videos always are.
        num_clips: The number of clips of each video in evaluation.
        out_of_range: What follows the end of a video that is shorter than a clip: the video again (loop) or its last
            frame (repeat_last).
        sampling: Where the clips of a video are in evaluation: in the centers of its parts (mmaction2 0.x), from end
            to end (ends, mmaction2 1.x), or, in training too, a frame from each of `clip_len` equal segments (TSN).
        flow_len: The number of frames of optical flow, of `finegym flow`, in a frame of a clip. None means pictures.
        short_side: The length of the shorter side of a frame before the crop, in pixels.
        crop_size: The height and width of the model's input, in pixels.
        scale: The bounds of the random crop's share of the frame's area.
        ratio: The bounds of the random crop's width divided by its height.
        flip: The probability of a horizontal flip.
        antialias: Smooth frames that get smaller, as PIL does. OpenCV, and so mmaction2, does not.
        mean: The mean of each channel, for values from 0 to 1, which is subtracted. By default, it is the backbone's,
            or ImageNet's where there is none; for optical flow, it is TSM's.
        std: The standard deviation of each channel, by which the result is divided, with the same defaults.
        num_workers: The number of processes that decode, for each training process.
        cache_frames: Decode every training video once and keep it in memory, for small data sets.
        max_bad_share: The share of training videos that may turn out unreadable before the run stops.
    """

    root: str
    labels: str | None = None
    train_split: str = "train"
    val_split: str = "val"
    fold: int | None = None
    annotation_version: str | None = None
    leave_out_leaking: bool = False
    clip_len: int = 32
    frame_interval: int = 2
    num_clips: int = 8
    count_frames: bool = False
    out_of_range: Literal["loop", "repeat_last"] = "loop"
    sampling: Literal["centers", "ends", "segments"] = "centers"
    flow_len: int | None = None
    short_side: int = 256
    crop_size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    antialias: bool = True
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    num_workers: int = 0
    cache_frames: bool = False
    max_bad_share: float = 0.01

    def __post_init__(self):
        for name in ("train_split", "val_split"):
            if getattr(self, name) == "test":
                raise ValueError(
                    f"data.{name} is the test split, which is neither trained nor tuned on. `finegym evaluate --split "
                    "test` measures a finished checkpoint on it."
                )
        if self.flow_len is not None and self.flow_len < 1:
            raise ValueError(f"data.flow_len must be at least 1, got {self.flow_len}.")
        num_channels = 2 if self.flow_len else 3
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != num_channels:
                raise ValueError(f"data.{name} must be {num_channels} numbers, one for each channel, got {values}.")
        if self.crop_size > self.short_side:
            raise ValueError(f"data.crop_size {self.crop_size} is larger than data.short_side {self.short_side}.")
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"data.scale {self.scale} and data.ratio {self.ratio} must increase, scale up to 1.")


@dataclass(frozen=True)
class FeaturesRecipe:
    """How an encoder gets the features of its frozen backbone.

    Attributes:
        mode: online computes the features from pixels in every step, with fresh augmentation, as the paper does.
            cached computes `views` versions of each video once and reads them back, which is exact for evaluation and
            means fewer augmentations in training.
        views: The number of versions of each training video in the cache.
        augment: Draw window, crop and flip at random. Otherwise there is one window for each video, the same in every
            epoch, under the test transform.
        seed: The seed of these draws. By default, it is the recipe's. With a seed of their own, runs of several seeds
            share one cache.
        dtype: The number format of the cache.
        folder: The folder of the cache. By default, it is `features` beside the run's output folder.
    """

    mode: Literal["online", "cached"] = "online"
    views: int = 4
    augment: bool = True
    seed: int | None = None
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    folder: str | None = None


@dataclass(frozen=True)
class OptimizationRecipe:
    """How the weights are updated.

    Attributes:
        optimizer: The optimizer: stochastic gradient descent or AdamW.
        learning_rate: The learning rate at its peak, for the global batch. It is not scaled by anything.
        momentum: The momentum of SGD.
        betas: The decay rates of AdamW's two moments.
        eps: The number that AdamW adds to its divisor.
        weight_decay: The weight decay. `decay_all` says which weights it applies to.
        decay_all: Decay every weight, as mmaction2's SGD does. Otherwise normalization, biases and position embeddings
            are not decayed.
        schedule: step multiplies the learning rate by `gamma` at each of the `milestones`; cosine lets it fall to 0
            by the end.
        milestones: The epochs at which the learning rate steps down.
        gamma: The factor on the learning rate at a milestone.
        warmup_epochs: The number of epochs in which the learning rate rises linearly, step by step.
        epochs: The number of passes over the training videos.
        batch_size: The number of clips in a step, over all processes.
        micro_batch_size: The number of clips in a forward pass. Every batch is cut into pieces of this size, dealt to
            the processes in order; each piece has its own dropout masks and batch statistics. With a fixed size these
            are the same on any number of processes. By default, each process's share is one piece.
        gradient_accumulation: In place of `micro_batch_size`: the number of pieces into which each process cuts its
            share.
        grad_clip: The largest norm of the gradient. By default, it is not clipped.
        precision: Compute in fp32, or in bf16 where autocast allows it.
        deterministic: Use only deterministic kernels and a fixed order of sums between processes, for bit-exact runs
            on CUDA.
        compile: Compile the model with torch.compile.
        ema_decay: The decay of an exponential moving average of the weights, which is then evaluated and saved. By
            default, there is none.
        batch_norm: The statistics that batch normalization uses: those of each forward pass (live), of the passes of
            all processes together (sync), or those of the start, in every layer (frozen) or in all but the first
            (partial, as in TSN).
        backbone_lr_scale: The factor on the learning rate of an encoder's backbone, where
            model.config.num_trainable_blocks lets its last blocks learn. LoRA's matrices learn at the encoder's rate.
        layer_lr_decay: The factor on the learning rate of each block of an encoder's backbone, for every block that
            follows it. By default, all blocks learn alike.
        gradient_checkpointing: Compute each block again in the backward pass rather than keep what it computed, which
            takes less memory and more time, and gives the same weights.
        mixup: Mix the clips of a forward pass in pairs, and their labels (Zhang et al., 2018), by shares from
            Beta(mixup, mixup), such as 0.3. By default, nothing is mixed.
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
    batch_norm: Literal["live", "sync", "frozen", "partial"] = "live"
    backbone_lr_scale: float = 0.1
    layer_lr_decay: float | None = None
    gradient_checkpointing: bool = False
    mixup: float | None = None

    def __post_init__(self):
        if self.mixup is not None and not 0 < self.mixup <= 10:
            raise ValueError(f"optimization.mixup must lie between 0 and 10, got {self.mixup}.")
        if self.layer_lr_decay is not None and not 0 < self.layer_lr_decay <= 1:
            raise ValueError(f"optimization.layer_lr_decay must lie between 0 and 1, got {self.layer_lr_decay}.")
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
        """Return the number of forward passes into which each process divides its share of a batch.

        Raises:
            ValueError: If the batch cannot be divided this way.
        """
        share, rest = divmod(self.batch_size, world_size)
        pieces = self.gradient_accumulation if self.micro_batch_size is None else share // self.micro_batch_size
        if rest or pieces < 1 or share % pieces or share // pieces != (self.micro_batch_size or share // pieces):
            processes = f"{world_size} processes" if world_size > 1 else "one process"
            one_each = self.micro_batch_size or pieces
            kind = f"pieces of {one_each} clips" if self.micro_batch_size else f"{one_each} pieces each"
            raise ValueError(
                f"optimization.batch_size {self.batch_size} does not divide among {processes} in {kind}: it must be a "
                f"multiple of {world_size * one_each}. Start fewer processes, or change it or micro_batch_size "
                "(the clips over which batch normalization takes its statistics)."
            )
        return pieces


@dataclass(frozen=True)
class EvaluationRecipe:
    """When and how the validation split is scored.

    Attributes:
        every_epochs: The number of epochs between two evaluations. With 0 there is one, at the end.
        batch_size: The number of clips in a forward pass.
    """

    every_epochs: int = 0
    batch_size: int = 32


@dataclass(frozen=True)
class LoggingRecipe:
    """What is reported.

    Attributes:
        every_steps: The number of steps between two lines of the log.
        trackers: The trackers to write to. trackio must be installed.
        pictures: Draw curves, confusion and calibration at the end, which takes a few seconds.
    """

    every_steps: int = 20
    trackers: list[Literal["tensorboard", "trackio"]] = field(default_factory=lambda: ["tensorboard"])
    pictures: bool = True


@dataclass(frozen=True)
class CheckpointingRecipe:
    """How often the state of the run is saved, so that it can be resumed.

    Attributes:
        every_steps: The number of steps between two saves. By default, there is one at the end of each epoch.
        keep: The number of states to keep on disk.
    """

    every_steps: int | None = None
    keep: int = 2

    def __post_init__(self):
        if self.keep < 1:
            raise ValueError("checkpointing.keep must be at least 1, or a run could not be resumed.")
