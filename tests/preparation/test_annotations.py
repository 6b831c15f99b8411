import json
from collections import Counter
from pathlib import Path

import pytest

from finegym.data.labels import Labels
from finegym.preparation.annotations import (
    PUBLISHED_COUNTS,
    read_annotation,
    read_categories,
    read_segments,
    read_sets,
    read_split,
)
from tests.real_lists import REAL_LISTS, needs_real_lists


ROOT = Path(__file__).parents[2]


def labels_of(dataset: str) -> Labels:
    return Labels.read(ROOT / "configuration" / dataset / "labels.json")


@needs_real_lists
@pytest.mark.parametrize(("dataset", "version"), PUBLISHED_COUNTS)
def test_real_lists_have_the_published_counts(dataset, version):
    annotation = read_annotation(REAL_LISTS, dataset, version, labels_of(dataset))
    assert (len(annotation.train), len(annotation.val)) == PUBLISHED_COUNTS[dataset, version]
    assert annotation.segments is None


@needs_real_lists
def test_one_gym288_class_has_no_training_clip_in_v1_0():
    labels = labels_of("gym288")
    for version, expected in (("v1.0", [138]), ("v1.1", [])):
        train = read_annotation(REAL_LISTS, "gym288", version, labels).train
        assert sorted(set(range(288)) - set(train.values())) == expected
    assert labels.classes[138].text == "(BB) straddle pike jump with 0.5 turn"


@needs_real_lists
@pytest.mark.parametrize(("dataset", "num_classes"), [("gym99", 99), ("gym288", 288)])
def test_labels_are_those_of_the_real_files(dataset, num_classes):
    labels, sets = labels_of(dataset), read_sets(REAL_LISTS / "set_categories.txt")
    categories = read_categories(REAL_LISTS / f"{dataset}_categories.txt")
    assert len(labels.classes) == len(categories) == num_classes
    for action, category in zip(labels.classes, categories, strict=True):
        assert (action.id, action.set, action.element, action.event, action.text) == (
            category.id,
            category.set,
            category.element,
            category.event,
            category.text,
        )
        assert action.set_name == sets[category.set]


@pytest.mark.skipif(
    REAL_LISTS is None or not (REAL_LISTS / "tqn_gym99_attributes.txt").is_file(),
    reason="the lists of github.com/Chuhanxx/Temporal_Query_Networks are not beside FineGym's, as "
    "tqn_gym99_attributes.txt and so on",
)
@pytest.mark.parametrize(("dataset", "num_attributes"), [("gym99", 66), ("gym288", 98)])
def test_attributes_are_those_of_the_real_files(dataset, num_attributes):
    labels = labels_of(dataset)
    lines = (REAL_LISTS / f"tqn_{dataset}_attributes.txt").read_text().splitlines()
    assert labels.attributes == [line.partition("\t")[2] for line in lines]
    assert len(labels.attributes) == num_attributes and labels.attributes[0] == ""
    rows = (REAL_LISTS / f"tqn_{dataset}_class_attributes.tsv").read_text().splitlines()[1:]
    for action, row in zip(labels.classes, rows, strict=True):
        assert [labels.attributes[i] for i in action.attributes] == row.split("\t")[4].split(" | ")


@needs_real_lists
def test_the_530_elements_are_known_by_their_own_number():
    categories = read_categories(REAL_LISTS / "gym530_categories.txt")
    assert [category.element for category in categories] == list(range(530))
    assert {category.id for category in categories} == {None}


def test_class_names_are_unique_where_texts_are_not():
    for dataset, num_repeated in (("gym99", 1), ("gym288", 3)):
        labels = labels_of(dataset)
        repeated = [text for text, count in Counter(action.text for action in labels.classes).items() if count > 1]
        assert len(repeated) == num_repeated
        assert len(set(labels.names)) == len(labels.label2id) == len(labels.classes)
    assert labels.names[181] == "(BB) salto backward tucked [BB_flight_salto]"


# An invented excerpt in FineGym's formats: the ids have `-` and `_` where splitting them at `_` would break.
EXCERPT = {
    "-a_B-c_D_E_": {
        "E_000010_000030": {
            "event": 4,
            "timestamps": [[10.25, 30.5]],
            "segments": {
                "A_0003_0005": {"stages": 1, "timestamps": [[3.5, 5.64]]},
                "A_0007_0006": {"stages": 1, "timestamps": [[7.0, 6.5]]},
            },
        },
        "E_000040_000047": {
            "event": 1,
            "timestamps": [[40.5, 47.0]],
            "segments": {"A_0000_0006": {"stages": 3, "timestamps": [[0.04, 3.2], [3.2, 4.49], [4.49, 6.5]]}},
        },
        "E_000050_000060": {"event": 2, "timestamps": [[50.0, 60.0]], "segments": None},
    }
}


def write_json(folder: Path, content: object) -> Path:
    path = folder / "finegym_annotation_info_v1.0.json"
    path.write_text(json.dumps(content))
    return path


