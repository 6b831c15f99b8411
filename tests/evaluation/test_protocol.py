"""The protocol against the naive loop over eight clips, on one process and on several, with features and without."""

import dataclasses
import os
import socket

import pytest
import torch
from torch import multiprocessing

from finegym.data.index import Clip, Coverage
from finegym.data.labels import ActionClass, Labels
from finegym.data.video_writing import write_video
from finegym.evaluation.metrics import mean_class_accuracy, top_k_accuracy
from finegym.evaluation.protocol import Evaluation, evaluate
from finegym.features.cache import EvaluationViews, build_features
from modeling_finegym import FineGymVideoProcessor
from modeling_finegym.clip_sampling import clip_indices
from modeling_finegym.video_decoding import open_video
from tests.conftest import LABELS, moving_square, small_model


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
def clips(tmp_path_factory) -> list[Clip]:
    folder = tmp_path_factory.mktemp("videos")
    clips = [Clip(f"{number}", folder / f"{number}.mp4", number % 3, length) for number, length in enumerate(LENGTHS)]
    for clip in clips:
        write_video(clip.path, moving_square(clip.num_frames), fps=25)
    # The second half of one file, as an index over whole routines names it.
    return [*clips, Clip("part", clips[5].path, 1, 30, start=30 / 25, end=60 / 25)]


def naive_scores(model, processor, clips) -> torch.Tensor:
    """Eight clips by mmaction2's rule, equal or not, each read and run alone, and the plain mean of their softmax."""
    scores = []
    for clip in clips:
        with open_video(clip.path) as video:
            first, stop = video.index_range(clip.start, clip.end)
            spare = (stop - first - 16 + 1) / 8
            probabilities = []
            for window in range(8):
                offset = int(window * spare + spare / 2) if spare > 0 else 0
                indices = clip_indices(offset, stop - first, 8, 2, "loop")
                frames = processor.preprocess_frames(video.frames([first + index for index in indices]))
                with torch.no_grad():
                    probabilities.append(model(frames[None]).logits.softmax(-1)[0])
        scores.append(torch.stack(probabilities).mean(0))
    return torch.stack(scores)


@pytest.mark.parametrize("family", ["slowonly", "video_text"])
@pytest.mark.parametrize("batch_size, num_workers", [(1, 0), (5, 0), (64, 2)])
def test_equals_the_naive_loop(family, batch_size, num_workers, clips, labels):
    model, processor = small_model(family), make_processor()
    result = evaluate(model, processor, clips, labels, batch_size=batch_size, num_workers=num_workers, progress=False)
    expected = naive_scores(model, processor, clips)
    torch.testing.assert_close(result.scores, expected, rtol=0, atol=1e-6)
    assert result.labels.tolist() == [clip.label for clip in clips]
    assert result.clip_ids == [clip.id for clip in clips]
    assert result.metrics["top1"] == top_k_accuracy(expected, result.labels)
    assert result.metrics["mean_class_accuracy"] == mean_class_accuracy(expected, result.labels)
    assert set(result.metrics["per_event"]) == {"FX", "BB"} and set(result.metrics["per_class"]) == set(
        LABELS.values()
    )


def test_clip_scores_make_up_the_scores(clips, labels):
    result = evaluate(small_model("vision"), make_processor(), clips, labels, progress=False)
    assert result.clip_scores.shape == (len(clips), 8, 3)
    torch.testing.assert_close((result.weights[..., None] * result.clip_scores).sum(1), result.scores)
    num_distinct = (result.weights > 0).sum(1)
    assert num_distinct.tolist() == [1, 1, 1, 2, 7, 8, 1, 8]
    assert (result.clip_scores.sum(-1) > 0).equal(result.weights > 0)


def test_runs_each_distinct_clip_once_in_full_batches(clips, labels):
    model = small_model("slowonly")
    batches = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: batches.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    evaluate(model, make_processor(), clips, labels, batch_size=4, progress=False)
    assert batches == [4] * 7 + [1]  # 29 distinct clips instead of 64


