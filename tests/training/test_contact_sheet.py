"""A contact sheet shows what the loader and the processor really return, and names what cannot be read."""

import html

import numpy as np
import pytest
from PIL import Image

from finegym.data.index import read_index
from finegym.training.build import build_dataset, build_processor
from finegym.training.contact_sheet import choose_videos, write_contact_sheet
from finegym.training.recipe_parsing import parse_recipe
from tests.training.tiny import write_dataset, write_recipe


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = write_dataset(tmp_path_factory.mktemp("sheet") / "data", num_train=9, num_val=4)
    broken = sorted((root / "clips").glob("train_*.mp4"))[0]
    broken.write_bytes(broken.read_bytes()[:40])
    return root


@pytest.fixture(scope="module")
def recipe(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    return parse_recipe(["--config", str(write_recipe(folder / "r.yaml", "slowonly", root=root, output_dir=folder))])


def test_the_test_view_is_the_processors(root, recipe, tmp_path):
    strips = write_contact_sheet(tmp_path / "s.html", root, split="val", num_videos=4, num_frames=4, recipe=recipe)
    processor = build_processor(recipe.data, read_index(root, "train"))
    for strip in strips:
        pixels = processor.load_clips(strip.video.path, 1).pixel_values[0]  # (T, 3, H, W)
        mean, std = np.reshape(processor.image_mean, (3, 1, 1)), np.reshape(processor.image_std, (3, 1, 1))
        expected = 255 * (pixels.numpy() * std + mean).transpose(0, 2, 3, 1)
        assert np.abs(strip.frames - expected.clip(0, 255)).max() <= 0.51


def test_the_training_view_is_the_loaders(root, recipe, tmp_path):
    strips = write_contact_sheet(tmp_path / "s.html", root, num_videos=9, num_frames=4, recipe=recipe, augmented=True)
    readable = [strip for strip in strips if strip.frames is not None]
    assert len(readable) == 8
    videos = read_index(root, "train")
    processor = build_processor(recipe.data, videos)
    for strip in readable:
        [pixels] = build_dataset(recipe, videos).views(videos.index(strip.video), [0])
        mean, std = np.reshape(processor.image_mean, (3, 1, 1)), np.reshape(processor.image_std, (3, 1, 1))
        expected = 255 * (pixels.numpy() * std + mean).transpose(0, 2, 3, 1)
        assert np.abs(strip.frames - expected.clip(0, 255)).max() <= 0.51


def test_a_page_and_a_picture_hold_every_video_and_name_the_broken_one(root, tmp_path):
    strips = write_contact_sheet(tmp_path / "s.html", root, num_videos=9, num_frames=3)
    page = html.unescape((tmp_path / "s.html").read_text(encoding="utf-8"))
    assert page.count("data:image/jpeg;base64,") == 8
    broken = next(strip for strip in strips if strip.frames is None)
    assert broken.reason in page and broken.video.id in page
    for name in ("right", "left", "down", "up"):
        assert f"<b>{name}</b> · {name}" in page
    write_contact_sheet(tmp_path / "s.png", root, num_videos=9, num_frames=3)
    with Image.open(tmp_path / "s.png") as picture:
        assert picture.height > picture.width > 800


def test_every_class_is_drawn_before_any_is_drawn_twice(root):
    videos = read_index(root, "train")
    assert sorted(video.label for video in choose_videos(videos, 4, 0)) == [0, 1, 2, 3]
    assert choose_videos(videos, 6, 0) != choose_videos(videos, 6, 1)
    assert len(choose_videos(videos, 100, 0)) == len(videos)


def test_what_cannot_be_drawn_is_refused(root, tmp_path):
    with pytest.raises(ValueError, match=r"\.html or \.png"):
        write_contact_sheet(tmp_path / "sheet.gif", root)
    with pytest.raises(ValueError, match="give one"):
        write_contact_sheet(tmp_path / "sheet.html", root, augmented=True)
