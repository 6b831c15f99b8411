"""Count what harmful files do: `make fuzz` resumes where it stopped, until the requested counts are reached.

    python -m benchmarks.robustness --videos 10000 --reader_cases 100000 --paths 500 --soak_minutes 60

The seeds are fixed: case N of a format or a reader is the same file every time. The state (`--state`) keeps what has
been done and what went wrong, with its seed; `benchmarks/results/robustness.json` is written from it. Scratch files go
to memory where the system has a disk there, since a disk takes ten times as long as the cases.
"""

import argparse
import collections
import contextlib
import functools
import json
import logging
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from huggingface_hub import constants
from tqdm import tqdm

from finegym.data.files import write_text
from finegym.data.video_writing import write_video
from finegym.data.worker_pool import run_each
from finegym.evaluation.apart import apart
from modeling_finegym import FineGymVideoProcessor

from . import fuzz_names, fuzz_readers, fuzz_videos
from .common import write_results


STATE = Path("build") / "fuzz.json"
IN_MEMORY = Path("/dev/shm")
SAVE_EVERY = 60.0
# Cases that a process does at a time, and the seconds after which it is taken to hang.
CHUNKS = {"reader": 500, "video": 44, "path": 50, "folder": 1}
MAX_SECONDS = 3600.0
KINDS = {"death": "deaths", "hang": "hangs", "undocumented": "undocumented_errors"}
KINDS |= {"substitution": "silent_substitutions", "memory": "memory_beyond_formula", "escape": "escapes"}


@dataclass(frozen=True)
class Chunk:
    """Cases `first` to `stop - 1` of a kind; `name` is the reader's."""

    kind: str
    name: str
    first: int
    stop: int

    @property
    def key(self) -> str:
        return f"{self.kind} {self.name}".strip()


@dataclass
class Outcome:
    """What became of a chunk: its failures, and the largest growth of the decoding process in MB."""

    chunk: Chunk
    failures: list[dict[str, str]] = field(default_factory=list)
    growth: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=10_000)
    parser.add_argument("--reader_cases", type=int, default=100_000, help="cases of each reader")
    parser.add_argument("--paths", type=int, default=500, help="names, archive members and addresses")
    parser.add_argument("--folders", type=int, default=100, help="folders of files that whole commands read")
    parser.add_argument("--soak_minutes", type=float, default=60.0)
    parser.add_argument("--max_minutes", type=float, default=float("inf"), help="stop after this, to resume later")
    parser.add_argument("--num_workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--state", type=Path, default=STATE, help="what has been done")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    campaign = Campaign(options.state, 60 * options.max_minutes, options.num_workers)
    with contextlib.suppress(KeyboardInterrupt, TimeoutError):
        campaign.run("path", [""], options.paths)
        campaign.run("video", [""], options.videos)
        campaign.run("folder", [""], options.folders)
        campaign.run("reader", list(fuzz_readers.READERS), options.reader_cases)
        campaign.soak(options.soak_minutes)
    if "apart_ratio" not in campaign.growth:
        torch.set_num_threads(1)
        campaign.growth["apart_ratio"] = measure_apart()
    campaign.save()
    campaign.report()


class Campaign:
    """What has been tried so far, and what failed."""

    def __init__(self, path: Path, seconds: float, num_workers: int):
        state = json.loads(path.read_text()) if path.is_file() else {}
        self.path = path
        self.num_workers = num_workers
        # By kind and name, the first case of every chunk that is done, and how long it was.
        self.done: dict[str, dict[str, int]] = collections.defaultdict(dict, state.get("done", {}))
        self.soaked: float = state.get("soaked", 0.0)
        self.failures: list[dict[str, str]] = state.get("failures", [])
        self.growth: dict[str, float] = state.get("growth", {})
        self.end = time.monotonic() + seconds
        self.saved = time.monotonic()

    def count(self, key: str) -> int:
        return sum(self.done[key].values())

    def run(self, kind: str, names: Sequence[str], count: int) -> None:
        """Do the cases of a kind up to a number, in all processes, the names in turn."""
        size = CHUNKS[kind]
        chunks = [
            Chunk(kind, name, first, min(first + size, count)) for first in range(0, count, size) for name in names
        ]
        chunks = [
            chunk for chunk in chunks if self.done[chunk.key].get(str(chunk.first), 0) < chunk.stop - chunk.first
        ]
        outcomes = run_each(run_chunk, chunks, self.num_workers, module=__name__, killed=_killed, seconds=MAX_SECONDS)
        for outcome in tqdm(outcomes, kind, len(chunks), unit="chunk", disable=not chunks):
            chunk = outcome.chunk
            self.failures += outcome.failures
            self.done[chunk.key][str(chunk.first)] = chunk.stop - chunk.first
            self.growth[kind] = max(self.growth.get(kind, 0.0), outcome.growth)
            self.note()

    def soak(self, minutes: float) -> None:
        """Decode valid videos one after the other, and watch this process's memory, open files, threads and temporary
        files."""
        with tempfile.TemporaryDirectory(prefix="fuzz-", dir=_scratch()) as folder:
            films, temporary = Path(folder) / "films", Path(folder) / "temporary"
            films.mkdir()
            temporary.mkdir()
            fuzz_videos.make_sound(films)
            processor = fuzz_videos.make_reader().processor
            before, tempfile.tempdir = None, str(temporary)
            while self.soaked < 60 * minutes:
                start = time.monotonic()
                for path in sorted(films.iterdir()):
                    with contextlib.suppress(ValueError):  # one has no frames
                        processor.load_clips(path.read_bytes())
                now = count_resources()
                before = before or now
                self.growth["soak"] = now["memory_mb"] - before["memory_mb"]
                grown = [name for name in now if name != "memory_mb" and now[name] > before[name]]
                if grown:
                    problem = f"soak: more {', '.join(grown)}: {before} -> {now}"
                    self.failures.append({"case": "soak", "seed": "", "problem": problem})
                self.soaked += time.monotonic() - start
                self.note()
            tempfile.tempdir = None

    def note(self) -> None:
        """Save from time to time, and stop when the time is over."""
        now = time.monotonic()
        if now > self.saved + SAVE_EVERY:
            self.save()
            self.saved = now
        if now > self.end:
            raise TimeoutError

    def save(self) -> None:
        content = {"done": self.done, "failures": self.failures, "growth": self.growth, "soaked": self.soaked}
        write_text(self.path, json.dumps(content, indent=1) + "\n")

    def report(self) -> None:
        """Write the result file from what has been done so far."""
        kinds = collections.Counter(failure["problem"].partition(":")[0] for failure in self.failures)
        readers = {name: self.count(f"reader {name}") for name in fuzz_readers.READERS}
        figures = {"videos": self.count("video"), "folders": self.count("folder"), "paths": self.count("path")}
        figures |= {figure: kinds[kind] for kind, figure in KINDS.items()}
        figures |= {
            "address_failures": kinds["address"],
            "memory_growth_mb": self.growth.get("video", 0.0),
            "readers": len(readers),
            "cases_of_each_reader": min(readers.values()),
            "reader_cases": sum(readers.values()),
            "reader_failures": kinds["reader"],
            "soak_minutes": self.soaked / 60,
            "soak_growth_mb": self.growth.get("soak", 0.0),
            "apart_ratio": self.growth["apart_ratio"],
        }
        seeds = [{"case": key, "seeds": f"{self.count(key)} from 0 on"} for key in self.done]
        write_results("robustness", figures=figures, runs=[*seeds, *self.failures])


