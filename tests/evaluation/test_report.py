"""The report of an evaluation; `finegym evaluate` and `finegym table` from a real checkpoint on."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from finegym.data.index import write_coverage, write_index
from finegym.data.labels import ActionClass, Labels
from finegym.data.video_writing import write_video
from finegym.evaluation.evaluate import Protocol, evaluate_checkpoints
from finegym.evaluation.metrics import top_k_accuracy
from finegym.evaluation.report import read_metrics
from finegym.evaluation.table import compare_checkpoints
from modeling_finegym import FineGymVideoProcessor
from tests.footage import moving_square
from tests.small import LABELS, small_model


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A prepared data set of six videos in three classes, with one video of the annotation missing."""
    root = tmp_path_factory.mktemp("dataset")
    rows = []
    for number in range(6):
        file = f"clips/{number}.mp4"
        write_video(root / file, moving_square(10 + 3 * number), fps=25)
        rows.append(
            {"id": f"{number}", "file": file, "split": "val", "label": number % 3, "num_frames": 10 + 3 * number}
        )
    write_index(root, rows)
    part = {"num_expected": 7, "num_present": 6, "missing": {"6": "no source"}, "empty_classes": []}
    write_coverage(root, {"annotation_version": "v1.0", "splits": {"val": part}})
    classes = [ActionClass(label, name, name, event="FX" if label else "VT") for label, name in LABELS.items()]
    Labels("small", classes, []).write(root / "labels.json")
    return root


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "runs" / "vision"
    small_model("vision").save_pretrained(folder)
    FineGymVideoProcessor(
        size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}, num_frames=8, frame_interval=2
    ).save_pretrained(folder)
    return folder


def test_metrics_of_an_earlier_version_are_read(tmp_path):
    groups = {"VT": {"top1": 50.0, "mean_class_accuracy": 50.0, "num_clips": 4}}
    earlier = {"top1": 50.0, "num_clips": 8, "num_train_clips": 20, "num_bad_train_clips": 1, "per_event": groups}
    (tmp_path / "metrics.json").write_text(json.dumps(earlier))
    metrics = read_metrics(tmp_path)
    assert (metrics["num_clips"], metrics["num_train_videos"], metrics["num_bad_train_videos"]) == (8, 20, 1)
    assert metrics["per_event"] == {"VT": {"top1": 50.0, "mean_class_accuracy": 50.0, "num_videos": 4}}
    assert metrics.keys() == {"top1", "num_clips", "num_train_videos", "num_bad_train_videos", "per_event"}


def test_evaluate_writes_a_whole_report(root, checkpoint):
    (checkpoint / "metrics.json").write_text(json.dumps({"top1": 0.0, "train_seconds": 12.0}))
    text = evaluate_checkpoints([str(checkpoint)], Protocol(root))
    metrics = read_metrics(checkpoint)
    assert (metrics["num_evaluated"], metrics["num_expected"], metrics["annotation_version"]) == (6, 7, "v1.0")
    assert metrics["train_seconds"] == 12.0, "what training wrote is kept"
    assert "6 of 7 small val" in text and f"{metrics['top1']:.2f} %" in text
    scores = pq.read_table(checkpoint / "scores.parquet").to_pydict()
    assert scores["id"] == [str(number) for number in range(6)]
    assert metrics["top1"] == top_k_accuracy(np.array(scores["scores"]), np.array(scores["label"]))
    for weights, clips, mean in zip(scores["weights"], scores["clip_scores"], scores["scores"], strict=True):
        np.testing.assert_allclose(np.array(weights) @ np.array(clips), mean, atol=1e-6)
    for picture in ("confusion.png", "calibration.png"):
        with Image.open(checkpoint / picture) as image:
            assert min(image.size) > 200 and len(set(image.convert("L").tobytes())) > 20


