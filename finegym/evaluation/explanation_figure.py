"""The picture of an explanation: a strip of the clip's frames, and below it what each method says of every moment.

In: an `Explanation`. Out: one PNG, and a PDF beside it. Signed numbers are in Okabe and Ito's blue and vermilion or in
purple and orange, shares of attention in cividis: a color-blind reader can tell all of them apart.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from .attribution import moments_of_frames
from .explain import Explanation
from .pictures import BLUE, GREEN, ORANGE, VERMILION, new_figure, save_picture


# Inches: the margin without names of attributes, what a letter of them takes, the width of the strip, the bars over
# attributes, and the margins for the color bars and without them; the title of one line, and what a second adds.
LEFT, LETTER, STRIP, BARS, RIGHT_OF_ROWS, RIGHT, GAP = 1.0, 0.07, 8.0, 1.9, 1.0, 0.2, 0.25
ROW, PANEL_GAP, TOP, LINE, BOTTOM = 0.19, 0.4, 0.65, 0.2, 0.4
MAX_FRAMES = 16
OWN, CONTRAST = "\u25cf ", "\u25cb "
LINES = ((BLUE, "o", "-"), (VERMILION, "s", "--"), (GREEN, "^", "-."), (ORANGE, "D", ":"), ("#000000", "x", "-"))


def draw_explanation(path: Path, explanation: Explanation) -> None:
    """Draw an explanation as PNG, and as PDF beside it."""
    attribution = explanation.attribution
    has_rows = len(attribution.rows) > 1
    picture_height = STRIP / min(MAX_FRAMES, len(explanation.clip.frames)) * _aspect(explanation)
    strips = [picture_height] if attribution.over_space is None else [picture_height, picture_height]
    if has_rows:
        panels = [ROW * len(attribution.rows)] * len(attribution.over_time)
    else:
        panels = [1.7] * len({_is_attention(name) for name in attribution.over_time})
    bars = BARS + GAP if has_rows else 0.0
    left = max(LEFT, LETTER * max(len(_short(row)) + len(OWN) for row in attribution.rows) if has_rows else 0)
    first = TOP if explanation.target.contrast is None else TOP + LINE
    width = left + STRIP + bars + (RIGHT_OF_ROWS if has_rows else RIGHT)
    height = first + sum(strips) + 0.1 * len(strips) + sum(panels) + PANEL_GAP * len(panels) + BOTTOM
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    _title(figure, explanation, left / width, 1 - 0.12 / height, 1 - (first - 0.08) / height)

    def place(start: float, top: float, wide: float, tall: float):
        return figure.add_axes((start / width, 1 - (top + tall) / height, wide / width, tall / height))

    top = first
    for number, tall in enumerate(strips):
        _draw_strip(place(left, top, STRIP, tall), explanation, heat=number == 1)
        top += tall + 0.1
    top += PANEL_GAP - 0.1
    if has_rows:
        for number, name in enumerate(attribution.over_time):
            axis = place(left, top, STRIP, panels[number])
            image = _draw_map(axis, explanation, name, is_last=number == len(panels) - 1)
            bar = place(left + STRIP + bars + 0.12, top, 0.13, panels[number])
            figure.colorbar(image, cax=bar, label="share" if _is_attention(name) else "logit", extend="both")
            bar.tick_params(labelsize=7)
            bar.yaxis.get_offset_text().set_fontsize(7)
            if name in attribution.over_attributes:
                _draw_bars(place(left + STRIP + GAP, top, BARS, panels[number]), explanation, name)
            top += panels[number] + PANEL_GAP
    else:
        for number, attention in enumerate(sorted({_is_attention(name) for name in attribution.over_time})):
            _draw_lines(place(left, top, STRIP, panels[number]), explanation, attention, number == len(panels) - 1)
            top += panels[number] + PANEL_GAP
    save_picture(figure, path)


def _is_attention(name: str) -> bool:
    return name.startswith("attention")


def _aspect(explanation: Explanation) -> float:
    return explanation.clip.frames.shape[1] / explanation.clip.frames.shape[2]


def _title(figure, explanation: Explanation, left: float, top: float, bottom: float) -> None:
    """Write the question at the top and the name of the video at the bottom, in shares of the figure."""
    target, names = explanation.target, explanation.names
    said = f"{names[target.label]}  ({100 * explanation.scores[target.label].item():.1f} %)"
    question = f"Why {said}?"
    if target.contrast is not None:
        share = 100 * explanation.scores[target.contrast].item()
        question = f"Why {said},\nand not {names[target.contrast]}  ({share:.1f} %)?"
    figure.text(left, top, _plain(question), fontsize=11, fontweight="bold", va="top")
    note = Path(explanation.video).name
    has_rows = len(explanation.attribution.rows) > 1
    if has_rows and explanation.own:
        note += f"      {OWN}attribute of the class"
    if has_rows and explanation.of_contrast:
        note += f"      {CONTRAST}attribute of the other class"
    figure.text(left, bottom, _plain(note), fontsize=8, va="bottom")


def _plain(text: str) -> str:
    """Return a text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")


