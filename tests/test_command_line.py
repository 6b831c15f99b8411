import argparse
import re
import subprocess
import sys

import pytest

import finegym
from finegym.commands.line import COMMANDS, GROUPS, main
from finegym.commands.parsing import build_parser


@pytest.fixture
def typed(capfd):
    """`typed(arguments...)` runs a command in this process and returns its exit status, output and errors."""

    def call(*arguments):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as exit:
            status = exit.code
        return (status, *capfd.readouterr())

    return call


def test_help_groups_all_commands_by_what_people_want(typed):
    status, output, errors = typed("--help")
    assert (status, errors) == (0, "")
    titles = [line for line in output.splitlines() if line in GROUPS]
    assert titles == ["Data", "Train", "Look", "Publish"]
    listed = re.findall(r"^  (\w+) +[A-Z].*\.$", output, re.MULTILINE)
    assert listed == list(COMMANDS) and len(set(listed)) == len(listed)


def test_the_version(typed):
    assert typed("--version") == (0, f"finegym {finegym.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "finegym: Name a command. `finegym --help` lists them."),
        (["predcit"], "finegym: There is no command predcit. Did you mean predict? `finegym --help` lists them."),
        (["predict", "x.mp4", "--modle", "y"], "There is no option --modle. Did you mean --model?"),
        (["predict", "x.mp4"], "--model is missing: The checkpoint folder or Hub id."),
        (["predict", "x.mp4", "--model", "y", "--top_k", "0"], "--top_k must be a whole number of at least 1, not 0."),
        (["predict", "x.mp4", "--model", "y", "--start", "now"], "--start must be a number, not now."),
        (["predict", "x.mp4", "--model"], "--model needs a value."),
        (["predict", "x.mp4", "--model", "y", "--stride", "1"], "give --window SECONDS"),
        (["demo", "y", "--port", "80000"], "--port must be a whole number from 1 to 65535, not 80000."),
        (["synthgym", "x", "--split", "sets"], "--split must be one of class, order, not sets."),
        (["export", "x", "y.tflite"], "y.tflite must end in .onnx, .xml, .pth"),
        (["push", "x"], "Give either a checkpoint folder or --all RECIPES."),
        (["train"], "--config is missing. The recipe to train: a file, or a shipped one"),
        (
            ["train", "--config", "synthgym/slowonly.yaml", "--optimization.lr", "1"],
            "mean --optimization.learning_rate?",
        ),
        (["train", "--config", "synthgym/slowonly.yaml", "--data.rot", "1"], "Did you mean --data.root?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_of_typing_is_one_line_that_names_it(arguments, message, typed):
    status, output, errors = typed(*arguments)
    assert (status, output) == (2, "")
    assert message in errors and len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "absent.mp4", "--model", "nowhere"], "absent.mp4 is neither a video"),
        (["predict", "clip.mp4", "--model", "outputs/nope"], "There is no checkpoint folder outputs/nope."),
        (["predict", "clip.mp4", "--model", "outputs/slowonli"], "Did you mean outputs/slowonly?"),
        (["evaluate", "./nope", "--root", "."], "There is no checkpoint folder ./nope."),
        (["evaluate", ".", "--root", "data/nope"], "There is no data set folder data/nope."),
        (["features", "nope", "--model", ".", "--output", "x"], "There is no video and no folder of videos nope."),
        (["features", ".", "--model", "checkpoints/nope", "--output", "x"], "no checkpoint folder checkpoints/nope."),
        (["export", "outputs/nope", "x.onnx"], "There is no checkpoint folder outputs/nope."),
        (["demo", "outputs/nope"], "There is no checkpoint folder outputs/nope."),
        (
            ["import", "nope", "x"],
            "no folder of videos nope here, and a name on the Hub has the form OWNER/NAME.",
        ),
        (["table", "nope"], "There is no folder nope."),
        (["push", "nope", "OWNER/NAME"], "There is no checkpoint folder nope."),
        (["push", "--all", "gym98", "OWNER"], "Did you mean gym99?"),
        (["train", "--config", "synthgym/slowonli.yaml"], "Did you mean synthgym/slowonly.yaml?"),
        (["train", "--config", "synthgym/slowonly.yaml"], "There is no data set folder data/synthgym."),
        (
            ["train", "--config", "synthgym/vision_encoder.yaml", "--data.root", "."],
            "There is no backbone (model.backbone) outputs/synthgym/slowonly.",
        ),
        (["doctor", "--recipe", "nope.yaml"], "There is no file nope.yaml here, and none of that name is shipped."),
        (["convert", "x", "y", "--labels", "gym99/lables.json"], "Did you mean gym99/labels.json?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_not_there_is_named_in_one_line(arguments, message, typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").touch()
    (tmp_path / "outputs" / "slowonly").mkdir(parents=True)
    status, output, errors = typed(*arguments)
    assert (status, output) == (1, "")
    assert message in errors and len(errors.splitlines()) == 1


def test_neither_help_nor_mistakes_import_torch(tmp_path):
    """Importing torch and Transformers takes eight seconds of CPU time."""
    commands = [[command, "--help"] for command in COMMANDS] + [
        ["--help"],
        ["predict", "absent.mp4", "--model", "x"],
        ["predict", "finegym", "--model", "outputs/nope"],
        ["evaluate", "outputs/nope", "--root", "."],
        ["train", "--config", "synthgym/nope.yaml"],
        ["train", "--config", "synthgym/slowonly.yaml", "--optimization.lr", "1"],
        ["push", "nope", "OWNER/NAME"],
        ["demo", "x", "--port", "80000"],
    ]
    code = f"""
import sys
from finegym.commands.line import main
for arguments in {commands!r}:
    try:
        main(arguments)
    except SystemExit:
        pass
    assert not {{"torch", "transformers", "numpy"}} & sys.modules.keys(), arguments
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def test_neither_drawing_nor_tables_import_torch():
    """Processes that draw videos import what they need once more; a table is looked at often."""
    code = """
import sys
import finegym.synthgym.generate, finegym.evaluation.table
assert not {"torch", "transformers", "scipy"} & sys.modules.keys()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, typed):
    status, output, errors = typed(command, "--help")
    assert (status, errors) == (0, "")
    assert output.startswith(f"usage: finegym {command}")
    examples = output.partition("\nexamples:\n")[2].splitlines()
    assert examples and all(example.startswith(f"  finegym {command}") for example in examples)
    parser = build_parser(COMMANDS[command], f"finegym {command}")
    for action in parser._actions:
        sentence = re.fullmatch(r"(?:[A-Z]|cached|cosine|online|slowonly|step).*\.", action.help or "", re.DOTALL)
        assert sentence or action.help == argparse.SUPPRESS, (action.dest, action.help)


def test_debug_shows_where_an_error_arose(typed, tmp_path, monkeypatch):
    status, _, plain = typed("table", tmp_path)
    assert status == 1 and len(plain.splitlines()) == 1
    debugged = [typed("table", tmp_path, "--debug")]
    monkeypatch.setenv("FINEGYM_DEBUG", "1")
    debugged.append(typed("table", tmp_path))
    for status, _, errors in debugged:
        assert status == 1 and errors.startswith("Traceback") and errors.endswith(plain)


def test_dashes_and_underscores_are_the_same(typed):
    assert typed("push", "nope", "OWNER/NAME", "--dry-run") == typed("push", "nope", "OWNER/NAME", "--dry_run")
