import contextlib
import json
import os
import socket

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from footage import encode, numbers_of, picture

from finegym.data.index import read_coverage, read_index
from finegym.data.labels import Labels
from finegym.preparation.class_attributes import attributes_from_name
from finegym.preparation.cutting import Encoding
from finegym.preparation.own_data import import_videos, prepared_root
from modeling_finegym.video_decoding import open_video


def film(path, first=0, length=12):
    encode(path, [picture(first + number) for number in range(length)], np.arange(length) / 25)


def run(source, root, **changes):
    return import_videos(str(source), root, **{"encoding": Encoding(64), "num_workers": 0, **changes})


def by_id(root):
    found = {}
    for split in ("train", "val", "test"):
        with contextlib.suppress(ValueError):
            found |= {video.id: (split, video) for video in read_index(root, split)}
    return found


def first_number(video):
    with open_video(video.path) as file:
        return numbers_of(file.frames([0]))[0]


@pytest.fixture
def ten_clips(tmp_path):
    for number in range(10):
        film(tmp_path / "mine" / ("tuck jump" if number < 5 else "pike jump") / f"{number}.mp4", 100 * number)
    return tmp_path / "mine"


def test_a_folder_of_ten_clips(tmp_path, ten_clips):
    report = run(ten_clips, tmp_path / "root")
    videos = by_id(tmp_path / "root")
    assert {video_id: first_number(video) for video_id, (_, video) in videos.items()} == {
        f"{'tuck' if number < 5 else 'pike'} jump/{number}": 100 * number for number in range(10)
    }
    labels = Labels.read(tmp_path / "root" / "labels.json")
    assert labels.names == ["pike jump", "tuck jump"] and labels.name == "root"
    for split, count in (("train", 4), ("val", 1)):
        for label in (0, 1):
            assert len([1 for s, video in videos.values() if (s, video.label) == (split, label)]) == count
    assert "train: 8 of 8 videos" in report and read_coverage(tmp_path / "root", "val").annotation_version == "own"


def test_columns_that_are_not_used_are_named(tmp_path, caplog):
    film(tmp_path / "mine" / "a.mp4")
    film(tmp_path / "mine" / "b.mp4", 1)
    (tmp_path / "mine" / "metadata.csv").write_text("file_name,label,athlet\na.mp4,tuck,1\nb.mp4,tuck,2\n")
    run(tmp_path / "mine", tmp_path / "root")
    assert "['athlet'] are not used" in caplog.text and "group" in caplog.text


def test_folders_may_name_splits_and_test_videos_are_kept_apart(tmp_path):
    for number, split in enumerate(("train", "Validation", "test")):
        film(tmp_path / "mine" / split / "tuck" / "a.mp4", number)
    film(tmp_path / "mine" / "loose.mp4")
    (tmp_path / "mine" / "notes.txt").write_text("filmed on Monday")
    report = run(tmp_path / "mine", tmp_path / "root")
    assert {video_id: split for video_id, (split, _) in by_id(tmp_path / "root").items()} == {
        "train/tuck/a": "train",
        "Validation/tuck/a": "val",
        "test/tuck/a": "test",
    }
    assert read_coverage(tmp_path / "root", "test").num_expected == 1
    refused = json.loads((tmp_path / "root" / "coverage.json").read_text())["files_not_used"]
    assert refused == {"loose.mp4": "no folder names its class"}
    assert "1 files of the source were not used" in report
    assert "Files that are not videos were ignored: 1 .txt" in report


ROWS = [
    {
        "file_name": "a.mp4",
        "label": "tuck",
        "start": 0.08,
        "end": 0.2,
        "split": "train",
        "attributes": ["salto", "tucked"],
    },
    {
        "file_name": "a.mp4",
        "label": "pike",
        "start": 0.2,
        "end": None,
        "split": "train",
        "attributes": ["salto", "piked"],
    },
    {"file_name": "sub/b.mp4", "label": "tuck", "start": None, "end": None, "split": "val", "attributes": ["salto"]},
]


