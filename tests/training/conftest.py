"""One small data set and one trained backbone for all tests of this folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.launching import run
from tests.training.tiny import write_dataset, write_recipe


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def backbone(root, tmp_path_factory) -> Path:
    """A SlowOnly checkpoint, trained by one process from beginning to end."""
    folder = tmp_path_factory.mktemp("backbone")
    recipe = write_recipe(folder / "recipe.yaml", "slowonly", root=root, output_dir=folder / "slowonly")
    run(["--config", recipe], log=folder / "log")
    return folder / "slowonly"


@pytest.fixture
def recipe(root, backbone, tmp_path) -> Callable[..., list[str]]:
    """`recipe(family, changes...)` returns the arguments of train.py; the run writes to tmp_path / "run"."""

    def write(family: str, **changes) -> list[str]:
        path = tmp_path / "recipe.yaml"
        write_recipe(path, family, root=root, output_dir=tmp_path / "run", backbone=backbone, **changes)
        return ["--config", str(path)]

    return write
