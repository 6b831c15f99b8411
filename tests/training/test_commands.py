"""The commands as people type them, in separate processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.launching import REPOSITORY, STEADY, free_port, num_steps_done, read_losses, weights_hash


BIN = Path(sys.executable).parent
TORCHRUN = [BIN / "torchrun", "--nproc_per_node"]
ENVIRONMENT = {**os.environ, **STEADY}


def start(command, log) -> subprocess.Popen:
    with open(log, "a") as output:
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=REPOSITORY,
            env=ENVIRONMENT,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def wait(process, log, timeout=600) -> int:
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(f"{process.args} did not end within {timeout} s:\n{log.read_text()}") from None


def test_an_unknown_key_is_one_message_and_no_traceback(recipe):
    command = [sys.executable, "train.py", *recipe("slowonly"), "--optimization.lr", "1"]
    result = subprocess.run(command, cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode != 0
    assert "optimization.lr" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.slow
def test_every_way_to_start_two_processes_gives_the_same_weights(recipe, tmp_path):
    arguments = recipe("slowonly")
    launchers = {
        "torchrun": [*TORCHRUN, 2],
        "accelerate": [BIN / "accelerate", "launch", "--config_file", "configuration/accelerate/cpu.yaml"],
    }
    launchers["accelerate"] += ["--main_process_port", free_port()]
    hashes = set()
    for name, launcher in launchers.items():
        output_dir, log = tmp_path / name, tmp_path / f"{name}.log"
        process = start([*launcher, "train.py", *arguments, "--output_dir", output_dir], log)
        assert wait(process, log) == 0, log.read_text()
        assert "2 x" in json.loads((output_dir / "training.json").read_text())["hardware"]
        hashes.add(weights_hash(output_dir))
    assert len(hashes) == 1


@pytest.mark.slow
def test_two_nodes_find_each_other_and_agree_with_one_process(recipe, tmp_path):
    """Imitate two machines on the loopback: two torchruns of two processes each meet at one rendezvous (gloo)."""
    arguments = [*recipe("vision", optimization__micro_batch_size=1), "--features.folder", tmp_path / "features"]
    log, port = tmp_path / "log", free_port()
    meeting = [
        "--nnodes",
        2,
        "--rdzv_backend",
        "c10d",
        "--rdzv_endpoint",
        f"127.0.0.1:{port}",
        "--rdzv_id",
        "rehearsal",
    ]
    nodes = [
        start([*TORCHRUN, 2, *meeting, "train.py", *arguments, "--output_dir", tmp_path / "nodes"], log)
        for _ in range(2)
    ]
    assert [wait(node, log) for node in nodes] == [0, 0], log.read_text()
    assert "4 x" in json.loads((tmp_path / "nodes" / "training.json").read_text())["hardware"]
    alone = start([sys.executable, "train.py", *arguments, "--output_dir", tmp_path / "alone"], log)
    assert wait(alone, log) == 0, log.read_text()
    assert read_losses(tmp_path / "nodes") == pytest.approx(read_losses(tmp_path / "alone"), rel=1e-6)


@pytest.mark.slow
def test_preemption_under_torchrun(recipe, tmp_path):
    """Send SIGTERM to every process of the job, data workers included, as Slurm does; then repeat the command."""
    arguments = recipe("slowonly", optimization__epochs=100, checkpointing__every_steps=10_000, data__num_workers=1)
    straight, stopped, log = tmp_path / "straight", tmp_path / "stopped", tmp_path / "log"
    command = [*TORCHRUN, 2, "train.py", *arguments, "--output_dir"]
    assert wait(start([*command, straight], log), log) == 0, log.read_text()
    process = start([*command, stopped], log)
    deadline = time.monotonic() + 120
    while num_steps_done(stopped) < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    assert wait(process, log, timeout=60) != 0
    assert "run the same command again to resume" in log.read_text()
    assert wait(start([*command, stopped], log), log) == 0, log.read_text()
    assert weights_hash(stopped) == weights_hash(straight)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["rank", "worker"])
def test_a_death_under_torchrun_ends_the_job_within_a_minute(victim, recipe, tmp_path):
    arguments = recipe("slowonly", optimization__epochs=10_000, data__num_workers=1)
    log = tmp_path / "log"
    process = start([*TORCHRUN, 2, "train.py", *arguments], log)
    deadline = time.monotonic() + 120
    while num_steps_done(tmp_path / "run") < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    ranks = children(process.pid)
    os.kill(ranks[1] if victim == "rank" else children(ranks[1])[0], signal.SIGKILL)
    died = time.monotonic()
    assert wait(process, log) != 0
    assert time.monotonic() - died < 60
    expected = "Signal 9 (SIGKILL)" if victim == "rank" else "is killed by signal: Killed"
    assert expected in log.read_text()


def children(pid: int) -> list[int]:
    """Return the direct children in the order in which they started."""
    return sorted(
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    )
