"""Many runs from one recipe: encoders of several depths, rates and seeds over the same cached features."""

import argparse
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from finegym.data.text import read_yaml

from .recipe import Recipe, parse_recipe


def parse_recipes(arguments: Sequence[str], *, prog: str = "train.py") -> list[Recipe]:
    """Read one recipe, or, with `--sweep FILE`, one for each of the variations that the YAML file names.

    The file is either a mapping of fields to lists of values, of which every combination is taken, or a list of
    mappings of fields to values:

        model.config.num_hidden_layers: [1, 3]        - {model.config.num_hidden_layers: 1, seed: 0}
        seed: [0, 1]                                  - {optimization.learning_rate: 3.0e-4}

    Each run has its own folder in the recipe's `output_dir`, named after what it varies. They share the folder of
    features, so that the frozen backbone runs once: cached views are drawn with the first recipe's seed, whatever seed
    a run has, unless `features.seed` says otherwise.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it is neither.
    """
    parser = argparse.ArgumentParser(prog=prog, add_help=False)
    parser.add_argument("--sweep", type=Path)
    options, arguments = parser.parse_known_args(arguments)
    recipe = parse_recipe(arguments, prog=prog)
    if options.sweep is None:
        return [recipe]
    recipes = []
    for changes in read_variations(options.sweep):
        extra = [part for field, value in changes.items() for part in (f"--{field}", _as_text(value))]
        name = ",".join(f"{field.rsplit('.', 1)[-1]}={_as_text(value)}" for field, value in changes.items())
        varied = parse_recipe([*arguments, *extra], prog=prog)
        if varied.features.mode == "cached" and varied.features.seed is None:
            varied = replace(varied, features=replace(varied.features, seed=recipe.seed))
        recipes.append(replace(varied, name=f"{recipe.name} {name}", output_dir=str(Path(recipe.output_dir) / name)))
    return recipes


def read_variations(path: Path) -> list[dict[str, Any]]:
    """The changes of each run: field -> value."""
    content = read_yaml(path, what="sweep")
    if (
        isinstance(content, dict)
        and content
        and all(isinstance(values, list) and values for values in content.values())
    ):
        return [dict(zip(content, values)) for values in itertools.product(*content.values())]
    if isinstance(content, list) and content and all(isinstance(changes, dict) and changes for changes in content):
        return content
    raise ValueError(
        f"{path} must map each field to a list of values, or be a list of mappings of fields to values, such as "
        "`seed: [0, 1]`."
    )


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