def run_chunk(chunk: Chunk) -> Outcome:
    """Do the cases of a chunk, in a process of its own."""
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    constants.HF_HUB_OFFLINE = False  # addresses are on the loopback interface
    outcome = Outcome(chunk)
    work: dict[str, Callable[[Chunk, int, Path], str | None]] = {"path": _path, "reader": _reader, "video": _video}
    work["folder"] = _folder
    for number in range(chunk.first, chunk.stop):
        with tempfile.TemporaryDirectory(prefix="case-", dir=_scratch()) as folder:
            problem = work[chunk.kind](chunk, number, Path(folder))
        if problem:
            outcome.failures.append({"case": chunk.key, "seed": str(number), "problem": problem})
    if chunk.kind == "video":
        process = _films()[0]._process
        if process is not None:
            outcome.growth = resident_mb(process.pid) - _usual_mb(process.pid)
    return outcome


def _killed(chunk: Chunk) -> Outcome:
    problem = f"death: one of the cases up to {chunk.stop - 1} kills the process, or takes more than an hour"
    return Outcome(chunk, [{"case": chunk.key, "seed": str(chunk.first), "problem": problem}])


def _path(chunk: Chunk, number: int, folder: Path) -> str | None:
    return fuzz_names.run_case(number, folder)


def _reader(chunk: Chunk, number: int, folder: Path) -> str | None:
    problem = fuzz_readers.run_case(chunk.name, random.Random(f"{chunk.name}/{number}"), folder)
    return problem and f"reader: {problem}"


def _video(chunk: Chunk, number: int, folder: Path) -> str | None:
    reader, films = _films()
    name, seed = list(films)[number % len(films)], number // len(films)
    problem = fuzz_videos.run_case(reader, films, name, random.Random(f"{name}/{seed}"), folder)
    return problem and f"{problem} ({name}, seed {seed})"


def _folder(chunk: Chunk, number: int, folder: Path) -> str | None:
    return fuzz_videos.run_folder(*_films(), number, folder)


@functools.cache
def _films() -> tuple[Any, dict[str, bytes]]:
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=_scratch()) as folder:
        return fuzz_videos.make_reader(), fuzz_videos.make_sound(Path(folder))


@functools.cache
def _usual_mb(pid: int) -> float:
    """Return the memory of a decoding process after its first chunk."""
    return resident_mb(pid)


def measure_apart(rounds: int = 20) -> float:
    """Return the processor time of the clips of an intact video of FineGym's size, decoded in a process of its own,
    over that of the same here."""
    processor, noise = FineGymVideoProcessor(), np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=_scratch()) as folder, apart(processor) as reader:
        path = Path(folder) / "video.mp4"
        write_video(path, noise.integers(60, 90, (64, 256, 340, 3), dtype=np.uint8), fps=25)
        reader.load_clips(path, 1)
        other = psutil.Process(reader._process.pid)
        here = -time.process_time()
        for _ in range(rounds):
            processor.load_clips(path, 1)
        here += time.process_time()
        there = -time.process_time() - sum(other.cpu_times()[:2])
        for _ in range(rounds):
            reader.load_clips(path, 1)
        there += time.process_time() + sum(other.cpu_times()[:2])
    return there / here


def _scratch() -> Path | None:
    """Return a disk in memory with room, or None for the usual folder."""
    return IN_MEMORY if IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > 2**30 else None


def resident_mb(pid: int) -> float:
    """Return the memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def count_resources() -> dict[str, float]:
    """Return what this process holds."""
    return {
        "memory_mb": resident_mb(os.getpid()),
        "open files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "temporary files": len(os.listdir(tempfile.gettempdir())),
    }


if __name__ == "__main__":
    main()
