"""One run: its parts, put together and brought to where an earlier run of the same recipe stopped."""

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import accelerate
import torch
import transformers
from torch import distributed
from torch.utils.data import DataLoader, Dataset

from finegym.data.dataset import StepSampler, collate
from finegym.data.files import write_text
from finegym.data.index import read_coverage, read_index
from finegym.data.transforms import derive_seed
from finegym.evaluation.pictures import draw_calibration, draw_confusion
from finegym.evaluation.protocol import Evaluation, evaluate
from finegym.evaluation.report import (
    METRICS_FILE,
    SCORES_FILE,
    read_metrics,
    write_metrics,
    write_scores,
)
from finegym.features.cache import Features
from finegym.features.fingerprints import describe_backbone, fingerprint
from finegym.preparation.own_data import prepared_root

from .build import (
    build_dataset,
    build_features_of,
    build_model,
    build_processor,
    read_labels,
    read_val_videos,
    trained_on,
)
from .optimization import MovingAverage, build_optimizer, prepare_batch_norm, train_mode
from .processes import Exchange, start_processes, start_worker
from .recipe import Recipe, changed_fields, recipe_hash
from .reporting import Reporter, check_trackers, count_flops, peak_flops
from .state import RunState, exclusive, find_state, load_state, optimizer_tensors, restore_optimizer, save_state


logger = logging.getLogger(__name__)

# Decoding one video takes milliseconds: a worker silent for this long is stuck.
WORKER_TIMEOUT_SECONDS = 300
STATE_FOLDER = "state"


