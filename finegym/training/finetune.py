"""The choices of `finegym finetune`, each with the sentence that says why.

In: a prepared folder and a backbone. Out: recipes. Every choice is a field of a recipe, so that `finegym train` does
the same.
"""

import math
import os
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from finegym.architectures import find_architecture
from finegym.data.checkpoints import load_config
from finegym.data.files import write_text
from finegym.data.index import LABELS_FILE, Video, read_index
from finegym.data.labels import Labels
from finegym.data.text import safe_text
from finegym.evaluation.table import CONTROLS, table_rows
from finegym.features.backbones import load_feature_model

from .build import measure_frame_rate
from .methods import FROZEN, METHODS, MethodName, choose_method, find_obstacles
from .recipe import Recipe, changed_fields, flatten
from .recipe_parsing import parse_recipe, vary


# The lengths to choose from where the backbone takes clips of any length.
CLIP_LENS = (8, 16, 32)
# Rotary positions: clips may be shorter than those of the pretraining.
ANY_LENGTH = ("vjepa2",)
# An action of a second shows in about this many frames; V-JEPA 2 was pretrained on four a second (arXiv 2506.09985),
# and frames further apart than that miss an action.
FRAMES_PER_SECOND, MAX_SECONDS_APART = 8, 0.25
# An encoder on cached features needs about this many steps, which cost little, and epochs within these bounds.
NUM_STEPS, MIN_EPOCHS, MAX_EPOCHS = 1000, 20, 100
# Steps on features take milliseconds, and a state takes longer.
MIN_STEPS_BETWEEN_STATES = 200
MAX_WORKERS = 8
# What a recipe must agree in to be of the same run, beside what decides the weights.
NAMES = ("output_dir", "model.backbone", "data.root")
# Classes that a mirror image would turn into one another.
SIDES = re.compile(r"(?<![a-z])(left|right|clockwise|counterclockwise|anticlockwise)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Backbone:
    """What a backbone takes: clips of one of `clip_lens` frames, the middle `crop_size` pixels of a `short_side`.
    `is_own` says that it is one of this project."""

    name: str
    clip_lens: tuple[int, ...]
    short_side: int
    crop_size: int
    antialias: bool
    is_own: bool = False


def inspect_backbone(name: str) -> Backbone:
    """Load a backbone and give it one clip of the form that its processor makes, so that hours of cutting are not in
    vain.

    Raises:
        ValueError: If it cannot be read, is an encoder already, or does not take such a clip; the message names it.
    """
    config = load_config(name)
    own = find_architecture(config.model_type)
    if own is not None and own.needs_backbone:
        raise ValueError(f"{name} is a {config.model_type}, which is built on a backbone itself. Give a backbone.")
    longest = getattr(config, "num_frames", None) or getattr(config, "frames_per_clip", None)
    clip_lens = CLIP_LENS if longest is None else (longest,)
    if config.model_type in ANY_LENGTH and longest is not None:
        clip_lens = (*(clip_len for clip_len in CLIP_LENS if clip_len < longest), longest)
    model, processor = load_feature_model(name, clip_len=clip_lens[0])
    sides = [side for side in dict(processor.size or {}).values() if type(side) is int]
    if not sides:
        raise ValueError(f"{name}: its processor does not say to which size it resizes frames.")
    crop_size = min(dict(processor.crop_size).values()) if processor.do_center_crop else min(sides)
    clip = torch.zeros(1, clip_lens[0], 3, crop_size, crop_size)
    try:
        with torch.no_grad():
            model.get_video_features(clip)
    except Exception as error:  # each model of Transformers has its own
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{name} does not take the clips of its own processor, {clip_lens[0]} frames of {crop_size} x "
            f"{crop_size}: {reason}"
        ) from error
    return Backbone(name, clip_lens, max(crop_size, min(sides)), crop_size, processor.antialias, own is not None)


def finetuning_recipes(
    root: Path, backbone: Backbone, *, output: Path, method: MethodName | None = None, has_gpu: bool
) -> tuple[list[Recipe], list[str]]:
    """Choose what to train on a prepared folder.

    Args:
        root: The prepared folder.
        backbone: The backbone.
        output: The folder of the runs, each in a folder of its own, and of the features that they share.
        method: How much of the backbone learns; by default it is chosen by the number of videos.
        has_gpu: Whether there is a GPU.

    Returns:
        The recipes, that on the frozen backbone first, and a sentence for each choice.

    Raises:
        ValueError: If there is a single class, or the index does not say how long the videos are; the message names
            the folder.
    """
    labels = Labels.read(root / LABELS_FILE)
    if len(labels.classes) < 2:
        raise ValueError(f"{root} has one class, {labels.names[0]!r}; there is nothing to tell apart.")
    videos = read_index(root, "train")
    clip, about_clips = choose_clip(videos, backbone.clip_lens, root)
    method, about_method = choose_method(len(videos), method, find_obstacles(has_gpu=has_gpu, is_own=backbone.is_own))
    flip, about_flip = choose_flip(labels)
    recipes = []
    for chosen in [FROZEN, *(other for other in METHODS[1:] if other.name == method)]:
        shipped = parse_recipe(["--config", str(chosen.recipe)])
        batch = _batch(shipped, len(videos), has_gpu)
        changes = {
            "name": f"{labels.name}-{chosen.name}",
            "output_dir": str(output / chosen.name),
            "model.backbone": backbone.name,
            "data.root": str(root),
            "data.clip_len": clip[0],
            "data.frame_interval": clip[1],
            "data.short_side": backbone.short_side,
            "data.crop_size": backbone.crop_size,
            "data.antialias": backbone.antialias,
            "data.flip": flip,
            "data.num_workers": min(MAX_WORKERS, (os.cpu_count() or 1) - 1),
        }
        recipes.append(vary(shipped, changes | batch))
    about_frames = f"Frames are resized to {backbone.short_side} pixels and cropped to {backbone.crop_size}, as the "
    notes = [about_clips, f"{about_frames}backbone's processor does.", *about_flip, about_method]
    return recipes, notes


