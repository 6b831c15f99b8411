"""The page of `finegym demo` and of a Space: one video, what models say about it, and why.

Importing this needs Gradio, the `demo` extra. The numbers come from `demo_answers`, the pictures from `demo_views`.
"""

import json
import os
import re
import shlex
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finegym.data.markdown import plain

from . import demo_answers, demo_views
from .demo_answers import ShownModel
from .demo_examples import draw_examples
from .demo_folder import MAX_AGE, private_folder


# Gradio reports every start to its makers unless it is told not to before its import.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
import gradio  # noqa: E402


FOLDER = Path(__file__).parent
# Visitors wait for one another up to this number, and larger uploads are refused.
MAX_WAITING = 64
MAX_FILE_SIZE = "200mb"
WINDOW = 2.5
# Okabe and Ito's; white words on it can be read.
BLUE = "#0072B2"
PROGRESS = gradio.Progress()
CODE = """from transformers import pipeline

for model in {models!r}:
    classify = pipeline("video-classification", model=model, trust_remote_code=True)
    for answer in classify({video!r}{part}):
        print(f"{{answer['score']:.2f}}  {{answer['label']}}")"""
PLACEHOLDER = '<p class="fg-empty">The answer appears here.</p>'
# What the browser adds to the arguments of a call: the part that the handles choose.
WITH_PART = "(video, start, end, ...rest) => [video, ...finegym.part(), ...rest]"


@dataclass(frozen=True)
class Page:
    """What visitors call: each function takes the values of the components and returns those that it changes.

    Attributes:
        models: The models that answer, side by side.
        examples: Title -> video file.
        folder: Where copies of videos that browsers do not play are kept.
    """

    models: Sequence[ShownModel]
    examples: Mapping[str, str]
    folder: str

    @property
    def titles(self) -> list[str]:
        """The kind of each model, with its name where that alone would not tell two apart."""
        kinds = [model.title for model in self.models]
        if len(set(kinds)) == len(kinds):
            return kinds
        return [f"{kind} ({model.short_name})" for kind, model in zip(kinds, self.models, strict=True)]

    def receive(self, path: str | None, start: float | None = None, end: float | None = None) -> tuple[Any, ...]:
        """Check a video that has just arrived, show it, and classify it."""
        unchanged = gradio.skip()
        if not path:
            return unchanged, "", PLACEHOLDER, "", "", "", ""
        try:
            admitted = demo_answers.admit(self.models[0], path, Path(self.folder))
        except (ValueError, OSError) as error:
            return unchanged, "", demo_views.trouble(_reason(error, path)), "", "", "", ""
        handles = demo_views.trim(admitted.duration, start, end, is_copy=admitted.is_copy)
        shown = admitted.path if admitted.is_copy or path in self.examples.values() else unchanged
        return shown, handles, *self.classify(admitted.path, start, end), "", ""

    def classify(self, path: str | None, start: float | None, end: float | None) -> tuple[str, str, str]:
        """Return the answer as a picture and as JSON, and the code for it."""

        def work() -> tuple[str, str, str]:
            duration = demo_answers.read_duration(self.models[0], _given(path))
            found = [demo_answers.answer(model, path, start, end) for model in self.models]
            picture = demo_views.answers(found, self.titles, duration)
            told = {"video": Path(path).name, "start": start, "end": end}
            told["answers"] = [answer.to_dict() for answer in found]
            part = "".join(f", {edge}={value:g}" for edge, value in (("start", start), ("end", end)) if value)
            code = CODE.format(models=[model.name for model in self.models], video=Path(path).name, part=part)
            return picture, json.dumps(told, indent=2, ensure_ascii=False), code

        return _or_told(path, work, lambda trouble: (trouble, "", ""))

    def explain(self, path: str | None, start: float | None, end: float | None) -> str:
        """Return what each model's answer rests on."""

        def work() -> str:
            demo_answers.read_duration(self.models[0], _given(path))  # one message where it cannot be read
            found = [demo_answers.why_not(model) or demo_answers.why(model, path, start, end) for model in self.models]
            return demo_views.reasons(found, self.titles)

        return _or_told(path, work, lambda trouble: trouble)

    def find_actions(
        self, path: str | None, start: float | None, end: float | None, window: float, progress=PROGRESS
    ) -> tuple[str, str, str]:
        """Return the actions of a whole routine as a picture and as JSON, and the command for it."""

        def work() -> tuple[str, str, str]:
            duration = demo_answers.read_duration(self.models[0], _given(path))
            found = []
            for number, model in enumerate(self.models):

                def report(done: int, total: int, number: int = number) -> None:
                    progress((number + done / total) / len(self.models), desc="Looking through the video")

                found.append(demo_answers.find_routine(model, path, window, start, end, report=report))
            told = [
                {"model": model.name, "segments": [segment.to_dict() for segment in segments]}
                for model, segments in zip(self.models, found, strict=True)
            ]
            options = "".join(f" --{edge} {value:g}" for edge, value in (("start", start), ("end", end)) if value)
            command = "\n".join(
                f"finegym predict {shlex.quote(Path(path).name)} --model {shlex.quote(model.name)} "
                f"--window {window:g} --min_score 0{options}"
                for model in self.models
            )
            picture = demo_views.routines(found, self.titles, duration)
            return picture, json.dumps(told, indent=2, ensure_ascii=False), command

        return _or_told(path, work, lambda trouble: (trouble, "", ""))

    def arrive(self, request: gradio.Request) -> tuple[Any, ...]:
        """Restore the settings of a link: `example`, `start` and `end` in seconds, `window`."""
        asked = dict(request.query_params)
        numbers = {}
        for name in ("start", "end", "window"):
            try:
                numbers[name] = float(asked[name])
            except (KeyError, ValueError):
                numbers[name] = None
        window = numbers["window"] if numbers["window"] is not None and 0.5 <= numbers["window"] <= 10 else WINDOW
        path = next((path for path in self.examples.values() if Path(path).stem == asked.get("example")), None)
        return *self.receive(path, numbers["start"], numbers["end"]), window


