"""`finegym fuse` on the folders of two models, against scikit-learn's metrics of the mean of the scores."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from finegym.commands.line import main
from finegym.data.index import write_index
from finegym.data.labels import ActionClass, Labels
from finegym.data.video_writing import write_video
from finegym.evaluation.protocol import Evaluation, measure
from finegym.evaluation.report import SCORES_FILE, write_metrics, write_scores
from tests.footage import moving_square


TRUTH = torch.arange(24) % 3
LABELS = Labels("small", [ActionClass(id, name, name) for id, name in enumerate(["leap", "jump", "turn"])], [])


def write_run(folder, *, seed, order=None, truth=TRUTH, labels=LABELS, **metrics):
    """Write the results of a model that is right more often than not; return its scores by the id of the video."""
    generator = torch.Generator().manual_seed(seed)
    scores = (torch.randn(24, 3, generator=generator) + 1.2 * torch.eye(3)[TRUTH]).softmax(-1)
    order = list(range(len(truth))) if order is None else order
    scores, truth, ids = scores[order], truth[order], [f"video {position}" for position in order]
    shared = {"dataset": "small", "synthetic": True, "split": "val", "annotation_version": "v1.0"}
    counts = {"num_evaluated": len(ids), "num_expected": 30, "num_clips": 1, "num_parameters": 100 + seed}
    metrics = shared | counts | measure(scores, truth, labels) | metrics
    folder.mkdir()
    write_metrics(folder, metrics)
    evaluation = Evaluation(scores, truth, ids, scores[:, None], torch.ones(len(ids), 1), {}, metrics)
    write_scores(folder / SCORES_FILE, evaluation)
    labels.write(folder / "labels.json")
    return dict(zip(ids, scores.double().numpy(), strict=True))


def write_root(root):
    """Return a prepared data set with the videos of the runs, all of them in one file."""
    write_video(root / "clips" / "all.mp4", moving_square(10), fps=25)
    rows = [
        {"id": f"video {id}", "file": "clips/all.mp4", "split": "val", "label": int(TRUTH[id]), "num_frames": 10}
        for id in range(24)
    ]
    write_index(root, rows)
    return root


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 3.0)])
def test_the_weighted_mean_of_the_scores_is_measured_like_any_run(weights, tmp_path, capsys):
    first = write_run(tmp_path / "rgb", seed=1)
    second = write_run(tmp_path / "flow", seed=2, order=torch.randperm(24).tolist())  # in another order
    folders = [str(tmp_path / name) for name in ("rgb", "flow", "fused")]
    options = ["--weights", json.dumps(list(weights))]
    if weights == (1.0, 3.0):
        options += ["--root", str(write_root(tmp_path / "data"))]
    assert main(["fuse", *folders[:2], "--output", folders[2], *options]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "24 of 30 small val" in printed and "100" not in printed.splitlines()[-1]
    rows = pq.read_table(tmp_path / "fused" / "scores.parquet").to_pylist()
    assert {row["id"] for row in rows} == first.keys()
    mean = {id: np.average([first[id], second[id]], axis=0, weights=weights) for id in first}
    for row in rows:
        np.testing.assert_allclose(row["scores"], mean[row["id"]], atol=1e-6)
    truth = [row["label"] for row in rows]
    predicted = [mean[row["id"]].argmax() for row in rows]
    metrics = json.loads((tmp_path / "fused" / "metrics.json").read_text())
    assert metrics["top1"] == pytest.approx(100 * accuracy_score(truth, predicted))
    assert metrics["mean_class_accuracy"] == pytest.approx(100 * balanced_accuracy_score(truth, predicted))
    assert metrics["num_parameters"] == 101 + 102 and metrics["fused"] == folders[:2]
    assert (tmp_path / "fused" / "confusion.png").is_file() and (tmp_path / "fused" / "calibration.png").is_file()
    page = tmp_path / "fused" / "report.html"
    assert page.is_file() == ("--root" in options) and (not page.is_file() or "flow" in page.read_text())
    assert main(["table", str(tmp_path)]) == 0  # a row like any other
    assert "fused" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"order": list(range(23))}, "differ in num_evaluated: 24 and 23"),
        ({"truth": TRUTH.roll(1)}, "Video 'video 0' has label 0 in"),
        ({"split": "test"}, "differ in split: val and test"),
        ({"annotation_version": "v1.1"}, "differ in annotation_version: v1.0 and v1.1"),
        ({"labels": Labels("small", [*LABELS.classes[:2], ActionClass(2, "spin", "spin")], [])}, "'turn', 'spin'"),
    ],
)
def test_other_videos_labels_or_classes_are_refused(second, message, tmp_path, capsys):
    write_run(tmp_path / "rgb", seed=1)
    write_run(tmp_path / "flow", seed=2, **second)
    arguments = ["fuse", str(tmp_path / "rgb"), str(tmp_path / "flow"), "--output", str(tmp_path / "fused")]
    assert main(arguments) == 1
    assert message in capsys.readouterr().err and not (tmp_path / "fused").exists()


def test_other_ids_missing_files_and_wrong_weights_are_named(tmp_path, capsys):
    write_run(tmp_path / "rgb", seed=1)
    write_run(tmp_path / "flow", seed=2)
    table = pq.read_table(tmp_path / "flow" / "scores.parquet")
    ids = ["another", *table["id"].to_pylist()[1:]]
    arguments = ["fuse", str(tmp_path / "rgb"), str(tmp_path / "flow"), "--output"]
    assert main([*arguments, str(tmp_path / "fused"), "--weights", "[0, 0]"]) == 1
    assert "not both 0" in capsys.readouterr().err
    assert main([*arguments, str(tmp_path / "rgb")]) == 1
    assert "is not empty" in capsys.readouterr().err
    pq.write_table(table.set_column(0, "id", [ids]), tmp_path / "flow" / "scores.parquet")
    assert main([*arguments, str(tmp_path / "fused")]) == 1
    assert "flow has 'another'" in capsys.readouterr().err
    (tmp_path / "flow" / "labels.json").unlink()
    assert main([*arguments, str(tmp_path / "fused")]) == 1
    assert "labels.json is missing" in capsys.readouterr().err
