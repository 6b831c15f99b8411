"""Measure what the encoders gain on SynthGym, on five backbones with heads: `python -m benchmarks.synthgym`.

The class split compares SlowOnly, linear refits on its features (the mean over time, and the mean with those of three
parts; an encoder must exceed the better of them), the vision encoder with one and three layers, and the cross encoder.
The order split compares the same models, and the encoders with and without position embeddings: its classes differ
only in which of two jumps comes first, so that a mean over time is at chance between them.

They are trained on `make train`'s videos and scored on others: 8,064 of the class split and 2,048 of the order split,
drawn apart into `DATA_val` and `DATA_order_val`, so that half a point can be told from none.

Everything is written below `--folder`; a stopped run resumes. Takes about three hours on two CPU cores.
"""

import argparse
import json
import logging
import signal
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
import transformers
from transformers import AutoModelForVideoClassification, PreTrainedModel

from benchmarks.common import write_results
from finegym.data.files import write_text
from finegym.data.index import LABELS_FILE, Video, read_coverage, read_index
from finegym.data.labels import Labels
from finegym.evaluation import controls
from finegym.evaluation.metrics import mean_class_accuracy, paired_difference, top_k_accuracy
from finegym.evaluation.protocol import Evaluation, evaluate, measure
from finegym.evaluation.report import write_scores
from finegym.evaluation.table import render_table
from finegym.features.cache import Features, build_features
from finegym.features.views import EvaluationViews, TrainingViews
from finegym.synthgym.generate import generate
from finegym.training.build import augmentation, build_dataset, build_processor
from finegym.training.loop import train
from finegym.training.recipe import Recipe
from finegym.training.recipe_parsing import parse_recipe
from modeling_finegym import SlowOnlyForVideoClassification


RECIPES = Path(__file__).resolve().parent.parent / "configuration" / "synthgym"
ENCODERS = {
    "vision_encoder_b1": "vision_encoder_b1.yaml",
    "vision_encoder_b3": "vision_encoder.yaml",
    "video_text": "video_text.yaml",
}
CONTROLS = controls.controls_on(num_places=1)
MODELS = ("slowonly", *CONTROLS, *ENCODERS)
# The order split is small: 512 videos, eight classes. Its backbone is the class split's; only SlowOnly is fine-tuned.
ORDER_CHANGES = {"slowonly": {"optimization.epochs": 12, "optimization.learning_rate": 1e-3}}
ORDER_CHANGES |= dict.fromkeys(ENCODERS, {"optimization.epochs": 40})
# Training writes scores.parquet, of `make train`'s validation videos.
SCORES_FILE = "benchmark_scores.parquet"
NUM_VAL_PER_CLASS = {"class": 288, "order": 256}


@dataclass(frozen=True)
class Bench:
    """Where the data and the runs are."""

    folder: Path
    data: Path
    smoke: bool = False

    def root(self, split: str) -> Path:
        """Return the data set of a split that models are trained on."""
        return self.data if split == "class" else self.data.with_name(f"{self.data.name}_order")

    def val_root(self, split: str) -> Path:
        """Return the data set of a split that models are scored on."""
        return self.root(split).with_name(f"{self.root(split).name}_val")

    def draw(self, split: str) -> None:
        """Draw the data sets of a split that are not there."""
        sizes = {"num_train_per_class": 8, "num_val_per_class": 2} if self.smoke else {}
        generate(self.root(split), split=split, **sizes)
        num_videos = 2 if self.smoke else NUM_VAL_PER_CLASS[split]
        # another seed, so that no video is one of `make train`'s; a data set has at least one video to train on
        generate(self.val_root(split), split=split, num_train_per_class=1, num_val_per_class=num_videos, seed=1)

    def recipe(
        self, model: str, seed: int, split: str, *, positions: bool = True, others: Mapping[str, Any] | None = None
    ) -> Recipe:
        """Return a recipe of configuration/synthgym with this seed, on this split, and with other changes."""
        name = model if positions else f"{model}_without_positions"
        changes: dict[str, Any] = {
            "seed": seed,
            "output_dir": self.folder / f"seed{seed}" / split / name,
            "data.root": self.root(split),
            "features.folder": self.folder / "features",
            "evaluation.every_epochs": 0,
            "logging.every_steps": 500,
            "logging.trackers": "[]",
        }
        if model != "slowonly" or split == "order":
            changes["model.backbone"] = self.folder / f"seed{seed}" / "class" / "slowonly"
        if not positions:  # nor anything else that tells the order
            changes |= {"model.config.use_position_embeddings": "false", "model.config.num_pooled_parts": 0}
        if split == "order":
            changes |= ORDER_CHANGES[model]
        changes |= others or {}
        if self.smoke:
            changes |= {"optimization.epochs": 1, "optimization.warmup_epochs": 0}
        arguments = [part for key, value in changes.items() for part in (f"--{key}", str(value))]
        return parse_recipe(["--config", str(RECIPES / ENCODERS.get(model, "slowonly.yaml")), *arguments])


