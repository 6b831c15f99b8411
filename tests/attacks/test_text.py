"""Text that strangers wrote: names that control a terminal, JSON and YAML that fill memory or are ambiguous."""

import json

import pytest

from finegym.data.files import replacing
from finegym.data.labels import Labels
from finegym.data.text import MAX_YAML_BYTES, parse_json, parse_yaml, read_json, read_text, safe_text


STEERING = {
    "clears the screen": "\x1b[2J\x1b[H",
    "sets the title of the window": "\x1b]0;owned\x07",
    "the same without an escape": "\x9b2J",
    "overwrites its line": "all right\rnothing",
    "deletes what precedes it": "abc\x08\x08\x08",
    "shows gpj.exe as exe.jpg": "\u202egpj.exe",
    "breaks a line without a line feed": "a\u2028b",
    "says something invisible": "a\U000e0068\U000e0069",
    "is no UTF-8": "clip\udcff.mp4",
}


@pytest.mark.parametrize("text", STEERING.values(), ids=STEERING)
def test_no_text_steers_a_terminal(text):
    shown = safe_text(text)
    assert shown.isprintable() and shown.encode("utf-8")
    assert json.loads(f'"{shown}"') == text  # the escapes are JSON's
    assert safe_text(f"é 体操 👩‍👧 {text}\n").startswith("é 体操 👩‍👧 ") and safe_text("a\nb") == "a\nb"
    assert safe_text("a\nb", one_line=True) == "a\\u000ab"


JSON_BOMBS = {
    "nested too deeply": "[" * 100_000,
    "repeats the key": '{"a": 1, "a": 2}',
    "NaN": '{"a": NaN}',
    "-Infinity": '{"a": -Infinity}',
    "not a finite number": '{"a": 1e999}',
    "integer string conversion": "9" * 10_000,
    "lone surrogate": '{"a": "\\ud800"}',
}


@pytest.mark.parametrize(("message", "text"), JSON_BOMBS.items(), ids=JSON_BOMBS)
def test_json_that_is_none_is_refused_by_file(tmp_path, message, text):
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"labels.json is not a valid label file .*{message}.* Do this.") as caught:
        read_json(path, what="label file", remedy="Do this.")
    assert len(str(caught.value)) < 500 + len(str(path))


def test_pairs_of_surrogates_are_characters():
    assert parse_json('"\\ud83e\\udd38"') == "🤸"


def test_a_file_larger_than_any_of_its_kind_is_not_read(tmp_path):
    path = tmp_path / "labels.json"
    with open(path, "wb") as file:
        file.truncate(2**40)  # a hole, which takes no space on the disk
    with pytest.raises(ValueError, match=r"labels.json has more than 67,108,864 bytes"):
        Labels.read(path)


def test_bytes_that_are_no_text_are_refused_by_file(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"file_name,label\n\xff\xfe,1\n")
    with pytest.raises(ValueError, match="x.csv is not a UTF-8 text file"):
        read_text(tmp_path / "x.csv")


YAML_BOMBS = {
    "alias": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
    "python/object/apply": "a: !!python/object/apply:os.system [echo]",
    "nested too deeply": "[" * 1200,
    "repeats the key 'seed'": "seed: 1\nseed: 2",
    "more than": "a: 1\n" * MAX_YAML_BYTES,
    "out of range|must be in": "a: 2001-99-99",
    "unhashable": "? [a]\n: 1",
    "special characters": "a: \x00",
}


@pytest.mark.parametrize(("message", "text"), YAML_BOMBS.items(), ids=YAML_BOMBS)
def test_yaml_that_does_more_than_say_values_is_refused(message, text):
    with pytest.raises(ValueError, match=message):
        parse_yaml(text)


@pytest.mark.parametrize("num_bytes", [240, 255])
def test_a_file_whose_name_is_as_long_as_names_can_be_is_written(tmp_path, num_bytes):
    path = tmp_path / ("ä" * (num_bytes // 2) + "x" * (num_bytes % 2))
    with replacing(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole" and len(list(tmp_path.iterdir())) == 1
