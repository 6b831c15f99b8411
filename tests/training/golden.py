"""The first losses of each family, to 17 digits. Record them anew with `python -m tests.training.golden`, and say in
the commit what was meant to change them."""

import json
import platform
import tempfile
from pathlib import Path

import torch

from tests.training.launching import REPOSITORY, run
from tests.training.tiny import FAMILIES, write_dataset, write_recipe


GOLDEN = REPOSITORY / "tests" / "golden" / "losses.json"
NUM_STEPS = 20


def compute_losses(folder: Path) -> dict[str, list[str]]:
    """Train each family for `NUM_STEPS` steps, one thread, in float32; the encoders on the SlowOnly just trained."""
    root = write_dataset(folder / "data")
    losses = {}
    for family in FAMILIES:
        changes = {"optimisation__epochs": 5, "features__dtype": "float32" if family != "slowonly" else "float16"}
        recipe = write_recipe(
            folder / f"{family}.yaml",
            family,
            root=root,
            output_dir=folder / family,
            backbone=folder / "slowonly",
            **changes,
        )
        run(["--config", recipe], log=folder / "log")
        rows = [json.loads(line) for line in (folder / family / "history.jsonl").read_text().splitlines()]
        losses[family] = [f"{row['loss']:.17g}" for row in rows if "loss" in row]
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
