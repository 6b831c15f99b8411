"""Compare the forward and the training step of SlowOnly-R50 with pytorchvideo, ONNX Runtime and OpenVINO.

All variants compute the same network with the same weights on the same clip (32 frames of 224 x 224 pixels unless a
run says otherwise), in one process and in turns. The ceiling is the fastest convolution that torch performs here,
measured in every round. Peak memory is read in a separate process per variant.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import openvino
import torch
from pytorchvideo.models.resnet import create_resnet
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from finegym.hub.export import run_onnx, write_onnx
from modeling_finegym import SlowOnlyConfig, SlowOnlyForVideoClassification

from .common import RESULTS, median_ratio, time_in_turns, write_results


NUM_CLASSES = 99
GRID = [(num_clips, num_frames) for num_clips in (1, 4) for num_frames in (8, 16, 32, 64)]
# input and output channels, kernel and size of ordinary convolutions, one of which is the fastest
PEAK_CONVOLUTIONS = [(128, 128, 3, 28), (256, 256, 3, 14), (512, 512, 1, 28)]
PEAK_FRAMES, PEAK_REPEATS = 8, 10

Variants = Mapping[str, Callable[[], Any]]
Seconds = Mapping[str, Sequence[float]]


def build_networks() -> tuple[nn.Module, SlowOnlyForVideoClassification]:
    """Build pytorchvideo's network, with a mean over all of time and space (paper), and ours with its weights."""
    torch.manual_seed(0)
    theirs = create_resnet(
        model_depth=50, model_num_class=NUM_CLASSES, stem_conv_kernel_size=(1, 7, 7), dropout_rate=0
    )
    theirs.blocks[-1].pool = nn.AdaptiveAvgPool3d(1)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(std=0.05)
            module.running_var.uniform_(0.8, 1.2)
            nn.init.uniform_(module.weight, 0.2, 0.9)  # not zero as in new residual branches, which would hide errors
    ours = SlowOnlyForVideoClassification(SlowOnlyConfig(num_labels=NUM_CLASSES, classifier_dropout=0.0))
    backbone = {name: tensor for name, tensor in theirs.state_dict().items() if not name.startswith("blocks.5.")}
    ours.slowonly.load_state_dict(backbone)
    ours.classifier.load_state_dict(theirs.blocks[-1].proj.state_dict())
    return theirs.eval(), ours.eval()


def to_bfloat16(model: SlowOnlyForVideoClassification) -> SlowOnlyForVideoClassification:
    """Return the model as `from_pretrained(dtype=torch.bfloat16)` loads it."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return SlowOnlyForVideoClassification.from_pretrained(folder, dtype=torch.bfloat16).eval()


def clips(num_clips: int, num_frames: int, size: int) -> torch.Tensor:
    """Return clips of shape (B, T, 3, size, size)."""
    return torch.randn(num_clips, num_frames, 3, size, size, generator=torch.Generator().manual_seed(1))


def count_flops(network: nn.Module, pixel_values: torch.Tensor) -> int:
    """Count the floating-point operations of a forward, two per multiplication and addition of a product."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(pixel_values.transpose(1, 2))
    return counter.get_total_flops()


# ------------------------------------------------------------------------------------------------ forward


