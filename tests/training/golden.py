"""Compute the first losses of each family, to 17 digits. To record them again, run `python -m tests.training.golden`,
and say in the commit message what was meant to change them.

The recipes are small versions of the real ones, and everything that computes the losses is real: data loading,
sampling, augmentation, models, optimizers, schedules. Four things make the numbers the same on any processor. The
arithmetic is in float64, where the order of a sum affects only the sixteenth digit. The videos are encoded losslessly,
in RGB, so that no lossy encoder or color conversion is involved. A crop has the size of the model's input, so that
nothing is resized: the rounding of a uint8 there depends on the processor. There is no dropout: torch draws its masks
with MKL where MKL is installed.
"""

import json
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import av
import numpy as np
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file

import finegym.data.dataset
import modeling_finegym.modeling_video_tokens
from finegym.data.index import write_coverage, write_index
from finegym.data.labels import Labels
from finegym.training.loop import train
from finegym.training.recipe_parsing import parse_recipe
from modeling_finegym import FineGymVideoProcessor, SlowOnlyConfig, SlowOnlyModel
from modeling_finegym.clip_sampling import random_clip
from tests.training.launching import REPOSITORY, read_losses


GOLDEN = REPOSITORY / "tests" / "golden" / "losses.json"
NUM_STEPS = 12
NUM_TRAIN, NUM_VAL, NUM_FRAMES, SIDE, CROP_SIDE = 12, 2, 16, 20, 16
LABELS = {"val": [0, 27]} | {"train": [label for label in (0, 9, 20, 27) for _ in range(NUM_TRAIN // 4)]}
RECIPES = {
    "slowonly": "synthgym/slowonly.yaml",
    "slowonly with SGD": "gym99/slowonly.yaml",
    "vision": "synthgym/vision_encoder.yaml",
    "video_text": "synthgym/video_text.yaml",
}
SMALL = {
    "data.clip_len": 4,
    "data.num_clips": 2,
    "data.short_side": SIDE,
    "data.crop_size": CROP_SIDE,
    "data.scale": [CROP_SIDE**2 / SIDE**2] * 2,
    "data.ratio": [1.0, 1.0],
    "data.num_workers": 0,
    "data.annotation_version": "v0",
    "optimization.epochs": 4,
    "optimization.batch_size": 4,
    "optimization.micro_batch_size": 2,
    "optimization.warmup_epochs": 0.7,
    "optimization.mixup": "null",
    "evaluation.every_epochs": 0,
    "logging.every_steps": 1,
    "logging.trackers": [],
    "logging.pictures": False,
    "model.config.classifier_dropout": 0.0,
}
SMALL_SLOWONLY = {"stem_width": 4, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
SMALL_ENCODER = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
SMALL_FAMILY = {
    "slowonly": {f"model.config.{key}": value for key, value in SMALL_SLOWONLY.items()},
    "slowonly with SGD": {f"model.config.{key}": value for key, value in SMALL_SLOWONLY.items()}
    | {"optimization.milestones": [2, 3]},
    "vision": {f"model.config.{key}": value for key, value in (SMALL_ENCODER | NO_DROPOUT).items()},
    "video_text": {f"model.config.{key}": value for key, value in (SMALL_ENCODER | NO_DROPOUT).items()},
}


def write_dataset(root: Path) -> Path:
    """Write noise through which a bright square moves, in PNG: the decoded frames are exactly these numbers."""
    rows = []
    for split, labels in LABELS.items():
        for number, label in enumerate(labels):
            clip_id = f"{split}_{number:02d}"
            frames = np.random.default_rng([number, split == "train"]).integers(
                0, 200, (NUM_FRAMES, SIDE, SIDE, 3), dtype=np.uint8
            )
            for time in range(NUM_FRAMES):
                frames[time, label % 16 : label % 16 + 4, time : time + 4] = 255
            (root / "clips").mkdir(parents=True, exist_ok=True)
            with av.open(str(root / "clips" / f"{clip_id}.mov"), "w") as file:
                stream = file.add_stream("png", rate=25, width=SIDE, height=SIDE, pix_fmt="rgb24")
                for frame in frames:
                    file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
                file.mux(stream.encode(None))
            rows.append(
                {"id": clip_id, "file": f"clips/{clip_id}.mov", "split": split, "label": label, "fps": 25.0}
                | {"num_frames": NUM_FRAMES}
            )
    write_index(root, rows)
    counts = {split: len(labels) for split, labels in LABELS.items()}
    coverage = {"missing": {}, "empty_classes": []}
    splits = {name: {"num_expected": count, "num_present": count, **coverage} for name, count in counts.items()}
    write_coverage(root, {"annotation_version": "v0", "splits": splits})
    Labels.read(REPOSITORY / "configuration" / "synthgym" / "labels.json").write(root / "labels.json")
    return root


def write_backbone(folder: Path) -> Path:
    """Save a SlowOnly with random weights and statistics, the start of the encoders and of training with SGD."""
    torch.manual_seed(5)
    model = SlowOnlyModel(SlowOnlyConfig(num_frames=4, image_size=CROP_SIDE, **SMALL_SLOWONLY))
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    model.save_pretrained(folder)
    FineGymVideoProcessor(num_frames=4).save_pretrained(folder)
    return folder


def train_in_small(family: str, folder: Path, output_dir: Path, changes: dict[str, Any]) -> dict[str, list[str]]:
    """Return the loss of each step, and the final norms of the weights and of batch normalization's statistics."""
    values = {"data.root": folder / "data", "output_dir": output_dir, **SMALL, **SMALL_FAMILY[family]}
    if family != "slowonly":
        values["model.backbone"] = folder / "backbone"
    arguments = [str(part) for key, value in (values | changes).items() for part in (f"--{key}", value)]
    recipe = parse_recipe(["--config", str(REPOSITORY / "configuration" / RECIPES[family]), *arguments])
    with mock.patch.object(Figure, "savefig", lambda figure, path, **options: Path(path).touch()):  # half of the time
        train(recipe)
    tensors = load_file(output_dir / "model.safetensors")
    is_statistic = {name: name.endswith(("running_mean", "running_var")) for name in tensors}
    norms = [
        math.sqrt(
            sum(float(tensors[name].double().square().sum()) for name in tensors if is_statistic[name] == wanted)
        )
        for wanted in (False, True)
    ]
    return {
        "losses": [f"{loss:.17g}" for loss in read_losses(output_dir)],
        "norms": [f"{norm:.17g}" for norm in norms],
    }


# What must be noticed: a family, and changes to its recipe or a function of the code that is replaced.
Replacement = Callable[[], Any]
CHANGES: dict[str, tuple[str, dict[str, Any], Replacement | None]] = {
    "batch normalization's epsilon": ("slowonly", {"model.config.batch_norm_eps": 1.001e-5}, None),
    "batch normalization's momentum": ("slowonly", {"model.config.batch_norm_momentum": 0.101}, None),
    "AdamW's first beta": ("slowonly", {"optimization.betas": [0.901, 0.999]}, None),
    "AdamW's second beta": ("slowonly", {"optimization.betas": [0.9, 0.9991]}, None),
    "AdamW's epsilon": ("slowonly", {"optimization.eps": 1e-7}, None),
    "weight decay": ("vision", {"optimization.weight_decay": 0.011}, None),
    "SGD's momentum": ("slowonly with SGD", {"optimization.momentum": 0.901}, None),
    "the factor at a milestone": ("slowonly with SGD", {"optimization.gamma": 0.101}, None),
    "warm-up": ("vision", {"optimization.warmup_epochs": 1.0}, None),
    "clipping of gradients": ("vision", {"optimization.grad_clip": 0.9}, None),
    "a pixel's mean": ("slowonly", {"data.mean": [0.485, 0.456, 0.407]}, None),
    "layer normalization's epsilon": ("vision", {"model.config.layer_norm_eps": 1e-5}, None),
    "sampling one frame later": (
        "slowonly",
        {},
        lambda: mock.patch.object(
            finegym.data.dataset,
            "random_clip",
            lambda num_frames, **options: [(frame + 1) % num_frames for frame in random_clip(num_frames, **options)],
        ),
    ),
    "one token type for all": (
        "video_text",
        {},
        lambda: mock.patch.object(modeling_finegym.modeling_video_tokens, "TEXT_TOKEN_TYPE", 0),
    ),
    "no token types": ("video_text", {"model.config.use_token_type_embeddings": "false"}, None),
}


def compute(*, with_changes: bool = False) -> dict[str, dict[str, dict[str, list[str]]]]:
    """Return the record of each family, and, under "changed", the result with each of `CHANGES`."""
    torch.set_default_dtype(torch.float64)
    result: dict[str, dict[str, dict[str, list[str]]]] = {"families": {}, "changed": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder / "data")
        write_backbone(folder / "backbone")
        for family in RECIPES:
            result["families"][family] = train_in_small(family, folder, folder / family / "run", {})
        for change, (family, values, replacement) in CHANGES.items() if with_changes else ():
            with replacement() if replacement else mock.patch.dict({}):
                result["changed"][change] = train_in_small(family, folder, folder / change / "run", values)
    return result


if __name__ == "__main__":
    if len(sys.argv) == 1:
        GOLDEN.write_text(json.dumps(compute()["families"], indent=1) + "\n")
    else:
        Path(sys.argv[1]).write_text(json.dumps(compute(with_changes="--with_changes" in sys.argv)))
