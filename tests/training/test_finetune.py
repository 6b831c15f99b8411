"""`finegym finetune`: a folder of videos as people have them, and tiny backbones as Transformers saves them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import (
    BitImageProcessor,
    Dinov2Config,
    Dinov2Model,
    VideoMAEConfig,
    VideoMAEImageProcessor,
    VideoMAEModel,
    VJEPA2Config,
    VJEPA2Model,
    VJEPA2VideoProcessor,
)

from finegym.data.index import Video, read_coverage, read_index
from finegym.data.labels import ActionClass, Labels
from finegym.data.video_writing import write_video
from finegym.evaluation.report import read_metrics
from finegym.training.finetune import choose_clip, choose_flip, finetuning_recipes, inspect_backbone, write_recipe
from finegym.training.methods import METHODS, choose_method, find_obstacles
from tests.hub.loopback_hub import LoopbackHub
from tests.training.launching import REPOSITORY, STEADY, run_command, weights_hash
from tests.training.tiny import write_dataset


TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
PREDICTOR = {"pred_hidden_size": 16, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}


def save_backbone(folder: Path, kind: str) -> Path:
    torch.manual_seed(0)
    if kind == "videomae":
        config = VideoMAEConfig(image_size=32, num_frames=4, tubelet_size=2, intermediate_size=32, **TINY)
        model, processor = VideoMAEModel(config), VideoMAEImageProcessor(**SIZES)
    elif kind == "vjepa2":
        config = VJEPA2Config(crop_size=32, frames_per_clip=16, tubelet_size=2, mlp_ratio=2, **PREDICTOR, **TINY)
        model, processor = VJEPA2Model(config), VJEPA2VideoProcessor(**SIZES)
    else:
        model = Dinov2Model(Dinov2Config(image_size=64, patch_size=16, mlp_ratio=2, **TINY))
        processor = BitImageProcessor(**SIZES)
    model.save_pretrained(folder / kind)
    processor.save_pretrained(folder / kind)
    return folder / kind


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of clips of 0.4 to 2.4 seconds at three frame rates, one cut off in the middle, one empty."""
    folder = tmp_path_factory.mktemp("finetune")
    (folder / "train.py").symlink_to(REPOSITORY / "train.py")
    for number in range(16):
        length, fps = 10 + 3 * number, (25, 25, 15, 50)[number % 4]
        frames = np.random.default_rng(number).integers(0, 90, (length, 48, 64, 3), dtype=np.uint8)
        for time in range(length):
            column = int(time * 40 / length)
            column = column if number // 2 % 2 else 40 - column
            frames[time, 16:32, column : column + 16] = 230
        name = "forwards" if number // 2 % 2 else "back wards"
        write_video(folder / "my clips" / name / f"{number}.mp4", frames, fps=fps)
    cut = folder / "my clips" / "forwards" / "15.mp4"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (folder / "my clips" / "forwards" / "empty.mp4").touch()
    (folder / "my clips" / "notes.txt").write_text("filmed on Monday")
    for kind in ("videomae", "dinov2", "vjepa2"):
        save_backbone(folder, kind)
    return folder


def finetune(folder, *options):
    status, output, errors = run_command(["finegym", "finetune", *options], folder)
    assert "Traceback" not in errors, errors
    return status, output, errors


def rows_of(output: str) -> list[str]:
    table = output[output.index("\nmodel ") + 1 :] if not output.startswith("model ") else output
    return [line.split("  ")[0] for line in table.splitlines()]


