"""Start training in real processes, watch them and kill them."""

import contextlib
import hashlib
import json
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path


REPOSITORY = Path(__file__).parents[2]
STEADY = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}

# Every process of a run is forked from a server that has imported torch and the project once, so that starting takes a
# tenth of a second rather than seconds of the processor; `test_commands.py` and benchmarks/resume.py start the real
# commands.
_context = multiprocessing.get_context("forkserver")
PRELOADED = "tests.training.preloaded"
_context.set_forkserver_preload([PRELOADED])


class Launch:
    """The processes of one run, as torchrun would start them: `arguments` are those of train.py."""

    def __init__(self, arguments: Sequence[str | Path], *, num_processes: int = 1, log: Path):
        self.log = log
        environment = dict(STEADY)
        if num_processes > 1:
            environment |= {
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(free_port()),
                "WORLD_SIZE": str(num_processes),
            }
        self.processes = []
        for rank in range(num_processes):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if num_processes > 1 else {}
            arguments = [str(argument) for argument in arguments]
            process = _context.Process(target=_train, args=(arguments, environment | place, str(log)))
            process.start()
            self.processes.append(process)

    def wait(self, timeout: float = 120) -> list[int]:
        """Return the exit codes; negative ones are signals. Processes that still run after `timeout` seconds are
        killed."""
        deadline = time.monotonic() + timeout
        for process in self.processes:
            process.join(max(0, deadline - time.monotonic()))
        alive = [process.pid for process in self.processes if process.is_alive()]
        self.kill()
        if alive:
            raise TimeoutError(f"Processes {alive} did not end within {timeout} s:\n{self.log.read_text()}")
        return [process.exitcode for process in self.processes]

    def kill(self) -> None:
        """Send SIGKILL to all at once, as when a machine fails."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        for process in self.processes:
            process.join()

    def signal(self, number: signal.Signals, rank: int = 0) -> None:
        os.kill(self.processes[rank].pid, number)

    def wait_until(self, condition: Callable[[], bool], timeout: float = 120) -> bool:
        """Wait for a condition, looking very often; False if the run ended before."""
        deadline = time.monotonic() + timeout
        while not condition():
            time.sleep(5e-4)  # a state takes ten times as long to save, and the run needs the processor
            if not any(process.is_alive() for process in self.processes):
                return condition()
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"Waited {timeout} s in vain:\n{self.log.read_text()}")
        return True


def run(arguments: Sequence[str | Path], *, num_processes: int = 1, log: Path) -> str:
    """Train to the end and return the log; fail if a process fails."""
    codes = Launch(arguments, num_processes=num_processes, log=log).wait()
    assert codes == [0] * num_processes, f"exit codes {codes}:\n{log.read_text()}"
    return log.read_text()


def is_saving(output_dir: Path) -> bool:
    """Return whether a state is being written at this moment."""
    return any((output_dir / "state").glob(".step_*.partial"))


def num_steps_done(output_dir: Path) -> int:
    """Count the rows of the history, which is written step by step where every step is logged."""
    history = output_dir / "history.jsonl"
    return history.read_bytes().count(b'"loss"') if history.exists() else 0


def read_losses(output_dir: Path) -> list[float]:
    rows = [json.loads(line) for line in (output_dir / "history.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def weights_hash(output_dir: Path) -> str:
    return hashlib.sha256((output_dir / "model.safetensors").read_bytes()).hexdigest()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_command(command: Sequence[str], folder: Path, output: Path, errors: Path) -> BaseProcess:
    """Start `finegym ...` or `python FILE ...` in a folder, as a terminal would: in a process group of its own."""
    process = _context.Process(target=_run_command, args=(list(command), str(folder), str(output), str(errors)))
    process.start()
    return process


def run_command(command: Sequence[str], folder: Path, timeout: float = 600) -> tuple[int, str, str]:
    """Run `finegym ...` or `python FILE ...` in a folder, and return its exit code, its output and its errors."""
    with tempfile.TemporaryDirectory() as scratch:
        output, errors = Path(scratch) / "output", Path(scratch) / "errors"
        process = start_command(command, folder, output, errors)
        try:
            process.join(timeout)
        finally:
            process.kill()
            process.join()
        return process.exitcode, output.read_text(), errors.read_text()


def _train(arguments: list[str], environment: dict[str, str], log: str) -> None:
    os.environ.update(environment)
    _become_a_command(log, log)
    import torch

    torch.set_num_threads(1)
    from finegym.commands.line import main

    sys.exit(main(["train", *arguments], prog="train.py"))


def _run_command(command: list[str], folder: str, output: str, errors: str) -> None:
    os.setpgid(0, 0)
    os.chdir(folder)
    _become_a_command(output, errors)
    program, *arguments = command
    if program == "finegym":
        from finegym.commands.line import main

        sys.exit(main(arguments))
    sys.argv = arguments
    sys.path.insert(0, folder)
    runpy.run_path(arguments[0], run_name="__main__")


def _become_a_command(output: str, errors: str) -> None:
    """Write to these files, and start processes of one's own as a process started from a shell does."""
    for path, standard in ((output, 1), (errors, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), standard)
    multiprocessing.set_start_method("fork", force=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which jobs in the background inherit otherwise
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # `worker_pool` may have started the server
