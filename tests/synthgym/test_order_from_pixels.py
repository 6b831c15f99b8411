"""What the order split measures, from pixels: see `test_order.py` for the same from the figure's joints, in seconds.

A SlowOnly learns the class split, as in `make train`. A vision encoder reads its frozen features with and without
positions, and SlowOnly itself learns the eight classes. Half an hour on two cores.
"""

from pathlib import Path

import pytest

from benchmarks.synthgym import (
    SCORES_FILE,
    Bench,
    read_scores_of,
    right_order_accuracy,
    train_and_score,
    train_or_stop,
)
from finegym.data.labels import Labels
from finegym.synthgym.generate import generate


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_order_is_told_from_pixels_with_positions_only(tmp_path):
    bench = Bench(tmp_path / "runs", tmp_path / "synthgym")
    generate(bench.root("class"))
    bench.draw("order")
    train_or_stop(bench.recipe("slowonly", 0, "class"))
    val_root, right = bench.val_root("order"), {}
    recipes = {"slowonly": bench.recipe("slowonly", 0, "order")}
    for name, positions in {"with": True, "without": False}.items():
        recipes[name] = bench.recipe("vision_encoder_b3", 0, "order", positions=positions)
    for name, recipe in recipes.items():
        train_and_score(recipe, val_root)
        scores, labels = read_scores_of([Path(recipe.output_dir) / SCORES_FILE])
        assert len(labels) == 2048
        right[name] = right_order_accuracy(scores[0], labels, Labels.read(val_root / "labels.json").names)
    print(right)
    assert right["with"] > 90
    # a mean over time does not know which jump was first; what is left is in the frames where one follows the other
    assert 45 < right["slowonly"] < 55
    assert right["without"] < 65
