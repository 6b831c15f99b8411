"""A contact sheet of a data set: people check what a model will see before they train.

In: an indexed data set and, to show exactly what a model sees, a recipe. Out: one HTML or PNG file with a strip of
frames, the class and the attributes of each video. Nothing else is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from finegym.data.files import replacing, write_text
from finegym.data.index import LABELS_FILE, Video, read_index
from finegym.data.labels import Labels
from finegym.data.transforms import clip_generator
from finegym.evaluation.media import picture_address, read_frames
from finegym.evaluation.pages import render_page
from finegym.evaluation.pictures import new_figure
from modeling_finegym.video_decoding import VideoDecodingError

from .build import build_dataset, build_processor
from .recipe import Recipe


TEMPLATE = Path(__file__).with_name("contact_sheet_template.html")
# The shorter side of a frame in pixels where no recipe says what the model sees.
SHORT_SIDE = 112
# The width of a sheet in PNG, which a row of frames fills.
SHEET_INCHES = 11.0


@dataclass(frozen=True)
class Strip:
    """One video of a sheet: `frames` (T, H, W, 3) uint8, or the reason why there are none."""

    video: Video
    frames: np.ndarray | None
    reason: str = ""


def write_contact_sheet(
    path: Path,
    root: Path,
    *,
    split: str = "train",
    num_videos: int = 24,
    num_frames: int = 8,
    seed: int = 0,
    recipe: Recipe | None = None,
    augmented: bool = False,
) -> list[Strip]:
    """Write a sheet of videos that are drawn at random, as evenly over the classes as possible.

    Args:
        path: The file to write, `.html` or `.png`.
        root: The prepared data set folder.
        split: The split of its index to show.
        num_videos: The number of videos to show.
        num_frames: The number of frames of a video, evenly spread over what is shown of it.
        seed: The seed of the draw; that of the augmentation is the recipe's.
        recipe: The recipe whose clips are shown, with its window, size and crop. None shows the whole video, not
            cropped.
        augmented: Whether to show the training view, with the random window, crop and flip of the first epoch, rather
            than the test view.

    Raises:
        FileNotFoundError: If the data set is not there.
        ValueError: If `path` has another suffix, or the training view is asked for without a recipe.
    """
    if path.suffix.lower() not in (".html", ".png"):
        raise ValueError(f"A contact sheet ends in .html or .png, not in {path.suffix!r} ({path}).")
    if augmented and recipe is None:
        raise ValueError("Augmentation is part of a recipe: give one.")
    if augmented and split != "train":
        raise ValueError(f"Only training videos are augmented: the split is {split!r}.")
    labels = Labels.read(root / LABELS_FILE)
    videos = choose_videos(read_index(root, split), num_videos, seed)
    # the frame rate at which files are sampled is that of the training videos
    training_videos = [] if recipe is None else read_index(root, "train")
    strips = [_strip(video, num_frames, recipe, augmented, training_videos) for video in videos]
    view = "the whole video" if recipe is None else "the training view" if augmented else "the test view"
    title = f"{labels.name}, {split}: {view}"
    if path.suffix.lower() == ".html":
        _write_html(path, strips, labels, title)
    else:
        _write_png(path, strips, labels, title)
    return strips


def choose_videos(videos: Sequence[Video], count: int, seed: int) -> list[Video]:
    """Draw videos class by class in turn, so that rare classes are shown too; sorted by class."""
    order = torch.randperm(len(videos), generator=clip_generator(seed, "sheet")).tolist()
    queues: dict[int, list[Video]] = {}
    for place in order:
        queues.setdefault(videos[place].label, []).append(videos[place])
    turns = sorted(
        (
            (turn, position, video)
            for position, queue in enumerate(queues.values())
            for turn, video in enumerate(queue)
        ),
        key=lambda entry: entry[:2],
    )
    return sorted((video for _, _, video in turns[:count]), key=lambda video: (video.label, video.id))


def _strip(
    video: Video, num_frames: int, recipe: Recipe | None, augmented: bool, training_videos: list[Video]
) -> Strip:
    try:
        if recipe is None:
            return Strip(video, read_frames(video, lambda times: _spread(len(times), num_frames), SHORT_SIDE))
        processor = build_processor(recipe.data, training_videos)
        if augmented:
            [pixels] = build_dataset(recipe, training_videos).views(training_videos.index(video), [0])
        else:
            counts = processor.protocol_counts_frames
            clips = processor.load_clips(video.path, 1, start=video.start, end=video.end, count_frames=counts)
            pixels = clips.pixel_values[0]
        if processor.flow_len:  # x and y of the first frame of each stack, beside their mean
            pixels = torch.cat([pixels[:, :2], pixels[:, :2].mean(1, keepdim=True)], dim=1)
            processor.image_mean, processor.image_std = (
                [*values, values[0]] for values in (processor.image_mean, processor.image_std)
            )
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (processor.image_mean, processor.image_std))
        shown = (pixels[_spread(len(pixels), num_frames)] * std + mean).clamp(0, 1)
        return Strip(video, (255 * shown).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    except (VideoDecodingError, OSError) as error:
        return Strip(video, None, str(error))


def _spread(length: int, count: int) -> list[int]:
    return np.linspace(0, length - 1, min(count, length)).round().astype(int).tolist()


def _attributes(video: Video, labels: Labels) -> str:
    return ", ".join(labels.attributes[attribute] for attribute in labels.classes[video.label].attributes)


def _write_html(path: Path, strips: Sequence[Strip], labels: Labels, title: str) -> None:
    cards = [
        {
            "name": labels.names[strip.video.label],
            "attributes": _attributes(strip.video, labels),
            "id": strip.video.id,
            "reason": strip.reason,
            "picture": None if strip.frames is None else picture_address(np.concatenate(list(strip.frames), axis=1)),
        }
        for strip in strips
    ]
    write_text(path, render_page(TEMPLATE, title=title, cards=cards))


def _write_png(path: Path, strips: Sequence[Strip], labels: Labels, title: str) -> None:
    shapes = [strip.frames.shape for strip in strips if strip.frames is not None]
    tallest = max((height / (width * count) for count, height, width, _ in shapes), default=0.0)
    figure = new_figure(SHEET_INCHES, 0.6 + len(strips) * (0.45 + min(3.0, SHEET_INCHES * tallest)))
    for axis, strip in zip(figure.subplots(len(strips), 1, squeeze=False)[:, 0], strips, strict=True):
        attributes = _attributes(strip.video, labels)
        text = f"{labels.names[strip.video.label]}   ({strip.video.id})" + (f"\n{attributes}" if attributes else "")
        axis.set_title(text, fontsize=8, loc="left")
        axis.axis("off")
        if strip.frames is None:
            axis.text(0, 0.5, strip.reason, fontsize=8, wrap=True, transform=axis.transAxes)
        else:
            axis.imshow(np.concatenate(list(strip.frames), axis=1), aspect="equal")
            axis.set_anchor("W")
    figure.suptitle(title)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
