"""Measure a GPU in at most nine minutes and write `benchmarks/results/gpu.json`: `python -m benchmarks.gpu`.

Needs a machine with torch, CUDA and this repository; what else is missing (pytorchvideo, torchcodec, pytest, a second
GPU) is named in the file as skipped. The file is written after every section: a stopped run leaves what it has.
MFU is the share of the card's dense peak by its data sheet, counting two operations per multiplication and addition,
and a training step as three forward passes. `--smoke` runs every section in small, on a CPU too, and writes no peak.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from finegym.data.index import Video
from finegym.data.labels import ActionClass, Labels
from finegym.data.video_writing import write_video
from finegym.evaluation.protocol import evaluate
from modeling_finegym import (
    FineGymVideoProcessor,
    FineGymVideoTextConfig,
    FineGymVideoTextForVideoClassification,
    FineGymVisionConfig,
    FineGymVisionForVideoClassification,
    SlowOnlyConfig,
    SlowOnlyForVideoClassification,
)

from .common import RESULTS, write_results


# Dense TFLOP/s by NVIDIA's data sheets: bf16, TF32, and fp32 without tensor cores. The first that a card's name holds.
PEAKS = {
    "H100 PCIe": {"bf16": 756, "tf32": 378, "fp32": 51},
    "H100": {"bf16": 989, "tf32": 495, "fp32": 67},
    "H200": {"bf16": 989, "tf32": 495, "fp32": 67},
    "A100": {"bf16": 312, "tf32": 156, "fp32": 19.5},
    "L4": {"bf16": 121, "tf32": 60, "fp32": 30},
}
NUM_CLASSES = 99
ENOUGH = 1.02  # a batch twice as large that is faster by less than this ends the search
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Setting:
    """What is measured: the paper's clip of 32 frames of 224 x 224 pixels, or a small one on any machine."""

    device: str
    is_small: bool
    num_frames: int
    size: int
    largest_batch: int
    num_rounds: int

    def config(self) -> SlowOnlyConfig:
        widths = {"stem_width": 8, "hidden_sizes": (32, 64, 128, 256)} if self.is_small else {}
        values = {"num_labels": NUM_CLASSES, "num_frames": self.num_frames, "image_size": self.size}
        return SlowOnlyConfig(**values, **widths)

    def clips(self, count: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.randn(count, self.num_frames, 3, self.size, self.size, device=self.device, dtype=dtype)


# ------------------------------------------------------------------------------------------------ timing


def rate(step: Callable[[], Any], setting: Setting, count: int) -> float:
    """Return how many of `count` things that a step does are done per second, by the median of the rounds."""
    for _ in range(2):
        step()
    seconds = []
    for _ in range(setting.num_rounds):
        synchronize(setting)
        start = time.perf_counter()
        step()
        synchronize(setting)
        seconds.append(time.perf_counter() - start)
    return count / median(seconds)


def synchronize(setting: Setting) -> None:
    if setting.device == "cuda":
        torch.cuda.synchronize()


def best_batch(make_step: Callable[[int], Callable[[], Any]], setting: Setting) -> tuple[float, Rows]:
    """Double the batch until it gains nothing or memory ends; return the best rate and all of them."""
    rows, batch_size = [], 1
    while batch_size <= setting.largest_batch:
        try:
            rows.append({"batch_size": batch_size, "per_second": rate(make_step(batch_size), setting, batch_size)})
        except torch.cuda.OutOfMemoryError:
            rows.append({"batch_size": batch_size, "skipped": "out of memory"})
            break
        finally:
            if setting.device == "cuda":
                torch.cuda.empty_cache()
        if len(rows) > 2 and rows[-1]["per_second"] < ENOUGH * rows[-2]["per_second"]:
            break
        batch_size *= 2
    return max(row.get("per_second", 0.0) for row in rows), rows


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Allow TF32 in the block or not; bf16 is a matter of the weights or of autocast."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def peak_of_card(setting: Setting, kind: str) -> float | None:
    """Return the FLOP/s of the data sheet, or None for a card, or a processor, that is not in `PEAKS`."""
    name = torch.cuda.get_device_name() if setting.device == "cuda" else ""
    return next((1e12 * peaks[kind] for card, peaks in PEAKS.items() if card in name), None)


def count_flops(setting: Setting) -> int:
    """Count the floating-point operations of a forward pass of one clip."""
    model = SlowOnlyForVideoClassification(setting.config()).to(setting.device).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(setting.clips(1))
    return counter.get_total_flops()


# ------------------------------------------------------------------------------------------------ sections


def pytorchvideo_network(setting: Setting) -> nn.Module | None:
    """Build the same network in its 3-D form, if pytorchvideo is there."""
    if importlib.util.find_spec("pytorchvideo") is None:
        return None
    from pytorchvideo.models.resnet import create_resnet

    network = create_resnet(
        model_depth=50,
        model_num_class=NUM_CLASSES,
        stem_dim_out=setting.config().stem_width,
        stem_conv_kernel_size=(1, 7, 7),
    )
    network.blocks[-1].pool = nn.AdaptiveAvgPool3d(1)
    return network


def forward(setting: Setting) -> tuple[dict[str, float], Rows]:
    """Scoring: precisions, eager and compiled, 2-D against 3-D form and layouts, over batch sizes."""
    figures, all_rows, flops = {}, [], count_flops(setting)
    for kind in ("bf16", "tf32", "fp32"):
        dtype = torch.bfloat16 if kind == "bf16" else torch.float32
        ours = SlowOnlyForVideoClassification(setting.config()).to(setting.device, dtype).eval()
        variants: dict[str, Callable[[torch.Tensor], Any]] = {"eager": ours}
        if not setting.is_small:
            variants["compiled"] = torch.compile(ours)
        theirs = pytorchvideo_network(setting)
        if theirs is None:
            all_rows.append({"what": "forward", "variant": "3-D form", "skipped": "pytorchvideo is not installed"})
        elif kind != "fp32":
            theirs = theirs.to(setting.device, dtype).eval()
            variants["3-D form"] = lambda clips, network=theirs: network(clips.transpose(1, 2).contiguous())
            last = pytorchvideo_network(setting).to(setting.device, dtype, memory_format=torch.channels_last_3d).eval()
            variants["3-D form, channels-last"] = lambda clips, network=last: network(
                clips.transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)
            )
        for name, network in variants.items():

            def make_step(batch_size: int, network=network, dtype=dtype) -> Callable[[], Any]:
                clips = setting.clips(batch_size, dtype)
                return torch.inference_mode()(lambda: network(clips))

            with precision(kind):
                best, rows = best_batch(make_step, setting)
            all_rows += [{"what": "forward", "precision": kind, "variant": name} | row for row in rows]
            figures[f"forward.{kind}.{name}.clips_per_second"] = best
            if peak := peak_of_card(setting, kind):
                figures[f"forward.{kind}.{name}.mfu"] = best * flops / peak
    return figures, all_rows


