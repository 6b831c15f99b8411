"""The command line: `finegym COMMAND --help` shows a command's arguments."""

import sys
from importlib import import_module

import jsonargparse

from finegym.data import arguments as _arguments  # noqa: F401 (which hold plain values)
from finegym.data.text import safe_text


# command -> module:function, what it does. Only the module of the command that runs is imported.
COMMANDS = {
    "synthgym": ("finegym.synthgym.generate:generate", "draw the embedded dataset: gymnasts performing Gym99 classes"),
    "fetch": ("finegym.preparation.fetch:fetch_annotations", "download FineGym's annotation files"),
    "prepare": (
        "finegym.preparation.prepare:prepare",
        "turn FineGym's videos into an indexed data set",
    ),
    "import": ("finegym.preparation.own_data:import_videos", "turn your own videos into a dataset with an index"),
    "doctor": ("finegym.commands.doctor:doctor", "check versions, decoder, GPU, disk and data; say how to mend them"),
    "features": (
        "finegym.features.extract:extract",
        "write a frozen backbone's features of any videos",
    ),
    "evaluate": ("finegym.evaluation.evaluate:evaluate_checkpoint", "measure a checkpoint by the paper's protocol"),
    "table": ("finegym.evaluation.report:table", "print the metrics of finished checkpoints side by side"),
    "predict": ("finegym.evaluation.predict:command", "classify videos, or draw the timeline of a whole routine"),
    "convert": ("finegym.hub.convert:convert", "turn foreign weights into a checkpoint, or a checkpoint into ONNX"),
    "demo": ("finegym.hub.demo:demo", "open a page that classifies uploaded videos"),
}


def main(arguments: list[str] | None = None) -> int:
    """Runs the command named by the first argument; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] not in COMMANDS:
        width = max(map(len, COMMANDS))
        lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
        asked_for_help = arguments and arguments[0] in ("-h", "--help")
        stream = sys.stdout if asked_for_help else sys.stderr
        stream.write("usage: finegym COMMAND [arguments]\n\n" + "\n".join(lines) + "\n")
        return 0 if asked_for_help else 2
    command, *rest = arguments
    module, function = COMMANDS[command][0].split(":")
    function = getattr(import_module(module), function)
    try:
        if function.__name__ == "command":  # parses its own arguments
            report = function(rest)
        else:
            report = jsonargparse.auto_cli(
                function, args=rest, prog=f"finegym {command}", as_positional=True, allow_abbrev=False
            )
        if isinstance(report, str):
            sys.stdout.write(safe_text(report) + "\n")
    except (ValueError, OSError, ImportError) as error:
        sys.stderr.write(safe_text(f"finegym {command}: {error}") + "\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"\nfinegym {command}: interrupted; the same command goes on where it stopped.\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
