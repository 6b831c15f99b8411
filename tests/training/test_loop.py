"""What the loop refuses, omits and reports."""

import dataclasses
import importlib.util
import json
import math
import shutil
import subprocess

import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from finegym.data.index import read_index, write_index
from finegym.data.labels import Labels
from finegym.training.loop import train
from finegym.training.recipe_parsing import parse_recipe
from finegym.training.reporting import count_flops, read_history
from modeling_finegym import SlowOnlyConfig, SlowOnlyForVideoClassification
from tests.training.launching import REPOSITORY, Launch, num_steps_done, read_losses, run, weights_hash
from tests.training.tiny import FAMILIES, write_dataset


def test_numbers_that_are_not_finite_stop_the_run(recipe, root, tmp_path):
    arguments = recipe("slowonly", optimization__learning_rate=1e30, checkpointing__every_steps=1)
    log = tmp_path / "log"
    assert Launch(arguments, log=log).wait() == [1]
    text = log.read_text()
    step = num_steps_done(tmp_path / "run") + 1
    assert f"Step {step} has loss" in text and "at learning rate 1e+30" in text
    named = text.split("Its videos: ")[1].split(".")[0].split(", ")
    assert len(named) == 4 and set(named) <= {video.id for video in read_index(root, "train")}
    last = sorted((tmp_path / "run" / "state").glob("step_*"))[-1]
    assert last.name == f"step_{step - 1:08d}"
    assert all(weight.isfinite().all() for weight in load_file(last / "model.safetensors").values())


def test_unreadable_clips_are_left_out_counted_and_named_once(recipe, tmp_path):
    root = write_dataset(tmp_path / "data")
    torn = root / "clips" / "train_005.mp4"
    torn.write_bytes(torn.read_bytes()[:300])
    arguments = [*recipe("slowonly", data__max_bad_share=0.1), "--data.root", root]
    log = run(arguments, num_processes=2, log=tmp_path / "log")
    assert log.count("Training video train_005 is left out") == 1
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["num_bad_train_videos"] == 1 and metrics["num_train_videos"] == 16
    strict = [*recipe("slowonly"), "--data.root", root, "--output_dir", tmp_path / "strict"]
    assert Launch(strict, log=tmp_path / "strict.log").wait() == [1]
    assert (
        "1 of 16 training videos cannot be read, more than data.max_bad_share 1.00%"
        in (tmp_path / "strict.log").read_text()
    )


def test_an_unreadable_clip_changes_nothing_but_its_own_share(recipe, tmp_path):
    """The loss is the mean over the readable videos: with a learning rate of 0, the losses on the complete data say
    which it must be."""
    torn_root = write_dataset(tmp_path / "torn")
    (torn_root / "clips" / "train_005.mp4").write_bytes(b"")
    frozen = {"optimization__learning_rate": 0.0, "optimization__batch_norm": "frozen", "optimization__epochs": 1}
    arguments = recipe("slowonly", optimization__batch_size=16, data__max_bad_share=1.0, **frozen)
    small = write_dataset(tmp_path / "whole")
    losses = {}
    for name, root in (("torn", torn_root), ("whole", small)):
        run([*arguments, "--data.root", root, "--output_dir", tmp_path / name / "run"], log=tmp_path / "log")
        losses[name] = read_history(tmp_path / name / "run", 1)[0]["loss"]
    assert math.isfinite(losses["torn"]) and losses["torn"] != losses["whole"]
    assert losses["torn"] == pytest.approx(losses["whole"], rel=0.1)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_folder_is_complete_and_loads(family, recipe, tmp_path):
    pictures = family == "vision"
    run(recipe(family, logging__pictures=pictures), log=tmp_path / "log")
    folder = tmp_path / "run"
    names = {"config.json", "model.safetensors", "video_preprocessor_config.json", "recipe.yaml", "metrics.json"}
    names |= {"labels.json", "training.json", "history.jsonl", "modeling_finegym.py"}
    assert names <= {path.name for path in folder.iterdir()}
    for name in ("curves", "confusion", "calibration"):
        assert (folder / f"{name}.png").is_file() == (folder / f"{name}.pdf").is_file() == pictures
    given = parse_recipe(recipe(family, logging__pictures=pictures))
    saved = parse_recipe(["--config", str(folder / "recipe.yaml")])
    assert (saved.data.mean, saved.data.std) == (tuple(IMAGENET_DEFAULT_MEAN), tuple(IMAGENET_DEFAULT_STD)), (
        "what was left out is resolved"
    )
    assert saved == dataclasses.replace(
        given, data=dataclasses.replace(given.data, mean=saved.data.mean, std=saved.data.std)
    )
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    ).stdout
    training = json.loads((folder / "training.json").read_text())
    assert training["commit"].startswith(head.strip() or "not under version control")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["num_evaluated"] == 8 and 0 <= metrics["mean_class_accuracy"] <= 100
    last = read_history(folder, 8)[-1]
    assert last["top1"] == metrics["top1"]


