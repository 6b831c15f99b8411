import threading
import weakref

import numpy as np
import pytest
import torch

from modeling_finegym.clip_scoring import VideoClips, load_ahead, run_packed, score_videos
from tests.small import small_model


def videos(counts):
    generator = torch.Generator().manual_seed(3)
    for count in counts:
        weights = torch.rand(count, generator=generator)
        yield VideoClips(weights / weights.sum(), torch.randn(count, 8, 3, 32, 32, generator=generator))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_packed_batches_score_like_each_clip_alone(batch_size):
    model, counts = small_model("slowonly"), [1, 4, 2, 1, 7]
    results = list(score_videos(model, videos(counts), batch_size=batch_size))
    assert [len(result.clip_scores) for result in results] == counts
    for video, result in zip(videos(counts), results, strict=True):
        with torch.no_grad():
            alone = torch.cat([model(clip[None]).logits for clip in video.pixel_values]).softmax(-1)
        assert torch.allclose(result.clip_scores, alone, atol=1e-6)
        assert torch.allclose(result.scores, (alone * video.weights[:, None]).sum(0), atol=1e-6)


def test_features_in_place_of_frames_score_the_same():
    model = small_model("vision")
    frames = list(videos([2, 3]))
    features = [
        VideoClips(video.weights, video_features=model.get_video_features(video.pixel_values)) for video in frames
    ]
    for a, b in zip(score_videos(model, frames), score_videos(model, features), strict=True):
        assert torch.allclose(a.scores, b.scores, atol=1e-6)


def test_no_more_videos_are_held_than_fill_a_batch_and_one():
    taken = []

    def stream():
        for index, video in enumerate(videos([1] * 6)):
            taken.append(index)
            yield video

    scores = score_videos(small_model("slowonly"), stream(), batch_size=2)
    next(scores)
    assert taken in ([0, 1], [0, 1, 2])
    scores.close()
    assert taken in ([0, 1], [0, 1, 2])


@pytest.mark.parametrize(("batch_size", "num_clips"), [(1, 1), (2, 5), (8, 3), (5, 8)])
def test_memory_is_bounded_by_the_formula(batch_size, num_clips):
    """Every clip is counted until its memory is freed; the batch itself is a copy of `batch_size` of them."""
    alive, most = 0, 0

    def free(count):
        nonlocal alive
        alive -= count

    def stream():
        nonlocal alive, most
        for number in range(30):
            count = 1 + number % num_clips
            video = np.zeros((count, 2), dtype=np.float32)
            weakref.finalize(video, free, count)
            alive, most = alive + count, max(most, alive + count)
            yield torch.from_numpy(video)

    results = list(run_packed(lambda clips: clips + 1, stream(), batch_size))
    assert [len(result) for result in results] == [1 + number % num_clips for number in range(30)]
    assert most + batch_size <= 2 * batch_size + 3 * num_clips and alive <= num_clips


def test_the_next_video_is_loaded_while_the_one_before_is_in_use():
    """Neither loads nor uses a video before the other has begun: one after the other, they would wait forever."""
    loading, using = threading.Event(), threading.Event()

    def stream():
        yield "first"
        loading.set()
        assert using.wait(60)
        yield "second"

    ahead = load_ahead(stream())
    assert next(ahead) == "first"
    assert loading.wait(60)
    using.set()
    assert list(ahead) == ["second"]


def test_an_error_of_loading_arrives_after_the_videos_before_it():
    def stream():
        yield from "ab"
        raise ValueError("c cannot be read")

    seen = []
    with pytest.raises(ValueError, match="c cannot be read"):
        for item in load_ahead(stream()):
            seen.append(item)
    assert seen == ["a", "b"] and list(load_ahead([])) == []


def test_a_model_in_training_mode_is_refused():
    with pytest.raises(ValueError, match="training mode"):
        list(score_videos(small_model("slowonly").train(), videos([1])))
