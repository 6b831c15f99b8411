"""The protocol against the naive loop over eight clips, on one process and on several, with features and without."""

import dataclasses
import os
import socket

import pytest
import torch
from torch import multiprocessing

from finegym.data.index import Coverage, Video
from finegym.data.labels import ActionClass, Labels
from finegym.data.video_writing import write_video
from finegym.evaluation.metrics import mean_class_accuracy, top_k_accuracy
from finegym.evaluation.protocol import Evaluation, evaluate, measure
from finegym.features.cache import build_features
from finegym.features.views import EvaluationViews
from modeling_finegym import FineGymVideoProcessor
from modeling_finegym.clip_sampling import clip_indices
from modeling_finegym.video_decoding import open_video
from tests.footage import moving_square
from tests.small import LABELS, small_model


LENGTHS = (3, 15, 16, 17, 22, 60, 9)
EVENTS = ("FX", "FX", "BB")


def make_processor() -> FineGymVideoProcessor:
    return FineGymVideoProcessor(
        size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}, num_frames=8, frame_interval=2
    )


@pytest.fixture(scope="module")
def labels() -> Labels:
    return Labels("small", [ActionClass(i, name, name, event=EVENTS[i]) for i, name in LABELS.items()], [])


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[Video]:
    folder = tmp_path_factory.mktemp("videos")
    videos = [
        Video(f"{number}", folder / f"{number}.mp4", number % 3, length) for number, length in enumerate(LENGTHS)
    ]
    for video in videos:
        write_video(video.path, moving_square(video.num_frames), fps=25)
    # The second half of a file, as an index over whole routines lists it.
    return [*videos, Video("part", videos[5].path, 1, 30, start=30 / 25, end=60 / 25)]


def naive_scores(model, processor, videos) -> torch.Tensor:
    """Score eight clips by mmaction2's rule, equal or not: read and run each alone, and average their softmax."""
    scores = []
    for video in videos:
        with open_video(video.path) as file:
            first, stop = file.index_range(video.start, video.end)
            spare = (stop - first - 16 + 1) / 8
            probabilities = []
            for window in range(8):
                offset = int(window * spare + spare / 2) if spare > 0 else 0
                indices = clip_indices(offset, stop - first, 8, 2, "loop")
                frames = processor.preprocess_frames(file.frames([first + index for index in indices]))
                with torch.no_grad():
                    probabilities.append(model(frames[None]).logits.softmax(-1)[0])
        scores.append(torch.stack(probabilities).mean(0))
    return torch.stack(scores)


@pytest.mark.parametrize("family", ["slowonly", "video_text"])
@pytest.mark.parametrize("batch_size, num_workers", [(1, 0), (5, 0), (64, 2)])
def test_equals_the_naive_loop(family, batch_size, num_workers, videos, labels):
    model, processor = small_model(family), make_processor()
    result = evaluate(model, processor, videos, labels, batch_size=batch_size, num_workers=num_workers, progress=False)
    expected = naive_scores(model, processor, videos)
    torch.testing.assert_close(result.scores, expected, rtol=0, atol=1e-6)
    assert result.labels.tolist() == [video.label for video in videos]
    assert result.video_ids == [video.id for video in videos]
    assert result.metrics["top1"] == top_k_accuracy(expected, result.labels)
    assert result.metrics["mean_class_accuracy"] == mean_class_accuracy(expected, result.labels)
    assert set(result.metrics["per_event"]) == {"FX", "BB"} and set(result.metrics["per_class"]) == set(
        LABELS.values()
    )


def test_clip_scores_make_up_the_scores(videos, labels):
    result = evaluate(small_model("vision"), make_processor(), videos, labels, progress=False)
    assert result.clip_scores.shape == (len(videos), 8, 3)
    torch.testing.assert_close((result.weights[..., None] * result.clip_scores).sum(1), result.scores)
    num_distinct = (result.weights > 0).sum(1)
    assert num_distinct.tolist() == [1, 1, 1, 2, 7, 8, 1, 8]
    assert (result.clip_scores.sum(-1) > 0).equal(result.weights > 0)


def test_runs_each_distinct_clip_once_in_full_batches(videos, labels):
    model = small_model("slowonly")
    batches = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: batches.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    evaluate(model, make_processor(), videos, labels, batch_size=4, progress=False)
    assert batches == [4] * 7 + [1]  # 29 distinct clips instead of 64


