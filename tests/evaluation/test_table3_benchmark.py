"""`benchmarks.table3`: its rank correlation, its recipes and the cost of a video."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from benchmarks import table3
from finegym.data.index import write_index
from finegym.training.recipe_parsing import parse_recipe
from tests.small import small_model


def rows_of(folder, accuracies: dict[str, float], num_seeds: int = 2) -> list[dict]:
    """Return the rows of systems that are right on a share of 400 videos of four classes."""
    rows = []
    generator = np.random.default_rng(0)
    labels = np.arange(400) % 4
    for (system, accuracy), seed in itertools.product(accuracies.items(), range(num_seeds)):
        right = generator.random(400) < accuracy
        scores = np.eye(4)[np.where(right, labels, (labels + 1) % 4)]
        path = folder / f"{system}{seed}"
        path.mkdir(parents=True)
        table = {"id": [f"{n:03d}" for n in range(400)], "label": labels.tolist(), "scores": scores.tolist()}
        pq.write_table(pa.table(table), path / "scores.parquet")
        streams = table3.SYSTEMS[system].streams
        stream = streams[0] if len(streams) == 1 else "two streams"
        rows.append({"system": system, "stream": stream, "seed": seed, "split": "class", "folder": str(path)})
    return rows


@pytest.fixture
def few_resamples(monkeypatch):
    monkeypatch.setattr(table3, "NUM_RESAMPLES", 200)


def test_systems_in_the_published_order(tmp_path, few_resamples):
    """Four systems far apart, in the published order, in its reverse, and with two of them level."""
    published = ["nl_i3d", "tsn", "tsm", "video_text"]  # from the worst to the best
    levels = [0.2, 0.45, 0.7, 0.95]
    found = table3.rank_correlation(rows_of(tmp_path / "same", dict(zip(published, levels))))
    assert (found["systems"], found["seeds"]) == (4, 2)
    for name in ("rank_correlation", "rank_correlation_of_top1"):
        values = [found[f"{name}{bound}"] for bound in ("", "_low", "_high")]
        assert values == pytest.approx([1.0, 1.0, 1.0])
    found = table3.rank_correlation(rows_of(tmp_path / "reverse", dict(zip(published, reversed(levels)))))
    assert found["rank_correlation_of_top1"] == pytest.approx(-1)
    found = table3.rank_correlation(rows_of(tmp_path / "level", dict(zip(published, [0.2, 0.6, 0.6, 0.95]))))
    assert found["rank_correlation_of_top1_low"] == pytest.approx(
        0.8
    )  # exchanging two neighbors costs 6 * 2 / (4 * 15)
    assert found["rank_correlation_of_top1_high"] == pytest.approx(1.0)


def test_too_few_systems_or_unfinished_seeds_have_no_correlation(tmp_path, few_resamples):
    rows = rows_of(tmp_path, {"tsn": 0.3, "tsm": 0.5, "i3d": 0.8})
    assert table3.rank_correlation(rows)["systems"] == 3
    assert table3.rank_correlation(rows[:-2]) == table3.rank_correlation(rows[:-1]) == {}


def test_every_run_has_a_recipe_that_starts_from_another_run(tmp_path):
    row = {"id": "a", "file": "clips/a.mp4", "split": "train", "label": 0, "num_frames": 9}
    for root in ("class", "order", "bench/flow/class", "bench/flow/order"):
        (tmp_path / root).mkdir(parents=True)
        write_index(tmp_path / root, [row])
    bench = table3.Bench(tmp_path / "bench", tmp_path / "class", tmp_path / "order")
    runs = {name for system in table3.SYSTEMS.values() for run in system.streams for name in table3.needed(run)}
    for run, split in itertools.product(runs, ("class", "order")):
        recipe = bench.recipe(run, 3, split)
        backbone = table3.BACKBONES.get(run, run if split == "order" else None)
        expected = None if backbone is None else str(tmp_path / "bench" / "seed3" / "class" / backbone)
        assert (recipe.seed, recipe.model.backbone) == (3, expected)
        assert recipe.data.root == str(bench.root(split, run))
        assert bool(recipe.data.flow_len) == run.endswith("_flow")
    assert table3.needed("mtn") == ["slowonly", "mtn_pathways", "mtn"]


def test_the_cost_of_a_video_is_that_of_its_clips(tmp_path):
    """Two for each multiply-add, counted by torch: twice the clips cost twice as much."""
    classifier = small_model("slowonly")
    classifier.save_pretrained(tmp_path)
    sizes = {"data.clip_len": 8, "data.crop_size": 32, "data.short_side": 32}
    arguments = [part for key, value in sizes.items() for part in (f"--{key}", str(value))]
    recipe = ["--config", str(table3.RECIPES / "slowonly.yaml"), *arguments]
    one, two = (parse_recipe([*recipe, "--data.num_clips", str(count)]) for count in (1, 2))
    cost = table3.count_gflops(one, tmp_path)
    assert table3.count_gflops(two, tmp_path) == pytest.approx(2 * cost)
    multiply_adds = []
    for module in classifier.modules():
        if isinstance(module, (torch.nn.Conv3d, torch.nn.Linear)):
            module.register_forward_hook(
                lambda module, inputs, output: multiply_adds.append(module.weight[0].numel() * output.numel())
            )
    with torch.enable_grad():  # layer by layer, without folding
        classifier(torch.zeros(1, 8, 3, 32, 32))
    assert cost == pytest.approx(2 * sum(multiply_adds) / 1e9, rel=1e-6)
