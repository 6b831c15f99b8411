"""Compare `make train` and `make test` with an earlier checkout: `python -m benchmarks.first_run --before FOLDER`.

The four commands of `make train` run in turns: one stage of the earlier code, the same stage of this code, and so on,
each in its own process with only its own checkout on the path. A shortened round has fewer videos of each class
(`--videos_per_class`, of 64 and 40) and is otherwise the same. All work except start-up shrinks alike, so the ratio is
a little worse than that of a full round (`--full`). The file says what was run.

`--seeds 0 1 2` trains SlowOnly and both encoders in full and compares their top-1 accuracy with that of the same seeds
in the earlier checkout's `benchmarks/results/synthgym.json`; `--tests` runs both test suites.

Finished measurements are kept in `--folder`: the same command resumes, and another one adds to them.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.common import write_results
from finegym.data.files import write_text


ROOT = Path(__file__).resolve().parent.parent
FULL = (64, 40)  # videos of each class in training and validation
# stage -> its name in benchmarks/results/synthgym.json, or None, and its recipe
STAGES = {
    "drawing": (None, None),
    "slowonly": ("slowonly", "slowonly.yaml"),
    "vision_encoder": ("vision_encoder_b3", "vision_encoder.yaml"),  # the features too
    "video_text": ("video_text", "video_text.yaml"),
}


def run_command(checkout: Path, *command: str | Path, log: Path) -> dict[str, Any]:
    """Run Python in a checkout, and return wall-clock seconds and the exit status."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with open(log, "w", encoding="utf-8") as output:
        status = subprocess.run(
            [sys.executable, *map(str, command)], cwd=checkout, env=environment, stdout=output, stderr=output
        ).returncode
    return {"seconds": time.perf_counter() - start, "status": status}


def command_of_make(checkout: Path, target: str, word: str) -> list[str]:
    """The arguments with which a checkout's Makefile starts Python in the line of a target that has this word."""
    make = ["make", "--dry-run", "--old-file=.venv/.installed", target]
    lines = subprocess.run(make, cwd=checkout, capture_output=True, text=True, check=True).stdout.splitlines()
    return shlex.split(next(line for line in lines if word in line))[1:]


def run_stage(checkout: Path, stage: str, folder: Path, videos: tuple[int, int], *options: str) -> dict[str, Any]:
    """Run one stage of `make train`, writing below `folder`.

    Raises:
        RuntimeError: the stage fails; the message names the log.
    """
    data = folder / "synthgym"
    if stage == "drawing":
        sizes = [f"--num_train_per_class={videos[0]}", f"--num_val_per_class={videos[1]}"]
        command = ["-m", "finegym", "synthgym", data, *sizes]
    else:
        recipe = checkout / "configuration" / "synthgym" / STAGES[stage][1]
        launcher = command_of_make(checkout, "train", recipe.name)[:-2]  # without `--config RECIPE`
        command = [*launcher, "--config", recipe, "--data.root", data, "--output_dir", folder / stage, *options]
        if stage != "slowonly":
            command += ["--model.backbone", folder / "slowonly"]
    run = run_command(checkout, *command, log=folder / f"{stage}.log")
    if run["status"]:
        raise RuntimeError(f"{stage} of {checkout} ended with status {run['status']}; see {folder / stage}.log.")
    return run


def measure_round(before: Path, folder: Path, number: int, videos: tuple[int, int], runs: list[dict], save) -> None:
    """Run every stage of both checkouts in turns, except the stages that `runs` already has."""
    order = ("before", "after") if number % 2 == 0 else ("after", "before")
    for stage in STAGES:
        for version in order:
            key = {"kind": "train", "round": number, "videos_per_class": list(videos), "stage": stage}
            key |= {"version": version}
            if any(key.items() <= run.items() for run in runs):
                continue
            place = folder / f"round{number}_{videos[0]}" / version
            runs.append(key | run_stage(before if version == "before" else ROOT, stage, place, videos))
            save()


def measure_accuracy(folder: Path, seed: int, runs: list[dict], save) -> None:
    """Train the three models of a seed in full with this code, and return their top-1 accuracies."""
    data = folder / "accuracy"
    run_stage(ROOT, "drawing", data, FULL)
    place = data / f"seed{seed}"
    place.mkdir(exist_ok=True)
    if not (place / "synthgym").exists():
        (place / "synthgym").symlink_to(data / "synthgym")
    for stage, (model, _) in STAGES.items():
        key = {"kind": "accuracy", "seed": seed, "model": model}
        if model is None or any(key.items() <= run.items() for run in runs):
            continue
        run = run_stage(ROOT, stage, place, FULL, "--seed", str(seed))
        runs.append(key | run | {"top1": json.loads((place / stage / "metrics.json").read_text())["top1"]})
        save()


