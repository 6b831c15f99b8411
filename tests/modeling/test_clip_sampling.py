"""Clips against mmaction2's rule: the vectors were computed with its `SampleFrames` (0.x, 32 frames at interval 2)."""

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


def test_scores_are_a_mean_of_softmax_not_of_logits():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    scores = average_clips(logits, torch.tensor([0.75, 0.25]))
    by_hand = 0.75 * 0.880797 + 0.25 * 0.268941
    assert scores.tolist() == pytest.approx([by_hand, 1 - by_hand], abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"num_frames": 0}, "no clips"), ({"num_clips": 0}, "positive"), ({"out_of_range": "wrap"}, "'wrap'")],
)
def test_bad_arguments_are_named(changes, message):
    arguments = {"num_frames": 10, **PAPER, "num_clips": 1, **changes}
    with pytest.raises(ValueError, match=message):
        sample_clips(arguments.pop("num_frames"), **arguments)
