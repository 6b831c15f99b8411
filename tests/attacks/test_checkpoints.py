"""Checkpoint folders from strangers: pickles, code, truncated weights, and configurations of impossible networks."""

import json
import pickle
import shutil
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForVideoClassification

from finegym.data.checkpoints import load_model, load_video_processor
from finegym.evaluation.predict import load_pipeline
from modeling_finegym import FineGymVideoProcessor
from tests.small import small_model


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Valid checkpoints of two families."""
    root = tmp_path_factory.mktemp("checkpoints")
    for family in ("slowonly", "video_text"):
        small_model(family).save_pretrained(root / family)
        FineGymVideoProcessor(num_frames=8, frame_interval=2).save_pretrained(root / family)
    return root


@pytest.fixture
def checkpoint(checkpoints, tmp_path):
    """A copy to damage."""
    return shutil.copytree(checkpoints / "slowonly", tmp_path / "stranger")


def load(folder):
    return load_model(folder, AutoModelForVideoClassification)


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_sound_checkpoint_loads(checkpoint):
    assert load_pipeline(str(checkpoint)).model.config.num_labels == 3


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.bin", "tf_model.h5", "flax_model.msgpack"])
def test_a_folder_of_pickled_weights_is_never_opened(checkpoint, tmp_path, name):
    weights = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    torch.save(weights, checkpoint / name)
    with pytest.raises(ValueError, match="stranger cannot be loaded: it has no model.safetensors. Pickled"):
        load_pipeline(str(checkpoint))
    (checkpoint / name).write_bytes(pickle.dumps(Bomb(tmp_path / "burst")))
    with pytest.raises(ValueError, match="stranger cannot be loaded"):
        load_pipeline(str(checkpoint))
    assert not (tmp_path / "burst").exists()


def test_pickles_behind_an_index_are_never_opened(checkpoint, tmp_path):
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "x.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "burst")))
    for name in ("x.bin", "../x.safetensors", "/x.safetensors", "absent.safetensors", 7, None):
        index = {"metadata": {}, "weight_map": {"slowonly.blocks.0.conv.weight": name}}
        (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(ValueError, match="index.json names no weights, or weights that are not there"):
            load(checkpoint)
    assert not (tmp_path / "burst").exists()


def test_the_code_of_a_checkpoint_is_never_run(checkpoint, tmp_path):
    for path in checkpoint.glob("*.py"):
        path.write_text(f"open({str(tmp_path / 'burst')!r}, 'w')")
    assert load_pipeline(str(checkpoint)).model.config.num_labels == 3
    change_config(checkpoint, model_type="unheard_of")
    with pytest.raises(ValueError, match="stranger cannot be loaded"):
        load_pipeline(str(checkpoint))
    assert not (tmp_path / "burst").exists()


IMPOSSIBLE = {
    "a million layers": {"depths": [10**6] * 4},
    "no layer": {"depths": [0, 0, 0, 0]},
    "a thousand stages": {"depths": [1] * 1000, "hidden_sizes": [8] * 1000, "temporal_kernel_sizes": [1] * 1000},
    "a billion frames": {"num_frames": 10**9},
    "frames that run backwards": {"num_frames": -8},
    "a billion classes": {"num_labels": 10**9, "id2label": None, "label2id": None},
    "classes with gaps": {"id2label": {"0": "a", "7": "b"}},
    "classes that are numbers": {"id2label": {"0": 1, "1": 2, "2": 3}},
    "classes that are no table": {"id2label": "abc"},
    "channels beyond memory": {"hidden_sizes": [2**15, 2**15, 2**15, 2**15], "stem_width": 2**13},
    "a text for a number": {"stem_width": "8"},
    "a number beyond all": {"image_size": 10**400},
    "a model of another name": {"model_type": "bert"},
    "no model at all": {"model_type": None},
    "a list for a model": {"model_type": ["slowonly"]},
    "quantized weights": {"quantization_config": {"quant_method": "bitsandbytes"}},
    "dtype as code": {"dtype": "__import__('os').system('echo')"},
}


@pytest.mark.parametrize("changes", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_an_impossible_configuration_is_refused_by_name(checkpoint, changes):
    change_config(checkpoint, **changes)
    with pytest.raises(ValueError, match="stranger"):
        load(checkpoint)


@pytest.mark.parametrize(
    "vision_config",
    [
        {"model_type": "finegym_vision"},
        {"model_type": "videomae", "num_hidden_layers": 10**6},
        {"model_type": "nothing"},
        {"model_type": 3},
        [],
        {"depths": None},
    ],
    ids=str,
)
def test_a_backbone_that_is_none_is_refused(checkpoints, tmp_path, vision_config):
    folder = shutil.copytree(checkpoints / "video_text", tmp_path / "stranger")
    change_config(folder, vision_config=vision_config)
    with pytest.raises(ValueError, match="stranger"):
        load(folder)


def test_a_configuration_that_contains_itself_is_refused(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints / "video_text", tmp_path / "stranger")
    content = json.loads((folder / "config.json").read_text())
    for _ in range(50):
        content = {**content, "vision_config": content}
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="finegym_video_text, which is an encoder"):
        load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 10**5, '{"a": NaN}', '{"a": 1, "a": 2}', "\udcff"])
def test_a_configuration_that_is_no_json_is_refused(checkpoint, text):
    (checkpoint / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match="config.json"):
        load(checkpoint)


def header(num_bytes, **tensors):
    content = json.dumps(tensors).encode()
    return struct.pack("<Q", num_bytes or len(content)) + content


def test_damaged_weights_are_refused_by_name(checkpoint):
    path = checkpoint / "model.safetensors"
    whole = path.read_bytes()
    x = {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}
    damaged = {
        "empty": b"",
        "a header that is cut": whole[:100],
        "weights that are cut": whole[:-1],
        "half": whole[: len(whole) // 2],
        "a header of exabytes": header(2**60) + b"x" * len(whole),
        "a tensor of terabytes": header(0, x=x) + b"x" * len(whole),
        "places that overlap": header(0, x={**x, "shape": [1], "data_offsets": [0, 4]}, y=x) + b"x" * len(whole),
        "not safetensors": b"PK\x03\x04" + whole[4:],
    }
    for what, content in damaged.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match="stranger") as caught:
            load(checkpoint)
        assert len(str(caught.value)) < 1000, what


def test_weights_that_do_not_fit_are_refused_by_name(checkpoint):
    path = checkpoint / "model.safetensors"
    whole = load_file(path)
    name = "classifier.weight"
    for what, tensors in {
        "missing": {key: value for key, value in whole.items() if key != name},
        "of another shape": {**whole, name: torch.zeros(3, 65)},
        "of integers": {**whole, name: torch.zeros(3, 64, dtype=torch.int64)},
    }.items():
        save_file(tensors, path, metadata={"format": "pt"})
        with pytest.raises(ValueError, match="stranger") as caught:
            load(checkpoint)
        assert len(str(caught.value)) < 1000, what


@pytest.mark.parametrize(
    "changes",
    [
        {"num_frames": 10**9},
        {"num_frames": 0},
        {"num_frames": 2.5},
        {"frame_interval": 10**9},
        {"num_clips": 10**9},
        {"flow_len": 10**9},
        {"size": {"shortest_edge": 10**6}},
        {"size": {"height": -1, "width": 10**9}},
        {"crop_size": {"height": 10**6, "width": 1}},
        {"size": "large"},
    ],
    ids=str,
)
def test_a_processor_of_impossible_clips_is_refused(checkpoint, changes):
    path = checkpoint / "video_preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ValueError, match="stranger cannot be loaded"):
        load_video_processor(checkpoint)
