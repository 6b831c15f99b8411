"""The feature cache: what it holds, when it is reused, and what happens to it when things go wrong."""

import os
import resource
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from torch import multiprocessing
from torch.utils.data import DataLoader

from finegym.data.dataset import ClipDataset
from finegym.data.index import Video
from finegym.data.transforms import augment
from finegym.data.video_writing import write_video
from finegym.features.cache import build_features, extract_features
from finegym.features.views import EvaluationViews, TrainingViews
from modeling_finegym import (
    FineGymVideoProcessor,
    FineGymVisionConfig,
    FineGymVisionForVideoClassification,
    SlowOnlyConfig,
    SlowOnlyForVideoClassification,
)


LENGTHS = (5, 9, 20, 31, 44)
TRANSFORM = {"short_side": 20, "crop_size": 16, "scale": (0.5, 1.0), "ratio": (0.75, 1.25), "flip": 0.5}


def make_model(seed: int = 0) -> SlowOnlyForVideoClassification:
    torch.manual_seed(seed)
    config = SlowOnlyConfig(
        num_frames=4,
        image_size=16,
        stem_width=4,
        hidden_sizes=(8, 8),
        depths=(1, 1),
        temporal_kernel_sizes=(1, 3),
        num_labels=3,
    )
    return SlowOnlyForVideoClassification(config).eval()