def measure_tests(before: Path, folder: Path, runs: list[dict], save) -> None:
    """Run both test suites. The earlier one fails on some processors, so its last line is kept."""
    for version, checkout in (("before", before), ("after", ROOT)):
        log = folder / f"tests_{version}.log"
        run = run_command(checkout, *command_of_make(checkout, "test", "pytest"), log=log)
        runs.append({"kind": "tests", "version": version, "last_line": log.read_text().splitlines()[-1], **run})
        save()


def compute_figures(before: Path, runs: list[dict]) -> dict[str, float]:
    """Return the ratios of this code over the earlier one, from the rounds with the most videos only."""
    figures: dict[str, float] = {}
    trains = [run for run in runs if run["kind"] == "train"]
    if trains:
        most = max(run["videos_per_class"] for run in trains)
        trains = [run for run in trains if run["videos_per_class"] == most]
        rounds = [number for number in {run["round"] for run in trains} if _is_whole(trains, number)]
        ratios = [_total(trains, number, "after") / _total(trains, number, "before") for number in rounds]
        if ratios:
            figures |= {"train_ratio": statistics.median(ratios)}
            figures |= {"train_ratio_low": min(ratios), "train_ratio_high": max(ratios)}
            for version in ("before", "after"):
                seconds = statistics.median(_total(trains, number, version) for number in rounds)
                figures[f"train_minutes_{version}"] = seconds / 60
        for stage in STAGES:
            for version in ("before", "after"):
                seconds = [r["seconds"] for r in trains if (r["stage"], r["version"]) == (stage, version)]
                if seconds:
                    figures[f"{stage}.seconds_{version}"] = statistics.median(seconds)
        figures |= {"rounds": len(rounds), "train_videos_per_class": most[0], "val_videos_per_class": most[1]}
    tests = {run["version"]: run["seconds"] for run in runs if run["kind"] == "tests"}
    if len(tests) == 2:
        figures["test_ratio"] = tests["after"] / tests["before"]
    return figures | compare_accuracy(before, [run for run in runs if run["kind"] == "accuracy"])


def compare_accuracy(before: Path, runs: list[dict]) -> dict[str, float]:
    """Return each model's mean top-1, now and before on the same seeds, and the smallest difference of the three."""
    figures: dict[str, float] = {}
    earlier = json.loads((before / "benchmarks" / "results" / "synthgym.json").read_text())["runs"]
    differences = []
    for model, _ in STAGES.values():
        now = {run["seed"]: run["top1"] for run in runs if run["model"] == model}
        if model is None or not now:
            continue
        then = [r["top1"] for r in earlier if (r["split"], r["model"]) == ("class", model) and r["seed"] in now]
        figures |= {f"{model}.top1": statistics.mean(now.values()), f"{model}.top1_before": statistics.mean(then)}
        if len(now) > 1:
            figures |= {f"{model}.std": statistics.stdev(now.values()), f"{model}.std_before": statistics.stdev(then)}
        figures[f"{model}.seeds"] = len(now)
        differences.append(statistics.mean(now.values()) - statistics.mean(then))
    return figures | ({"accuracy_difference": min(differences)} if differences else {})


def _is_whole(runs: list[dict], number: int) -> bool:
    return sum(run["round"] == number for run in runs) == 2 * len(STAGES)


def _total(runs: list[dict], number: int, version: str) -> float:
    return sum(run["seconds"] for run in runs if (run["round"], run["version"]) == (number, version))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="the earlier checkout")
    parser.add_argument("--folder", type=Path, default=Path("outputs/bench_first_run"))
    parser.add_argument("--videos_per_class", type=int, nargs=2, default=(8, 5), metavar=("TRAIN", "VAL"))
    parser.add_argument("--full", action="store_true", help="rounds with all videos: 64 and 40 of each class")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no round that may end later")
    parser.add_argument("--seeds", type=int, nargs="*", default=[], help="train in full for the accuracies")
    parser.add_argument("--tests", action="store_true", help="run both test suites")
    parser.add_argument("--smoke", action="store_true", help="two videos per class; writes no result")
    arguments = parser.parse_args()
    videos = FULL if arguments.full else (2, 1) if arguments.smoke else tuple(arguments.videos_per_class)
    before, folder = arguments.before.resolve(), arguments.folder.resolve()
    file = folder / "runs.json"
    runs = json.loads(file.read_text()) if file.exists() else []

    def save() -> None:
        print({name: value for name, value in runs[-1].items() if name != "kind"}, flush=True)
        write_text(file, json.dumps(runs, indent=1) + "\n")
        if not arguments.smoke:
            write_results("first_run", figures=compute_figures(before, runs), runs=runs)

    start, longest = time.monotonic(), 0.0
    for number in range(arguments.rounds):
        begin = time.monotonic()
        if begin - start + longest > 60 * arguments.minutes:
            print(f"Round {number} would not end within {arguments.minutes:g} minutes.", flush=True)
            break
        measure_round(before, folder, number, videos, runs, save)
        longest = max(longest, time.monotonic() - begin)
    for seed in arguments.seeds:
        measure_accuracy(folder, seed, runs, save)
    if arguments.tests:
        measure_tests(before, folder, runs, save)


if __name__ == "__main__":
    main()
