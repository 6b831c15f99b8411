"""The readers of what training writes and people share: recipes, checkpoints, states, features and results."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch
from transformers import AutoModelForVideoClassification

from finegym.data.checkpoints import load_config, load_model, load_video_processor
from finegym.data.leakage import datasets_seen_by
from finegym.data.text import read_yaml
from finegym.evaluation.report import read_scores
from finegym.evaluation.table import compare_checkpoints
from finegym.features.fingerprints import fingerprint_files
from finegym.features.shards import Shards
from finegym.hub.checkpoint import Checkpoint
from finegym.hub.foreign_files import read_tensors
from finegym.training.recipe_parsing import parse_recipe
from finegym.training.reporting import read_history
from finegym.training.state import RunState, find_state, load_state, save_state
from finegym.training.sweep import read_variations
from modeling_finegym import FineGymVideoProcessor, FineGymVideoTextConfig
from tests.small import small_model

from .fuzz_mutations import Reader, written


METRICS = {
    "top1": 50.0,
    "mean_class_accuracy": 40.0,
    "num_parameters": 7,
    "num_evaluated": 1,
    "num_expected": 2,
    "dataset": "x",
    "split": "val",
    "trained_on": [{"dataset": "x", "annotation_version": "v1.0"}],
}
RECIPE = {
    "name": "x",
    "output_dir": "out",
    "model": {"architecture": "slowonly"},
    "data": {"root": "data", "scale": [0.1, 1.0]},
    "optimization": {"epochs": 1},
}
PROCESSOR = {"num_frames": 4, "size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}


def _metrics(folder: Path) -> Path:
    (folder / "run").mkdir()
    return written("run/metrics.json", json.dumps(METRICS))(folder)


def _state(mutated: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        tensors = {"model": {"w": torch.zeros(2)}, "optimizer": {"momentum_buffer/w": torch.zeros(2)}}
        return save_state(folder, RunState(3, {"name": "x"}, "h", {"a": "b"}, tensors=tensors), keep=1) / mutated

    return make


def _read_state(folder: Path) -> RunState:
    """Read the state with hashes that fit the mutated file, as an attacker would write them."""
    state = folder / "step_00000003"
    manifest = json.loads((state / "manifest.json").read_text())
    for name in manifest:
        manifest[name] = hashlib.sha256((state / name).read_bytes()).hexdigest()
    (state / "manifest.json").write_text(json.dumps(manifest))
    return load_state(find_state(folder))


def _shard(folder: Path) -> Path:
    videos = {"a": {"key": "k", "weights": [1.0], "reason": None}}
    (folder / "metadata.json").write_text(json.dumps(videos))
    return folder / "metadata.json"


def _read_shard(folder: Path) -> Shards:
    text = (folder / "metadata.json").read_text(encoding="utf-8", errors="replace")
    content = safetensors.torch.save({"a": torch.zeros(1, 4, 8)}, metadata={"videos": text})
    name = f"features-w-{hashlib.sha256(content).hexdigest()[:32]}.safetensors"
    (folder / name).write_bytes(content)
    try:
        return Shards(folder)
    except ValueError as error:
        raise ValueError(f"metadata.json: {error}") from error  # the mutated file


def _sources(folder: Path) -> Path:
    (folder / "a.mp4").write_bytes(b"video")
    fingerprint_files([folder / "a.mp4"], folder / "sources.json")
    (folder / "sources.json").write_text(json.dumps({str(folder / "a.mp4"): [5, 1, 2, 3, "0" * 64]}))
    return folder / "sources.json"


def _config(folder: Path) -> Path:
    FineGymVideoTextConfig(attribute_names=["", "p"], hidden_size=32, num_attention_heads=4).save_pretrained(folder)
    return folder / "config.json"


def _processor(folder: Path) -> Path:
    FineGymVideoProcessor(**PROCESSOR).save_pretrained(folder)
    return folder / "video_preprocessor_config.json"


def _use_processor(folder: Path) -> object:
    processor = load_video_processor(folder)
    frames = torch.zeros(9, 48, 64, 3, dtype=torch.uint8)
    try:
        return processor.load_clips(frames)
    except ValueError as error:  # of a setting that fits no video; it names the setting
        raise ValueError(f"{folder}: {error}") from error


def _checkpoint(mutated: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        small_model("slowonly").save_pretrained(folder)
        if mutated == "model.safetensors.index.json":
            (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
            weights = safetensors.torch.load_file(folder / "model-00001-of-00001.safetensors")
            index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "model-00001-of-00001.safetensors")}
            (folder / mutated).write_text(json.dumps(index))
        return folder / mutated

    return make


def _load(folder: Path) -> object:
    return load_model(folder, AutoModelForVideoClassification)


def _run(mutated: str) -> Callable[[Path], Path]:
    """Make what a finished run leaves."""

    def make(folder: Path) -> Path:
        _config(folder)
        _processor(folder)
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "metrics.json").write_text(json.dumps(METRICS))
        (folder / "recipe.yaml").write_text(json.dumps(RECIPE))
        (folder / "training.json").write_text(json.dumps({"git_commit": "x", "steps": 3}))
        return folder / mutated

    return make


def _weights(folder: Path) -> Path:
    torch.save({"state_dict": {"x.weight": torch.zeros(3, 2)}}, folder / "x.pth")
    return folder / "x.pth"


def _tensors(folder: Path) -> Path:
    safetensors.torch.save_file({"x.weight": torch.zeros(3, 2)}, folder / "x.safetensors")
    return folder / "x.safetensors"


def _scores(folder: Path) -> Path:
    rows = {"id": ["a", "b"], "label": [0, 1], "scores": [np.array([0.5, 0.5], np.float32)] * 2}
    pq.write_table(pa.table(rows), folder / "scores.parquet")
    return folder / "scores.parquet"


def _history(folder: Path) -> Path:
    rows = [{"step": step, "loss": 1.5, "learning_rate": 0.1} for step in (1, 2, 3)]
    return written("history.jsonl", "\n".join(map(json.dumps, rows)))(folder)


def _recipe(folder: Path) -> object:
    read_yaml(folder / "x.yaml", what="recipe")
    try:
        return parse_recipe(["--config", str(folder / "x.yaml")])
    except ValueError as error:  # about a key, which it names
        raise ValueError(f"{folder}: {error}") from error


CHECKPOINTS = {
    "metrics": Reader(_metrics, compare_checkpoints),
    "trained on": Reader(written("metrics.json", json.dumps(METRICS)), lambda folder: datasets_seen_by(str(folder))),
    "recipe": Reader(written("x.yaml", json.dumps(RECIPE, indent=1)), _recipe),
    "sweep": Reader(written("x.yaml", "seed: [0, 1]\n"), lambda folder: read_variations(folder / "x.yaml")),
    "state": Reader(_state("state.json"), _read_state),
    "optimizer": Reader(_state("optimizer.safetensors"), _read_state),
    "history": Reader(_history, lambda folder: read_history(folder, 3)),
    "features": Reader(_shard, _read_shard),
    "sources": Reader(_sources, lambda folder: fingerprint_files([folder / "a.mp4"], folder / "sources.json")),
    "config": Reader(_config, load_config),
    "processor": Reader(_processor, _use_processor),
    "weights": Reader(_checkpoint("model.safetensors"), _load),
    "index of weights": Reader(_checkpoint("model.safetensors.index.json"), _load),
    "run": Reader(_run("training.json"), Checkpoint.read),
    "results of a run": Reader(_run("metrics.json"), Checkpoint.read),
    "scores": Reader(_scores, lambda folder: read_scores(folder / "scores.parquet")),
    "foreign weights": Reader(_weights, lambda folder: read_tensors(folder / "x.pth")),
    "foreign safetensors": Reader(_tensors, lambda folder: read_tensors(folder / "x.safetensors")),
}
