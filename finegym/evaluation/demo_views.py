"""The pictures of the page of `finegym demo`, as HTML: bars, clips on a timeline, routines, and attribute x time.

In: the numbers of `demo_answers`. Out: markup in which every text of a model or a file is escaped, for `demo.css` and
`demo.js`. Colors are Okabe and Ito's, which a color-blind reader can tell apart.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from .demo_answers import Answer
from .explain import Explanation
from .explanation_figure import heated_frames
from .media import picture_address
from .timeline import Segment


FOLDER = Path(__file__).parent
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#7A7A7A")
# Red, green and blue of what speaks for a class and against it, and of attention.
FOR, AGAINST = (0, 114, 178), (213, 94, 0)
# The step of the handles in seconds: a frame at 25 per second.
STEP = 0.04

_views = jinja2.Environment(
    loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined
).get_template("demo_views.html", globals={"step": STEP})


def trouble(text: str, title: str = "Not possible.") -> str:
    """Return an error, which a screen reader says at once."""
    return str(_views.module.trouble(title, text))


def trim(duration: float, start: float | None = None, end: float | None = None, *, is_copy: bool = False) -> str:
    """Return the two handles that choose a part of a video, in seconds, and a remark where a copy is shown."""
    return str(_views.module.trim(duration, start, end, is_copy))


def answers(found: Sequence[Answer], titles: Sequence[str], duration: float) -> str:
    """Return the top classes of each model, and its clips on the timeline of the video."""
    return str(_views.module.answers(found, titles, duration))


def routines(found: Sequence[Sequence[Segment]], titles: Sequence[str], duration: float) -> str:
    """Return each model's actions of a routine as a track and a list; a class has one color in all of them."""
    labels = dict.fromkeys(segment.label for segments in found for segment in segments)
    colors = {label: COLORS[number % len(COLORS)] for number, label in enumerate(labels)}
    rows = [{"segments": segments, "colors": colors} for segments in found]
    return str(_views.module.routines(rows, titles, duration))


def reasons(found: Sequence[Explanation | str], titles: Sequence[str]) -> str:
    """Return attribute x time for each model, or the sentence that says why it has none."""
    return str(_views.module.reasons([_reason(explanation) for explanation in found], titles))


def _reason(explanation: Explanation | str) -> dict[str, Any]:
    if isinstance(explanation, str):
        return {"label": "this answer", "trouble": explanation}
    starts = explanation.moment_times
    ends = [max(explanation.clip.times[frame] for frame in frames) for frames in explanation.moment_frames]
    pictures = _pictures(explanation)
    moments = [
        {"start": start, "end": max(end, start) + STEP, "picture": picture}
        for start, end, picture in zip(starts, ends, pictures, strict=True)
    ]
    return {
        "label": explanation.names[explanation.target.label],
        "trouble": "",
        "start": min(moment["start"] for moment in moments),
        "end": max(moment["end"] for moment in moments),
        "moments": moments,
        "maps": [_map(explanation, method) for method in explanation.attribution.over_time],
        "first": explanation.trust.method,
        "trust": explanation.trust.sentence,
        "has_own": bool(set(explanation.own) & set(explanation.attribution.rows)),
    }


def _pictures(explanation: Explanation) -> list[str]:
    """Return one small frame of each moment; where there is a map of places, what speaks for the class is lit."""
    frames, attribution = explanation.clip.frames, explanation.attribution
    if attribution.over_space is not None:
        frames = heated_frames(frames, attribution.over_space)
    step = max(1, min(frames.shape[1:3]) // 96)
    middle = [places[len(places) // 2] for places in explanation.moment_frames]
    chosen = np.ascontiguousarray(frames[middle, ::step, ::step])
    return [picture_address(frame) for frame in chosen]


def _map(explanation: Explanation, method: str) -> dict[str, Any]:
    attribution = explanation.attribution
    values = attribution.over_time[method].numpy()
    is_share = method.startswith("attention")
    # Colors are scaled to the attributes: what the last rows of an attribute model sum up can be far larger.
    scaled = values[: attribution.num_attribute_rows or None]
    largest = float(np.abs(scaled).max()) or 1.0
    rows = []
    for name, row in zip(attribution.rows, values, strict=True):
        cells = [
            {"color": _color(value / largest), "text": f"{100 * value:.1f} %" if is_share else f"{value:+.3f}"}
            for value in row.tolist()
        ]
        rows.append({"name": name, "is_own": name in explanation.own, "cells": cells})
    unit = "share of attention" if is_share else "change of the logit"
    return {"method": method, "caption": f"{method}: {unit}, strongest {largest:.3g}", "rows": rows}


def _color(value: float) -> str:
    red, green, blue = FOR if value >= 0 else AGAINST
    return f"rgba({red},{green},{blue},{min(1.0, abs(value)):.2f})"