def _draw_strip(axis, explanation: Explanation, *, heat: bool) -> None:
    frames = explanation.clip.frames
    count = min(MAX_FRAMES, len(frames))
    chosen = [int((place + 0.5) * len(frames) / count) for place in range(count)]
    pictures = frames[chosen]
    if heat:
        pictures = heated_frames(frames, explanation.attribution.over_space)[chosen]
    extent = (-0.5, explanation.num_moments - 0.5, 0, 1)
    axis.imshow(np.concatenate(list(pictures), axis=1), aspect="auto", extent=extent, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_ylabel("Grad-CAM" if heat else "frames", rotation=0, ha="right", va="center", fontsize=8)
    for edge in range(1, count):
        axis.axvline(edge * explanation.num_moments / count - 0.5, color="white", linewidth=0.8)


def heated_frames(frames: np.ndarray, space: torch.Tensor) -> np.ndarray:
    """Return gray frames under the places that speak for the class; those that speak against it are left gray."""
    from matplotlib import colormaps

    heat = F.interpolate(space.clamp(min=0)[:, None], size=frames.shape[1:3], mode="bilinear", align_corners=False)[
        :, 0
    ]
    heat = (heat / heat.max().clamp(min=1e-12)).numpy()[moments_of_frames(len(frames), len(space))]
    gray = frames.mean(-1, keepdims=True) / 255
    colors = colormaps["inferno"](heat)[..., :3]
    alpha = 0.75 * heat[..., None] ** 0.7
    return (255 * (gray * (1 - alpha) + colors * alpha)).round().astype(np.uint8)


def _draw_map(axis, explanation: Explanation, name: str, *, is_last: bool):
    values = explanation.attribution.over_time[name].numpy()
    # The colors are scaled to the attributes: what the last rows sum up can be many times larger.
    scaled = values[: explanation.attribution.num_attribute_rows or None]
    if _is_attention(name):
        options = {"cmap": "cividis", "vmin": float(scaled.min()), "vmax": float(scaled.max())}
    else:
        largest = float(np.abs(scaled).max()) or 1.0
        options = {"cmap": "PuOr_r", "vmin": -largest, "vmax": largest}
    image = axis.imshow(values, aspect="auto", interpolation="nearest", **options)
    axis.set_title(_title_of(explanation, name), fontsize=9, loc="left", pad=3)
    _name_rows(axis, explanation)
    _name_moments(axis, explanation, is_last)
    return image


def _title_of(explanation: Explanation, method: str) -> str:
    return f"{method} (look at this first)" if method == explanation.trust.method else method


def _name_rows(axis, explanation: Explanation) -> None:
    rows = explanation.attribution.rows
    marks = [OWN if row in explanation.own else CONTRAST if row in explanation.of_contrast else "" for row in rows]
    names = [_plain(mark + _short(row)) for mark, row in zip(marks, rows, strict=True)]
    axis.set_yticks(range(len(rows)), names, fontsize=7.5)
    for number, (text, mark) in enumerate(zip(axis.get_yticklabels(), marks, strict=True)):
        text.set_fontweight("bold" if mark == OWN else "normal")
        text.set_fontstyle("normal" if number < explanation.attribution.num_attribute_rows else "italic")
    axis.tick_params(axis="y", length=0)


def _short(name: str, length: int = 40) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


def _name_moments(axis, explanation: Explanation, is_last: bool) -> None:
    times = explanation.moment_times
    step = -(-len(times) // 16)
    labels = [f"{time:.2f}" for time in times[::step]] if is_last else []
    axis.set_xticks(range(0, len(times), step), labels or [""] * len(times[::step]), fontsize=7)
    restarts = [place for place in range(1, len(times)) if times[place] < times[place - 1]]
    for place in restarts:
        axis.axvline(place - 0.5, color="black", linestyle=":", linewidth=1)
    if is_last:
        loops = " (dotted: a short video begins again)" if restarts else ""
        axis.set_xlabel(f"seconds of the video at which the moment begins{loops}", fontsize=8)


def _draw_bars(axis, explanation: Explanation, name: str) -> None:
    rows, over_attributes = explanation.attribution.rows, explanation.attribution.over_attributes[name]
    own_rows = rows[: explanation.attribution.num_attribute_rows]
    known = [explanation.attribute_names.index(row) for row in own_rows if row in explanation.attribute_names]
    others = [index for index in range(len(over_attributes)) if index not in known]
    values = [over_attributes[index].item() for index in known] + [over_attributes[others].sum().item()]
    colors = [BLUE if value > 0 else VERMILION for value in values]
    axis.barh(range(len(values)), values, color=colors, height=0.7)
    axis.axvline(0, color="black", linewidth=0.6)
    axis.set(ylim=(len(rows) - 0.5, -0.5), yticks=[])
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="x", labelsize=7)
    axis.locator_params(axis="x", nbins=4)
    axis.set_title("the attribute token itself (logit)", fontsize=7.5, loc="left", pad=3)


def _draw_lines(axis, explanation: Explanation, attention: bool, is_last: bool) -> None:
    methods: Sequence[str] = [name for name in explanation.attribution.over_time if _is_attention(name) == attention]
    for number, name in enumerate(methods):
        color, marker, line = LINES[number % len(LINES)]
        values = explanation.attribution.over_time[name][0].numpy()
        axis.plot(
            values,
            color=color,
            marker=marker,
            markersize=4,
            linestyle=line,
            linewidth=1.2,
            label=_title_of(explanation, name),
        )
    axis.set_xlim(-0.5, explanation.num_moments - 0.5)
    if not attention:
        axis.axhline(0, color="black", linewidth=0.6)
    axis.set_ylabel("share of attention" if attention else "change of the logit", fontsize=8)
    axis.tick_params(axis="y", labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(0, 1.19), ncols=len(methods))
    _name_moments(axis, explanation, is_last)
