"""Train every system of the paper's table 3 on SynthGym, beside its published FineGym numbers.

`python -m benchmarks.table3` trains the recipes of configuration/synthgym, on pictures and, for two-stream systems, on
optical flow; on the class split, and on the order split, whose classes differ only in which of two jumps comes first.
It measures top-1, mean class accuracy, parameters, GFLOPs of a video under the system's own protocol (two for each
multiply-add) and training time with that of its backbones. Spearman's rank correlation compares the order of the
systems by mean class accuracy with that of their published ones on Gym99; its interval is over validation videos and
training seeds. Last, the networks in their full sizes are timed against other implementations; see `benchmarks.peers`.

Everything is written below `--folder`, and the figures so far to `table3.json` there after every system; a stopped run
resumes. Several hours for each seed on two CPU cores; `--seeds` and `--systems` choose a part.
"""

import argparse
import json
import logging
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from scipy.stats import spearmanr
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForVideoClassification

from benchmarks import peers
from benchmarks.common import write_results
from benchmarks.synthgym import RECIPES, read_scores_of, right_order_accuracy, train_or_stop
from finegym.data.files import write_text
from finegym.data.index import INDEX_FILE
from finegym.data.labels import Labels
from finegym.evaluation.fuse import fuse_runs
from finegym.evaluation.report import SCORES_FILE
from finegym.evaluation.table import render_table
from finegym.preparation.flow import FlowSettings, compute_flow
from finegym.synthgym.generate import generate
from finegym.training.recipe import Recipe
from finegym.training.recipe_parsing import parse_recipe


NUM_RESAMPLES = 2000
# What systems are ordered by -> the figure that says how this order agrees with the published one.
CORRELATIONS = {"mean_class_accuracy": "rank_correlation", "top1": "rank_correlation_of_top1"}
# Run -> the run whose weights it starts from on the class split.
BACKBONES = {
    "trn_rgb": "tsn_bn_inception_rgb",
    "trn_flow": "tsn_bn_inception_flow",
    "vision_encoder": "slowonly",
    "video_text": "slowonly",
    "mtn_pathways": "slowonly",
    "mtn": "mtn_pathways",
    "tqn": "s3d",
}
ENCODERS = ("vision_encoder", "video_text", "mtn")
# The order split is small: 512 videos, eight classes. As in `benchmarks.synthgym`, networks that learn as a whole
# start from the weights of the class split.
ORDER_CHANGES = {"optimization.epochs": 12, "optimization.learning_rate": 1e-3}
ORDER_CHANGES_OF_ENCODERS = {"optimization.epochs": 40}


@dataclass(frozen=True)
class System:
    """One row of the table.

    Attributes:
        title: The paper's name for it.
        streams: Its runs; the scores of several are averaged.
        published: Top-1 and mean class accuracy on Gym99, and on Gym288, from FineGym's site and the paper's table 3,
            of two streams where there are any; None where there are none.
    """

    title: str
    streams: tuple[str, ...]
    published: tuple[float | None, float | None, float | None, float | None]


# The cheapest first.
SYSTEMS = {
    "tsn": System("TSN", ("tsn_bn_inception_rgb", "tsn_bn_inception_flow"), (86.0, 76.4, 79.9, 37.6)),
    "trn": System("TRNms", ("trn_rgb", "trn_flow"), (87.8, 80.2, 82.0, 43.3)),
    "tsm": System("TSM", ("tsm_rgb", "tsm_flow"), (88.4, 81.2, 83.1, 46.5)),
    "i3d": System("I3D", ("i3d",), (75.6, 64.4, 66.1, 28.2)),
    "nl_i3d": System("NL-I3D", ("nl_i3d",), (75.3, 64.3, 67.0, 28.0)),
    "vision_encoder": System("3D vision encoder, B = 3", ("vision_encoder",), (94.01, 90.54, None, None)),
    "video_text": System("Video-text cross encoder", ("video_text",), (94.57, 91.43, 90.10, 62.62)),
    "mtn": System("MTN", ("mtn",), (91.80, 88.46, None, None)),
    "tqn": System("TQN", ("tqn",), (93.8, 90.6, 89.6, 61.9)),
}