def train_or_stop(recipe: Recipe) -> dict[str, Any]:
    """Train a recipe, unless that is already done; a signal ends the benchmark."""
    metrics = train(recipe)
    if isinstance(metrics, signal.Signals):
        raise SystemExit("Stopped. The same command resumes from here.")
    return metrics


def train_and_score(recipe: Recipe, val_root: Path) -> dict[str, Any]:
    """Train a recipe and score the videos of `val_root`, unless that is already done; return the metrics of these."""
    folder, metrics = Path(recipe.output_dir), train_or_stop(recipe)
    if not (folder / SCORES_FILE).exists():
        write_scores(folder / SCORES_FILE, score(recipe, val_root))
    return metrics | measure_scores(folder, val_root)


def measure_scores(folder: Path, val_root: Path) -> dict[str, Any]:
    scores, truth = read_scores_of([folder / SCORES_FILE])
    return measure(torch.from_numpy(scores[0]), torch.from_numpy(truth), Labels.read(val_root / LABELS_FILE))


@torch.no_grad()
def score(recipe: Recipe, val_root: Path) -> Evaluation:
    """Score the videos of `val_root` by a trained model: from cached features, unless its backbone learned with it."""
    data = recipe.data
    model = AutoModelForVideoClassification.from_pretrained(recipe.output_dir)
    videos, labels = read_index(val_root, data.val_split), Labels.read(val_root / LABELS_FILE)
    if isinstance(model, SlowOnlyForVideoClassification):  # what its classifier reads is the mean of its features
        features = val_features(recipe, model.eval(), val_root)
        answers = [model.classifier(features[place].float().mean(1)).softmax(-1) for place in range(len(videos))]
        scores = [features.video_clips(place).weights @ answer for place, answer in enumerate(answers)]
        return _evaluation(torch.stack(scores), videos, labels)
    features = val_features(recipe, model, val_root) if recipe.features.mode == "cached" else None
    coverage = read_coverage(val_root, data.val_split)
    options = {"num_clips": data.num_clips, "batch_size": 32, "coverage": coverage}
    return evaluate(model, build_processor(data), videos, labels, features=features, **options)


def _evaluation(scores: torch.Tensor, videos: Sequence[Video], labels: Labels) -> Evaluation:
    truth = torch.tensor([video.label for video in videos])
    ids, weights = [video.id for video in videos], torch.ones(len(videos), 1)
    return Evaluation(scores, truth, ids, scores[:, None], weights, {}, measure(scores, truth, labels))


def val_features(recipe: Recipe, model: PreTrainedModel, val_root: Path) -> Features:
    """Return the features of the videos of `val_root` by a model or by its frozen backbone."""
    videos = read_index(val_root, recipe.data.val_split)
    views = EvaluationViews(build_processor(recipe.data), videos, num_clips=recipe.data.num_clips)
    return build_features(model, views, recipe.features.folder, dtype=recipe.features.dtype, batch_size=32)


