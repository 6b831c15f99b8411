import numpy as np
import pytest

from finegym.data.labels import Labels
from finegym.synthgym.figure import JOINT_INDEX
from finegym.synthgym.generate import LABELS
from finegym.synthgym.motions import compose
from finegym.synthgym.scene import Camera, Look, contact_sheet, render
from finegym.synthgym.simulation import simulate


CLASSES = Labels.read(LABELS["class"])
LUMINANCE = np.array([0.299, 0.587, 0.114])


def motion_of(label, seed):
    action = CLASSES.classes[label]
    attributes = [CLASSES.attributes[index] for index in action.attributes]
    return simulate(compose(action.event, attributes, np.random.default_rng(seed)), action.event, 25.0)


@pytest.mark.parametrize("label", [0, 6, 14, 20, 23])
def test_rendering_is_a_function_of_the_seed(label):
    motion = motion_of(label, 1)
    first, again, other = (render(motion, np.random.default_rng(seed), size=48) for seed in (5, 5, 6))
    assert first.frames.shape == (len(motion.joints), 48, 48, 3) and first.frames.dtype == np.uint8
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.facing, again.facing)
    assert np.abs(first.frames.astype(int) - other.frames).mean() > 10


def test_the_athlete_is_large_and_in_the_picture():
    inside, heights = [], []
    for label in range(len(CLASSES.classes)):
        for seed in range(3):
            motion = motion_of(label, seed)
            pixels, _ = Camera(motion, np.random.default_rng(seed), 100).project(motion.joints)
            inside.append(((pixels > 0) & (pixels < 100)).all(2).mean())
            extent = np.ptp(pixels, axis=1).max(1)
            heights.append(extent.max())
    assert np.mean(inside) > 0.99 and min(inside) > 0.9
    assert np.quantile(heights, 0.05) > 50, "her longest extent takes half the picture or more"


def test_front_and_back_differ_in_brightness_whatever_the_colors():
    rng = np.random.default_rng(0)
    for _ in range(300):
        look = Look.random(rng)
        assert LUMINANCE @ look.chest > 2.2 * (LUMINANCE @ look.back)
        assert LUMINANCE @ look.skin > 1.5 * (LUMINANCE @ look.hair)


def test_facing_is_what_the_picture_shows():
    """Pixels of the trunk, found by projecting it, are brighter when she faces the camera."""
    brightness, facing = [], []
    for label in (8, 9, 17, 18):  # turns on one leg show every side
        for seed in range(4):
            motion = motion_of(label, seed)
            rng = np.random.default_rng(seed)
            look = Look.random(np.random.default_rng(seed))
            shown = render(motion, rng, size=96, look=look)
            camera = Camera(motion, np.random.default_rng(seed), 96)
            waist, _ = camera.project(motion.joints[:, [JOINT_INDEX["waist"]]])
            x, y = np.clip(waist[:, 0].round().astype(int), 2, 93).T
            patch = np.stack(
                [shown.frames[range(len(x)), y + dy, x + dx] @ LUMINANCE for dx in (0, 1) for dy in (-2, 2)]
            )
            brightness.append(patch.mean(0))
            facing.append(shown.facing)
    brightness, facing = np.concatenate(brightness), np.concatenate(facing)
    assert brightness[facing > 0.6].mean() > 1.6 * brightness[facing < -0.6].mean()
    assert np.corrcoef(brightness, facing)[0, 1] > 0.6


def test_a_contact_sheet_has_one_row_a_clip():
    frames = render(motion_of(5, 0), np.random.default_rng(0), size=40).frames
    sheet = contact_sheet([("one", frames), ("two", frames)], num_columns=6, label_width=50)
    assert sheet.size == (50 + 6 * 40, 2 * 40)
    np.testing.assert_array_equal(np.asarray(sheet)[:40, 50:90], frames[0])
    np.testing.assert_array_equal(np.asarray(sheet)[40:, -40:], frames[-1])
