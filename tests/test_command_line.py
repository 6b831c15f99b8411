import subprocess
import sys

import pytest

from finegym.__main__ import COMMANDS, main


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "finegym", *arguments], capture_output=True, text=True, timeout=120)


def test_without_a_command_all_are_listed(capsys):
    result = run()
    assert result.returncode == 2
    assert all(f"  {command}" in result.stderr for command in COMMANDS)
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == result.stderr


def test_a_mistake_is_one_line():
    result = run("predict", "absent.mp4", "--model", "nowhere")
    assert result.returncode == 1
    assert result.stderr.startswith("finegym predict: ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as exit:
        main([command, "--help"])
    assert exit.value.code == 0
    assert f"usage: finegym {command}" in capsys.readouterr().out