def make_processor(**changes) -> FineGymVideoProcessor:
    settings = {"size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 16}, "num_frames": 4}
    return FineGymVideoProcessor(**{**settings, "frame_interval": 2, **changes})


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[Video]:
    folder = tmp_path_factory.mktemp("videos")
    generator = np.random.default_rng(0)
    made = []
    for number, length in enumerate(LENGTHS):
        coarse = generator.integers(0, 256, size=(length, 6, 8, 3), dtype=np.uint8)
        path = folder / f"{number}.mp4"
        write_video(path, coarse.repeat(4, axis=1).repeat(4, axis=2), fps=25)
        made.append(Video(f"video {number}", path, number % 3, length))
    return made


@pytest.fixture
def own_videos(videos, tmp_path) -> list[Video]:
    """Copy the videos to files that a test may change."""
    folder = tmp_path / "videos"
    folder.mkdir()
    return [Video(video.id, Path(shutil.copy(video.path, folder)), video.label, video.num_frames) for video in videos]


class Counted:
    """A model's `get_video_features` that counts the clips it receives."""

    def __init__(self, model):
        self.num_clips = 0
        self.function = model.get_video_features
        model.get_video_features = self

    def __call__(self, pixel_values):
        self.num_clips += len(pixel_values)
        return self.function(pixel_values)


def training_views(videos, *, num_views, seed=0):
    dataset = ClipDataset(videos, seed=seed, clip_len=4, frame_interval=2, transform=partial(augment, **TRANSFORM))
    return TrainingViews(dataset, num_views=num_views, transform=TRANSFORM)


quiet = {"progress": False}
# The estimate runs one clip twice.
PROBES = 2


def test_features_are_those_of_the_model(videos, tmp_path):
    model, processor = make_model(), make_processor()
    features = extract_features(
        model, EvaluationViews(processor, videos), tmp_path / "f", dtype="float32", batch_size=3, **quiet
    )
    assert len(features) == len(videos)
    for position, video in enumerate(videos):
        direct = processor.load_clips(video.path)
        with torch.no_grad():
            expected = model.get_video_features(direct.pixel_values)
        torch.testing.assert_close(features[position], expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(features.video_clips(position).weights, direct.weights)


def test_a_second_time_computes_nothing(videos, tmp_path):
    views = EvaluationViews(make_processor(), videos)
    first = build_features(make_model(), views, tmp_path, **quiet)
    model = make_model()
    counted = Counted(model)
    second = build_features(model, views, tmp_path, **quiet)
    assert counted.num_clips == 0
    assert all(torch.equal(first[position], second[position]) for position in range(len(videos)))


def test_training_views_are_the_first_epochs_of_the_dataset(videos, tmp_path):
    model, views = make_model(), training_views(videos, num_views=3)
    features = build_features(model, views, tmp_path, dtype="float32", batch_size=4, **quiet)
    for index in range(len(videos)):
        for view in range(3):
            with torch.no_grad():
                expected = model.get_video_features(views.dataset[view, index]["pixel_values"][None])
            torch.testing.assert_close(features[3 * index + view], expected, rtol=0, atol=1e-6)
    assert not torch.equal(features[0], features[1])


def test_more_views_keep_the_ones_there_are(videos, tmp_path):
    build_features(make_model(), training_views(videos, num_views=2), tmp_path, **quiet)
    model = make_model()
    counted = Counted(model)
    build_features(model, training_views(videos, num_views=3), tmp_path, **quiet)
    assert counted.num_clips == len(videos) + PROBES


def test_packs_clips_of_many_videos_into_full_batches(videos, tmp_path):
    model = make_model()
    batches = []
    function = model.get_video_features
    model.get_video_features = lambda pixel_values: batches.append(len(pixel_values)) or function(pixel_values)
    views = EvaluationViews(make_processor(), videos)
    build_features(model, views, tmp_path, batch_size=6, **quiet)
    assert views.num_distinct_clips == [1, 2, 8, 8, 8]
    assert batches[PROBES:] == [6, 6, 6, 6, 3]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_loses_only_its_last_bits(dtype, videos, tmp_path):
    views = EvaluationViews(make_processor(), videos)
    exact = build_features(make_model(), views, tmp_path, dtype="float32", **quiet)
    half = build_features(make_model(), views, tmp_path, dtype=dtype, **quiet)
    for position in range(len(videos)):
        assert half[position].dtype == getattr(torch, dtype)
        relative = (half[position].float() - exact[position]).abs() / exact[position].abs().clamp(min=1e-4)
        assert relative.max() < {"float16": 2**-10, "bfloat16": 2**-7}[dtype]


def test_features_beyond_float16_are_refused(videos, tmp_path):
    model = make_model()
    function = model.get_video_features
    model.get_video_features = lambda pixel_values: 1e9 * function(pixel_values)
    with pytest.raises(ValueError, match="video . do not fit torch.float16. Use bfloat16"):
        build_features(model, EvaluationViews(make_processor(), videos), tmp_path, **quiet)


def keys_of(model, views, root, **options) -> set[str]:
    return {entry.shard.parent.name for entry in build_features(model, views, root, **options, **quiet).entries}


def test_another_backbone_processor_or_rule_is_another_folder(videos, tmp_path):
    """Every change gives its own features, which are never mistaken for others."""
    model = make_model()
    nudged = make_model()
    with torch.no_grad():
        nudged.slowonly.blocks[1].res_blocks[0].branch2.conv_b.weight.view(-1)[0] += 1e-7
    statistics = make_model()
    statistics.slowonly.blocks[0].norm.running_mean[0] += 1e-7
    eps = make_model()
    eps.slowonly.config.batch_norm_eps = 1e-4
    folders = [
        keys_of(model, EvaluationViews(make_processor(), videos), tmp_path),
        keys_of(nudged, EvaluationViews(make_processor(), videos), tmp_path),
        keys_of(statistics, EvaluationViews(make_processor(), videos), tmp_path),
        keys_of(eps, EvaluationViews(make_processor(), videos), tmp_path),
        keys_of(model, EvaluationViews(make_processor(frame_interval=1), videos), tmp_path),
        keys_of(model, EvaluationViews(make_processor(out_of_range="repeat_last"), videos), tmp_path),
        keys_of(model, EvaluationViews(make_processor(image_std=[0.5, 0.5, 0.5]), videos), tmp_path),
        keys_of(model, EvaluationViews(make_processor(), videos, num_clips=4), tmp_path),
        keys_of(model, EvaluationViews(make_processor(), videos), tmp_path, dtype="bfloat16"),
        keys_of(model, training_views(videos, num_views=1), tmp_path),
        keys_of(model, training_views(videos, num_views=1, seed=1), tmp_path),
    ]
    assert len(set.union(*folders)) == len(folders)


def test_another_decoder_is_another_folder(videos, tmp_path, monkeypatch):
    views = EvaluationViews(make_processor(), videos)
    before = keys_of(make_model(), views, tmp_path)
    monkeypatch.setattr("av.__version__", "0.0.0")
    assert keys_of(make_model(), views, tmp_path).isdisjoint(before)


def test_labels_and_heads_do_not_count(videos, tmp_path):
    """A classifier, and an encoder on its backbone, share one cache."""
    model = make_model()
    config = FineGymVisionConfig(
        vision_config=model.config, hidden_size=8, num_attention_heads=2, intermediate_size=8, num_labels=7
    )
    encoder = FineGymVisionForVideoClassification(config)
    encoder.finegym_vision.backbone.load_state_dict(model.slowonly.state_dict())
    views = EvaluationViews(make_processor(), videos)
    assert keys_of(model, views, tmp_path) == keys_of(encoder, views, tmp_path)


def test_a_changed_file_is_computed_anew(own_videos, tmp_path):
    """Notice even a file with the size and the modification time of the old one."""
    processor = make_processor()
    before = extract_features(make_model(), EvaluationViews(processor, own_videos), tmp_path / "f", **quiet)
    path = own_videos[4].path
    status = path.stat()
    content = bytearray(path.read_bytes())
    changed = np.zeros((44, 24, 32, 3), np.uint8)
    write_video(path, changed, fps=25)
    path.write_bytes(path.read_bytes().ljust(len(content), b"\0")[: len(content)])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    after = extract_features(make_model(), EvaluationViews(processor, own_videos), tmp_path / "f", **quiet)
    assert [torch.equal(before[position], after[position]) for position in range(5)] == [True] * 4 + [False]


def test_unchanged_files_are_not_read_again(own_videos, tmp_path, monkeypatch):
    long_ago = time.time() + 10  # as if the files had been written ten seconds before the first look
    monkeypatch.setattr("finegym.features.fingerprints.time.time", lambda: long_ago)
    views = EvaluationViews(make_processor(), own_videos)
    first = build_features(make_model(), views, tmp_path, **quiet)
    monkeypatch.setattr("finegym.features.fingerprints.file_fingerprint", None)  # calling it fails
    second = build_features(make_model(), views, tmp_path, **quiet)
    assert first.entries == second.entries


def test_a_flipped_bit_is_found_and_only_that_shard_is_computed_again(videos, tmp_path):
    many = [
        Video(f"{copy} {video.id}", video.path, video.label, video.num_frames) for copy in range(8) for video in videos
    ]
    views = EvaluationViews(make_processor(), many)
    first = build_features(make_model(), views, tmp_path, **quiet)
    before = [first[position].clone() for position in range(len(many))]
    shards = sorted({entry.shard for entry in first.entries})
    assert len(shards) == 3
    damaged = bytearray(shards[1].read_bytes())
    damaged[-100] ^= 1
    shards[1].write_bytes(damaged)
    lost = [position for position, entry in enumerate(first.entries) if entry.shard == shards[1]]
    model = make_model()
    counted = Counted(model)
    with pytest.warns(UserWarning, match=f"{shards[1].name} is damaged"):
        second = build_features(model, views, tmp_path, **quiet)
    assert counted.num_clips == PROBES + sum(views.num_distinct_clips[position] for position in lost)
    assert all(torch.equal(before[position], second[position]) for position in range(len(many)))


def test_a_truncated_shard_is_computed_again(videos, tmp_path):
    views = EvaluationViews(make_processor(), videos)
    first = build_features(make_model(), views, tmp_path, **quiet)
    before = [first[position].clone() for position in range(len(videos))]
    shard = first.entries[0].shard
    content = shard.read_bytes()
    shard.unlink()  # a new file, because the old one is still mapped
    shard.write_bytes(content[: len(content) // 2])
    with pytest.warns(UserWarning, match="damaged"):
        second = build_features(make_model(), views, tmp_path, **quiet)
    assert all(torch.equal(before[position], second[position]) for position in range(len(videos)))


def test_unreadable_videos_have_a_reason_and_are_not_tried_again(own_videos, tmp_path):
    own_videos[1].path.write_bytes(b"not a video")
    views = EvaluationViews(make_processor(), own_videos)
    features = build_features(make_model(), views, tmp_path, **quiet)
    assert list(features.failed) == ["video 1"] and "not a readable video" in features.failed["video 1"]
    with pytest.raises(KeyError, match="video 1 has no features"):
        features[1]
    assert features[2].shape == (8, 4, 8)
    model = make_model()
    counted = Counted(model)
    assert build_features(model, views, tmp_path, **quiet).failed == features.failed
    assert counted.num_clips == 0


def test_a_missing_video_is_named(videos, tmp_path):
    gone = [*videos, Video("gone", tmp_path / "gone.mp4", 0, 10)]
    with pytest.raises(FileNotFoundError, match="gone.mp4"):
        build_features(make_model(), EvaluationViews(make_processor(), gone), tmp_path, **quiet)


def test_a_folder_of_other_features_is_refused(videos, tmp_path):
    extract_features(make_model(), EvaluationViews(make_processor(), videos), tmp_path / "f", **quiet)
    with pytest.raises(ValueError, match="another backbone"):
        extract_features(make_model(1), EvaluationViews(make_processor(), videos), tmp_path / "f", **quiet)


def test_a_shard_is_plain_safetensors_with_an_index(videos, tmp_path):
    features = build_features(make_model(), EvaluationViews(make_processor(), videos), tmp_path, **quiet)
    index = pq.read_table(features.folder / "index.parquet").to_pylist()
    assert [row["name"] for row in index] == [video.id for video in videos]
    for position, row in enumerate(index):
        with safe_open(features.folder / row["shard"], framework="pt") as shard:
            assert torch.equal(shard.get_tensor(row["name"]), features[position])
        assert row["weights"] == pytest.approx(features.video_clips(position).weights.tolist())


def test_features_travel_to_worker_processes(videos, tmp_path):
    features = build_features(make_model(), EvaluationViews(make_processor(), videos), tmp_path, **quiet)
    expected = [features[position] for position in range(len(videos))]  # so the shards are open
    loader = DataLoader(features, batch_size=None, num_workers=1, multiprocessing_context=context())
    assert all(torch.equal(*pair) for pair in zip(loader, expected, strict=True))


def test_the_disk_must_have_room(videos, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("finegym.features.cache.shutil.disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(ValueError, match="The features take 0.000 GB, .* has room for 0.000 GB"):
        build_features(make_model(), EvaluationViews(make_processor(), videos), tmp_path, **quiet)
    assert not list(tmp_path.glob("*/*.safetensors"))


def context():
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(["finegym.evaluation.protocol"])
    return forkserver


def copies(videos, count) -> list[Video]:
    return [
        Video(f"{n} {video.id}", video.path, video.label, video.num_frames) for n in range(count) for video in videos
    ]


def _extract(videos, folder, log, seconds_per_batch=0.0) -> None:
    """Start a process that fills `folder` and records, a byte per clip, how many clips its backbone has run."""
    torch.set_num_threads(1)
    model = make_model()
    function = model.get_video_features

    def get_video_features(pixel_values):
        with open(log, "ab") as file:
            file.write(b"." * len(pixel_values))
        time.sleep(seconds_per_batch)
        return function(pixel_values)

    model.get_video_features = get_video_features
    extract_features(model, EvaluationViews(make_processor(), videos), folder, **quiet)


def test_two_processes_at_once_do_no_clip_twice(videos, tmp_path):
    many = copies(videos, 16)
    expected = extract_features(make_model(), EvaluationViews(make_processor(), many), tmp_path / "alone", **quiet)
    logs = [tmp_path / "0.log", tmp_path / "1.log"]
    processes = [context().Process(target=_extract, args=(many, tmp_path / "f", log, 0.05)) for log in logs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    num_run = [log.stat().st_size for log in logs]
    assert min(num_run) > PROBES, "one process did everything"
    assert sum(num_run) <= 2 * PROBES + sum(EvaluationViews(make_processor(), many).num_distinct_clips)
    model = make_model()
    counted = Counted(model)
    result = extract_features(model, EvaluationViews(make_processor(), many), tmp_path / "f", **quiet)
    assert counted.num_clips == 0
    assert all(torch.equal(result[position], expected[position]) for position in range(len(many)))
    assert not list((tmp_path / "f").glob(".*")), "locks or partial files are left"


@pytest.mark.parametrize("seconds", [0.2, 0.5, 0.8])
def test_killed_while_working(seconds, videos, tmp_path):
    """Whenever the kill comes, the next run ends with the right features and repeats no finished shard."""
    many = copies(videos, 16)
    views = EvaluationViews(make_processor(), many)
    expected = extract_features(make_model(), views, tmp_path / "alone", **quiet)
    log = tmp_path / "log"
    process = context().Process(target=_extract, args=(many, tmp_path / "f", log, 0.02))
    process.start()
    while not log.exists():
        time.sleep(0.01)
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    finished = {path.name for path in (tmp_path / "f").glob("features-*")}
    model = make_model()
    counted = Counted(model)
    result = extract_features(model, views, tmp_path / "f", **quiet)
    assert finished <= {path.name for path in (tmp_path / "f").glob("features-*")}
    num_done = sum(
        len(result[position]) for position in range(len(many)) if result.entries[position].shard.name in finished
    )
    assert counted.num_clips == PROBES + sum(views.num_distinct_clips) - num_done
    assert all(torch.equal(result[position], expected[position]) for position in range(len(many)))


def test_killed_while_writing(videos, tmp_path, monkeypatch):
    """Half a shard under its temporary name is not a shard, and the next run removes it."""
    views = EvaluationViews(make_processor(), videos)
    expected = extract_features(make_model(), views, tmp_path / "alone", **quiet)
    folder = tmp_path / "f"
    folder.mkdir()
    shard = expected.entries[0].shard
    leftover = folder / f".{shard.name}.12345.partial"
    leftover.write_bytes(shard.read_bytes()[:100])
    (folder / f".{shard.name.split('-')[1]}.lock").touch()
    result = extract_features(make_model(), views, folder, **quiet)
    assert all(torch.equal(result[position], expected[position]) for position in range(len(videos)))
    assert not list(folder.glob(".*"))


def _extract_with_little_room(videos, folder, num_bytes, outcome) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))
    try:
        _extract(videos, folder, os.devnull)
    except OSError as error:
        outcome.put(str(error))


def test_a_full_disk_loses_nothing_and_says_so(videos, tmp_path):
    """The first shards are smaller than the limit on a file's size, a later one is not: its write fails halfway."""
    few, many = videos[:3], copies(videos, 3)
    views = EvaluationViews(make_processor(), [*few, *many])
    extract_features(make_model(), EvaluationViews(make_processor(), few), tmp_path / "f", **quiet)
    before = {path: path.read_bytes() for path in (tmp_path / "f").glob("features-*")}
    outcome = context().SimpleQueue()
    arguments = ([*few, *many], tmp_path / "f", 2000, outcome)
    process = context().Process(target=_extract_with_little_room, args=arguments)
    process.start()
    message = outcome.get()
    process.join()
    assert "no room left" in message and "3 of 18 videos are complete" in message
    assert {path: path.read_bytes() for path in (tmp_path / "f").glob("features-*")} == before
    model = make_model()
    counted = Counted(model)
    result = extract_features(model, views, tmp_path / "f", **quiet)
    assert len(result) == 18 and not result.failed
    assert counted.num_clips == PROBES + sum(views.num_distinct_clips) - sum(views.num_distinct_clips[:3])
