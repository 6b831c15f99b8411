"""Run every command and every code block of the README in a new folder, on a handful of videos and for one epoch."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from transformers import VideoMAEConfig, VideoMAEImageProcessor, VideoMAEModel

from finegym.data.video_writing import write_video
from finegym.synthgym.generate import write_routines
from tests.commands.test_first_run import lines_of_make_train
from tests.footage import moving_square
from tests.training.launching import run_command


ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.strip().splitlines()
]
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)

SHORT = "--optimization.epochs 1 --optimization.warmup_epochs 0 --logging.trackers [] --data.num_workers 0".split()
SHORT += ["--logging.pictures", "false"]
SMALL = {
    "slowonly": "--optimization.batch_size 4 --optimization.micro_batch_size 2".split(),
    "vision": "--optimization.batch_size 4 --optimization.micro_batch_size 2 --features.views 1".split(),
    "video_text": "--optimization.batch_size 4 --optimization.micro_batch_size 2 --features.views 1".split(),
    "small": "--data.clip_len 4 --data.short_side 40 --data.crop_size 32 --optimization.batch_size 4 "
    "--optimization.micro_batch_size 4".split(),
    "frozen": "--model.backbone published --data.clip_len 4 --data.short_side 40 --data.crop_size 32 "
    "--optimization.batch_size 4 --optimization.micro_batch_size 4 --features.views 1".split(),
    # the full-size network on frames of 32 pixels
    "gym99": "--data.clip_len 4 --data.short_side 40 --data.crop_size 32 --optimization.batch_size 4 "
    "--optimization.micro_batch_size 2".split(),
}


def adapted(command: list[str]) -> list[str]:
    """Return the command with options that make it small, offline and possible without a GPU."""
    command = ["resnet50.pth" if part == "resnet50" else part for part in command]
    command = ["published" if part == "MCG-NJU/videomae-base" else part for part in command]
    command = ["OWNER/NAME".replace("OWNER", "someone") if part == "OWNER/NAME" else part for part in command]
    if "train.py" in command:
        recipe = command[command.index("--config") + 1]
        changes = SMALL["gym99"] if "gym99" in recipe else SMALL[Path(recipe).stem.removesuffix("_encoder")]
        command += SHORT + changes
    if command[0] == "accelerate" and not torch.cuda.is_available():
        command = [part.replace("multi_gpu.yaml", "cpu.yaml") for part in command]
    return command


def run(command: list[str], folder: Path) -> str:
    """Run a command, forked from a server that has imported torch, or really started where a launcher starts it."""
    program, *arguments = command
    if arguments[:2] == ["-m", "finegym"]:
        program, *arguments = command = ["finegym", *arguments[2:]]
    if program == "accelerate" or arguments[0] == "-m":
        launcher = ["-m", "accelerate.commands.accelerate_cli"] if program == "accelerate" else []
        result = subprocess.run(
            [sys.executable, *launcher, *arguments], cwd=folder, capture_output=True, text=True, timeout=600
        )
        status, output, errors = result.returncode, result.stdout, result.stderr
    else:
        status, output, errors = run_command(command, folder)
    assert status == 0, f"{shlex.join(command)}\n{output[-1500:]}\n{errors[-3000:]}"
    return output


def stages_of_make_train() -> list[list[str]]:
    lines = [shlex.split(line.replace(".venv/bin/", "")) for line in lines_of_make_train() if "first_run" not in line]
    assert ["train.py" in line for line in lines] == [False, True, True, True, False]
    return lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a reader has after `make train`, at a small size: the lines of the Makefile's target, one epoch each, and
    without a launcher."""
    folder = tmp_path_factory.mktemp("reader")
    for name in ("configuration", "train.py", "push_to_hub.py"):
        (folder / name).symlink_to(ROOT / name)
    draw, *others = stages_of_make_train()
    run([*draw, *"--num_train_per_class 1 --num_val_per_class 1 --size 72 --num_workers 0".split()], folder)
    for line in others:
        line = ["python", *line[line.index("train.py") :]] if "train.py" in line else line
        output = run(adapted(line), folder)
    assert "video_text" in output
    write_video(folder / "video.mp4", moving_square(60, 96, 96), fps=25)
    shutil.copy(folder / "video.mp4", folder / "routine.mp4")
    return folder


