import numpy as np
import pytest

from finegym.synthgym.figure import (
    ANGLES,
    JOINT_INDEX,
    SHAPES,
    Body,
    forward_kinematics,
    mirror,
    orientation,
    pose,
)


@pytest.fixture
def angles():
    return np.random.default_rng(0).uniform(-90, 90, (50, len(ANGLES)))


def test_bones_keep_their_length_in_every_pose(angles):
    body = Body.random(np.random.default_rng(1))
    joints = forward_kinematics(angles, body)
    for start, stop, length in (
        ("hip", "knee", body.thigh),
        ("knee", "heel", body.shank),
        ("heel", "toe", body.foot),
        ("shoulder", "elbow", body.upper_arm),
        ("elbow", "hand", body.forearm),
    ):
        for side in ("left", "right"):
            bone = joints[:, JOINT_INDEX[f"{stop}_{side}"]] - joints[:, JOINT_INDEX[f"{start}_{side}"]]
            np.testing.assert_allclose(np.linalg.norm(bone, axis=1), length, rtol=1e-9)


def test_a_mirrored_pose_is_the_mirror_image(angles):
    body = Body()
    joints = forward_kinematics(angles, body)
    swapped = [
        JOINT_INDEX[name.replace("left", "?").replace("right", "left").replace("?", "right")] for name in JOINT_INDEX
    ]
    np.testing.assert_allclose(forward_kinematics(mirror(angles), body), joints[:, swapped] * [1, -1, 1], atol=1e-12)
    np.testing.assert_array_equal(mirror(mirror(angles)), angles)


def test_angles_bend_the_way_their_names_say():
    body = Body()
    hands, head, knees = JOINT_INDEX["hand_left"], JOINT_INDEX["head"], JOINT_INDEX["knee_left"]
    joints = forward_kinematics(np.stack([SHAPES["reach"], SHAPES["pike"], SHAPES["arch"]]), body)
    assert joints[0, hands, 2] > joints[0, head, 2] + 0.2, "overhead arms end above the head"
    assert joints[1, knees, 0] > 0.25, "a pike brings the thighs in front"
    assert joints[2, head, 0] < 0 and joints[2, knees, 0] < 0, "an arch bends backward at both ends"
    straddle = forward_kinematics(pose(spread=70)[None], body)[0]
    assert straddle[JOINT_INDEX["toe_left"], 1] > 0.6 > -0.6 > straddle[JOINT_INDEX["toe_right"], 1]


def test_a_somersault_is_forward_for_who_faces_travel_and_backward_for_who_does_not():
    axes = orientation(np.deg2rad([90.0, 90.0]), np.deg2rad([0.0, 180.0]))
    np.testing.assert_allclose(axes[:, :, 2], [[1, 0, 0], [1, 0, 0]], atol=1e-12)  # both heads point along the travel
    np.testing.assert_allclose(axes[:, :, 0], [[0, 0, -1], [0, 0, 1]], atol=1e-12)  # one looks down, one looks up
    np.testing.assert_allclose(axes @ axes.transpose(0, 2, 1), np.stack([np.eye(3)] * 2), atol=1e-12)
