"""A classifier as a graph that runs without torch, verified on the spot.

Needs the `export` extra: `pip install .[export]`.
"""

import json
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn
from tqdm import tqdm
from transformers import AutoModelForVideoClassification, PreTrainedModel

from finegym.architectures import find_architecture
from finegym.data.checkpoints import load_model, load_video_processor
from finegym.data.files import replacing
from finegym.data.index import Video, read_index
from finegym.evaluation.metrics import mean_class_accuracy, top_k_accuracy
from modeling_finegym import FineGymVideoProcessor


try:
    import nncf
    import onnx
    import onnxruntime
    import openvino
except ImportError as error:
    raise ImportError(f"Exporting needs the `export` extra ({error}): pip install '.[export]'.") from error

# The largest difference of a logit, relative to the largest logit, that the order of float32 sums may cause.
TOLERANCE = 1e-4

Run = Callable[[np.ndarray], np.ndarray]


class Logits(nn.Module):
    """A classifier with one tensor in and one out: pixel_values (B, T, C, H, W) -> logits (B, num_labels)."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values=pixel_values).logits


def export(
    checkpoint: str | Path,
    output: Path,
    *,
    to: Literal["onnx", "openvino"],
    calibration: Path | None = None,
    num_videos: int = 300,
) -> str:
    """Write the whole classifier of a checkpoint as one graph: `pixel_values` of any batch size in, `logits` out.

    The names of the classes are in the graph's metadata under "labels".

    Args:
        checkpoint: A checkpoint folder, or a repository of the Hub.
        output: The file to write, .onnx or .xml (OpenVINO puts the weights into a .bin beside it).
        to: The format.
        calibration: With OpenVINO, a prepared data set: its training videos determine the ranges of 8-bit integers for
            weights and activations (NNCF, post-training), its validation videos measure what that costs.
        num_videos: The number of videos of each split, evenly spread over it.

    Returns:
        The measured error and speed as text.

    Raises:
        ValueError: If the graph does not compute what the checkpoint computes. Then nothing is written.
    """
    suffix = {"onnx": ".onnx", "openvino": ".xml"}[to]
    if Path(output).suffix != suffix:
        raise ValueError(f"{output} must end in {suffix}.")
    if calibration and to == "onnx":
        raise ValueError("8-bit integers are for OpenVINO: leave calibration out, or export to openvino.")
    model = load_model(checkpoint, AutoModelForVideoClassification)
    processor = load_video_processor(checkpoint)
    num_channels = 2 * processor.flow_len or 3
    shape = (model.config.num_frames, num_channels, processor.crop_size["height"], processor.crop_size["width"])
    labels = json.dumps([model.config.id2label[index] for index in range(model.config.num_labels)])
    with tempfile.TemporaryDirectory() as scratch:
        onnx_file = Path(scratch) / "model.onnx"
        write_onnx(model, shape, labels, onnx_file)
        if to == "onnx":
            lines = check(model, shape, run_onnx(onnx_file), "ONNX Runtime")
            with replacing(output) as temporary:
                temporary.write_bytes(onnx_file.read_bytes())
            return "\n".join([*lines, f"Written to {output}."])
        graph = openvino.convert_model(onnx_file)
        graph.set_rt_info(labels, ["model_info", "labels"])
        run = run_openvino(graph)
        lines = check(model, shape, run, "OpenVINO")
        if calibration:
            graph, more = quantize(model, processor, graph, run, calibration, num_videos)
            lines += more
        openvino.save_model(graph, Path(scratch) / "model.xml", compress_to_fp16=False)
        for name in (".bin", ".xml"):  # the weights first: the .xml that names them makes the pair complete
            with replacing(Path(output).with_suffix(name)) as temporary:
                temporary.write_bytes((Path(scratch) / "model").with_suffix(name).read_bytes())
    return "\n".join([*lines, f"Written to {output}."])


def write_onnx(model: PreTrainedModel, shape: tuple[int, int, int, int], labels: str, path: Path) -> None:
    """Export `model` for clips of `shape` (T, C, H, W) in batches of any size."""
    pixel_values = torch.zeros(2, *shape)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own future versions
        program = torch.onnx.export(
            Logits(model),
            (pixel_values,),
            input_names=["pixel_values"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    graph = program.model_proto
    graph.metadata_props.append(onnx.StringStringEntryProto(key="labels", value=labels))
    onnx.save(graph, path)


def run_onnx(path: Path) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda pixel_values: session.run(None, {"pixel_values": pixel_values})[0]


def run_openvino(graph: openvino.Model) -> Run:
    # in float32: by default OpenVINO computes in bfloat16 where the processor can
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.compile_model(graph, "CPU", settings)
    return lambda pixel_values: compiled(pixel_values)[0]


def run_torch(model: PreTrainedModel) -> Run:
    def run(pixel_values: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(pixel_values=torch.from_numpy(pixel_values)).logits.numpy()

    return run


def check(model: PreTrainedModel, shape: tuple[int, int, int, int], run: Run, name: str) -> list[str]:
    """Compare a graph with its model for batches of one and of three clips; return two lines on error and speed."""
    reference = run_torch(model)
    errors = []
    for batch_size in (1, 3):
        pixel_values = np.random.default_rng(batch_size).standard_normal((batch_size, *shape), dtype=np.float32)
        expected, logits = reference(pixel_values), run(pixel_values)
        if logits.shape != expected.shape:
            raise ValueError(f"{name} gives logits of shape {logits.shape}, torch {expected.shape}.")
        errors.append(float(np.abs(logits - expected).max() / np.abs(expected).max()))
    if not max(errors) < TOLERANCE:
        raise ValueError(f"{name} differs from torch by {max(errors):.1e} of the largest logit; nothing is written.")
    seconds = measure({"torch": reference, name: run}, pixel_values[:1])
    return [
        f"{name}: largest difference {max(errors):.1e} of the largest logit, batches of 1 and 3",
        speeds(seconds),
    ]


def measure(runs: dict[str, Run], pixel_values: np.ndarray, num_rounds: int = 5) -> dict[str, float]:
    """Return the seconds of each one's fastest of `num_rounds` runs, taken in turns after one to warm up."""
    seconds = dict.fromkeys(runs, float("inf"))
    for round in range(num_rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run(pixel_values)
            if round:
                seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def speeds(seconds: dict[str, float]) -> str:
    (first, reference), *others = seconds.items()
    compared = [f"{name} {1000 * value:.1f} ms ({reference / value:.2f} times as fast)" for name, value in others]
    threads = torch.get_num_threads()
    return f"one clip, float32, {threads} threads: {first} {1000 * reference:.1f} ms, " + ", ".join(compared)


def quantize(
    model: PreTrainedModel,
    processor: FineGymVideoProcessor,
    graph: openvino.Model,
    run: Run,
    root: Path,
    num_videos: int,
) -> tuple[openvino.Model, list[str]]:
    """Return the graph in 8-bit integers, and lines on its cost and gain."""
    samples = evenly(read_index(root, "train"), num_videos)
    validation = evenly(read_index(root, "val"), num_videos)
    row = find_architecture(model.config.model_type)
    # attention needs its softmax in floating point
    model_type = nncf.ModelType.TRANSFORMER if row and row.is_transformer else None
    videos = tqdm(samples, desc="Calibrating", unit="video")
    data = nncf.Dataset(videos, lambda video: middle_clip(processor, video))
    quantized = nncf.quantize(graph, data, subset_size=len(samples), model_type=model_type)
    run_quantized = run_openvino(quantized)
    scores, quantized_scores = [], []
    for video in tqdm(validation, desc="Validating", unit="video"):
        pixel_values = middle_clip(processor, video)
        scores.append(run(pixel_values)[0])
        quantized_scores.append(run_quantized(pixel_values)[0])
    truth = np.array([video.label for video in validation])
    lines = [f"int8, calibrated on {len(samples)} training videos; on the middle clip of {len(validation)} others:"]
    for name, metric in (("top-1", top_k_accuracy), ("mean class accuracy", mean_class_accuracy)):
        before, after = metric(np.stack(scores), truth), metric(np.stack(quantized_scores), truth)
        lines.append(f"  {name} {before:.2f} -> {after:.2f} ({after - before:+.2f} points)")
    agreement = np.mean(np.argmax(scores, 1) == np.argmax(quantized_scores, 1))
    lines.append(f"  the same class as before for {100 * agreement:.2f} % of them")
    lines.append(speeds(measure({"OpenVINO": run, "OpenVINO int8": run_quantized}, pixel_values)))
    return quantized, lines


def middle_clip(processor: FineGymVideoProcessor, video: Video) -> np.ndarray:
    """Return the clip in the middle of a video: (1, T, C, H, W)."""
    return processor.load_clips(video.path, num_clips=1, start=video.start, end=video.end).pixel_values.numpy()


def evenly(videos: Sequence[Video], number: int) -> list[Video]:
    """Return at most `number` of `videos`, evenly spread over their order."""
    number = min(number, len(videos))
    return [videos[index * len(videos) // number] for index in range(number)]


__all__ = ["export"]
