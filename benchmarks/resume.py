"""Kill training runs and resume them: `python -m benchmarks.resume`.

For each family, on one and on two processes, one run goes from beginning to end; other runs are killed (SIGKILL to all
processes at once) at a random step or in the middle of writing a state, started again and left to finish. Their
weights files are compared byte by byte. Then the encoders change the number of processes 1 -> 2 -> 4 -> 1 with a kill
at each change, and every loss is compared with that of the run that was never stopped.

The models are small and run on CPU in float32, with one thread per process and with dropout.
"""

import argparse
import random
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import write_results
from tests.training.launching import Launch, is_saving, num_steps_done, read_losses, run, weights_hash
from tests.training.tiny import FAMILIES, write_dataset, write_recipe


NUM_STEPS = 8
WORLDS = (1, 2, 4, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=30, help="per family, half of them during a save")
    kills = parser.parse_args().kills
    with tempfile.TemporaryDirectory() as folder:
        runs, changes = measure(Path(folder), kills)
    figures = {
        "kills": sum(entry["kills"] for entry in runs),
        "kills_within_a_save": sum(entry["kills_within_a_save"] for entry in runs),
        "equal_hashes": sum(entry["kills"] for entry in runs if entry["equal"]),
        "world_changes": sum(len(change["worlds"]) - 1 for change in changes),
        "max_loss_difference": max(change["max_loss_difference"] for change in changes),
    }
    write_results("resume", figures=figures, runs=[*runs, *changes])


def measure(folder: Path, kills: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    root = write_dataset(folder / "data")
    runs, changes = [], []
    for family in FAMILIES:
        recipe = write_recipe(
            folder / f"{family}.yaml",
            family,
            root=root,
            output_dir=folder / family,
            backbone=folder / "slowonly",
            checkpointing__every_steps=1,
        )
        run(["--config", recipe], log=folder / "log")  # the encoders' backbone is the SlowOnly trained here
        for num_processes in (1, 2):
            runs += kill_runs(folder, family, ["--config", recipe], num_processes, kills // 2)
        if family != "slowonly":
            changes.append(change_worlds(folder, family, ["--config", recipe]))
    return runs, changes


def kill_runs(
    folder: Path, family: str, arguments: Sequence[str | Path], num_processes: int, kills: int
) -> list[dict[str, Any]]:
    """Kill `kills` runs, every other one during a save, and compare the result of each with an undisturbed run."""
    chance, log = random.Random(f"{family} {num_processes}"), folder / "log"
    straight, killed = folder / "straight", folder / "killed"
    shutil.rmtree(straight, ignore_errors=True)
    run([*arguments, "--output_dir", straight], num_processes=num_processes, log=log)
    runs = []
    for number in range(kills):
        shutil.rmtree(killed, ignore_errors=True)
        command = [*arguments, "--output_dir", killed]
        in_save, step = number % 2 == 0, chance.randrange(1, NUM_STEPS)
        count, within = 0, False
        while count == 0 or (in_save and not within and num_steps_done(killed) < NUM_STEPS):
            launch = Launch(command, num_processes=num_processes, log=log)
            if not launch.wait_until(lambda step=step: num_steps_done(killed) >= step):
                break
            if in_save and not launch.wait_until(lambda: is_saving(killed)):
                break
            launch.kill()
            count, within = count + 1, within or is_saving(killed)
        run(command, num_processes=num_processes, log=log)
        equal = weights_hash(killed) == weights_hash(straight)
        runs.append(
            {
                "family": family,
                "num_processes": num_processes,
                "step": step,
                "kills": count,
                "kills_within_a_save": int(within),
                "equal": equal,
            }
        )
        print(runs[-1], flush=True)
    return runs


def change_worlds(folder: Path, family: str, arguments: Sequence[str | Path]) -> dict[str, Any]:
    """Run on 1, 2, 4 and 1 processes with a kill at each change, and compare the losses with those of one process that
    is never stopped."""
    log = folder / "log"
    arguments = [*arguments, "--optimization.micro_batch_size", "1"]
    run([*arguments, "--output_dir", folder / f"{family}-alone"], log=log)
    changing = folder / f"{family}-changing"
    for position, num_processes in enumerate(WORLDS):
        launch = Launch([*arguments, "--output_dir", changing], num_processes=num_processes, log=log)
        if position < len(WORLDS) - 1:
            launch.wait_until(lambda steps=2 * position + 2: num_steps_done(changing) >= steps)
            launch.kill()
        else:
            launch.wait()
    losses = [read_losses(path) for path in (changing, folder / f"{family}-alone")]
    assert len(losses[0]) == len(losses[1]) == NUM_STEPS
    differences = [abs(first - second) / second for first, second in zip(*losses, strict=True)]
    return {"family": family, "worlds": WORLDS, "max_loss_difference": max(differences)}


if __name__ == "__main__":
    main()
