"""The command line: `finegym COMMAND [arguments]`, `finegym --help` and `finegym --version`.

A command is a function. Its signature gives the arguments, its docstring the help; it returns a text to print, a
`Report` with an exit status of its own, or None.
"""

import hashlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import finegym
from finegym.data.arguments import UsageError
from finegym.data.text import safe_text
from finegym.paths import did_you_mean

from .convert import convert
from .demo import demo
from .doctor import doctor
from .evaluate import evaluate
from .explain import explain
from .export import export
from .features import features
from .fetch import fetch
from .finetune import finetune
from .flow import flow
from .fuse import fuse
from .import_ import import_
from .parsing import Report, name_of, parse, summary_of
from .predict import predict
from .prepare import prepare
from .push import push
from .show import show
from .synthgym import synthgym
from .table import table
from .train import train


# A purpose -> the commands for it.
GROUPS: dict[str, tuple[Callable, ...]] = {
    "Data": (synthgym, fetch, prepare, import_, flow),
    "Train": (doctor, convert, features, finetune, train),
    "Look": (show, evaluate, fuse, table, predict, explain, demo),
    "Publish": (push, export),
}
COMMANDS = {name_of(command): command for group in GROUPS.values() for command in group}

# The exit statuses: of a command that failed, and of one that was typed wrongly.
FAILED, MISTYPED = 1, 2
# What the work raises to tell a person something. Anything else is a defect, and its kind is part of the message.
TOLD = (ValueError, OSError, ImportError, RuntimeError, FloatingPointError)


def main(arguments: list[str] | None = None, *, prog: str = "finegym") -> int:
    """Run the command named by the first argument.

    Args:
        arguments: The arguments after the program's name; by default this process's own.
        prog: The program's name in messages. The scripts at the top run one command under their own name.

    Returns:
        The exit status: 0, 1 after an error, 2 after a mistake in the arguments, 130 after Ctrl-C, or a command's own.
    """
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if name in ("-h", "--help"):
        sys.stdout.write(overview())
        return 0
    if name == "--version":
        sys.stdout.write(f"finegym {finegym.__version__}\n")
        return 0
    if name not in COMMANDS:
        said = f"There is no command {name}.{did_you_mean(name, list(COMMANDS))}" if name else "Name a command."
        sys.stderr.write(safe_text(f"{prog}: {said} `finegym --help` lists them.") + "\n")
        return MISTYPED
    return _run(COMMANDS[name], rest, f"{prog} {name}" if prog == "finegym" else prog)


def overview() -> str:
    """Return what `finegym --help` prints."""
    width = max(map(len, COMMANDS))
    lines = ["usage: finegym COMMAND [arguments]", "       finegym COMMAND --help", ""]
    for title, commands in GROUPS.items():
        lines += [title, *(f"  {name_of(command):<{width}}  {summary_of(command)}" for command in commands), ""]
    lines += ["finegym --version prints the version. --debug after any command shows where an error arose."]
    return "\n".join(lines) + "\n"


def _run(command: Callable, arguments: list[str], prog: str) -> int:
    debug = "--debug" in arguments or os.environ.get("FINEGYM_DEBUG", "0") not in ("", "0")
    try:
        report = command(**parse(command, [part for part in arguments if part != "--debug"], prog))
        text, status = report if isinstance(report, Report) else (report, 0)
        if text:
            sys.stdout.write(f"{safe_text(text)}\n")
            sys.stdout.flush()
        return status
    except UsageError as error:
        return _fail(f"{prog}: {error} `{prog} --help` explains all options.", error, debug, MISTYPED)
    except KeyboardInterrupt as error:
        return _fail(
            f"\n{prog}: interrupted. The same command resumes where it can.", error, debug, 128 + signal.SIGINT
        )
    except BrokenPipeError:  # `finegym table ... | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        kind = "" if isinstance(error, TOLD) and str(error) else f"{type(error).__name__}: "
        return _fail(f"{prog}: {kind}{error}", error, debug, FAILED)


def _fail(message: str, error: BaseException, debug: bool, status: int) -> int:
    if debug:
        sys.stderr.write("".join(traceback.format_exception(error)))
    if _is_first_to_say(message):
        sys.stderr.write(f"{safe_text(message)}\n")
    return status


def _is_first_to_say(message: str) -> bool:
    """Return whether no other process of this launch on this machine has said the same.

    torchrun, and Accelerate through it, gives the processes of each attempt a folder for their errors. Started in
    another way, every process speaks.
    """
    error_file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if error_file is None:
        return True
    try:
        Path(error_file).parents[1].joinpath(hashlib.sha256(message.encode()).hexdigest()).touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:
        return True
    return True
