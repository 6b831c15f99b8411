"""The reports of a run: a line every few steps, history.jsonl, trackers and curves; and the check for finite
numbers."""

import copy
import importlib.util
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from finegym.data.files import write_text
from finegym.data.text import parse_json, read_text, shorten
from finegym.evaluation.pictures import draw_curves

from .processes import Exchange
from .recipe import Recipe, flatten


# Dense peak in FLOP/s by device name and precision, from NVIDIA's data sheets (SXM parts; fp32 without TF32).
PEAK_FLOPS = {
    "H200": {"bf16": 989e12, "fp32": 67e12},
    "H100": {"bf16": 989e12, "fp32": 67e12},
    "A100": {"bf16": 312e12, "fp32": 19.5e12},
    "L40S": {"bf16": 362e12, "fp32": 91.6e12},
    "L4": {"bf16": 121e12, "fp32": 30.3e12},
    "V100": {"fp32": 15.7e12},
}


class Reporter:
    """Collects the numbers of every step and reports them on the main process.

    Losses stay on the device and are read back in groups, when a line is due, a state is saved or an evaluation
    begins, so that the accelerator does not wait for the host in every step. That is also when they are checked.

    Args:
        describe_batch: A function from a step to the ids of the videos in its global batch.
        flops_per_clip: The FLOPs of one clip's forward and backward pass; None if they are not known, and then no MFU
            is given.
    """

    def __init__(
        self,
        recipe: Recipe,
        accelerator: Accelerator,
        exchange: Exchange,
        *,
        first_step: int,
        num_steps: int,
        steps_per_epoch: int,
        describe_batch: Callable[[int], list[str]],
        flops_per_clip: float | None,
    ):
        self.recipe = recipe
        self.accelerator = accelerator
        self.exchange = exchange
        self.num_steps = num_steps
        self.steps_per_epoch = steps_per_epoch
        self.describe_batch = describe_batch
        self.flops_per_clip = flops_per_clip
        self.folder = Path(recipe.output_dir)
        self._pending: list[tuple[int, float, torch.Tensor, torch.Tensor | None]] = []
        self._window: list[dict[str, float]] = []
        self._busy = self._waiting = self._step_start = self._busy_before = 0.0
        self.rows: list[dict[str, float]] = []
        if accelerator.is_main_process:
            self.rows = read_history(self.folder, first_step)
            write_text(self.folder / "history.jsonl", "".join(json.dumps(row) + "\n" for row in self.rows))
            purge = {"purge_step": first_step} if first_step else {}
            accelerator.init_trackers(recipe.name, flat_scalars(recipe), init_kwargs={"tensorboard": purge})
        self._bar = tqdm(
            total=num_steps,
            initial=first_step,
            desc=recipe.name,
            unit="step",
            disable=None if accelerator.is_main_process else True,  # None: shown on a terminal, left out of files
        )

    @property
    def seconds(self) -> float:
        """The seconds spent in steps so far: waiting for data and computing, not evaluating and saving."""
        return self._busy_before + self._busy

    def watch(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield the same batches, with the time spent waiting for them measured."""
        batches = iter(batches)
        while True:
            self._step_start = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._waiting += time.perf_counter() - self._step_start
            yield batch

    def record_step(self, step: int, learning_rate: float, loss: torch.Tensor, grad_norm: torch.Tensor | None) -> None:
        """Record the numbers of a completed step: its count from 1, and this process's part of the loss."""
        self._pending.append((step, learning_rate, loss, grad_norm))
        self._busy += time.perf_counter() - self._step_start
        self._bar.update()
        if step % self.recipe.logging.every_steps == 0 or step == self.num_steps:
            self.write_line()

    def flush(self) -> None:
        """Read back, check and record the steps since the last call.

        Raises:
            FloatingPointError: If a loss or gradient is not finite; the message names the first step, its learning
                rate and its videos.
        """
        if not self._pending:
            return
        start = time.perf_counter()
        losses = self.exchange.sum(*torch.stack([loss for _, _, loss, _ in self._pending]).tolist())
        self._busy += time.perf_counter() - start
        rows = []
        for (step, learning_rate, _, grad_norm), loss in zip(self._pending, losses, strict=True):
            row = {"step": step, "epoch": step / self.steps_per_epoch, "loss": loss, "learning_rate": learning_rate}
            if grad_norm is not None:
                row["grad_norm"] = float(grad_norm)
            rows.append(row)
        self._pending.clear()
        num_finite = next((place for place, row in enumerate(rows) if not _is_finite(row)), len(rows))
        self._write(rows[:num_finite])
        self._window += rows[:num_finite]
        if num_finite < len(rows):
            row = rows[num_finite]
            raise FloatingPointError(
                f"Step {row['step']} has loss {row['loss']} and gradient norm {row.get('grad_norm', 'not measured')} "
                f"at learning rate {row['learning_rate']:g}. Its videos: "
                f"{', '.join(self.describe_batch(row['step'] - 1))}. No state was saved after it; lower the learning "
                "rate or clip the gradient (optimization.grad_clip), and look at these videos."
            )

    def write_line(self) -> None:
        """Write a line about the steps since the last line, and tell the trackers."""
        self.flush()
        if not self._window:
            return
        last, num_clips = self._window[-1], len(self._window) * self.recipe.optimization.batch_size
        clips_per_second = num_clips / self._busy
        numbers = {
            "loss": sum(row["loss"] for row in self._window) / len(self._window),
            "learning_rate": last["learning_rate"],
            "clips_per_second": clips_per_second,
            "data_wait_share": self._waiting / self._busy,
        }
        line = (
            f"step {last['step']}/{self.num_steps}  epoch {last['epoch']:.2f}  loss {numbers['loss']:.4f}  lr "
            f"{last['learning_rate']:.3g}  {clips_per_second:.1f} clips/s  data wait {numbers['data_wait_share']:.0%}"
        )
        if self.flops_per_clip is not None:
            peak = peak_flops(self.accelerator.device, self.recipe.optimization.precision)
            numbers["mfu"] = clips_per_second * self.flops_per_clip / (self.exchange.num_processes * peak)
            line += f"  MFU {numbers['mfu']:.1%}"
        self._busy_before += self._busy
        self._busy = self._waiting = 0.0
        self._window.clear()
        self._say(line)
        self.accelerator.log({f"train/{name}": value for name, value in numbers.items()}, step=last["step"])

    def record_evaluation(self, step: int, metrics: dict[str, Any]) -> None:
        """Record the metrics of an evaluation after `step` steps."""
        names = ("top1", "top5", "mean_class_accuracy")
        row = {name: metrics[name] for name in names if name in metrics}
        self._write([{"step": step, "epoch": step / self.steps_per_epoch, **row}])
        self._say(
            f"step {step}/{self.num_steps}  " + "  ".join(f"{name} {value:.2f} %" for name, value in row.items())
        )
        self.accelerator.log({f"val/{name}": value for name, value in row.items()}, step=step)
        if self.accelerator.is_main_process and self.recipe.logging.pictures:
            draw_curves(self.rows, self.folder / "curves.png", title=self.recipe.name)

    def close(self) -> None:
        self._bar.close()

    def _say(self, line: str) -> None:
        if self.accelerator.is_main_process:
            tqdm.write(line)

    def _write(self, rows: list[dict[str, float]]) -> None:
        if self.accelerator.is_main_process:
            self.rows += rows
            with open(self.folder / "history.jsonl", "a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)


def _is_finite(row: dict[str, float]) -> bool:
    return all(math.isfinite(value) for value in row.values())


def read_history(folder: Path, last_step: int) -> list[dict[str, float]]:
    """Return the rows of `history.jsonl` up to a step; what a killed run wrote after its last state is left out."""
    path = folder / "history.jsonl"
    rows = []
    for line in read_text(path).splitlines() if path.is_file() else []:
        try:
            row = parse_json(line, finite=False)
        except ValueError:  # the line at which the run was killed
            break
        if not isinstance(row, dict) or not all(type(value) in (int, float) for value in row.values()):
            raise ValueError(f"{path} has a row that is none of this project's: {shorten(row)}. Delete the file.")
        if row.get("step", 0) <= last_step:
            rows.append(row)
    return rows


def check_trackers(recipe: Recipe) -> None:
    """Refuse a recipe with a tracker that is not installed.

    Raises:
        ValueError: If there is one; the message names it.
    """
    for tracker in recipe.logging.trackers:
        if importlib.util.find_spec(tracker) is None:
            raise ValueError(f"logging.trackers names {tracker}, which is not installed: run `pip install {tracker}`.")


def flat_scalars(recipe: Recipe) -> dict[str, int | float | str | bool]:
    """Return a recipe in the form that trackers take."""
    flat = flatten(recipe.to_dict())
    return {name: value if isinstance(value, (int, float, str, bool)) else str(value) for name, value in flat.items()}


def count_flops(model: nn.Module, batch: dict[str, torch.Tensor]) -> float:
    """Return the FLOPs of one clip's forward and backward pass, counted on the meta device without computing anything.

    Args:
        model: The bare model, neither compiled nor wrapped.
        batch: Any clip, as `collate` returns it.
    """
    model = copy.deepcopy(model).to("meta").train()
    with FlopCounterMode(display=False) as counter:
        inputs = {name: batch[name].to("meta") for name in ("pixel_values", "video_features") if name in batch}
        model(**inputs).logits.sum().backward()
    return float(counter.get_total_flops())


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Return the dense peak of a known CUDA device in FLOP/s; None for others."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peaks.get(precision) for key, peaks in PEAK_FLOPS.items() if key in name), None)