def training(setting: Setting) -> tuple[dict[str, float], Rows]:
    """Training steps of SlowOnly with SGD: bf16 autocast and TF32, eager and compiled, over batch sizes."""
    figures, all_rows, flops = {}, [], count_flops(setting)
    for kind in ("bf16", "tf32"):
        for name in ("eager",) if setting.is_small else ("eager", "compiled"):
            model = SlowOnlyForVideoClassification(setting.config()).to(setting.device).train()
            network = torch.compile(model) if name == "compiled" else model
            make_step = training_step(setting, network, kind)
            with precision(kind):
                best, rows = best_batch(make_step, setting)
            all_rows += [{"what": "training step", "precision": kind, "variant": name} | row for row in rows]
            figures[f"training.{kind}.{name}.clips_per_second"] = best
            if peak := peak_of_card(setting, kind):
                figures[f"training.{kind}.{name}.mfu"] = best * 3 * flops / peak
    return figures, all_rows


def training_step(setting: Setting, network: nn.Module, kind: str) -> Callable[[int], Callable[[], None]]:
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    autocast = torch.autocast(setting.device, torch.bfloat16) if kind == "bf16" else nullcontext()

    def make_step(batch_size: int) -> Callable[[], None]:
        clips, labels = setting.clips(batch_size), torch.zeros(batch_size, dtype=torch.long, device=setting.device)

        def step() -> None:
            optimizer.zero_grad()
            with autocast:
                logits = network(clips).logits
            F.cross_entropy(logits.float(), labels).backward()
            optimizer.step()

        return step

    return make_step


