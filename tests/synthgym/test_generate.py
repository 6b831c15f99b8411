import hashlib
import json

import numpy as np
import pytest

from finegym.data.index import read_coverage, read_index
from finegym.data.labels import Labels
from finegym.preparation.annotations import SUB_ACTION_ID, read_annotation, read_categories, read_sets
from finegym.synthgym.generate import LABELS, Performance, generate, plan, render_performance, write_routines
from modeling_finegym.video_decoding import open_video


CLASSES = Labels.read(LABELS["class"])
SMALL = {"num_train_per_class": 2, "num_val_per_class": 1, "size": 48, "progress": False}


@pytest.fixture(scope="module")
def few_classes(tmp_path_factory):
    """Three classes of three events, renumbered."""
    content = json.loads(LABELS["class"].read_text())
    content["classes"] = [{**content["classes"][label], "id": new} for new, label in enumerate((0, 5, 20))]
    path = tmp_path_factory.mktemp("labels") / "labels.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, few_classes):
    root = tmp_path_factory.mktemp("synthgym")
    generate(root, labels=few_classes, num_workers=0, **SMALL)
    return root


def digests(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_the_labels_are_gym99s_own():
    gym99 = Labels.read(LABELS["class"].parents[1] / "gym99" / "labels.json")
    by_element = {action.element: action for action in gym99.classes}
    assert len(CLASSES.classes) >= 24 and {action.event for action in CLASSES.classes} == {"VT", "FX", "BB", "UB"}
    for action in CLASSES.classes:
        original = by_element[action.element]
        assert (action.name, action.text, action.set) == (original.name, original.text, original.set)
        names = [CLASSES.attributes[index] for index in action.attributes]
        assert names == [gym99.attributes[index] for index in original.attributes]
    used = {index for action in CLASSES.classes for index in action.attributes}
    assert used == set(range(1, len(CLASSES.attributes)))


def test_the_order_classes_come_in_pairs_that_differ_in_order_only():
    order = Labels.read(LABELS["order"])
    series = [tuple(action.attributes[1:]) for action in order.classes]
    assert len(set(series)) == len(series) >= 6
    assert all(jumps[::-1] in series for jumps in series)


def test_the_files_are_finegyms(dataset, few_classes):
    labels = Labels.read(few_classes)
    annotation = read_annotation(dataset / "annotations", "synthgym", "v1.0", labels)
    videos = {split: read_index(dataset, split) for split in ("train", "val")}
    assert {video.id: video.label for video in videos["train"]} == annotation.train
    assert {video.id: video.label for video in videos["val"]} == annotation.val
    assert not annotation.segments.problems
    assert annotation.segments.sub_actions.keys() == annotation.train.keys() | annotation.val.keys()
    for video in videos["train"] + videos["val"]:
        assert SUB_ACTION_ID.fullmatch(video.id)
        action, segment = labels.classes[video.label], annotation.segments.sub_actions[video.id]
        assert segment.event == action.event and segment.num_stages == (3 if action.event == "VT" else 1)
        with open_video(video.path) as file:
            assert file.num_frames == video.num_frames
            assert segment.end - segment.start == pytest.approx(video.num_frames / file.fps, abs=0.02)
    categories = read_categories(dataset / "annotations" / "synthgym_categories.txt")
    assert [(c.id, c.text, c.element) for c in categories] == [(a.id, a.text, a.element) for a in labels.classes]
    assert read_sets(dataset / "annotations" / "set_categories.txt")[1] == "vault"
    assert Labels.read(dataset / "labels.json") == labels
    assert read_coverage(dataset, "val").num_present == len(videos["val"]) == 3


def test_processes_and_interruptions_change_nothing(dataset, few_classes, tmp_path):
    generate(tmp_path, labels=few_classes, num_workers=2, **SMALL)
    assert digests(tmp_path) == digests(dataset)

    complete = digests(tmp_path)
    videos = sorted((tmp_path / "clips").iterdir())
    kept = videos[2].stat().st_mtime_ns
    videos[0].unlink()
    (tmp_path / "coverage.json").unlink()
    generate(tmp_path, labels=few_classes, num_workers=0, **SMALL)
    assert digests(tmp_path) == complete
    assert videos[2].stat().st_mtime_ns == kept


def test_a_complete_folder_is_left_alone(dataset, few_classes):
    index = (dataset / "index.parquet").stat().st_mtime_ns
    generate(dataset, labels=few_classes, num_workers=0, **SMALL)
    assert (dataset / "index.parquet").stat().st_mtime_ns == index


def test_a_folder_of_other_arguments_or_owners_is_refused(dataset, few_classes, tmp_path):
    with pytest.raises(ValueError, match="another seed; delete it or choose another folder"):
        generate(dataset, labels=few_classes, seed=1, num_workers=0, **SMALL)
    (tmp_path / "index.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match="SynthGym did not write"):
        generate(tmp_path, num_workers=0, **SMALL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "test"}, "class, order"),
        ({"size": 49}, "even number"),
        ({"num_val_per_class": 0}, "num_val_per_class"),
    ],
)
def test_impossible_arguments_are_named(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(tmp_path, **{**SMALL, **arguments})
    assert not any(tmp_path.iterdir())


def planned(split="class", num_train=20, num_val=10):
    labels = Labels.read(LABELS[split])
    numbers = {"train": num_train, "val": num_val}
    wanted = [(part, action.id, k) for part in numbers for action in labels.classes for k in range(numbers[part])]
    videos = plan(labels, wanted, 0, (25.0, 25.0, 30.0) if split == "class" else (25.0,))
    return videos, [performance for video in videos for event in video.events for performance in event.performances]


def test_clip_lengths_are_like_finegyms():
    lengths = np.array([performance.num_frames for performance in planned()[1]])
    assert 36 <= np.median(lengths) <= 48
    assert 0.78 <= (lengths < 64).mean() <= 0.97
    assert max(performance.num_frames for performance in planned("order")[1]) <= 51


def test_length_alone_does_not_give_the_class_away():
    performances = planned(num_train=40)[1]
    label, length = np.array([(performance.label, performance.num_frames) for performance in performances]).T
    train = np.array([performance.split == "train" for performance in performances])
    counts = np.zeros((len(CLASSES.classes), 120))
    np.add.at(counts, (label[train], length[train]), 1)
    smooth = np.apply_along_axis(np.convolve, 1, counts, np.exp(-0.5 * (np.arange(-6, 7) / 2) ** 2), mode="same")
    accuracy = (smooth[:, length[~train]].argmax(0) == label[~train]).mean()
    assert accuracy < 0.2, f"guessing from the length alone is right in {100 * accuracy:.0f} %"


def test_train_and_val_share_neither_videos_nor_pictures():
    videos, performances = planned()
    assert len({performance.id for performance in performances}) == len(performances)
    parts = [
        {video.id for video in videos if video.events[0].performances[0].split == split} for split in ("train", "val")
    ]
    assert not parts[0] & parts[1]
    assert len({performance.seed for performance in performances}) == len(performances)
    assert any("-" in video.id or "_" in video.id for video in videos)


def test_videos_are_what_was_rendered(dataset, few_classes):
    labels = Labels.read(few_classes)
    video = read_index(dataset, "val")[0]
    action = labels.classes[video.label]
    with open_video(video.path) as file:
        shown = file.frames(range(file.num_frames)).numpy().astype(int)
        performance = Performance(
            video.id,
            "val",
            video.label,
            action.event,
            tuple(labels.attributes[index] for index in action.attributes),
            (0, 1, video.label, 0),
            file.fps,
            0,
            video.num_frames,
        )
    rendered = render_performance(performance, 48).frames
    assert np.abs(shown - rendered).mean() < 8


def test_routines_hold_their_elements_at_the_annotated_times(tmp_path):
    truth = write_routines(tmp_path, num_performances=6, size=48)
    annotation = read_annotation(tmp_path / "annotations", "synthgym", "v1.0", CLASSES)
    assert truth.keys() == annotation.train.keys() | annotation.val.keys() == annotation.segments.sub_actions.keys()
    for sub_action_id, segment in annotation.segments.sub_actions.items():
        with open_video(tmp_path / "videos" / f"{segment.video_id}.mp4") as file:
            first, stop = file.index_range(segment.start, segment.end)
            assert stop - first == len(truth[sub_action_id])
            shown = file.frames(range(first - 1, stop + 1)).numpy().astype(int)
        assert np.abs(shown[1:-1] - truth[sub_action_id]).mean() < 8
        assert np.abs(shown[[0, -1]] - 128).mean() < 12, "a frame more at either side is a gray pause"
