"""A copy of a video with the most probable classes drawn over the lower part of its frames.

In: a video file and the classes of each stretch of it. Out: an MP4 without sound, in which every frame keeps its time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from finegym.data.files import replacing
from finegym.data.text import safe_text
from finegym.data.video_writing import VideoWriter
from modeling_finegym.video_decoding import VideoFile, open_video


# Smaller frames are enlarged by a whole factor to at least this width, so that the names can be read.
MIN_WIDTH = 480
BAR, TEXT, SHADE = (86, 180, 233, 235), (255, 255, 255, 255), (0, 0, 0, 150)


@dataclass(frozen=True)
class LabelledStretch:
    """The most probable (class, probability) between two times of a video, in seconds, best first."""

    start: float
    end: float
    classes: Sequence[tuple[str, float]]


def label_stretches(
    windows: Sequence[tuple[float, float]], scores: torch.Tensor, names: Sequence[str], *, top_k: int
) -> list[LabelledStretch]:
    """Average the scores of overlapping windows, as `find_segments` does, and name the best classes of each stretch.

    Args:
        windows: The (start, end) of each window in seconds.
        scores: The scores (num_windows, num_labels).
        names: The names of the classes.
        top_k: The number of classes to name.
    """
    edges = sorted({edge for window in windows for edge in window})
    stretches = []
    for start, end in zip(edges, edges[1:]):
        covering = [number for number, (first, last) in enumerate(windows) if first <= start and end <= last]
        mean = scores[covering].mean(0)
        best = mean.argsort(descending=True, stable=True).tolist()[:top_k]
        stretches.append(LabelledStretch(start, end, [(names[label], mean[label].item()) for label in best]))
    return stretches


def write_labelled_video(
    video: str,
    path: Path,
    stretches: Sequence[LabelledStretch],
    *,
    start: float | None = None,
    end: float | None = None,
) -> None:
    """Write the frames of a video between two times with the classes of each stretch.

    Args:
        video: The video file.
        path: The MP4 to write; it appears when it is complete.
        stretches: The stretches in order; frames outside them get no panel.
        start, end: The seconds of the file between which frames are written.
    """
    with open_video(video) as file, replacing(path) as temporary:
        first, stop = file.index_range(start, end)
        with VideoWriter(temporary, fps=file.fps or 25.0) as writer:
            for time, picture in _drawn(file, range(first, stop), stretches):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                writer.write(frame, time - file.times[first])


def _drawn(
    file: VideoFile, indices: range, stretches: Sequence[LabelledStretch]
) -> Iterator[tuple[float, np.ndarray]]:
    panels: dict[int, Image.Image] = {}
    for index, picture in file.pictures(indices):
        time = file.times[index]
        image = _enlarged(picture.numpy())
        place = next((number for number, stretch in enumerate(stretches) if _holds(stretch, time)), None)
        if place is not None:
            if place not in panels:
                panels = {place: draw_panel(stretches[place].classes, image.width)}
            panel = panels[place]
            image.paste(panel, (0, max(0, image.height - panel.height)), panel)
        yield time, np.asarray(image)


def _holds(stretch: LabelledStretch, time: float) -> bool:
    return stretch.start <= time < stretch.end


def _enlarged(picture: np.ndarray) -> Image.Image:
    """Return the picture, enlarged if it is small, with even sides."""
    image = Image.fromarray(picture)
    factor = max(1, -(-MIN_WIDTH // image.width))
    image = image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
    return image.crop((0, 0, image.width // 2 * 2, image.height // 2 * 2))


def draw_panel(classes: Sequence[tuple[str, float]], width: int) -> Image.Image:
    """Return a translucent panel with a name, a percentage and a bar for each class."""
    line = max(20, width // 26)
    pad = line // 4
    font = _font(int(line * 0.62))
    panel = Image.new("RGBA", (width, line * len(classes) + 2 * pad), SHADE)
    draw = ImageDraw.Draw(panel)
    for row, (name, score) in enumerate(classes):
        top = pad + row * line
        share = f"{100 * score:.0f} %"
        room = width - 3 * pad - draw.textlength("100 % ", font=font)
        text = safe_text(name, one_line=True)
        while draw.textlength(text, font=font) > room and len(text) > 1:
            text = f"{text.rstrip('…')[:-1]}…"
        draw.text((pad, top), text, font=font, fill=TEXT)
        draw.text((width - pad, top), share, font=font, fill=TEXT, anchor="ra")
        bar = top + int(line * 0.8)
        draw.rectangle((pad, bar, pad + (width - 2 * pad) * score, bar + max(2, line // 10)), fill=BAR)
    return panel


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    from matplotlib import get_data_path  # whose DejaVu knows most alphabets; imported only to draw

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
