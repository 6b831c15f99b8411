"""A page that classifies uploaded videos. Importing this needs Gradio, the `demo` extra."""

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import Pipeline

from finegym.data.labels import Labels
from finegym.data.markdown import plain
from finegym.data.video_writing import write_video
from finegym.synthgym.generate import LABELS
from finegym.synthgym.motions import compose
from finegym.synthgym.scene import render
from finegym.synthgym.simulation import simulate
from modeling_finegym.clip_scoring import score_videos

from .timeline import find_segments, score_windows


# Gradio reports every start to its makers unless it is told not to before its import.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
import gradio  # noqa: E402


NUM_CLASSES_SHOWN = 5
NUM_EXAMPLES = 3
# The seed and the side in pixels of the gymnasts that are drawn as examples.
EXAMPLE_SEED, EXAMPLE_SIDE = 12, 224
CLIP_HEADERS = ["clip", "share of the answer", "what it says", "probability"]
TIMELINE_HEADERS = ["start", "end", "action", "score"]
CODE = """from transformers import pipeline

classify = pipeline("video-classification", model={model!r}, trust_remote_code=True)
for answer in classify({video!r}{part}):
    print(f"{{answer['score']:.2f}}  {{answer['label']}}")"""


def draw_examples(folder: Path, names: Sequence[str]) -> list[str]:
    """Draw a few gymnasts for a model that knows SynthGym's classes; other models have no examples.

    Returns:
        The files, which anyone may show: every picture is drawn.
    """
    labels = Labels.read(LABELS["class"])
    files = []
    known = [action for action in labels.classes if action.name in names]
    for action in known[:: max(1, len(known) // NUM_EXAMPLES)][:NUM_EXAMPLES]:
        rng = np.random.default_rng([EXAMPLE_SEED, action.id])
        attributes = [labels.attributes[attribute] for attribute in action.attributes]
        motion = simulate(compose(action.event, attributes, rng), action.event, 25.0)
        path = folder / f"gymnast_{action.event}_{action.id}.mp4"
        write_video(path, render(motion, rng, size=EXAMPLE_SIDE).frames, fps=25)
        files.append(str(path))
    return files


def build_page(classify: Pipeline, *, name: str, window: float = 2.5, examples: Sequence[str] = ()) -> gradio.Blocks:
    """Build the page without serving it: one video, which is classified as one action or searched for several.

    Args:
        classify: The pipeline that classifies videos.
        name: The name of the model.
        window: The number of seconds that are looked at as one action in a routine.
        examples: Video files to click on.
    """
    model = classify.model
    names = [model.config.id2label[label] for label in range(model.config.num_labels)]

    def classify_action(path: str | None, start: float | None, end: float | None) -> tuple[Any, ...]:
        clips = _or_show(path, lambda: classify.preprocess(_given(path), start=start or None, end=end or None))
        [scores] = score_videos(model, [clips])
        answers = classify.postprocess(scores, top_k=NUM_CLASSES_SHOWN)
        rows = []
        for number, (weight, clip) in enumerate(zip(scores.weights, scores.clip_scores, strict=True), start=1):
            best = clip.argmax().item()
            rows.append([number, f"{weight:.0%}", names[best], round(clip[best].item(), 3)])
        part = "".join(f", {edge}={value:g}" for edge, value in (("start", start), ("end", end)) if value)
        code = CODE.format(model=name, video=Path(path).name, part=part)
        shown = {answer["label"]: answer["score"] for answer in answers}
        return shown, rows, json.dumps(answers, indent=2, ensure_ascii=False), code

    def find_actions(path: str | None, seconds: float) -> list[list[object]]:
        options = {"window": seconds, "stride": seconds / 4, "progress": False}
        windows, scores = _or_show(
            path, lambda: score_windows(model, classify.video_processor, _given(path), **options)
        )
        segments = find_segments(windows, scores, names)
        return [[round(found.start, 2), round(found.end, 2), found.label, round(found.score, 4)] for found in segments]

    with gradio.Blocks(title="finegym: what does the gymnast do?") as page:
        gradio.Markdown(_introduction(name, names, drawn=bool(examples)))
        with gradio.Row():
            with gradio.Column():
                video = gradio.Video(label="Video", sources=["upload"], height=300)
                if examples:
                    gradio.Examples([[path] for path in examples], inputs=[video], label="Drawn gymnasts to try")
            with gradio.Column(), gradio.Tabs():
                with gradio.Tab("One action"):
                    with gradio.Row():
                        start = gradio.Number(label="from second", value=0, minimum=0, min_width=100)
                        end = gradio.Number(label="to second (0: to the end)", value=0, minimum=0, min_width=100)
                    button = gradio.Button("Classify", variant="primary")
                    answer = gradio.Label(label="Actions", num_top_classes=NUM_CLASSES_SHOWN)
                    with gradio.Accordion("What each clip of the video says", open=False):
                        clips = gradio.Dataframe(headers=CLIP_HEADERS, label="Clips", wrap=True)
                    with gradio.Accordion("The answer as JSON, and the code for it", open=False):
                        as_json = gradio.Code(label="Answer", language="json")
                        code = gradio.Code(label="Code", language="python")
                    outputs = [answer, clips, as_json, code]
                    button.click(classify_action, [video, start, end], outputs, api_name="classify")
                with gradio.Tab("A whole routine"):
                    seconds = gradio.Slider(0.5, 10, value=window, label="looked at as one action (seconds)")
                    button = gradio.Button("Find actions", variant="primary")
                    timeline = gradio.Dataframe(headers=TIMELINE_HEADERS, label="Timeline", wrap=True)
                    button.click(find_actions, [video, seconds], timeline, api_name="timeline")
        with gradio.Accordion(f"The {len(names)} classes", open=False):
            gradio.Markdown("\n".join(f"- {plain(label)}" for label in names))
    return page


def _introduction(name: str, names: Sequence[str], *, drawn: bool) -> str:
    lines = [
        "# What does the gymnast do?",
        f"A fine-grained classifier tells {len(names)} actions apart that may differ in half a turn. Give it a video "
        "of one action, or of a whole routine. Videos stay on this machine.",
    ]
    if drawn:
        lines.append("This model was trained on drawn gymnasts: do not expect it to know real ones.")
    lines.append(f"Model: {plain(name)}")
    return "\n\n".join(lines)


def _given(path: str | None) -> str:
    if path is None:
        raise ValueError("There is no video yet: upload one, or click on an example.")
    return path


def _or_show(path: str | None, compute: Callable[[], Any]) -> Any:
    """Run `compute`, and turn an error about a video into a message on the page, without the path of the upload."""
    try:
        return compute()
    except (ValueError, OSError) as error:
        reason = str(error) if path is None else str(error).replace(path, "The video")
        reason = re.sub(r"\[Errno \d+\] |: '(?:file:)?The video'", "", reason)  # FFmpeg's and the system's own words
        raise gradio.Error(reason, title="Not possible", print_exception=False) from error
