"""A run that is killed and started again ends with the weights of an undisturbed run, byte for byte."""

import json
import random
import shutil
import signal
import time

import pytest
import yaml

from tests.training.launching import REPOSITORY, Launch, is_saving, num_steps_done, read_losses, run, weights_hash
from tests.training.tiny import FAMILIES


NUM_STEPS = 8


def kill_and_resume(arguments, moments, *, num_processes, output_dir, log):
    """Start a run, kill it at each moment ("save" or a number of steps), and let it finish."""
    for moment in moments:
        launch = Launch([*arguments, "--output_dir", output_dir], num_processes=num_processes, log=log)
        if moment == "save":
            assert launch.wait_until(lambda: is_saving(output_dir))
        else:
            assert launch.wait_until(lambda moment=moment: num_steps_done(output_dir) >= moment)
        launch.kill()
    run([*arguments, "--output_dir", output_dir], num_processes=num_processes, log=log)


@pytest.mark.parametrize("num_processes", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_killed_runs_end_with_the_same_weights(family, num_processes, recipe, tmp_path):
    arguments = [*recipe(family, checkpointing__every_steps=2), "--features.folder", tmp_path / "features"]
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    run([*arguments, "--output_dir", straight], num_processes=num_processes, log=tmp_path / "straight.log")
    moments = ["save", random.Random(f"{family} {num_processes}").randrange(3, NUM_STEPS)]
    kill_and_resume(arguments, moments, num_processes=num_processes, output_dir=killed, log=tmp_path / "killed.log")
    assert weights_hash(killed) == weights_hash(straight)
    said = (
        f"micro_batch_size is not set: another number of processes than this ({num_processes}) computes other losses."
    )
    assert (tmp_path / "straight.log").read_text().count(said) == 1
    # no step is lost or recorded twice, and every loss is the same to the last digit
    assert (killed / "history.jsonl").read_bytes() == (straight / "history.jsonl").read_bytes()


def test_everything_that_moves_is_restored(recipe, tmp_path):
    """Combine moving average, gradient accumulation, mixup, clipping, warm-up, frozen batch normalization and data
    workers."""
    changes = {
        "ema_decay": 0.9,
        "gradient_accumulation": 2,
        "mixup": 0.3,
        "batch_norm": "frozen",
        "warmup_epochs": 1.0,
        "grad_clip": 0.5,
    }
    changes = {f"optimization__{name}": value for name, value in changes.items()}
    arguments = recipe("slowonly", checkpointing__every_steps=1, data__num_workers=1, **changes)
    run([*arguments, "--output_dir", tmp_path / "straight"], log=tmp_path / "log")
    kill_and_resume(arguments, [4], num_processes=1, output_dir=tmp_path / "killed", log=tmp_path / "log")
    assert weights_hash(tmp_path / "killed") == weights_hash(tmp_path / "straight")


@pytest.mark.parametrize("family", ["vision", "video_text"])
def test_any_number_of_processes_sees_the_same_losses(family, recipe, tmp_path):
    """With dropout, each piece of the global batch has its own masks, wherever it is computed."""
    arguments = [*recipe(family, optimization__micro_batch_size=1), "--features.folder", tmp_path / "features"]
    losses, metrics = {}, {}
    for num_processes in (1, 2, 4):
        output_dir = tmp_path / str(num_processes)
        run([*arguments, "--output_dir", output_dir], num_processes=num_processes, log=tmp_path / "log")
        losses[num_processes] = read_losses(output_dir)
        metrics[num_processes] = json.loads((output_dir / "metrics.json").read_text())
    assert len(losses[1]) == NUM_STEPS
    assert losses[2] == pytest.approx(losses[1], rel=1e-6)
    assert losses[4] == pytest.approx(losses[1], rel=1e-6)
    for name in ("top1", "mean_class_accuracy", "per_class", "num_evaluated"):
        assert metrics[1][name] == metrics[2][name] == metrics[4][name]


def test_a_shipped_recipe_sees_the_same_losses_on_two_processes(root, tmp_path):
    """Batch normalization's statistics and mixup's pairs are those of a piece, whose size is the same on any number of
    processes."""
    arguments = ["--config", REPOSITORY / "configuration" / "synthgym" / "slowonly.yaml"]
    small = {"data.root": root, "data.clip_len": 4, "data.short_side": 32, "data.crop_size": 32}
    small |= {"optimization.epochs": 2, "logging.every_steps": 1, "logging.trackers": [], "logging.pictures": False}
    small |= {"evaluation.every_epochs": 0}
    small |= {"model.config.stem_width": 8, "model.config.hidden_sizes": [8, 16, 16, 32]}
    small |= {"optimization.micro_batch_size": 4, "optimization.mixup": 0.3}
    arguments += [str(part) for name, value in small.items() for part in (f"--{name}", value)]
    for num_processes in (1, 2):
        output_dir = tmp_path / str(num_processes)
        log = run([*arguments, "--output_dir", output_dir], num_processes=num_processes, log=tmp_path / "log")
    assert "micro_batch_size is not set" not in log
    assert len(read_losses(tmp_path / "1")) == 4
    assert read_losses(tmp_path / "2") == pytest.approx(read_losses(tmp_path / "1"), rel=1e-6)


def test_the_world_may_change_at_every_kill(recipe, tmp_path):
    arguments = [*recipe("vision", optimization__micro_batch_size=1, checkpointing__every_steps=1)]
    arguments += ["--features.folder", tmp_path / "features"]
    run([*arguments, "--output_dir", tmp_path / "straight"], log=tmp_path / "log")
    changing = tmp_path / "changing"
    for num_processes, steps in ((1, 2), (2, 4), (4, 6)):
        launch = Launch([*arguments, "--output_dir", changing], num_processes=num_processes, log=tmp_path / "log")
        assert launch.wait_until(lambda steps=steps: num_steps_done(changing) >= steps)
        launch.kill()
    run([*arguments, "--output_dir", changing], log=tmp_path / "log")
    assert read_losses(changing) == pytest.approx(read_losses(tmp_path / "straight"), rel=1e-6)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_says_how_to_go_on(number, recipe, tmp_path):
    arguments = recipe("slowonly", optimization__epochs=500, checkpointing__every_steps=10_000, data__num_workers=1)
    output_dir, log = tmp_path / "run", tmp_path / "log"
    launch = Launch(arguments, num_processes=2, log=log)
    assert launch.wait_until(lambda: num_steps_done(output_dir) >= 3)
    launch.signal(number, rank=1)  # one process is signaled, all of them save and stop
    # the signaled process ends as a shell reports that signal, the other as after SIGTERM
    assert launch.wait(timeout=60) == [128 + signal.SIGTERM, 128 + number]
    done = num_steps_done(output_dir)
    assert (
        f"after step {done} of 2000" in log.read_text() and "run the same command again to resume" in log.read_text()
    )
    assert [path.name for path in (output_dir / "state").glob("step_*")] == [f"step_{done:08d}"]


def test_a_second_run_in_the_same_folder_is_refused(recipe, tmp_path):
    arguments = recipe("slowonly", optimization__epochs=500)
    first = Launch(arguments, log=tmp_path / "first.log")
    assert first.wait_until(lambda: num_steps_done(tmp_path / "run") >= 2)
    second = Launch(arguments, log=tmp_path / "second.log")
    assert second.wait() == [1]
    assert f"Another run is writing to {tmp_path / 'run'}" in (tmp_path / "second.log").read_text()
    steps = num_steps_done(tmp_path / "run")
    assert first.wait_until(lambda: num_steps_done(tmp_path / "run") > steps)  # the first continues
    first.kill()


def test_a_changed_recipe_is_refused_unless_the_change_is_harmless(recipe, tmp_path):
    log = tmp_path / "log"
    run(recipe("slowonly"), log=log)
    changed = [*recipe("slowonly"), "--optimization.learning_rate", "0.02", "--data.flip", "0"]
    assert Launch(changed, log=log).wait() == [1]
    assert "data.flip (was 0.5, is 0.0), optimization.learning_rate (was 0.05, is 0.02)" in log.read_text()
    run([*recipe("slowonly"), "--data.num_workers", "1", "--logging.every_steps", "3"], log=log)


def test_another_backbone_behind_the_same_name_is_refused(recipe, backbone, tmp_path):
    log = tmp_path / "log"
    run(recipe("vision"), log=log)
    other = tmp_path / "other"
    run([*recipe("slowonly"), "--seed", "1", "--output_dir", other], log=log)
    assert Launch([*recipe("vision"), "--model.backbone", other], log=log).wait() == [1]
    assert "contents of model.backbone" in log.read_text()


def test_a_finished_run_is_left_alone(recipe, tmp_path):
    run(recipe("slowonly"), log=tmp_path / "log")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir() if path.is_file()}
    assert "is complete" in run(recipe("slowonly"), log=tmp_path / "log")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir() if path.is_file()}


