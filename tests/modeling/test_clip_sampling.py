"""Clips against mmaction2's rule: its `SampleFrames` (0.x, 32 frames at interval 2) computed the expected values."""

import pytest
import torch

from modeling_finegym.clip_sampling import average_clips, random_clip, sample_clips


PAPER = {"clip_len": 32, "frame_interval": 2}
OFFSETS = {70: [0, 1, 2, 3, 3, 4, 5, 6], 100: [2, 6, 11, 16, 20, 25, 30, 34], 200: [8, 25, 42, 59, 77, 94, 111, 128]}


@pytest.mark.parametrize("num_frames", OFFSETS)
def test_offsets_of_eight_clips(num_frames):
    clips, weights = sample_clips(num_frames, **PAPER, num_clips=8)
    offsets = [clip[0] for clip, weight in zip(clips, weights, strict=True) for _ in range(round(weight * 8))]
    assert offsets == OFFSETS[num_frames]
    assert all(clip == list(range(clip[0], clip[0] + 64, 2)) for clip in clips)


def test_a_short_video_loops():
    clips, weights = sample_clips(38, **PAPER, num_clips=8)
    assert clips == [[*range(0, 38, 2), *range(0, 25, 2)]]
    assert weights == [1.0]


def test_a_short_video_repeats_its_last_taken_frame():
    clips, weights = sample_clips(38, **PAPER, num_clips=8, out_of_range="repeat_last")
    assert clips == [[*range(0, 38, 2), *[36] * 13]]
    assert weights == [1.0]


@pytest.mark.parametrize("out_of_range", ["loop", "repeat_last"])
def test_policies_agree_where_the_window_fits(out_of_range):
    assert sample_clips(64, **PAPER, num_clips=8, out_of_range=out_of_range) == ([list(range(0, 64, 2))], [1.0])


@pytest.mark.parametrize("num_frames", [1, 2, 63, 64, 65, 70, 500])
def test_weights_give_the_plain_mean_over_all_windows(num_frames):
    clips, weights = sample_clips(num_frames, clip_len=4, frame_interval=3, num_clips=10)
    assert len({tuple(clip) for clip in clips}) == len(clips)
    assert sum(weights) == pytest.approx(1)
    assert all(0 <= index < num_frames for clip in clips for index in clip)


def test_random_clips_cover_every_offset_and_no_other():
    generator = torch.Generator().manual_seed(0)
    offsets = {random_clip(70, **PAPER, generator=generator)[0] for _ in range(300)}
    assert offsets == set(range(7))
    assert random_clip(63, **PAPER, generator=generator)[:2] == [0, 2]


# mmaction2 1.2's SampleFrames in test mode
ENDS = {
    64: [0, 0, 0, 0, 1, 1, 1, 1],
    65: [0, 0, 1, 1, 1, 1, 2, 2],
    100: [0, 5, 11, 16, 21, 26, 32, 37],
    200: [0, 20, 39, 59, 78, 98, 117, 137],
}


@pytest.mark.parametrize("num_frames", ENDS)
def test_clips_from_end_to_end(num_frames):
    clips, weights = sample_clips(num_frames, **PAPER, num_clips=8, sampling="ends")
    offsets = [clip[0] for clip, weight in zip(clips, weights, strict=True) for _ in range(round(weight * 8))]
    assert offsets == ENDS[num_frames]
    assert clips[-1][-1] == num_frames - 1
    assert sample_clips(num_frames, **PAPER, num_clips=1, sampling="ends")[0][0][0] == (num_frames - 63) // 2


# the same with clip_len=1 and as many clips as segments, and tsn-pytorch's rule
SEGMENTS = {38: [6, 19, 31], 3: [0, 1, 2], 2: [0, 1, 1], 1: [0, 0, 0], 100: [16, 50, 83]}


@pytest.mark.parametrize("num_frames", SEGMENTS)
def test_every_segment_has_its_frame_also_where_some_are_equal(num_frames):
    settings = {"clip_len": 3, "frame_interval": 2, "sampling": "segments"}
    assert sample_clips(num_frames, **settings, num_clips=1) == ([SEGMENTS[num_frames]], [1.0])
    clips, weights = sample_clips(num_frames, **settings, num_clips=4)
    assert sum(weights) == pytest.approx(1) and all(len(clip) == 3 and clip == sorted(clip) for clip in clips)


def test_random_frames_of_segments_cover_each_segment_and_no_more():
    generator = torch.Generator().manual_seed(0)
    settings = {"clip_len": 3, "frame_interval": 1, "sampling": "segments", "generator": generator}
    drawn = [random_clip(14, **settings) for _ in range(300)]
    assert [set(frames) for frames in zip(*drawn)] == [{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9, 10, 11}]
    assert random_clip(2, **settings) == [0, 0, 0]


def test_scores_are_a_mean_of_softmax_not_of_logits():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    scores = average_clips(logits, torch.tensor([0.75, 0.25]))
    by_hand = 0.75 * 0.880797 + 0.25 * 0.268941
    assert scores.tolist() == pytest.approx([by_hand, 1 - by_hand], abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_frames": 0}, "no clips"),
        ({"num_clips": 0}, "positive"),
        ({"out_of_range": "wrap"}, "'wrap'"),
        ({"sampling": "all"}, "'all'"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    arguments = {"num_frames": 10, **PAPER, "num_clips": 1, **changes}
    with pytest.raises(ValueError, match=message):
        sample_clips(arguments.pop("num_frames"), **arguments)