def build_page(models: Sequence[ShownModel], *, examples: Mapping[str, str], folder: str) -> gradio.Blocks:
    """Build the page without serving it.

    Args:
        models: One model, or two that answer side by side.
        examples: Title -> video file, to click on.
        folder: Where copies of videos that browsers do not play are kept.
    """
    page = Page(models, examples, folder)
    question = "What does the gymnast do?" if models[0].knows_gymnastics else "Which action is it?"
    age = int(MAX_AGE)
    with gradio.Blocks(title=f"finegym: {question}", analytics_enabled=False, delete_cache=(age, age)) as blocks:
        gradio.Markdown(_introduction(question, models), elem_id="intro")
        with gradio.Row():
            with gradio.Column(scale=4, min_width=300):
                video, handles, start, end = _input_side()
                with gradio.Row():
                    classify = gradio.Button("Classify", variant="primary", size="md", min_width=90)
                    explain = gradio.Button("Why?", size="md", min_width=70)
                    search = gradio.Button("Find all actions", size="md", min_width=140)
                chosen = _offer(examples, video)
            with gradio.Column(scale=5, min_width=300):
                answer = _shown("answer", PLACEHOLDER)
        routine = _shown("routine")
        reasons = _shown("reasons")
        told, code, window, link_button, link = _details(models)
        part, texts = [video, start, end], [told, code]
        everything = [video, handles, answer, *texts, routine, reasons]
        quick: dict[str, Any] = {"concurrency_id": "answer", "concurrency_limit": 1}
        for event in (video.upload, video.stop_recording, *chosen):
            event(page.receive, [video], everything, api_visibility="private", **quick)
        video.clear(page.receive, [video], everything, api_visibility="private", **quick)
        classify.click(page.classify, part, [answer, *texts], js=WITH_PART, api_name="classify", **quick)
        explain.click(page.explain, part, reasons, js=WITH_PART, api_name="explain", **quick)
        search.click(
            page.find_actions,
            [*part, window],
            [routine, *texts],
            js=WITH_PART,
            api_name="timeline",
            concurrency_id="search",  # so that nobody waits for another's routine
            concurrency_limit=1,
        )
        link_button.click(None, [video, window], link, js="(video, window) => finegym.link(video, window)")
        blocks.load(page.arrive, None, [*everything, window], api_visibility="private", **quick)
    return blocks.queue(max_size=MAX_WAITING)


def _input_side() -> tuple[gradio.Video, gradio.HTML, gradio.Number, gradio.Number]:
    webcam = gradio.WebcamOptions(mirror=False)
    video = gradio.Video(
        label="Video", sources=["upload", "webcam"], height=350, elem_id="video", webcam_options=webcam
    )
    handles = _shown("handles")
    start, end = (gradio.Number(visible=False, label=name) for name in ("start", "end"))
    return video, handles, start, end


def _shown(name: str, value: str = "") -> gradio.HTML:
    return gradio.HTML(value, elem_id=name, apply_default_css=False)


