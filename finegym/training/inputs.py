"""The inputs of a run: everything that its recipe only names, read once and checked before anything is built."""

from dataclasses import dataclass
from typing import Any

from finegym.data.index import Coverage, Video, read_coverage, read_index
from finegym.data.labels import Labels
from finegym.features.fingerprints import fingerprint
from modeling_finegym import FineGymVideoProcessor

from .build import build_processor, read_labels, read_val_videos, trained_on
from .recipe import Recipe


@dataclass(frozen=True)
class RunInputs:
    """The data of one run, the same on every process.

    Attributes:
        labels: The classes.
        videos, val_videos: The videos of the training and of the validation split.
        coverage: The coverage of the validation split.
        trained_on: The data sets that the model will have seen, its backbone's first.
        processor: The test transform and sampling.
        steps_per_epoch: The number of full batches of the training videos.
        num_steps: The step at which the run ends.
        fingerprints: The fingerprints of the training videos and of the classes, by the field of the recipe that names
            them.
    """

    labels: Labels
    videos: list[Video]
    val_videos: list[Video]
    coverage: Coverage
    trained_on: list[dict[str, Any]]
    processor: FineGymVideoProcessor
    steps_per_epoch: int
    num_steps: int
    fingerprints: dict[str, str]


def read_inputs(recipe: Recipe) -> RunInputs:
    """Read what a recipe names; `data.root` must be a prepared folder.

    Raises:
        FileNotFoundError: If the folder or one of its files is not there.
        ValueError: If the recipe does not fit the data, or the backbone was trained on a validation video.
    """
    data = recipe.data
    labels = read_labels(recipe)
    videos = read_index(data.root, data.train_split, fold=data.fold)
    coverage = read_coverage(data.root, data.val_split, fold=data.fold)
    _check(recipe, labels, videos, coverage)
    val_videos = read_val_videos(recipe, labels)
    steps_per_epoch = len(videos) // recipe.optimization.batch_size
    rows = [[video.id, video.label, video.num_frames, video.start, video.end] for video in videos]
    return RunInputs(
        labels=labels,
        videos=videos,
        val_videos=val_videos,
        coverage=coverage,
        trained_on=trained_on(recipe, labels, coverage, val_videos),
        processor=build_processor(data, videos),
        steps_per_epoch=steps_per_epoch,
        num_steps=recipe.optimization.epochs * steps_per_epoch,
        fingerprints={
            "data.root": fingerprint(rows),
            "data.labels": fingerprint([labels.names, labels.attributes]),
        },
    )


def _check(recipe: Recipe, labels: Labels, videos: list[Video], coverage: Coverage) -> None:
    wanted, version = recipe.data.annotation_version, coverage.annotation_version
    if wanted is not None and wanted != version:
        raise ValueError(
            f"{recipe.data.root} was prepared from annotation {version}, and the recipe asks for "
            f"data.annotation_version: {wanted}. Prepare that version, or change the recipe."
        )
    batch_size = recipe.optimization.batch_size
    if len(videos) < batch_size:
        raise ValueError(
            f"{recipe.data.root} has {len(videos)} training videos, too few for one batch of optimization.batch_size "
            f"{batch_size}. Lower it."
        )
    highest = max(videos, key=lambda video: video.label)
    if highest.label >= len(labels.classes):
        raise ValueError(
            f"Video {highest.id} has label {highest.label}, but {labels.name} has {len(labels.classes)} classes."
        )
