"""The parts of a run, made as its recipe says: processor, model, training data."""

import copy
import functools
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedConfig, PreTrainedModel

from finegym.architectures import ARCHITECTURES, find_architecture
from finegym.data.checkpoints import load_model
from finegym.data.dataset import ClipDataset, StepSampler, collate
from finegym.data.index import LABELS_FILE, Coverage, Video, read_index
from finegym.data.labels import Labels
from finegym.data.leakage import datasets_seen_by, unseen_videos
from finegym.data.transforms import FLOW_MEAN, FLOW_STD, IMAGENET_MEAN, IMAGENET_STD, augment
from finegym.features.backbones import check_normalization, find_processor
from finegym.features.cache import Features, build_features
from finegym.features.dataset import FeatureDataset
from finegym.features.views import EvaluationViews, TrainingViews
from modeling_finegym import FineGymVideoProcessor
from modeling_finegym.modeling_video_tokens import FeatureStandardization

from .processes import start_worker
from .recipe import Recipe
from .recipe_sections import DataRecipe


# Decoding one video takes milliseconds: a worker that is silent for this long is stuck.
WORKER_TIMEOUT_SECONDS = 300


def read_labels(recipe: Recipe) -> Labels:
    """Return the label file of a recipe.

    Raises:
        ValueError: If the architecture needs attributes, or events and sets, and the data set has none.
    """
    labels = Labels.read(recipe.data.labels or Path(recipe.data.root) / LABELS_FILE)
    if ARCHITECTURES[recipe.model.architecture].needs_attributes:
        labels.require_attributes()
    if ARCHITECTURES[recipe.model.architecture].needs_levels:
        labels.require_levels()
    return labels


def with_normalization(recipe: Recipe) -> Recipe:
    """Return the recipe with a mean and a std: its own, those of its backbone's processor where that has seen the same
    kind of frames, or the usual ones."""
    data = recipe.data
    if data.mean is not None and data.std is not None:
        return recipe
    own = None if recipe.model.backbone is None else find_processor(recipe.model.backbone)
    mean, std = usual_normalization(data)
    if own is not None and bool(own.flow_len) == bool(data.flow_len):
        mean, std = tuple(own.image_mean), tuple(own.image_std)
    return replace(recipe, data=replace(data, mean=data.mean or mean, std=data.std or std))


