"""Vary one thing of SynthGym's vision encoder at a time: `python -m benchmarks.encoders_study`.

Uses the backbones and cached features of `make bench-synthgym`, which must have run, and the same validation videos.
Each variant is compared, video by video, with a base recipe and with the better of the two linear controls. For
`--learning_seeds` the comparison is the paper's: SlowOnly against the encoders after as many epochs each, SlowOnly
being trained for as many more. There the backbone's last two blocks also learn with the encoder, and the controls are
fitted on the longer trained SlowOnly too. A stopped study resumes. On two CPU cores a variant takes about a minute for
each backbone, and what learns in the backbone half an hour.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

import transformers

from benchmarks.common import write_results
from benchmarks.synthgym import CONTROLS, MODELS, Bench, compare, fit_control, read_scores, train_and_score


AS_PRINTED = {"model.config.standardize_features": "false", "model.config.num_pooled_parts": 0}
LAYER_NORM = {"model.config.standardize_features": "false", "model.config.normalize_features": "true"}
SHIPPED = "as shipped"
# What the recipe was when most of the variants were tried.
BASE = {"optimization.epochs": 20, "optimization.mixup": "null"}
# name -> what differs from configuration/synthgym/vision_encoder.yaml with these settings
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "mean pooling": {"model.config.num_pooled_parts": 0},
    "LayerNorm on features": LAYER_NORM,
    "LayerNorm on features, mean pooling": AS_PRINTED | LAYER_NORM,
    "LayerNorm on features, mean pooling, 40 epochs": AS_PRINTED | LAYER_NORM | {"optimization.epochs": 40},
    "features as they are, mean pooling": AS_PRINTED,
    "attention pooling": {"model.config.num_pooled_parts": 0, "model.config.num_pooling_queries": 3},
    "attention pooling and parts": {"model.config.num_pooling_queries": 1},
    "40 epochs": {"optimization.epochs": 40},
    "twice the learning rate": {"optimization.learning_rate": 2e-3},
    "weight decay 0.1": {"optimization.weight_decay": 0.1},
    "dropout 0.3": {"model.config.hidden_dropout_prob": 0.3, "model.config.classifier_dropout": 0.3},
    "positions start at 0.02": {"model.config.position_initializer_range": 0.02},
    "moving average of weights": {"optimization.ema_decay": 0.99},
    "mixup 0.3": {"optimization.mixup": 0.3},
    "mixup 0.3, 40 epochs, twice the learning rate": {
        "optimization.mixup": 0.3,
        "optimization.epochs": 40,
        "optimization.learning_rate": 2e-3,
    },
    SHIPPED: {},  # nothing differs from the recipe as it is, which has mixup 0.3 and 40 epochs
}

# Where the backbone learns too, both in as many passes over the videos, from the backbone that the others keep frozen.
LAST_BLOCKS, LONGER = "last two blocks learn", "SlowOnly, 20 epochs more"
PASSES = BASE | {"optimization.batch_size": 16, "optimization.micro_batch_size": 16}
LAST_BLOCKS_LEARN = PASSES | {
    "features.mode": "online",
    "data.cache_frames": "true",
    "model.config.num_trainable_blocks": 2,
    "optimization.backbone_lr_scale": 0.3,
    **LAYER_NORM,  # features that move cannot be standardized once and for all
}
LONGER_TRAINING = PASSES | {"optimization.learning_rate": 3e-4, "optimization.warmup_epochs": 2}


def folder_of(bench: Bench, seed: int, name: str, study: str = "study") -> Path:
    """Return the folder of a variant on the backbone of one seed."""
    return bench.folder / f"seed{seed}" / study / name.replace(" ", "_").replace(",", "")


def changes_of(name: str) -> dict[str, Any]:
    """Return what differs from the shipped recipe in a variant."""
    return {} if name == SHIPPED else BASE | VARIANTS[name]


def run_variant(bench: Bench, name: str, seed: int) -> dict[str, Any]:
    """Train one variant on the backbone of one seed, and return its row."""
    others = changes_of(name) | {"output_dir": folder_of(bench, seed, name)}
    recipe = bench.recipe("vision_encoder_b3", seed, "class", others=others)
    return _row(bench, seed, name, train_and_score(recipe, bench.val_root("class")))


def run_learning(bench: Bench, seed: int) -> list[dict[str, Any]]:
    """Train the encoder with the last two blocks of its backbone, SlowOnly as long, and controls on the latter."""
    val_root, longer = bench.val_root("class"), folder_of(bench, seed, LONGER)
    others = LAST_BLOCKS_LEARN | {"output_dir": folder_of(bench, seed, LAST_BLOCKS)}
    found = {LAST_BLOCKS: train_and_score(bench.recipe("vision_encoder_b3", seed, "class", others=others), val_root)}
    backbone = bench.folder / f"seed{seed}" / "class" / "slowonly"
    others = LONGER_TRAINING | {"output_dir": longer, "model.backbone": backbone}
    found[LONGER] = train_and_score(bench.recipe("slowonly", seed, "class", others=others), val_root)
    recipe = bench.recipe("vision_encoder_b3", seed, "class", others={"model.backbone": longer})
    for name in CONTROLS:
        title = f"{name} on {LONGER}"
        found[title] = fit_control(recipe, folder_of(bench, seed, title), name, val_root)
    return [_row(bench, seed, name, metrics) for name, metrics in found.items()]


def _row(bench: Bench, seed: int, name: str, metrics: dict[str, Any]) -> dict[str, Any]:
    print(f"seed {seed}  {name:<50} top-1 {metrics['top1']:.2f} %", flush=True)
    folder = str(folder_of(bench, seed, name))
    kept = {key: metrics[key] for key in ("top1", "train_seconds", "num_parameters")}
    return {"seed": seed, "model": name, "split": "class", "positions": True, "folder": folder} | kept


def compare_on(rows: list[dict[str, Any]], names: list[str], seeds: list[int]) -> dict[str, float]:
    """Return what these models gain on these seeds, over the base recipe and over the better control."""
    rows = [row for row in rows if row["seed"] in seeds]
    scores = {name: read_scores(rows, name, "class")[0] for name in names}
    labels = read_scores(rows, "base", "class")[1]
    figures: dict[str, float] = {"seeds": len(seeds), "num_validation_clips": len(labels)}
    return figures | compare(scores, labels, {"over_base": "base"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("outputs/bench_synthgym"))
    parser.add_argument("--data", type=Path, default=Path("data/synthgym"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--learning_seeds", type=int, nargs="*", default=[0, 1], help="where the backbone learns too")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("finegym").setLevel(logging.INFO)
    transformers.utils.logging.disable_progress_bar()
    bench = Bench(arguments.folder, arguments.data)
    rows = []
    for name in MODELS:
        for seed in arguments.seeds:
            folder = bench.folder / f"seed{seed}" / "class" / name
            rows.append({"seed": seed, "model": name, "split": "class", "positions": True, "folder": str(folder)})
    for name in VARIANTS:
        rows += [run_variant(bench, name, seed) for seed in arguments.seeds]
    for seed in arguments.learning_seeds:
        rows += run_learning(bench, seed)
    figures = compare_on(rows, [*CONTROLS, *VARIANTS], arguments.seeds)
    if arguments.learning_seeds:
        names = ["slowonly", LONGER, *CONTROLS, *(f"{name} on {LONGER}" for name in CONTROLS)]
        names += ["vision_encoder_b1", "base", SHIPPED, "video_text", LAST_BLOCKS]
        learning = compare_on(rows, names, arguments.learning_seeds)
        figures |= {f"learning.{name}": value for name, value in learning.items()}
    for row in rows:
        row.pop("folder")
    write_results("encoders_study", figures=figures, runs=rows)


if __name__ == "__main__":
    main()
