"""The still pictures, measured where their texts are drawn."""

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from finegym.data.labels import ActionClass, Labels
from finegym.evaluation.pictures import confusion_figure
from finegym.evaluation.protocol import Evaluation
from finegym.paths import shipped


def classes_of(name):
    """Return the classes of a published data set, or 40 of somebody's own with long names."""
    if name != "own":
        return Labels.read(shipped(f"configuration/{name}/labels.json"))
    names = [f"Wedging something that is rather wide below something number {number}" for number in range(40)]
    return Labels("own", [ActionClass(label, name, "") for label, name in enumerate(names)], [])


def boxes_of(texts, renderer):
    return [text.get_window_extent(renderer) for text in texts if text.get_text()]


@pytest.mark.parametrize("name", ["synthgym", "own", "gym99", "gym288"])
def test_every_name_beside_a_confusion_matrix_can_be_read(name):
    labels = classes_of(name)
    num_classes = len(labels.classes)
    true = torch.arange(num_classes).repeat_interleave(3)
    scores = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(num_classes), len(true)))
    figure = confusion_figure(Evaluation(scores, true, [], scores[:, None], scores, {}, {}), labels)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    inside = figure.get_tightbbox(renderer)
    assert inside.x0 >= 0 and inside.y0 >= 0, "a name is cut off"
    assert inside.x1 <= figure.get_figwidth() and inside.y1 <= figure.get_figheight()
    axis = figure.axes[0]
    assert axis.get_window_extent(renderer).width > 0.4 * figure.bbox.width, "the matrix is what is to be seen"
    rows, columns = (boxes_of(side.get_ticklabels(), renderer) for side in (axis.yaxis, axis.xaxis))
    assert len(rows) == len(columns) > 5
    for above, below in pairwise(rows):
        assert min(above.y1, below.y1) - max(above.y0, below.y0) < 0.2 * above.height, "names lie over one another"
    if num_classes <= 40:
        assert not any(one.overlaps(other) for one, other in combinations(columns, 2))
