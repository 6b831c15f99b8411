"""The training loop, and what happens at its ends.

What the loop uses of a run, which `run.py` puts together:

    recipe, folder     what is trained, and the checkpoint folder
    inputs             what the recipe names: labels, videos, the number of steps
    is_complete        whether an earlier run wrote the whole folder
    step               completed steps; a state restores it
    loader             this process's share of every batch, from `step` on; cut into `num_pieces` forward passes
    model              the bare model; `wrapped_model` is called in training (autocast, DDP)
    optimizer          by parameter name; `average` is the moving average of the weights, or None
    bad_videos         training videos that could not be read: id -> reason
    accelerator        the device and this process's place; `exchange` talks to the other processes
    reporter           times, records and prints the steps
    save, evaluate     when `save_is_due` and `evaluation_is_due`; `finish` evaluates and writes the folder
"""

import contextlib
import logging
import signal
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from finegym.architectures import ARCHITECTURES
from finegym.data.dataset import IGNORED_LABEL
from finegym.data.transforms import derive_seed
from finegym.evaluation.report import read_metrics

from .mixup import mix_clips, sum_mixed_losses
from .optimization import learning_rate_factor, set_learning_rate
from .processes import StopSignals
from .recipe import Recipe
from .run import Run
from .state import STATE_FOLDER


logger = logging.getLogger(__name__)


def train(recipe: Recipe) -> dict[str, Any] | signal.Signals:
    """Train the model of a recipe and write its checkpoint folder.

    A run that was stopped or killed resumes after the last state that it saved, on any number of processes.

    Returns:
        The metrics of the final evaluation, or the signal that stopped the run after its state was saved.

    Raises:
        ValueError: If the recipe does not fit the data, or more training videos are unreadable than
            `data.max_bad_share` allows.
        FloatingPointError: If a loss or gradient is not finite.
        RuntimeError: If another run is writing to the same folder.
        OSError: If a state cannot be written.
    """
    settings = recipe.optimization
    with Run(recipe) as run, StopSignals() as signals:
        if run.is_complete:
            logger.info(f"{run.folder} is complete. Delete it to train this recipe again.")
            return read_metrics(run.folder)
        for batch in run.reporter.watch(run.loader):
            errors = batch.pop("errors", {})
            num_readable = int((batch["labels"] != IGNORED_LABEL).sum())
            num_clips, num_errors, num_stopping = run.exchange.sum(num_readable, len(errors), bool(signals.received))
            if num_stopping:
                run.save()
                received = signals.received or signal.SIGTERM  # another process may have got it
                explain_stop(run, received)
                return received
            if num_errors:
                leave_out(run, errors)

            learning_rate = settings.learning_rate * learning_rate_factor(
                run.step, run.inputs.steps_per_epoch, settings
            )
            set_learning_rate(run.optimizer, learning_rate)
            loss = torch.zeros((), device=run.accelerator.device)
            for piece, context in pieces(run, batch):
                with context:
                    labels = piece.pop("labels")
                    # The mean over the clips of all pieces on all processes; DDP will divide by the number of
                    # processes.
                    part = sum_losses(run, piece, labels) / max(1, num_clips)
                    run.accelerator.backward(part * run.accelerator.num_processes)
                loss += part.detach()
            grad_norm = None
            if settings.grad_clip is not None:
                grad_norm = nn.utils.clip_grad_norm_(run.model.parameters(), settings.grad_clip)
            run.optimizer.step()
            run.optimizer.zero_grad()
            if run.average is not None:
                run.average.update()

            run.step += 1
            run.reporter.record_step(run.step, learning_rate, loss, grad_norm)
            if run.evaluation_is_due:
                run.evaluate()
            if run.save_is_due:
                run.save()
        return run.finish()


def sum_losses(run: Run, piece: dict[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Return the sum of the losses of the clips of a forward pass; those without a label count as 0."""
    if not ARCHITECTURES[run.recipe.model.architecture].has_own_loss:
        if run.recipe.optimization.mixup is not None:
            mixed, partners, shares = mix_clips(piece, labels, run.recipe.optimization.mixup)
            return sum_mixed_losses(run.wrapped_model(**mixed).logits, labels, partners, shares)
        return F.cross_entropy(run.wrapped_model(**piece).logits, labels, reduction="sum")
    num_readable = (labels != IGNORED_LABEL).sum()
    # of no clip at all the mean is not a number: any label, times 0
    mean = run.wrapped_model(**piece, labels=labels if num_readable else labels.clamp_min(0)).loss
    return mean * num_readable


def pieces(
    run: Run, batch: dict[str, torch.Tensor]
) -> Iterator[tuple[dict[str, torch.Tensor], contextlib.AbstractContextManager]]:
    """Cut this process's share of a batch into its forward passes; gradients are exchanged in the last one.

    Each piece of the global batch has its own seed for mixup and dropout, so that neither the number of processes nor
    a restart changes what is drawn.
    """
    process, device = run.accelerator.process_index, run.accelerator.device
    size = len(batch["labels"]) // run.num_pieces
    for number in range(run.num_pieces):
        piece = {name: values[number * size : (number + 1) * size] for name, values in batch.items()}
        torch.manual_seed(derive_seed(run.recipe.seed, "dropout", run.step, process * run.num_pieces + number))
        is_last = number == run.num_pieces - 1
        context = contextlib.nullcontext() if is_last else run.accelerator.no_sync(run.wrapped_model)
        yield {name: values.to(device, non_blocking=True) for name, values in piece.items()}, context


def explain_stop(run: Run, received: signal.Signals) -> None:
    """Log where a stopped run is and how to resume it."""
    logger.warning(
        f"Stopped by {received.name} after step {run.step} of {run.inputs.num_steps}. The state is saved in "
        f"{run.folder / STATE_FOLDER}; run the same command again to resume."
    )


def leave_out(run: Run, errors: dict[str, str]) -> None:
    """Count unreadable training videos and name each once.

    Raises:
        ValueError: If there are more than the recipe allows.
    """
    for video_id, reason in run.exchange.merge(errors).items():
        if video_id not in run.bad_videos:
            run.bad_videos[video_id] = reason
            logger.warning(f"Training video {video_id} is left out: {reason}")
    allowed = run.recipe.data.max_bad_share
    if len(run.bad_videos) > allowed * len(run.inputs.videos):
        raise ValueError(
            f"{len(run.bad_videos)} of {len(run.inputs.videos)} training videos cannot be read, more than "
            f"data.max_bad_share {allowed:.2%}: {', '.join(sorted(run.bad_videos)[:20])}. Prepare them again, or "
            "raise data.max_bad_share."
        )
