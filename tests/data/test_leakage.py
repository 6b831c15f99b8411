import json
from pathlib import Path

import pytest

from finegym.data.index import Video
from finegym.data.labels import Labels
from finegym.data.leakage import check_leakage, datasets_seen_by, leaking_videos, unseen_videos
from finegym.preparation.annotations import read_annotation, read_split
from finegym.preparation.coverage import coverage_report, describe_coverage
from tests.real_lists import REAL_LISTS, needs_real_lists


ROOT = Path(__file__).parents[2]


@needs_real_lists
@pytest.mark.parametrize("version", ["v1.0", "v1.1"])
@pytest.mark.parametrize("train", ["gym99", "gym288"])
@pytest.mark.parametrize("val", ["gym99", "gym288"])
def test_what_leaks_is_what_the_real_lists_share(train, val, version):
    seen = read_split(REAL_LISTS / f"{train}_train_element_{version}.txt").keys()
    validated = read_split(REAL_LISTS / f"{val}_val_element.txt").keys()
    assert leaking_videos(train, version, val) == seen & validated


@pytest.mark.parametrize(
    ("train", "version", "val", "count"),
    [("gym99", "v1.0", "gym288", 99), ("gym99", "v1.1", "gym288", 99), ("gym288", "v1.1", "gym99", 99)]
    + [("gym288", "v1.0", "gym99", 0), ("gym99", "v1.0", "gym99", 0), ("synthgym", "own", "gym99", 0)],
)
def test_ninety_nine_clips_leak_each_way(train, version, val, count):
    assert len(leaking_videos(train, version, val)) == count


def test_leaking_videos_are_refused_or_left_out():
    videos = [Video(name, Path(name), 0, 9) for name in "abc"]
    seen = ["b", "x"]
    with pytest.raises(
        ValueError, match="1 of 3 validation videos were trained on by the backbone's gym99 v1.0, such as b"
    ):
        check_leakage(seen, videos, seen_by="the backbone's gym99 v1.0")
    left = check_leakage(seen, videos, seen_by="the backbone's gym99 v1.0", leave_out=True)
    assert [video.id for video in left] == ["a", "c"]
    assert check_leakage([], videos, seen_by="nothing") == videos


@needs_real_lists
@pytest.mark.parametrize(("version", "ceiling"), [("v1.0", 100 * 287 / 288), ("v1.1", 100)])
def test_the_report_says_that_a_class_of_gym288_cannot_be_learnt(version, ceiling):
    labels = Labels.read(ROOT / "configuration" / "gym288" / "labels.json")
    annotation = read_annotation(REAL_LISTS, "gym288", version, labels)
    expected = {"train": annotation.train, "val": annotation.val}
    report = coverage_report(labels, expected, {}, annotation_version=version, refused={})
    assert report["mean_class_accuracy_ceiling"] == pytest.approx(ceiling)
    text = describe_coverage(report, labels)
    said = "the annotation lists none: 138 '(BB) straddle pike jump with 0.5 turn'" in text
    assert said == (version == "v1.0")
    assert ("99.65 %" in text) == (version == "v1.0")


def test_a_checkpoint_of_the_hub_says_what_it_has_seen_too(tmp_path, monkeypatch):
    """Read it from the Hub's cache, where it is once it has been loaded."""
    seen = [
        {"dataset": "gym288", "annotation_version": "v1.1"},
        {"dataset": "mine", "annotation_version": "own", "fold": 2},
    ]
    cached = tmp_path / "models--somebody--seen"
    metrics = f"snapshots/{'0' * 40}/metrics.json"
    for file, text in (("refs/main", "0" * 40), (metrics, json.dumps({"trained_on": seen}))):
        (cached / file).parent.mkdir(parents=True, exist_ok=True)
        (cached / file).write_text(text)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert datasets_seen_by("somebody/seen") == seen
    leaking = next(iter(leaking_videos("gym288", "v1.1", "gym99")))
    with pytest.raises(ValueError, match=r"1 of 2 validation videos were trained on by gym288 v1\.1"):
        unseen_videos([Video(name, Path(name), 0, 9) for name in (leaking, "x")], seen, "gym99")
    folded = [Video(str(fold), Path("x"), 0, 9, fold=fold) for fold in range(4)]
    assert [video.fold for video in unseen_videos(folded, seen, "mine", leave_out=True)] == [2]
