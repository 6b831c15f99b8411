"""A checkpoint goes to the Hub, and someone who has only the card uses it from there."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import HfApi
from packaging.requirements import Requirement

from finegym.commands.line import main
from finegym.hub import stranger
from finegym.hub.checkpoint import EXAMPLE, FLOW_EXAMPLE
from finegym.hub.example import draw_gymnast
from finegym.hub.publish import build_folder, publish, validate
from finegym.hub.sending import MANIFEST, PublishingError, list_files
from finegym.hub.space import publish_space
from modeling_finegym import publishing_finegym
from modeling_finegym.clip_sampling import sample_clips
from modeling_finegym.video_decoding import open_video
from tests.hub.conftest import make_checkpoint
from tests.hub.loopback_hub import LoopbackHub


REPO = "someone/model"
ROOT = Path(__file__).parents[2]
# Run every code block of a card, each in its own namespace, where this project cannot be imported.
READER = """
import re, sys
sys.path.insert(0, sys.argv[2])
from stranger import HiddenModules
sys.meta_path.insert(0, HiddenModules("finegym", "modeling_finegym"))
for number, block in enumerate(re.findall("```python\\n(.*?)```", open(sys.argv[1]).read(), re.DOTALL)):
    print(f"-- block {number}", flush=True)
    exec(compile(block, f"block {number}", "exec"), {})
"""


@pytest.fixture(scope="module")
def build(finished, tmp_path_factory):
    return build_folder(finished, tmp_path_factory.mktemp("build"), REPO, tag="v1.0")


def child(hub, home, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Start a process whose only Hub is the loopback one."""
    variables = {**os.environ, "HF_HUB_OFFLINE": "0", **hub.environment(home), **environment}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=home, env=variables, capture_output=True, text=True, timeout=900, check=False)


def test_what_is_published(build, finished):
    code = {path.name for path in Path(publishing_finegym.__file__).parent.glob("*.py")}
    data = {"config.json", "model.safetensors", "video_preprocessor_config.json", "recipe.yaml", "metrics.json"}
    made = {"README.md", "requirements.txt", ".eval_results/synthgym.yaml", EXAMPLE, MANIFEST}
    assert {file.path for file in build.files} == code | data | made | {"labels.json"}
    assert build.left_out == ["state/"]
    for name in data - {"recipe.yaml"}:
        assert (build.folder / name).read_bytes() == (finished / name).read_bytes()


def test_the_published_recipe_tells_nothing_about_the_machine(build, finished):
    ours, theirs = (yaml.safe_load((folder / "recipe.yaml").read_text()) for folder in (finished, build.folder))
    assert ours["output_dir"] == str(finished)
    assert theirs == ours | {"output_dir": finished.name}


def test_the_same_checkpoint_is_built_to_the_same_bytes(build, finished, tmp_path):
    assert build_folder(finished, tmp_path, REPO, tag="v1.0").files == build.files


def test_the_example_does_not_depend_on_what_lies_in_memory(tmp_path):
    """Publishing again must change nothing; x264's default settings made one file in twenty different."""
    generator = np.random.default_rng(0)
    videos = set()
    for _ in range(12):
        junk = [generator.integers(0, 255, generator.integers(1000, 3_000_000), dtype=np.uint8) for _ in range(5)]
        del junk
        draw_gymnast(tmp_path / EXAMPLE)
        videos.add((tmp_path / EXAMPLE).read_bytes())
    assert len(videos) == 1


def test_the_clips_of_the_example_differ(tmp_path):
    """Otherwise agreement on its scores would say nothing about sampling and averaging."""
    draw_gymnast(tmp_path / EXAMPLE)
    with open_video(tmp_path / EXAMPLE) as video:
        clips, _ = sample_clips(video.num_frames, clip_len=32, frame_interval=2, num_clips=8)
    assert len(clips) == 8


