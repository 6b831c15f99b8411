"""Own data through training: folds, the test split, what a backbone has seen, and the rows of the table."""

import json
import shutil

import numpy as np
import pytest
from transformers import VideoMAEConfig, VideoMAEImageProcessor, VideoMAEModel

from finegym.data.checkpoints import load_video_processor
from finegym.data.index import read_index
from finegym.data.video_writing import write_video
from finegym.evaluation.evaluate import Protocol, evaluate_checkpoints
from finegym.evaluation.report import read_metrics
from finegym.evaluation.table import compare_checkpoints
from finegym.hub.card import render_card
from finegym.hub.checkpoint import Checkpoint
from finegym.paths import CONFIGURATION
from finegym.preparation.cutting import Encoding
from finegym.preparation.own_data import import_videos
from finegym.preparation.splitting import Division
from finegym.training.loop import train
from finegym.training.recipe_parsing import parse_recipe
from modeling_finegym import FineGymVideoProcessor, SlowOnlyConfig, SlowOnlyModel
from tests.training.tiny import write_recipe


@pytest.fixture(scope="module")
def folded(tmp_path_factory):
    """Forty videos of two classes in twenty groups, three folds, and four test videos in groups of their own."""
    folder = tmp_path_factory.mktemp("own")
    rows = ["file_name,label,group,split"]
    for number in range(44):
        frames = np.random.default_rng(number).integers(0, 90, (8, 32, 40, 3), dtype=np.uint8)
        for time in range(8):
            column = 3 * time if number % 2 else 24 - 3 * time
            frames[time, 12:20, column : column + 8] = 230
        write_video(folder / "mine" / f"{number}.mp4", frames, fps=25)
        label, split = "left" if number % 2 else "right", "test" if number > 39 else ""
        rows.append(f"{number}.mp4,{label},g{number // 2},{split}")
    (folder / "mine" / "metadata.csv").write_text("\n".join(rows))
    options = {"division": Division(num_folds=3), "encoding": Encoding(32), "num_workers": 0}
    import_videos(str(folder / "mine"), folder / "root", license="cc-by-4.0", **options)
    return folder / "root"


@pytest.fixture(scope="module")
def backbones(folded, tmp_path_factory):
    """A SlowOnly for each of two folds."""
    folder = tmp_path_factory.mktemp("backbones")
    for fold in range(2):
        options = {"root": folded, "output_dir": folder / f"fold={fold}", "data__fold": fold}
        path = write_recipe(folder / f"{fold}.yaml", "slowonly", optimization__epochs=1, **options)
        train(parse_recipe(["--config", str(path)]))
    return folder


def encoder(folder, root, backbone, **changes):
    path = write_recipe(folder / "recipe.yaml", "vision", root=root, backbone=backbone, output_dir=folder, **changes)
    return parse_recipe(["--config", str(path)])


def test_folds_are_trained_on_and_reported_as_one(folded, backbones, tmp_path):
    metrics = {}
    for fold in range(2):
        recipe = encoder(tmp_path / f"fold={fold}", folded, backbones / f"fold={fold}", data__fold=fold)
        metrics[fold] = train(recipe)
        assert metrics[fold]["fold"] == fold
        assert metrics[fold]["num_evaluated"] == len(read_index(folded, "val", fold=fold))
        assert {"dataset": "root", "annotation_version": "own", "fold": fold} in metrics[fold]["trained_on"]
    lines = compare_checkpoints(tmp_path).splitlines()
    mean = np.mean([metrics[fold]["top1"] for fold in range(2)])
    spread = np.std([metrics[fold]["top1"] for fold in range(2)], ddof=1)
    row = next(line for line in lines if line.startswith("mean of 2 folds"))
    assert f"{mean:.2f} ± {spread:.2f} %" in row
    for control in ("linear_control", "pyramid_control"):
        values = [metrics[fold]["controls"][control]["top1"] for fold in range(2)]
        title = (
            "logistic regression on the mean " if control == "linear_control" else "logistic regression on mean and"
        )
        row = next(line for line in lines if line.startswith(title))
        assert f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f} %" in row
    one = compare_checkpoints(tmp_path / "fold=0", backbones / "fold=1").splitlines()
    assert len(one) == 2 + 2 + 2 and sum("logistic regression" in line for line in one) == 2


def test_a_backbone_that_has_seen_the_fold_is_refused(folded, backbones, tmp_path):
    with pytest.raises(ValueError, match="validation videos were trained on by root own, all folds but 0"):
        train(encoder(tmp_path, folded, backbones / "fold=0", data__fold=1))


