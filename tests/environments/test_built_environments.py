"""Published folders in environments that are really built, with the oldest and the newest transformers.

Each environment is built from the package index, which takes minutes: `make test-slow`.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from finegym.hub import stranger
from finegym.hub.checkpoint import EXAMPLE
from finegym.hub.publish import build_folder, own_logits
from tests.hub.conftest import make_checkpoint
from tests.hub.loopback_hub import LoopbackHub
from tests.hub.test_publish import READER


pytestmark = pytest.mark.slow
REPO = "someone/model"
OLDEST, NEWEST = "transformers==5.15.0", "transformers>=5.15,<6"
WITHOUT_DECODER = """
import json, sys, numpy
from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification, pipeline
for auto in (AutoConfig, AutoModel, AutoModelForVideoClassification):
    auto.from_pretrained(sys.argv[1], trust_remote_code=True)
classify = pipeline("video-classification", model=sys.argv[1], trust_remote_code=True, device="cpu")
print(len(classify(numpy.zeros((40, 144, 144, 3), numpy.uint8))))
try:
    classify(sys.argv[2])
except ImportError as error:
    print(error)
"""
WITH_DECODER = """
import json, sys
from transformers import pipeline
classify = pipeline("video-classification", model=sys.argv[1], trust_remote_code=True, device="cpu")
print(json.dumps({answer["label"]: answer["score"] for answer in classify(sys.argv[2], top_k=99)}))
"""


class BuiltEnvironment:
    """A separate virtual environment, and processes in it that know nothing of this one."""

    def __init__(self, folder: Path):
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)

    def run(self, *arguments: object, offline: bool = True, **environment: str) -> subprocess.CompletedProcess:
        variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))},
            "HF_HOME": str(self.folder / "home"),
            "HF_HUB_OFFLINE": str(int(offline)),
            **environment,
        }
        command = [str(self.folder / "bin" / "python"), "-I", *map(str, arguments)]
        return subprocess.run(
            command, cwd=self.folder, env=variables, capture_output=True, text=True, timeout=3600, check=False
        )

    def pip(self, *arguments: str) -> str:
        result = self.run("-m", "pip", *arguments, *(["--no-compile"] if arguments[0] == "install" else []))
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stdout


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    return build_folder(make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "model"), folder, REPO, tag="v1.0")


@pytest.fixture
def environment(tmp_path):
    """A folder that is deleted afterwards: torch and its requirements take gigabytes."""
    yield BuiltEnvironment(tmp_path / "environment")
    shutil.rmtree(tmp_path / "environment")


@pytest.mark.parametrize("requirement", [OLDEST, NEWEST])
def test_from_nothing_but_torch_transformers_and_numpy_to_what_the_card_installs(
    build, environment, tmp_path, requirement
):
    environment.pip("install", f"torch=={torch.__version__.partition('+')[0]}", "numpy", requirement)
    installed = {entry["name"].lower() for entry in json.loads(environment.pip("list", "--format=json"))}
    assert not installed & {"av", "torchvision", "torchcodec", "accelerate", "finegym", "pillow"}

    bare = environment.run("-c", WITHOUT_DECODER, build.folder, build.folder / EXAMPLE)
    assert bare.returncode == 0, bare.stderr[-3000:]
    num_classes, message = bare.stdout.splitlines()
    assert num_classes == "4"

    [remedy] = re.findall("`pip (install [^`]+)`", message)
    environment.pip(*shlex.split(remedy))
    seen = environment.run("-c", WITH_DECODER, build.folder, build.folder / EXAMPLE)
    assert seen.returncode == 0, seen.stderr[-3000:]
    _, scores = own_logits(build.folder, build.folder / EXAMPLE)
    assert json.loads(seen.stdout) == pytest.approx(scores, abs=1e-6)

    [line] = re.findall("```bash\n(.*?)\n```", (build.folder / "README.md").read_text(), re.DOTALL)
    environment.pip(*shlex.split(line)[1:])
    if requirement == OLDEST:
        assert "Version: 5.15.0" in environment.pip("show", "transformers"), "the card's line asks for no newer one"
    follow_the_card(environment, build, tmp_path)

    environment.pip("install", "transformers==5.14.1")
    refused = environment.run("-c", WITH_DECODER, build.folder, build.folder / EXAMPLE)
    assert "needs transformers >= 5.15, found 5.14.1. Run `pip install -U" in refused.stderr


def follow_the_card(environment: BuiltEnvironment, build, folder: Path) -> None:
    """Run the card's code against a Hub that holds the folder."""
    with LoopbackHub() as hub:
        files = {file.path: (build.folder / file.path).read_bytes() for file in build.files}
        repository = hub.add(REPO, files)
        repository.tags["v1.0"] = repository.branches["main"]
        arguments = ["-c", READER, build.folder / "README.md", Path(stranger.__file__).parent]
        reading = environment.run(*arguments, offline=False, **hub.environment(folder / "home"))
    assert reading.returncode == 0, reading.stderr[-3000:]
    assert reading.stdout.count("-- block") == 4


def test_the_newest_transformers_passes_its_common_tests_and_ours_of_the_models(tmp_path):
    """An environment with its own version of a package; everything else is this environment's."""
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path), NEWEST]
    subprocess.run(install, check=True)
    repository = Path(__file__).parents[2]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(repository)])}
    version = "import transformers; print(transformers.__file__)"
    found = subprocess.run([sys.executable, "-c", version], env=variables, capture_output=True, text=True, check=True)
    assert found.stdout.startswith(str(tmp_path))
    tests = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/hf_common", "tests/modeling"]
    result = subprocess.run(tests, cwd=repository, env=variables, capture_output=True, text=True, timeout=3600)
    assert result.returncode == 0, result.stdout[-5000:]
    assert "neither in .cache/ nor downloadable" not in result.stdout
