"""The video-classification pipeline: the paper's protocol, with the interface that Transformers' own pipeline has."""

import http.server
import inspect
import json
import logging
import re
import socket
import tempfile
import threading
from functools import partial

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from torch.utils.data import Dataset
from transformers import VideoClassificationPipeline, pipeline

from modeling_finegym import FineGymPipeline, FineGymVideoProcessor
from modeling_finegym.clip_sampling import sample_clips
from modeling_finegym.video_decoding import open_video
from tests.environments.bare import BareEnvironment
from tests.footage import moving_square
from tests.small import FAMILIES, LABELS, small_model


SIZES = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}


def make_pipeline(family: str = "slowonly", **options) -> FineGymPipeline:
    processor = FineGymVideoProcessor(num_frames=8, frame_interval=2, **SIZES)
    return FineGymPipeline(
        model=small_model(family), video_processor=processor, task="video-classification", device="cpu", **options
    )


@pytest.fixture(scope="module")
def classify() -> FineGymPipeline:
    return make_pipeline()


def as_dict(answer: list[dict]) -> dict[str, float]:
    return {entry["label"]: entry["score"] for entry in answer}


def by_hand(model, processor, frames: np.ndarray, num_clips: int = 8) -> dict[str, float]:
    """Run every clip by itself, even identical ones, and take the plain mean of their softmax."""
    spacing = (len(frames) - 16 + 1) / num_clips
    total = torch.zeros(len(LABELS))
    for number in range(num_clips):
        first = int(number * spacing + spacing / 2) if spacing > 0 else 0
        indices = [(first + 2 * position) % len(frames) for position in range(8)]
        clip = processor.preprocess_frames(torch.from_numpy(frames[indices]))
        with torch.no_grad():
            total += model(pixel_values=clip[None]).logits[0].softmax(-1) / num_clips
    return {LABELS[label]: score for label, score in enumerate(total.tolist())}


@pytest.mark.parametrize("num_frames", [3, 15, 16, 17, 40, 200])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_papers_protocol_is_the_default(family, num_frames):
    classify, frames = make_pipeline(family), moving_square(num_frames)
    expected = by_hand(classify.model, classify.video_processor, frames)
    assert as_dict(classify(frames)) == pytest.approx(expected, abs=1e-6)


def test_number_of_clips_and_of_classes(classify):
    frames = moving_square(60)
    expected = by_hand(classify.model, classify.video_processor, frames, num_clips=3)
    assert as_dict(classify(frames, num_clips=3)) == pytest.approx(expected, abs=1e-6)
    [best] = classify(frames, num_clips=3, top_k=1)
    assert best["label"] == max(expected, key=expected.get)
    assert len(classify(frames, top_k=99)) == len(LABELS)
    ordered = [entry["score"] for entry in classify(frames)]
    assert ordered == sorted(ordered, reverse=True)
    defaults = make_pipeline(top_k=1, num_clips=3)
    assert defaults(frames) == [best]


def test_scores_of_each_clip(classify):
    frames = moving_square(20)
    answer = classify(frames, return_clip_scores=True)
    clips, weights = sample_clips(20, clip_len=8, frame_interval=2, num_clips=8)
    assert [clip["weight"] for clip in answer["clips"]] == pytest.approx(weights)
    assert len(clips) < 8, "short videos have fewer distinct clips"
    for label in LABELS.values():
        mean = sum(clip["weight"] * as_dict(clip["scores"])[label] for clip in answer["clips"])
        assert as_dict(answer["scores"])[label] == pytest.approx(mean, abs=1e-6)


def test_a_file_and_a_part_of_it(classify, video_path):
    with open_video(video_path) as video:
        frames = video.frames(list(range(video.num_frames))).numpy()
    assert as_dict(classify(str(video_path))) == pytest.approx(as_dict(classify(frames)), abs=1e-6)
    part = classify(str(video_path), start=0.4, end=1.2)  # at 25 frames per second
    assert as_dict(part) == pytest.approx(as_dict(classify(frames[10:30])), abs=1e-6)


def test_lists_datasets_and_generators(classify, video_path):
    videos = [str(video_path), moving_square(5), moving_square(33), str(video_path)]
    alone = [as_dict(classify(video)) for video in videos]

    class Videos(Dataset):
        def __len__(self):
            return len(videos)

        def __getitem__(self, index):
            return videos[index]

    ways = {
        "list": classify(videos),
        "batch of one": classify(videos, batch_size=1),
        "batch of many": classify(videos, batch_size=64),
        "dataset": list(classify(Videos())),
        "workers": list(classify(Videos(), num_workers=2)),
        "generator": list(classify(video for video in videos)),
    }
    for way, answers in ways.items():
        for answer, expected in zip(answers, alone, strict=True):
            assert as_dict(answer) == pytest.approx(expected, abs=1e-6), way