def write_rows(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        lines = [",".join(rows[0])]
        for row in rows:
            cells = {**row, "attributes": "|".join(row["attributes"])} if "attributes" in row else row
            lines.append(",".join("" if value is None else str(value) for value in cells.values()))
        path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
def test_metadata_cuts_labels_splits_and_describes(tmp_path, name):
    film(tmp_path / "mine" / "a.mp4", 10)
    film(tmp_path / "mine" / "sub" / "b.mp4", 50)
    film(tmp_path / "mine" / "c.mp4")
    write_rows(tmp_path / "mine" / name, ROWS)
    run(tmp_path / "mine", tmp_path / "root")
    videos = by_id(tmp_path / "root")
    shown = {video_id: (split, first_number(video), video.num_frames) for video_id, (split, video) in videos.items()}
    assert shown == {
        "a_0.080_0.200": ("train", 12, 3),
        "a_0.200_end": ("train", 15, 7),
        "sub/b": ("val", 50, 12),
    }
    labels = Labels.read(tmp_path / "root" / "labels.json")
    assert labels.attributes == ["", "salto", "piked", "tucked"]
    assert [action.attributes for action in labels.classes] == [(1, 2), (1, 3)]
    assert labels.require_attributes() == labels.attributes
    refused = json.loads((tmp_path / "root" / "coverage.json").read_text())["files_not_used"]
    assert refused == {"c.mp4": "the metadata does not name it"}


def test_a_file_that_the_metadata_names_and_nobody_has_is_missing(tmp_path):
    film(tmp_path / "mine" / "a.mp4")
    rows = [
        {"file_name": f"{name}.mp4", "label": name, "split": split} for name, split in (("a", "train"), ("b", "val"))
    ]
    write_rows(tmp_path / "mine" / "metadata.csv", rows)
    with pytest.raises(ValueError, match=r"LOST 1 of 2 videos \(50.0 %\): 1 video absent"):
        run(tmp_path / "mine", tmp_path / "root")
    run(tmp_path / "mine", tmp_path / "root", max_lost_share=0.5)
    assert read_coverage(tmp_path / "root", "val").missing == {"b": "video absent: b"}
    assert read_coverage(tmp_path / "root", "val").num_expected == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"file_name": "../secret.mp4", "label": "x"}, "row 1: the file '../secret.mp4' is not inside"),
        ({"file_name": "/etc/passwd", "label": "x"}, "row 1: the file '/etc/passwd' is not inside"),
        ({"file_name": "a.mp4", "label": ""}, "row 1: there is no 'label'"),
        ({"file_name": "a.mp4", "label": "x", "start": "two"}, "row 1: start is 'two'"),
        ({"file_name": "a.mp4", "label": "x", "start": 3, "end": 2}, "row 1: the video ends at 2.0 s"),
        ({"file_name": "a.mp4", "label": "x", "start": "nan"}, "row 1: start is 'nan'"),
        ({"file_name": "a.mp4", "label": "x", "split": "holdout"}, "row 1: the split 'holdout' is none of train"),
        ({"file_name": "a\x01.mp4", "label": "x"}, "has a character that not every disk can store"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, row, message):
    film(tmp_path / "mine" / "a.mp4")
    write_rows(tmp_path / "mine" / "metadata.jsonl", [row])
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        run(tmp_path / "mine", tmp_path / "root")
    assert not (tmp_path / "root" / "index.parquet").exists()


def test_the_same_clip_twice_is_refused(tmp_path):
    film(tmp_path / "mine" / "a" / "x.mp4")
    film(tmp_path / "mine" / "a" / "x.mkv")
    with pytest.raises(ValueError, match="two videos are called 'a/x'"):
        run(tmp_path / "mine", tmp_path / "root")


def test_links_out_of_the_folder_cannot_loop(tmp_path, ten_clips):
    os.symlink(ten_clips, ten_clips / "tuck jump" / "again")
    run(ten_clips, tmp_path / "root")
    assert len(by_id(tmp_path / "root")) == 10


def test_attributes_from_a_file_or_from_names_or_refused_with_a_way_out(tmp_path, ten_clips):
    run(ten_clips, tmp_path / "none")
    with pytest.raises(ValueError, match="such as the vision encoder"):
        Labels.read(tmp_path / "none" / "labels.json").require_attributes()
    assert "Every class has one attribute of its own" in run(ten_clips, tmp_path / "names", attributes="names")
    assert Labels.read(tmp_path / "names" / "labels.json").attributes == ["", "pike jump", "tuck jump"]
    (ten_clips / "attributes.json").write_text(json.dumps({"tuck jump": ["jump", "tucked"], "pike jump": ["jump"]}))
    assert "of its own" not in run(ten_clips, tmp_path / "file")
    assert Labels.read(tmp_path / "file" / "labels.json").attributes == ["", "jump", "tucked"]
    for wrong in ({"tuck jump": ["x"]}, {"tuck jump": [], "pike jump": [], "kip": []}, [1]):
        (ten_clips / "attributes.json").write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match="attributes.json"):
            run(ten_clips, tmp_path / "wrong")