def test_a_checkpoint_is_evaluated_on_its_own_fold_and_on_the_test_split(folded, backbones, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(backbones / "fold=1", checkpoint)
    before = (checkpoint / "metrics.json").read_bytes()
    evaluate_checkpoints([str(checkpoint)], Protocol(folded, split="test", num_clips=2))
    assert (checkpoint / "metrics.json").read_bytes() == before
    tested = read_metrics(checkpoint / "test")
    assert (tested["split"], tested["num_evaluated"], tested["num_expected"]) == ("test", 4, 4)
    assert [line.split("  ")[0] for line in compare_checkpoints(tmp_path).splitlines()[2:] if "(test)" in line] == [
        "checkpoint (test)"
    ]
    evaluate_checkpoints([str(checkpoint)], Protocol(folded, num_clips=2))
    assert read_metrics(checkpoint)["num_evaluated"] == len(read_index(folded, "val", fold=1))
    with pytest.raises(ValueError, match="trained on by root own, all folds but 1"):
        evaluate_checkpoints([str(checkpoint)], Protocol(folded, fold=2))


@pytest.mark.parametrize("field", ["train_split", "val_split"])
def test_the_test_split_is_neither_trained_nor_tuned_on(folded, tmp_path, field, capsys):
    path = write_recipe(
        tmp_path / "recipe.yaml", "slowonly", root=folded, output_dir=tmp_path, **{f"data__{field}": "test"}
    )
    with pytest.raises((SystemExit, ValueError)) as stopped:
        parse_recipe(["--config", str(path)])
    said = capsys.readouterr().err + str(stopped.value)
    assert f"data.{field} is the test split" in said and "finegym evaluate --split test" in said.replace("\n", " ")


def test_rows_of_different_experiments_are_not_averaged(tmp_path):
    for name, experiment, seed in (("a", "x", 0), ("b", "x", 0), ("c", "y", 0), ("d", "z", 0), ("e", "z", 1)):
        (tmp_path / name).mkdir()
        metrics = {"top1": 50.0, "mean_class_accuracy": 50.0 + seed, "num_parameters": 1, "num_evaluated": 1}
        metrics |= {"num_expected": 1, "dataset": "own", "split": "val", "experiment": experiment, "seed": seed}
        (tmp_path / name / "metrics.json").write_text(json.dumps(metrics))
    means = [line for line in compare_checkpoints(tmp_path).splitlines() if "mean of" in line]
    assert len(means) == 1 and means[0].startswith("d mean of 2 seeds") and "50.50 ± 0.71 %" in means[0]


SLOWONLY = {"stem_width": 8, "hidden_sizes": (16, 32, 32, 64), "depths": (1, 1, 1, 1)}
MEAN, STD = [0.45, 0.45, 0.45], [0.225, 0.225, 0.225]


def write_backbone(folder, kind):
    """Write what the recipes for own data start from, with a few random weights."""
    crop = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    if kind != "fine_tuned":
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        VideoMAEModel(VideoMAEConfig(image_size=32, num_frames=4, **sizes)).save_pretrained(folder)
        VideoMAEImageProcessor(image_mean=MEAN, image_std=STD, **crop).save_pretrained(folder)
    else:
        SlowOnlyModel(SlowOnlyConfig(num_frames=4, image_size=32, **SLOWONLY)).save_pretrained(folder)
        FineGymVideoProcessor(image_mean=MEAN, image_std=STD, num_frames=4, **crop).save_pretrained(folder)
    return ["--model.backbone", str(folder)]


@pytest.mark.parametrize("name", ["small", "frozen", "lora", "full", "fine_tuned"])
def test_every_recipe_for_own_videos_trains(folded, tmp_path, name):
    config = ["--config", str(CONFIGURATION / "own" / f"{name}.yaml")]
    as_shipped = parse_recipe(config)
    assert as_shipped.name == f"own-{name.replace('_', '-')}" and as_shipped.data.root == "data/mine"
    assert as_shipped.data.mean is None
    options = f"--data.root {folded} --output_dir {tmp_path / 'run'} --data.clip_len 4 --data.frame_interval 1".split()
    options += "--data.short_side 32 --data.crop_size 32 --optimization.batch_size 4 --optimization.epochs 1".split()
    options += "--optimization.micro_batch_size 4 --optimization.warmup_epochs 0 --logging.trackers []".split()
    options += ["--logging.pictures", "false"]
    if name != "small":
        options += write_backbone(tmp_path / "backbone", name)
    if name in ("small", "fine_tuned"):
        options += [part for key, value in SLOWONLY.items() for part in (f"--model.config.{key}", json.dumps(value))]
    metrics = train(parse_recipe([*config, *options]))
    assert (metrics["dataset"], metrics["num_evaluated"]) == ("root", len(read_index(folded, "val")))
    assert ("controls" in metrics) == (name == "frozen")
    processor = load_video_processor(str(tmp_path / "run"))
    assert processor.frame_rate == 25 and not processor.protocol_counts_frames
    assert [*processor.image_mean] == (MEAN if name != "small" else [0.485, 0.456, 0.406])
    card = str(render_card(Checkpoint.read(tmp_path / "run"), "someone/model"))
    assert card.count("SynthGym") == card.count("Measured on SynthGym"), "only the methods of explanation were"
    assert not any(word in card for word in ("synthgym", "gymnast", "example.mp4", "finegym_"))
