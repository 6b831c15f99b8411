"""How every program of this project reads arguments: typed, without abbreviations, and with errors of one sentence.

In: arguments as people type them, and recipes. Out: a namespace, or a `UsageError` that names the option or key and
what resembles it. Command lines and recipes hold plain values: by itself jsonargparse imports whatever `class_path` a
YAML file names, and builds it where a value may be anything; and PyYAML unfolds aliases until the memory is full.
"""

import argparse
import re
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NoReturn, get_args, get_origin

import jsonargparse
import yaml
from jsonargparse.typing import NonNegativeInt, PositiveInt

from finegym.paths import did_you_mean

from .text import parse_yaml


_load_yaml = jsonargparse.get_loader("yaml")


def _load_plain(text: str):
    parse_yaml(text)
    return _load_yaml(text)


jsonargparse.set_loader("yaml", _load_plain, exceptions=(yaml.YAMLError, ValueError))
jsonargparse.set_parsing_settings(import_path_denylist=["*"], instantiate_subclass_spec_in_any=False)


# A number of things, and a number that may be none.
Count = PositiveInt
CountOrZero = NonNegativeInt


class UsageError(ValueError):
    """What a person typed is not a valid command, option, key or value."""


# Type -> how it is written in a usage line, and how a message describes it.
_WORDS = {
    Count: ("N", "a whole number of at least 1"),
    CountOrZero: ("N", "a whole number of at least 0"),
    int: ("N", "a whole number"),
    float: ("X", "a number"),
    bool: ("true|false", "true or false"),
    str: ("TEXT", "text"),
    Path: ("PATH", "a path"),
    dict: ("MAPPING", "a mapping of keys to values"),
}


class Parser(jsonargparse.ArgumentParser):
    """A `jsonargparse.ArgumentParser` whose errors are `UsageError`s of one sentence.

    Options may be spelled with dashes in place of underscores.
    """

    def __init__(self, **options: Any):
        super().__init__(formatter_class=Formatter, allow_abbrev=False, add_help=False, **options)
        self.add_argument("-h", "--help", action="help", help="Show this help, and exit.")

    def parse_args(self, args: Sequence[str], **options: Any) -> jsonargparse.Namespace:
        """Parse arguments.

        Raises:
            UsageError: If an option is unknown, missing or of another type; the message names it.
        """
        return super().parse_args([self._check_option(argument) for argument in args], **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UsageError(explain(self, message)) from ex

    def known_options(self) -> list[str]:
        shown = [action for action in self._actions if action.help != argparse.SUPPRESS]
        return [option for action in shown for option in action.option_strings if option.startswith("--")]

    def _open_options(self) -> list[str]:
        """Return the options that take keys of any name, as `--model.config.num_hidden_layers` does."""
        actions = [action for action in self._actions if get_origin(getattr(action, "_typehint", None)) is dict]
        return [option for action in actions for option in action.option_strings]

    def _check_option(self, argument: str) -> str:
        """Return the argument, an option with underscores. A misspelled one is reported before any other mistake."""
        if not argument.startswith("--") or argument == "--":
            return argument
        name, equals, value = argument.partition("=")
        known = self.known_options()
        spelled = name if name in known else "--" + name[2:].replace("-", "_")
        if spelled not in known and not any(spelled.startswith(f"{option}.") for option in self._open_options()):
            raise UsageError(f"There is no option {name}.{did_you_mean(spelled, known)}")
        return f"{spelled}{equals}{value}"


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help of whole sentences: what the option does, then its default."""

    def __init__(self, prog: str, **options: Any):
        super().__init__(prog, **{"max_help_position": 28, "width": 100, **options})

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        shown = action.default is not None and action.default is not argparse.SUPPRESS
        if shown and action.option_strings and action.nargs != 0 and action.default not in ("", [], {}):
            value = action.default.value if isinstance(action.default, Enum) else action.default
            text += f" (default: {value})".replace("%", "%%")
        return text

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        return metavar(getattr(action, "_typehint", action.type) or str)


def metavar(hint: Any) -> str:
    """Return how a value of a type is written in a usage line."""
    return _describe(hint, 0, "|") or "VALUE"


def words(hint: Any) -> str:
    """Return how a message describes a value of a type."""
    return _describe(hint, 1, " or ") or "a valid value"


def _describe(hint: Any, column: int, joint: str) -> str:
    if hint in _WORDS:
        return _WORDS[hint][column]
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "|".join(map(str, parts)) if column == 0 else "one of " + ", ".join(map(str, parts))
    if origin in (list, tuple):
        of = ", ".join(_describe(part, column, joint) for part in parts if part is not ...)
        return f"[{of}]" if column == 0 else f"a list: [{of}, ...]" if ... in parts else f"a list: [{of}]"
    if origin is dict:
        return _WORDS[dict][column]
    if parts:  # a union; that an option may be left out goes without saying
        return joint.join(_describe(part, column, joint) for part in parts if part is not NoneType)
    return ""


def explain(parser: Parser, message: str) -> str:
    """Return one of jsonargparse's messages as one sentence in the words of the person who typed."""
    if found := re.match(r"the following arguments are required: (.+)", message):
        return _missing(parser, found[1].split(", "))
    if found := re.search(r"'([\w.]*)' does not accept (?:option|nested key) '([\w.]+)'", message):
        section, key = found[1], found[2]
        known = [option[2:] for option in parser.known_options()]
        full = f"{section}.{key}" if section and not key.startswith(section) else key
        return f"There is no key {full} in a recipe.{did_you_mean(full, known)}"
    if found := re.match(r"argument (\S+): expected (?:one|at least one) argument", message):
        return f"{found[1]} needs a value."
    if found := re.match(r'Parser key "([\w.]+)":\s*(.*)', message, re.DOTALL):
        return _wrong_value(parser, found[1], found[2])
    return " ".join(message.split())


def _missing(parser: Parser, names: list[str]) -> str:
    sentences = []
    for action in parser._actions:
        if action.dest in names or action.metavar in names:
            name = f"--{action.dest}" if action.option_strings else str(action.metavar or action.dest)
            sentences.append(f"{name} is missing" + (f": {action.help}" if action.help else "."))
    return " ".join(sentences) or f"{', '.join(names)} is missing."


def _wrong_value(parser: Parser, key: str, reason: str) -> str:
    action = next((action for action in parser._actions if action.dest == key), None)
    # a dotted key may have come from a recipe as well as from the command line
    option = str(action.metavar or key) if action and not action.option_strings else key if "." in key else f"--{key}"
    if found := re.search(r"File does not exist: '(.+)'", reason):
        return f"There is no file {found[1]}."
    given = re.findall(r"(?:Got value|Given value|value): (.*)", reason) or re.findall(
        r"PositiveInt: (\S+) does|NonNegativeInt: (\S+) does|base 10: '(.*)'", reason
    )
    value = "".join(given[-1]) if given else None
    hint = getattr(action, "_typehint", None) or getattr(action, "type", None)
    if hint is None:
        return f"{option}: {' '.join(reason.split())}"
    return f"{option} must be {words(hint)}" + (f", not {value}." if value is not None else ".")