@pytest.mark.parametrize(
    ("name", "phrases"),
    [
        ("Salto backward, tucked with 1 twist", ["salto backward", "tucked", "1 twist"]),
        (
            "(UB) giant_circle_backward with 0.5 turn to handstand",
            ["ub", "giant circle backward", "0.5 turn", "handstand"],
        ),
        ("tuck/pike", ["tuck", "pike"]),
        ("landing", ["landing"]),
        ("HandstandPushups", ["handstand", "pushups"]),
        ("YoYo", ["yo"]),
        ("TVShow2Watch", ["tv", "show2", "watch"]),
        ("Front Crawl", ["front crawl"]),
    ],
)
def test_the_rule_that_takes_names_apart(name, phrases):
    assert attributes_from_name(name) == phrases


def test_a_dataset_with_a_video_column(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    repository = tmp_path / "repository"
    repository.mkdir()
    labels = datasets.ClassLabel(names=["tuck", "pike"])
    features = datasets.Features(
        {"video": datasets.Video(decode=False), "label": labels, "attributes": datasets.List(datasets.Value("string"))}
    )

    def write(numbers):
        for split in ("train", "validation", "test"):
            rows = []
            for number in numbers:
                film(tmp_path / "x.mp4", 7 * number)
                video = {"bytes": (tmp_path / "x.mp4").read_bytes(), "path": None}
                label = -1 if split == "test" and number else number
                attributes = ["salto", "tucked" if number == 0 else "piked"]
                rows.append({"video": video, "label": label, "attributes": attributes})
            datasets.Dataset.from_list(rows, features=features).to_parquet(repository / f"{split}.parquet")

    write([0, 1])
    loaded = datasets.load_dataset
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name: loaded(str(repository)) if name == "me/jumps" else loaded(name)
    )
    report = run("me/jumps", tmp_path / "root")
    videos = by_id(tmp_path / "root")
    assert {video_id: (split, first_number(video)) for video_id, (split, video) in videos.items()} == {
        "train/0000000": ("train", 0),
        "train/0000001": ("train", 7),
        "validation/0000000": ("val", 0),
        "validation/0000001": ("val", 7),
        "test/0000000": ("test", 0),
    }
    assert "1 files of the source were not used: it has no label (test/0000001)" in report
    labels = Labels.read(tmp_path / "root" / "labels.json")
    assert labels.names == ["pike", "tuck"] and labels.attributes == ["", "salto", "piked", "tucked"]

    write([1, 0])  # the rows in another order: every label belongs to the frames of its row
    run("me/jumps", tmp_path / "root")
    videos = by_id(tmp_path / "root")
    assert {video_id: (labels.names[video.label], first_number(video)) for video_id, (_, video) in videos.items()} == {
        "train/0000000": ("pike", 7),
        "train/0000001": ("tuck", 0),
        "validation/0000000": ("pike", 7),
        "validation/0000001": ("tuck", 0),
        "test/0000001": ("tuck", 0),
    }