def test_features_give_the_same_scores(clips, labels, tmp_path):
    model, processor = small_model("vision"), make_processor()
    features = build_features(model, EvaluationViews(processor, clips), tmp_path, dtype="float32", progress=False)
    expected = evaluate(model, processor, clips, labels, progress=False)
    result = evaluate(model, processor, clips, labels, features=features, progress=False)
    torch.testing.assert_close(result.scores, expected.scores, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="not those of these clips"):
        evaluate(model, processor, clips[1:], labels, features=features, progress=False)


def test_training_mode_is_given_back(clips, labels):
    model = small_model("vision").train()
    first = evaluate(model, make_processor(), clips[:3], labels, progress=False)
    assert model.training and not model.base_model.backbone.blocks[0].training
    torch.testing.assert_close(
        first.scores, evaluate(model.eval(), make_processor(), clips[:3], labels, progress=False).scores
    )


def test_unreadable_videos_are_counted_and_listed(clips, labels, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    all_clips = [clips[0], dataclasses.replace(clips[1], id="broken", path=broken), clips[2]]
    coverage = Coverage(num_expected=9, num_present=3, missing={}, annotation_version="v1.0", empty_classes=[])
    model, processor = small_model("vision"), make_processor()
    for features in (
        None,
        build_features(model, EvaluationViews(processor, all_clips), tmp_path / "f", progress=False),
    ):
        result = evaluate(model, processor, all_clips, labels, features=features, coverage=coverage, progress=False)
        assert result.clip_ids == [clips[0].id, clips[2].id] and len(result.scores) == 2
        assert list(result.unreadable) == ["broken"] and str(broken) in result.unreadable["broken"]
        assert (result.metrics["num_evaluated"], result.metrics["num_expected"]) == (2, 9)
        assert result.metrics["annotation_version"] == "v1.0"
    with pytest.raises(ValueError, match="None of the 1 videos"):
        evaluate(model, processor, all_clips[1:2], labels, progress=False)


def test_wrong_labels_are_named(clips, labels):
    model = small_model("slowonly")
    fewer = Labels("fewer", labels.classes[:2], [])
    with pytest.raises(ValueError, match="3 classes apart and fewer has 2"):
        evaluate(model, make_processor(), clips, fewer)
    with pytest.raises(ValueError, match="Clip 0 has label 7"):
        evaluate(model, make_processor(), [dataclasses.replace(clips[0], label=7)], labels)


def _evaluate_on(rank: int, world_size: int, port: int, clips, labels, queue) -> None:
    os.environ |= {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{world_size}"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}", "ACCELERATE_USE_CPU": "true"}
    torch.set_num_threads(1)
    model = small_model("slowonly")
    num_run = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: num_run.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    result = evaluate(model, make_processor(), clips, labels, progress=False)
    queue.put((rank, sum(num_run), result.scores.tolist(), list(result.unreadable)))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("world_size", [2, 3])
def test_several_processes_score_each_video_once(world_size, clips, labels, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    all_clips = [*clips, dataclasses.replace(clips[1], id="broken", path=broken)]
    expected: Evaluation = evaluate(small_model("slowonly"), make_processor(), all_clips, labels, progress=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["finegym.evaluation.protocol"])
    queue = context.SimpleQueue()
    arguments = (world_size, port, all_clips, labels, queue)
    multiprocessing.start_processes(_evaluate_on, args=arguments, nprocs=world_size, start_method="forkserver")
    results = sorted(queue.get() for _ in range(world_size))
    assert sum(num_run for _, num_run, _, _ in results) == 29
    for _, _, scores, unreadable in results:
        torch.testing.assert_close(torch.tensor(scores), expected.scores, rtol=0, atol=1e-6)
        assert unreadable == ["broken"]