def test_features_make_the_second_head_cheap(root, checkpoint, tmp_path, monkeypatch):
    evaluate_checkpoints([str(checkpoint)], Protocol(root, features=tmp_path / "features"))
    online = read_metrics(checkpoint)
    monkeypatch.setattr(FineGymVideoProcessor, "load_clips", None)  # nothing is decoded any more
    evaluate_checkpoints([str(checkpoint)], Protocol(root, features=tmp_path / "features"), output=tmp_path / "again")
    assert read_metrics(tmp_path / "again")["per_class"] == online["per_class"]


def test_evaluate_names_what_does_not_fit(root, checkpoint, tmp_path):
    with pytest.raises(ValueError, match="nowhere cannot be loaded"):
        evaluate_checkpoints([str(tmp_path / "nowhere")], Protocol(root))
    config = json.loads((checkpoint / "config.json").read_text())
    config["id2label"]["1"] = "wolf jump"
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"differ from class 1 on \(\['wolf jump'\] against \['sheep jump'\]\)"):
        evaluate_checkpoints([str(checkpoint)], Protocol(root))


def test_videos_trained_on_are_refused(root, checkpoint, monkeypatch):
    trained_on = [{"dataset": "small", "annotation_version": "v1.0"}]
    (checkpoint / "metrics.json").write_text(json.dumps({"top1": 0.0, "trained_on": trained_on}))
    monkeypatch.setattr("finegym.data.leakage.leaking_videos", lambda *dataset: frozenset(["2"]))
    with pytest.raises(ValueError, match="1 of 6 validation videos were trained on by small v1.0"):
        evaluate_checkpoints([str(checkpoint)], Protocol(root))
    evaluate_checkpoints([str(checkpoint)], Protocol(root, leave_out_leaking=True))
    assert read_metrics(checkpoint)["num_evaluated"] == 5


def test_table_lists_checkpoints_from_worst_to_best(tmp_path):
    for name, accuracy in (("cross", 71.25), ("slowonly", 60.5), ("vision", 66.0)):
        folder = tmp_path / name
        folder.mkdir()
        metrics = {
            "top1": accuracy + 1,
            "mean_class_accuracy": accuracy,
            "num_parameters": 12345,
            "train_seconds": 61.4,
        }
        metrics |= {"num_evaluated": 8, "num_expected": 9, "dataset": "gym99", "split": "val"}
        (folder / "metrics.json").write_text(json.dumps(metrics))
    lines = compare_checkpoints(tmp_path).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["slowonly", "vision", "cross"]
    assert lines[2].split()[1:] == ["61.50", "%", "60.50", "%", "12,345", "61", "8", "of", "9", "gym99", "val"]
    assert compare_checkpoints(tmp_path / "slowonly").splitlines()[2].split()[:2] == ["slowonly", "61.50"]
    both = compare_checkpoints(tmp_path / "vision", tmp_path / "slowonly").splitlines()
    assert [line.split()[0] for line in both[2:]] == [str(tmp_path / name) for name in ("slowonly", "vision")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"in any folder in .*/empty. Train or evaluate a model first"):
        compare_checkpoints(tmp_path / "vision", tmp_path / "empty")
    (tmp_path / "vision" / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match="vision/metrics.json is not a valid metrics file"):
        compare_checkpoints(tmp_path)


def test_two_models_give_one_report_and_results_of_their_own(checkpoint, root, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(checkpoint, other)
    text = evaluate_checkpoints([str(checkpoint), str(other)], Protocol(root), output=tmp_path / "results")
    names = [checkpoint.name, "other"]
    assert all(name in text for name in names) and "report.html" in text
    report = (tmp_path / "results" / "report.html").read_text(encoding="utf-8")
    assert "only other gets 0 right" in report, "equal models disagree nowhere"
    for name in names:
        assert read_metrics(tmp_path / "results" / name)["num_evaluated"] > 0
    with pytest.raises(ValueError, match="these repeat"):
        evaluate_checkpoints([str(other), str(other)], Protocol(root))
