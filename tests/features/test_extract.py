"""What `finegym features` writes, read with safetensors alone, for own and foreign backbones."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    TimesformerConfig,
    TimesformerModel,
    VideoMAEConfig,
    VideoMAEImageProcessor,
    VideoMAEModel,
    VivitImageProcessor,
)

from finegym.commands.features import features as write_features
from finegym.data.video_writing import write_video
from finegym.features.backbones import load_feature_model, load_processor
from modeling_finegym import FineGymVideoProcessor, SlowOnlyConfig, SlowOnlyForVideoClassification


LENGTHS = {"vault/a.mp4": 9, "vault/b.mp4": 30, "beam/deep/c.mp4": 21}


def write_scene(path, num_frames: int, seed: int = 0) -> None:
    """Return frames of a noisy picture that moves, so that no two are alike."""
    scene = np.random.default_rng(seed).integers(0, 256, (12, 16 + num_frames, 3), dtype=np.uint8)
    scene = scene.repeat(4, axis=0).repeat(4, axis=1)
    write_video(path, np.stack([scene[:, 4 * time : 4 * time + 64] for time in range(num_frames)]), fps=25)


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    for number, (name, length) in enumerate(LENGTHS.items()):
        write_scene(folder / name, length, seed=number)
    (folder / "notes.txt").write_text("not a video")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    config = SlowOnlyConfig(
        num_frames=4, stem_width=4, hidden_sizes=(8, 8), depths=(1, 1), temporal_kernel_sizes=(1, 3), num_labels=3
    )
    SlowOnlyForVideoClassification(config).eval().save_pretrained(folder)
    FineGymVideoProcessor(
        size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}, num_frames=4
    ).save_pretrained(folder)
    return folder


def read(folder):
    """Read features with the three documented lines, for any number of shards."""
    features = {}
    for shard in folder.glob("*.safetensors"):
        features |= load_file(shard)
    return features


def test_each_video_has_a_tensor_under_its_path(videos, checkpoint, tmp_path):
    text = write_features(videos, model=str(checkpoint), output=tmp_path / "features", dtype="float32")
    assert "features of 3 of 3 videos" in text
    features = read(tmp_path / "features")
    assert set(features) == set(LENGTHS)
    model, processor = AutoModel.from_pretrained(checkpoint).eval(), FineGymVideoProcessor.from_pretrained(checkpoint)
    for name in LENGTHS:
        clips = processor.load_clips(videos / name)
        with torch.no_grad():
            expected = model.get_video_features(clips.pixel_values)
        torch.testing.assert_close(features[name], expected, rtol=0, atol=1e-5)


def test_new_and_changed_videos_are_added_and_old_features_go(videos, checkpoint, tmp_path):
    output = tmp_path / "features"
    write_features(videos, model=str(checkpoint), output=output)
    before = {name: tensor.clone() for name, tensor in read(output).items()}
    write_scene(videos / "vault/b.mp4", 30, seed=9)
    write_scene(videos / "new.mp4", 12, seed=10)
    write_features(videos, model=str(checkpoint), output=output)
    tensors = [load_file(shard) for shard in output.glob("*.safetensors")]
    assert sorted(name for shard in tensors for name in shard) == sorted([*LENGTHS, "new.mp4"]), "one tensor a name"
    after = read(output)
    assert not torch.equal(after["vault/b.mp4"], before["vault/b.mp4"])
    assert torch.equal(after["vault/a.mp4"], before["vault/a.mp4"])


def test_unreadable_videos_are_listed(videos, checkpoint, tmp_path):
    (videos / "vault" / "a.mp4").write_bytes(b"not a video")
    text = write_features(videos, model=str(checkpoint), output=tmp_path / "features")
    assert "features of 2 of 3 videos" in text and "vault/a.mp4" in text.splitlines()[1]
    assert "vault/a.mp4" not in read(tmp_path / "features")


def test_one_file_is_enough(videos, checkpoint, tmp_path):
    write_features(videos / "vault" / "b.mp4", model=str(checkpoint), output=tmp_path / "features", num_clips=1)
    assert read(tmp_path / "features")["b.mp4"].shape == (1, 4, 8)


def test_mistakes_are_named(videos, checkpoint, tmp_path):
    with pytest.raises(FileNotFoundError, match="no video at .*empty"):
        (tmp_path / "empty").mkdir()
        write_features(tmp_path / "empty", model=str(checkpoint), output=tmp_path / "features")
    with pytest.raises(FileNotFoundError, match="no checkpoint folder .*nowhere"):
        write_features(videos, model=str(tmp_path / "nowhere"), output=tmp_path / "features")
    write_features(videos, model=str(checkpoint), output=tmp_path / "features")
    with pytest.raises(ValueError, match="computed with another views"):
        write_features(videos, model=str(checkpoint), output=tmp_path / "features", num_clips=2)


def test_a_foreign_backbone_brings_its_own_processor(videos, tmp_path):
    config = VideoMAEConfig(
        image_size=32,
        num_frames=4,
        tubelet_size=2,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    torch.manual_seed(0)
    own_model = VideoMAEModel(config).eval()
    own_processor = VideoMAEImageProcessor(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32})
    own_model.save_pretrained(tmp_path / "videomae")
    own_processor.save_pretrained(tmp_path / "videomae")
    model, processor = load_feature_model(str(tmp_path / "videomae"))
    frames = torch.randint(0, 256, (4, 48, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ours = processor.preprocess_frames(frames)
    theirs = own_processor(list(frames.numpy()), return_tensors="pt")["pixel_values"][0]
    # Theirs rounds to whole gray levels while resizing, a difference of up to one level of 255, divided by std.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1.1 / 255 / 0.5)
    with torch.no_grad():
        tokens = own_model(ours[None]).last_hidden_state  # (1, 2 tubelets * 2 * 2 patches, 16)
        expected = tokens.view(1, 2, 4, 16).mean(2)
        torch.testing.assert_close(model.get_video_features(ours[None]), expected)
    write_features(videos, model=str(tmp_path / "videomae"), output=tmp_path / "features", frame_interval=3)
    assert read(tmp_path / "features")["vault/a.mp4"].shape == (1, 2, 16)


def test_space_first_tokens_are_pooled_over_space(tmp_path):
    config = TimesformerConfig(
        image_size=32, num_frames=4, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    torch.manual_seed(0)
    own = TimesformerModel(config).eval()
    own.save_pretrained(tmp_path)
    VideoMAEImageProcessor(image_mean=[0.45] * 3, image_std=[0.225] * 3).save_pretrained(tmp_path)
    model, processor = load_feature_model(str(tmp_path))
    assert list(processor.image_mean) == [0.45] * 3
    pixels = torch.randn(1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    # Changing a frame changes its own features most, wherever the model mixes in the others.
    changed = pixels.clone()
    changed[:, 2] += 1.0
    with torch.no_grad():
        moved = (model.get_video_features(changed) - model.get_video_features(pixels)).norm(dim=-1)[0]
    assert moved.argmax() == 2


def test_a_processor_that_does_something_else_is_refused(tmp_path):
    VivitImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="adds an offset"):
        load_processor(str(tmp_path))


@pytest.mark.slow
def test_two_launched_processes_share_the_work(videos, checkpoint, tmp_path):
    for number in range(40):
        write_scene(videos / f"more/{number}.mp4", 20, seed=100 + number)
    alone = tmp_path / "alone"
    write_features(videos, model=str(checkpoint), output=alone)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m", "finegym"]
    command += ["features", str(videos), "--model", str(checkpoint), "--output", str(tmp_path / "together")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("features of 43 of 43 videos") == 1
    expected, found = read(alone), read(tmp_path / "together")
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    names = [name for shard in (tmp_path / "together").glob("*.safetensors") for name in load_file(shard)]
    assert len(names) == len(set(names)), "a video was done twice"
