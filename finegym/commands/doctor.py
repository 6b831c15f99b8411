"""`finegym doctor`: what is here, what is missing, and the command that mends it."""

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import huggingface_hub
import torch
from packaging.requirements import Requirement

from finegym.architectures import ARCHITECTURES
from finegym.data.index import COVERAGE_FILE, INDEX_FILE, LABELS_FILE, read_coverage, read_index
from finegym.data.labels import Labels
from finegym.data.text import read_yaml
from finegym.preparation.annotations import VERSIONS, segments_file
from finegym.preparation.fetch import KNOWN_SHA256
from finegym.preparation.sources import free_bytes


# Gym288 v1.1 as videos of short side 256 at the default rate takes less than this; so does Gym99.
VIDEOS_GIGABYTES = 10


def doctor(recipe: Path | None = None, annotations: Path = Path("data/finegym")) -> str:
    """Check the installation, the data and, if given, everything that a recipe needs.

    Args:
        recipe: a recipe file of `configuration`.
        annotations: where FineGym's annotation files should be.

    Returns:
        One line for each thing checked: "ok" or "--", and after each "--" the command that mends it.

    Raises:
        FileNotFoundError: if there is no such recipe.
        ValueError: naming the file, if the recipe is not YAML.
    """
    if recipe is not None and not recipe.is_file():
        raise FileNotFoundError(f"There is no recipe {recipe}.")
    lines = [*_packages(), *_machine(), *_annotations(annotations)]
    if recipe is not None:
        lines += _recipe(recipe)
    num_missing = sum(not good for good, _, _ in lines)
    text = [f"{'ok' if good else '--'}  {what}" + ("" if good else f"\n      -> {cure}") for good, what, cure in lines]
    return "\n".join([*text, "Nothing is missing." if num_missing == 0 else f"{num_missing} to mend."])


Line = tuple[bool, str, str]


def _packages() -> Iterator[Line]:
    yield True, f"Python {sys.version.split()[0]}", ""
    try:
        declared = [Requirement(text) for text in importlib.metadata.requires("finegym") or ()]
    except importlib.metadata.PackageNotFoundError:
        yield (
            False,
            "finegym is not installed: its `finegym` command and its requirements are unknown",
            "pip install -e .",
        )
        return
    for requirement in declared:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield False, f"{requirement.name} is not installed", f'pip install "{requirement}"'
            continue
        good = requirement.specifier.contains(version, prereleases=True)
        yield good, f"{requirement.name} {version}", f'pip install "{requirement}"'


def _machine() -> Iterator[Line]:
    ffmpeg = ".".join(map(str, av.library_versions["libavcodec"]))
    encoder = "libx264" in av.codecs_available
    yield (
        encoder,
        f"FFmpeg (libavcodec {ffmpeg}, inside PyAV), {'with' if encoder else 'without'} libx264",
        ("pip install --force-reinstall --only-binary av av"),
    )
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            yield True, f"GPU {index}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB", ""
    elif torch.version.cuda is None:
        yield False, "no GPU: this torch is built without CUDA", "pip install --force-reinstall torch torchvision"
    else:
        yield (
            True,
            "no GPU that torch can use (`nvidia-smi` shows the driver); configuration/synthgym trains without",
            "",
        )
    gigabytes = free_bytes(Path.cwd()) / 1e9
    cure = "finegym prepare VIDEOS A_FOLDER_ON_A_LARGER_DISK"
    yield (
        gigabytes > VIDEOS_GIGABYTES,
        f"{gigabytes:,.0f} GB free here; prepared videos take up to {VIDEOS_GIGABYTES}",
        cure,
    )


def _annotations(folder: Path) -> Iterator[Line]:
    cure = f"finegym fetch --folder {folder}"
    absent = [name for name in KNOWN_SHA256 if not (folder / name).is_file()]
    there = f"{len(KNOWN_SHA256) - len(absent)} of {len(KNOWN_SHA256)}"
    yield not absent, f"FineGym's lists: {there} in {folder}", cure
    for version in VERSIONS:
        path = folder / segments_file(version)
        state = "there" if path.is_file() else "absent; full videos and events cannot be cut without it"
        yield path.is_file(), f"{path}: {state}", cure


def _recipe(path: Path) -> Iterator[Line]:
    try:
        content = read_yaml(path, what="recipe")
        data, model = content["data"], content["model"]
        root = Path(data["root"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a recipe ({type(error).__name__}: {error}).") from error
    version = data.get("annotation_version")
    yield from _root(root, root.name, version)
    labels = Path(data.get("labels") or root / LABELS_FILE)
    row = ARCHITECTURES.get(model.get("architecture"))
    if labels.is_file() and row and row.needs_attributes:
        attributes = Labels.read(labels).attributes
        cure = f"finegym import VIDEOS {root} --attributes names"
        yield bool(attributes), f"{labels}: {len(attributes)} attributes for the cross encoder", cure
    backbone = model.get("backbone")
    if backbone is not None and not (Path(backbone) / "config.json").is_file():
        cached = huggingface_hub.try_to_load_from_cache(backbone, "config.json") if backbone.count("/") == 1 else None
        cure = (
            f"hf download {backbone}  # or train or convert it, if it is to be a folder here; see the head of {path}"
        )
        yield bool(cached), f"model.backbone {backbone}: {'in the Hub cache' if cached else 'not here'}", cure
    elif backbone is not None:
        yield True, f"model.backbone {backbone}: a checkpoint folder", ""


def _root(root: Path, dataset: str, version: str | None) -> Iterator[Line]:
    prepare = f"finegym prepare VIDEOS {root} --dataset {dataset}"
    prepare += f" --annotation_version {version}" if version else ""
    if dataset == "synthgym":
        prepare = f"finegym synthgym {root}"
    for name in (INDEX_FILE, COVERAGE_FILE, LABELS_FILE):
        if not (root / name).is_file():
            yield False, f"{root / name}: absent", prepare
            return
    for split in ("train", "val"):
        try:
            videos, coverage = read_index(root, split), read_coverage(root, split)
        except ValueError as error:
            yield False, str(error), prepare
            continue
        what = f"{root}, {split}: {coverage.num_present:,} of {coverage.num_expected:,} videos"
        yield (
            not coverage.missing,
            f"{what}, annotation {coverage.annotation_version}",
            f"{prepare}  # after adding what is missing; {COVERAGE_FILE} lists it",
        )
        absent = [video for video in videos if not video.path.is_file()]
        if absent:
            yield (
                False,
                f"{root}, {split}: {len(absent):,} videos of the index are gone, such as {absent[0].path}",
                prepare,
            )
        if version and coverage.annotation_version != version:
            yield (
                False,
                f"{root} is of annotation {coverage.annotation_version}, the recipe asks for {version}",
                prepare,
            )