def test_one_command_from_a_folder_to_a_checkpoint_which_train_py_makes_too(folder):
    options = ("my clips", "--backbone", "videomae", "--license", "cc-by-4.0", "--max_lost_share", "0.2")
    status, output, errors = finetune(folder, *options)
    assert status == 0, errors
    run, root = folder / "outputs" / "my-clips" / "frozen", folder / "data" / "my-clips"
    lost = read_coverage(root, "train").missing
    assert {Path(name).name for name in lost} == {"15", "empty"}
    assert all(f"forwards/{name}" in errors for name in ("15", "empty")), "lost clips are named"

    # what was chosen, against numbers from the index alone
    videos = read_index(root, "train")
    rate = np.percentile([video.fps for video in videos], 50, method="lower")
    median = np.median([video.num_frames / video.fps for video in videos])
    recipe = yaml.safe_load((run.parent / "frozen.yaml").read_text())
    assert recipe["data"]["clip_len"] == 4
    assert recipe["data"]["frame_interval"] == min(int(median * rate / 4), round(rate / 4))
    assert (recipe["data"]["short_side"], recipe["data"]["crop_size"], recipe["data"]["flip"]) == (36, 32, 0.5)
    said = re.search(rf"{len(videos)} training videos last ([\d.]+) to ([\d.]+) s, the median {median:.1f} s", errors)
    assert said and float(said[1]) < float(said[2])
    assert "# " + said[0] in (run.parent / "frozen.yaml").read_text(), "the recipe says why"
    assert f"With {len(videos)} training videos, by rule of thumb, the backbone stays frozen" in errors

    # one table against the linear controls, and the card
    assert {"frozen", "logistic regression on the mean", "logistic regression on mean and 3 parts"} <= {
        *rows_of(output)
    }
    metrics = read_metrics(run)
    best = max(metrics["controls"][name]["mean_class_accuracy"] for name in ("linear_control", "pyramid_control"))
    assert f"frozen: {metrics['mean_class_accuracy'] - best:+.2f} points of mean class accuracy over" in output
    card = (run / "README.md").read_text()
    assert "cc-by-4.0" in card and "back wards" in card

    status, again, _ = finetune(folder, *options)
    assert (status, rows_of(again)) == (0, rows_of(output))
    command = ["python", "train.py", "--config", "outputs/my-clips/frozen.yaml", "--logging.pictures", "false"]
    assert run_command([*command, "--output_dir", "outputs/elsewhere/frozen"], folder)[0] == 0
    assert weights_hash(folder / "outputs" / "elsewhere" / "frozen") == weights_hash(run)

    status, _, errors = finetune(folder, *options[:2], "dinov2", *options[3:])
    assert status == 1 and "frozen.yaml is there, with model.backbone: videomae" in errors


@pytest.mark.slow
def test_all_of_an_image_backbone_learns_beside_the_frozen_one(folder):
    shutil.copytree(folder / "my clips", folder / "others", ignore=shutil.ignore_patterns("15.mp4", "empty.mp4"))
    options = ("--method", "full", "--license", "cc-by-4.0")
    status, output, errors = finetune(folder, "others", "--backbone", "dinov2", *options)
    assert status == 0, errors
    assert "full: " in output and "over the better logistic regression" in output
    frozen, full = folder / "outputs" / "others" / "frozen", folder / "outputs" / "others" / "full"
    assert {"outputs/others/frozen", "outputs/others/full", "logistic regression on the mean"} <= {*rows_of(output)}
    before = load_file(folder / "dinov2" / "model.safetensors")
    for run, is_frozen in ((frozen, True), (full, False)):
        after = load_file(run / "model.safetensors")
        pairs = [(before[name], after[f"finegym_vision.backbone.{name}"]) for name in before if "mask" not in name]
        assert len(pairs) > 20
        assert all(torch.equal(*pair) == is_frozen for pair in pairs if pair[0].ndim > 1)
        assert read_metrics(run)["num_evaluated"] == len(read_index(folder / "data" / "others", "val"))
        assert "cc-by-4.0" in (run / "README.md").read_text()
        labels = json.loads((run / "labels.json").read_text())
        (run / "labels.json").write_text(json.dumps(labels | {"license": ""}))
    status, again, errors = finetune(folder, "others", "--backbone", "dinov2", *options)
    assert (status, rows_of(again)) == (0, rows_of(output))
    assert errors.count("No card was written") == 2 and "--license" in errors


