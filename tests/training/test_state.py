"""States are complete or absent: truncated, corrupted, missing and unwritable files, and the lock."""

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from finegym.training.optimization import build_optimizer
from finegym.training.recipe_sections import OptimizationRecipe
from finegym.training.state import (
    RunState,
    exclusive,
    find_state,
    load_state,
    optimizer_tensors,
    restore_optimizer,
    save_state,
)
from tests.training.launching import REPOSITORY


def make_state(step: int, size: int = 4) -> RunState:
    weights = torch.full((size,), float(step))
    return RunState(
        step=step,
        recipe={"seed": 0},
        recipe_hash="hash",
        inputs={"data.root": "clips"},
        tensors={"model": {"weight": weights}, "optimizer": {"momentum_buffer/weight": weights + 1}},
    )


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def test_round_trip_and_pruning(tmp_path):
    for step in (1, 2, 3):
        save_state(tmp_path, make_state(step), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000002", "step_00000003"]
    assert sorted(path.name for path in (tmp_path / "step_00000003").iterdir()) == [
        "manifest.json",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]
    state = load_state(find_state(tmp_path))
    assert (state.step, state.recipe, state.inputs) == (3, {"seed": 0}, {"data.root": "clips"})
    assert torch.equal(state.tensors["model"]["weight"], torch.full((4,), 3.0))


def test_a_state_of_an_earlier_version_is_read(tmp_path):
    folder = save_state(tmp_path, make_state(1), keep=1)
    facts = json.loads((folder / "state.json").read_text())
    del facts["bad_videos"]
    (folder / "state.json").write_text(json.dumps(facts | {"bad_clips": {"a": "torn"}}))
    assert load_state(folder).bad_videos == {"a": "torn"}


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, Path.unlink])
@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
def test_the_state_before_a_damaged_one_is_used(file, damage, tmp_path, caplog):
    for step in (1, 2):
        save_state(tmp_path, make_state(step), keep=2)
    damage(tmp_path / "step_00000002" / file)
    assert find_state(tmp_path) == tmp_path / "step_00000001"
    assert "step_00000002 is damaged" in caplog.text
    assert file in caplog.text or file == "manifest.json"  # a corrupted hash blames the file it belongs to
    # the same step can be saved again, and the damaged one is kept for inspection
    save_state(tmp_path, make_state(2), keep=2)
    assert load_state(find_state(tmp_path)).step == 2
    assert (tmp_path / "damaged_step_00000002").is_dir()


def test_a_run_whose_states_are_all_damaged_does_not_start_anew_silently(tmp_path):
    save_state(tmp_path, make_state(1), keep=1)
    truncate(tmp_path / "step_00000001" / "model.safetensors")
    for _ in range(2):
        with pytest.raises(ValueError, match="Every state in .* is damaged"):
            find_state(tmp_path)


def test_nothing_saved_is_nothing_found(tmp_path):
    assert find_state(tmp_path) is None
    (tmp_path / ".step_00000007.partial").mkdir()  # what a killed run leaves
    assert find_state(tmp_path) is None
    assert not any(tmp_path.iterdir())


def test_a_full_disk_leaves_the_last_state_and_says_so(tmp_path):
    """Use the system's limit on file size in place of a full disk: writing fails halfway, as it would there."""
    save_state(tmp_path, make_state(1), keep=2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(OSError, match="last complete state is step_00000001. Make room and run the same command"):
            save_state(tmp_path, make_state(2, size=100_000), keep=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]
    assert load_state(find_state(tmp_path)).step == 1


def test_the_lock_is_refused_while_held_and_freed_by_a_kill(tmp_path):
    holder = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from finegym.training.state import exclusive
        with exclusive(Path(sys.argv[1])):
            print("held", flush=True)
            time.sleep(600)
        """
    )
    folder = tmp_path / "run" / "state"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(folder)], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    ) as process:
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(RuntimeError, match=f"Another run is writing to .*process {process.pid} on"),
            exclusive(folder),
        ):
            pass
        process.kill()
    with exclusive(folder):
        assert (folder / "lock").read_text().startswith(f"process {os.getpid()} on")


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_restored_optimizer_goes_on_exactly(optimizer):
    """Oracle: the same optimizer, never interrupted."""

    def steps(model, optimizer, count, seed):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(count):
            model(torch.randn(8, 3, generator=generator)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    recipe = OptimizationRecipe(optimizer=optimizer, learning_rate=0.1)
    models = [torch.nn.Linear(3, 2) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    first, second = (build_optimizer(model, recipe) for model in models)
    steps(models[0], first, 3, seed=0)
    models[1].load_state_dict(models[0].state_dict())
    restore_optimizer(second, {name: tensor.clone() for name, tensor in optimizer_tensors(first).items()})
    for model, continued in zip(models, (first, second), strict=True):
        steps(model, continued, 3, seed=1)
    for name, weight in models[0].state_dict().items():
        assert torch.equal(weight, models[1].state_dict()[name])
