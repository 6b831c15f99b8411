"""Vary one thing of SynthGym's vision encoder at a time: `python -m benchmarks.encoders_study`.

Uses the backbones and cached features of `make bench-synthgym`, which must have run, and the same validation videos.
Each variant is compared, video by video, with the shipped recipe and with the better of the two linear controls. A
stopped study resumes. Takes about a minute per variant and backbone on two CPU cores.
"""

import argparse
import logging
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import transformers

from benchmarks.common import write_results
from benchmarks.synthgym import Bench, read_scores, train_and_score
from finegym.evaluation import controls
from finegym.evaluation.metrics import paired_difference, top_k_accuracy


AS_PRINTED = {"model.config.standardize_features": "false", "model.config.num_pooled_parts": 0}
LAYER_NORM = {"model.config.standardize_features": "false", "model.config.normalize_features": "true"}
# name -> what differs from configuration/synthgym/vision_encoder.yaml
VARIANTS: dict[str, dict[str, Any]] = {
    "as shipped": {},
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
}


def run_variant(bench: Bench, name: str, seed: int) -> dict[str, Any]:
    """Train one variant on the backbone of one seed, and return its row."""
    folder = bench.folder / f"seed{seed}" / "study" / name.replace(" ", "_").replace(",", "")
    others = VARIANTS[name] | {"output_dir": folder}
    metrics = train_and_score(bench.recipe("vision_encoder_b3", seed, "class", others=others))
    print(f"seed {seed}  {name:<50} top-1 {metrics['top1']:.2f} %", flush=True)
    kept = {key: metrics[key] for key in ("top1", "train_seconds", "num_parameters")}
    return {"seed": seed, "model": name, "split": "class", "positions": True, "folder": str(folder)} | kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("outputs/bench_synthgym"))
    parser.add_argument("--data", type=Path, default=Path("data/synthgym"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("finegym").setLevel(logging.INFO)
    transformers.utils.logging.disable_progress_bar()
    bench = Bench(arguments.folder, arguments.data, arguments.data.with_name(f"{arguments.data.name}_order"))
    rows = []
    for name in controls.NUM_PARTS:
        for seed in arguments.seeds:
            folder = bench.folder / f"seed{seed}" / "class" / name
            rows.append({"seed": seed, "model": name, "split": "class", "positions": True, "folder": str(folder)})
    for name in VARIANTS:
        rows += [run_variant(bench, name, seed) for seed in arguments.seeds]
    scores = {name: read_scores(rows, name, "class")[0] for name in (*controls.NUM_PARTS, *VARIANTS)}
    labels = read_scores(rows, "as shipped", "class")[1]
    top1 = {name: statistics.mean(top_k_accuracy(one, labels) for one in found) for name, found in scores.items()}
    control = max(controls.NUM_PARTS, key=top1.__getitem__)
    figures: dict[str, float] = {"seeds": len(arguments.seeds), "num_validation_clips": len(labels)}
    for name, found in scores.items():
        figures[f"{name}.top1"] = top1[name]
        for other, meaning in (("as shipped", "over_shipped"), (control, "over_control")):
            gain = paired_difference(found, scores[other], np.asarray(labels)).mean_class_accuracy
            figures |= {f"{name}.{meaning}": gain.value}
            figures |= {f"{name}.{meaning}_low": gain.low, f"{name}.{meaning}_high": gain.high}
    for row in rows:
        row.pop("folder")
    write_results("encoders_study", figures=figures, runs=rows)


if __name__ == "__main__":
    main()
