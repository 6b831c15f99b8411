"""A run that was killed and started again ends with the weights of one that never was, byte by byte."""

import random
import shutil
import signal

import pytest

from tests.training.launching import Launch, is_saving, num_steps_done, run, weights_hash
from tests.training.tiny import FAMILIES


NUM_STEPS = 8


@pytest.mark.parametrize("num_processes", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_killed_runs_end_with_the_same_weights(family, num_processes, recipe, tmp_path):
    arguments = [*recipe(family, checkpointing__every_steps=2), "--features.folder", tmp_path / "features"]
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    run([*arguments, "--output_dir", straight], num_processes=num_processes, log=tmp_path / "straight.log")
    log = tmp_path / "killed.log"
    steps = random.Random(f"{family} {num_processes}").sample(range(1, NUM_STEPS), 2)
    for moment in ("save", *sorted(steps)):
        launch = Launch([*arguments, "--output_dir", killed], num_processes=num_processes, log=log)
        if moment == "save":
            assert launch.wait_until(lambda: is_saving(killed))
        else:
            assert launch.wait_until(lambda moment=moment: num_steps_done(killed) >= moment)
        launch.kill()
    run([*arguments, "--output_dir", killed], num_processes=num_processes, log=log)
    assert weights_hash(killed) == weights_hash(straight)
    assert num_steps_done(killed) == NUM_STEPS  # no step is written down twice
    assert (killed / "history.jsonl").read_bytes() == (straight / "history.jsonl").read_bytes()
