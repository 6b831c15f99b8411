"""The wheel alone works in an empty folder, without the checkout."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from finegym.data.video_writing import write_video
from tests.environments.bare import BareEnvironment
from tests.footage import moving_square


ROOT = Path(__file__).resolve().parents[2]
# Run commands one after another in one process, so that torch is imported once.
COMMANDS = """
import json, sys
from pathlib import Path
import finegym
from finegym.commands.line import main
from finegym.paths import CONFIGURATION
assert {Path(finegym.__file__).parent, CONFIGURATION.parent} == {Path(sys.argv[1], "finegym")}, finegym.__file__
if __name__ == "__main__":
    for arguments in json.loads(sys.argv[2]):
        print("--", *arguments, flush=True)
        assert main(arguments) == 0, arguments
"""
SMALL = "--optimization.epochs 1 --optimization.warmup_epochs 0 --logging.trackers [] --optimization.batch_size 4"
SMALL += " --optimization.micro_batch_size 4"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from what git would publish, so that nothing from an earlier build gets into it."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("finegym", "modeling_finegym", "configuration"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    [found] = folder.glob("finegym-*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> BareEnvironment:
    """Return the wheel's requirements and the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(next(name for name in archive.namelist() if name.endswith("/METADATA"))).decode()
    required = [Requirement(line) for line in re.findall(r"^Requires-Dist: (.+)$", metadata, re.MULTILINE)]
    names = [one.name for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]
    built = BareEnvironment(tmp_path_factory.mktemp("elsewhere"), *names, "docstring_parser", "typeshed_client")
    target = ["--target", str(built.packages)]
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", *target, str(wheel)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return built


def test_every_module_and_every_shipped_file_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    files = [path for name in ("finegym", "modeling_finegym") for path in (ROOT / name).rglob("*") if path.is_file()]
    expected = {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}
    shipped = {path.relative_to(ROOT).as_posix() for path in (ROOT / "configuration").rglob("*") if path.is_file()}
    expected |= {f"finegym/{name}" for name in shipped}
    assert len(shipped) > 15 and expected <= packed
    assert {name.split("/")[0] for name in packed if ".dist-info" not in name} == {"finegym", "modeling_finegym"}


def test_commands_find_what_is_shipped(environment):
    version = environment.run("-m", "finegym", "--version")
    assert re.fullmatch(r"finegym \d+\.\d+\.\d+\n", version.stdout), version.stderr
    counts = ["--num_train_per_class", "1", "--num_val_per_class", "1", "--size", "32", "--num_workers", "0"]
    drawn = environment.run("-m", "finegym", "synthgym", "data/drawn", *counts)
    assert drawn.returncode == 0, drawn.stderr[-3000:]
    assert len(list((environment.folder / "data" / "drawn" / "clips").glob("*.mp4"))) == 2 * 28
    for name in ("synthgym/slowonly.yaml", "configuration/synthgym/slowonly.yaml"):
        printed = environment.run("-m", "finegym", "train", "--config", name, "--print_config")
        assert printed.returncode == 0 and "architecture: slowonly" in printed.stdout, printed.stderr


@pytest.mark.slow
def test_from_videos_to_a_publication(environment):
    """Import, train with the shipped recipes, predict, evaluate, and publish as a dry run."""
    own = environment.folder / "own"
    for label, name in enumerate(("cartwheel", "round-off", "handstand")):
        for number in range(4):
            write_video(own / name / f"{number}.mp4", moving_square(20 + label + number, 96, 96), fps=25)
    paths = "--data.root data/mine --data.num_workers 0".split()
    encoder = "--model.backbone outputs/slowonly --features.views 1".split()
    commands = [
        ["import", "own", "data/mine", "--num_workers", "0", "--license", "cc-by-4.0"],
        ["train", "--config", "synthgym/slowonly.yaml", *paths, "--output_dir", "outputs/slowonly", *SMALL.split()],
        ["train", "--config", "configuration/synthgym/vision_encoder.yaml", *paths, "--output_dir", "outputs/vision"]
        + [*SMALL.split(), *encoder],
        ["predict", "own/handstand/0.mp4", "--model", "outputs/vision"],
        ["evaluate", "outputs/vision", "--root", "data/mine"],
        ["push", "outputs/vision", "OWNER/NAME", "--dry-run"],
    ]
    script = environment.folder / "commands.py"
    script.write_text(COMMANDS)
    result = environment.run(script, environment.packages, json.dumps(commands))
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    assert "Dry run: nothing was sent." in result.stdout