def test_sub_actions_are_timed_in_the_video(tmp_path):
    segments = read_segments(write_json(tmp_path, EXCERPT))
    bars = segments.sub_actions["-a_B-c_D_E__E_000010_000030_A_0003_0005"]
    assert (bars.video_id, bars.event_id) == ("-a_B-c_D_E_", "-a_B-c_D_E__E_000010_000030")
    assert (bars.event, bars.num_stages, bars.event_offset) == ("UB", 1, 10.25)
    assert (bars.start, bars.end) == pytest.approx((13.75, 15.89))
    vault = segments.sub_actions["-a_B-c_D_E__E_000040_000047_A_0000_0006"]
    assert (vault.event, vault.num_stages) == ("VT", 3)
    assert (vault.start, vault.end) == pytest.approx((40.54, 47.0))
    assert (segments.num_videos, segments.num_events, len(segments.sub_actions)) == (1, 3, 2)


def test_an_unusable_entry_is_reported_and_costs_nothing_else(tmp_path):
    segments = read_segments(write_json(tmp_path, EXCERPT))
    assert segments.problems == {
        "-a_B-c_D_E__E_000010_000030_A_0007_0006": "annotation unusable: it runs from 17.25 s to 16.75 s"
    }
    for broken in (
        {"event": 9, "timestamps": [[0, 9]], "segments": {"A_0000_0001": {"timestamps": [[0, 1]]}}},
        {"event": 1, "timestamps": [], "segments": {"A_0000_0001": {"timestamps": [[0, 1]]}}},
        {"event": 1, "timestamps": [[0, 9]], "segments": {"A_0000_0001": {"timestamps": [["nan", 1]]}}},
        {"event": 1, "timestamps": [[0, 9]], "segments": {"../../evil": {"timestamps": [[0, 1]]}}},
        {"event": 1, "timestamps": [[0, 9]], "segments": {"A_0000_0001": None}},
        {"event": 1, "timestamps": [[0, 9]], "segments": [1]},
        "nothing",
    ):
        segments = read_segments(write_json(tmp_path, {"0LtLS9wROrk": {"E_000000_000009": broken}}))
        assert len(segments.problems) == 1 and not segments.sub_actions


@pytest.mark.parametrize("content", ["", "[1]", '{"a": 1}', "[" * 100_000])
def test_what_is_not_the_annotation_is_refused_by_name(tmp_path, content):
    path = tmp_path / "finegym_annotation_info_v1.0.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="finegym_annotation_info_v1.0.json"):
        read_segments(path)


GOOD_LINE = "0LtLS9wROrk_E_002407_002435_A_0003_0005 78\n"


@pytest.mark.parametrize(
    "line",
    [
        "0LtLS9wROrk_E_002407_002435_A_0003_0005\n",
        "../../../etc/pas_E_002407_002435_A_0003_0005 1\n",
        "0LtLS9wROrk_E_2407_2435_A_0003_0005 1\n",
        "0LtLS9wROrk_E_002407_002435_A_0003_0006 -1\n",
        GOOD_LINE,
    ],
)
def test_a_malformed_line_of_a_split_list_is_named(tmp_path, line):
    path = tmp_path / "list.txt"
    path.write_text(GOOD_LINE + line)
    with pytest.raises(ValueError, match="list.txt, line 2"):
        read_split(path)


def test_an_incomplete_list_is_refused(tmp_path):
    (tmp_path / "gym99_train_element_v1.0.txt").write_text(GOOD_LINE)
    (tmp_path / "gym99_val_element.txt").write_text(GOOD_LINE.replace("0003_0005", "0006_0008"))
    with pytest.raises(ValueError, match="1 training and 1 validation sub-actions; published are 20484 and 8521"):
        read_annotation(tmp_path, "gym99", "v1.0", labels_of("gym99"))
    with pytest.raises(ValueError, match="v2"):
        read_annotation(tmp_path, "gym99", "v2", labels_of("gym99"))
    with pytest.raises(FileNotFoundError, match="finegym fetch"):
        read_annotation(tmp_path, "gym99", "v1.1", labels_of("gym99"))


def test_a_clip_in_both_splits_is_refused(tmp_path):
    for name in ("mini_train_element_v1.0.txt", "mini_val_element.txt"):
        (tmp_path / name).write_text(GOOD_LINE)
    with pytest.raises(ValueError, match="in both splits, such as 0LtLS9wROrk_E_002407_002435_A_0003_0005"):
        read_annotation(tmp_path, "mini", "v1.0", labels_of("gym99"))


@pytest.mark.parametrize("line", ["Clabel:  1; set:  1; Glabel:  1; (VT) x", "Clabel: 0; Glabel: 1; (VT) x", "hello"])
def test_a_malformed_category_is_named(tmp_path, line):
    path = tmp_path / "categories.txt"
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match="categories.txt, line 1"):
        read_categories(path)


def test_texts_may_hold_what_separates_fields(tmp_path):
    path = tmp_path / "categories.txt"
    path.write_text("Clabel:   0; set: 33; Glabel: 331; (BB) jump; with set: 4; (and) more   \n")
    assert read_categories(path)[0].text == "(BB) jump; with set: 4; (and) more"
    assert read_categories(path)[0].set == 33
