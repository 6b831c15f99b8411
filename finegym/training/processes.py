"""Several processes acting as one: starting, exchanging a few numbers in every step, and stopping together."""

import ctypes
import logging
import os
import signal
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.utils import ProjectConfiguration
from torch import distributed

from .recipe import Recipe


logger = logging.getLogger(__name__)

# Longer than any pause of a healthy process (an evaluation, a slow disk), shorter than a person would wait.
COLLECTIVE_TIMEOUT = timedelta(minutes=30)
# A data worker outlives SIGTERM by this many seconds, so that the run it serves can finish its step and save.
WORKER_GRACE_SECONDS = 20
# Numbers of `mallopt`, from glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Tell glibc to keep the memory of freed tensors of up to 32 MB for the next step, rather than give it back.

    By default the top of the heap goes back to the system in every step and is asked for again page by page: in a
    training step of the small networks on a CPU these page faults are a seventh of the processor time, and threads
    wait for each other in them. On other C libraries this function does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, 32 * 2**20)  # the most that glibc permits
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def start_processes(recipe: Recipe) -> Accelerator:
    """Join the other processes of this launch (there may be none) and set up precision, trackers and determinism."""
    keep_freed_memory()
    if recipe.optimization.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = not recipe.optimization.deterministic
    accelerator = Accelerator(
        # Without this, Accelerate takes every process that torchrun starts on a machine without a GPU for the only
        # one.
        cpu=not torch.accelerator.is_available(),
        mixed_precision="bf16" if recipe.optimization.precision == "bf16" else "no",
        log_with=list(recipe.logging.trackers) or None,
        project_config=ProjectConfiguration(project_dir=recipe.output_dir, logging_dir=f"{recipe.output_dir}/logs"),
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=COLLECTIVE_TIMEOUT),
            # DDP regroups its buckets after the first step unless it looks for unused parameters. A resumed run would
            # then sum in another order than one that was never stopped, which shows in the last bit from three
            # processes on.
            DistributedDataParallelKwargs(find_unused_parameters=recipe.optimization.deterministic),
        ],
    )
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != launched:
        raise RuntimeError(
            f"{launched} processes were launched, but each works alone: Accelerate found "
            f"{accelerator.distributed_type}."
        )
    if recipe.optimization.micro_batch_size is None:
        logger.info(
            "optimization.micro_batch_size is not set: another number of processes than this "
            f"({accelerator.num_processes}) computes other losses."
        )
    return accelerator


class Exchange:
    """Sums of small numbers over all processes, on the CPU so that no accelerator waits and a dead process is noticed
    at once."""

    def __init__(self, accelerator: Accelerator):
        self.num_processes = accelerator.num_processes
        self.is_main_process = accelerator.is_main_process
        self.group = distributed.new_group(backend="gloo") if self.num_processes > 1 else None

    def sum(self, *values: float) -> list[float]:
        totals = torch.tensor(values, dtype=torch.float64)
        if self.group is not None:
            distributed.all_reduce(totals, group=self.group)
        return totals.tolist()

    def merge(self, values: dict) -> dict:
        """Return the union of one dict per process."""
        if self.group is None:
            return values
        gathered = [None] * self.num_processes
        distributed.all_gather_object(gathered, values, group=self.group)
        return {key: value for part in gathered for key, value in part.items()}

    def from_main(self, compute: Callable[[], Any]) -> Any:
        """Return what `compute` returns on the main process; if it raises there, every process raises."""
        if self.group is None:
            return compute()
        outcome: list = [None, None]
        if self.is_main_process:
            try:
                outcome[0] = compute()
            except Exception as error:
                outcome[1] = error
        distributed.broadcast_object_list(outcome, src=0, group=self.group)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]


class StopSignals:
    """Turns SIGTERM (a cluster's preemption) and Ctrl-C into a request that the loop grants between two steps.

    A second Ctrl-C interrupts at once; earlier states stay.
    """

    def __init__(self):
        self.received: signal.Signals | None = None

    def __enter__(self) -> "StopSignals":
        self._before = {number: signal.signal(number, self._receive) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)


def start_worker(worker: int) -> None:
    """Make a data worker ignore the signals that its process group gets: the run decides when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(WORKER_GRACE_SECONDS))