@pytest.fixture
def web(tmp_path, monkeypatch):
    """Serve files on this machine, and permit access to the server."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *arguments: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_addresses(classify, web, tmp_path, video_path):
    (tmp_path / "clip.mp4").write_bytes(video_path.read_bytes())
    (tmp_path / "page.mp4").write_text("<html>not found, but 200</html>")
    assert classify([f"{web}/clip.mp4", str(video_path)]) == [classify(str(video_path))] * 2
    with pytest.raises(ValueError, match=f"{web}/missing.mp4 answered 404"):
        classify(f"{web}/missing.mp4")
    with pytest.raises(ValueError, match=f"{web}/page.mp4 is not a readable video") as caught:
        classify(f"{web}/page.mp4")
    assert tempfile.gettempdir() not in str(caught.value)


def test_an_address_that_does_not_answer_is_given_up(classify, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("modeling_finegym.pipeline_finegym.DOWNLOAD_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ValueError, match="cannot be downloaded"):
        classify(f"http://127.0.0.1:{silent.getsockname()[1]}/clip.mp4")


def test_mistakes(classify, tmp_path, video_path):
    with pytest.raises(FileNotFoundError, match="nowhere.mp4"):
        classify(str(tmp_path / "nowhere.mp4"))
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match="broken.mp4"):
        classify(str(tmp_path / "broken.mp4"))
    for name in ("top_k", "num_clips"):
        with pytest.raises(ValueError, match=f"`{name}` must be at least 1"):
            classify(str(video_path), **{name: 0})
    with pytest.raises(ValueError, match="no frame between 99"):
        classify(str(video_path), start=99.0)
    with pytest.raises(ValueError, match="start and end"):
        classify(moving_square(5), start=0.1)
    with pytest.raises(ValueError, match="uint8"):
        classify(moving_square(5).astype(np.float32))
    with pytest.raises(ValueError, match="video_processor"):
        FineGymPipeline(model=classify.model, task="video-classification", device="cpu")


def test_nothing_is_logged(tmp_path, caplog, video_path):
    """Transformers calls every model that is not built in "not supported", and logs that as an error."""
    make_pipeline().model.save_pretrained(tmp_path)
    FineGymVideoProcessor(num_frames=8, frame_interval=2, **SIZES).save_pretrained(tmp_path)
    transformers_logger = logging.getLogger("transformers")
    transformers_logger.addHandler(caplog.handler)
    try:
        classify = pipeline("video-classification", model=str(tmp_path), trust_remote_code=True, device="cpu")
        classify([str(video_path)] * 12)
    finally:
        transformers_logger.removeHandler(caplog.handler)
    assert type(classify).__name__ == "FineGymPipeline"
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert as_dict(classify(str(video_path))) == pytest.approx(as_dict(make_pipeline()(str(video_path))), abs=1e-6)


WITHOUT_DECODERS = """
import importlib.util, json, sys, numpy
from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification, AutoVideoProcessor, pipeline
for name in ("av", "torchvision", "torchcodec", "PIL", "finegym", "modeling_finegym"):
    assert importlib.util.find_spec(name) is None, name
for auto in (AutoConfig, AutoModel, AutoModelForVideoClassification):
    auto.from_pretrained(sys.argv[1], trust_remote_code=True)
classify = pipeline("video-classification", model=sys.argv[1], trust_remote_code=True, device="cpu")
print(json.dumps(classify(numpy.load(sys.argv[2]))))
try:
    classify(sys.argv[3])
except ImportError as error:
    print("ImportError:", error)
try:
    AutoVideoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
except ImportError as error:
    print("AutoVideoProcessor:", " ".join(str(error).split()))
"""


def test_with_torch_transformers_and_numpy_alone_arrays_work_and_files_name_the_remedy(tmp_path, video_path):
    make_pipeline().model.save_pretrained(tmp_path / "checkpoint")
    FineGymVideoProcessor(num_frames=8, frame_interval=2, **SIZES).save_pretrained(tmp_path / "checkpoint")
    np.save(tmp_path / "frames.npy", moving_square(40))
    bare = BareEnvironment(tmp_path, "torch", "transformers", "numpy")
    result = bare.run("-c", WITHOUT_DECODERS, tmp_path / "checkpoint", tmp_path / "frames.npy", video_path)
    assert result.returncode == 0, result.stderr[-3000:]
    answer, message, refused = result.stdout.splitlines()
    assert as_dict(json.loads(answer)) == pytest.approx(as_dict(make_pipeline()(moving_square(40))), abs=1e-6)
    assert re.match("ImportError: .*`pip install (-U )?av`", message)
    # Transformers' own requirement; test_remote_code.py has what the README says to install for it
    assert refused.startswith("AutoVideoProcessor: ") and "orchvision" in refused


def test_arguments_of_the_stock_pipeline_are_understood_or_refused_by_a_sentence(classify):
    video = moving_square(40)
    plain = classify(video)
    assert classify(video, function_to_apply="softmax", num_frames=8, frame_sampling_rate=2) == plain
    refused = {
        "function_to_apply": ("sigmoid", r"mean of the clips' softmax.*`model\(\*\*processor\(video\)\).logits`"),
        "num_frames": (16, r"clips of 8 frames, not num_frames=16.*`num_clips`"),
        "frame_sampling_rate": (1, r"every frame in 2 of a video.*`frame_interval`.*`start` and `end`"),
    }
    for name, (value, message) in refused.items():
        with pytest.raises(ValueError, match=message):
            classify(video, **{name: value})
    # the names are those of the installed Transformers: nothing of the stock task raises TypeError here
    stock = inspect.signature(VideoClassificationPipeline._sanitize_parameters).parameters
    assert set(stock) <= set(inspect.signature(FineGymPipeline._sanitize_parameters).parameters)
