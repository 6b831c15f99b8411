"""What `finegym doctor` checks: each finding is good, or has the command that fixes it."""

import importlib.metadata
import math
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import av
import huggingface_hub
import torch
from packaging.requirements import Requirement

from finegym.architectures import ARCHITECTURES
from finegym.data.checkpoints import load_config
from finegym.data.index import COVERAGE_FILE, INDEX_FILE, LABELS_FILE, read_coverage, read_index
from finegym.data.labels import Labels
from finegym.features.backbones import load_feature_model
from finegym.features.token_experiment import TokenReport, examine_tokens
from finegym.paths import CONFIGURATION, require_path_or_hub_id
from finegym.preparation.annotations import VERSIONS, segments_file
from finegym.preparation.fetch import KNOWN_SHA256
from finegym.preparation.formats import FormatName
from finegym.preparation.sources import free_bytes
from finegym.training.recipe import Recipe
from finegym.training.recipe_parsing import parse_recipe
from modeling_finegym.configuration_token_layouts import TOKEN_LAYOUTS


CLIP_LEN_OF_IMAGE_MODELS = 8
# Gym288 v1.1 with a short side of 256 at the default rate takes less than this; so does Gym99.
CLIPS_GIGABYTES = 10


class Finding(NamedTuple):
    """One thing that was checked. `cure` is the command that fixes it if it is not `good`."""

    good: bool
    what: str
    cure: str = ""


def examine(recipe: Path | None, annotations: Path) -> list[Finding]:
    """Check the installation, the machine, FineGym's lists and, if given, everything that a recipe needs.

    Raises:
        FileNotFoundError: If there is no such recipe.
        ValueError: If the file is not a recipe; the message names it and the key.
    """
    findings = [*_packages(), *_machine(), *_annotations(annotations)]
    return findings if recipe is None else [*findings, *_recipe(parse_recipe(["--config", str(recipe)]), recipe)]


def examine_backbone(name: str, clip_len: int | None) -> list[Finding]:
    """Say what a backbone gives and takes, and prove the order of its tokens.

    Raises:
        ValueError: If the checkpoint cannot be read or has no known order of tokens; the message names it.
    """
    model_type = load_config(name).model_type
    if clip_len is None and TOKEN_LAYOUTS.get(model_type, ("", ""))[1] == "frame":
        clip_len = CLIP_LEN_OF_IMAGE_MODELS
    model, processor = load_feature_model(name, clip_len=clip_len, spatial_grid_size="all")
    config, size = model.config, dict(processor.crop_size)["height"]
    report = examine_tokens(model, size)
    num_tokens, side = report.num_moments * report.num_places, round(report.num_places**0.5)
    kind = f"{model_type}, {sum(one.numel() for one in model.backbone.parameters()):,} weights"
    clip = f"a clip of {config.num_frames} frames of {size} x {size}"
    before = f", {config.num_prefix_tokens} left out before them" if config.num_prefix_tokens else ""
    tokens = f"{report.num_moments} moments x {report.num_places} places x {report.num_channels} channels"
    sizes = {f"spatial_grid_size {grid}": report.feature_bytes(grid) for grid in (1, 2, 4) if grid <= side}
    sizes["all"] = report.feature_bytes(None)
    memory = ", ".join(f"{size / 2**10:,.1f} KiB with {grid}" for grid, size in sizes.items())
    return [
        Finding(True, f"{name}: {kind}"),
        Finding(True, f"{clip} gives {num_tokens:,} tokens: {tokens}{before}"),
        _order_of_tokens(report, config.has_own_backbone),
        Finding(True, f"its cached features in float16: {memory}"),
        Finding(True, f"training through all of it keeps {report.trained_bytes / 2**20:,.1f} MiB for each clip"),
    ]


def _order_of_tokens(report: TokenReport, is_own: bool) -> Finding:
    if is_own:
        return Finding(True, "order of the tokens: the maps of this project's own network, by time, row and column")
    moved = [
        "nothing else" if math.isinf(contrast) else f"any other at most 1/{contrast:,.1f} as far"
        for contrast in (report.time_contrast, report.space_contrast)
    ]
    proof = f"order of the tokens: one frame changed moves its moment, {moved[0]}; one corner its place, {moved[1]}"
    return Finding(report.is_proved, proof, "set model.config.num_prefix_tokens and token_layout to the model's own")


def render(findings: Sequence[Finding]) -> str:
    """Return one line for each finding, "ok" or "--", and after each "--" the command that fixes it."""
    lines = []
    for good, what, cure in findings:
        lines.append(f"{'ok' if good else '--'}  {what}" + ("" if good else f"\n      -> {cure}"))
    num_missing = sum(not finding.good for finding in findings)
    return "\n".join([*lines, f"{num_missing} to fix." if num_missing else "Nothing is missing."])


def _packages() -> Iterator[Finding]:
    yield Finding(True, f"Python {sys.version.split()[0]}")
    try:
        declared = [Requirement(text) for text in importlib.metadata.requires("finegym") or ()]
    except importlib.metadata.PackageNotFoundError:
        what = "finegym is not installed: its `finegym` command and its requirements are unknown"
        yield Finding(False, what, "pip install -e .")
        return
    for requirement in declared:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(False, f"{requirement.name} is not installed", f'pip install "{requirement}"')
            continue
        good = requirement.specifier.contains(version, prereleases=True)
        yield Finding(good, f"{requirement.name} {version}", f'pip install "{requirement}"')


