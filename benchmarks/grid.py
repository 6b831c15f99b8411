"""Measure what space costs and gains, and how few weights LoRA learns: `python -m benchmarks.grid`.

The encoders of SynthGym read a 2 x 2 grid of each moment and pool by attention, on the backbones and the cached
features of `make bench-synthgym`, which must have run, beside the study's variants that read the mean. All are
compared on `make train`'s validation videos, one by one, with mean pooling on the mean and with the better of the
linear controls. A stopped run resumes. Takes about an hour on two CPU cores.
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch.utils.data import DataLoader
from transformers import AutoConfig

from benchmarks.common import median_ratio, time_in_turns, write_results
from benchmarks.encoders_study import BASE, VARIANTS, folder_of
from benchmarks.features import LABELS, draw_lengths, training_step, write_videos
from benchmarks.synthgym import SCORES_FILE as BENCHMARK_SCORES_FILE
from benchmarks.synthgym import Bench, compare, fit_control, read_scores_of, train_or_stop
from finegym.data.dataset import ClipDataset, StepSampler, collate
from finegym.data.labels import Labels
from finegym.data.transforms import augment
from finegym.evaluation import controls
from finegym.evaluation.report import SCORES_FILE
from finegym.features.cache import build_features
from finegym.features.dataset import FeatureDataset
from finegym.features.views import TrainingViews
from finegym.training.lora import add_lora
from finegym.training.recipe_sections import LoraRecipe
from modeling_finegym import (
    FineGymVisionConfig,
    FineGymVisionForVideoClassification,
    FineGymVisionModel,
    SlowOnlyConfig,
    SlowOnlyForVideoClassification,
)
from modeling_finegym.configuration_token_layouts import TOKEN_LAYOUTS


MEAN = "mean pooling"
# Variants of the study that read the mean over space, by their names there.
ON_THE_MEAN = (MEAN, "attention pooling", "base")
GRID = {"model.config.spatial_grid_size": 2}
# name -> what differs from the study's base
ON_THE_GRID: dict[str, dict[str, Any]] = {
    f"2 x 2 grid, {MEAN}": GRID | VARIANTS[MEAN],
    "2 x 2 grid, attention pooling": GRID | VARIANTS["attention pooling"],
    "2 x 2 grid, mean and parts": GRID,
}
# What reads the features whose costs are measured: the paper's encoder, and that of configuration/own/frozen.yaml.
ENCODERS = {
    "paper": {"num_hidden_layers": 3},
    "own": {"hidden_size": 256, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 1024},
}
RANK = 8
# A size for the one type whose configuration of Transformers has none.
SIZES = {"timm_wrapper": {"architecture": "vit_base_patch16_224"}}


def run_variant(bench: Bench, name: str, seed: int) -> dict[str, Any]:
    """Train one variant on the backbone of one seed, unless that is done, and return its row."""
    folder = folder_of(bench, seed, name, "study" if name in VARIANTS else "grid")
    changes = BASE | (VARIANTS | ON_THE_GRID)[name] | {"output_dir": folder}
    metrics = train_or_stop(bench.recipe("vision_encoder_b3", seed, "class", others=changes))
    print(f"seed {seed}  {name:<40} top-1 {metrics['top1']:.2f} %", flush=True)
    kept = {key: metrics[key] for key in ("top1", "train_seconds", "num_parameters")}
    return {"seed": seed, "model": name, "scores": folder / SCORES_FILE} | kept


def run_control(bench: Bench, name: str, seed: int) -> dict[str, Any]:
    """Fit one control on the features of one seed, unless that is done, and return its row."""
    folder, recipe = bench.folder / f"seed{seed}" / "grid" / name, bench.recipe("vision_encoder_b3", seed, "class")
    on_the_mean = name in controls.controls_on(num_places=1)
    encoder = None if on_the_mean else folder_of(bench, seed, next(iter(ON_THE_GRID)), "grid")
    metrics = fit_control(recipe, folder, name, bench.root("class"), model_folder=encoder)
    return {"seed": seed, "model": name, "scores": folder / BENCHMARK_SCORES_FILE, "top1": metrics["top1"]}


def compare_rows(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return what each model gains over the encoder that averages, and over the better control."""
    scores = {}
    for name in dict.fromkeys(row["model"] for row in rows):
        scores[name], labels = read_scores_of(row["scores"] for row in rows if row["model"] == name)
    figures: dict[str, float] = {"seeds": len(scores[MEAN]), "num_validation_clips": len(labels)}
    return figures | compare(scores, labels, {"over_mean": MEAN})


