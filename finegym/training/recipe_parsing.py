"""Recipes from a command line: `--config FILE` and any field as `--section.key value`, checked before a run begins."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import Namespace

from finegym.data.arguments import Parser, UsageError
from finegym.data.text import read_yaml
from finegym.paths import did_you_mean, shipped

from .recipe import Recipe


CONFIG_HELP = (
    "The recipe to train: a file, or a shipped one such as synthgym/slowonly.yaml. Several are laid over one another, "
    "and later ones win."
)


class RecipeParser(Parser):
    """A parser of recipes: `--config FILE` and any `--section.key value`. Later ones win."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self._has_recipe = True
        self.add_argument("--config", action="config", metavar="RECIPE", help=CONFIG_HELP)
        self.add_class_arguments(Recipe)
        for action in self._actions:
            if action.help == "Path to a configuration file.":
                action.help = argparse.SUPPRESS  # a section from a file of its own: a second --config does the same
            if "--print_config" in action.option_strings:
                action.help = "Print the recipe with every key, and exit."

    def parse_args(self, args: Sequence[str], **options: Any) -> Namespace:
        self._has_recipe = any(argument.partition("=")[0] == "--config" for argument in args)
        return super().parse_args(_with_checked_recipes(args), **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if "arguments are required" in message and not self._has_recipe:
            raise UsageError(f"--config is missing. {CONFIG_HELP}") from ex
        super().error(message, ex)

    def recipe(self, values: Namespace) -> Recipe:
        """Return the recipe among parsed arguments.

        Raises:
            UsageError: If a key is unknown or contradicts another; the message names it.
        """
        try:
            fields = vars(self.instantiate(values))
            return Recipe(**{name: value for name, value in fields.items() if name in Recipe.__dataclass_fields__})
        except ValueError as error:
            raise UsageError(str(error)) from error
        except TypeError as error:  # of a section that is a number, or a key of none
            raise UsageError(
                f"A section of the recipe is no mapping of keys, or a key that needs a value is null ({error})."
            ) from error


def parse_recipe(arguments: Sequence[str], *, prog: str = "finegym train") -> Recipe:
    """Read a recipe from command-line arguments: `--config FILE` and any `--section.key value`. Later ones win.

    Raises:
        FileNotFoundError: If there is no such file, here or among the shipped recipes.
        UsageError: If a key is unknown, missing, of another type or contradicts another; the message names it.
    """
    parser = RecipeParser(prog=prog)
    return parser.recipe(parser.parse_args(arguments))


def vary(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe with other values of some fields, such as `{"optimization.epochs": 3}`.

    Raises:
        UsageError: If a field is unknown or has a value of another type; the message names it.
    """
    values = recipe.to_dict()
    for field_name, value in changes.items():
        *sections, key = field_name.split(".")
        section = values
        for name in sections:
            section = section.setdefault(name, {})
        section[key] = value
    _check_sections(values, "the variation")
    parser = RecipeParser(prog="finegym train")
    return parser.recipe(parser.parse_object(values))


def _with_checked_recipes(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with each recipe's path, which may be that of a shipped one."""
    checked = list(arguments)
    for place, argument in enumerate(arguments):
        if argument == "--config" and place + 1 < len(arguments):
            checked[place + 1] = str(_checked(arguments[place + 1]))
        elif argument.startswith("--config="):
            checked[place] = f"--config={_checked(argument.partition('=')[2])}"
    return checked


def _checked(name: str) -> Path:
    path = shipped(name)
    content = read_yaml(path, what="recipe")
    if not isinstance(content, dict):
        raise UsageError(f"{path} is not a recipe: it holds no keys. The shipped ones show what a recipe looks like.")
    _check_sections(content, str(path))
    return path


def _check_sections(content: Mapping[str, Any], where: str) -> None:
    known = list(Recipe.__dataclass_fields__)
    unknown = next((key for key in content if key not in known), None)
    if unknown is not None:
        raise UsageError(f"{where}: there is no key {unknown} in a recipe.{did_you_mean(str(unknown), known)}")
