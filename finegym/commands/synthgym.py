"""`finegym synthgym`."""

from pathlib import Path
from typing import Literal

from finegym.data.arguments import Count, CountOrZero
from finegym.paths import shipped


def synthgym(
    root: Path,
    *,
    split: Literal["class", "order"] = "class",
    num_train_per_class: Count = 64,
    num_val_per_class: Count = 40,
    seed: int = 0,
    size: Count = 112,
    num_workers: CountOrZero | None = None,
    labels: Path | None = None,
) -> None:
    """Draw SynthGym, the data set that needs no download: gymnasts performing Gym99 classes.

    The same options give the same videos. The same command after an interruption renders only what is missing.

    Args:
        root: The folder to fill with videos, their index and FineGym's annotation files.
        split: The classes: FineGym's own, or series of two jumps that differ only in which comes first.
        num_train_per_class: The number of training videos of each class.
        num_val_per_class: The number of validation videos of each class.
        seed: The seed of everything that is random.
        size: The width and height of the videos in pixels, an even number of at least 32.
        num_workers: The number of processes that render. By default, there is one for each CPU core; 0 renders in this
            one.
        labels: The label file of the classes to perform. By default, it is SynthGym's own.

    Examples:
        finegym synthgym data/synthgym
        finegym synthgym data/small --num_train_per_class 4 --num_val_per_class 2
    """
    labels = None if labels is None else shipped(labels)
    from finegym.synthgym.generate import generate

    generate(
        root,
        split=split,
        num_train_per_class=num_train_per_class,
        num_val_per_class=num_val_per_class,
        seed=seed,
        size=size,
        num_workers=num_workers,
        labels=labels,
    )
