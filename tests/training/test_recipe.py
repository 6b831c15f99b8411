"""Recipes: what is refused and with which words, what is shipped, what may change."""

import re

import pytest
import yaml

from finegym.architectures import ARCHITECTURES
from finegym.data.arguments import UsageError
from finegym.training.recipe import changed_fields, recipe_hash
from finegym.training.recipe_parsing import parse_recipe
from tests.training.launching import REPOSITORY


SHIPPED = sorted(
    path
    for dataset in ("synthgym", "gym99", "gym288", "diving48", "ssv2", "own")
    for path in (REPOSITORY / "configuration" / dataset).glob("*.yaml")
)
# Batches that cannot be divided without other statistics of batch normalization: refused on more processes.
CNNS = ("slowonly", "tsn_rgb", "tsn_bn_inception_rgb", "trn_rgb", "tsm_rgb", "i3d", "nl_i3d", "s3d", "tqn")
CNNS += ("mtn_pathways", "tsn_bn_inception_flow", "trn_flow", "tsm_flow", "vision_encoder_last_blocks")
ONE_PROCESS = [
    REPOSITORY / "configuration" / name for name in ("own/small.yaml", *(f"synthgym/{name}.yaml" for name in CNNS))
]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_shipped_recipe_computes_the_same_on_one_and_two_processes(path):
    """A fixed `micro_batch_size` gives this; test_resume.py trains with it."""
    settings = parse_recipe(["--config", str(path)]).optimization
    assert settings.micro_batch_size is not None
    if path in ONE_PROCESS:
        with pytest.raises(ValueError, match="does not divide among 2 processes"):
            settings.pieces_per_process(2)
    else:
        assert settings.pieces_per_process(1) == 2 * settings.pieces_per_process(2)


@pytest.fixture
def arguments(tmp_path):
    recipe = {
        "name": "test",
        "output_dir": "out",
        "model": {"architecture": "slowonly", "config": {"stem_width": 16}},
        "data": {"root": "data"},
        "optimization": {"batch_size": 24},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return ["--config", str(tmp_path / "recipe.yaml")]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (["--optimization.lr", "1"], "optimization.lr"),
        (["--optimization.epochs", "many"], "optimization.epochs"),
        (["--data.out_of_range", "stop"], "data.out_of_range"),
        (["--data.mean", "[0.5]"], "data.mean must be 3 numbers"),
        (["--data.flow_len", "5", "--data.std", "[1, 1, 1]"], "data.std must be 2 numbers"),
        (["--data.flow_len", "0"], "data.flow_len must be at least 1"),
        (["--model.architecture", "vision"], "model.backbone is missing"),
        (["--data.short_side", "100"], "data.crop_size 224 is larger than data.short_side 100"),
        (["--data.scale", "[0.5, 2]"], "data.scale"),
        (["--optimization.schedule", "cosine", "--optimization.milestones", "[3]"], "optimization.milestones"),
        (["--optimization.milestones", "[5, 3]"], "optimization.milestones"),
        (["--features.mode", "cached"], "features.mode"),
        (["--checkpointing.keep", "0"], "checkpointing.keep"),
        (["--optimization.mixup", "0"], "optimization.mixup must lie between 0 and 10"),
        (["--model.architecture", "tqn", "--model.backbone", "x", "--optimization.mixup", "0.3"], "the loss of tqn"),
        (["--optimization.micro_batch_size", "4", "--optimization.gradient_accumulation", "2"], "micro_batch_size"),
    ],
)
def test_mistakes_end_with_a_message_that_names_the_key(arguments, override, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        parse_recipe([*arguments, *override])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "optimization: {learning_rat: 1}",
            "optimization.learning_rat in a recipe. Did you mean optimization.learning_rate",
        ),
        ("optimization: {lr: 1}", "no key optimization.lr in a recipe. Did you mean optimization.learning_rate?"),
        ("optimisation: {epochs: 1}", "there is no key optimisation in a recipe. Did you mean optimization?"),
        ("model: {architecture: null}", "model.architecture must be one of slowonly, video_resnet,"),
        ("modle: {}", "more.yaml: there is no key modle in a recipe. Did you mean model?"),
        ("optimization: {epochs: many}", "optimization.epochs must be a whole number, not many."),
        ("data: {mean: [0.5]}", "data.mean must be 3 numbers, one for each channel, got (0.5,)."),
        ("just words", "more.yaml is not a recipe: it holds no keys."),
    ],
)
def test_a_mistake_in_a_file_is_named(arguments, tmp_path, content, message):
    (tmp_path / "more.yaml").write_text(content)
    with pytest.raises(UsageError, match=re.escape(message)):
        parse_recipe([*arguments, "--config", str(tmp_path / "more.yaml")])


def test_a_recipe_that_is_not_yaml_is_named(arguments, tmp_path):
    (tmp_path / "more.yaml").write_text("name: [x")
    with pytest.raises(ValueError, match="more.yaml"):
        parse_recipe([*arguments, "--config", str(tmp_path / "more.yaml")])


def test_the_command_line_and_later_files_win(arguments, tmp_path):
    (tmp_path / "more.yaml").write_text("optimization: {learning_rate: 3e-4, epochs: 7}")
    recipe = parse_recipe([*arguments, "--config", str(tmp_path / "more.yaml"), "--optimization.epochs", "9"])
    optimization = recipe.optimization
    assert (optimization.learning_rate, optimization.epochs, optimization.batch_size) == (3e-4, 9, 24)
    assert recipe.model.config == {"stem_width": 16}