def heads(setting: Setting) -> tuple[dict[str, float], Rows]:
    """Both encoders on cached features: scoring and training, bf16, clips per second at a batch of 256."""
    figures, rows, count = {}, [], 8 if setting.is_small else 256
    labels = {"num_labels": NUM_CLASSES, "vision_config": setting.config()}
    if setting.is_small:
        labels |= {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    attributes = {"attribute_names": ["", *(f"attribute {number}" for number in range(1, 100))]}
    for name, model in (
        ("vision_encoder", FineGymVisionForVideoClassification(FineGymVisionConfig(**labels))),
        ("video_text", FineGymVideoTextForVideoClassification(FineGymVideoTextConfig(**labels, **attributes))),
    ):
        model = model.to(setting.device)
        tokens = (count, setting.num_frames, model.config.vision_config.hidden_sizes[-1])
        features = torch.randn(tokens, device=setting.device)
        targets = torch.zeros(count, dtype=torch.long, device=setting.device)
        optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-3)

        def score(model=model, features=features) -> None:
            with torch.inference_mode(), torch.autocast(setting.device, torch.bfloat16):
                model(video_features=features)

        def step(model=model, features=features, targets=targets, optimizer=optimizer) -> None:
            optimizer.zero_grad()
            with torch.autocast(setting.device, torch.bfloat16):
                loss = model(video_features=features, labels=targets).loss
            loss.backward()
            optimizer.step()

        for what, run in (("scoring", score), ("training", step)):
            figures[f"{name}.{what}.clips_per_second"] = rate(run, setting, count)
            rows.append({"what": f"{name} {what}", "per_second": figures[f"{name}.{what}.clips_per_second"]})
    return figures, rows


def protocol(setting: Setting) -> tuple[dict[str, float], Rows]:
    """The eight-clip protocol from video files to metrics, beside the rates of its two halves alone."""
    num_videos, side = (4, 48) if setting.is_small else (64, 256)
    processor = FineGymVideoProcessor(
        num_frames=setting.num_frames,
        frame_interval=2,
        size={"shortest_edge": side},
        crop_size={"height": setting.size, "width": setting.size},
    )
    dtype = torch.bfloat16 if setting.device == "cuda" else torch.float32
    model = SlowOnlyForVideoClassification(setting.config()).to(setting.device, dtype).eval()
    labels = Labels("drawn", [ActionClass(n, f"c{n}", f"c{n}") for n in range(NUM_CLASSES)], [])
    workers = 0 if setting.is_small else os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        videos = [draw_video(Path(folder) / f"{number}.mp4", number, side) for number in range(num_videos)]
        start = time.perf_counter()
        evaluate(model, processor, videos, labels, num_workers=workers, batch_size=64, progress=False)
        whole = num_videos / (time.perf_counter() - start)
        start = time.perf_counter()
        for _ in torch.utils.data.DataLoader(Decoded(processor, videos), batch_size=None, num_workers=workers):
            pass
        decoding = num_videos / (time.perf_counter() - start)
        nvdec = decode_on_the_card(setting, videos)
    clips = setting.clips(8, dtype)
    computing = rate(torch.inference_mode()(lambda: model(clips)), setting, 1)
    figures = {"protocol.videos_per_second": whole, "protocol.share_of_limit": whole / min(decoding, computing)}
    figures |= {"protocol.decoding_alone": decoding, "protocol.computing_alone": computing}
    return figures, [{"what": "protocol", "num_videos": num_videos, "num_workers": workers}, nvdec]


@dataclass
class Decoded(torch.utils.data.Dataset):
    """The eight clips of each video."""

    processor: FineGymVideoProcessor
    videos: list[Video]

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, position: int) -> torch.Tensor:
        return self.processor.load_clips(self.videos[position].path, 8).pixel_values