def test_old_metrics_do_not_make_a_new_run_complete(recipe, tmp_path):
    folder, arguments = tmp_path / "run", [*recipe("slowonly"), "--seed", "1"]
    run(recipe("slowonly"), log=tmp_path / "log")
    shutil.rmtree(folder / "state")
    launch = Launch(arguments, log=tmp_path / "log")
    assert launch.wait_until((folder / "state" / f"step_{NUM_STEPS:08d}").exists)
    launch.kill()  # after the last state, and most likely before the new metrics
    run(arguments, log=tmp_path / "log")
    run([*arguments, "--output_dir", tmp_path / "straight"], log=tmp_path / "log")
    assert weights_hash(folder) == weights_hash(tmp_path / "straight")
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["seed"] == 1


def test_a_finished_run_that_is_asked_for_another_split_is_evaluated_anew(recipe, tmp_path):
    run(recipe("slowonly"), log=tmp_path / "log")
    weights = weights_hash(tmp_path / "run")
    run([*recipe("slowonly"), "--data.val_split", "train", "--data.num_clips", "3"], log=tmp_path / "log")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["split"], metrics["num_evaluated"], metrics["num_clips"]) == ("train", 16, 3)
    assert weights_hash(tmp_path / "run") == weights


def test_a_dying_process_ends_the_job(recipe, tmp_path):
    launch = Launch(recipe("slowonly", optimization__epochs=500), num_processes=2, log=tmp_path / "log")
    assert launch.wait_until(lambda: num_steps_done(tmp_path / "run") >= 3)
    start = time.monotonic()
    launch.signal(signal.SIGKILL, rank=1)
    codes = launch.wait(timeout=60)
    assert codes[1] == -signal.SIGKILL and codes[0] not in (0, None)
    assert time.monotonic() - start < 60
