"""A Space is built, started in a process of its own without this project's checkout, and sent."""

import re
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from finegym.commands.line import main
from finegym.hub.publish import build_folder
from finegym.hub.sending import MANIFEST, PublishingError
from finegym.hub.space import build_space, check_space, publish_space
from tests.hub.conftest import make_checkpoint


REPO = "someone/model"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    pytest.importorskip("gradio", reason="the demo extra is not installed")
    folder = tmp_path_factory.mktemp("checkpoint")
    checkpoint = make_checkpoint(folder / "video_text")
    (folder / "model").mkdir()
    build = build_folder(checkpoint, folder / "model", REPO)
    (folder / "space").mkdir()
    files = build_space(folder / "space", REPO, title=build.checkpoint.title, license="apache-2.0", tag="v1.0")
    return build, folder / "space", files


def test_the_header_and_the_pins(built):
    build, folder, files = built
    [header] = re.findall(r"\A---\n(.*?)\n---\n", (folder / "README.md").read_text(), re.DOTALL)
    header = yaml.safe_load(header)
    assert header["sdk"] == "gradio" and header["sdk_version"] == version("gradio")
    assert header["app_file"] == "app.py" and header["models"] == [REPO] and header["license"] == "apache-2.0"
    assert header["python_version"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    pins = dict(line.split("==") for line in (folder / "requirements.txt").read_text().splitlines())
    assert {"torch", "transformers", "av", "captum"} <= pins.keys() and "gradio" not in pins
    assert all(version(name).partition("+")[0] == number for name, number in pins.items())
    app = (folder / "app.py").read_text()
    compile(app, "app.py", "exec")
    assert "'v1.0'" in app and repr(REPO) in app
    names = {file.path for file in files}
    assert {"finegym/evaluation/demo.py", "finegym/evaluation/demo.js", "finegym/evaluation/demo.css"} <= names
    assert "modeling_finegym/modeling_finegym.py" in names and not [name for name in names if "__pycache__" in name]
    written = "".join((folder / name).read_text() for name in ("README.md", "app.py", "requirements.txt"))
    assert str(folder.parent) not in written and str(Path.cwd()) not in written


def test_what_does_not_fit_a_space_is_refused(tmp_path, capsys):
    (tmp_path / "checkpoint").mkdir()
    for option in (["--create_pr"], ["--revision", "trial"]):
        assert main(["push", str(tmp_path / "checkpoint"), REPO, "--space", *option]) == 2
        assert "--space shows one model of the branch main" in capsys.readouterr().err


@pytest.mark.slow
def test_the_app_runs_on_its_own_files_and_answers_as_we_do(built, tmp_path):
    build, folder, _ = built
    check_space(folder, build)
    elsewhere = shutil.copytree(folder, tmp_path / "space")
    sampling = elsewhere / "modeling_finegym" / "clip_sampling.py"
    before = sampling.read_text()
    sampling.write_text(before.replace("spacing / 2)", "spacing / 3)"))
    assert sampling.read_text() != before
    with pytest.raises(PublishingError, match="The Space and the evaluation disagree"):
        check_space(elsewhere, build)
    (elsewhere / "app.py").write_text("raise SystemExit('broken')")
    with pytest.raises(PublishingError, match="The Space does not start:\nbroken"):
        check_space(elsewhere, build)


@pytest.mark.slow
def test_model_and_space_are_sent_and_sent_again(built, finished, hub, api):
    pytest.importorskip("gradio", reason="the demo extra is not installed")
    said = []
    assert publish_space(finished, REPO, dry_run=True, api=api, say=said.append) == [] and not hub.repositories
    model, space = publish_space(finished, REPO, api=api, say=said.append)
    assert set(hub.repositories) == {REPO, f"spaces/{REPO}"}
    assert space.url.startswith(f"{hub.url}/spaces/{REPO}/commit/")
    files = hub.files(f"spaces/{REPO}")
    assert {"app.py", "requirements.txt", "README.md", MANIFEST, "finegym/evaluation/demo.py"} <= files.keys()
    assert "model.safetensors" in hub.files(REPO) and "model.safetensors" not in files
    again = publish_space(finished, REPO, api=api, say=said.append)
    assert [publication.changed for publication in again] == [[], []]
    assert [text.lower().endswith("nothing was sent.") for text in said].count(True) == 3  # the dry run, and twice
