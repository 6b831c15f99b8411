"""What people do wrong with a command that has begun its work: each ends in one line and nothing else."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from finegym.commands.line import main
from finegym.data.labels import ActionClass, Labels
from finegym.data.video_writing import write_video
from tests.footage import moving_square
from tests.training.launching import REPOSITORY, free_port, start_command
from tests.training.tiny import NUM_CLASSES, write_dataset, write_recipe


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def recipe(root, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    return write_recipe(folder / "recipe.yaml", "slowonly", root=root, output_dir=folder / "run")


@pytest.fixture
def complaint(capfd):
    """`complaint(arguments...)` runs a command that fails and returns its only line of errors."""

    def run(*arguments) -> str:
        status = main([str(argument) for argument in arguments])
        errors = capfd.readouterr().err.splitlines()
        said = [line for line in errors if line.startswith("finegym ")]
        assert status == 1 and errors[-1:] == said and "Traceback" not in "".join(errors), errors
        return said[0].partition(": ")[2]

    return run


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["--optimization.batch_size", "64"],
            "16 training videos, too few for one batch of optimization.batch_size 64",
        ),
        (["--optimization.micro_batch_size", "3"], "batch_size 4 does not divide among one process in pieces of 3"),
        (["--data.val_split", "valid"], "coverage.json has no coverage of split 'valid' (it has train, val)."),
        (["--data.train_split", "all"], "index.parquet has no video in split 'all'"),
        (["--data.fold", "0"], "index.parquet has no fold 0"),
        (["--model.config.widht", "8"], "model.config has unknown key 'widht'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_recipe_that_does_not_fit_the_data(recipe, complaint, tmp_path, changes, message):
    assert message in complaint("train", "--config", recipe, "--output_dir", tmp_path / "run", *changes)


def test_attributes_that_the_classes_lack(root, complaint, tmp_path):
    classes = [ActionClass(id=number, name=f"c{number}", text="x", attributes=()) for number in range(NUM_CLASSES)]
    Labels("bare", classes, [], license="Apache-2.0").write(tmp_path / "labels.json")
    (tmp_path / "backbone").mkdir()
    recipe = write_recipe(
        tmp_path / "recipe.yaml",
        "video_text",
        root=root,
        output_dir=tmp_path / "run",
        backbone=tmp_path / "backbone",
    )
    message = complaint("train", "--config", recipe, "--data.labels", tmp_path / "labels.json")
    assert "attribute" in message and "bare" in message


def test_a_changed_recipe_in_the_same_folder(recipe, complaint, tmp_path, capfd):
    """And an unchanged one in a folder that is finished trains nothing again."""
    same = ["train", "--config", str(recipe), "--output_dir", str(tmp_path / "run"), "--optimization.epochs", "1"]
    assert main(same) == 0
    written = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    message = complaint(*same, "--optimization.learning_rate", "0.01")
    assert "optimization.learning_rate (was 0.05, is 0.01)" in message and "Give another --output_dir" in message
    assert main(same) == 0
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == written


def test_a_folder_in_which_another_process_trains(recipe, complaint, tmp_path):
    (tmp_path / "run" / "state").mkdir(parents=True)
    hold = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'a+')\n"
        "fcntl.lockf(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(tmp_path / "run" / "state" / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        message = complaint("train", "--config", recipe, "--output_dir", tmp_path / "run")
        holder.stdin.close()
    assert f"Another run is writing to {tmp_path / 'run'}" in message and "give another --output_dir" in message


def test_what_import_is_not_given_to_import(complaint, tmp_path):
    for label in ("leap", "turn"):
        for number in range(2):
            write_video(tmp_path / "mine" / label / f"{number}.mp4", moving_square(8), fps=25)
    write_video(tmp_path / "flat" / "a.mp4", moving_square(8), fps=25)
    options = ["--short_side", "32", "--num_workers", "0"]
    assert "nothing says of which class" in complaint("import", tmp_path / "flat", tmp_path / "root", *options)
    assert main(["import", str(tmp_path / "mine"), str(tmp_path / "root"), *options]) == 0
    (tmp_path / "mine").rename(tmp_path / "other")
    message = complaint("import", tmp_path / "other", tmp_path / "root", *options)
    assert "root holds another data set" in message and "--overwrite" in message


@pytest.mark.parametrize("moment", ["synthgym.json", "clips/*.mp4"], ids=["workers start", "workers draw"])
def test_an_interrupted_command_ends_as_a_shell_expects(moment, tmp_path):
    """Ctrl-C reaches every process of a terminal's job."""
    errors = tmp_path / "errors"
    command = ["finegym", "synthgym", str(tmp_path / "root"), "--seed", "1"]
    process = start_command(command, tmp_path, tmp_path / "output", errors)
    while not list((tmp_path / "root").glob(moment)):
        assert process.is_alive(), errors.read_text()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    process.join(300)
    assert process.exitcode == 130
    assert (
        errors.read_text().splitlines()[-1] == "finegym synthgym: interrupted. The same command resumes where it can."
    )
    assert "Traceback" not in errors.read_text()
    deadline = time.monotonic() + 60
    while (left := members_of(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, "a worker draws on"


def members_of(group: int) -> list[psutil.Process]:
    """Return the living processes of a process group."""
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
    return members


def test_processes_of_one_launch_say_the_same_once(tmp_path, monkeypatch, capfd):
    """torchrun tells each process where to leave its errors: one folder for all processes of an attempt."""
    for rank in range(2):
        (tmp_path / str(rank)).mkdir()
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / str(rank) / "error.json"))
        assert main(["table", str(tmp_path / "nowhere")]) == 1
    assert capfd.readouterr().err == f"finegym table: There is no folder {tmp_path / 'nowhere'}.\n"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "synthgym/nope.yaml"], "There is no file synthgym/nope.yaml"),
        (["--optimization.micro_batch_size", "4"], "does not divide among 2 processes in pieces of 4 clips"),
        (["--data.val_split", "valid"], "coverage.json has no coverage of split 'valid'"),
    ],
    ids=["before anything is loaded", "on each process", "while both work"],
)
def test_a_launcher_of_two_processes_shows_a_mistake_once(launcher, arguments, message, recipe, tmp_path):
    """Afterward the launcher itself reports, with a traceback of its own, that a process has failed."""
    folder, port = Path(sys.executable).parent, free_port()
    cpu = REPOSITORY / "configuration" / "accelerate" / "cpu.yaml"
    start = {
        "torchrun": [folder / "torchrun", "--nproc_per_node", "2", "--master_port", port],
        "accelerate": [folder / "accelerate", "launch", "--config_file", cpu, "--main_process_port", port],
    }[launcher]
    command = [*start, "-m", "finegym", "train", "--config", recipe, "--output_dir", tmp_path / "run", *arguments]
    result = subprocess.run(list(map(str, command)), cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1
    assert "rank      : 1" in result.stderr, "the launcher started two"
    assert [line for line in result.stderr.splitlines() if line.startswith("finegym train: ")] == [
        line for line in result.stderr.splitlines() if message in line
    ]
    assert result.stderr.count(message) == 1, result.stderr
    before, _, report = result.stderr.partition("Traceback")
    assert f"finegym{os.sep}" not in report and "Traceback" not in report, result.stderr
    assert message in before, "the message is not behind the launcher's report"
