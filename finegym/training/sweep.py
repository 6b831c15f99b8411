"""Many runs from one recipe: encoders of several depths, rates and seeds over the same cached features."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from finegym.data.text import read_yaml

from .recipe import Recipe
from .recipe_parsing import vary


def expand(recipe: Recipe, sweep: Path) -> list[Recipe]:
    """Return one recipe for each of the variations that a YAML file names.

    The file is either a mapping of fields to lists of values, of which every combination is taken, or a list of
    mappings of fields to values:

        model.config.num_hidden_layers: [1, 3]        - {model.config.num_hidden_layers: 1, seed: 0}
        seed: [0, 1]                                  - {optimization.learning_rate: 3.0e-4}

    Each run has its own folder in the recipe's `output_dir`, named after what it varies. They share the features of
    the recipe itself, so that the frozen backbone runs once, or not at all if the recipe was trained before: cached
    views are drawn with the recipe's seed, whatever seed a run has, unless `features.seed` says otherwise.

    Raises:
        UsageError: If a field is unknown or has a value of another type; the message names it.
        ValueError: If the file has neither form; the message names it.
    """
    folder = recipe.features.folder or str(Path(recipe.output_dir).parent / "features")
    recipes = []
    for changes in read_variations(sweep):
        name = ",".join(f"{field.rsplit('.', 1)[-1]}={_as_text(value)}" for field, value in changes.items())
        varied = vary(recipe, changes)
        features = replace(varied.features, folder=varied.features.folder or folder)
        if features.mode == "cached" and features.seed is None:
            features = replace(features, seed=recipe.seed)
        output_dir = str(Path(recipe.output_dir) / name)
        recipes.append(replace(varied, name=f"{recipe.name} {name}", output_dir=output_dir, features=features))
    return recipes


def read_variations(path: Path) -> list[dict[str, Any]]:
    """Return the changes of each run: field -> value."""
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
