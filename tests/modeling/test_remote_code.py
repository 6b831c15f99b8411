"""A saved checkpoint in a fresh process where this repository cannot be imported."""

import os
import re
import subprocess
import sys

import torch
from safetensors.torch import save_file

from modeling_finegym import FineGymVideoProcessor


STRANGER = """
import sys, torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification
from transformers.models.auto.video_processing_auto import AutoVideoProcessor
folder, child = sys.argv[1:]
torch.set_grad_enabled(False)
for name in ("modeling_finegym", "finegym"):
    try:
        __import__(name)
    except ImportError:
        continue
    sys.exit(f"{name} can be imported")
stored = load_file(folder + "/../stored.safetensors")
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
options = {"trust_remote_code": True, "output_loading_info": True}
model, report = AutoModelForVideoClassification.from_pretrained(folder, **options)
assert not report["missing_keys"] and not report["unexpected_keys"], report
assert torch.equal(model(stored["pixel_values"]).logits, stored["logits"])
AutoModel.from_pretrained(folder, trust_remote_code=True)
processor = AutoVideoProcessor.from_pretrained(folder, trust_remote_code=True)
frames = torch.zeros(20, 60, 60, 3, dtype=torch.uint8).numpy()
assert processor(frames, return_tensors="pt").pixel_values.shape == (1, 8, 3, 32, 32)
model.save_pretrained(child)
processor.save_pretrained(child)
again = AutoModelForVideoClassification.from_pretrained(child, trust_remote_code=True)
assert torch.equal(again(stored["pixel_values"]).logits, stored["logits"])
"""


def test_loads_where_the_package_is_not(model, tmp_path, pixel_values):
    folder, child = tmp_path / "checkpoint", tmp_path / "child"
    model.save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
    FineGymVideoProcessor(num_frames=8, **sizes).save_pretrained(folder)
    with torch.no_grad():
        stored = {"pixel_values": pixel_values, "logits": model(pixel_values).logits}
    save_file(stored, tmp_path / "stored.safetensors")
    # -S and an explicit path keep the editable install of this repository out
    site = next(path for path in sys.path if path.endswith("site-packages"))
    environment = {**os.environ, "PYTHONPATH": site, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-S", "-P", "-c", STRANGER, str(folder), str(child)]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    # Transformers copies what the model's own file imports; SlowOnly imports no other model
    left_behind = {path.name for path in folder.glob("*.py")} - {path.name for path in child.glob("*.py")}
    assert all(re.match("(modeling|configuration)_", name) for name in left_behind), left_behind