def test_links_are_not_followed(checkpoint, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    (checkpoint / "curves.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "built").mkdir()
    with pytest.raises(ValueError, match="curves.png is a link"):
        build_folder(checkpoint, tmp_path / "built", REPO)


def test_the_install_line_of_the_card_holds_here(build):
    [line] = re.findall("```bash\n(.*?)\n```", (build.folder / "README.md").read_text(), re.DOTALL)
    program, command, *requirements = shlex.split(line)
    assert (program, command) == ("pip", "install")
    for requirement in map(Requirement, requirements):
        assert requirement.specifier.contains(version(requirement.name)), requirement


def test_publish_from_the_command_line_and_follow_the_card(finished, tmp_path):
    with LoopbackHub() as hub:
        command = [ROOT / "push_to_hub.py", finished, REPO, "--tag", "v1.0"]
        first = child(hub, tmp_path, *command, PYTHONPATH=str(ROOT))
        assert first.returncode == 0, first.stderr
        sent = hub.files(REPO)
        manifest = sent[MANIFEST].decode().splitlines()
        assert f"Published {len(manifest) + 1} files as one commit" in first.stdout, "all of them and the manifest"
        for line in manifest:
            sha256, path = line.split("  ")
            assert f"{path} " in first.stdout and sha256 in first.stdout
        commit = hub.repositories[REPO].branches["main"]

        card = tmp_path / "README.md"
        card.write_bytes(sent["README.md"])
        arguments = ["-I", "-c", READER, card, Path(stranger.__file__).parent]
        reading = child(hub, tmp_path, *arguments)
        assert reading.returncode == 0, reading.stderr
        assert reading.stdout.count("-- block") == 4
        assert f'write revision="{commit}"' in reading.stdout
        assert "is not supported" not in reading.stdout + reading.stderr

        assert hub.repositories[REPO].branches == {"main": commit}
        assert hub.repositories[REPO].tags == {"v1.0": commit}


def test_dry_run_shows_everything_and_sends_nothing(hub, api, finished):
    shown = []
    assert publish(finished, REPO, dry_run=True, api=api, say=shown.append) is None
    text = "\n".join(shown)
    assert "# Video-text cross encoder on SynthGym (synthetic)" in text
    assert "Not published: state/." in text
    assert "nothing was sent" in text
    assert hub.requests == []


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("pipeline_finegym.py", lambda code: code + b"\nimport finegym\n", "does not load in a fresh process"),
        ("clip_sampling.py", lambda code: code.replace(b"spacing / 2)", b"spacing / 3)"), "other logits"),
    ],
    ids=["needs this project", "gives other scores"],
)
def test_a_folder_that_would_fail_a_stranger_is_refused(build, tmp_path, file, change, message):
    folder = Path(shutil.copytree(build.folder, tmp_path / "build"))
    before = (folder / file).read_bytes()
    (folder / file).write_bytes(change(before))
    assert (folder / file).read_bytes() != before
    with pytest.raises(PublishingError, match=message):
        validate(type(build)(folder, list_files(folder), build.checkpoint, []))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"create_pr": True, "revision": "trial"}, "leave out --revision"),
        ({"create_pr": True, "tag": "v1"}, "tag it with --tag once it is merged"),
        ({"tag": "v 1"}, "is not the name of a branch or tag"),
    ],
)
def test_options_that_exclude_each_other(finished, options, message):
    with pytest.raises(ValueError, match=message):
        publish(finished, REPO, **options)


def test_mistakes_end_in_one_line(capsys, tmp_path):
    assert main(["push", str(tmp_path / "nowhere"), REPO], prog="push_to_hub.py") == 1
    assert capsys.readouterr().err == f"push_to_hub.py: There is no checkpoint folder {tmp_path / 'nowhere'}.\n"


def test_without_a_token_and_without_a_network(finished, monkeypatch):
    monkeypatch.setattr("finegym.hub.publish.validate", lambda build: None)
    unreachable = HfApi(endpoint="http://127.0.0.1:9", token="hf_x")
    with pytest.raises(PublishingError, match="Nothing was published"):
        publish(finished, REPO, api=unreachable, say=lambda line: None)


def test_own_data_is_published_without_a_gymnast_or_with_a_video_of_ones_own(checkpoint, tmp_path, video_path):
    metrics = json.loads((checkpoint / "metrics.json").read_text())
    own = {"dataset": "mine", "synthetic": False, "annotation_version": "own"}
    (checkpoint / "metrics.json").write_text(json.dumps(metrics | own))
    (tmp_path / "without").mkdir()
    build = build_folder(checkpoint, tmp_path / "without", REPO)
    assert EXAMPLE not in {file.path for file in build.files}
    validate(build)
    named = [file.path for file in build.files if b"synthgym" in (build.folder / file.path).read_bytes()]
    assert [name for name in named if not name.endswith(".py")] == [
        "labels.json"
    ]  # whose name the test left as it was
    assert yaml.safe_load((build.folder / "recipe.yaml").read_text())["name"] == "mine video_text"
    (tmp_path / "with").mkdir()
    build = build_folder(checkpoint, tmp_path / "with", REPO, example=video_path)
    assert EXAMPLE in {file.path for file in build.files}
    with open_video(tmp_path / "with" / EXAMPLE) as ours, open_video(video_path) as theirs:
        assert (ours.num_frames, ours.width, ours.height) == (theirs.num_frames, theirs.width, theirs.height)
    (checkpoint / "labels.json").unlink()
    (tmp_path / "no terms").mkdir()
    with pytest.raises(ValueError, match=f"{checkpoint}: nothing says under which terms"):
        build_folder(checkpoint, tmp_path / "no terms", REPO)


def test_a_model_of_optical_flow_is_published_with_flow(tmp_path):
    """Its example is flow, which the fresh process reads, and its card says so; a Space of it is refused."""
    checkpoint = make_checkpoint(tmp_path / "flow", architecture="slowonly", flow_len=2)
    metrics = json.loads((checkpoint / "metrics.json").read_text())
    metrics["optical_flow"] = {"method": "dis", "short_side": 48, "bound": 20}
    (checkpoint / "metrics.json").write_text(json.dumps(metrics))
    (tmp_path / "build").mkdir()
    build = build_folder(checkpoint, tmp_path / "build", REPO)
    validate(build)
    assert not (build.folder / EXAMPLE).exists()
    with open_video(build.folder / FLOW_EXAMPLE) as video:
        assert video.pixel_format == "gray" and (video.height, video.width) == (48, 96)
    card = (build.folder / "README.md").read_text()
    assert "`finegym flow`" in card and "--method dis" in card and EXAMPLE not in card
    with pytest.raises(ValueError, match="optical flow, and visitors of a Space have videos"):
        publish_space(checkpoint, REPO, dry_run=True)
