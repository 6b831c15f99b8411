"""The first losses of each family, to 17 digits. Record them anew with `python -m tests.training.golden`, and say in
the commit what was meant to change them."""

import json
import platform
import tempfile
from pathlib import Path

import torch

from finegym.synthgym.generate import generate
from tests.training.launching import REPOSITORY, read_losses, run


GOLDEN = REPOSITORY / "tests" / "golden" / "losses.json"
NUM_STEPS = 20
RECIPES = {"slowonly": "slowonly.yaml", "vision": "vision_encoder.yaml", "video_text": "video_text.yaml"}


def compute_losses(folder: Path) -> dict[str, list[str]]:
    """Train each family for `NUM_STEPS` steps by its SynthGym recipe, on one clip a class, one thread, in float32; the
    encoders on the SlowOnly just trained."""
    root = folder / "data"
    generate(root, num_train_per_class=1, num_val_per_class=1, progress=False)
    losses = {}
    for family, name in RECIPES.items():
        changes = {"data.root": root, "output_dir": folder / family, "optimization.batch_size": 7}
        changes |= {"optimization.epochs": 5, "evaluation.every_epochs": 0}
        changes |= {"logging.every_steps": 1, "logging.trackers": "[]"}
        if family != "slowonly":
            changes |= {"model.backbone": folder / "slowonly", "features.dtype": "float32"}
        arguments = [str(part) for key, value in changes.items() for part in (f"--{key}", value)]
        run(["--config", REPOSITORY / "configuration" / "synthgym" / name, *arguments], log=folder / "log")
        losses[family] = [f"{loss:.17g}" for loss in read_losses(folder / family)]
    return losses


def describe_machine() -> dict[str, str]:
    """What the last digits depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = {line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")}
    return {
        "cpu": ", ".join(sorted(names)) or platform.processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__.split("+")[0],
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        content = {"machine": describe_machine(), "losses": compute_losses(Path(name))}
    GOLDEN.write_text(json.dumps(content, indent=1) + "\n")