@pytest.mark.slow
def test_a_data_set_of_the_hub_adapts_a_backbone_by_lora(folder, tmp_path):
    features = datasets.Features({"video": datasets.Video(), "label": datasets.ClassLabel(names=["back", "forth"])})
    paths = sorted(path for path in (folder / "my clips").rglob("*.mp4") if path.stem not in ("15", "empty"))
    rows = [
        {"video": {"bytes": path.read_bytes(), "path": path.name}, "label": int(path.parent.name == "forwards")}
        for path in paths
    ]
    files = {}
    for split, some in (("train", [*rows[:4], *rows[-4:]]), ("validation", rows[4:-4])):
        datasets.Dataset.from_list(some, features=features).to_parquet(tmp_path / "rows.parquet")
        files[f"data/{split}-00000-of-00001.parquet"] = (tmp_path / "rows.parquet").read_bytes()
    with LoopbackHub() as hub:
        hub.add("datasets/someone/clips", files)
        command = [sys.executable, "-m", "finegym", "finetune", "someone/clips", "--backbone", folder / "vjepa2"]
        command += ["--method", "lora", "--license", "cc-by-4.0"]
        variables = {**os.environ, **STEADY, **hub.environment(tmp_path / "home"), "PYTHONPATH": REPOSITORY}
        variables |= {"HF_HUB_OFFLINE": "0"}
        options = {"cwd": tmp_path, "env": {name: str(value) for name, value in variables.items()}}
        done = subprocess.run(list(map(str, command)), **options, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert "As --method lora says" in done.stderr
    root, runs = tmp_path / "data" / "clips", tmp_path / "outputs" / "clips"
    assert [len(read_index(root, split)) for split in ("train", "val")] == [8, len(rows) - 8]
    assert {"frozen", "lora", "logistic regression on the mean"} <= {
        name.rpartition("/")[2] for name in rows_of(done.stdout)
    }
    for name in ("frozen", "lora"):
        assert read_metrics(runs / name)["num_evaluated"] == len(rows) - 8
        assert "cc-by-4.0" in (runs / name / "README.md").read_text()
        assert f"{name}: " in done.stdout and "over the better logistic regression" in done.stdout
    before, after = (load_file(path / "model.safetensors") for path in (folder / "vjepa2", runs / "lora"))
    moved = [name for name in before if not torch.equal(before[name], after[f"finegym_vision.backbone.{name}"])]
    assert moved and all(".attention." in name and name.endswith("weight") for name in moved), "LoRA was merged"
    assert (runs / "lora" / "adapter" / "adapter_model.safetensors").is_file()


def test_a_dry_run_imports_and_writes_the_recipe_which_an_imported_folder_gives_too(folder, tmp_path):
    options = ("--backbone", "vjepa2", "--dry_run", "--output", tmp_path / "a")
    source = folder / "dry"
    shutil.copytree(folder / "my clips", source, ignore=shutil.ignore_patterns("15.mp4", "empty.mp4"))
    status, output, errors = finetune(folder, str(source), "--root", str(tmp_path / "root"), *map(str, options))
    assert status == 0 and "nothing was trained" in output and not (tmp_path / "a" / "frozen").exists(), errors
    recipe = yaml.safe_load((tmp_path / "a" / "frozen.yaml").read_text())
    assert recipe["data"]["clip_len"] in (8, 16)  # rotary positions: not only the 16 of its configuration
    status, _, errors = finetune(folder, str(tmp_path / "root"), "--method", "lora", *map(str, options))
    assert status == 0, errors
    assert yaml.safe_load((tmp_path / "a" / "lora.yaml").read_text())["model"]["lora"]["rank"] == 8
    status, _, errors = finetune(folder, str(tmp_path / "root"), "--license", "mit", *map(str, options))
    assert status == 2 and "leave out --license" in errors


def test_a_backbone_that_does_not_fit_is_refused_before_anything_is_imported(folder):
    wrong = folder / "wrong"
    shutil.copytree(folder / "videomae", wrong, dirs_exist_ok=True)
    VideoMAEImageProcessor().save_pretrained(wrong)
    status, _, errors = finetune(folder, "my clips", "--backbone", "wrong", "--root", "data/unwanted")
    assert status == 1 and "wrong does not take the clips of its own processor, 4 frames of 224 x 224" in errors
    assert not (folder / "data" / "unwanted").exists()


def videos_of(seconds, fps=25.0):
    rates = fps if isinstance(fps, list) else [fps] * len(seconds)
    return [
        Video(f"{number}", Path("x.mp4"), 0, round(length * rate), fps=rate)
        for number, (length, rate) in enumerate(zip(seconds, rates, strict=True))
    ]


@pytest.mark.parametrize(
    ("seconds", "fps", "clip_lens", "expected"),
    [
        ([1.6, 1.6, 1.6], 25.0, (8, 16, 32), (16, 2)),  # 40 frames: 16 of them, every second
        ([0.5, 0.5, 9.0], 25.0, (8, 16, 32), (8, 1)),
        ([3.0, 3.0, 3.0], 30.0, (8, 16, 32), (32, 2)),
        ([2.56, 2.56], 25.0, (16,), (16, 4)),  # VideoMAE's own 16 x 4
        ([60.0, 60.0], 25.0, (16,), (16, 6)),  # a quarter of a second apart, not four seconds
        ([0.2, 0.2], 25.0, (16,), (16, 1)),  # shorter than any clip
        ([2.0, 2.0, 2.0], [10.0, 10.0, 60.0], (8,), (8, 2)),
    ],
)
def test_a_clip_is_as_long_as_the_median_video(seconds, fps, clip_lens, expected):
    clip, sentence = choose_clip(videos_of(seconds, fps), clip_lens, Path("root"))
    assert clip == expected
    num_shorter = sum(length < (clip[0] - 1) * clip[1] / 25 for length in seconds) if fps == 25 else 0
    assert (f" {num_shorter} shorter ones" in sentence) == (num_shorter > 0)
    assert ("of other frame rates" in sentence) == isinstance(fps, list)


def test_an_unknown_frame_rate_is_refused():
    with pytest.raises(ValueError, match="the frame rate of video '0' is not known"):
        choose_clip([Video("0", Path("x.mp4"), 0, 10)], (8,), Path("root"))


@pytest.mark.parametrize(
    ("num_videos", "has_gpu", "is_own", "asked", "expected", "said"),
    [
        (50, True, False, None, "frozen", "From 500 on, on a GPU, small matrices"),
        (499, True, False, None, "frozen", "With 499 training videos"),
        (500, True, False, None, "lora", "From 2,000 on, on a GPU, the backbone and the encoder"),
        (500, True, True, None, "frozen", "enough for --method lora, but the backbone is none of Transformers"),
        (2000, True, False, None, "full", "after an encoder on the frozen backbone"),
        (2000, True, True, None, "full", "after an encoder on the frozen backbone"),
        (50_000, False, False, None, "frozen", "enough for --method full, but there is no GPU"),
        (50, False, False, "full", "full", "As --method full says"),
        (50_000, True, False, "frozen", "frozen", "As --method frozen says"),
    ],
)
def test_how_much_learns_follows_from_the_number_of_videos(num_videos, has_gpu, is_own, asked, expected, said):
    name, sentence = choose_method(num_videos, asked, find_obstacles(has_gpu=has_gpu, is_own=is_own))
    assert name == expected and said in sentence
    assert all(method.recipe.is_file() for method in METHODS)


@pytest.mark.parametrize(
    ("names", "flip"),
    [
        (["turn_left", "turn_right"], 0.0),
        (["Pushing from left to right", "Poking"], 0.0),
        (["upright", "leftover"], 0.5),
        (["Clockwise swirl", "stop"], 0.0),
    ],
)
def test_sides_that_classes_tell_apart_are_not_flipped(names, flip):
    labels = Labels("own", [ActionClass(number, name, name) for number, name in enumerate(names)], [])
    chosen, notes = choose_flip(labels)
    assert chosen == flip and len(notes) == (flip == 0)


def test_a_recipe_that_was_edited_is_not_written_over(folder, tmp_path):
    backbone = inspect_backbone(str(folder / "vjepa2"))
    assert backbone.clip_lens == (8, 16)
    root = write_dataset(tmp_path / "root", num_train=4, num_val=4)
    recipes, notes = finetuning_recipes(root, backbone, output=tmp_path, has_gpu=True)
    assert recipes[0].optimization.precision == "bf16" and len(recipes) == 1
    assert recipes[0].data.flip == 0 and "would become another class" in " ".join(notes)
    path = tmp_path / "frozen.yaml"
    assert write_recipe(path, recipes[0], notes) == recipes[0]
    harmless = path.read_text().replace("every_steps: 20", "every_steps: 7")
    path.write_text(harmless)
    assert write_recipe(path, recipes[0], notes).logging.every_steps == 7 and path.read_text() == harmless
    path.write_text(harmless.replace("weight_decay: 0.01", "weight_decay: 0.02"))
    with pytest.raises(ValueError, match=r"frozen.yaml is there, with optimization.weight_decay: 0.02, where 0.01"):
        write_recipe(path, recipes[0], notes)
