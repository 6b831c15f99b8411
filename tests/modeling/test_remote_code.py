"""Saved checkpoints in a fresh process with what the README says to install, where this repository is not."""

import re

import torch
from safetensors.torch import save_file

from modeling_finegym import FineGymVideoProcessor
from tests.environments.bare import BareEnvironment
from tests.small import FAMILIES, small_model


STRANGER = """
import sys, torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification, AutoVideoProcessor
torch.set_grad_enabled(False)
for name in ("modeling_finegym", "finegym"):
    try:
        __import__(name)
    except ImportError:
        continue
    sys.exit(f"{name} can be imported")
for family in sys.argv[3:]:
    folder, child = f"{sys.argv[1]}/{family}", f"{sys.argv[1]}/child of {family}"
    stored = load_file(f"{sys.argv[1]}/{family}.safetensors")
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    options = {"trust_remote_code": True, "output_loading_info": True}
    model, report = AutoModelForVideoClassification.from_pretrained(folder, **options)
    assert not report["missing_keys"] and not report["unexpected_keys"], (family, report)
    assert torch.equal(model(stored["pixel_values"]).logits, stored["logits"]), family
    AutoModel.from_pretrained(folder, trust_remote_code=True)
    processor = AutoVideoProcessor.from_pretrained(folder, trust_remote_code=True)
    frames = torch.zeros(20, 60, 60, 3, dtype=torch.uint8).numpy()
    assert processor(frames, return_tensors="pt").pixel_values.shape == (1, 8, 3, 32, 32), family
    assert model(**processor(sys.argv[2], return_tensors="pt")).logits.shape == (1, 3), family
    model.save_pretrained(child)
    processor.save_pretrained(child)
    again = AutoModelForVideoClassification.from_pretrained(child, trust_remote_code=True)
    assert torch.equal(again(stored["pixel_values"]).logits, stored["logits"]), family
"""


def test_load_where_the_package_is_not(tmp_path, pixel_values, video_path):
    sizes = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
    for family in FAMILIES:
        model = small_model(family)
        model.save_pretrained(tmp_path / family)
        FineGymVideoProcessor(num_frames=8, **sizes).save_pretrained(tmp_path / family)
        with torch.no_grad():
            stored = {"pixel_values": pixel_values, "logits": model(pixel_values).logits}
        save_file(stored, tmp_path / f"{family}.safetensors")
    # what the README names for video files
    environment = BareEnvironment(tmp_path / "bare", "torch", "transformers", "numpy", "av", "torchvision")
    result = environment.run("-c", STRANGER, tmp_path, video_path, *FAMILIES)
    assert result.returncode == 0, result.stderr[-3000:]
    for family in FAMILIES:
        # Transformers copies what the model's own file imports; SlowOnly imports no other model
        copied = {path.name for path in (tmp_path / f"child of {family}").glob("*.py")}
        left_behind = {path.name for path in (tmp_path / family).glob("*.py")} - copied
        assert all(re.match("(modeling|configuration)_", name) for name in left_behind), left_behind
