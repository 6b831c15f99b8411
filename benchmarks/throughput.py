"""Measure the whole way from video files to scores: `python -m benchmarks.throughput`.

Real mp4 files of FineGym's sizes and lengths go through `finegym evaluate`, `finegym features`, `finegym predict` and
the pipeline, each in a process of its own that has imported everything before the clock starts. Each is compared with
the slower of two limits of the same round: decoding alone and computing alone, both with all cores. `--before FOLDER`
measures an earlier checkout in the same rounds. Then come the start of a command, against importing Transformers and
loading the same checkpoint, and `from_pretrained`, against a VideoMAE of as many parameters.

Where other work shares the machine, `cpu_seconds` say more than `seconds`: processor time of all threads and
processes. Every measurement is written when it ends, and the same command resumes with the next.
"""

import argparse
import contextlib
import io
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForVideoClassification, VideoMAEConfig, VideoMAEForVideoClassification

from benchmarks.common import RESULTS, write_results
from benchmarks.features import LABELS, draw_lengths, make_encoders, write_videos
from finegym.commands.line import main as finegym
from finegym.data.checkpoints import load_model, load_video_processor
from finegym.data.index import write_coverage, write_index
from finegym.data.labels import Labels
from finegym.evaluation.predict import load_pipeline
from modeling_finegym import (
    FineGymVideoProcessor,
    FineGymVisionForVideoClassification,
    SlowOnlyConfig,
    SlowOnlyForVideoClassification,
)


ROOT = Path(__file__).resolve().parent.parent
PATHS = ("evaluate", "features", "predict", "pipeline")
LIMITS = ("decoding", "computing")
# The commands whose start is timed; what is in braces is filled in.
STARTS = {
    "help": ["-m", "finegym", "--help"],
    "import of transformers": ["-c", "import transformers"],
    "import and loading": [
        "-c",
        "import transformers, modeling_finegym; name = {model!r};"
        "transformers.AutoModelForVideoClassification.from_pretrained(name);"
        "transformers.AutoVideoProcessor.from_pretrained(name)",
    ],
    "predict one clip": ["-m", "finegym", "predict", "{video}", "--num_clips", "1", "--model", "{model}"],
}
BATCH_SIZE = 8


# --------------------------------------------------------------------------------- in a process of a checkout


def prepare(folder: Path, num_files: int, num_frames: int, frame_interval: int) -> None:
    """Write the videos as a prepared data set, and a SlowOnly of full size and random weights."""
    torch.manual_seed(0)
    labels = Labels.read(LABELS)
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    lengths = draw_lengths(num_files, np.random.default_rng(0))
    videos = write_videos(folder / "clips", lengths, labels, height=256, width=456)
    rows = [
        {"id": v.id, "file": f"clips/{v.path.name}", "split": "val", "label": v.label, "num_frames": v.num_frames}
        for v in videos
    ]
    write_index(folder, [row | {"fps": 25.0} for row in rows])
    counts = {"num_expected": num_files, "num_present": num_files, "missing": {}, "empty_classes": []}
    write_coverage(folder, {"annotation_version": "v0", "splits": {"val": counts}})
    labels.write(folder / "labels.json")
    names = {"id2label": labels.id2label, "label2id": {name: label for label, name in labels.id2label.items()}}
    SlowOnlyForVideoClassification(SlowOnlyConfig(**names)).save_pretrained(folder / "model")
    FineGymVideoProcessor(num_frames=num_frames, frame_interval=frame_interval).save_pretrained(folder / "model")


def measure(what: str, folder: Path) -> dict[str, Any]:
    """Time one way through all files, and return it with the peak memory of this process, in bytes."""
    model, files = str(folder / "model"), sorted(map(str, (folder / "clips").glob("*.mp4")))
    output = folder / "outputs" / f"{what}-{os.getpid()}"
    commands = {
        "evaluate": ["evaluate", model, "--root", str(folder), "--output", str(output)],
        "features": ["features", str(folder / "clips"), "--model", model, "--output", str(output)],
        "predict": ["predict", *files, "--model", model, "--json"],
    }
    if what == "decoding":
        processor = load_video_processor(model)
        torch.set_num_threads(1)  # of each of as many threads as there are cores

        def work() -> None:
            with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
                for _ in pool.map(processor.load_clips, files):
                    pass

    elif what == "computing":
        processor, network = load_video_processor(model), load_model(model, AutoModelForVideoClassification)
        num_clips = sum(len(processor.load_clips(file).weights) for file in files)
        size = processor.crop_size
        clips = torch.randn(BATCH_SIZE, processor.num_frames, 3, size["height"], size["width"])

        @torch.no_grad()
        def work() -> None:
            for start in range(0, num_clips, BATCH_SIZE):
                network(clips[: num_clips - start])

    elif what == "pipeline":
        classify = load_pipeline(model, batch_size=BATCH_SIZE)

        def work() -> None:
            assert len(classify(files)) == len(files)

    else:

        def work() -> None:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                assert finegym(commands[what]) == 0

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        finegym(["predict", files[0], "--model", model, "--num_clips", "1"])  # warms up
    return clock(work)


