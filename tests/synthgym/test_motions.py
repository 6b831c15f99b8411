import numpy as np
import pytest

from finegym.data.labels import Labels
from finegym.synthgym.figure import HANDS, JOINT_INDEX, MASS, SUPPORTS
from finegym.synthgym.generate import LABELS
from finegym.synthgym.motions import compose
from finegym.synthgym.program import BAR_HEIGHT, BEAM_HEIGHT, GRAVITY, TABLE_HEIGHT
from finegym.synthgym.simulation import simulate


CLASSES = Labels.read(LABELS["class"])
FPS = 25.0


def attributes_of(action):
    return [CLASSES.attributes[index] for index in action.attributes]


def performances(event=None, num=4):
    """Return (class, program, motion) of several athletes for each class."""
    for action in CLASSES.classes:
        for seed in range(num) if event in (None, action.event) else ():
            program = compose(action.event, attributes_of(action), np.random.default_rng([seed, action.id]))
            yield action, program, simulate(program, action.event, FPS)


def somersaults(motion):
    """Count the whole turns of the body's long axis in the plane of travel."""
    up = motion.axes[:, :, 2]
    angle = np.unwrap(np.arctan2(up[:, 0], up[:, 2]))
    return (angle[-1] - angle[0]) / (2 * np.pi)


def number(action):
    return next((float(name.split()[0]) for name in attributes_of(action) if name[0].isdigit()), 0.0)


def test_every_class_has_as_many_saltos_as_its_name_says():
    for action, program, motion in performances():
        names = attributes_of(action)
        expected = 2 if "double salto backward" in names else 1 if any("salto" in name for name in names) else 0
        if action.event == "VT":
            expected = 2.85  # most of a round-off, a flic-flac and a salto
        elif "flic-flac" in names or action.event == "UB":
            expected = 1
        margin = 0.2
        if action.event == "FX" and "backward" in action.name:
            entry = sum(phase.support == "ground" for phase in program.phases) > 3
            expected, margin = expected + 0.5 * entry, 0.6
        assert somersaults(motion) == pytest.approx(expected, abs=margin), action.name


def test_half_turns_end_facing_the_other_way():
    for action, program, motion in performances():
        turns = number(action)
        backward = "backward" in action.name or "flic-flac" in attributes_of(action)
        facing_travel = motion.axes[-1, 0, 0] * (-1 if action.event == "UB" else 1) > 0
        half = (turns % 1 != 0) != ("with 0.5 turn on" in action.text)
        assert facing_travel == (backward == half), action.name
        twist = (program.twist[-1][1] - program.twist[0][1]) / 360
        assert abs(twist) >= turns - 0.5 or action.event == "VT"


def test_landings_are_on_the_feet_at_the_height_of_the_apparatus():
    for action, _, motion in performances():
        if action.event == "UB":
            continue
        height = BEAM_HEIGHT if action.event == "BB" else 0.0
        assert motion.axes[-1, 2, 2] > 0.95, action.name
        assert motion.joints[-1, SUPPORTS, 2].min() == pytest.approx(height, abs=0.03), action.name
        assert motion.joints[:, :, 2].min() > height - 0.1, action.name


def test_the_center_of_mass_falls_freely_in_flight():
    for action, program, motion in performances("FX", num=2):
        if "salto" not in action.name:
            continue
        flight = max((phase for phase in program.phases if phase.support == "flight"), key=lambda p: p.stop - p.start)
        first, last = int(flight.start * FPS) + 3, int(flight.stop * FPS) - 3
        height = motion.joints[first:last, :, 2] @ MASS
        acceleration = np.diff(height, 2) * FPS**2
        assert np.median(acceleration) == pytest.approx(-GRAVITY, rel=0.15), action.name


def test_hands_stay_on_the_bar_and_touch_the_table():
    for action, _, motion in performances("UB"):
        hands = motion.joints[:, HANDS][:, :, [0, 2]] - [0, BAR_HEIGHT]
        assert np.linalg.norm(hands, axis=2).min(1).max() < 0.1, action.name
    for action, _, motion in performances("VT"):
        hands = motion.joints[:, HANDS].mean(1)
        on_table = np.linalg.norm(hands[:, [0, 2]] - [motion.table_x, TABLE_HEIGHT], axis=1)
        assert (on_table < 0.12).sum() >= 3, action.name


def test_a_planted_foot_does_not_slide_in_a_turn():
    for action, _, motion in performances("BB"):
        if "turn on one leg" in action.text:
            feet = motion.joints[:, [JOINT_INDEX["toe_left"], JOINT_INDEX["toe_right"]]]
            middle = feet[len(feet) // 3 : 2 * len(feet) // 3]
            assert np.ptp(middle[..., :2], axis=0).max(1).min() < 0.1, action.name


def test_a_series_tells_its_order_in_the_flights_only():
    for first, second in (("split jump", "sheep jump"), ("wolf hop or jump", "straddle pike or side split jump")):
        programs = [
            compose("BB", ["BB", *names], np.random.default_rng(3)) for names in ((first, second), (second, first))
        ]
        motions = [simulate(program, "BB", FPS) for program in programs]
        start, stop = (phase for phase in programs[0].phases if phase.support == "flight")
        times = (np.arange(len(motions[0].joints)) + 0.5) / FPS
        pelvis = [motion.joints - motion.joints[:, :1] for motion in motions]
        apart = np.abs(pelvis[0] - pelvis[1]).max((1, 2))
        assert apart[(times > start.start) & (times < stop.stop)].max() > 0.2
        assert apart[times < start.start].max() < 1e-9
        assert apart[times > stop.stop + 0.15].max() < 1e-9
        assert len(times) <= 51


def test_other_classes_of_gym99_are_performed_or_refused_by_name():
    gym99 = Labels.read(LABELS["class"].parents[1] / "gym99" / "labels.json")
    performed = set()
    for action in gym99.classes:
        attributes = [gym99.attributes[index] for index in action.attributes]
        try:
            motion = simulate(compose(action.event, attributes, np.random.default_rng(0)), action.event, FPS)
        except ValueError as error:
            assert "motions.py" in str(error)
            continue
        performed.add(action.id)
        assert np.isfinite(motion.joints).all() and 15 < len(motion.joints) < 90, action.name
    assert {1, 12, 32, 48, 52, 80} <= performed
    assert not performed & {15, 16, 24, 59, 69, 94}, "rings, stags, arabians, step-outs, dismounts and transitions"