@dataclass(frozen=True)
class Bench:
    """Where the data and the runs are."""

    folder: Path
    class_root: Path
    order_root: Path
    smoke: bool = False

    def root(self, split: str, run: str) -> Path:
        """Return the data set of a run, made if it is not there: of flow, beside the runs."""
        root = self.class_root if split == "class" else self.order_root
        if not (root / INDEX_FILE).exists():
            sizes = {"num_train_per_class": 8, "num_val_per_class": 2} if self.smoke else {}
            generate(root, split=split, **sizes)
        if not run.endswith("_flow"):
            return root
        flow = self.folder / "flow" / split
        if not (flow / INDEX_FILE).exists():
            print(compute_flow(root, flow, FlowSettings()), flush=True)
        return flow

    def output(self, seed: int, split: str, run: str) -> Path:
        return self.folder / f"seed{seed}" / split / run

    def recipe(self, run: str, seed: int, split: str) -> Recipe:
        """Return a recipe of configuration/synthgym with this seed, on this split."""
        changes: dict[str, Any] = {
            "seed": seed,
            "output_dir": self.output(seed, split, run),
            "data.root": self.root(split, run),
            "evaluation.every_epochs": 0,
            "logging.every_steps": 500,
            "logging.trackers": "[]",
            "logging.pictures": "false",
        }
        if run in BACKBONES:
            changes["model.backbone"] = self.output(seed, "class", BACKBONES[run])
        elif split == "order":
            changes["model.backbone"] = self.output(seed, "class", run)
        if run in ENCODERS:
            changes["features.folder"] = self.folder / "features"
        if split == "order":
            changes |= ORDER_CHANGES_OF_ENCODERS if run in ENCODERS else ORDER_CHANGES
        if self.smoke:
            changes |= {"optimization.epochs": 1, "optimization.warmup_epochs": 0}
        arguments = [part for key, value in changes.items() for part in (f"--{key}", str(value))]
        return parse_recipe(["--config", str(RECIPES / f"{run}.yaml"), *arguments])


def needed(run: str) -> list[str]:
    """Return the runs that a run starts from, first the one that starts from none, and the run."""
    return [*(needed(BACKBONES[run]) if run in BACKBONES else ()), run]


def run_system(bench: Bench, system: str, seed: int) -> list[dict[str, Any]]:
    """Train a system on both splits; return a row for each stream, and for both streams together."""
    rows = []
    streams = SYSTEMS[system].streams
    for split in ("class", "order"):
        for run in streams:
            for name in needed(run):
                if split == "class" or name == run:
                    metrics = train_or_stop(bench.recipe(name, seed, split))
            rows.append(_row(system, run, seed, split, bench.output(seed, split, run), metrics))
            rows[-1] |= _costs(bench, run, seed)
        if len(streams) > 1:
            folder = bench.output(seed, split, f"{system}_fused")
            if not (folder / "metrics.json").exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped within it
                fuse_runs([bench.output(seed, split, run) for run in streams], folder, root=None)
            metrics = json.loads((folder / "metrics.json").read_text())
            rows.append(_row(system, "two streams", seed, split, folder, metrics))
            costs = [_costs(bench, run, seed) for run in streams]
            rows[-1] |= {name: sum(cost[name] for cost in costs) for name in costs[0]}
    return rows


def _row(system: str, stream: str, seed: int, split: str, folder: Path, metrics: Mapping[str, Any]) -> dict[str, Any]:
    print(
        f"seed {seed}  {split:<5}  {system} {stream:<24} top-1 {metrics['top1']:.2f} %  "
        f"mean class accuracy {metrics['mean_class_accuracy']:.2f} %",
        flush=True,
    )
    row = {"system": system, "stream": stream, "seed": seed, "split": split, "folder": str(folder)}
    return row | {name: metrics[name] for name in ("top1", "mean_class_accuracy")}


