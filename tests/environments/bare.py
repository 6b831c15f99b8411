"""An environment with some packages and what they require, and nothing else that is installed here."""

import os
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement


class BareEnvironment:
    """A folder of links to installed packages, for processes that import from it and the standard library only.

    Nothing is copied or installed, so it takes a moment; the environments of `test_built_environments.py` are really
    built.

    Args:
        folder: to work in.
        names: names of the distributions; those they require are included, their optional extras are not.
    """

    def __init__(self, folder: Path, *names: str):
        self.folder = Path(folder)
        self.packages = self.folder / "packages"
        self.packages.mkdir(parents=True)
        self.distributions: dict[str, Distribution] = {}
        for name in names:
            self._add(name)
        for found in self.distributions.values():
            self._link(found)

    def _add(self, name: str) -> None:
        key = name.lower().replace("_", "-")
        if key in self.distributions:
            return
        try:
            self.distributions[key] = distribution(name)
        except PackageNotFoundError:
            return  # needed on other platforms only
        for line in self.distributions[key].requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                self._add(requirement.name)

    def _link(self, found: Distribution) -> None:
        tops = {Path(file).parts[0] for file in found.files or () if not str(file).startswith("..")}
        for top in tops - {"__pycache__"}:
            source, target = Path(found.locate_file(top)), self.packages / top
            if source.is_dir() and target.is_symlink():  # a namespace that several distributions share
                continue
            if source.exists():
                target.symlink_to(source)

    def run(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess:
        """Run Python on `arguments`, offline, with this folder as the only source of third-party packages."""
        variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))},
            "PYTHONPATH": str(self.packages),
            "HF_HOME": str(self.folder / "home"),
            "HF_HUB_OFFLINE": "1",
            **environment,
        }
        command = [sys.executable, "-S", "-P", *map(str, arguments)]
        return subprocess.run(
            command, cwd=self.folder, env=variables, capture_output=True, text=True, timeout=900, check=False
        )