def _machine() -> Iterator[Finding]:
    ffmpeg = ".".join(map(str, av.library_versions["libavcodec"]))
    encoder = "libx264" in av.codecs_available
    what = f"FFmpeg (libavcodec {ffmpeg}, inside PyAV), {'with' if encoder else 'without'} libx264"
    yield Finding(encoder, what, "pip install --force-reinstall --only-binary av av")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            yield Finding(True, f"GPU {index}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    elif torch.version.cuda is None and shutil.which("nvidia-smi"):
        what = "there is an NVIDIA driver, but this torch is built without CUDA"
        yield Finding(False, what, "pip install --force-reinstall torch torchvision")
    else:
        yield Finding(True, "no GPU that torch can use; the recipes in synthgym/ train without one")
    gigabytes = free_bytes(Path.cwd()) / 1e9
    what = f"{gigabytes:,.0f} GB free here; prepared videos take up to {CLIPS_GIGABYTES}"
    yield Finding(gigabytes > CLIPS_GIGABYTES, what, "finegym prepare VIDEOS A_FOLDER_ON_A_LARGER_DISK")


def _annotations(folder: Path) -> Iterator[Finding]:
    cure = f"finegym fetch --folder {folder}"
    absent = [name for name in KNOWN_SHA256 if not (folder / name).is_file()]
    there = f"{len(KNOWN_SHA256) - len(absent)} of {len(KNOWN_SHA256)}"
    yield Finding(not absent, f"FineGym's lists: {there} in {folder}", cure)
    for version in VERSIONS:
        path = folder / segments_file(version)
        state = "there" if path.is_file() else "absent; full videos and event clips cannot be cut without it"
        yield Finding(path.is_file(), f"{path}: {state}", cure)


def _recipe(recipe: Recipe, path: Path) -> Iterator[Finding]:
    yield from _data(recipe)
    labels = Path(recipe.data.labels or Path(recipe.data.root) / LABELS_FILE)
    if labels.is_file() and ARCHITECTURES[recipe.model.architecture].needs_attributes:
        attributes = Labels.read(labels).attributes
        cure = f"finegym import VIDEOS {recipe.data.root} --attributes names"
        yield Finding(bool(attributes), f"{labels}: {len(attributes)} attributes for the cross encoder", cure)
    if recipe.model.backbone is not None:
        yield _backbone(recipe.model.backbone, path)


def _backbone(name: str, recipe: Path) -> Finding:
    if (Path(name) / "config.json").is_file():
        return Finding(True, f"model.backbone {name}: a checkpoint folder")
    try:
        require_path_or_hub_id(name, "checkpoint folder")
    except FileNotFoundError:
        makers = [
            file for file in sorted(recipe.parent.glob("*.yaml")) if f"output_dir: {name}\n" in file.read_text("utf-8")
        ]
        cure = f"finegym train --config {makers[0]}" if makers else f"finegym convert WEIGHTS {name}"
        return Finding(False, f"model.backbone {name}: there is no such folder", cure)
    if Path(name).exists():
        return Finding(False, f"model.backbone {name}: has no config.json", f"finegym convert WEIGHTS {name}")
    cached = huggingface_hub.try_to_load_from_cache(name, "config.json")
    state = "in the Hub cache" if isinstance(cached, str) else "not in the Hub cache"
    return Finding(isinstance(cached, str), f"model.backbone {name}: {state}", f"hf download {name}")


def _data(recipe: Recipe) -> Iterator[Finding]:
    root, version = Path(recipe.data.root), recipe.data.annotation_version
    if root.is_dir() and not (root / INDEX_FILE).is_file() and any(root.iterdir()):
        what = f"{root}: your own videos, which training imports first"
        yield Finding(version is None, what, f"finegym prepare {root} A_NEW_FOLDER --annotation_version {version}")
        return
    cure = _how_to_make(root, version)
    if recipe.data.flow_len:
        cure = f"finegym flow {root.with_name(root.name.removesuffix('_flow'))} --output {root}"
    for name in (INDEX_FILE, COVERAGE_FILE, LABELS_FILE):
        if not (root / name).is_file():
            yield Finding(False, f"{root / name}: absent", cure)
            return
    for split in ("train", "val"):
        try:
            videos, coverage = read_index(root, split), read_coverage(root, split)
        except ValueError as error:
            yield Finding(False, str(error), cure)
            continue
        what = f"{root}, {split}: {coverage.num_present:,} of {coverage.num_expected:,} videos"
        mending = f"{cure}  # after adding what is missing; {COVERAGE_FILE} lists it"
        yield Finding(not coverage.missing, f"{what}, annotation {coverage.annotation_version}", mending)
        absent = [video for video in videos if not video.path.is_file()]
        if absent:
            what = f"{root}, {split}: {len(absent):,} videos of the index are gone, such as {absent[0].path}"
            yield Finding(False, what, cure)
        if version and coverage.annotation_version != version:
            what = f"{root} is of annotation {coverage.annotation_version}, the recipe asks for {version}"
            yield Finding(False, what, cure)


def _how_to_make(root: Path, version: str | None) -> str:
    """Return the command that fills a data set folder: SynthGym's, FineGym's, that of another published set,
    or that of your own videos."""
    if root.name == "synthgym":
        return f"finegym synthgym {root}"
    if root.name in get_args(FormatName):
        return f"finegym import FOLDER_OF_ITS_FILES {root} --format {root.name}"
    if (CONFIGURATION / root.name / LABELS_FILE).is_file():
        asked = f" --annotation_version {version}" if version else ""
        return f"finegym prepare VIDEOS {root} --dataset {root.name}{asked}"
    return f"finegym import YOUR_VIDEOS {root}"
