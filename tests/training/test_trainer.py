"""The other way to train: the example with Transformers' Trainer."""

import importlib.util
import json
import sys

from safetensors.torch import load_file
from transformers import AutoModelForVideoClassification

from finegym.data.dataset import ClipDataset
from tests.training.launching import REPOSITORY


EXAMPLE = REPOSITORY / "examples" / "transformers_trainer.py"


def test_the_example_trains_a_checkpoint_on(root, backbone, tmp_path, monkeypatch):
    assert len(EXAMPLE.read_text().splitlines()) <= 40
    arguments = {"root": root, "checkpoint": backbone, "output_dir": tmp_path / "out", "num_train_epochs": 2}
    arguments |= {"per_device_train_batch_size": 4, "learning_rate": 0.01, "logging_steps": 1, "report_to": "none"}
    options = [text for name, value in arguments.items() for text in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *options, "--use_cpu"])
    epochs = []
    set_epoch = ClipDataset.set_epoch
    monkeypatch.setattr(ClipDataset, "set_epoch", lambda self, epoch: (epochs.append(epoch), set_epoch(self, epoch)))
    spec = importlib.util.spec_from_file_location("transformers_trainer", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.main()
    assert sorted(set(epochs)) == [0, 1]  # every epoch draws different crops
    before, after = load_file(backbone / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert before.keys() == after.keys()
    assert any((before[name] != after[name]).any() for name in before)
    model = AutoModelForVideoClassification.from_pretrained(tmp_path / "out")
    assert model.config.label2id == json.loads((backbone / "config.json").read_text())["label2id"]