def test_a_folder_of_own_videos_is_imported_and_trained_on(recipe, root, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    names = [action.name for action in Labels.read(root / "labels.json").classes]
    for video in read_index(root, "train"):
        folder = tmp_path / "own" / names[video.label]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(video.path, folder)
    metrics = train(parse_recipe([*recipe("slowonly"), "--data.root", str(tmp_path / "own")]))
    assert metrics["dataset"] == "own" and set(metrics["per_class"]) == set(names)
    assert metrics["num_train_videos"] + metrics["num_evaluated"] == 16


@pytest.mark.parametrize("family", FAMILIES)
def test_eight_clips_can_be_learnt_by_heart(family, root, recipe, tmp_path):
    changes = {"epochs": 80, "batch_size": 8, "learning_rate": 0.05 if family == "slowonly" else 2e-2}
    changes = {f"optimization__{name}": value for name, value in changes.items()}
    small = write_dataset(tmp_path / "data", num_train=8, num_val=8)
    still = {"data__scale": [1.0, 1.0], "data__flip": 0.0, "logging__every_steps": 20}
    run([*recipe(family, **changes, **still), "--data.root", small], log=tmp_path / "log")
    losses = read_losses(tmp_path / "run")
    assert losses[-1] < 0.25 * losses[0]


@pytest.mark.parametrize("choice", ["bf16", pytest.param("compile", marks=pytest.mark.slow)])
def test_faster_ways_to_compute_the_same(choice, recipe, tmp_path):
    """bf16 autocast and torch.compile are close to float32, and killed runs still end alike; without dropout, whose
    masks a compiled model draws differently."""
    still = ("--model.config.classifier_dropout", "0")
    change = {"optimization__precision": "bf16"} if choice == "bf16" else {"optimization__compile": True}
    common = {"checkpointing__every_steps": 2, "optimization__learning_rate": 0.005, "optimization__epochs": 2}
    for name, changes in (("plain", common), (choice, common | change)):
        run([*recipe("slowonly", **changes), *still, "--output_dir", tmp_path / name], log=tmp_path / "log")
    first, second = (read_losses(tmp_path / name) for name in ("plain", choice))
    assert second == pytest.approx(first, rel=0.02 if choice == "bf16" else 1e-4)
    assert second != first or choice == "compile"
    killed = [*recipe("slowonly", **common, **change), *still, "--output_dir", tmp_path / "killed"]
    launch = Launch(killed, log=tmp_path / "log")
    assert launch.wait_until(lambda: num_steps_done(tmp_path / "killed") >= 5)
    launch.kill()
    run(killed, log=tmp_path / "log")
    assert weights_hash(tmp_path / "killed") == weights_hash(tmp_path / choice)


def test_the_backbones_last_stage_learns_where_one_field_says_so(recipe, backbone, tmp_path):
    arguments = recipe("vision", features__mode="online")
    run([*arguments, "--model.config.num_trainable_blocks", "1"], log=tmp_path / "log")
    before, after = load_file(backbone / "model.safetensors"), load_file(tmp_path / "run" / "model.safetensors")
    before = {name.replace("slowonly", "finegym_vision.backbone"): tensor for name, tensor in before.items()}
    backbone_names = {name for name in before if ".backbone." in name}
    changed = {name for name in backbone_names if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith("finegym_vision.backbone.blocks.2.") for name in changed)


def test_online_and_cached_features_give_the_same_losses(recipe, tmp_path):
    """With as many views as epochs, the cache holds exactly what would be computed online."""
    losses = {}
    for mode in ("online", "cached"):
        arguments = recipe("vision", features__mode=mode, features__views=2)
        run([*arguments, "--output_dir", tmp_path / mode], log=tmp_path / "log")
        losses[mode] = read_losses(tmp_path / mode)
    assert losses["online"] == pytest.approx(losses["cached"], rel=1e-5)


def test_features_are_standardized_by_those_of_the_training_videos(recipe, tmp_path):
    changes = {"features__folder": str(tmp_path / "features"), "model__config": {"standardize_features": True}}
    changes["model__config"] |= {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    arguments = recipe("vision", **changes)
    train(parse_recipe(arguments))
    tensors = {}
    for path in (tmp_path / "features").rglob("*.safetensors"):
        tensors |= load_file(path)
    first_views = [tensor for name, tensor in tensors.items() if name.startswith("train_") and name.endswith("#0")]
    assert len(first_views) == 16
    tokens = torch.cat(first_views).flatten(0, 1)
    weights = load_file(tmp_path / "run" / "model.safetensors")
    norm = "finegym_vision.video_embeddings.feature_norm"
    torch.testing.assert_close(weights[f"{norm}.mean"], tokens.mean(0))
    torch.testing.assert_close(weights[f"{norm}.std"], tokens.std(0, correction=0).clamp_min(1e-6))
    with pytest.raises(ValueError, match=r"set features\.mode cached"):
        train(parse_recipe([*arguments, "--features.mode", "online", "--output_dir", str(tmp_path / "online")]))


def test_tensorboard_gets_the_curves(recipe, tmp_path):
    run(recipe("slowonly", logging__trackers=["tensorboard"], evaluation__every_epochs=1), log=tmp_path / "log")
    [events] = (tmp_path / "run" / "logs").rglob("events.out.tfevents.*.0")
    accumulator = EventAccumulator(str(events))
    accumulator.Reload()
    assert [event.step for event in accumulator.Scalars("train/loss")] == list(range(1, 9))
    assert [event.step for event in accumulator.Scalars("val/mean_class_accuracy")] == [4, 8]


@pytest.mark.skipif(
    importlib.util.find_spec("trackio") is not None, reason="the refusal is for machines without trackio"
)
def test_a_tracker_that_is_not_installed_is_an_error(recipe):
    with pytest.raises(
        ValueError, match="logging.trackers names trackio, which is not installed: run `pip install trackio`"
    ):
        train(parse_recipe(recipe("slowonly", logging__trackers=["trackio"])))


def test_a_backbone_that_has_seen_the_validation_clips_is_refused(recipe, backbone, tmp_path):
    """Gym99 trains on videos that Gym288 validates on; the backbone's own metrics.json says what it was trained on."""
    leaking = json.loads((REPOSITORY / "configuration" / "leaking_videos.json").read_text())["pairs"][0]
    trained, video_id = tmp_path / "trained", leaking["videos"][0]
    shutil.copytree(backbone, trained)
    metrics = json.loads((trained / "metrics.json").read_text())
    metrics["trained_on"] = [{"dataset": leaking["train"], "annotation_version": leaking["train_versions"][0]}]
    (trained / "metrics.json").write_text(json.dumps(metrics))
    root = write_dataset(tmp_path / "data")
    rows = pq.read_table(root / "index.parquet").to_pylist()
    next(row for row in rows if row["split"] == "val")["id"] = video_id
    write_index(root, rows)
    labels = Labels.read(root / "labels.json")
    dataclasses.replace(labels, name=leaking["val"]).write(root / "labels.json")
    arguments = [*recipe("vision"), "--data.root", str(root), "--model.backbone", str(trained)]
    with pytest.raises(
        ValueError, match=f"1 of 8 validation videos were trained on by {leaking['train']}.*{video_id}"
    ):
        train(parse_recipe(arguments))
    run([*arguments, "--data.leave_out_leaking", "true"], log=tmp_path / "log")
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["num_evaluated"] == 7


def test_the_history_survives_a_torn_last_line(tmp_path):
    rows = [{"step": step, "loss": 1.0} for step in (1, 2, 3)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "history.jsonl").write_text(text + '{"step": 4, "lo')
    assert read_history(tmp_path, 3) == rows
    assert read_history(tmp_path, 2) == rows[:2]


def test_flops_are_those_of_the_paper_backbone():
    """Oracle: 166.96 G multiply-adds at 32 x 224 x 224, from published counts; backward takes twice the forward pass,
    except for the gradient of the input, which is not computed."""
    with torch.device("meta"):
        model = SlowOnlyForVideoClassification(SlowOnlyConfig(num_labels=99))
    flops = count_flops(model, {"pixel_values": torch.empty(1, 32, 3, 224, 224, device="meta")})
    stem = 2 * 64 * 3 * 49 * 32 * 112 * 112
    assert flops == pytest.approx(3 * 2 * 166.96e9 - stem, rel=1e-3)


def test_fewer_clips_than_a_batch_is_an_error_that_says_what_to_do(recipe):
    with pytest.raises(
        ValueError, match="has 16 training videos, too few for one batch of optimization.batch_size 64"
    ):
        train(parse_recipe([*recipe("slowonly"), "--optimization.batch_size", "64"]))
