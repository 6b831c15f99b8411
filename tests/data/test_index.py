import json
from dataclasses import asdict
from pathlib import Path

import pytest

from finegym.data.index import read_coverage, read_index, write_coverage, write_index
from finegym.data.labels import ActionClass, Labels


ROWS = [
    {
        "id": f"clip{number}",
        "file": f"clips/clip{number}.mp4",
        "split": split,
        "label": number,
        "num_frames": 9,
        "fps": 25.0,
    }
    for number, split in enumerate(("train", "val", "train"))
]


def test_an_index_comes_back_sorted_and_absolute(tmp_path):
    write_index(tmp_path, reversed(ROWS))
    videos = read_index(tmp_path, "train")
    assert [(video.id, video.label, video.num_frames, video.start) for video in videos] == [
        ("clip0", 0, 9, None),
        ("clip2", 2, 9, None),
    ]
    assert videos[0].path == tmp_path / "clips" / "clip0.mp4"


def test_the_order_of_rows_leaves_the_bytes_as_they_are(tmp_path):
    first = write_index(tmp_path / "a", ROWS).read_bytes()
    assert write_index(tmp_path / "b", reversed(ROWS)).read_bytes() == first


@pytest.mark.parametrize("file", ["../x.mp4", "/etc/passwd", "a/../../x.mp4", "a\\..\\x.mp4", "", "a\0.mp4"])
def test_no_clip_lies_outside_the_folder(tmp_path, file):
    with pytest.raises(ValueError, match="clip0"):
        write_index(tmp_path, [{**ROWS[0], "file": file}])


def test_a_repeated_clip_or_unknown_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'clip0' occurs twice"):
        write_index(tmp_path, [ROWS[0], ROWS[0]])
    with pytest.raises(ValueError, match="'clip0' has split 'holdout'; the splits are train, val, test"):
        write_index(tmp_path, [{**ROWS[0], "split": "holdout"}])


def test_what_cannot_be_read_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="finegym prepare"):
        read_index(tmp_path, "train")
    write_index(tmp_path, ROWS[:1])
    with pytest.raises(ValueError, match=r"no video in split 'val'; its splits are \['train'\]"):
        read_index(tmp_path, "val")
    (tmp_path / "index.parquet").write_bytes(b"PAR1 not at all PAR1")
    with pytest.raises(ValueError, match="index.parquet is not an index"):
        read_index(tmp_path, "train")


def test_a_coverage_report_comes_back(tmp_path):
    part = {"num_expected": 3, "num_present": 2, "missing": {"a": "video absent"}, "empty_classes": [1]}
    write_coverage(tmp_path, {"annotation_version": "v1.0", "splits": {"val": part}, "more": 1})
    coverage = read_coverage(tmp_path, "val")
    assert asdict(coverage) == {**part, "annotation_version": "v1.0", "optical_flow": None}
    with pytest.raises(ValueError, match="coverage.json has no coverage of split 'train'"):
        read_coverage(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match="coverage.json"):
        read_coverage(tmp_path / "elsewhere", "train")


LABELS = Labels(
    "x", [ActionClass(0, "ä", "a", "VT", 1, "vault", 19, (1, 2)), ActionClass(1, "b", "a")], ["", "p", "q"], "s", "l"
)


def test_labels_come_back(tmp_path):
    LABELS.write(tmp_path / "labels.json")
    assert Labels.read(tmp_path / "labels.json") == LABELS
    assert LABELS.id2label == {0: "ä", 1: "b"} and LABELS.label2id == {"ä": 0, "b": 1}
    assert len(json.loads((tmp_path / "labels.json").read_text())["classes"]) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": [{"id": 1, "name": "a", "text": "a"}]}, "count up from 0"),
        ({"classes": [{"id": i, "name": "a", "text": "a"} for i in (0, 1)]}, "unique"),
        ({"classes": [{"id": 0, "name": "a", "text": "a", "attributes": [3]}]}, "names attribute 3"),
        ({"classes": [{"id": 0, "name": "a", "text": "a", "attributes": [0]}]}, "names attribute 0"),
        ({"classes": [{"id": 0, "name": "a", "color": "red"}]}, "color"),
        ({"attributes": ["p"]}, "blank"),
        ({"classes": None}, "not a label file"),
    ],
)
def test_wrong_labels_are_refused_by_file(tmp_path, change, message):
    content = {"name": "x", "attributes": ["", "p"], "classes": [], **change}
    (tmp_path / "labels.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"labels\.json.*{message}"):
        Labels.read(tmp_path / "labels.json")
    with pytest.raises(FileNotFoundError, match="no label file"):
        Labels.read(Path("nowhere") / "labels.json")
