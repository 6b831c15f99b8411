"""One run: its parts, put together and restored to where an earlier run of the same recipe stopped."""

import contextlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import distributed, nn
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedModel

from finegym.data.dataset import StepSampler, collate
from finegym.evaluation.protocol import Evaluation, evaluate
from finegym.features.cache import Features
from finegym.features.fingerprints import describe_backbone
from finegym.preparation.own_data import prepared_root

from .build import (
    build_dataset,
    build_features_of,
    build_loader,
    build_model,
    fit_controls,
    measure_features,
    with_normalization,
)
from .inputs import RunInputs, read_inputs
from .lora import add_lora
from .optimization import (
    MovingAverage,
    averaged,
    build_optimizer,
    checkpoint_gradients,
    prepare_batch_norm,
    train_mode,
)
from .output import describe_training, drop_metrics, holds_metrics, write_checkpoint
from .processes import Exchange, start_processes
from .recipe import Recipe, experiment_hash
from .reporting import Reporter, check_trackers, count_flops, peak_flops
from .state import STATE_FOLDER, capture, exclusive, find_state, load_matching_state, restore, save_state


logger = logging.getLogger(__name__)


class Run:
    """The parts of one run, as a context manager that holds the lock of its folder.

    `model` is the bare model; `wrapped_model` is what is called in training (autocast, DDP). `loader` gives this
    process's share of every batch from `step` on.
    """

    recipe: Recipe
    folder: Path  # the checkpoint folder
    inputs: RunInputs  # what the recipe names
    fingerprints: dict[str, str]  # of these and of the backbone
    is_complete: bool  # an earlier run took the last step and wrote the whole folder
    # what a state holds
    step: int  # completed steps
    best: dict[str, float]  # the best evaluation so far, with its step
    bad_videos: dict[str, str]  # id -> reason of the training videos that could not be read
    seconds_before: float  # spent in the training steps of earlier runs
    model: PreTrainedModel
    optimizer: torch.optim.Optimizer
    average: MovingAverage | None
    # what moves it
    accelerator: Accelerator
    exchange: Exchange  # with the other processes
    num_pieces: int  # forward passes of this process in a step
    wrapped_model: nn.Module
    val_features: Features | None
    controls: dict[str, Any] | None  # of cached features
    sampler: StepSampler
    loader: DataLoader
    reporter: Reporter

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
            # a folder of a user's own videos, or a data set of the Hub, is imported first
            root = self.exchange.from_main(lambda: str(prepared_root(self.recipe.data.root)))
            self.recipe = with_normalization(replace(self.recipe, data=replace(self.recipe.data, root=root)))
            self.inputs = read_inputs(self.recipe)
            torch.manual_seed(self.recipe.seed)
            model = build_model(self.recipe, self.inputs.labels)
            self.model = prepare_batch_norm(model, self.recipe.optimization.batch_norm)
            backbone = None if self.recipe.model.backbone is None else describe_backbone(self.model)
            self.fingerprints = dict(self.inputs.fingerprints)
            if backbone is not None:
                self.fingerprints["model.backbone"] = backbone["weights"]
            if self.recipe.model.lora:
                add_lora(self.model, self.recipe.model.lora)
            self._prepare(backbone, stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        self._stack.__exit__(*exception)

    def _prepare(self, backbone: dict[str, Any] | None, stack: contextlib.ExitStack) -> None:
        settings, num_steps = self.recipe.optimization, self.inputs.num_steps
        path = self.exchange.from_main(lambda: find_state(self.folder / STATE_FOLDER))
        state = None if path is None else load_matching_state(path, self.recipe, self.fingerprints)
        is_over = state is not None and state.step == num_steps
        self.is_complete = is_over and self.exchange.from_main(lambda: holds_metrics(self.folder, self.recipe.data))
        if self.is_complete:
            return
        self.exchange.from_main(lambda: drop_metrics(self.folder))
        self.model.to(self.accelerator.device)
        dataset, self.val_features = self._build_dataset(backbone)
        measure_features(self.model, dataset)
        self.optimizer = build_optimizer(self.model, settings)
        self.average = None if settings.ema_decay is None else MovingAverage(self.model, settings.ema_decay)
        if state is not None:
            restore(self, state)
            logger.info(f"Resuming after step {state.step} of {num_steps}, saved in {path}.")
        self.sampler = StepSampler(
            len(self.inputs.videos),
            batch_size=settings.batch_size,
            num_steps=num_steps,
            seed=self.recipe.seed,
            first_step=self.step,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
        )
        self.loader = build_loader(self.recipe, dataset, self.sampler, self.accelerator.device)
        flops_per_clip = None
        if peak_flops(self.accelerator.device, settings.precision) is not None:
            flops_per_clip = count_flops(self.model, collate([dataset[0, 0]]))
        if settings.compile:
            self.model.compile(dynamic=False)
        self.wrapped_model = self.accelerator.prepare_model(self.model)
        train_mode(self.wrapped_model, settings.batch_norm)
        if settings.gradient_checkpointing:
            checkpoint_gradients(self.model)
        self.reporter = Reporter(
            self.recipe,
            self.accelerator,
            self.exchange,
            first_step=self.step,
            num_steps=num_steps,
            steps_per_epoch=self.inputs.steps_per_epoch,
            describe_batch=lambda step: [self.inputs.videos[index].id for _, index in self.sampler.global_batch(step)],
            flops_per_clip=flops_per_clip,
        )
        stack.callback(self.reporter.close)

    def _build_dataset(self, backbone: dict[str, Any] | None) -> tuple[Dataset, Features | None]:
        if self.recipe.features.mode == "cached":
            inputs = self.inputs
            videos = {"videos": inputs.videos, "val_videos": inputs.val_videos}
            parts = build_features_of(self.recipe, self.model, inputs.processor, **videos, backbone=backbone)
            of_data = (inputs.val_videos, inputs.labels, self.model.config.num_places)
            self.controls = self.exchange.from_main(lambda: fit_controls(*parts, *of_data))
            return parts
        self.controls = None
        dataset = build_dataset(self.recipe, self.inputs.videos)
        if self.recipe.data.cache_frames:
            dataset.cache_frames(self.recipe.data.short_side, progress=self.accelerator.is_main_process)
        return dataset, None

    @property
    def save_is_due(self) -> bool:
        every = self.recipe.checkpointing.every_steps or self.inputs.steps_per_epoch
        return self.step % every == 0 or self.step == self.inputs.num_steps

    def save(self) -> None:
        """Write the state of the run, unless its numbers are no longer finite."""
        self.reporter.flush()
        keep = self.recipe.checkpointing.keep
        self.exchange.from_main(lambda: save_state(self.folder / STATE_FOLDER, capture(self), keep=keep))

    @property
    def seconds(self) -> float:
        """The seconds spent in training steps, over all the runs that led here."""
        return self.seconds_before + self.reporter.seconds

    @property
    def evaluation_is_due(self) -> bool:
        every = self.recipe.evaluation.every_epochs * self.inputs.steps_per_epoch
        return every > 0 and self.step % every == 0 and self.step < self.inputs.num_steps

    def evaluate(self) -> Evaluation:
        """Score the validation split with the averaged weights, if there are any, on all processes."""
        self.reporter.write_line()
        if self.accelerator.num_processes > 1:  # the statistics of the main process's batches, as DDP does it
            for buffer in self.model.buffers():
                distributed.broadcast(buffer, 0)
        with averaged(self.average):
            evaluation = evaluate(
                self.model,
                self.inputs.processor,
                self.inputs.val_videos,
                self.inputs.labels,
                num_clips=self.recipe.data.num_clips,
                batch_size=self.recipe.evaluation.batch_size,
                num_workers=self.recipe.data.num_workers,
                features=self.val_features,
                split=self.recipe.data.val_split,
                coverage=self.inputs.coverage,
                fold=self.inputs.trained_on[-1].get("fold"),
            )
        train_mode(self.wrapped_model, self.recipe.optimization.batch_norm)
        metrics = evaluation.metrics
        if metrics["mean_class_accuracy"] > self.best.get("mean_class_accuracy", -1.0):
            self.best = {name: metrics[name] for name in ("top1", "mean_class_accuracy")} | {"step": self.step}
        self.reporter.record_evaluation(self.step, metrics)
        return evaluation

    def finish(self) -> dict[str, Any]:
        """Evaluate and write the checkpoint folder; `metrics.json` is written last and marks it as complete."""
        evaluation = self.evaluate()
        evaluation.metrics.update(
            train_seconds=self.seconds,
            num_train_videos=len(self.inputs.videos),
            num_bad_train_videos=len(self.bad_videos),
            trained_on=self.inputs.trained_on,
            seed=self.recipe.seed,
            experiment=experiment_hash(self.recipe.to_dict()),
            **({} if self.controls is None else {"controls": self.controls}),
        )
        training = describe_training(self.accelerator, self.seconds)
        with averaged(self.average):
            self.exchange.from_main(
                lambda: write_checkpoint(self.folder, self.recipe, self.inputs, self.model, evaluation, training)
            )
        self.accelerator.end_training()
        logger.info(f"The checkpoint is complete: {self.folder}")
        return evaluation.metrics