def test_neither_a_folder_nor_a_dataset(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither a folder nor a data set"):
        run("nobody/nothing", tmp_path / "root")


def test_a_folder_of_videos_may_stand_where_a_prepared_folder_is_expected(tmp_path, ten_clips, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    root = prepared_root(str(ten_clips))
    assert root.is_relative_to(tmp_path / "home") and len(by_id(root)) == 10
    assert prepared_root(str(root)) == root
    film(ten_clips / "tuck jump" / "10.mp4")
    assert prepared_root(str(ten_clips)) == root and len(by_id(root)) == 11


def test_a_metadata_file_of_any_name(tmp_path):
    film(tmp_path / "mine" / "a.mp4", 1)
    film(tmp_path / "mine" / "b.mp4", 2)
    rows = [{"file_name": f"{name}.mp4", "label": name, "split": s} for name, s in (("a", "train"), ("b", "val"))]
    write_rows(tmp_path / "mine" / "my list.csv", rows)
    run(tmp_path / "mine" / "my list.csv", tmp_path / "root")
    assert {video_id: first_number(video) for video_id, (_, video) in by_id(tmp_path / "root").items()} == {
        "a": 1,
        "b": 2,
    }


def test_a_metadata_file_without_the_columns_says_which_it_has(tmp_path):
    film(tmp_path / "mine" / "a.mp4")
    (tmp_path / "mine" / "list.csv").write_text("video;class\na.mp4;tuck\n")
    with pytest.raises(ValueError, match=r"list.csv, row 1: there is no 'file_name'; its columns are .*video;class"):
        run(tmp_path / "mine" / "list.csv", tmp_path / "root")


def test_a_flat_folder_holds_videos_of_no_class(tmp_path):
    film(tmp_path / "mine" / "a.mp4")
    with pytest.raises(ValueError, match=r"holds 1 videos, such as a.mp4, and nothing says of which class.*<class>/"):
        run(tmp_path / "mine", tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_a_folder_without_videos_says_what_it_holds(tmp_path):
    (tmp_path / "mine" / "tuck").mkdir(parents=True)
    (tmp_path / "mine" / "tuck" / "a.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(ValueError, match=r"holds no video; its files are 1 \.jpg"):
        run(tmp_path / "mine", tmp_path / "root")


def test_moving_pictures_in_gif_are_videos(tmp_path):
    pixels = {"codec": "gif", "pixel_format": "rgb8"}
    for number in range(4):
        frames = [picture(10 * number + k) for k in range(8)]
        encode(tmp_path / "mine" / "tuck" / f"{number}.gif", frames, np.arange(8) / 25, **pixels)
    run(tmp_path / "mine", tmp_path / "root")
    videos = by_id(tmp_path / "root")
    assert {video_id: (first_number(video), video.num_frames) for video_id, (_, video) in videos.items()} == {
        f"tuck/{number}": (10 * number, 8) for number in range(4)
    }


@pytest.mark.parametrize("name", ["nope", "no/such/folder", "./nope", "/nope", "data/nope"])
def test_a_path_that_is_not_there_is_not_asked_for_on_the_hub(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(socket.socket, "connect", lambda *address: pytest.fail("it went to the network"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(FileNotFoundError, match=f"There is no folder or metadata file {name}"):
        run(name, tmp_path / "root")


def test_another_data_set_is_not_laid_over_one(tmp_path, ten_clips):
    film(tmp_path / "other" / "kip" / "0.mp4")
    film(tmp_path / "other" / "kip" / "1.mp4")
    run(ten_clips, tmp_path / "root")
    run(ten_clips, tmp_path / "root")  # the same command again resumes
    with pytest.raises(ValueError, match=f"root holds another data set, imported from {ten_clips}.*--overwrite"):
        run(tmp_path / "other", tmp_path / "root")
    assert len(by_id(tmp_path / "root")) == 10
    run(tmp_path / "other", tmp_path / "root", overwrite=True)
    assert sorted(by_id(tmp_path / "root")) == ["kip/0", "kip/1"]
    assert sorted(path.name for path in (tmp_path / "root" / "clips").iterdir()) == ["kip"]


def test_a_folder_that_import_did_not_make_is_not_written_over(tmp_path, ten_clips):
    (tmp_path / "root" / "clips").mkdir(parents=True)
    with pytest.raises(ValueError, match="root holds another data set. Choose"):
        run(ten_clips, tmp_path / "root")
    with pytest.raises(ValueError, match="is inside"):
        run(ten_clips, ten_clips / "root")


def test_a_video_that_was_replaced_is_cut_anew(tmp_path, ten_clips):
    run(ten_clips, tmp_path / "root")
    film(ten_clips / "tuck jump" / "3.mp4", 2000)
    run(ten_clips, tmp_path / "root")
    assert first_number(by_id(tmp_path / "root")["tuck jump/3"][1]) == 2000


def test_small_videos_are_not_enlarged(tmp_path):
    for number, (height, width) in enumerate(((48, 64), (49, 67), (128, 96))):
        frames = [picture(k, height, width) for k in range(6)]
        encode(tmp_path / "mine" / "a" / f"{number}.mkv", frames, np.arange(6) / 25, codec="ffv1")
    run(tmp_path / "mine", tmp_path / "root")
    sizes = {}
    for video_id, (_, video) in by_id(tmp_path / "root").items():
        with open_video(video.path) as file:
            sizes[video_id] = (file.height, file.width)
    assert sizes == {"a/0": (48, 64), "a/1": (48, 66), "a/2": (86, 64)}


def test_name_and_license_are_kept(tmp_path, ten_clips):
    run(ten_clips, tmp_path / "root", name="my jumps", license="cc-by-4.0")
    labels = Labels.read(tmp_path / "root" / "labels.json")
    assert (labels.name, labels.license, labels.synthetic) == ("my jumps", "cc-by-4.0", False)