def clock(work: Callable[[], Any]) -> dict[str, float]:
    start, used = time.perf_counter(), _processor_seconds()
    work()
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": _processor_seconds() - used,
        "peak_bytes": 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text()).group(1)),
    }


def _processor_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure_loading(folder: Path, num_rounds: int) -> list[dict[str, Any]]:
    """Load SlowOnly and a VideoMAE of about as many parameters in turns, in this process."""
    size = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536, "num_hidden_layers": 17}
    peer = VideoMAEForVideoClassification(VideoMAEConfig(num_labels=99, **size))
    peer.save_pretrained(folder / "videomae")
    load = AutoModelForVideoClassification.from_pretrained
    ours = SlowOnlyForVideoClassification.from_pretrained(folder / "model")
    load(folder / "videomae")
    rows = []
    for number in range(num_rounds):
        for name, model, path in (("SlowOnly", ours, "model"), ("VideoMAE", peer, "videomae")):
            row = {"what": f"loading {name}", "round": number, "num_parameters": model.num_parameters()}
            rows.append(row | clock(lambda path=path: load(folder / path)))
    return rows


def measure_half_precision(folder: Path, num_rounds: int) -> list[dict[str, Any]]:
    """Run one clip through the same weights in float32 and in bfloat16, in turns, and BERT's layers on features."""
    model, size = str(folder / "model"), load_video_processor(str(folder / "model"))
    backbone = load_model(model, AutoModelForVideoClassification)
    encoder = make_encoders(backbone, Labels.read(LABELS))["vision"].eval()
    encoder.save_pretrained(folder / "encoder")
    crop = (size.crop_size["height"], size.crop_size["width"])
    features = torch.randn(BATCH_SIZE, encoder.config.num_video_tokens, encoder.config.video_feature_size)
    inputs = {
        "SlowOnly": {"pixel_values": torch.randn(1, size.num_frames, 3, *crop)},
        "vision encoder on features": {"video_features": features},
    }
    bfloat16 = {"dtype": torch.bfloat16}
    models = {
        ("SlowOnly", "fp32"): backbone,
        ("SlowOnly", "bf16"): load_model(model, AutoModelForVideoClassification, **bfloat16),
        ("vision encoder on features", "fp32"): encoder,
        ("vision encoder on features", "bf16"): FineGymVisionForVideoClassification.from_pretrained(
            folder / "encoder", **bfloat16
        ).eval(),
    }
    rows = []
    with torch.no_grad():
        for number in range(-1, num_rounds):  # the first warms up
            for (name, dtype), network in models.items():
                row = {"what": f"{name}, {dtype}", "round": number}
                rows.append(row | clock(lambda name=name, network=network: network(**inputs[name])))
    return [row for row in rows if row["round"] >= 0]


# --------------------------------------------------------------------------------- in the benchmark's own process