@pytest.mark.slow
def test_two_processes_train_the_encoders_where_there_are_two_cores(folder):
    lines = [line for line in stages_of_make_train() if "torch.distributed.run" in line]
    assert len(lines) == 2
    for number, line in enumerate(lines):
        line[line.index("--nproc_per_node") + 1] = "2"
        run([*adapted(line), "--output_dir", f"outputs/two/{number}"], folder)
        assert (
            "2 x" in json.loads((folder / "outputs" / "two" / f"{number}" / "training.json").read_text())["hardware"]
        )


def test_the_two_commands_exist():
    assert [command for command in COMMANDS if command[0] == "make"] == [["make", "train"], ["make", "test"]]
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^train: \$\(INSTALLED\)$", makefile, re.MULTILINE)
    assert re.search(r"^test: \$\(INSTALLED\)$", makefile, re.MULTILINE)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_activated_environment_has_every_program():
    activate = "source .venv/bin/activate"
    assert f"`{activate}`" in README
    script = activate.replace(".venv", shlex.quote(sys.prefix)) + " && command -v finegym python accelerate"
    found = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert found == [f"{sys.prefix}/bin/{program}" for program in ("finegym", "python", "accelerate")]


def test_snippets_run_as_they_stand(folder):
    """In one fresh process, in which only torch and Transformers have been imported when the second begins."""
    code = "import runpy, sys\nfor path in sys.argv[1:]:\n    runpy.run_path(path)\n    print('--')"
    paths = [folder / f"snippet_{number}.py" for number in range(len(SNIPPETS))]
    for path, snippet in zip(paths, SNIPPETS, strict=True):
        path.write_text(snippet)
    result = subprocess.run(
        [sys.executable, "-P", "-c", code, *paths], cwd=folder, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr[-3000:]
    answers = result.stdout.split("--\n")[:-1]
    assert len(answers) == len(SNIPPETS) == 2
    assert all(re.search(r"\((VT|FX|BB|UB)\) ", answer) for answer in answers), result.stdout


def test_measuring_looking_and_publishing(folder):
    videos = folder / "my_videos"
    shutil.copytree(folder / "data" / "synthgym" / "clips", videos)
    for command in section("Measure, look, publish"):
        assert run(adapted(command), folder)


def test_training_on_own_clips(folder):
    own_videos = section("Train on your own videos")
    assert COMMANDS[0] in own_videos, "the first command on the page is the first of this section"
    for index, name in enumerate(["cartwheel", "round-off", "handstand"]):
        (folder / "own" / "my_videos" / name).mkdir(parents=True)
        for number in range(4):
            write_video(
                folder / "own" / "my_videos" / name / f"{number}.mp4", moving_square(20 + index, 96, 96), fps=25
            )
    (folder / "own" / "configuration").symlink_to(ROOT / "configuration")
    (folder / "own" / "train.py").symlink_to(ROOT / "train.py")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    VideoMAEModel(VideoMAEConfig(image_size=32, num_frames=4, **sizes)).save_pretrained(folder / "own" / "published")
    sizes = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
    VideoMAEImageProcessor(**sizes).save_pretrained(folder / "own" / "published")
    outputs = {tuple(command[:2]): run(adapted(command), folder / "own") for command in own_videos}
    assert "over the better logistic regression" in outputs["finegym", "finetune"]


@pytest.mark.slow
def test_training_on_finegym(folder):
    """Use routines with FineGym's annotation files for its videos, and a random ResNet-50 for the downloaded one."""
    write_routines(folder / "finegym", num_performances=40, size=96)
    (folder / "VIDEOS").symlink_to(folder / "finegym" / "videos")
    torch.save(torchvision.models.resnet50().state_dict(), folder / "resnet50.pth")
    fetch, prepare, *others = section("Train on FineGym")
    assert fetch[:2] == ["finegym", "fetch"]  # its download is tested against a loopback server
    annotations = folder / prepare[prepare.index("--annotations") + 1]
    shutil.copytree(folder / "finegym" / "annotations", annotations)
    prepare += ["--dataset", "synthgym", "--labels", str(ROOT / "configuration" / "synthgym" / "labels.json")]
    for command in [prepare, *others]:
        run(adapted(command), folder)


def section(title: str) -> list[list[str]]:
    text = README.split(f"## {title}\n")[1].split("\n## ")[0]
    commands = [command for command in COMMANDS if shlex.join(command[:3]) in text or " ".join(command) in text]
    assert commands
    return commands
