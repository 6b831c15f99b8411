from pathlib import Path

import pytest

from finegym.data.arguments import UsageError
from finegym.training.recipe_parsing import parse_recipe
from finegym.training.sweep import expand, read_variations


CONFIG = ["--config", "configuration/synthgym/vision_encoder.yaml"]


@pytest.fixture(autouse=True)
def in_repository(monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)


def test_every_combination_is_a_run_of_its_own():
    recipes = expand(parse_recipe(CONFIG), Path("configuration/sweeps/layers_and_seeds.yaml"))
    assert [(r.model.config["num_hidden_layers"], r.seed) for r in recipes] == [
        (layers, seed) for layers in (1, 2, 3) for seed in (0, 1, 2)
    ]
    assert len({recipe.output_dir for recipe in recipes}) == 9
    assert recipes[0].output_dir == "outputs/synthgym/vision_encoder/num_hidden_layers=1,seed=0"


def test_a_list_of_recipes_and_an_override(tmp_path):
    (tmp_path / "sweep.yaml").write_text("- {seed: 3}\n- {optimization.learning_rate: 3.0e-4, model.config: {}}\n")
    first, second = expand(parse_recipe([*CONFIG, "--optimization.epochs", "2"]), tmp_path / "sweep.yaml")
    assert (first.seed, first.optimization.epochs) == (3, 2)
    assert (second.seed, second.optimization.learning_rate, second.optimization.epochs) == (0, 3e-4, 2)


def test_the_runs_read_the_features_that_the_recipe_alone_left_beside():
    recipe = parse_recipe([*CONFIG, "--features.mode", "cached"])
    recipes = expand(recipe, Path("configuration/sweeps/layers_and_seeds.yaml"))
    assert {(one.features.folder, one.features.seed) for one in recipes} == {
        ("outputs/synthgym/features", recipe.seed)
    }


@pytest.mark.parametrize("content", ["seed: 3", "[]", "- 3", "seed: []"])
def test_another_form_is_refused(tmp_path, content):
    (tmp_path / "sweep.yaml").write_text(content)
    with pytest.raises(ValueError, match="sweep.yaml must map each field to a list"):
        read_variations(tmp_path / "sweep.yaml")


def test_an_unknown_field_is_named(tmp_path):
    (tmp_path / "sweep.yaml").write_text("optimization.learning_rat: [1, 2]")
    with pytest.raises(UsageError, match="optimization.learning_rat .* mean optimization.learning_rate?"):
        expand(parse_recipe(CONFIG), tmp_path / "sweep.yaml")
