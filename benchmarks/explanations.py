"""Measure explanations against the truth that SynthGym's renderer knows: `python -m benchmarks.explanations`.

A clip whose class is predicted right is explained by every method of `finegym.evaluation.attribution`. The index says
when each attribute of its class happens.

- attribute: of the cross encoder, does the row of an attribute peak while that attribute happens (pointing accuracy),
  and how well does it rank the moments (average precision)? Both averaged over the attributes that happen in some
  moments of the clip and not in others.
- movement: the same for the sum of all rows, against the moments in which any attribute of the class happens.
- deletion, insertion: the probability of the class while moments are taken from the clip, or put into its mean, in the
  order of a method: the mean over all steps. A faithful method has a low deletion and a high insertion.

Chance is a random order of the moments, computed exactly for pointing and from `NUM_DRAWS` orders otherwise; the
center prior prefers moments near the middle of the clip. `--runs` takes one folder of checkpoints for each backbone;
by default these are the three of `make bench-synthgym` or, where it has not been run, the one of `make train`.
"""

import argparse
import logging
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from tqdm import tqdm
from transformers import AutoModelForVideoClassification

from benchmarks.common import RESULTS, write_results
from finegym.data.checkpoints import load_model, load_video_processor
from finegym.data.index import LABELS_FILE, Video, read_index
from finegym.data.labels import Labels
from finegym.evaluation.attribution import Attribution, Target, moments_of_frames
from finegym.evaluation.explain import Clip, attribute_clip, check_explainable, load_clip, read_inputs
from finegym.evaluation.table import render_table
from modeling_finegym.video_decoding import open_video


NUM_DRAWS = 20
CHANCE, CENTER = "chance", "center prior"
MEASURES = ("pointing", "average_precision")


def happening(video: Video, attributes: Iterable[int], times: Sequence[float], num_moments: int) -> np.ndarray:
    """Return whether one of the attributes happens in a frame of each moment, (T',)."""
    spans = [span for span in video.spans if span.attribute in attributes]
    shown = [any(span.start <= time + 0.5 / video.fps < span.end for span in spans) for time in times]
    return np.array(shown).reshape(num_moments, -1).any(1)


