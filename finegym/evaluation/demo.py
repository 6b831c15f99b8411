"""A page that classifies uploaded videos. Importing this needs Gradio, the `demo` extra."""

import os

from transformers import Pipeline

from .timeline import find_segments, score_windows


# Gradio reports every start to its makers unless it is told not to before its import.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
import gradio  # noqa: E402


def build_page(classify: Pipeline, *, title: str, window: float = 2.5):
    """Build the page without serving it: one tab for a single action, one for the timeline of a routine.

    Args:
        classify: The pipeline that classifies videos.
        title: The title of the page, in Markdown.
        window: The number of seconds that are looked at as one action in a routine.
    """
    model = classify.model
    names = [model.config.id2label[label] for label in range(model.config.num_labels)]

    def classify_action(path: str | None, start: float | None, end: float | None) -> dict[str, float]:
        answers = _or_show(lambda: classify(_given(path), start=start or None, end=end or None))
        return {answer["label"]: answer["score"] for answer in answers}

    def find_actions(path: str | None, seconds: float) -> list[list[object]]:
        options = {"window": seconds, "stride": seconds / 4, "progress": False}
        windows, scores = _or_show(lambda: score_windows(model, classify.video_processor, _given(path), **options))
        segments = find_segments(windows, scores, names, min_score=0.5)
        return [[round(found.start, 2), round(found.end, 2), found.label, round(found.score, 4)] for found in segments]

    with gradio.Blocks(title="Fine-grained action recognition") as page:
        gradio.Markdown(f"# {title}\n{len(names)} classes. Videos stay on this machine.")
        with gradio.Tab("One action"):
            video = gradio.Video(label="Video", sources=["upload"], height=320)
            with gradio.Row():
                start = gradio.Number(label="from second", value=0, minimum=0)
                end = gradio.Number(label="to second (0: to the end)", value=0, minimum=0)
            button = gradio.Button("Classify")
            answer = gradio.Label(label="Actions", num_top_classes=5)
            button.click(classify_action, [video, start, end], answer, api_name="classify")
        with gradio.Tab("A whole routine"):
            routine = gradio.Video(label="Video", sources=["upload"], height=320)
            seconds = gradio.Slider(0.5, 10, value=window, label="window in seconds")
            button = gradio.Button("Find actions")
            headers = ["start", "end", "action", "score"]
            timeline = gradio.Dataframe(headers=headers, label="Timeline", wrap=True)
            button.click(find_actions, [routine, seconds], timeline, api_name="timeline")
    return page


def _given(path: str | None) -> str:
    if path is None:
        raise ValueError("Upload a video first.")
    return path


def _or_show(compute):
    """Run `compute`, and turn an error about a video into a message on the page."""
    try:
        return compute()
    except (ValueError, OSError) as error:
        raise gradio.Error(str(error)) from error
