"""Splits that are given, drawn by class, drawn by group, and in folds; and why groups must stay together."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from footage import encode

from finegym.data.index import read_coverage, read_index, write_index
from finegym.preparation.cutting import Encoding
from finegym.preparation.entries import Entry
from finegym.preparation.own_data import import_videos
from finegym.preparation.splitting import Division, divide, guess_groups, name_groups
from modeling_finegym.video_decoding import open_video


def entries(num_classes=3, num_groups=10, per_group=4, **changes):
    return [
        replace(
            Entry(f"c{label}/g{group}_{k}", None, f"c{label}", f"c{label}/v_c{label}_g{group:02d}_c{k:02d}.avi"),
            group=f"{label}-{group}",
            **changes,
        )
        for label in range(num_classes)
        for group in range(num_groups)
        for k in range(per_group)
    ]


def sides(videos, places):
    found = {}
    for video in videos:
        found.setdefault(video.group, set()).add((places[video.id].split, places[video.id].fold))
    return found


def test_groups_stay_together_and_every_class_is_validated_on():
    videos = entries()
    places = divide(videos, Division())
    assert all(len(where) == 1 for where in sides(videos, places).values())
    counts = Counter((video.label, places[video.id].split) for video in videos)
    for label in ("c0", "c1", "c2"):
        assert 0.1 <= counts[label, "val"] / 40 <= 0.3


def test_the_only_group_of_a_class_is_trained_on():
    videos = [*entries(), *(Entry(f"rare/{k}", None, "rare", group="only") for k in range(5))]
    places = divide(videos, Division())
    assert {places[f"rare/{k}"].split for k in range(5)} == {"train"}
    with pytest.raises(ValueError, match="2 groups, too few"):
        divide([Entry(f"{g}{k}", None, g, group=g) for g in "ab" for k in range(4)], Division())


def test_folds_are_disjoint_cover_all_and_keep_groups():
    videos = entries()
    places = divide(videos, Division(num_folds=5))
    assert {place.fold for place in places.values()} == set(range(5))
    assert all(len(where) == 1 for where in sides(videos, places).values())
    assert all((place.split == "val") == (place.fold == 0) for place in places.values())
    assert divide(list(reversed(videos)), Division(num_folds=5)) == places


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        (["train", "val", "test"], ["train", "val", "test"]),
        (["train", "train", "train", "test"], ["test apart"]),
        ([None, None, None, "test"], ["test apart"]),
    ],
)
def test_given_splits_are_kept_and_validation_is_never_drawn_from_test(splits, expected):
    videos = [Entry(f"{number}", None, "x", split=split) for number, split in enumerate(splits)]
    places = divide(videos, Division())
    found = [places[video.id].split for video in videos]
    if expected == ["test apart"]:
        assert found[-1] == "test" and sorted(found[:-1]) == ["train", "train", "val"]
    else:
        assert found == expected


@pytest.mark.parametrize(
    ("splits", "folds", "message"),
    [
        (["val", "val"], None, "no video to train on"),
        (["test"], None, "no video to train on"),
        (["train", "val", None], None, "Some videos have a split and '2' has none"),
        (["train", "val"], 2, "--folds draws the validation videos, and they are given"),
        ([None, None], 5, "2 groups of videos cannot be divided into 5 folds"),
        ([None, None], 1, "cannot be divided into 1 folds"),
    ],
)
def test_impossible_splits_are_refused(splits, folds, message):
    videos = [Entry(f"{number}", None, "x", split=split) for number, split in enumerate(splits)]
    with pytest.raises(ValueError, match=message):
        divide(videos, Division(num_folds=folds))


def test_a_pattern_names_groups():
    videos = [replace(video, group=None) for video in entries()]
    named = name_groups(videos, r"_g(\d+)_")
    assert {video.group for video in named} == {f"{number:02d}" for number in range(10)}
    assert name_groups(videos, r"^[^/]+")[0].group == "c0"
    assert name_groups(videos, r"^(c\d)/.*_g(\d+)")[0].group == "c0/00"
    for pattern, message in (
        ("(", "is not a regular expression"),
        ("day", "does not fit the file 'c0/"),
        ("x*", "empty"),
    ):
        with pytest.raises(ValueError, match=message):
            name_groups(videos, pattern)


def test_stretches_of_one_file_are_a_group_and_half_given_groups_are_refused():
    cut = [Entry(f"{file}{k}", None, "x", f"{file}.mp4", start=k) for file in "ab" for k in range(2)]
    assert [video.group for video in name_groups(cut, None)] == ["a.mp4", "a.mp4", "b.mp4", "b.mp4"]
    with pytest.raises(ValueError, match="Some videos have a group and 'b0' has none"):
        name_groups([replace(video, group="g") if video.file == "a.mp4" else video for video in cut], None)


@pytest.mark.parametrize(
    ("names", "num_groups"),
    [
        (["kick/v_kick_g01_c01.avi", "kick/v_kick_g01_c02.avi", "kick/v_kick_g02_c01.avi"], 2),
        (["kick/monday_01.mp4", "kick/monday_02.mp4", "kick/tuesday_01.mp4", "kick/tuesday_02.mp4"], 2),
        (["kick/final-12_clip 3.mp4", "kick/final-12_clip 4.mp4", "kick/heat-7_clip 1.mp4"], 2),
        (["kick/kick_001.mp4", "kick/kick_002.mp4", "throw/throw_001.mp4"], None),  # the class, no group
        (["kick/1.mp4", "kick/2.mp4", "throw/3.mp4"], None),
        (["kick/anna_1.mp4", "kick/bert_1.mp4", "throw/carl_1.mp4"], None),  # no two of a group
    ],
)
def test_names_that_look_like_groups(names, num_groups):
    guess = guess_groups([Entry(name, None, name.split("/")[0], name) for name in names])
    assert (guess and len(guess[1])) == num_groups
    if guess:
        named = name_groups([Entry(name, None, "x", name.split("/")[1]) for name in names], guess[0])
        assert len({video.group for video in named}) == num_groups


def test_an_index_never_tears_a_group(tmp_path):
    row = {"file": "a.mp4", "label": 0, "num_frames": 9, "group": "monday"}
    with pytest.raises(ValueError, match="The group 'monday' is in train and val"):
        write_index(tmp_path, [{**row, "id": "a", "split": "train"}, {**row, "id": "b", "split": "val"}])
    folds = [{**row, "id": name, "split": "train", "fold": fold} for name, fold in (("a", 1), ("b", 2))]
    with pytest.raises(ValueError, match="The group 'monday' is in folds 1 and 2"):
        write_index(tmp_path, folds)


NUM_GROUPS, PER_GROUP = 8, 4


@pytest.fixture(scope="module")
def drawn_groups(tmp_path_factory):
    """Four classes of a moving square; the videos of one group share a background that fills the picture."""
    folder = tmp_path_factory.mktemp("groups")
    for label in range(4):
        for group in range(NUM_GROUPS):
            scene = np.random.default_rng([label, group]).integers(0, 255, (4, 4, 3)).repeat(8, 0).repeat(8, 1)
            for k in range(PER_GROUP):
                frames = np.stack([scene] * 8).astype(np.uint8)
                for time in range(8):
                    row, column = [(12, 3 * time), (12, 21 - 3 * time), (3 * time, 12), (21 - 3 * time, 12)][label]
                    frames[time, row : row + 6, column + k % 2 : column + k % 2 + 6] = 255
                encode(folder / "mine" / f"c{label}" / f"day{label}{group}_{k}.mp4", frames, np.arange(8) / 25)
    return folder


def nearest_neighbor_accuracy(root):
    """Return the percent of validation videos with the class of the training video whose pixels are most similar."""

    def read(split):
        videos = read_index(root, split)
        pixels = []
        for video in videos:
            with open_video(video.path) as file:
                pixels.append(file.frames(list(range(8))).float().flatten().numpy())
        return np.stack(pixels), np.array([video.label for video in videos])

    (train, train_labels), (val, val_labels) = read("train"), read("val")
    nearest = ((val[:, None] - train[None]) ** 2).sum(-1).argmin(1)
    return 100 * np.mean(train_labels[nearest] == val_labels)


def test_a_nearest_neighbor_shows_what_torn_groups_are_worth(drawn_groups, tmp_path):
    options = {"encoding": Encoding(32), "num_workers": 0}
    torn = import_videos(str(drawn_groups / "mine"), tmp_path / "torn", **options)
    assert "look like 32 groups" in torn and "--group '^(.+?)" in torn
    kept = import_videos(str(drawn_groups / "mine"), tmp_path / "kept", division=Division(r"(day\d+)_"), **options)
    assert "32 groups, each on one side of every split" in kept and "look like" not in kept
    train, val = ({video.group for video in read_index(tmp_path / "kept", split)} for split in ("train", "val"))
    assert not train & val and len(train | val) == 32
    assert nearest_neighbor_accuracy(tmp_path / "torn") >= 90
    assert nearest_neighbor_accuracy(tmp_path / "kept") <= 60


def test_folds_of_an_import_validate_on_every_video_once(drawn_groups, tmp_path):
    options = {"division": Division(r"(day\d+)_", num_folds=4), "encoding": Encoding(32), "num_workers": 0}
    report = import_videos(str(drawn_groups / "mine"), tmp_path / "root", **options)
    assert "4 folds of 32, 32, 32, 32 videos" in report
    validated = []
    for fold in range(4):
        train, val = (read_index(tmp_path / "root", split, fold=fold) for split in ("train", "val"))
        assert not {video.group for video in train} & {video.group for video in val}
        assert len(train) + len(val) == 128 and read_coverage(tmp_path / "root", "val", fold=fold).num_expected == 32
        validated += [video.id for video in val]
    assert len(set(validated)) == len(validated) == 128
    assert read_index(tmp_path / "root", "val") == read_index(tmp_path / "root", "val", fold=0)
    with pytest.raises(ValueError, match=r"has no fold 4; its folds are \[0, 1, 2, 3\]"):
        read_index(tmp_path / "root", "val", fold=4)