def compare(scores: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return whether the highest score is at a true moment, and the average precision of the ranking."""
    return {
        "pointing": float(truth[scores.argmax()]),
        "average_precision": float(average_precision_score(truth, scores)),
    }


def center_prior(num_moments: int) -> np.ndarray:
    return -np.abs(np.arange(num_moments) - (num_moments - 1) / 2)


def priors(truth: np.ndarray, rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """Return what a random order and the center prior reach."""
    draws = [compare(rng.permutation(len(truth)).astype(float), truth)["average_precision"] for _ in range(NUM_DRAWS)]
    chance = {"pointing": float(truth.mean()), "average_precision": float(np.mean(draws))}
    return {CHANCE: chance, CENTER: compare(center_prior(len(truth)), truth)}


@torch.no_grad()
def curves(model, inputs: torch.Tensor, label: int, order: np.ndarray, **others: torch.Tensor) -> dict[str, float]:
    """Return the mean probability of the class while moments are deleted and inserted in this order.

    Args:
        model: The classifier.
        inputs: The features (1, T', D) of an encoder, or the frames (1, T, C, H, W) of a network.
        label: The class.
        order: The moments (T',), the most important first.
        others: What else the model is given of one clip.
    """
    name = "pixel_values" if inputs.ndim == 5 else "video_features"
    mean = inputs.mean(1, keepdim=True).expand_as(inputs)
    moment_of = torch.tensor(moments_of_frames(inputs.shape[1], len(order)))
    place_of = torch.from_numpy(np.argsort(order).copy())[moment_of]  # when each frame's turn comes
    found = {}
    for curve, kept, put in (("deletion", inputs, mean), ("insertion", mean, inputs)):
        steps = [
            torch.where((place_of < step).view(1, -1, *[1] * (inputs.ndim - 2)), put, kept)
            for step in range(len(order) + 1)
        ]
        logits = torch.cat(
            [
                model(**{name: part}, **{key: value.expand(len(part), -1) for key, value in others.items()}).logits
                for part in torch.cat(steps).split(8)
            ]
        )
        found[curve] = logits.softmax(-1)[:, label].mean().item()
    return found


def own_rows(labels: Labels, video: Video) -> list[int]:
    """Return the attributes of the video's class that happen at some time."""
    happen = {span.attribute for span in video.spans}
    return [attribute for attribute in labels.classes[video.label].attributes if attribute in happen]


def measure_clip(model, clip: Clip, video: Video, labels: Labels, rng: np.random.Generator) -> dict[str, Any] | None:
    """Return the measures of every method on one clip; None if its class is not predicted right."""
    with torch.no_grad():
        given = read_inputs(model, clip.pixel_values)
        logits = model(**given).logits[0]
    if logits.argmax() != video.label:
        return None
    own = own_rows(labels, video)
    found = attribute_clip(model, given, Target(video.label), own)
    inputs, *_ = given.values()
    others = {name: values for name, values in given.items() if values is not inputs}
    num_moments = next(iter(found.over_time.values())).shape[1]
    rows: dict[str, dict[str, list[float]]] = {}

    def add(method: str, measures: dict[str, float]) -> None:
        for measure, value in measures.items():
            rows.setdefault(method, {}).setdefault(measure, []).append(value)

    if found.num_attribute_rows:
        for row, attribute in enumerate(own):
            truth = happening(video, [attribute], clip.times, num_moments)
            if 0 < truth.sum() < num_moments:
                for method, values in _with_priors(found, row, truth, rng):
                    add(method, {f"attribute.{measure}": value for measure, value in values.items()})
    truth = happening(video, own, clip.times, num_moments)
    if 0 < truth.sum() < num_moments:
        for method, values in _with_priors(found, None, truth, rng):
            add(method, {f"movement.{measure}": value for measure, value in values.items()})
    orders = {method: np.argsort(-values.sum(0).numpy(), kind="stable") for method, values in found.over_time.items()}
    orders |= {CHANCE: rng.permutation(num_moments), CENTER: np.argsort(-center_prior(num_moments), kind="stable")}
    for method, order in orders.items():
        add(method, curves(model, inputs, video.label, order, **others))
    return {method: {measure: np.mean(values) for measure, values in found.items()} for method, found in rows.items()}


def _with_priors(found: Attribution, row: int | None, truth: np.ndarray, rng: np.random.Generator):
    for method, values in found.over_time.items():
        yield method, compare((values.sum(0) if row is None else values[row]).numpy(), truth)
    yield from priors(truth, rng).items()


def measure_model(folder: Path, videos: Sequence[Video], labels: Labels) -> dict[str, Any]:
    """Return `num_explained` and, under `methods`, the mean of every measure over the explained clips."""
    model, processor = load_model(folder, AutoModelForVideoClassification), load_video_processor(folder)
    check_explainable(model, str(folder))
    rng, found = np.random.default_rng(0), []
    for video in tqdm(videos, desc=folder.name, unit="video"):
        with open_video(video.path) as file:
            clip = load_clip(processor, file)
        measured = measure_clip(model, clip, video, labels, rng)
        found += [] if measured is None else [measured]
    if not found:
        raise SystemExit(f"{folder} predicts none of {len(videos)} videos right: there is nothing to explain.")
    methods: dict[str, dict[str, float]] = {}
    for method in found[0]:
        measures = {measure for clip in found for measure in clip[method]}
        methods[method] = {
            measure: float(np.mean([clip[method][measure] for clip in found if measure in clip[method]]))
            for measure in sorted(measures)
        }
    return {"model": folder.name, "num_explained": len(found), "num_videos": len(videos), "methods": methods}


def choose(videos: Sequence[Video], num_per_class: int) -> list[Video]:
    """Return the first videos of each class."""
    counts: dict[int, int] = {}
    chosen = []
    for video in videos:
        counts[video.label] = counts.get(video.label, 0) + 1
        chosen += [video] if counts[video.label] <= num_per_class else []
    return chosen


def checkpoints_of(run: Path) -> list[Path]:
    """Return the finished checkpoints in a folder."""
    return sorted(file.parent for file in run.glob("*/metrics.json") if (file.parent / "config.json").is_file())


def figures_of(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return `model.method.measure`, the mean over the backbones, with `.std` where there are several."""
    figures = {}
    for model in dict.fromkeys(row["model"] for row in rows):
        runs = [row["methods"] for row in rows if row["model"] == model]
        for method, measures in runs[0].items():
            for measure in measures:
                values = [run[method][measure] for run in runs if measure in run.get(method, {})]
                figures[f"{model}.{method}.{measure}"] = statistics.fmean(values)
                if len(values) > 1:
                    figures[f"{model}.{method}.{measure}.std"] = statistics.stdev(values)
    return figures


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """Return one table a model, methods by measures."""
    figures, texts = figures_of(rows), []
    for model in dict.fromkeys(row["model"] for row in rows):
        methods = next(row["methods"] for row in rows if row["model"] == model)
        measures = list(dict.fromkeys(measure for values in methods.values() for measure in values))
        lines = [
            [method, *(f"{figures.get(f'{model}.{method}.{measure}', float('nan')):.3f}" for measure in measures)]
            for method in methods
        ]
        texts.append(f"{model}\n{render_table(['method', *measures], lines)}")
    return "\n\n".join(texts)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/synthgym"))
    parser.add_argument("--runs", type=Path, nargs="+", help="one folder of checkpoints for each backbone")
    parser.add_argument("--num_per_class", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where explanations.json is written")
    options = parser.parse_args(arguments)
    logging.getLogger("finegym").setLevel(logging.INFO)
    videos = choose(read_index(options.data, "val"), options.num_per_class)
    if any(video.spans is None for video in videos):
        raise SystemExit(f"{options.data} does not say when attributes happen: run `finegym synthgym {options.data}`.")
    labels = Labels.read(options.data / LABELS_FILE)
    backbones = sorted(Path("outputs/bench_synthgym").glob("seed*/class"))
    runs = options.runs or backbones or [Path("outputs/synthgym")]
    folders = [(run, folder) for run in runs for folder in checkpoints_of(run)]
    if not folders:
        raise SystemExit(f"There is no checkpoint in {', '.join(map(str, runs))}: run `make train`, or give --runs.")
    rows = [{"run": "/".join(run.parts[-2:]), **measure_model(folder, videos, labels)} for run, folder in folders]
    print(tables(rows), flush=True)
    write_results("explanations", figures=figures_of(rows), runs=rows, folder=options.results)


if __name__ == "__main__":
    main()
