"""Count what harmful files do: `make fuzz` resumes where it stopped, until the requested counts are reached.

    python -m benchmarks.robustness --videos 10000 --reader_cases 100000 --paths 500 --soak_minutes 60

The seeds are fixed: case N of a format or a reader is the same file every time. `build/fuzz.json` keeps
what has been done and what went wrong, with its seed; `benchmarks/results/robustness.json` is written from it.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import tempfile
import threading
import time
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from finegym.data.files import write_text
from finegym.data.index import read_index, write_index
from finegym.preparation.own_data import plan_own_data

from . import fuzz_readers, fuzz_videos
from .common import write_results


STATE = Path("build") / "fuzz.json"
SAVE_EVERY = 60.0
KINDS = {"death": "deaths", "hang": "hangs", "undocumented": "undocumented_errors"}
KINDS["substitution"] = "silent_substitutions"
PARTS = ["..", ".", "", "~", "a", "ü", "C:", "con", "a\\..", "..\\..", "\0", "\n", "%2e%2e", "\u2024\u2024", "a" * 300]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=10_000)
    parser.add_argument("--reader_cases", type=int, default=100_000, help="cases of each reader")
    parser.add_argument("--paths", type=int, default=500)
    parser.add_argument("--soak_minutes", type=float, default=60.0)
    parser.add_argument("--max_minutes", type=float, default=float("inf"), help="stop after this, to resume later")
    options = parser.parse_args()
    campaign = Campaign(json.loads(STATE.read_text()) if STATE.is_file() else {}, 60 * options.max_minutes)
    with contextlib.suppress(KeyboardInterrupt, TimeoutError):
        campaign.run_paths(options.paths)
        campaign.run_readers(options.reader_cases)
        campaign.run_videos(options.videos)
        campaign.soak(options.soak_minutes)
    campaign.save()
    campaign.report()


class Campaign:
    """What has been tried so far, and what failed."""

    def __init__(self, state: dict[str, Any], seconds: float):
        self.done = collections.Counter(state.get("done", {}))
        self.failures: list[dict[str, str]] = state.get("failures", [])
        self.growth: dict[str, float] = state.get("growth", {})
        self.end = time.monotonic() + seconds
        self.saved = time.monotonic()

    def run_readers(self, count: int) -> None:
        """Pass mutated files through every reader, one seed after the other."""
        first = min(self.done[f"reader {name}"] for name in fuzz_readers.READERS)
        for seed in tqdm(range(first, count), "Readers", initial=first, total=count):
            for name in fuzz_readers.READERS:
                if self.done[f"reader {name}"] == seed:
                    with tempfile.TemporaryDirectory(prefix="case-") as folder:
                        problem = fuzz_readers.run_case(name, random.Random(f"{name}/{seed}"), Path(folder))
                    self.note(f"reader {name}", seed, problem and f"reader: {problem}")

    def run_videos(self, count: int) -> None:
        """Decode mutated videos, the formats in turn."""
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            films, reader, usual = fuzz_videos.make_sound(Path(folder)), fuzz_videos.make_reader(), None
            names = list(films)
            for number in tqdm(range(self.done["video"], count), "Videos", initial=self.done["video"], total=count):
                name, seed = names[number % len(names)], number // len(names)
                chance = random.Random(f"{name}/{seed}")
                problem = fuzz_videos.run_case(reader, films, name, chance, Path(folder))
                self.note("video", number, problem and f"{problem} ({name}, seed {seed})")
                process = reader._process
                if process is not None and number % 50 == 49:
                    usual = usual or resident_mb(process.pid)
                    self.growth["videos"] = max(self.growth.get("videos", 0), resident_mb(process.pid) - usual)
            reader.close()

    def run_paths(self, count: int) -> None:
        """Try names that may lead out of their folder, in metadata and in indexes."""
        for seed in range(self.done["path"], count):
            chance = random.Random(f"path/{seed}")
            path = "/".join(chance.choice(PARTS) for _ in range(chance.randint(1, 5)))
            with tempfile.TemporaryDirectory(prefix="case-") as folder:
                self.note("path", seed, escape(f"{path}/b.mp4", Path(folder)))

    def soak(self, minutes: float) -> None:
        """Decode valid videos one after the other, and watch this process's memory, open files, threads and temporary
        files."""
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            fuzz_videos.make_sound(Path(folder))
            processor = fuzz_videos.make_reader().processor
            before = None
            while self.done["soak seconds"] < 60 * minutes:
                start = time.monotonic()
                for path in sorted(Path(folder).iterdir()):
                    processor.load_clips(path)
                now = count_resources()
                before = before or now
                self.growth["soak"] = now["memory_mb"] - before["memory_mb"]
                grown = [name for name in now if name != "memory_mb" and now[name] > before[name]]
                problem = f"soak: more {', '.join(grown)}: {before} -> {now}" if grown else None
                self.note("soak seconds", None, problem, amount=time.monotonic() - start)

    def note(self, what: str, seed: int | None, problem: str | None, amount: float = 1) -> None:
        """Count a case, and save from time to time."""
        if problem:
            self.failures.append({"case": what, "seed": str(seed), "problem": problem})
        self.done[what] += amount
        now = time.monotonic()
        if now > self.saved + SAVE_EVERY:
            self.save()
            self.saved = now
        if now > self.end:
            raise TimeoutError

    def save(self) -> None:
        content = {"done": self.done, "failures": self.failures, "growth": self.growth}
        write_text(STATE, json.dumps(content, indent=1) + "\n")

    def report(self) -> None:
        """Write the result file from what has been done so far."""
        kinds = collections.Counter(failure["problem"].partition(":")[0] for failure in self.failures)
        readers = {name: self.done[f"reader {name}"] for name in fuzz_readers.READERS}
        figures = {"videos": self.done["video"]} | {figure: kinds[kind] for kind, figure in KINDS.items()}
        figures |= {
            "memory_growth_mb": self.growth.get("videos", 0.0),
            "paths": self.done["path"],
            "escapes": kinds["escape"],
            "reader_cases": sum(readers.values()),
            "reader_failures": kinds["reader"],
            "soak_minutes": self.done["soak seconds"] / 60,
            "soak_growth_mb": self.growth.get("soak", 0.0),
        }
        seeds = [{"case": f"reader {name}", "seeds": f"0 to {count - 1}"} for name, count in readers.items()]
        seeds.append({"case": "video", "seeds": f"0 to {self.done['video'] - 1}, the formats in turn"})
        write_results("robustness", figures=figures, runs=[*seeds, *self.failures])


def escape(name: str, folder: Path) -> str | None:
    """Return whether a file of this name, in metadata or in an index, would be read or written outside `folder`."""
    (folder / "a.mp4").write_bytes(b"video")
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": name, "label": "x"}) + "\n")
    with contextlib.suppress(ValueError):
        for job in plan_own_data(str(folder), name="x").jobs:
            for cut in job.cuts:
                if not _is_inside(cut.file):
                    return f"escape: metadata {name!r} -> {cut.file!r}"
    row = {"id": "a", "file": name, "split": "val", "label": 0, "num_frames": 1}
    with contextlib.suppress(ValueError):
        write_index(folder, [row])
        if not all(_is_inside(os.path.relpath(found.path, folder)) for found in read_index(folder, "val")):
            return f"escape: index {name!r}"
    return None


def _is_inside(path: str) -> bool:
    return not PurePosixPath(path).is_absolute() and not os.path.normpath(path).startswith("..")


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
