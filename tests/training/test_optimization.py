"""Schedules against Transformers' and torch's, groups, frozen normalization and the moving average."""

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import get_cosine_schedule_with_warmup

from finegym.training.optimization import (
    MovingAverage,
    build_optimizer,
    checkpoint_gradients,
    learning_rate_factor,
    parameter_groups,
    prepare_batch_norm,
    set_learning_rate,
    train_mode,
)
from finegym.training.recipe_sections import OptimizationRecipe
from tests.foreign import on_foreign
from tests.small import small_model


def test_cosine_with_warmup_is_that_of_transformers():
    recipe = OptimizationRecipe(schedule="cosine", warmup_epochs=2.5, epochs=10)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=50, num_training_steps=200)
    expected = []
    for _ in range(200):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    factors = [learning_rate_factor(step, 20, recipe) for step in range(200)]
    # theirs starts at 0, which wastes a step; ours is one ahead during the warm-up
    assert factors[:49] == pytest.approx(expected[1:50])
    assert factors[50:] == pytest.approx(expected[50:])
    assert factors[49] == 1.0


def test_steps_are_those_of_torch():
    recipe = OptimizationRecipe(schedule="step", milestones=(3, 5), gamma=0.1, epochs=6)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5], gamma=0.1)
    for epoch in range(6):
        for step in range(4):
            assert learning_rate_factor(epoch * 4 + step, 4, recipe) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("family", ["slowonly", "vision", "video_text"])
def test_every_trainable_parameter_is_in_one_group(family):
    model = small_model(family)
    groups = parameter_groups(model, OptimizationRecipe(weight_decay=0.05))
    names = sorted(name for group in groups for name in group["names"])
    assert names == sorted(name for name, parameter in model.named_parameters() if parameter.requires_grad)
    decayed = {name for group in groups if group["weight_decay"] for name in group["names"]}
    undecayed = set(names) - decayed
    assert any("position_embeddings" in name for name in undecayed) == (family != "slowonly")
    assert all(
        name.endswith(".bias") or "norm" in name.lower() or "position" in name or "token_type" in name
        for name in undecayed
    )
    assert not any("norm" in name.lower() or name.endswith("bias") for name in decayed)
    assert len(parameter_groups(model, OptimizationRecipe(weight_decay=0.05, decay_all=True))) == 1


def test_the_backbones_last_stages_learn_more_slowly():
    model = small_model("vision", num_trainable_blocks=1)
    optimizer = build_optimizer(model, OptimizationRecipe(learning_rate=0.1, backbone_lr_scale=0.1))
    set_learning_rate(optimizer, 0.05)
    rates = {name: group["lr"] for group in optimizer.param_groups for name in group["names"]}
    backbone = {name for name in rates if ".backbone." in name}
    assert backbone and all(".backbone.blocks.4." in name for name in backbone)
    for name, rate in rates.items():
        assert rate == pytest.approx(0.005 if name in backbone else 0.05)


def test_earlier_blocks_learn_more_slowly():
    """Each block has the decay times the rate of the next, the embeddings before them that of one more block."""
    settings = OptimizationRecipe(learning_rate=1.0, backbone_lr_scale=0.5, layer_lr_decay=0.8)
    for name in ("vit", "vjepa2", "timm_wrapper"):
        model = on_foreign(name, freeze_backbone=False)
        groups = build_optimizer(model, settings).param_groups
        rates = {name: group["lr_scale"] for group in groups for name in group["names"]}
        owners = {id(p): number for number, block in enumerate(model.backbone_blocks) for p in block.parameters()}
        found = {number: set() for number in range(3)}
        for name, parameter in model.named_parameters():
            if id(parameter) in owners:
                found[owners[id(parameter)]].add(rates[name])
            elif "embed" in name and "backbone" in name and "predictor" not in name:
                assert rates[name] == pytest.approx(0.5 * 0.8**3)
            elif "backbone" not in name:
                assert rates[name] == 1.0
        for number, rates_of_block in found.items():
            assert list(rates_of_block) == [pytest.approx(0.5 * 0.8 ** (2 - number))]
    with pytest.raises(ValueError, match="layer_lr_decay is for the blocks of a backbone that learns"):
        build_optimizer(on_foreign("vit"), settings)


@pytest.mark.parametrize("name", ["vit", "vjepa2", "timm_wrapper", "dinov2"])
def test_gradients_are_the_same_where_blocks_compute_again(name):
    def train(checkpointing):
        model = on_foreign(name, freeze_backbone=False).train()
        if checkpointing:
            checkpoint_gradients(model)
        torch.manual_seed(1)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: kept.append(tensor.nbytes) or tensor, lambda x: x
        ):
            loss = model(frames).pooler_output.square().sum()
        loss.backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, sum(kept)

    frames = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    (plain, kept), (again, kept_again) = train(False), train(True)
    assert plain.keys() == again.keys() and all(torch.equal(plain[name], again[name]) for name in plain)
    assert kept_again < 0.7 * kept


def test_statistics_must_not_move_twice():
    model = small_model("slowonly").train()
    with pytest.raises(
        ValueError, match=r"blocks.1.res_blocks.0 twice in a step: set optimization.batch_norm: frozen"
    ):
        checkpoint_gradients(model)
    checkpoint_gradients(model.eval())


def test_a_wholly_frozen_model_is_refused():
    model = small_model("slowonly").requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        build_optimizer(model, OptimizationRecipe())


@pytest.mark.parametrize(("kind", "moves"), [("live", True), ("frozen", False)])
def test_batch_norm(kind, moves, pixel_values):
    model = prepare_batch_norm(small_model("slowonly"), kind)
    train_mode(model, kind)
    before = {name: value.clone() for name, value in model.state_dict().items() if "norm" in name}
    optimizer = build_optimizer(model, OptimizationRecipe(learning_rate=0.1))
    model(pixel_values).logits.square().sum().backward()
    optimizer.step()
    moved = {name for name, value in before.items() if not torch.equal(value, model.state_dict()[name])}
    assert bool(moved) == moves


def test_partial_batch_norm_moves_the_first_layer_alone(pixel_values):
    """TSN's rule: the input changes, so its statistics must; the rest would be estimated from too few clips."""
    model = prepare_batch_norm(small_model("slowonly"), "partial")
    train_mode(model, "partial")
    before = {name: value.clone() for name, value in model.state_dict().items() if "norm" in name}
    optimizer = build_optimizer(model, OptimizationRecipe(learning_rate=0.1))
    model(pixel_values).logits.square().sum().backward()
    optimizer.step()
    moved = {name for name, value in before.items() if not torch.equal(value, model.state_dict()[name])}
    tensors = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert moved == {f"slowonly.blocks.0.norm.{tensor}" for tensor in tensors}


@pytest.mark.skipif(torch.cuda.is_available(), reason="the refusal is for machines without CUDA")
def test_synchronized_batch_norm_needs_cuda():
    with pytest.raises(ValueError, match="batch_norm: sync needs CUDA"):
        prepare_batch_norm(small_model("slowonly"), "sync")


def test_the_moving_average_is_that_of_torch():
    model = torch.nn.Linear(3, 2)
    oracle = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    oracle.update_parameters(model)  # torch takes the first weights unchanged
    average = MovingAverage(model, 0.9)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(5):
        model(torch.randn(4, 3)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update()
        oracle.update_parameters(model)
    own = {name: value.clone() for name, value in model.state_dict().items()}
    with average.applied():
        for name, value in oracle.module.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], value)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in own.items())