def choose_clip(videos: Sequence[Video], clip_lens: Sequence[int], root: Path) -> tuple[tuple[int, int], str]:
    """Return clip length and frame interval, so that a clip is as long as the median training video if its frames are
    then close enough, and a sentence about it.

    Raises:
        ValueError: If a frame rate is not known; the message names the video.
    """
    unknown = next((video for video in videos if not video.fps), None)
    if unknown is not None:
        raise ValueError(f"{root}: the frame rate of video {unknown.id!r} is not known. Import its source again.")
    rate = measure_frame_rate(list(videos))
    seconds = [video.num_frames / video.fps for video in videos]
    median = statistics.median(seconds)
    clip_len = next((number for number in clip_lens if number >= median * FRAMES_PER_SECOND), clip_lens[-1])
    interval = max(1, min(math.floor(median * rate / clip_len), round(MAX_SECONDS_APART * rate)))
    window = clip_len * interval / rate
    num_shorter = sum(length < (clip_len - 1) * interval / rate for length in seconds)
    num_others = sum(abs(video.fps - rate) > 0.01 * rate for video in videos)
    often = "every frame" if interval == 1 else f"one frame in {interval}"
    why = "all that the backbone takes" if len(clip_lens) == 1 else f"of {', '.join(map(str, clip_lens))}"
    sentence = (
        f"{len(videos):,} training videos last {min(seconds):.1f} to {max(seconds):.1f} s, the median {median:.1f} s, "
        f"at {rate:g} frames per second. A clip is {clip_len} frames ({why}), {often}: {window:.1f} s."
    )
    if num_shorter:
        sentence += f" {num_shorter:,} shorter ones begin again within it."
    if num_others:
        sentence += f" {num_others:,} of other frame rates are sampled by time."
    return (clip_len, interval), sentence


def choose_flip(labels: Labels) -> tuple[float, list[str]]:
    """Return the probability of a horizontal flip: 0 where the names of classes tell sides apart."""
    sided = [name for name in labels.names if SIDES.search(name)]
    if not sided:
        return 0.5, []
    return 0.0, [f"Frames are not flipped: {sided[0]!r} would become another class."]


def _batch(shipped: Recipe, num_videos: int, has_gpu: bool) -> dict[str, Any]:
    """Return batches that the training videos fill, and with cached features epochs for about `NUM_STEPS` steps."""
    settings = shipped.optimization
    batch_size = min(settings.batch_size, 2 ** int(math.log2(num_videos)))
    changes: dict[str, Any] = {
        "optimization.batch_size": batch_size,
        "optimization.micro_batch_size": min(settings.micro_batch_size or batch_size, batch_size),
        "optimization.precision": "bf16" if has_gpu else "fp32",
    }
    if shipped.features.mode == "cached":
        steps_per_epoch = num_videos // batch_size
        epochs = min(MAX_EPOCHS, max(MIN_EPOCHS, math.ceil(NUM_STEPS / steps_per_epoch)))
        changes |= {
            "optimization.epochs": epochs,
            "optimization.warmup_epochs": epochs / 10,
            "evaluation.every_epochs": 0,
            "checkpointing.every_steps": max(MIN_STEPS_BETWEEN_STATES, steps_per_epoch),
        }
    return changes


def write_recipe(path: Path, recipe: Recipe, notes: Sequence[str]) -> Recipe:
    """Write a recipe with the sentences about its choices; one that is there already, and decides the same weights, is
    kept.

    Returns:
        The recipe that the file holds.

    Raises:
        ValueError: If the file holds a recipe for other weights; the message names it and a field.
    """
    if path.is_file():
        there = parse_recipe(["--config", str(path)])
        before, now = flatten(there.to_dict()), flatten(recipe.to_dict())
        changed = {name: (before[name], now[name]) for name in NAMES if before[name] != now[name]}
        changed |= changed_fields(before, now)
        if changed:
            field, (before, now) = next(iter(changed.items()))
            raise ValueError(
                f"{path} is there, with {field}: {before}, where {now} would be chosen now. `finegym train --config "
                f"{path}` trains it as it is; give another --output, or delete it, to choose again."
            )
        return there
    lines = [
        f"# Written by `finegym finetune`. The same run: finegym train --config {path}",
        *(f"# {safe_text(note, one_line=True)}" for note in notes),
    ]
    content = yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True)
    write_text(path, "\n".join([*lines, content]))
    return recipe


def verdict(*folders: Path) -> str:
    """Return how checkpoints compare with the better linear control, in one sentence each; empty without controls."""
    rows = table_rows(*folders)
    controls = [row.mean_class_accuracy.value for row in rows if row.model in CONTROLS.values()]
    if not controls:
        return ""
    best = max(controls)
    lines = []
    for row in rows:
        accuracy = row.mean_class_accuracy
        if row.model in CONTROLS.values() or accuracy.low is None or accuracy.high is None:
            continue
        gain = accuracy.value - best
        told = not accuracy.low <= best <= accuracy.high
        meaning = "outside its interval" if told else "within its interval: these videos cannot tell them apart"
        lines.append(
            f"{row.model}: {gain:+.2f} points of mean class accuracy over the better logistic regression on the "
            f"frozen features, {meaning}."
        )
    return "\n".join(lines)