def usual_normalization(data: DataRecipe) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std of each channel where nothing names others: ImageNet's, or of optical flow TSM's."""
    return (FLOW_MEAN, FLOW_STD) if data.flow_len else (IMAGENET_MEAN, IMAGENET_STD)


def trained_on(recipe: Recipe, labels: Labels, coverage: Coverage, val_videos: list[Video]) -> list[dict[str, Any]]:
    """Return the data sets that the new model will have seen: its own, and those that its backbone was trained on."""
    own: dict[str, Any] = {"dataset": labels.name, "annotation_version": coverage.annotation_version}
    fold = next((video.fold for video in val_videos), None)
    if fold is not None:
        own["fold"] = fold
    earlier = [] if recipe.model.backbone is None else datasets_seen_by(recipe.model.backbone)
    return [*(dataset for dataset in earlier if dataset != own), own]


def read_val_videos(recipe: Recipe, labels: Labels) -> list[Video]:
    """Return the validation videos, none of which the model or its backbone may have been trained on.

    Raises:
        ValueError: If it was trained on some of them and the recipe does not set `data.leave_out_leaking`.
    """
    videos = read_index(recipe.data.root, recipe.data.val_split, fold=recipe.data.fold)
    seen = [] if recipe.model.backbone is None else datasets_seen_by(recipe.model.backbone)
    return unseen_videos(videos, seen, labels.name, leave_out=recipe.data.leave_out_leaking)


def measure_frame_rate(videos: list[Video]) -> float | None:
    """Return the median frame rate of videos in frames per second, to a thousandth; None where no rate is known."""
    rates = [video.fps for video in videos if video.fps]
    return round(statistics.median_low(rates), 3) if rates else None


def build_processor(data: DataRecipe, videos: list[Video] | None = None) -> FineGymVideoProcessor:
    """Return the test transform and sampling, as they are saved beside the checkpoint.

    Args:
        videos: The videos that the model is trained on, whose frame rate becomes the processor's.
    """
    mean, std = usual_normalization(data)
    return FineGymVideoProcessor(
        size={"shortest_edge": data.short_side},
        crop_size={"height": data.crop_size, "width": data.crop_size},
        image_mean=list(data.mean or mean),
        image_std=list(data.std or std),
        num_frames=data.clip_len,
        frame_interval=data.frame_interval,
        num_clips=data.num_clips,
        out_of_range=data.out_of_range,
        sampling=data.sampling,
        antialias=data.antialias,
        flow_len=data.flow_len or 0,
        frame_rate=measure_frame_rate(videos or []),
        protocol_counts_frames=data.count_frames,
    )


def build_model(recipe: Recipe, labels: Labels) -> PreTrainedModel:
    """Return a model with the recipe's overrides, the backbone's weights if it names one, and random weights
    elsewhere.

    Raises:
        ValueError: If `model.config` has a key that the architecture does not know; the message names it.
    """
    architecture = ARCHITECTURES[recipe.model.architecture]
    unknown = sorted(set(recipe.model.config) - architecture.config_fields)
    if unknown:
        raise ValueError(
            f"model.config has unknown key {unknown[0]!r}. {architecture.config_class.__name__} knows "
            f"{sorted(architecture.config_fields)}."
        )
    num_channels = 2 * (recipe.data.flow_len or 0) or 3
    settings: dict[str, Any] = {"id2label": labels.id2label, "label2id": labels.label2id}
    clip = {
        "num_frames": recipe.data.clip_len,
        "frame_interval": recipe.data.frame_interval,
        "image_size": recipe.data.crop_size,
        "num_channels": num_channels,
    }
    settings |= {name: value for name, value in clip.items() if name in architecture.config_fields}
    if architecture.needs_attributes:
        settings["attribute_names"] = labels.attributes
    if "attribute_group_sizes" in architecture.config_fields:
        settings["attribute_group_sizes"] = labels.attribute_group_sizes
        settings["class_attributes"] = labels.class_attributes
    if architecture.needs_levels:
        settings["class_events"], settings["class_sets"] = labels.require_levels()
    backbone = None if recipe.model.backbone is None else load_backbone(recipe.model.backbone)
    is_first_stage = architecture.in_two_stages and isinstance(backbone, architecture.model_class)
    if architecture.needs_backbone:
        check_normalization(recipe.model.backbone, build_processor(recipe.data))
        vision_config = backbone.config.vision_config if is_first_stage else backbone.config
        settings["vision_config"] = with_channels(vision_config, num_channels)
    model = architecture.classifier_class(architecture.config_class(**settings | recipe.model.config))
    if backbone is not None:
        whole = is_first_stage or not architecture.needs_backbone
        start = model.base_model if whole else model.base_model.backbone
        for target in start if isinstance(start, torch.nn.ModuleList) else [start]:
            load_weights(target, backbone.state_dict(), source=recipe.model.backbone)
    return model


def with_channels(config: PreTrainedConfig, num_channels: int) -> PreTrainedConfig:
    """Return the configuration of a backbone for frames of so many channels.

    Raises:
        ValueError: If these are optical flow and the backbone is not one of this project's.
    """
    if getattr(config, "num_channels", 3) == num_channels:
        return config
    if find_architecture(config.model_type) is None:
        raise ValueError(f"data.flow_len: optical flow is seen by this project's CNNs, not by a {config.model_type}.")
    config = copy.deepcopy(config)
    config.num_channels = num_channels
    return config


def load_weights(model: PreTrainedModel, state: dict[str, torch.Tensor], *, source: str) -> None:
    """Load a backbone's weights into a model.

    Kernels of single frames are repeated over time and divided by their number, so that a video of one still image
    gives the image's activations (I3D, arXiv 1705.07750); non-local blocks that the backbone lacks stay new. Where
    optical flow takes the place of pictures, each of its channels gets the mean of the first convolution's weights
    over the three colors (TSN, arXiv 1608.00859).

    Raises:
        ValueError: If a tensor is missing or has another shape; the message names it.
    """
    num_channels = getattr(model.config, "num_channels", 3)
    for name, expected in model.state_dict().items():
        tensor = state.get(name)
        if tensor is not None and tensor.ndim > 3 and tensor.shape[1] == 3 != expected.shape[1] == num_channels:
            tensor = state[name] = tensor.mean(1, keepdim=True).expand(-1, num_channels, *tensor.shape[2:])
        if tensor is None and "non_local_blocks" in name.split("."):
            state[name] = expected
        elif tensor is not None and tensor.ndim == 5 and tensor.shape[2] == 1 < expected.shape[2]:
            state[name] = tensor.expand(-1, -1, expected.shape[2], -1, -1) / expected.shape[2]
        if name not in state or state[name].shape != expected.shape:
            found = "missing" if name not in state else f"of shape {tuple(state[name].shape)}"
            raise ValueError(
                f"model.backbone {source} does not fit model.config: {name} is {found}, expected "
                f"{tuple(expected.shape)}."
            )
    model.load_state_dict(state)


def load_backbone(name: str) -> PreTrainedModel:
    """Load a backbone without its classifier, from a checkpoint folder or the Hub.

    Raises:
        ValueError: If the backbone cannot be read or lacks weights; the message names it.
    """
    try:
        return load_model(name)
    except ValueError as error:
        raise ValueError(f"model.backbone: {error}") from error


def build_dataset(recipe: Recipe, videos: list[Video], *, skip_unreadable: bool = True) -> ClipDataset:
    """Return the training clips with the recipe's augmentation, or else always the same window under the test
    transform."""
    data, seed = recipe.data, recipe.features.seed
    if recipe.features.augment:
        transform = functools.partial(augment, **augmentation(data))
    else:
        transform = functools.partial(_without_augmentation, processor=build_processor(data))
    return ClipDataset(
        videos,
        seed=recipe.seed if seed is None else seed,
        clip_len=data.clip_len,
        frame_interval=data.frame_interval,
        out_of_range=data.out_of_range,
        sampling=data.sampling,
        frame_rate=None if data.count_frames else measure_frame_rate(videos),
        short_side=data.short_side if recipe.features.augment else None,
        antialias=data.antialias,
        flow_len=data.flow_len or 0,
        transform=transform,
        num_views=None if recipe.features.augment else 1,
        skip_unreadable=skip_unreadable,
    )


def _without_augmentation(
    frames: torch.Tensor, generator: torch.Generator, *, processor: FineGymVideoProcessor
) -> torch.Tensor:
    return processor.preprocess_frames(frames)


def augmentation(data: DataRecipe) -> dict[str, Any]:
    """Return the arguments of `transforms.augment`."""
    names = ("short_side", "crop_size", "scale", "ratio", "flip", "antialias")
    mean, std = usual_normalization(data)
    return {name: getattr(data, name) for name in names} | {"mean": data.mean or mean, "std": data.std or std}


def build_features_of(
    recipe: Recipe,
    model: PreTrainedModel,
    processor: FineGymVideoProcessor,
    *,
    videos: list[Video],
    val_videos: list[Video],
    backbone: dict[str, Any] | None,
) -> tuple[FeatureDataset, Features]:
    """Return the cached features of the training and the validation videos, computed now if they are not there.

    Args:
        backbone: The result of `describe_backbone` for the model; None calls it here.
    """
    dataset = build_dataset(recipe, videos, skip_unreadable=False)
    transform = augmentation(recipe.data) if recipe.features.augment else processor.to_dict()
    options = {
        "root": recipe.features.folder or Path(recipe.output_dir).parent / "features",
        "dtype": recipe.features.dtype,
        "batch_size": recipe.evaluation.batch_size,
        "num_workers": recipe.data.num_workers,
        "backbone": backbone,
    }
    num_views = recipe.features.views if recipe.features.augment else 1
    views = TrainingViews(dataset, num_views=num_views, transform=transform)
    train_features = build_features(model, views, **options)
    tests = EvaluationViews(processor, val_videos, num_clips=recipe.data.num_clips)
    return FeatureDataset(train_features, views), build_features(model, tests, **options)


@torch.no_grad()
def measure_features(model: PreTrainedModel, dataset: Dataset) -> None:
    """Give a model with `standardize_features` the mean and deviation of every channel over the training videos.

    Raises:
        ValueError: If the features are not cached, so that they are not known before training.
    """
    modules = [module for module in model.modules() if isinstance(module, FeatureStandardization)]
    if not modules:
        return
    if not isinstance(dataset, FeatureDataset):
        raise ValueError(
            "model.config.standardize_features needs the features before training: set features.mode cached."
        )
    total, squares, count = 0.0, 0.0, 0
    for index in range(len(dataset)):
        item = dataset[0, index]
        if "error" not in item:
            tokens = item["video_features"].double()
            total, squares, count = total + tokens.sum(0), squares + tokens.square().sum(0), count + len(tokens)
    mean = total / max(1, count)
    std = (squares / max(1, count) - mean.square()).clamp_min(0).sqrt()
    for module in modules:
        module.mean.copy_(mean)
        module.std.copy_(std.clamp_min(1e-6))


def build_loader(recipe: Recipe, dataset: Dataset, sampler: StepSampler, device: torch.device) -> DataLoader:
    """Return this process's batches, decoded ahead by worker processes where frames are read."""
    num_workers = recipe.data.num_workers if recipe.features.mode == "online" else 0
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate,
        worker_init_fn=start_worker,
        timeout=WORKER_TIMEOUT_SECONDS if num_workers else 0,
        # Forked workers share cached frames with the run, and notice when it dies.
        multiprocessing_context="fork" if num_workers else None,
        pin_memory=device.type == "cuda",
    )


def fit_controls(
    features: FeatureDataset, val_features: Features, val_videos: list[Video], labels: Labels, num_places: int
) -> Any:
    """Return what linear models achieve on the same features; see `finegym.evaluation.controls`."""
    from finegym.evaluation.controls import controls_of  # here, because its import takes a second

    views = features.views
    numbers = {"num_views": views.num_views, "num_places": num_places}
    return controls_of(features.features, views.dataset.videos, val_features, val_videos, labels, **numbers)