def run_in(checkout: Path, *arguments: str) -> dict[str, float]:
    """Run Python in a checkout; return the measurement that it prints last, or its own seconds."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "HF_HUB_OFFLINE": "1"}
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True
    )
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{arguments} failed in {checkout}.")
    own = {"seconds": time.perf_counter() - start, "cpu_seconds": usage.ru_utime + usage.ru_stime}
    return json.loads(printed.splitlines()[-1]) if "--measure" in arguments else own


class Record:
    """The measurements so far; each is written when it is made, and none of those of the same setting is repeated."""

    def __init__(self, folder: Path, setting: dict[str, int]):
        self.folder, self.setting = folder, setting
        path = folder / "throughput.json"
        runs = json.loads(path.read_text())["runs"] if path.exists() else []
        self.runs = runs if runs and runs[0] == {"what": "setting", **setting} else [{"what": "setting", **setting}]

    def add(self, name: str, number: int, measurement: Callable[[], Any]) -> None:
        if not any(run["what"] == name and run["round"] == number for run in self.runs[1:]):
            self.runs.append({"what": name, "round": number, **measurement()})
            self.write()

    def add_all(self, names: tuple[str, ...], measurement: Callable[[], list[dict[str, Any]]]) -> None:
        if not any(run["what"] in names for run in self.runs):
            self.runs += measurement()
            self.write()

    def write(self) -> None:
        figures = {name: float(self.setting[name]) for name in ("num_files", "num_frames")} | self.figures()
        write_results("throughput", figures=figures, runs=self.runs, folder=self.folder)

    def values(self, name: str, field: str) -> dict[int, float]:
        return {run["round"]: run[field] for run in self.runs[1:] if run["what"] == name}

    def ratio(self, name: str, other: str, field: str) -> float | None:
        """Return the median over rounds of one measurement over another of the same round."""
        upper, lower = self.values(name, field), self.values(other, field)
        both = upper.keys() & lower.keys()
        return statistics.median(upper[number] / lower[number] for number in both) if both else None

    def figures(self) -> dict[str, float]:
        found: dict[str, float | None] = {}
        limits = [self.values(name, "seconds") for name in LIMITS]
        for path in PATHS:
            seconds, used = self.values(path, "seconds"), self.values(path, "cpu_seconds")
            rounds = seconds.keys() & limits[0].keys() & limits[1].keys()
            if rounds:
                slower = {number: max(limit[number] for limit in limits) for number in rounds}
                found[f"{path}.share_of_limit"] = statistics.median(slower[n] / seconds[n] for n in rounds)
                needed = [self.values(name, "cpu_seconds") for name in LIMITS]
                found[f"{path}.share_of_processor_time"] = statistics.median(
                    sum(limit[n] for limit in needed) / used[n] for n in rounds
                )
                found[f"{path}.videos_per_second"] = self.setting["num_files"] / statistics.median(seconds.values())
                found[f"{path}.peak_gb"] = max(self.values(path, "peak_bytes").values()) / 1e9
            for field in ("seconds", "cpu_seconds"):
                found[f"{path}.{field}_over_before"] = self.ratio(path, f"{path}, before", field)
        for field in ("seconds", "cpu_seconds"):
            found[f"start.help_{field}"] = min(self.values("help", field).values(), default=None)
            found[f"start.predict_over_import_and_loading.{field}"] = self.ratio(
                "predict one clip", "import and loading", field
            )
            found[f"loading.over_videomae.{field}"] = self.ratio("loading SlowOnly", "loading VideoMAE", field)
            for name, key in (("SlowOnly", "slowonly"), ("vision encoder on features", "vision_encoder")):
                found[f"bf16_over_fp32.{key}.{field}"] = self.ratio(f"{name}, bf16", f"{name}, fp32", field)
        return {name: value for name, value in found.items() if value is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--num_files", type=int, default=500)
    parser.add_argument("--num_frames", type=int, default=32, help="of a clip")
    parser.add_argument("--frame_interval", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short_rounds", type=int, default=7, help="of what takes seconds")
    parser.add_argument("--before", type=Path, help="an earlier checkout to measure in the same rounds")
    parser.add_argument("--work", type=Path, default=ROOT / "outputs" / "throughput", help="where the videos are kept")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="of the result")
    parser.add_argument("--measure", choices=[*LIMITS, *PATHS], help="print one measurement")
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, work)))
        return
    if not (work / "index.parquet").exists():
        prepare(work, arguments.num_files, arguments.num_frames, arguments.frame_interval)
    names = ("num_files", "num_frames", "frame_interval")
    record = Record(arguments.folder, {name: getattr(arguments, name) for name in names})
    checkouts = {"": ROOT} | ({", before": arguments.before.absolute()} if arguments.before else {})
    record.add_all(("SlowOnly, fp32",), lambda: measure_half_precision(work, arguments.short_rounds))
    record.add_all(("loading SlowOnly",), lambda: measure_loading(work, arguments.short_rounds))
    places = {"model": str(work / "model"), "video": str(next((work / "clips").glob("*.mp4")))}
    for number in range(arguments.short_rounds):
        for name, command in STARTS.items():
            filled = [part.format(**places) for part in command]
            record.add(name, number, lambda filled=filled: run_in(ROOT, *filled))
    for number in range(arguments.rounds):
        for what in (*LIMITS, *PATHS):
            for mark, checkout in checkouts.items():
                if what in PATHS or not mark:
                    script = [__file__, "--measure", what, "--work", str(work)]
                    record.add(what + mark, number, lambda checkout=checkout, script=script: run_in(checkout, *script))


if __name__ == "__main__":
    main()
