"""What the order split measures, from pixels: see `test_order.py` for the same from the figure's joints, in seconds.

A SlowOnly learns the eight classes, and its frozen features are read by a vision encoder with and without positions.
"""

from pathlib import Path

import pytest

from benchmarks.synthgym import SCORES_FILE, Bench, read_scores_of, right_order_accuracy, train_and_score
from finegym.data.labels import Labels


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_order_is_told_from_pixels_with_positions_only(tmp_path):
    bench = Bench(tmp_path / "runs", tmp_path / "synthgym")
    bench.draw("order")
    val_root, right = bench.val_root("order"), {}
    changes = {"model.backbone": "null", "optimization.epochs": 16, "optimization.learning_rate": 3e-3}
    recipes = {"slowonly": bench.recipe("slowonly", 0, "order", others=changes)}
    frozen = {"model.backbone": recipes["slowonly"].output_dir}
    for name, positions in {"with": True, "without": False}.items():
        recipes[name] = bench.recipe("vision_encoder_b3", 0, "order", positions=positions, others=frozen)
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
