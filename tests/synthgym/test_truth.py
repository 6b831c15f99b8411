"""When attributes happen, against the simulated body: it turns, flies and circles within the spans, and only there."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from finegym.data.index import AttributeSpan, read_index, write_index
from finegym.data.labels import Labels
from finegym.synthgym.figure import SUPPORTS
from finegym.synthgym.generate import LABELS, generate
from finegym.synthgym.motions import TURNS, compose
from finegym.synthgym.program import Program
from finegym.synthgym.simulation import simulate
from finegym.synthgym.truth import attribute_spans


FPS = 100.0


def attributes_of(labels, action):
    return [labels.attributes[index] for index in action.attributes]


def performances(split="class", num=1):
    labels = Labels.read(LABELS[split])
    for action in labels.classes:
        for seed in range(num):
            names = attributes_of(labels, action)
            program = compose(action.event, names, np.random.default_rng([seed, action.id]))
            yield action, names, attribute_spans(program, names), simulate(program, action.event, FPS)


def turned(motion, start, end):
    """Return the degrees about the body's long axis between two moments."""
    axes = motion.axes[int(start * FPS) : int(end * FPS) + 1]
    steps = np.einsum("tij,tik->tjk", axes[:-1], axes[1:])  # seen from the body
    return float(np.rad2deg(np.arctan2(steps[:, 1, 0] - steps[:, 0, 1], steps[:, 0, 0] + steps[:, 1, 1])).sum())


def somersaulted(motion, start, end):
    up = motion.axes[int(start * FPS) : int(end * FPS) + 1, :, 2]
    angle = np.unwrap(np.arctan2(up[:, 0], up[:, 2]))
    return abs(float(np.rad2deg(angle[-1] - angle[0])))


def test_every_attribute_but_the_event_has_a_span_within_the_video():
    for split in LABELS:
        for action, names, spans, motion in performances(split):
            assert {name for name, _, _ in spans} == set(names) - {action.event}, action.name
            assert all(0 <= start < end <= len(motion.joints) / FPS + 1e-2 for _, start, end in spans)


def test_the_body_turns_within_the_spans_and_as_often_as_they_say():
    num_checked = 0
    for action, _, spans, motion in performances():
        turns = [(float(match[1]), start, end) for name, start, end in spans if (match := TURNS.fullmatch(name))]
        for number, start, end in turns:
            assert abs(turned(motion, start - 0.03, end + 0.03)) == pytest.approx(360 * number, abs=12), action.name
            num_checked += 1
        if turns and "round-off" not in action.name:
            whole = abs(turned(motion, 0, len(motion.axes) / FPS))
            assert whole == pytest.approx(sum(360 * number for number, _, _ in turns), abs=12), action.name
    assert num_checked > 14


def test_the_body_somersaults_within_the_spans():
    num_checked = 0
    for action, _, spans, motion in performances():
        for name, start, end in spans:
            if "salto" in name or "giant circle" in name:
                expected = (720 if "double" in name else 360) - (0 if "giant" in name else 20)
                expected += 180 if action.event == "VT" else 0  # from the hands on the table
                around = somersaulted(motion, start, end)
                assert expected - 45 < around < expected + 35, (action.name, name, around)
                num_checked += 1
    assert num_checked > 14


def test_leaps_and_jumps_are_in_the_air_and_the_order_of_a_series_is_the_order_of_its_spans():
    for action, names, spans, motion in performances("order"):
        assert [name for name, start, _ in sorted(spans, key=lambda span: span[1])] == names[1:], action.name
        for _, start, end in spans:
            middle = motion.joints[int((start + end) / 2 * FPS), SUPPORTS, 2].min()
            outside = motion.joints[int((start - 0.05) * FPS), SUPPORTS, 2].min()
            assert middle > outside + 0.05, action.name


def test_noting_the_truth_changes_no_picture(monkeypatch):
    """Without the marks the motion is the same bit for bit, and the random numbers of the camera are too."""

    def performed():
        for split in LABELS:
            labels = Labels.read(LABELS[split])
            for action in labels.classes:
                rng = np.random.default_rng(action.id)
                motion = simulate(compose(action.event, attributes_of(labels, action), rng), action.event, 25.0)
                yield motion.joints.tobytes(), json.dumps(rng.bit_generator.state)

    noted, phase = list(performed()), Program.phase
    monkeypatch.setattr(Program, "phase", lambda *args, shows=None, **options: phase(*args, **options))
    assert list(performed()) == noted


def test_the_index_holds_them_and_an_earlier_one_is_completed(tmp_path):
    content = json.loads(LABELS["class"].read_text())
    content["classes"] = [{**content["classes"][13], "id": 0}]
    (tmp_path / "classes.json").write_text(json.dumps(content))
    arguments = {"num_train_per_class": 1, "num_val_per_class": 1, "size": 32, "num_workers": 0, "progress": False}
    root = tmp_path / "data"
    generate(root, labels=tmp_path / "classes.json", **arguments)
    index = root / "index.parquet"
    written = index.read_bytes()
    [video] = read_index(root, "val")
    names = {content["attributes"][span.attribute]: span for span in video.spans}
    assert names.keys() == {"salto backward", "stretched", "1.5 twist"}
    salto, twist = names["salto backward"], names["1.5 twist"]
    assert salto.start < twist.start < twist.end < salto.end <= video.num_frames / video.fps

    pq.write_table(pq.read_table(index).drop_columns("spans"), index)
    assert read_index(root, "val")[0].spans is None
    pictures = {path: path.stat().st_mtime_ns for path in (root / "clips").iterdir()}
    generate(root, labels=tmp_path / "classes.json", **arguments)
    assert index.read_bytes() == written
    assert {path: path.stat().st_mtime_ns for path in (root / "clips").iterdir()} == pictures


def test_impossible_spans_are_refused_and_others_come_back(tmp_path):
    row = {"id": "a", "file": "a.mp4", "split": "val", "label": 0, "num_frames": 9}
    write_index(tmp_path, [{**row, "spans": [{"attribute": 3, "start": 0.5, "end": 1.0}]}])
    assert read_index(tmp_path, "val")[0].spans == (AttributeSpan(3, 0.5, 1.0),)
    write_index(tmp_path, [{**row, "spans": []}])
    assert read_index(tmp_path, "val")[0].spans == ()
    for attribute, start, end in ((3, 1.0, 0.5), (-1, 0.0, 1.0), (3, 0.0, float("nan")), (3, None, 1.0)):
        write_index(tmp_path, [{**row, "spans": [{"attribute": attribute, "start": start, "end": end}]}])
        with pytest.raises(ValueError, match="video 'a'"):
            read_index(tmp_path, "val")
