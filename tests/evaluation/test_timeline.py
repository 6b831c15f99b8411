"""Sliding windows over a routine, and what becomes of scores that overlap."""

import re
from datetime import timedelta

import numpy as np
import pytest
import torch

from finegym.evaluation.timeline import Segment, find_segments, score_windows, slide, to_subtitles
from modeling_finegym import FineGymPipeline, FineGymVideoProcessor
from tests.small import small_model


NAMES = ["leap", "turn", "salto"]


@pytest.mark.parametrize(
    ("start", "end", "window", "stride", "expected"),
    [
        (0, 4, 2, 1, [(0, 2), (1, 3), (2, 4)]),
        (0, 4.5, 2, 1, [(0, 2), (1, 3), (2, 4), (2.5, 4.5)]),
        (1, 2, 2, 1, [(1, 2)]),
        (3, 5, 2, 2, [(3, 5)]),
        (0, 0.3, 0.1, 0.1, [(0, 0.1), (0.1, 0.2), (0.2, 0.3)]),
    ],
)
def test_windows_cover_the_video(start, end, window, stride, expected):
    assert slide(start, end, window=window, stride=stride) == expected


@pytest.mark.parametrize(("window", "stride"), [(2, 0), (2, 3), (0, 0), (-1, -1)])
def test_windows_that_would_leave_gaps(window, stride):
    with pytest.raises(ValueError, match="stride must be positive and no longer than the window"):
        slide(0, 10, window=window, stride=stride)


def test_segments_agree_with_an_average_taken_every_millisecond():
    generator = np.random.default_rng(0)
    for _ in range(20):
        windows = slide(0.0, 7.3, window=2.0, stride=float(generator.choice([0.5, 0.7, 2.0])))
        scores = torch.tensor(generator.dirichlet([0.4] * 3, len(windows)), dtype=torch.float32)
        min_score = float(generator.choice([0.0, 0.5]))
        segments = find_segments(windows, scores, NAMES, min_score=min_score)
        for moment in np.arange(0.0005, 7.3, 0.01):
            covering = [number for number, (start, end) in enumerate(windows) if start <= moment < end]
            mean = scores[covering].numpy().mean(axis=0)
            label = NAMES[mean.argmax()] if mean.max() >= min_score else None
            shown = [segment.label for segment in segments if segment.start <= moment < segment.end]
            assert shown == ([label] if label else []), moment
        for before, after in zip(segments, segments[1:]):
            assert before.end <= after.start
            assert before.label != after.label or before.end < after.start, "neighbors are joined"


def test_the_score_of_a_segment_is_its_mean_over_time():
    windows = [(0.0, 1.0), (1.0, 4.0), (4.0, 5.0)]
    scores = torch.tensor([[0.9, 0.1, 0.0], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    joined, second = find_segments(windows, scores, NAMES)
    assert (joined.start, joined.end, joined.label) == (0.0, 4.0, "leap")
    assert joined.score == pytest.approx((0.9 * 1 + 0.5 * 3) / 4)
    assert (second.label, second.score) == ("turn", pytest.approx(0.8))


def test_windows_of_a_file_score_like_the_file_cut_there(video_path):
    model = small_model("slowonly")
    processor = FineGymVideoProcessor(
        num_frames=8, frame_interval=2, size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}
    )
    windows, scores = score_windows(
        model, processor, str(video_path), window=1.0, stride=0.5, num_clips=3, progress=False
    )
    assert windows == [(0.0, 1.0), (0.5, 1.5), (1.0, 2.0), (1.5, 2.5), (1.8, 2.8)]  # 70 frames at 25 per second
    classify = FineGymPipeline(model=model, video_processor=processor, task="video-classification", device="cpu")
    for (start, end), row in zip(windows, scores):
        answer = classify(str(video_path), start=start, end=end, num_clips=3)
        expected = {entry["label"]: entry["score"] for entry in answer}
        assert {model.config.id2label[label]: score for label, score in enumerate(row.tolist())} == pytest.approx(
            expected, abs=1e-6
        )


def test_subtitles_are_subrip():
    segments = [
        Segment(0.0, 1.2345, "a\n\nb --> <i>{\\an8}c", 0.5),
        Segment(3661.9996, 36000.0, "(UB) giant circle", 0.98765),
    ]
    text = to_subtitles(segments)
    pattern = r"(\d+)\n(\d\d):(\d\d):(\d\d),(\d{3}) --> (\d\d):(\d\d):(\d\d),(\d{3})\n([^\n]+)\n(?:\n|$)"
    found = re.findall(pattern, text)
    assert "".join(match.group(0) for match in re.finditer(pattern, text)) == text
    for (number, *times, words), segment, expected in zip(found, segments, (1, 2)):
        assert int(number) == expected
        for clock, seconds in ((times[:4], segment.start), (times[4:], segment.end)):
            hours, minutes, whole, milliseconds = map(int, clock)
            shown = timedelta(hours=hours, minutes=minutes, seconds=whole, milliseconds=milliseconds)
            assert shown.total_seconds() == pytest.approx(seconds, abs=5e-4)
        assert not set("<>{}") & set(words)
