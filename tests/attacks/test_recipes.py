"""Recipes from strangers hold values, and nothing they name is imported, built or expanded."""

import itertools
import json
import sys

import pytest

from finegym.data.arguments import UsageError
from finegym.training.recipe_parsing import parse_recipe
from finegym.training.sweep import read_variations


SOUND = {
    "name": "x",
    "output_dir": "out",
    "model": {"architecture": "slowonly"},
    "data": {"root": "data"},
    "optimization": {"epochs": 1},
}


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """The file that is created when the module `evil` is imported."""
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'burst')!r}, 'w')\nclass X: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "burst"
    sys.modules.pop("evil", None)


def recipe_file(folder, **changes):
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(SOUND | changes))
    return str(path)


CODE = {
    "a class for a section": {"model": {"class_path": "evil.X"}},
    "a class for a section by name": {"model": "evil.X"},
    "a class with arguments": {"data": {"class_path": "evil.X", "init_args": {"root": "data"}}},
    "a class for the number of epochs": {"optimization": {"epochs": {"class_path": "evil.X"}}},
    "a class where any value is allowed": {"model": {"config": {"depths": {"class_path": "evil.X"}}}},
    "a class in a list": {"model": {"config": {"depths": [{"class_path": "evil.X", "init_args": {}}]}}},
}


@pytest.mark.parametrize("changes", CODE.values(), ids=CODE)
def test_nothing_that_a_recipe_names_is_imported(tmp_path, evil, changes):
    try:
        recipe = parse_recipe(["--config", recipe_file(tmp_path, **changes)])
    except ValueError as error:
        assert len(str(error)) < 20_000
    else:  # where any value is allowed it remains what it is: a mapping
        assert recipe.to_dict()["model"]["config"] == changes["model"]["config"]
    assert not evil.exists() and "evil" not in sys.modules


@pytest.mark.parametrize("argument", ["--model=evil.X", '--model={"class_path": "evil.X"}', "--data=evil.X"])
def test_nor_is_what_a_sweep_would_add(tmp_path, evil, argument):
    with pytest.raises(UsageError):
        parse_recipe(["--config", recipe_file(tmp_path), argument])
    assert not evil.exists()


@pytest.mark.parametrize("optimization", [0, {"epochs": None}, {"epochs": 1, "batch_size": None}], ids=str)
def test_a_section_or_value_that_is_none_is_refused(tmp_path, optimization):
    with pytest.raises(ValueError, match="is null|optimization"):
        parse_recipe(["--config", recipe_file(tmp_path, optimization=optimization)])


BOMB = "&a [x]\n" + "\n".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]" for before, name in itertools.pairwise("abcdefghijk")
)
TEXTS = {
    "aliases that unfold to billions": f"a: {BOMB}",
    "objects of Python": "name: !!python/object/apply:os.system [echo]",
    "nested too deeply": "name: " + "[" * 1200,
    "no recipe": "[1, 2]",
    "no text": "\x00\x01",
    "a key that is a list": "? [a]\n: 1",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_yaml_bombs_are_refused(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="recipe.yaml") as refused:
        parse_recipe(["--config", str(path)])
    assert len(str(refused.value)) < 20_000
    with pytest.raises(ValueError, match="recipe.yaml"):
        read_variations(path)


def test_a_sound_recipe_is_read(tmp_path):
    recipe = parse_recipe(["--config", recipe_file(tmp_path), "--optimization.learning_rate=1e-3"])
    assert recipe.optimization.learning_rate == 1e-3 and recipe.data.root == "data"
