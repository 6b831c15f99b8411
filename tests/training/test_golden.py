"""A change that should not affect the numbers does not, whatever the processor."""

import json
import os
import subprocess
import sys

import pytest

from tests.kernels import PLAINEST
from tests.training.golden import CHANGES, GOLDEN, NUM_STEPS, RECIPES
from tests.training.launching import REPOSITORY, run_command


TOLERANCE = 1e-10  # other kernels and numbers of threads differ by 1e-15


@pytest.fixture(scope="module")
def own_kernels(tmp_path_factory):
    path = tmp_path_factory.mktemp("golden") / "losses.json"
    status, _, errors = run_command(["python", "tests/training/golden.py", str(path), "--with_changes"], REPOSITORY)
    assert status == 0, errors
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def plainest_kernels(tmp_path_factory):
    """In a fresh process: kernels are chosen when torch is imported."""
    path = tmp_path_factory.mktemp("golden") / "losses.json"
    command = [sys.executable, "-m", "tests.training.golden", str(path)]
    run = subprocess.run(
        command, cwd=REPOSITORY, env=os.environ | PLAINEST, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr
    return json.loads(path.read_text())


def agree(computed, expected):
    numbers = {name: pytest.approx([float(value) for value in expected[name]], rel=TOLERANCE) for name in expected}
    return {name: [float(value) for value in values] for name, values in computed.items()} == numbers


@pytest.mark.parametrize("kernels", ["own_kernels", "plainest_kernels"])
@pytest.mark.parametrize("family", RECIPES)
def test_the_first_losses_are_those_on_record(family, kernels, request):
    expected = json.loads(GOLDEN.read_text())[family]
    assert len(expected["losses"]) == NUM_STEPS
    computed = request.getfixturevalue(kernels)["families"][family]
    assert agree(computed, expected), f"{computed} is not {expected}"


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_mathematics_is_noticed(change, own_kernels):
    family, _, _ = CHANGES[change]
    expected = json.loads(GOLDEN.read_text())[family]
    assert not agree(own_kernels["changed"][change], expected)