def fit_control(
    recipe: Recipe, folder: Path, name: str, val_root: Path, *, model_folder: Path | None = None
) -> dict[str, Any]:
    """Fit a linear classifier on exactly the features that the encoders of this recipe receive, and score the videos
    of `val_root`; see `finegym.evaluation.controls`. `model_folder` holds an encoder whose tokens it reads in place of
    the backbone's."""
    if (folder / SCORES_FILE).exists():
        return json.loads((folder / "metrics.json").read_text())
    start = time.perf_counter()
    root, data, num_views = Path(recipe.data.root), recipe.data, recipe.features.views
    model = AutoModelForVideoClassification.from_pretrained(model_folder or recipe.model.backbone).eval()
    videos, val_videos = read_index(root, data.train_split), read_index(val_root, data.val_split)
    dataset = build_dataset(recipe, videos, skip_unreadable=False)
    views = TrainingViews(dataset, num_views=num_views, transform=augmentation(data))
    folder_of_features, dtype = recipe.features.folder, recipe.features.dtype
    features = build_features(model, views, folder_of_features, dtype=dtype, batch_size=32)
    tests, labels = val_features(recipe, model, val_root), Labels.read(root / LABELS_FILE)
    numbers = {"num_views": num_views, "num_places": getattr(model.config, "num_places", 1)}
    control = controls.fit_control(name, features, videos, tests, val_videos, labels, **numbers)
    evaluation = _evaluation(control.scores, val_videos, labels)
    metrics = evaluation.metrics | control.metrics | {"train_seconds": time.perf_counter() - start}
    write_text(folder / "metrics.json", json.dumps(metrics))
    write_scores(folder / SCORES_FILE, evaluation)
    return metrics


def run_seed(bench: Bench, seed: int) -> list[dict[str, Any]]:
    """Train everything on one backbone; return one row per model and split."""
    rows = []

    def add(model: str, split: str, folder: Path, metrics: dict[str, Any], positions: bool = True) -> None:
        kept = ("top1", "mean_class_accuracy", "per_event", "train_seconds", "num_parameters", "weight_decay")
        row = {"seed": seed, "split": split, "model": model, "positions": positions, "folder": str(folder)}
        rows.append(row | {name: metrics[name] for name in kept if name in metrics})
        print(
            f"seed {seed}  {split:<5}  {folder.name:<36} top-1 {metrics['top1']:.2f} %  "
            f"mean class accuracy {metrics['mean_class_accuracy']:.2f} %",
            flush=True,
        )

    for split in ("class", "order"):
        recipe, val_root = bench.recipe("slowonly", seed, split), bench.val_root(split)
        add("slowonly", split, Path(recipe.output_dir), train_and_score(recipe, val_root))
        recipe = bench.recipe("vision_encoder_b3", seed, split)
        for control in CONTROLS:
            folder = Path(recipe.output_dir).with_name(control)
            add(control, split, folder, fit_control(recipe, folder, control, val_root))
        for model in ENCODERS:
            for positions in (True, False) if split == "order" else (True,):
                recipe = bench.recipe(model, seed, split, positions=positions)
                add(model, split, Path(recipe.output_dir), train_and_score(recipe, val_root), positions)
    return rows


def read_scores(rows: list[dict[str, Any]], model: str, split: str, *, positions: bool = True) -> tuple[Any, Any]:
    """Return scores (S, N, C) and labels (N,) of one model over the seeds."""
    return read_scores_of(
        Path(row["folder"]) / SCORES_FILE
        for row in rows
        if (row["model"], row["split"], row["positions"]) == (model, split, positions)
    )


