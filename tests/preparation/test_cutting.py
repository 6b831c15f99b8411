import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from footage import encode, picture

from finegym.data.worker_pool import run_each
from finegym.preparation.cutting import Cut, Encoding, Job, cut_source, run_jobs
from finegym.preparation.sources import Source


@dataclass(frozen=True)
class Killer:
    """A source that kills its process, as a decoder that crashes does."""

    name: str

    @contextlib.contextmanager
    def as_file(self, scratch):
        os.kill(os.getpid(), signal.SIGSEGV)
        yield scratch

    def digest(self):
        return "none"


def film(path: Path) -> Source:
    encode(path, [picture(number) for number in range(6)], np.arange(6) / 25)
    return Source(path, path.name)


@pytest.mark.slow
def test_a_source_that_kills_its_process_costs_its_own_clips_only(tmp_path):
    jobs = [Job(film(tmp_path / f"{n}.mp4"), (Cut(f"clip{n}", f"clips/clip{n}.mp4"),)) for n in range(4)]
    jobs.insert(1, Job(Killer("killer.mp4"), (Cut("lost", "clips/lost.mp4"),)))
    results = {result.id: result for result in run_jobs(jobs, tmp_path, Encoding(64), num_workers=1)}
    assert results.pop("lost").problem == "undecodable: killer.mp4 kills the decoder, or takes longer than 14400 s"
    assert {video_id: result.num_frames for video_id, result in results.items()} == {f"clip{n}": 6 for n in range(4)}


def hang(job):
    """Hold Python's lock for years, as a library that never returns does."""
    re.fullmatch("(a+)+b", "a" * 60)


@pytest.mark.slow
def test_a_job_that_never_ends_costs_only_itself():
    results = run_each(hang, ["endless"], 1, module="re", killed=lambda job: f"{job} is given up", seconds=1.0)
    assert list(results) == ["endless is given up"]


WAITING = """
import sys, time
from finegym.data.worker_pool import worker_pool
if __name__ == "__main__":
    with worker_pool(2, "time") as pool:
        print(pool.submit(time.time).result(), flush=True)
        pool.submit(time.sleep, 600).result()
"""


def alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
def test_workers_do_not_outlive_the_process_that_started_them():
    with subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        process.stdout.readline()
        workers = psutil.Process(process.pid).children(recursive=True)
        assert workers
        process.kill()
    deadline = time.monotonic() + 60
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not list(filter(alive, workers))


def test_an_impossible_encoding_is_refused():
    for wrong in ({"short_side": 255}, {"short_side": 8}, {"key_interval": 0}, {"crf": 52}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Encoding(**wrong)


def test_a_problem_names_the_video_and_no_copy_of_it(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "all.tar").write_bytes(np.random.default_rng(0).bytes(4000))
    source = Source(tmp_path / "all.tar", "a.mp4", offset=512, size=2000)
    [result] = cut_source(Job(source, (Cut("a", "clips/a.mp4"),)), tmp_path / "root", Encoding(64, 12, 18))
    assert result.problem.startswith("undecodable: a.mp4 is not a readable video")
    assert str(tmp_path) not in result.problem