class Run:
    """The parts of one run, as a context manager that holds the lock of its folder.

    Attributes:
        step: completed steps.
        model: the bare model; `wrapped_model` is what is called in training (autocast, DDP).
        optimizer, average: what moves the weights, and their moving average or None.
        loader: this process's share of every batch from `step` on.
        accelerator, exchange, report: the other processes, and the world outside.
        bad_videos: id -> reason of the training videos that could not be read.
    """

    def __init__(self, recipe: Recipe):
        check_trackers(recipe)
        self.recipe = recipe
        self.folder = Path(recipe.output_dir)
        self.accelerator = start_processes(recipe)
        self.exchange = Exchange(self.accelerator)
        self.num_pieces = recipe.optimization.pieces_per_process(self.accelerator.num_processes)
        self.step, self.best, self.bad_videos, self.seconds_before = 0, {}, {}, 0.0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Run":
        with contextlib.ExitStack() as stack:
            self.exchange.from_main(lambda: stack.enter_context(exclusive(self.folder / STATE_FOLDER)))
            self._read_data()
            state = self._find_state()
            if not self.is_complete:
                self._prepare(state)
                stack.callback(self.report.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        self._stack.__exit__(*exception)

    def _read_data(self) -> None:
        # a folder of somebody's own videos, or a dataset of the Hub, is imported first
        root = self.exchange.from_main(lambda: str(prepared_root(self.recipe.data.root)))
        self.recipe = replace(self.recipe, data=replace(self.recipe.data, root=root))
        data, settings = self.recipe.data, self.recipe.optimization
        self.labels = read_labels(self.recipe)
        self.videos = read_index(data.root, data.train_split)
        self.coverage = read_coverage(data.root, data.val_split)
        self._check_data()
        self.trained_on = trained_on(self.recipe, self.labels, self.coverage)
        self.val_videos = read_val_videos(self.recipe, self.labels, self.trained_on)
        self.steps_per_epoch = len(self.videos) // settings.batch_size
        self.num_steps = settings.epochs * self.steps_per_epoch
        self.processor = build_processor(data)
        torch.manual_seed(self.recipe.seed)
        self.model = prepare_batch_norm(build_model(self.recipe, self.labels), settings.batch_norm)
        self.inputs = self._fingerprint_inputs()

    def _prepare(self, state: RunState | None) -> None:
        recipe, settings, device = self.recipe, self.recipe.optimization, self.accelerator.device
        if state is not None:
            self.model.load_state_dict(state.tensors["model"])
        self.model.to(device)
        dataset, self.val_features = self._build_dataset()
        self.optimizer = build_optimizer(self.model, settings)
        self.average = None if settings.ema_decay is None else MovingAverage(self.model, settings.ema_decay)
        if state is not None:
            self._restore(state)
        self._build_loader(dataset)
        flops_per_clip = None
        if peak_flops(device, settings.precision) is not None:
            flops_per_clip = count_flops(self.model, collate([dataset[0, 0]]))
        if settings.compile:
            self.model.compile(dynamic=False)
        self.wrapped_model = self.accelerator.prepare_model(self.model)
        train_mode(self.wrapped_model, settings.batch_norm)
        self.report = Reporter(
            recipe,
            self.accelerator,
            self.exchange,
            first_step=self.step,
            num_steps=self.num_steps,
            steps_per_epoch=self.steps_per_epoch,
            describe_batch=lambda step: [self.videos[index].id for _, index in self.sampler.global_batch(step)],
            flops_per_clip=flops_per_clip,
        )

    def _check_data(self) -> None:
        data, version = self.recipe.data, self.coverage.annotation_version
        if data.annotation_version is not None and data.annotation_version != version:
            raise ValueError(
                f"{data.root} was prepared from annotation {version}, and the recipe asks for "
                f"data.annotation_version: {data.annotation_version}. Prepare that version, or change the recipe."
            )
        highest = max(self.videos, key=lambda video: video.label)
        if highest.label >= len(self.labels.classes):
            raise ValueError(
                f"Video {highest.id} has label {highest.label}, but {self.labels.name} has {len(self.labels.classes)} "
                "classes."
            )

    def _build_dataset(self) -> tuple[Dataset, Features | None]:
        if self.recipe.features.mode == "cached":
            return build_features_of(self.recipe, self.model, self.processor, self.videos, self.val_videos)
        dataset = build_dataset(self.recipe, self.videos)
        if self.recipe.data.cache_frames:
            data = self.recipe.data
            dataset.cache_frames(data.short_side, antialias=data.antialias, progress=self.accelerator.is_main_process)
        return dataset, None

    def _build_loader(self, dataset: Dataset) -> None:
        self.sampler = StepSampler(
            len(self.videos),
            batch_size=self.recipe.optimization.batch_size,
            num_steps=self.num_steps,
            seed=self.recipe.seed,
            first_step=self.step,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
        )
        num_workers = self.recipe.data.num_workers if self.recipe.features.mode == "online" else 0
        self.loader = DataLoader(
            dataset,
            batch_sampler=self.sampler,
            num_workers=num_workers,
            collate_fn=collate,
            worker_init_fn=start_worker,
            timeout=WORKER_TIMEOUT_SECONDS if num_workers else 0,
            # Forked workers share cached frames with the run, and notice when it dies.
            multiprocessing_context="fork" if num_workers else None,
            pin_memory=self.accelerator.device.type == "cuda",
        )

    def pieces(
        self, batch: dict[str, torch.Tensor]
    ) -> Iterator[tuple[dict[str, torch.Tensor], contextlib.AbstractContextManager]]:
        """Cut this process's share of a batch into its forward passes; gradients are exchanged in the last one.

        Each piece of the global batch has its own seed for dropout, so that neither the number of processes nor a
        restart changes its masks.
        """
        size = len(batch["labels"]) // self.num_pieces
        for number in range(self.num_pieces):
            piece = {name: values[number * size : (number + 1) * size] for name, values in batch.items()}
            place = self.accelerator.process_index * self.num_pieces + number
            torch.manual_seed(derive_seed(self.recipe.seed, "dropout", self.step, place))
            is_last = number == self.num_pieces - 1
            context = contextlib.nullcontext() if is_last else self.accelerator.no_sync(self.wrapped_model)
            yield (
                {name: values.to(self.accelerator.device, non_blocking=True) for name, values in piece.items()},
                context,
            )

    # Being stopped, saving and going on

    @property
    def save_is_due(self) -> bool:
        every = self.recipe.checkpointing.every_steps or self.steps_per_epoch
        return self.step % every == 0 or self.step == self.num_steps

    def save(self) -> None:
        """Write the state of the run, unless its numbers are no longer finite."""
        self.report.flush()
        self.exchange.from_main(self._save)

    def _save(self) -> None:
        tensors = {"model": self.model.state_dict(), "optimizer": optimizer_tensors(self.optimizer)}
        if self.average is not None:
            tensors["average"] = self.average.averages
        recipe = self.recipe.to_dict()
        state = RunState(
            step=self.step,
            recipe=recipe,
            recipe_hash=recipe_hash(recipe),
            inputs=self.inputs,
            best=self.best,
            seconds=self.seconds,
            bad_videos=self.bad_videos,
            versions=versions(),
            tensors=tensors,
        )
        save_state(self.folder / STATE_FOLDER, state, keep=self.recipe.checkpointing.keep)

    def _find_state(self) -> RunState | None:
        path = self.exchange.from_main(lambda: find_state(self.folder / STATE_FOLDER))
        if path is None:
            return None
        state = load_state(path)
        changed = changed_fields(state.recipe, self.recipe.to_dict())
        changed |= {
            f"contents of {name}": (state.inputs.get(name, "none")[:12], value[:12])
            for name, value in self.inputs.items()
            if state.inputs.get(name) != value
        }
        if changed:
            listing = ", ".join(f"{name} (was {before!r}, is {after!r})" for name, (before, after) in changed.items())
            raise ValueError(
                f"{self.folder} holds a run that was started otherwise: {listing}. Give another --output_dir, put "
                f"that back, or delete {self.folder / STATE_FOLDER} to start anew."
            )
        self.step, self.best, self.bad_videos = state.step, state.best, state.bad_videos
        self.seconds_before = state.seconds
        logger.info(f"Going on after step {state.step} of {self.num_steps}, saved in {path}.")
        if state.versions != versions():
            logger.warning(
                f"It was saved by {state.versions} and goes on with {versions()}: the last digits may differ from "
                "those of a run that was never stopped."
            )
        return state

    def _restore(self, state: RunState) -> None:
        restore_optimizer(self.optimizer, state.tensors["optimizer"])
        if self.average is not None:
            for name, average in self.average.averages.items():
                average.copy_(state.tensors["average"][name])

    def _fingerprint_inputs(self) -> dict[str, str]:
        """What the recipe only names: the training videos, the classes, and the backbone's weights."""
        rows = [[video.id, video.label, video.num_frames, video.start, video.end] for video in self.videos]
        inputs = {
            "data.root": fingerprint(rows),
            "data.labels": fingerprint([self.labels.names, self.labels.attributes]),
        }
        if self.recipe.model.backbone is not None:
            inputs["model.backbone"] = describe_backbone(self.model)["weights"]
        return inputs

    def explain_stop(self, received: signal.Signals) -> None:
        logger.warning(
            f"Stopped by {received.name} after step {self.step} of {self.num_steps}. The state is saved in "
            f"{self.folder / STATE_FOLDER}; run the same command again to go on."
        )

    def leave_out(self, errors: dict[str, str]) -> None:
        """Count unreadable training videos and name each once.

        Raises:
            ValueError: if they are more than the recipe allows.
        """
        for video_id, reason in self.exchange.merge(errors).items():
            if video_id not in self.bad_videos:
                self.bad_videos[video_id] = reason
                logger.warning(f"Training video {video_id} is left out: {reason}")
        allowed = self.recipe.data.max_bad_share
        if len(self.bad_videos) > allowed * len(self.videos):
            raise ValueError(
                f"{len(self.bad_videos)} of {len(self.videos)} training videos cannot be read, more than "
                f"data.max_bad_share {allowed:.2%}: {', '.join(sorted(self.bad_videos)[:20])}. Prepare them again, or "
                "raise data.max_bad_share."
            )

    # Evaluating and ending

    @property
    def is_complete(self) -> bool:
        """Whether an earlier run took the last step and wrote the whole checkpoint folder."""
        return self.step == self.num_steps and (self.folder / METRICS_FILE).exists()

    def read_metrics(self) -> dict[str, Any]:
        """The metrics of a complete run."""
        logger.info(f"{self.folder} is complete. Delete it to train this recipe anew.")
        return read_metrics(self.folder)

    @property
    def seconds(self) -> float:
        """Spent in training steps, over all the runs that led here."""
        return self.seconds_before + self.report.seconds

    @property
    def evaluation_is_due(self) -> bool:
        every = self.recipe.evaluation.every_epochs * self.steps_per_epoch
        return every > 0 and self.step % every == 0 and self.step < self.num_steps

    def evaluate(self) -> Evaluation:
        """Score the validation split with the averaged weights, if there are any, on all processes."""
        self.report.report()
        if self.accelerator.num_processes > 1:  # the statistics of the main process's batches, as DDP does it
            for buffer in self.model.buffers():
                distributed.broadcast(buffer, 0)
        with self._averaged():
            evaluation = evaluate(
                self.model,
                self.processor,
                self.val_videos,
                self.labels,
                num_clips=self.recipe.data.num_clips,
                batch_size=self.recipe.evaluation.batch_size,
                num_workers=self.recipe.data.num_workers,
                features=self.val_features,
                split=self.recipe.data.val_split,
                coverage=self.coverage,
            )
        train_mode(self.wrapped_model, self.recipe.optimization.batch_norm)
        metrics = evaluation.metrics
        if metrics["mean_class_accuracy"] > self.best.get("mean_class_accuracy", -1.0):
            self.best = {name: metrics[name] for name in ("top1", "mean_class_accuracy")} | {"step": self.step}
        self.report.evaluation(self.step, metrics)
        return evaluation

    def finish(self) -> dict[str, Any]:
        """Evaluate and write the checkpoint folder; `metrics.json` comes last and says that it is complete."""
        evaluation = self.evaluate()
        evaluation.metrics.update(
            train_seconds=self.seconds,
            num_train_videos=len(self.videos),
            num_bad_train_videos=len(self.bad_videos),
            trained_on=self.trained_on,
        )
        with self._averaged():
            self.exchange.from_main(lambda: self._write_checkpoint(evaluation))
        self.accelerator.end_training()
        logger.info(f"The checkpoint is complete: {self.folder}")
        return evaluation.metrics

    def _averaged(self) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext() if self.average is None else self.average.applied()

    def _write_checkpoint(self, evaluation: Evaluation) -> None:
        temporary = self.folder / ".checkpoint.partial"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        self.model.save_pretrained(temporary)
        self.processor.save_pretrained(temporary)
        self.labels.write(temporary / "labels.json")
        self.recipe.save(temporary / "recipe.yaml")
        write_text(temporary / "training.json", json.dumps(self._describe_training(), indent=2) + "\n")
        for file in sorted(temporary.iterdir()):
            os.replace(file, self.folder / file.name)
        temporary.rmdir()
        write_scores(self.folder / SCORES_FILE, evaluation)
        draw_confusion(self.folder / "confusion.png", evaluation, self.labels)
        draw_calibration(self.folder / "calibration.png", evaluation)
        write_metrics(self.folder, evaluation.metrics)

    def _describe_training(self) -> dict[str, str]:
        """How this checkpoint came to be, for its card."""
        device, count = self.accelerator.device, self.accelerator.num_processes
        hardware = (
            torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU thread(s)"
        )
        return {
            "commit": commit() or "not under version control",
            "hardware": f"{count} x {hardware}",
            "duration": str(timedelta(seconds=round(self.seconds))),
            "software": ", ".join(f"{name} {version}" for name, version in versions().items()),
        }


def versions() -> dict[str, str]:
    """What a bit-exact repetition needs to be the same."""
    return {library.__name__: library.__version__ for library in (torch, transformers, accelerate)}


def commit() -> str | None:
    """The commit that this code was checked out from, marked where files were changed since; None if there is none."""
    house = Path(__file__).resolve().parents[2]
    if not (house / ".git").exists():  # installed elsewhere: a repository around it is not this code's
        return None
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=, changed since"]
    try:
        described = subprocess.run(command, cwd=house, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