def _costs(bench: Bench, run: str, seed: int) -> dict[str, float]:
    """Return parameters, GFLOPs of a video, and the seconds of training on the class split, backbones included."""
    folders = [bench.output(seed, "class", name) for name in needed(run)]
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
    return {
        "num_parameters": metrics[-1]["num_parameters"],
        "gflops_per_video": count_gflops(bench.recipe(run, seed, "class"), folders[-1]),
        "train_seconds": sum(one["train_seconds"] for one in metrics),
    }


@torch.no_grad()
def count_gflops(recipe: Recipe, folder: Path) -> float:
    """Return the GFLOPs of all clips of a video, from pixels to scores; nothing is computed for it."""
    data = recipe.data
    model = AutoModelForVideoClassification.from_pretrained(folder).eval().to("meta")
    num_channels = 2 * (data.flow_len or 0) or 3
    clip = torch.empty(1, data.clip_len, num_channels, data.crop_size, data.crop_size, device="meta")
    with FlopCounterMode(display=False) as counter:
        model(clip)
    return data.num_clips * counter.get_total_flops() / 1e9


def compute_figures(bench: Bench, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the figures of all systems that have been trained, and how their order compares with the published."""
    figures: dict[str, float] = {}
    order_names = Labels.read(bench.order_root / "labels.json").names
    for system, stream in dict.fromkeys((row["system"], row["stream"]) for row in rows):
        own = {split: _rows_of(rows, system, stream, split) for split in ("class", "order")}
        key = system if stream == _counted(system) else stream
        for name in ("top1", "mean_class_accuracy"):
            figures[f"{key}.{name}"] = statistics.mean(row[name] for row in own["class"])
        figures[f"{key}.order_accuracy"] = statistics.mean(row["top1"] for row in own["order"])
        accuracies = [row["mean_class_accuracy"] for row in own["class"]]
        figures[f"{key}.std"] = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
        scores, labels = read_scores_of(Path(row["folder"]) / SCORES_FILE for row in own["order"])
        figures[f"{key}.right_order_accuracy"] = statistics.mean(
            right_order_accuracy(one, labels, order_names) for one in scores
        )
        for name in ("num_parameters", "gflops_per_video", "train_seconds"):
            figures[f"{key}.{name}"] = statistics.mean(row[name] for row in own["class"])
    for system in dict.fromkeys(row["system"] for row in rows):
        names = (f"{data}_{name}" for data in ("gym99", "gym288") for name in ("top1", "mean_class_accuracy"))
        published = zip(names, SYSTEMS[system].published, strict=True)
        figures |= {f"{system}.published_{name}": value for name, value in published if value is not None}
    return figures | rank_correlation(rows)


def _counted(system: str) -> str:
    """Return the stream that a system is ranked by."""
    streams = SYSTEMS[system].streams
    return streams[0] if len(streams) == 1 else "two streams"


def _rows_of(rows: Sequence[dict[str, Any]], system: str, stream: str, split: str) -> list[dict[str, Any]]:
    return [row for row in rows if (row["system"], row["stream"], row["split"]) == (system, stream, split)]


def rank_correlation(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return Spearman's rank correlation with the published orders on Gym99, each with its 95 % bootstrap interval.

    Videos and seeds are drawn with replacement, the same for all systems, which says how sure the order on SynthGym
    is. With so few systems, a correlation of another choice of systems could be far from it.
    """
    systems = [name for name in SYSTEMS if _rows_of(rows, name, _counted(name), "class")]
    if len(systems) < 3:
        return {}
    read = [
        read_scores_of(Path(row["folder"]) / SCORES_FILE for row in _rows_of(rows, name, _counted(name), "class"))
        for name in systems
    ]
    if len({scores.shape[0] for scores, _ in read}) > 1:
        return {}  # a seed is not finished
    labels = read[0][1]
    right = np.stack([scores.argmax(-1) == labels for scores, _ in read]).astype(float)  # (systems, seeds, videos)
    published = {
        "top1": [SYSTEMS[name].published[0] for name in systems],
        "mean_class_accuracy": [SYSTEMS[name].published[1] for name in systems],
    }
    generator = np.random.default_rng(0)
    num_seeds, num_videos = right.shape[1:]
    resampled: dict[str, list[float]] = {name: [] for name in published}
    for _ in range(NUM_RESAMPLES):
        seeds, videos = generator.integers(num_seeds, size=num_seeds), generator.integers(num_videos, size=num_videos)
        accuracies = accuracies_of(right[:, seeds][:, :, videos].mean(1), labels[videos])
        for name, values in accuracies.items():
            resampled[name].append(spearmanr(values, published[name]).statistic)
    figures: dict[str, float] = {"systems": len(systems), "seeds": num_seeds, "num_validation_clips": num_videos}
    for name, values in accuracies_of(right.mean(1), labels).items():
        figure = CORRELATIONS[name]
        figures[figure] = float(spearmanr(values, published[name]).statistic)
        low, high = np.percentile(resampled[name], [2.5, 97.5])
        figures |= {f"{figure}_low": float(low), f"{figure}_high": float(high)}
    return figures


def accuracies_of(right: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return top-1 and mean class accuracy of each system, as shares, from which of its videos are right."""
    classes = np.unique(labels)
    by_class = np.stack([right[:, labels == label].mean(1) for label in classes])
    return {"top1": right.mean(1), "mean_class_accuracy": by_class.mean(0)}


def table_of(figures: Mapping[str, float]) -> str:
    """Return the figures as a table, the systems in the order of their mean class accuracy."""
    systems = [name for name in SYSTEMS if f"{name}.top1" in figures]
    systems.sort(key=lambda name: -figures[f"{name}.mean_class_accuracy"])
    lines = []
    for system in systems:
        streams = SYSTEMS[system].streams
        for key in (system, *(streams if len(streams) > 1 else ())):
            get = lambda name, key=key: figures[f"{key}.{name}"]  # noqa: E731
            published = SYSTEMS[system].published[:2]
            lines.append(
                (
                    SYSTEMS[system].title if key == system else f"  {key}",
                    f"{get('top1'):.1f}",
                    f"{get('mean_class_accuracy'):.1f} +- {get('std'):.1f}",
                    f"{get('order_accuracy'):.1f}",
                    f"{get('num_parameters') / 1e6:.2f} M",
                    f"{get('gflops_per_video'):.2f}",
                    f"{get('train_seconds') / 60:.1f} min",
                    "{:.1f} / {:.1f}".format(*published) if key == system else "",
                )
            )
    header = ("system", "top-1", "mean class accuracy", "order", "parameters", "GFLOPs", "training", "Gym99 published")
    return render_table(header, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("outputs/bench_table3"))
    parser.add_argument("--data", type=Path, default=Path("data/synthgym"), help="drawn if it is not there")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--num_rounds", type=int, default=7, help="of the comparison with other implementations")
    parser.add_argument("--before", type=Path, help="an earlier checkout, to compare the speed with")
    parser.add_argument("--smoke", action="store_true", help="one epoch, on few videos if none are there; no result")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("finegym").setLevel(logging.INFO)
    transformers.utils.logging.disable_progress_bar()
    order_root = arguments.data.with_name(f"{arguments.data.name}_order")
    bench = Bench(arguments.folder, arguments.data, order_root, arguments.smoke)
    rows: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        for system in arguments.systems:
            rows += run_system(bench, system, seed)
            figures = compute_figures(bench, rows)
            write_text(bench.folder / "table3.json", json.dumps({"figures": figures, "runs": rows}, indent=1) + "\n")
            print(table_of(figures), flush=True)
    if arguments.smoke:
        return
    for row in rows:
        row.pop("folder")
    measured = [peers.measure_forwards(arguments.num_rounds)]
    if arguments.before:
        measured.append(peers.measure_before_and_after(arguments.before.resolve(), arguments.num_rounds))
    for speeds, runs in measured:
        figures, rows = figures | speeds, rows + runs
    write_results("table3", figures=figures, runs=rows)


if __name__ == "__main__":
    main()
