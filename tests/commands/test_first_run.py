"""The output of `make train` agrees with what it does."""

import re
import subprocess
import sys

import yaml

from finegym.commands.first_run import NEXT, STAGES, plan
from tests.training.launching import REPOSITORY


def lines_of_make_train() -> list[str]:
    """Return the commands of `make train` as make would run them where the environment is installed."""
    command = ["make", "--dry-run", "--old-file=.venv/.installed", "train"]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [line for line in result.stdout.splitlines() if "python" in line]


def say(what: str) -> str:
    command = [sys.executable, "-m", "finegym.commands.first_run", what]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout


def test_every_stage_is_announced_before_its_command_and_fills_the_folder_it_names():
    lines = lines_of_make_train()
    assert lines[0].endswith("finegym.commands.first_run plan")
    assert lines[-1].endswith("finegym.commands.first_run next")
    work = [line for line in lines if "first_run" not in line]
    for number, (title, folder, _) in enumerate(STAGES, start=1):
        command = work[number - 1]
        assert lines[lines.index(command) - 1].endswith(f"first_run {number}")
        assert say(str(number)).strip() == f"{number}/4  {title} -> {folder}"
        recipe = re.search(r"--config (\S+)", command)
        if recipe is None:
            assert command.split()[-1] == folder
        else:
            assert yaml.safe_load((REPOSITORY / recipe[1]).read_text())["output_dir"] == folder


def test_the_plan_is_an_estimate_for_this_machine():
    assert "estimates for 2 core(s)" in plan(2) and "1/4  about 3 min" in plan(2)
    assert "1/4  about 1 min" in plan(8)  # rendering uses all cores
    assert "2/4  about 11 min" in plan(8)  # training small networks does not
    assert "2/4  about 21 min" in plan(1)
    assert say("plan").count("about") == len(STAGES)


def test_the_end_names_the_checkpoints_and_commands_of_the_readme():
    text = say("next")
    for _, folder, _ in STAGES[1:]:
        assert f"  {folder}\n" in text
    readme = (REPOSITORY / "README.md").read_text()
    for command, _ in NEXT:
        assert command in text
        assert command.replace("VIDEO.mp4", "video.mp4") in readme  # where every command is run by a test
