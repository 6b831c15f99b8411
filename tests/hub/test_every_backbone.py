"""Every type of backbone goes the whole way: import, cache, train, evaluate, publish, load where only the Hub is."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi, constants

from finegym.data.index import read_coverage, read_index
from finegym.data.video_writing import write_video
from finegym.evaluation.evaluate import Protocol, evaluate_checkpoints
from finegym.hub.publish import build_folder, commit_message, publish
from finegym.hub.sending import send
from finegym.preparation.cutting import Encoding
from finegym.preparation.own_data import import_videos
from finegym.training.loop import train
from finegym.training.recipe_parsing import parse_recipe
from tests.environments.bare import BareEnvironment
from tests.footage import encode, mark_rotated, moving_square
from tests.foreign import BACKBONES, write_foreign
from tests.hub.loopback_hub import LoopbackHub
from tests.training.tiny import write_recipe


# One of these for each type in turn, others than test_any_backbone.py has for it.
READINGS = [
    {"spatial_grid_size": "all", "num_pooling_queries": 1, "num_pooled_parts": 2},
    {},
    {"spatial_grid_size": 2, "standardize_features": True},
]
# What somebody does who has torch, transformers, av, torchvision and the name of a repository.
ELSEWHERE = """
import importlib.util, json, sys
from transformers import pipeline
assert not importlib.util.find_spec("finegym") and not importlib.util.find_spec("modeling_finegym")
answers = {}
for repository, videos in json.loads(open(sys.argv[1]).read()).items():
    classify = pipeline("video-classification", model=repository, trust_remote_code=True, device="cpu")
    found = [classify(video, top_k=2, num_clips=2) for video in videos]
    answers[repository] = [{answer["label"]: answer["score"] for answer in one} for one in found]
open(sys.argv[2], "w").write(json.dumps(answers))
"""


@dataclass(frozen=True)
class Journey:
    """What one type of backbone left: its run, and the prepared folder that it was trained on."""

    run: Path
    root: Path

    @property
    def repository(self) -> str:
        return f"someone/{self.run.name}"

    def videos(self) -> list[str]:
        return [str(video.path) for video in read_index(self.root, "val")]

    def scores(self) -> np.ndarray:
        """The scores (N, C) of the validation videos, as the evaluation wrote them."""
        table = pq.read_table(self.run / "scores.parquet").to_pydict()
        assert table["id"] == [video.id for video in read_index(self.root, "val")]
        return np.array(table["scores"])


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Two classes of videos of other sizes, lengths and frame rates; one is filmed on its side, one is cut off."""
    folder = tmp_path_factory.mktemp("my videos")
    for number in range(12):
        length, fps = 6 + 3 * number, (25, 15, 50)[number % 3]
        height, width = ((48, 64), (64, 36), (50, 70))[number // 2 % 3]
        frames = moving_square(length, height, width)
        name = "left to right" if number % 2 else "right to left"
        split = "train" if number < 8 else "validation"
        path = folder / split / name / f"{number}.{'mkv' if number == 3 else 'mp4'}"
        write_video(path.with_suffix(".mp4"), frames if number % 2 else frames[:, :, ::-1], fps=fps)
        path.with_suffix(".mp4").rename(path)
    mark_rotated(folder / "train" / "left to right" / "1.mp4")
    encode(
        folder / "validation" / "left to right" / "vp9.webm", moving_square(9), np.arange(9) / 9, codec="libvpx-vp9"
    )
    cut = folder / "train" / "right to left" / "6.mp4"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    return folder


@pytest.fixture(scope="module")
def hub():
    with pytest.MonkeyPatch.context() as patch, LoopbackHub() as server:
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield server


def travel(model_type: str, source: Path, folder: Path) -> Journey:
    """Import, cache, train and evaluate."""
    journey = Journey(folder / model_type, folder / f"{model_type} data")
    options = {"license": "cc-by-4.0", "num_workers": 0, "max_lost_share": 0.1}
    report = import_videos(str(source), journey.root, encoding=Encoding(36), **options)
    assert "LOST 1 of 13 videos" in report
    assert [*read_coverage(journey.root, "train").missing] == ["train/right to left/6"]
    backbone = write_foreign(folder / f"{model_type} backbone", model_type)
    reading = READINGS[list(BACKBONES).index(model_type) % len(READINGS)]
    paths = {"root": journey.root, "output_dir": journey.run, "backbone": backbone}
    path = write_recipe(folder / f"{model_type}.yaml", "vision", **paths)
    options = [text for name, value in reading.items() for text in (f"--model.config.{name}", str(value))]
    train(parse_recipe(["--config", str(path), *options]))
    table = evaluate_checkpoints([str(journey.run)], Protocol(journey.root, num_clips=2))
    assert model_type in table
    return journey


def test_the_whole_way_to_the_hub(source, hub, tmp_path):
    """Where it is loaded in a process that cannot import this project before it is sent."""
    journey = travel("vjepa2", source, tmp_path)
    publish(journey.run, journey.repository, api=HfApi(endpoint=hub.url, token=hub.token), say=lambda line: None)
    sent = hub.files(journey.repository)
    assert sent["model.safetensors"] == (journey.run / "model.safetensors").read_bytes()
    assert json.loads(sent["config.json"])["vision_config"]["model_type"] == "vjepa2"
    assert b"license: cc-by-4.0" in sent["README.md"] and b"timm" not in sent["requirements.txt"]


@pytest.fixture(scope="module")
def journeys(source, hub, tmp_path_factory) -> dict[str, Journey]:
    """All types on the Hub, without the process in which `publish` loads each first: `elsewhere` loads them all."""
    folder, found = tmp_path_factory.mktemp("all types"), {}
    for model_type in BACKBONES:
        journey = found[model_type] = travel(model_type, source, folder)
        built = folder / f"{model_type} built"
        built.mkdir()
        build = build_folder(journey.run, built, journey.repository)
        api = HfApi(endpoint=hub.url, token=hub.token)
        send(built, build.files, journey.repository, message=commit_message(build), api=api)
    return found


@pytest.fixture(scope="module")
def elsewhere(journeys, hub, tmp_path_factory) -> dict[str, list[dict[str, float]]]:
    """What the pipeline says in one process that has the Hub, and no file of this project."""
    environment = BareEnvironment(
        tmp_path_factory.mktemp("elsewhere"), "torch", "torchvision", "transformers", "av", "timm"
    )
    questions, answers = environment.folder / "questions.json", environment.folder / "answers.json"
    questions.write_text(json.dumps({one.repository: one.videos() for one in journeys.values()}))
    variables = {**hub.environment(environment.folder / "home"), "HF_HUB_OFFLINE": "0"}
    result = environment.run("-c", ELSEWHERE, questions, answers, **variables)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(answers.read_text())


@pytest.mark.slow
def test_a_backbone_of_timm_says_that_it_needs_timm(journeys, hub):
    sent = hub.files(journeys["timm_wrapper"].repository)
    assert "timm" in sent["requirements.txt"].decode().split()
    assert b"torch torchvision av timm\n" in sent["README.md"]


@pytest.mark.slow
@pytest.mark.parametrize("model_type", BACKBONES)
def test_every_type_says_elsewhere_what_was_evaluated(model_type, journeys, elsewhere):
    journey, answers = journeys[model_type], elsewhere[f"someone/{model_type}"]
    names = json.loads((journey.run / "config.json").read_text())["id2label"]
    found = np.array([[answer[names[str(label)]] for label in range(2)] for answer in answers])
    np.testing.assert_allclose(found, journey.scores(), rtol=1e-4, atol=1e-5)