def _offer(examples: Mapping[str, str], video: gradio.Video) -> list[Callable]:
    """Show the examples, and return the events of their being chosen."""
    if not examples:
        return []
    paths = [[path] for path in examples.values()]
    shown = gradio.Examples(paths, [video], label="Drawn gymnasts to try", example_labels=list(examples))
    return [shown.load_input_event.then]


def _details(models: Sequence[ShownModel]) -> tuple[gradio.Code, gradio.Code, gradio.Slider, gradio.Button, Any]:
    with gradio.Accordion("Settings, and a link to them", open=False):
        window = gradio.Slider(0.5, 10, value=WINDOW, step=0.1, label="Seconds looked at as one action of a routine")
        with gradio.Row():
            button = gradio.Button("Make a link", min_width=120, scale=0)
            link = gradio.Textbox(
                label="Link (an example travels with it, a video of yours does not)", buttons=["copy"]
            )
    with gradio.Accordion("The answer as JSON, and the code for it", open=False):
        told = gradio.Code(label="Answer", language="json", max_lines=20)
        code = gradio.Code(label="Code", language="python")
    names = dict.fromkeys(name for model in models for name in model.class_names)
    with gradio.Accordion(f"The {len(names)} classes", open=False):
        gradio.Markdown("\n".join(f"- {plain(label)}" for label in names))
    return told, code, window, button, link


def _introduction(question: str, models: Sequence[ShownModel]) -> str:
    num_classes = len(models[0].class_names)
    told = (
        f"A fine-grained classifier tells {num_classes} actions apart that differ in details. Give it a video of one "
        "action, or of a whole routine; it is deleted within two hours."
    )
    if all(model.is_synthetic for model in models):
        told += " Trained on drawn gymnasts, it is not expected to know real ones."
    names = " · ".join(f"{plain(model.title)}: {plain(model.short_name)}" for model in models)
    return f"# {question}\n\n{told}\n\n{names}"


def _given(path: str | None) -> str:
    if not path:
        raise ValueError("There is no video yet: upload one, or click on an example.")
    return path


def _or_told(path: str | None, work: Callable[[], Any], tell: Callable[[str], Any]) -> Any:
    """Return what `work` returns, or the error about a video, which stays on the page until the next answer."""
    try:
        return work()
    except (ValueError, OSError) as error:
        return tell(demo_views.trouble(_reason(error, path)))


def _reason(error: Exception, path: str | None) -> str:
    """Return an error in words for a visitor, without the path of the upload."""
    reason = str(error) if path is None else str(error).replace(path, "The video")
    # FFmpeg's and the system's own words
    reason = re.sub(r"\[Errno \d+\] |: '(?:file:)?The video'", "", reason)
    if "not a readable video" in reason:
        reason += ". It may be cut off, or no video at all: try to play it, or save it again as MP4."
    return reason


def serve(
    models: Sequence[str],
    *,
    revision: str | None = None,
    device: str | None = None,
    host: str | None = None,
    port: int | None = None,
    quiet: bool = False,
) -> None:
    """Serve the page until the process is interrupted.

    Args:
        models: One or two checkpoint folders or Hub ids.
        revision: The commit, tag or branch of the Hub ids.
        device: The device to compute on; by default an accelerator if there is one.
        host: The address to listen at; by default the variable GRADIO_SERVER_NAME, or this machine alone.
        port: The port; by default the variable GRADIO_SERVER_PORT, or the first free one from 7860 on.
        quiet: Whether to print no address.

    Raises:
        ValueError: If a model cannot be loaded.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what visitors sent is deleted then, too
    with ExitStack() as stack:
        folder = stack.enter_context(private_folder())
        loaded = []
        for name in models:
            loaded.append(ShownModel.load(name, revision=revision, device=device))
            stack.callback(loaded[-1].close)
        examples = draw_examples(folder) if loaded[0].is_synthetic else {}
        page = build_page(loaded, examples=examples, folder=str(folder))
        page.launch(server_name=host, server_port=port, quiet=quiet, **launch_options(str(folder)))


def launch_options(folder: str) -> dict[str, Any]:
    """Return how the page is launched: with its style and script, and without anything from elsewhere."""
    return {
        "share": False,
        "max_file_size": MAX_FILE_SIZE,
        "allowed_paths": [folder],
        "footer_links": [],
        "css_paths": [FOLDER / "demo.css"],
        "head": f"<script>{(FOLDER / 'demo.js').read_text(encoding='utf-8')}</script>",
        "theme": gradio.themes.Default(
            primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ).set(button_primary_background_fill=BLUE, button_primary_background_fill_dark=BLUE),
    }
