"""Describe the machine, time variants in turns, and write the result file, for every benchmark."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from finegym.data.files import write_text


RESULTS = Path(__file__).resolve().parent / "results"
LIBRARIES = ("torch", "torchvision", "transformers", "accelerate", "safetensors", "av", "pytorchvideo", "numpy")


def write_results(
    name: str, *, figures: Mapping[str, float], runs: Sequence[Mapping[str, Any]], folder: Path = RESULTS
) -> Path:
    """Write `results/NAME.json`: date, machine, versions, the figures by name and the raw runs behind them."""
    content = {
        "name": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "versions": versions(),
        "figures": dict(figures),
        "runs": list(runs),
    }
    path = folder / f"{name}.json"
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    for figure, value in figures.items():
        print(f"{figure:<55} {value:.6g}", flush=True)
    print(f"written to {path}", flush=True)
    return path


def describe_machine() -> dict[str, Any]:
    """Return processor, usable cores, threads, memory and accelerator."""
    return {
        "processor": _processor(),
        "num_cores": len(os.sched_getaffinity(0)),
        "num_threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that determine speed and numbers."""
    return {"python": platform.python_version()} | {library: metadata.version(library) for library in LIBRARIES}


def time_in_turns(
    variants: Mapping[str, Callable[[], Any]],
    *,
    num_rounds: int,
    num_warmups: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time each variant in each round, in seconds. Variants take turns, so that a busy moment affects all of them.

    With `clock=time.process_time`, the seconds are those of the processor that this process alone takes.
    """
    for _ in range(num_warmups):
        for run in variants.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(num_rounds):
        for name, run in variants.items():
            start = clock()
            run()
            _synchronize()
            seconds[name].append(clock() - start)
        print(f"round {number + 1}/{num_rounds}: " + _in_short(seconds), flush=True)
    return seconds


def median_ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    """Return the median over the rounds of slower / faster, each ratio within one round."""
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))


def _in_short(seconds: Mapping[str, Sequence[float]]) -> str:
    return "  ".join(f"{name} {values[-1]:.3f} s" for name, values in seconds.items())


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