def test_a_saved_recipe_reads_back_the_same(arguments, tmp_path):
    recipe = parse_recipe([*arguments, "--seed", "5", "--optimization.milestones", "[1.5, 2]"])
    recipe.save(tmp_path / "saved.yaml")
    assert parse_recipe(["--config", str(tmp_path / "saved.yaml")]) == recipe


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_shipped_recipes_are_valid(path):
    recipe = parse_recipe(["--config", str(path)])
    config_class = ARCHITECTURES[recipe.model.architecture].config_class
    config_class(**recipe.model.config)
    assert recipe.output_dir == f"outputs/{'mine' if path.parent.name == 'own' else path.parent.name}/{path.stem}"
    on_one_machine = path.parent.name in ("synthgym", "own")
    for world_size in (1,) if path in ONE_PROCESS else (1, 2) if on_one_machine else (1, 2, 4):
        assert recipe.optimization.pieces_per_process(world_size) >= 1


def test_the_papers_numbers():
    """Check sections 4.2 to 4.4, as printed."""

    def optimization(name):
        return parse_recipe(["--config", str(REPOSITORY / "configuration" / name)]).optimization

    gym99, gym288 = optimization("gym99/slowonly.yaml"), optimization("gym288/slowonly.yaml")
    assert (gym99.optimizer, gym99.learning_rate, gym99.momentum, gym99.weight_decay) == ("sgd", 0.01, 0.9, 1e-4)
    assert (gym99.grad_clip, gym99.epochs, gym99.milestones) == (40, 120, (90, 110))
    assert (gym288.learning_rate, gym288.epochs, gym288.milestones) == (0.05, 160, (90, 140))
    for name, layers in (("vision_encoder", 3), ("vision_encoder_b1", 1)):
        recipe = parse_recipe(["--config", str(REPOSITORY / "configuration" / "gym99" / f"{name}.yaml")])
        assert (recipe.optimization.learning_rate, recipe.optimization.epochs) == (3.75e-3, 60)
        assert (recipe.model.config["num_hidden_layers"], recipe.model.config["hidden_size"]) == (layers, 768)
        assert (recipe.data.clip_len, recipe.data.frame_interval, recipe.data.crop_size) == (32, 2, 224)
    for dataset in ("gym99", "gym288"):
        text = optimization(f"{dataset}/video_text.yaml")
        assert (text.optimizer, text.learning_rate, text.weight_decay, text.epochs) == ("adamw", 3e-4, 0.05, 30)
        assert (text.schedule, text.warmup_epochs) == ("cosine", 2.5)


def test_what_may_change_before_a_run_goes_on(arguments):
    before = parse_recipe(arguments).to_dict()
    harmless = [
        "--data.num_workers",
        "3",
        "--logging.every_steps",
        "1",
        "--output_dir",
        "moved",
        "--checkpointing.keep",
        "9",
    ]
    after = parse_recipe([*arguments, *harmless]).to_dict()
    assert changed_fields(before, after) == {} and recipe_hash(before) == recipe_hash(after)
    after = parse_recipe([*arguments, "--seed", "1", "--optimization.betas", "[0.8, 0.9]"]).to_dict()
    assert changed_fields(before, after) == {"optimization.betas": ([0.9, 0.999], [0.8, 0.9]), "seed": (0, 1)}
    assert recipe_hash(before) != recipe_hash(after)


# Of the recipe below, computed before it had words for LoRA and the decay over layers.
HASH = "ed829112dd28fe4cbfbada2e5377b0f7935b1b1447a600d5599db6161ccb108f"


def test_fields_that_came_later_change_no_hash(arguments):
    """Tables group runs by it, and a stopped run compares the fields."""
    values = parse_recipe(arguments).to_dict()
    assert recipe_hash(values) == HASH
    assert recipe_hash(parse_recipe([*arguments, "--optimization.layer_lr_decay", "0.8"]).to_dict()) != HASH
    again = parse_recipe([*arguments, "--optimization.gradient_checkpointing", "true"]).to_dict()
    assert changed_fields(values, again) == {}
    before = {**values, "model": {name: values["model"][name] for name in ("architecture", "backbone", "config")}}
    assert changed_fields(before, values) == {}, "a run that was stopped then resumes"


@pytest.mark.parametrize(
    ("options", "world_size", "pieces"),
    [
        ([], 1, 1),
        ([], 4, 1),
        (["--optimization.micro_batch_size", "4"], 1, 6),
        (["--optimization.micro_batch_size", "4"], 3, 2),
        (["--optimization.gradient_accumulation", "3"], 2, 3),
    ],
)
def test_pieces_of_a_batch(arguments, options, world_size, pieces):
    assert parse_recipe([*arguments, *options]).optimization.pieces_per_process(world_size) == pieces


@pytest.mark.parametrize(
    ("options", "processes", "multiple"),
    [
        ([], "5 processes", 5),
        (["--optimization.gradient_accumulation", "5"], "2 processes", 10),
        (["--optimization.micro_batch_size", "5"], "one process", 5),
        (["--optimization.micro_batch_size", "8"], "4 processes", 32),
        (["--optimization.micro_batch_size", "24"], "2 processes", 48),
    ],
)
def test_batches_that_do_not_divide_are_refused(arguments, options, processes, multiple):
    world_size = 1 if processes == "one process" else int(processes[0])
    message = rf"batch_size 24 does not divide among {processes} in .*: it must be a multiple of {multiple}\."
    with pytest.raises(ValueError, match=message):
        parse_recipe([*arguments, *options]).optimization.pieces_per_process(world_size)
