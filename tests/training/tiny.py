"""A data set of real mp4 files and recipes that train on it within seconds, for tests and `benchmarks/resume.py`."""

from pathlib import Path

import numpy as np
import yaml

from finegym.data.index import write_coverage, write_index
from finegym.data.labels import ActionClass, Labels
from finegym.data.video_writing import write_video


NUM_CLASSES = 4
FAMILIES = ("slowonly", "vision", "video_text")


def write_dataset(root: Path, *, num_train: int = 16, num_val: int = 8, num_frames: int = 12) -> Path:
    """Return frames in which a bright square crosses noise in one of four directions, which is the class."""
    rows = []
    for split, count in (("train", num_train), ("val", num_val)):
        for number in range(count):
            label = number % NUM_CLASSES
            video_id = f"{split}_{number:03d}"
            generator = np.random.default_rng([number, split == "train"])
            frames = generator.integers(0, 90, (num_frames, 32, 40, 3), dtype=np.uint8)
            for time in range(num_frames):
                way = int(time * 24 / num_frames)
                row, column = [(12, way), (12, 24 - way), (way, 16), (24 - way, 16)][label]
                frames[time, row : row + 8, column : column + 8] = 230
            write_video(root / "clips" / f"{video_id}.mp4", frames, fps=25)
            rows.append(
                {
                    "id": video_id,
                    "file": f"clips/{video_id}.mp4",
                    "split": split,
                    "label": label,
                    "num_frames": num_frames,
                    "fps": 25.0,
                }
            )
    write_index(root, rows)
    complete = {"missing": {}, "empty_classes": []}
    splits = {"train": num_train, "val": num_val}
    splits = {split: {"num_expected": count, "num_present": count, **complete} for split, count in splits.items()}
    write_coverage(root, {"annotation_version": "v0", "splits": splits})
    names = ["right", "left", "down", "up"]
    classes = [
        ActionClass(
            label, name, name, event=("across", "along")[label // 2], set=min(label, 2), attributes=(label + 1,)
        )
        for label, name in enumerate(names)
    ]
    Labels("tiny", classes, ["", *names], license="Apache-2.0").write(root / "labels.json")
    return root


def write_recipe(
    path: Path, family: str, *, root: Path, output_dir: Path, backbone: Path | None = None, **changes
) -> Path:
    """Return a small recipe of one family; `changes` are flat keys such as `optimization__epochs=2`."""
    recipe = {
        "name": f"tiny {family}",
        "output_dir": str(output_dir),
        "model": {"architecture": family, "config": {}},
        "data": {
            "root": str(root),
            "clip_len": 4,
            "frame_interval": 2,
            "num_clips": 2,
            "short_side": 32,
            "crop_size": 32,
            "scale": [0.5, 1.0],
        },
        "optimization": {"learning_rate": 0.05, "batch_size": 4, "epochs": 2, "grad_clip": 40.0},
        "logging": {"every_steps": 1, "trackers": [], "pictures": False},
    }
    if family == "slowonly":
        recipe["model"]["config"] = {
            "stem_width": 8,
            "hidden_sizes": [16, 32],
            "depths": [1, 1],
            "temporal_kernel_sizes": [1, 3],
            "classifier_dropout": 0.2,
        }
    else:
        recipe["model"]["backbone"] = str(backbone)
        recipe["model"]["config"] = {
            "hidden_size": 16,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
        }
        recipe["optimization"] |= {
            "optimizer": "adamw",
            "learning_rate": 1e-3,
            "schedule": "cosine",
            "warmup_epochs": 0.5,
        }
        recipe["features"] = {"mode": "cached", "views": 2, "dtype": "float32"}
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            recipe.setdefault(section, {})[name] = value
        else:
            recipe[section] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path
