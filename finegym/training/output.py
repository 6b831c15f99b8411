"""The output of a run: the checkpoint folder, whose `metrics.json` is written last and marks it as complete."""

import json
import os
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from finegym.data.files import write_text
from finegym.evaluation.pictures import draw_calibration, draw_confusion
from finegym.evaluation.protocol import Evaluation
from finegym.evaluation.report import (
    METRICS_FILE,
    SCORES_FILE,
    read_metrics,
    write_metrics,
    write_scores,
)

from .inputs import RunInputs
from .lora import ADAPTER_FOLDER, merged_state, save_adapter
from .recipe import Recipe
from .recipe_sections import DataRecipe
from .state import versions


def holds_metrics(folder: Path, data: DataRecipe) -> bool:
    """Return whether `metrics.json` exists for the split and number of clips that a recipe asks for.

    Neither changes the weights, so a finished run may be asked for others; it is then evaluated again.
    """
    if not (folder / METRICS_FILE).exists():
        return False
    metrics = read_metrics(folder)
    return (metrics.get("split"), metrics.get("num_clips")) == (data.val_split, data.num_clips)


def drop_metrics(folder: Path) -> None:
    """Remove `metrics.json`: the folder is no longer, or not yet, a complete checkpoint."""
    (folder / METRICS_FILE).unlink(missing_ok=True)


def write_checkpoint(
    folder: Path,
    recipe: Recipe,
    inputs: RunInputs,
    model: PreTrainedModel,
    evaluation: Evaluation,
    training: dict[str, str],
) -> None:
    """Write all files of a checkpoint folder, each as a whole."""
    temporary = folder / ".checkpoint.partial"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    merged = merged_state(model)
    model.save_pretrained(temporary, state_dict=merged)
    if merged is not None:
        save_adapter(model, temporary / ADAPTER_FOLDER, recipe.model.backbone)
        shutil.rmtree(folder / ADAPTER_FOLDER, ignore_errors=True)
    inputs.processor.save_pretrained(temporary)
    inputs.labels.write(temporary / "labels.json")
    recipe.save(temporary / "recipe.yaml")
    write_text(temporary / "training.json", json.dumps(training, indent=2) + "\n")
    for file in sorted(temporary.iterdir()):
        os.replace(file, folder / file.name)
    temporary.rmdir()
    write_scores(folder / SCORES_FILE, evaluation)
    if recipe.logging.pictures:
        draw_confusion(folder / "confusion.png", evaluation, inputs.labels)
        draw_calibration(folder / "calibration.png", evaluation)
    write_metrics(folder, evaluation.metrics)


def describe_training(accelerator: Accelerator, seconds: float) -> dict[str, str]:
    """Return how a checkpoint was made, for its card."""
    device, count = accelerator.device, accelerator.num_processes
    hardware = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU thread(s)"
    )
    return {
        "commit": commit() or "not under version control",
        "hardware": f"{count} x {hardware}",
        "duration": str(timedelta(seconds=round(seconds))),
        "software": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }


def commit() -> str | None:
    """Return the commit that this code was checked out from, marked if files were changed since; None without one."""
    repository = Path(__file__).resolve().parents[2]
    if not (repository / ".git").exists():  # installed elsewhere: a repository around it is not this code's
        return None
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=, changed since"]
    try:
        described = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