def test_features_give_the_same_scores(videos, labels, tmp_path):
    model, processor = small_model("vision"), make_processor()
    features = build_features(model, EvaluationViews(processor, videos), tmp_path, dtype="float32", progress=False)
    expected = evaluate(model, processor, videos, labels, progress=False)
    result = evaluate(model, processor, videos, labels, features=features, progress=False)
    torch.testing.assert_close(result.scores, expected.scores, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="not those of these videos"):
        evaluate(model, processor, videos[1:], labels, features=features, progress=False)


def test_training_mode_is_given_back(videos, labels):
    model = small_model("vision").train()
    first = evaluate(model, make_processor(), videos[:3], labels, progress=False)
    assert model.training and not model.base_model.backbone.blocks[0].training
    torch.testing.assert_close(
        first.scores, evaluate(model.eval(), make_processor(), videos[:3], labels, progress=False).scores
    )


def test_unreadable_videos_are_counted_and_listed(videos, labels, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    all_videos = [videos[0], dataclasses.replace(videos[1], id="broken", path=broken), videos[2]]
    coverage = Coverage(num_expected=9, num_present=3, missing={}, annotation_version="v1.0", empty_classes=[])
    model, processor = small_model("vision"), make_processor()
    for features in (
        None,
        build_features(model, EvaluationViews(processor, all_videos), tmp_path / "f", progress=False),
    ):
        result = evaluate(model, processor, all_videos, labels, features=features, coverage=coverage, progress=False)
        assert result.video_ids == [videos[0].id, videos[2].id] and len(result.scores) == 2
        assert list(result.unreadable) == ["broken"] and str(broken) in result.unreadable["broken"]
        assert (result.metrics["num_evaluated"], result.metrics["num_expected"]) == (2, 9)
        assert result.metrics["annotation_version"] == "v1.0"
    with pytest.raises(ValueError, match="None of the 1 videos"):
        evaluate(model, processor, all_videos[1:2], labels, progress=False)


def test_wrong_labels_are_named(videos, labels):
    model = small_model("slowonly")
    fewer = Labels("fewer", labels.classes[:2], [])
    with pytest.raises(ValueError, match="3 classes apart and fewer has 2"):
        evaluate(model, make_processor(), videos, fewer)
    with pytest.raises(ValueError, match="Video 0 has label 7"):
        evaluate(model, make_processor(), [dataclasses.replace(videos[0], label=7)], labels)


def _evaluate_on(rank: int, world_size: int, port: int, videos, labels, queue) -> None:
    os.environ |= {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{world_size}"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}", "ACCELERATE_USE_CPU": "true"}
    torch.set_num_threads(1)
    model = small_model("slowonly")
    num_run = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: num_run.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    result = evaluate(model, make_processor(), videos, labels, progress=False)
    queue.put((rank, sum(num_run), result.scores.tolist(), list(result.unreadable)))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("world_size", [2, 3])
def test_several_processes_score_each_video_once(world_size, videos, labels, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    all_videos = [*videos, dataclasses.replace(videos[1], id="broken", path=broken)]
    expected: Evaluation = evaluate(small_model("slowonly"), make_processor(), all_videos, labels, progress=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["finegym.evaluation.protocol"])
    queue = context.SimpleQueue()
    arguments = (world_size, port, all_videos, labels, queue)
    multiprocessing.start_processes(_evaluate_on, args=arguments, nprocs=world_size, start_method="forkserver")
    results = sorted(queue.get() for _ in range(world_size))
    assert sum(num_run for _, num_run, _, _ in results) == 29
    for _, _, scores, unreadable in results:
        torch.testing.assert_close(torch.tensor(scores), expected.scores, rtol=0, atol=1e-6)
        assert unreadable == ["broken"]


@pytest.mark.parametrize(("num_classes", "top5"), [(3, None), (5, None), (6, 50.0)])
def test_five_of_five_classes_are_no_achievement(num_classes, top5):
    """The true classes are ranked first and last."""
    classes = [ActionClass(number, f"c{number}", f"c{number}") for number in range(num_classes)]
    scores = torch.arange(num_classes, 0, -1).expand(2, -1).float().softmax(-1)
    metrics = measure(scores, torch.tensor([0, num_classes - 1]), Labels("some", classes, []))
    assert metrics.get("top5") == top5 and metrics["top1"] == 50.0
