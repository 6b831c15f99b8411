import pytest

from finegym.training.sweep import parse_recipes, read_variations


CONFIG = ["--config", "configuration/synthgym/vision_encoder.yaml"]


@pytest.fixture(autouse=True)
def in_repository(monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)


def test_every_combination_is_a_run_of_its_own():
    recipes = parse_recipes([*CONFIG, "--sweep", "configuration/sweeps/layers_and_seeds.yaml"])
    assert [(r.model.config["num_hidden_layers"], r.seed) for r in recipes] == [
        (layers, seed) for layers in (1, 2, 3) for seed in (0, 1, 2)
    ]
    assert len({recipe.output_dir for recipe in recipes}) == 9
    assert recipes[0].output_dir == "outputs/synthgym/vision_encoder/num_hidden_layers=1,seed=0"


def test_a_list_of_recipes_and_an_override(tmp_path):
    (tmp_path / "sweep.yaml").write_text("- {seed: 3}\n- {optimization.learning_rate: 3.0e-4, model.config: {}}\n")
    first, second = parse_recipes([*CONFIG, "--sweep", str(tmp_path / "sweep.yaml"), "--optimization.epochs", "2"])
    assert (first.seed, first.optimization.epochs) == (3, 2)
    assert (second.seed, second.optimization.learning_rate, second.optimization.epochs) == (0, 3e-4, 2)


def test_without_a_sweep_there_is_one():
    assert [recipe.name for recipe in parse_recipes(CONFIG)] == ["synthgym-vision-encoder"]


@pytest.mark.parametrize("content", ["seed: 3", "[]", "- 3", "seed: []"])
def test_another_form_is_refused(tmp_path, content):
    (tmp_path / "sweep.yaml").write_text(content)
    with pytest.raises(ValueError, match="sweep.yaml must map each field to a list"):
        read_variations(tmp_path / "sweep.yaml")


def test_an_unknown_field_is_named(tmp_path, capsys):
    (tmp_path / "sweep.yaml").write_text("optimization.learning_rat: [1, 2]")
    with pytest.raises(SystemExit):
        parse_recipes([*CONFIG, "--sweep", str(tmp_path / "sweep.yaml")])
    assert "learning_rat" in capsys.readouterr().err