def draw_video(path: Path, seed: int, side: int) -> Video:
    num_frames = 100
    noise = np.random.default_rng(seed).integers(0, 255, (side, side * 4 // 3, 3), dtype=np.uint8)
    write_video(path, (np.roll(noise, 3 * number, 1) for number in range(num_frames)), fps=25)
    return Video(path.stem, path, seed % NUM_CLASSES, num_frames)


def decode_on_the_card(setting: Setting, videos: list[Video]) -> dict[str, Any]:
    """Decode with NVDEC through torchcodec: frames per second, or why not."""
    if setting.device != "cuda" or importlib.util.find_spec("torchcodec") is None:
        return {"what": "NVDEC", "skipped": "needs a GPU and torchcodec"}
    from torchcodec.decoders import VideoDecoder

    try:
        start, count = time.perf_counter(), 0
        for video in videos:
            count += len(VideoDecoder(str(video.path), device="cuda").get_frames_in_range(0, video.num_frames).data)
        return {"what": "NVDEC", "frames_per_second": count / (time.perf_counter() - start)}
    except RuntimeError as error:
        return {"what": "NVDEC", "skipped": str(error).splitlines()[0]}


def scaling(setting: Setting) -> tuple[dict[str, float], Rows]:
    """Training by DistributedDataParallel on one card, and on all of them."""
    most = 2 if setting.is_small else torch.cuda.device_count()
    if most < 2:
        return {}, [{"what": "DDP", "skipped": "this machine has one GPU"}]
    rates = {}
    for count in (1, most):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
        command += ["-m", "benchmarks.gpu", "--ddp", *(["--smoke"] if setting.is_small else [])]
        run = subprocess.run(command, capture_output=True, text=True, timeout=180)
        if run.returncode:
            return {}, [{"what": "DDP", "skipped": run.stderr.strip().splitlines()[-1]}]
        rates[count] = json.loads(run.stdout.splitlines()[-1])
    rows = [{"what": "DDP", "num_processes": count, "per_second": value} for count, value in rates.items()]
    return {"ddp.efficiency": rates[most] / (most * rates[1])}, rows


def train_in_one_of_many(setting: Setting) -> None:
    """Print the clips per second of all processes together."""
    torch.distributed.init_process_group("nccl" if setting.device == "cuda" else "gloo")
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    if setting.device == "cuda":
        torch.cuda.set_device(rank)
    model = SlowOnlyForVideoClassification(setting.config()).to(setting.device).train()
    network = nn.parallel.DistributedDataParallel(model)
    batch_size = 2 if setting.is_small else 16
    value = rate(training_step(setting, network, "bf16")(batch_size), setting, batch_size * world_size)
    if rank == 0:
        print(json.dumps(value), flush=True)
    torch.distributed.destroy_process_group()


def tests(setting: Setting) -> tuple[dict[str, float], Rows]:
    """The tests that need a GPU."""
    if setting.device != "cuda" or importlib.util.find_spec("pytest") is None:
        return {}, [{"what": "tests", "skipped": "needs a GPU and pytest"}]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=180)
    return {"gpu_tests.exit_status": float(run.returncode)}, [{"what": "tests", "output": run.stdout[-2000:]}]


SECTIONS = (forward, training, heads, protocol, scaling, tests)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=500, help="no section is started later than this")
    parser.add_argument("--smoke", action="store_true", help="small sizes, on any machine")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where the result is written")
    parser.add_argument("--ddp", action="store_true", help="be one of the processes that section `scaling` starts")
    arguments = parser.parse_args()
    has_gpu = torch.cuda.is_available()
    if not has_gpu and not arguments.smoke:
        sys.exit("benchmarks.gpu: this machine has no CUDA device. `--smoke` runs every section in small.")
    setting = Setting("cuda" if has_gpu else "cpu", False, 32, 224, 64, 10)
    if arguments.smoke:
        setting = Setting(setting.device, True, 4, 32, 2, 1)
    if arguments.ddp:
        train_in_one_of_many(setting)
        return
    start, figures, rows = time.perf_counter(), {}, []
    for section in SECTIONS:
        spent = time.perf_counter() - start
        if spent > arguments.seconds:
            rows.append({"what": section.__name__, "skipped": f"{spent:.0f} s were spent before"})
            continue
        more_figures, more_rows = section(setting)
        figures |= more_figures | {f"seconds.{section.__name__}": time.perf_counter() - start - spent}
        rows += more_rows
        write_results("gpu", figures=figures, runs=rows, folder=arguments.folder)


if __name__ == "__main__":
    main()
