"""LoRA: which weights learn, what a killed run resumes, and what a checkpoint and the Hub get."""

import json
import os
import signal
import time

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForVideoClassification, AutoVideoProcessor

from finegym.data.arguments import UsageError
from finegym.data.index import read_index
from finegym.hub.publish import publish
from finegym.training.lora import ADAPTER_FOLDER, add_lora, merged_state
from finegym.training.recipe_parsing import parse_recipe
from finegym.training.recipe_sections import LoraRecipe
from tests.foreign import BACKBONES, NUM_FRAMES, SIZE, on_foreign, write_foreign
from tests.small import small_model
from tests.training.launching import Launch, free_port, num_steps_done, read_losses, run, weights_hash
from tests.training.test_commands import BIN, children, start, wait
from tests.training.tiny import write_recipe


LORA = {"rank": 2, "alpha": 8.0}


def randomize(model):
    """LoRA starts as nothing: its second matrix is zero."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3, generator=generator)


@pytest.mark.parametrize("model_type", BACKBONES)
def test_attention_learns_by_default_and_merging_changes_no_output(model_type):
    model, frames = on_foreign(model_type), torch.randn(2, NUM_FRAMES, 3, SIZE, SIZE)
    with torch.no_grad():
        before = model(frames).pooler_output
    names = {name for name, _ in model.named_parameters()}
    add_lora(model, LoraRecipe(**LORA))
    with torch.no_grad():
        torch.testing.assert_close(model(frames).pooler_output, before)
    model.train()(frames).pooler_output.square().sum().backward()
    learning = {name for name, parameter in model.backbone.named_parameters() if parameter.grad is not None}
    assert learning and all(".lora_" in name for name in learning)
    assert len({name.partition(".lora_")[0] for name in learning}) >= 3, "every block has some"
    randomize(model.eval())
    with torch.no_grad():
        adapted = model(frames).pooler_output
        assert (adapted - before).abs().max() > 1e-4
        state = merged_state(model)
        assert names <= state.keys() and not any("lora" in name or "base_layer" in name for name in state)
        plain = on_foreign(model_type)
        plain.load_state_dict(state)
        torch.testing.assert_close(plain(frames).pooler_output, adapted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model(frames).pooler_output, adapted), "merging leaves the model as it is"
    assert merged_state(plain) is None


def test_only_the_layers_that_are_asked_for():
    model = on_foreign("vjepa2")
    add_lora(model, LoraRecipe(**LORA, targets=("fc1",)))
    layers = {name.partition(".lora_")[0] for name, _ in model.backbone.named_parameters() if "lora_" in name}
    assert layers == {f"encoder.layer.{number}.mlp.fc1" for number in range(3)}, "and none of the predictor"


def test_what_cannot_be_adapted_is_refused():
    with pytest.raises(ValueError, match="slowonly has no linear layers. Set model.config.num_trainable_blocks"):
        add_lora(small_model("vision"), LoraRecipe(rank=2))
    with pytest.raises(
        ValueError, match=r"qkv is not among the linear layers of vit, which are \['fc1', 'fc2', 'k_proj"
    ):
        add_lora(on_foreign("vit"), LoraRecipe(rank=2, targets=("q_proj", "qkv")))


@pytest.fixture
def lora_recipe(root, tmp_path):
    """`lora_recipe(changes...)` returns the arguments of train.py for an encoder on a ViT with LoRA."""
    backbone = write_foreign(tmp_path / "vit", "vit")

    def write(**changes) -> list[str]:
        path, output_dir = tmp_path / "recipe.yaml", tmp_path / "run"
        settings = {"root": root, "output_dir": output_dir, "backbone": backbone, **changes}
        settings |= {"features": {"mode": "online"}, "checkpointing": {"every_steps": 2}, "model__lora": LORA}
        write_recipe(path, "vision", **settings)
        return ["--config", str(path)]

    return write


def test_a_killed_run_resumes_and_what_it_writes_loads_without_peft(lora_recipe, root, tmp_path):
    arguments = lora_recipe()
    log = run(arguments, log=tmp_path / "log")
    # three blocks of four layers of 16 x 16, each with 2 x 16 twice
    assert "LoRA learns 768 weights in 12 layers" in log
    killed = [*arguments, "--output_dir", str(tmp_path / "killed")]
    launch = Launch(killed, log=tmp_path / "log")
    assert launch.wait_until(lambda: num_steps_done(tmp_path / "killed") >= 5)
    launch.kill()
    # which computes the same, so that it may be turned on where memory was short
    run([*killed, "--optimization.gradient_checkpointing", "true"], log=tmp_path / "log")
    assert weights_hash(tmp_path / "killed") == weights_hash(tmp_path / "run")
    adapters = [tmp_path / name / ADAPTER_FOLDER / "adapter_model.safetensors" for name in ("run", "killed")]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()

    model, report = AutoModelForVideoClassification.from_pretrained(tmp_path / "run", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    matrices = load_file(adapters[0])
    assert len(matrices) == 24 and all(matrix.abs().max() > 0 for matrix in matrices.values()), "all have learned"
    # PEFT itself gives the base backbone the same outputs
    frames = torch.randn(2, 3, SIZE, SIZE)
    adapted = AutoModel.from_pretrained(tmp_path / "vit")
    with torch.no_grad():
        before = adapted(frames).last_hidden_state
        adapted.load_adapter(str(tmp_path / "run" / ADAPTER_FOLDER))
        after, merged = adapted(frames).last_hidden_state, model.base_model.backbone(frames).last_hidden_state
    torch.testing.assert_close(merged, after, rtol=1e-5, atol=1e-5)
    assert (after - before).abs().max() > 1e-3
    processor, videos = AutoVideoProcessor.from_pretrained(tmp_path / "run"), read_index(root, "val")
    metrics, num_right = json.loads((tmp_path / "run" / "metrics.json").read_text()), 0
    for video in videos:
        clips = processor.load_clips(video.path, num_clips=2)
        with torch.no_grad():
            scores = clips.weights @ model(pixel_values=clips.pixel_values).logits.softmax(-1)
        num_right += int(scores.argmax() == video.label)
    assert metrics["top1"] == pytest.approx(100 * num_right / len(videos))
    assert publish(tmp_path / "run", "someone/adapted", dry_run=True, say=lambda line: None) is None


@pytest.mark.slow
def test_two_processes_agree_with_one_and_resume_to_the_same_weights(lora_recipe, tmp_path):
    settings = {"optimization__micro_batch_size": 2, "optimization__epochs": 10}
    arguments, log = lora_recipe(**settings), tmp_path / "log"
    launcher = [BIN / "accelerate", "launch", "--config_file", "configuration/accelerate/cpu.yaml"]

    def launch(name):
        command = [*launcher, "--main_process_port", free_port(), "train.py", *arguments, "--output_dir"]
        return start([*command, tmp_path / name], log)

    assert wait(launch("straight"), log) == 0, log.read_text()
    assert "2 x" in json.loads((tmp_path / "straight" / "training.json").read_text())["hardware"]
    killed = launch("killed")
    deadline = time.monotonic() + 300
    while num_steps_done(tmp_path / "killed") < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    for pid in (killed.pid, *children(killed.pid)):
        os.kill(pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "metrics.json").exists(), "it was killed before its end"
    assert wait(launch("killed"), log) == 0, log.read_text()
    assert "Resuming after step" in log.read_text()
    assert weights_hash(tmp_path / "killed") == weights_hash(tmp_path / "straight")
    adapters = [tmp_path / name / ADAPTER_FOLDER / "adapter_model.safetensors" for name in ("straight", "killed")]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()
    run([*arguments, "--output_dir", str(tmp_path / "alone")], log=log)
    assert read_losses(tmp_path / "straight") == pytest.approx(read_losses(tmp_path / "alone"), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--features.mode", "cached"], "with model.lora set features.mode: online"),
        (["--model.config.num_trainable_blocks", "1"], "leave out num_trainable_blocks"),
        (["--model.config.freeze_backbone", "false"], "leave out num_trainable_blocks and freeze_backbone"),
        (["--model.lora.rank", "0"], "rank starts at 1"),
        (["--model.lora.rank", "null"], "model.lora.rank is missing"),
        (["--model.architecture", "slowonly"], "slowonly is a network itself"),
    ],
)
def test_recipes_that_contradict_lora_are_refused(options, message, lora_recipe):
    with pytest.raises(UsageError, match=message):
        parse_recipe([*lora_recipe(), *options])


def test_the_rank_is_a_field_like_any_other(lora_recipe):
    recipe = parse_recipe([*lora_recipe(), "--model.lora.rank", "4", "--model.lora.targets", "[q_proj, v_proj]"])
    assert recipe.model.lora == LoraRecipe(4, 8.0, ("q_proj", "v_proj"))
    assert not parse_recipe(["--config", "synthgym/slowonly.yaml"]).model.lora
