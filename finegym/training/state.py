"""The state of a run on disk: complete or absent, verified when read, never pickled.

    output_dir/state/
        lock                     held by the run that is at work
        step_00000400/           after 400 steps
            model.safetensors        weights and buffers
            optimizer.safetensors    momentum or moments, by parameter name
            average.safetensors      moving average of the weights, if there is one
            state.json               position, recipe, what the run was fed with, best metric, unreadable videos
            manifest.json            SHA-256 of the files above

Order, augmentation, dropout and learning rate are pure functions of (seed, step), so there is no generator to save:
the position is the state of the random numbers.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import accelerate
import safetensors.torch
import torch
import transformers
from torch import nn

from finegym.data.text import check_count, parse_json, read_json, read_text

from .optimization import MovingAverage
from .recipe import Recipe, changed_fields, recipe_hash


logger = logging.getLogger(__name__)

STATE_FOLDER = "state"
STEP_FOLDER = re.compile(r"step_(\d{8,})")
MANIFEST = "manifest.json"


@dataclass
class RunState:
    """Everything a run needs to resume.

    Attributes:
        step: The number of completed steps.
        recipe: The recipe, as `Recipe.to_dict` returns it.
        recipe_hash: The hash of the recipe; see `recipe.recipe_hash`.
        inputs: The fingerprints of what the recipe only names, such as the training videos.
        best: The best evaluation so far, with its step.
        seconds: The seconds spent in training steps so far.
        bad_videos: The id of every unreadable training video met so far -> reason.
        versions: The versions of the software that wrote it.
        tensors: The tensors, by file stem and name.
    """

    step: int
    recipe: dict[str, Any]
    recipe_hash: str
    inputs: dict[str, str]
    best: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    bad_videos: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    tensors: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)


class Resumable(Protocol):
    """What a state is captured from and restored to: a `Run`."""

    recipe: Recipe
    fingerprints: dict[str, str]
    step: int
    best: dict[str, float]
    bad_videos: dict[str, str]
    seconds_before: float
    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: MovingAverage | None

    @property
    def seconds(self) -> float: ...


def capture(run: Resumable) -> RunState:
    """Return everything that a run needs to resume, as it is now."""
    tensors = {"model": run.model.state_dict(), "optimizer": optimizer_tensors(run.optimizer)}
    if run.average is not None:
        tensors["average"] = run.average.averages
    recipe = run.recipe.to_dict()
    return RunState(
        step=run.step,
        recipe=recipe,
        recipe_hash=recipe_hash(recipe),
        inputs=run.fingerprints,
        best=run.best,
        seconds=run.seconds,
        bad_videos=run.bad_videos,
        versions=versions(),
        tensors=tensors,
    )


def restore(run: Resumable, state: RunState) -> None:
    """Restore a run whose parts are built to where `state` was captured."""
    run.step, run.best, run.bad_videos = state.step, state.best, state.bad_videos
    run.seconds_before = state.seconds
    run.model.load_state_dict(state.tensors["model"])
    restore_optimizer(run.optimizer, state.tensors["optimizer"])
    if run.average is not None:
        for name, average in run.average.averages.items():
            average.copy_(state.tensors["average"][name])
    if state.versions != versions():
        logger.warning(
            f"The state was saved by {state.versions} and is resumed by {versions()}: the last digits may differ from "
            "those of a run that was never stopped."
        )


def versions() -> dict[str, str]:
    """Return everything that must be the same for a bit-exact repetition."""
    return {library.__name__: library.__version__ for library in (torch, transformers, accelerate)}


def save_state(folder: Path, state: RunState, *, keep: int) -> Path:
    """Write `folder/step_...` as a whole, then remove all but the newest `keep` states.

    The files are written beside it, synced to the disk and renamed, so that a kill or a power cut at any moment leaves
    either the new state or none.

    Raises:
        OSError: If it cannot be written, as on a full disk; the states already there are not touched.
    """
    target = folder / f"step_{state.step:08d}"
    temporary = folder / f".{target.name}.partial"
    facts = {name: value for name, value in vars(state).items() if name != "tensors"}
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        hashes = {}
        for stem, tensors in state.tensors.items():
            content = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
            hashes[f"{stem}.safetensors"] = _write(temporary / f"{stem}.safetensors", content)
        hashes["state.json"] = _write(temporary / "state.json", json.dumps(facts, indent=1).encode())
        _write(temporary / MANIFEST, json.dumps(hashes, indent=1).encode())
        _sync_folder(temporary)
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
        _sync_folder(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        remaining = [step_folder.name for step_folder in _step_folders(folder)]
        raise OSError(
            error.errno,
            f"The state of step {state.step} could not be written to {folder} ({error.strerror or error}). "
            + (f"The last complete state is {remaining[0]}. " if remaining else "There is no earlier state. ")
            + "Make room and run the same command again",
        ) from error
    for old in _step_folders(folder)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def find_state(folder: Path) -> Path | None:
    """Return the newest undamaged state below `folder`; None if no state was ever written there.

    Damaged ones are reported and set aside as `damaged_step_...`; what a killed run left incomplete is removed.

    Raises:
        ValueError: If there are states, but all of them are damaged.
    """
    for leftover in folder.glob(".step_*.partial"):
        shutil.rmtree(leftover, ignore_errors=True)
    candidates = _step_folders(folder)
    for candidate in candidates:
        damage = _damage(candidate)
        if damage is None:
            return candidate
        logger.warning(f"{candidate} is damaged ({damage}); looking for the state before it.")
        aside = candidate.with_name(f"damaged_{candidate.name}")
        shutil.rmtree(aside, ignore_errors=True)
        candidate.rename(aside)
    if candidates or any(folder.glob("damaged_step_*")):
        raise ValueError(
            f"Every state in {folder} is damaged. Delete that folder to start this run from the beginning."
        )
    return None


def load_state(path: Path) -> RunState:
    """Read a state that `find_state` found.

    Raises:
        ValueError: If it is not the state of a run although its hashes are right; the message names it.
    """
    remedy = f"Delete {path} to resume from the state before it."
    facts = read_json(path / "state.json", what="state of a run", remedy=remedy, finite=False)
    if isinstance(facts, dict) and "bad_clips" in facts:  # the name that earlier versions wrote
        facts["bad_videos"] = facts.pop("bad_clips")
    try:
        # Cloned, because tensors inside a file's buffer are not aligned as torch aligns its own.
        tensors = {
            file.stem: {name: tensor.clone() for name, tensor in safetensors.torch.load_file(file).items()}
            for file in sorted(path.glob("*.safetensors"))
        }
        state = RunState(**facts, tensors=tensors)
        check_count(state.step)
    except (safetensors.SafetensorError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not the state of a run ({error}). {remedy}") from error
    for name in ("recipe", "inputs", "best", "bad_videos", "versions"):
        if not isinstance(getattr(state, name), dict):
            raise ValueError(f"{path}: {name!r} in state.json is not a mapping. {remedy}")
    if type(state.seconds) not in (int, float) or not isinstance(state.recipe_hash, str):
        raise ValueError(f"{path}: state.json has a value of another type than was written. {remedy}")
    return state


def load_matching_state(path: Path, recipe: Recipe, fingerprints: dict[str, str]) -> RunState:
    """Read a state of the same run: of a recipe that yields the same weights, with the same inputs.

    Raises:
        ValueError: If it belongs to another run; the message names what differs, or the state.
    """
    state = load_state(path)
    changed = changed_fields(state.recipe, recipe.to_dict())
    changed |= {
        f"contents of {name}": (state.inputs.get(name, "none")[:12], value[:12])
        for name, value in fingerprints.items()
        if state.inputs.get(name) != value
    }
    if changed:
        listing = ", ".join(f"{name} (was {before!r}, is {after!r})" for name, (before, after) in changed.items())
        raise ValueError(
            f"{path.parent.parent} holds a run that was started with other settings: {listing}. Give another "
            f"--output_dir, put that back, or delete {path.parent} to start again."
        )
    return state


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the optimizer's state, as `<quantity>/<parameter name>` -> tensor."""
    return {
        f"{quantity}/{name}": tensor
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        for quantity, tensor in optimizer.state[parameter].items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Give an optimizer the state that `optimizer_tensors` took from one for the same model.

    Raises:
        ValueError: If a tensor belongs to no parameter or has another shape; the message names it.
    """
    parameters = {
        name: parameter
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
    }
    for key, tensor in tensors.items():
        quantity, _, name = key.partition("/")
        parameter = parameters.get(name)
        if parameter is None or tensor.ndim and tensor.shape != parameter.shape:
            raise ValueError(f"The optimizer's state {key!r} fits no parameter of this model: delete the run's state.")
        # Step counters are scalars, which AdamW keeps on the CPU.
        optimizer.state[parameter][quantity] = tensor.to(parameter.device) if tensor.ndim else tensor


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's state folder; the system releases it however the process ends.

    Raises:
        RuntimeError: If another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a+", encoding="utf-8") as file:
        try:
            # A record lock and not flock, because flock would outlive a killed run in its data workers.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise RuntimeError(
                f"Another run is writing to {folder.parent} ({file.read().strip() or 'its owner is not known'}). "
                "Wait for it, stop it, or give another --output_dir."
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def _step_folders(folder: Path) -> list[Path]:
    """Return all states, newest first."""
    found = [path for path in folder.iterdir() if STEP_FOLDER.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name.removeprefix("step_")), reverse=True)


def _damage(folder: Path) -> str | None:
    """Return why a state cannot be trusted; None if it can."""
    try:
        hashes = parse_json(read_text(folder / MANIFEST))
        for name, expected in hashes.items():
            if Path(name).name != name:
                return f"{MANIFEST} names {name!r}, which is not in the folder"
            with open(folder / name, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                    return f"{name} is not what was written"
        missing = {"state.json", "model.safetensors", "optimizer.safetensors"} - hashes.keys()
        return f"{', '.join(sorted(missing))} not in {MANIFEST}" if missing else None
    except OSError as error:
        return f"{Path(error.filename or folder).name}: {error.strerror}"
    except (ValueError, AttributeError, TypeError):
        return f"{MANIFEST} is not readable"


def _write(path: Path, content: bytes) -> str:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