def read_scores_of(files: Iterable[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Return scores (S, N, C) and labels (N,) from the files of runs on the same videos."""
    tables = [pq.read_table(file).to_pydict() for file in files]
    assert all(table["id"] == tables[0]["id"] for table in tables)
    return np.array([table["scores"] for table in tables]), np.array(tables[0]["label"])


def gain_figures(name: str, scores: np.ndarray, baseline: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return what scores (S, N, C) gain over others, paired by video, in points of mean class accuracy, with the ends
    of its 95 % interval."""
    gain = paired_difference(scores, baseline, labels).mean_class_accuracy
    return {name: gain.value, f"{name}_low": gain.low, f"{name}_high": gain.high}


def compare(scores: Mapping[str, np.ndarray], labels: np.ndarray, baselines: Mapping[str, str]) -> dict[str, float]:
    """Return the accuracy of each model, and what it gains over some of them and over the better linear control.

    Args:
        scores: Model -> scores (S, N, C), the controls' among them.
        labels: The classes (N,).
        baselines: Figure, such as `over_mean` -> the model that it is a gain over.
    """
    top1 = {name: statistics.mean(top_k_accuracy(one, labels) for one in found) for name, found in scores.items()}
    control = max((name for name in scores if "control" in name), key=top1.__getitem__)
    figures: dict[str, float] = {}
    for name, found in scores.items():
        figures[f"{name}.top1"] = top1[name]
        for figure, other in {**baselines, "over_control": control}.items():
            figures |= gain_figures(f"{name}.{figure}", found, scores[other], labels)
    return figures


def right_order_accuracy(scores: np.ndarray, labels: np.ndarray, names: list[str]) -> float:
    """Return the percentage of videos whose class beats the one with the two jumps in the other order; chance: 50."""
    pairs = [frozenset(name.removeprefix("(BB) ").split(", then ")) for name in names]
    other = [next(b for b in range(len(names)) if b != a and pairs[a] == pairs[b]) for a in range(len(names))]
    videos = np.arange(len(labels))
    return 100 * float(np.mean(scores[videos, labels] > scores[videos, np.array(other)[labels]]))


def compute_figures(bench: Bench, rows: list[dict[str, Any]]) -> dict[str, float]:
    figures: dict[str, float] = {}
    all_scores = {model: read_scores(rows, model, "class")[0] for model in MODELS}
    labels = read_scores(rows, "slowonly", "class")[1]
    # what an encoder gains must be above the better of the linear models
    control = max(
        (all_scores[name] for name in CONTROLS),
        key=lambda scores: statistics.mean(mean_class_accuracy(one, labels) for one in scores),
    )
    for model, scores in all_scores.items():
        accuracies = [mean_class_accuracy(one, labels) for one in scores]
        figures[f"{model}.top1"] = statistics.mean(top_k_accuracy(one, labels) for one in scores)
        figures[f"{model}.mean_class_accuracy"] = statistics.mean(accuracies)
        figures[f"{model}.std"] = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
        figures |= gain_figures(f"{model}.gain_over_control", scores, control, labels)
    b3 = all_scores["vision_encoder_b3"]
    figures |= gain_figures("video_text.gain_over_b3", all_scores["video_text"], b3, labels)
    names = Labels.read(bench.val_root("order") / LABELS_FILE).names
    for model in MODELS:
        for positions, suffix in ((True, ""), (False, "_without_positions")):
            if positions or model in ENCODERS:
                scores, order_labels = read_scores(rows, model, "order", positions=positions)
                figures[f"{model}.order_accuracy{suffix}"] = statistics.mean(
                    top_k_accuracy(one, order_labels) for one in scores
                )
                figures[f"{model}.right_order_accuracy{suffix}"] = statistics.mean(
                    right_order_accuracy(one, order_labels, names) for one in scores
                )
    figures |= {"seeds": len(control), "num_validation_clips": len(labels), "num_order_clips": len(order_labels)}
    return figures | {"train_seconds": sum(row["train_seconds"] for row in rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("outputs/bench_synthgym"))
    parser.add_argument("--data", type=Path, default=Path("data/synthgym"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--smoke", action="store_true", help="eight videos per class and one epoch; writes no result")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("finegym").setLevel(logging.INFO)
    transformers.utils.logging.disable_progress_bar()
    bench = Bench(arguments.folder, arguments.data, arguments.smoke)
    for split in NUM_VAL_PER_CLASS:
        bench.draw(split)
    rows = []
    for seed in arguments.seeds:
        rows += run_seed(bench, seed)
    figures = compute_figures(bench, rows)
    table = [
        (
            model,
            f"{figures[f'{model}.top1']:.2f}",
            f"{figures[f'{model}.mean_class_accuracy']:.2f} +- {figures[f'{model}.std']:.2f}",
            "{:+.2f} ({:+.2f} to {:+.2f})".format(
                *(figures[f"{model}.gain_over_control{bound}"] for bound in ("", "_low", "_high"))
            ),
            f"{figures[f'{model}.order_accuracy']:.1f}",
        )
        for model in MODELS
    ]
    print(render_table(("model", "top-1", "mean class accuracy", "gain over control", "order"), table), flush=True)
    for row in rows:
        row.pop("folder")
    if not arguments.smoke:
        write_results("synthgym", figures=figures, runs=rows)


if __name__ == "__main__":
    main()