def measure_costs(num_rounds: int) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return what a 2 x 2 grid costs in ratio to the mean: bytes of the cache, and processor time of a training step
    that reads it, of two encoders on SlowOnly-R50's features of 32 frames."""
    labels = Labels.read(LABELS)
    batch_size = 16
    backbone = SlowOnlyForVideoClassification(SlowOnlyConfig(num_labels=len(labels.classes), image_size=64)).eval()
    steps: dict[str, Callable[[], None]] = {}
    num_bytes = {}
    with tempfile.TemporaryDirectory() as scratch:
        lengths = draw_lengths(batch_size, np.random.default_rng(1))
        videos = write_videos(Path(scratch), lengths, labels, height=80, width=96)
        transform = {"short_side": 72, "crop_size": 64}  # whose features have the shape of larger frames' features
        dataset = ClipDataset(videos, seed=0, clip_len=32, frame_interval=2, transform=partial(augment, **transform))
        views = TrainingViews(dataset, num_views=1, transform=transform)
        for encoder, sizes in ENCODERS.items():
            for name, grid_size in (("mean", 1), ("grid", 2)):
                options = {"num_labels": len(labels.classes), "spatial_grid_size": grid_size, **sizes}
                config = FineGymVisionConfig(vision_config=backbone.config, **options)
                model = FineGymVisionForVideoClassification(config).train()
                model.base_model.backbone.load_state_dict(backbone.base_model.state_dict())
                features = build_features(model, views, Path(scratch) / "features", batch_size=4)
                num_bytes[name] = sum(path.stat().st_size for path in features.folder.glob("*.safetensors"))
                sampler = StepSampler(batch_size, batch_size=batch_size, num_steps=10**6, seed=0)
                loader = DataLoader(FeatureDataset(features, views), batch_sampler=sampler, collate_fn=collate)
                parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
                optimizer = torch.optim.AdamW(parameters, lr=1e-4)
                steps[f"{encoder}, {name}"] = partial(_step, model, optimizer, iter(loader))
        seconds = time_in_turns(steps, num_rounds=num_rounds, clock=time.process_time)
    figures = {"cache_ratio": num_bytes["grid"] / num_bytes["mean"]}
    for encoder in ENCODERS:
        ratio = median_ratio(seconds[f"{encoder}, grid"], seconds[f"{encoder}, mean"])
        figures[f"{encoder}.epoch_ratio"] = ratio
    return figures, [{"step": name, "processor_seconds": values} for name, values in seconds.items()]


def _step(model, optimizer, batches) -> None:
    training_step(model, optimizer, next(batches))


def lora_shares() -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return, for every type of backbone at the size of its configuration's defaults, how many weights LoRA learns."""
    figures, rows = {}, []
    for model_type in TOKEN_LAYOUTS:
        config = AutoConfig.for_model(model_type, **SIZES.get(model_type, {}))
        known = [getattr(config, name, None) for name in ("num_frames", "frames_per_clip")]
        sides = [getattr(config, name, None) for name in ("image_size", "crop_size")]
        clip = {"num_frames": next(filter(None, known), 16), "image_size": next(filter(None, sides), 224)}
        with torch.device("meta"):
            model = FineGymVisionModel(FineGymVisionConfig(vision_config=config, **clip))
            num_weights = sum(parameter.numel() for parameter in model.backbone.parameters())
            add_lora(model, LoraRecipe(rank=RANK))
        learning = [parameter for parameter in model.backbone.parameters() if parameter.requires_grad]
        num_lora = sum(parameter.numel() for parameter in learning)
        rows.append({"model_type": model_type, "num_weights": num_weights, "num_lora_weights": num_lora})
        figures |= {f"lora.{model_type}.num_weights": num_weights, f"lora.{model_type}.share": num_lora / num_weights}
    return figures, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("outputs/bench_synthgym"))
    parser.add_argument("--data", type=Path, default=Path("data/synthgym"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="none measures the costs alone")
    parser.add_argument("--num_rounds", type=int, default=15)
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("finegym").setLevel(logging.INFO)
    transformers.utils.logging.disable_progress_bar()
    shares, rows_of_lora = lora_shares()
    costs, rows_of_costs = measure_costs(arguments.num_rounds)
    bench = Bench(arguments.folder, arguments.data)
    rows = []
    for seed in arguments.seeds:
        encoders = [run_variant(bench, name, seed) for name in (*ON_THE_MEAN, *ON_THE_GRID)]
        rows += [*(run_control(bench, name, seed) for name in controls.POOLINGS), *encoders]
    figures = compare_rows(rows) if rows else {}
    for row in rows:
        del row["scores"]
    write_results("grid", figures=figures | costs | shares, runs=[*rows, *rows_of_costs, *rows_of_lora])


if __name__ == "__main__":
    main()
