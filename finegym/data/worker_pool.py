"""Processes that share work: they end with the process that started them, and leave what they have not begun.

In: a number of processes and the module whose functions they run. Out: an executor of the standard library.
"""

import contextlib
import faulthandler
import functools
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from typing import TypeVar


try:
    import resource
except ImportError:  # Windows
    resource = None

# What a process that decodes strangers' videos may take: the largest frames allowed take 4.3e9 bytes, with all that a
# decoder keeps of them (`modeling_finegym.video_decoding`).
MAX_MEMORY = 8 * 2**30

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_each(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    num_workers: int,
    *,
    module: str,
    killed: Callable[[Job], Result],
    seconds: float | None = None,
) -> Iterator[Result]:
    """Apply a function of a module to every job, and yield the results as they come, in any order.

    Args:
        num_workers: The number of processes; 0 works in this one.
        killed: The result of a job that kills the process that does it. It costs no other job.
        seconds: The time after which a job's process is ended, even where a library hangs; None sets no limit, and
            `num_workers=0` knows none.
    """
    if num_workers == 0:
        yield from map(function, jobs)
        return
    function = function if seconds is None else functools.partial(_end_after, seconds, function)
    unfinished = list(jobs)
    while unfinished:
        with contextlib.suppress(BrokenProcessPool), worker_pool(num_workers, module) as pool:
            futures = {pool.submit(function, job): job for job in unfinished}
            for future in as_completed(futures):
                result = future.result()
                unfinished.remove(futures[future])
                yield result
        # A worker died, on an unknown job: those in progress, at most one more than two per worker, are each tried in
        # a process of their own.
        suspects, unfinished = unfinished[: 2 * num_workers + 1], unfinished[2 * num_workers + 1 :]
        for job in suspects:
            with worker_pool(1, module) as pool:
                try:
                    result = pool.submit(function, job).result()
                except BrokenProcessPool:
                    result = killed(job)
            yield result


def bound_memory() -> None:
    """Let this process have no more than `MAX_MEMORY`; Linux refuses what is beyond, and the decoder reports it."""
    if resource is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = MAX_MEMORY if hard == resource.RLIM_INFINITY else min(MAX_MEMORY, hard)
        with contextlib.suppress(ValueError, OSError):  # systems without this limit
            resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


@contextlib.contextmanager
def worker_pool(num_workers: int, module: str) -> Iterator[ProcessPoolExecutor]:
    """Start processes for functions of a module; at an error or interrupt, waiting work is dropped."""
    context = server_context(module)
    pool = ProcessPoolExecutor(num_workers, mp_context=context, initializer=_begin)
    try:
        with _interrupts_wait():
            for _ in range(num_workers):
                pool.submit(int)
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def server_context(module: str) -> BaseContext:
    """Return a context whose processes are forked from a small server that has imported `module`, and not from this
    process with its threads. They leave Ctrl-C, which a terminal sends to every process, to this one."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    multiprocessing.resource_tracker.ensure_running()  # which, starting, unblocks what is blocked here
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        multiprocessing.forkserver.ensure_running()  # and inherits the mask, as its children do
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Hold Ctrl-C back during the block: a worker that is half begun would end with a traceback."""
    if threading.current_thread() is not threading.main_thread():  # where Ctrl-C never arrives
        yield
        return
    waiting = []
    before = signal.signal(signal.SIGINT, lambda number, frame: waiting.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if waiting:
            signal.raise_signal(signal.SIGINT)


def _end_after(seconds: float, function: Callable[[Job], Result], job: Job) -> Result:
    with open(os.devnull, "w") as nowhere:
        # A thread of its own, which needs no lock of Python's: it ends what hangs in C.
        faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
        try:
            return function(job)
        finally:
            faulthandler.cancel_dump_traceback_later()


def _begin() -> None:
    """Let a worker end at once with Ctrl-C, and when the process that started it is killed; otherwise it would go on
    with its work, and wait for more forever."""

    def watch(sentinel: int) -> None:
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, args=(multiprocessing.parent_process().sentinel,), daemon=True).start()
    bound_memory()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