def peak_variants(dtype: torch.dtype) -> dict[str, Callable[[], None]]:
    variants = {}
    for channels_in, channels_out, kernel, size in PEAK_CONVOLUTIONS:
        shape = (PEAK_FRAMES, channels_in, size, size)
        frames = torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(channels_out, channels_in, kernel, kernel).to(dtype)
        weight = weight.contiguous(memory_format=torch.channels_last)

        def convolve(frames=frames, weight=weight):
            for _ in range(PEAK_REPEATS):
                F.conv2d(frames, weight, padding=weight.shape[-1] // 2)

        variants[f"{dtype} convolution {channels_in}-{channels_out}, {kernel}x{kernel}, {size}x{size}"] = convolve
    return variants


def peak_flops(seconds: Seconds, dtype: torch.dtype) -> list[float]:
    """Return the FLOP/s of the fastest convolution of each round."""
    rates = []
    for (channels_in, channels_out, kernel, size), name in zip(PEAK_CONVOLUTIONS, peak_variants(dtype)):
        flops = PEAK_REPEATS * 2 * PEAK_FRAMES * size**2 * channels_in * channels_out * kernel**2
        rates.append([flops / value for value in seconds[name]])
    return [max(rates_of_round) for rates_of_round in zip(*rates)]


def forward_variants(theirs: nn.Module, ours: SlowOnlyForVideoClassification, pixel_values: torch.Tensor) -> Variants:
    """Return a forward of `pixel_values` (B, T, C, H, W) for each name."""
    video = pixel_values.transpose(1, 2).contiguous()  # (B, C, T, H, W)
    channels_last = video.contiguous(memory_format=torch.channels_last_3d)
    theirs_channels_last = build_networks()[0].to(memory_format=torch.channels_last_3d)
    compiled = torch.compile(theirs)
    ours_bfloat16 = to_bfloat16(ours)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(ours, tuple(pixel_values.shape[1:]), "[]", path)
        onnx_runtime = run_onnx(path)
        graph = openvino.Core().read_model(path)
        threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
        single, bfloat16 = (
            openvino.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": hint, **threads})
            for hint in ("f32", "bf16")
        )
    array = pixel_values.numpy()
    return {
        "pytorchvideo": partial(theirs, video),
        "pytorchvideo, channels-last-3d": partial(theirs_channels_last, channels_last),
        "pytorchvideo, torch.compile": partial(compiled, video),
        "ours": lambda: ours(pixel_values).logits,
        "ONNX Runtime, our export": lambda: onnx_runtime(array),
        "OpenVINO, our export": lambda: single(array)[0],
        "ours, bfloat16": lambda: ours_bfloat16(pixel_values).logits,
        "OpenVINO, our export, bfloat16": lambda: bfloat16(array)[0],
        **peak_variants(torch.float32),
        **peak_variants(torch.bfloat16),
    }


def relative_error(variants: Variants, name: str) -> float:
    expected = torch.as_tensor(variants["pytorchvideo"]()).flatten(1)
    return ((torch.as_tensor(variants[name]()) - expected).abs().max() / expected.abs().max()).item()


@torch.inference_mode()
def bench_forward(num_rounds: int, num_frames: int, size: int) -> tuple[dict[str, float], list[dict[str, Any]]]:
    theirs, ours = build_networks()
    pixel_values = clips(1, num_frames, size)
    variants = forward_variants(theirs, ours, pixel_values)
    seconds = time_in_turns(variants, num_rounds=num_rounds)
    flops = count_flops(theirs, pixel_values)
    peaks = peak_flops(seconds, torch.float32)
    slowest = seconds["pytorchvideo"]
    figures = {
        "fp32_speedup_over_pytorchvideo": median_ratio(slowest, seconds["ours"]),
        "fp32_share_of_peak": median(flops / value / peak for value, peak in zip(seconds["ours"], peaks)),
        "bf16_speedup_over_pytorchvideo": median_ratio(slowest, seconds["ours, bfloat16"]),
        "fp32_relative_error": relative_error(variants, "ours"),
        "fp32_peak_gflops": median(peaks) / 1e9,
        "bf16_peak_gflops": median(peak_flops(seconds, torch.bfloat16)) / 1e9,
        "pytorchvideo_share_of_peak": median(flops / value / peak for value, peak in zip(slowest, peaks)),
    }
    for name, key in (
        ("pytorchvideo, channels-last-3d", "channels_last"),
        ("pytorchvideo, torch.compile", "compile"),
        ("ONNX Runtime, our export", "onnxruntime"),
        ("OpenVINO, our export", "openvino"),
    ):
        figures[f"fp32_speedup_over_{key}"] = median_ratio(seconds[name], seconds["ours"])
    figures["bf16_speedup_over_openvino"] = median_ratio(
        seconds["OpenVINO, our export, bfloat16"], seconds["ours, bfloat16"]
    )
    return figures, [run("forward", name, 1, num_frames, values) for name, values in seconds.items()]


@torch.inference_mode()
def bench_grid(
    num_rounds: int, grid: Sequence[tuple[int, int]], size: int
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Time both networks at other numbers of clips and frames, and how far time is from linear in either."""
    theirs, ours = build_networks()
    variants, fastest, runs = {}, {}, []
    for num_clips, num_frames in grid:
        pixel_values = clips(num_clips, num_frames, size)
        video = pixel_values.transpose(1, 2).contiguous()
        place = f"{num_clips} x {num_frames} frames"
        variants[f"pytorchvideo, {place}"] = partial(theirs, video)
        variants[f"ours, {place}"] = partial(ours, pixel_values)
    seconds = time_in_turns(variants, num_rounds=num_rounds, num_warmups=0)
    for num_clips, num_frames in grid:
        for name in ("pytorchvideo", "ours"):
            values = seconds[f"{name}, {num_clips} x {num_frames} frames"]
            runs.append(run("forward", name, num_clips, num_frames, values))
            if name == "ours":
                fastest[num_clips, num_frames] = min(values) / (num_clips * num_frames)
    per_frame = median(fastest.values())
    return {"largest_deviation_from_linear": max(abs(value / per_frame - 1) for value in fastest.values())}, runs


# ------------------------------------------------------------------------------------------------ training, memory


def training_variants(num_frames: int, size: int) -> Variants:
    theirs, ours = (network.train() for network in build_networks())
    pixel_values, labels = clips(1, num_frames, size), torch.tensor([3])
    video = pixel_values.transpose(1, 2).contiguous()

    def step_of_theirs():
        theirs.zero_grad()
        F.cross_entropy(theirs(video).flatten(1), labels).backward()

    def step_of_ours():
        ours.zero_grad()
        ours(pixel_values, labels=labels).loss.backward()

    return {"pytorchvideo": step_of_theirs, "ours": step_of_ours}


def bench_training(num_rounds: int, num_frames: int, size: int) -> tuple[dict[str, float], list[dict[str, Any]]]:
    seconds = time_in_turns(training_variants(num_frames, size), num_rounds=num_rounds)
    figures = {"training_step_speedup_over_pytorchvideo": median_ratio(seconds["pytorchvideo"], seconds["ours"])}
    return figures, [run("training step", name, 1, num_frames, values) for name, values in seconds.items()]


def peak_memory(name: str, num_frames: int, size: int) -> float:
    """Return the largest resident memory of this process during a forward of one clip, in bytes above that of its
    libraries."""
    before = resident("VmRSS")
    network = build_networks()[0 if name == "pytorchvideo" else 1]
    pixel_values = clips(1, num_frames, size)
    video = pixel_values if name == "ours" else pixel_values.transpose(1, 2).contiguous()
    Path("/proc/self/clear_refs").write_text("5")  # reset the high-water mark
    with torch.inference_mode():
        network(video)
    return resident("VmHWM") - before


def resident(field: str) -> int:
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text()).group(1))


def bench_memory(num_frames: int, size: int) -> tuple[dict[str, float], list[dict[str, Any]]]:
    num_bytes, runs = {}, []
    for name in ("pytorchvideo", "ours"):
        command = [sys.executable, "-m", "benchmarks.slowonly", "--memory-of", name]
        command += ["--frames", str(num_frames), "--size", str(size)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        num_bytes[name] = json.loads(output.splitlines()[-1])
        runs.append({"what": "peak memory", "variant": name, "num_frames": num_frames, "bytes": num_bytes[name]})
    return {"peak_memory_over_pytorchvideo": num_bytes["ours"] / num_bytes["pytorchvideo"]}, runs


def run(what: str, variant: str, num_clips: int, num_frames: int, seconds: Sequence[float]) -> dict[str, Any]:
    place = {"num_clips": num_clips, "num_frames": num_frames}
    return {"what": what, "variant": variant, **place, "seconds": [round(value, 4) for value in seconds]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds; the longer measurements take half as many")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--smoke", action="store_true", help="one round of small clips, to see that it runs")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where the result is written")
    parser.add_argument("--memory-of", choices=["pytorchvideo", "ours"], help="print one reading, in bytes")
    arguments = parser.parse_args()
    num_frames, size, num_rounds, grid = arguments.frames, arguments.size, arguments.rounds, GRID
    if arguments.smoke:
        num_frames, size, num_rounds, grid = 2, 64, 1, [(1, 2), (2, 4)]
    if arguments.memory_of:
        print(json.dumps(peak_memory(arguments.memory_of, num_frames, size)))
        return
    few_rounds = (num_rounds + 1) // 2
    figures: dict[str, float] = {}
    runs: list[dict[str, Any]] = []
    for more_figures, more_runs in (
        bench_memory(num_frames, size),
        bench_forward(num_rounds, num_frames, size),
        bench_training(few_rounds, num_frames, size),
        bench_grid(few_rounds - few_rounds // 2, grid, size),
    ):
        figures |= more_figures
        runs += more_runs
    write_results("slowonly", figures=figures, runs=runs, folder=arguments.folder)


if __name__ == "__main__":
    main()
