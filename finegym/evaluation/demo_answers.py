"""What the page of `finegym demo` says about one video: its top classes, its clips, why, and the actions of a routine.

In: a video file that a stranger uploaded, and models. Out: plain numbers, which `demo_views` draws and `to_dict` makes
JSON of. Files are only opened in the models' decoding processes, and videos beyond the limits below are refused.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from finegym.architectures import find_architecture
from finegym.data.checkpoints import load_labels
from finegym.data.labels import Labels
from modeling_finegym import FineGymPipeline
from modeling_finegym.clip_scoring import VideoClips, score_videos

from .apart import ApartProcessor
from .clips import Clip, convert, load_middle_clip, load_timed_clips, load_windows, read_facts
from .demo_folder import new_copy
from .explain import Explanation, check_explainable, explain_clip
from .predict import load_pipeline
from .timeline import Segment, find_segments, slide


NUM_CLASSES_SHOWN = 5
# The longest video, in seconds, and its largest frames, 4K film; a phone's 4K has fewer pixels.
MAX_LENGTH, MAX_PIXELS = 600.0, 4096 * 2304
# Seconds that decoding one part of a video, or searching one routine, may take.
MAX_DECODING, MAX_SEARCH = 60.0, 180.0
# The short side in pixels of the copy of a video that browsers do not play.
COPY_SHORT_SIDE = 480
# Windows of a routine in a forward pass.
BATCH_SIZE = 8


@dataclass(frozen=True)
class ShownModel:
    """A model of the page.

    Attributes:
        name: The checkpoint folder or Hub id.
        classify: Its pipeline, which decodes in a process of its own.
        labels: Its classes and their attributes; None where the checkpoint has no `labels.json`.
    """

    name: str
    classify: FineGymPipeline
    labels: Labels | None

    @classmethod
    def load(cls, name: str, *, revision: str | None = None, device: str | None = None) -> "ShownModel":
        """Load a checkpoint.

        Raises:
            ValueError: If the model cannot be loaded; the message names it.
        """
        classify = load_pipeline(name, revision=revision, device=device)
        classify.video_processor = ApartProcessor(classify.video_processor, seconds=MAX_DECODING)
        classify.video_processor.start()  # no visitor waits for its imports
        return cls(name, classify, load_labels(name, revision=revision))

    @property
    def class_names(self) -> list[str]:
        config = self.classify.model.config
        return [config.id2label[label] for label in range(config.num_labels)]

    @property
    def short_name(self) -> str:
        """The end of a folder's path, or the whole of a Hub id."""
        return "/".join(Path(self.name).parts[-2:])

    @property
    def title(self) -> str:
        """What kind of model it is."""
        config = self.classify.model.config
        row = find_architecture(config.model_type)
        return config.model_type if row is None else row.describe(row.title, config.to_dict())

    @property
    def is_synthetic(self) -> bool:
        """Whether it was trained on drawn gymnasts."""
        return self.labels is not None and self.labels.synthetic

    @property
    def knows_gymnastics(self) -> bool:
        return self.labels is not None and any(action.event for action in self.labels.classes)

    @property
    def decoder(self) -> ApartProcessor:
        return self.classify.video_processor

    def close(self) -> None:
        """End its decoding process."""
        self.decoder.close()


@dataclass(frozen=True)
class Admitted:
    """A video within the limits. `path` leads to what is shown and classified, which is a converted copy where
    browsers would not play the original; `duration` is in seconds."""

    path: str
    duration: float
    is_copy: bool


@dataclass(frozen=True)
class ClipAnswer:
    """What one clip says: its share of the answer, when its first and last frame are shown in seconds, and its best
    class."""

    weight: float
    start: float
    end: float
    label: str
    score: float


@dataclass(frozen=True)
class Answer:
    """What a model says about a video: the best classes, best first, and what each distinct clip says."""

    model: str
    scores: list[dict[str, Any]]
    clips: list[ClipAnswer]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def admit(model: ShownModel, path: str, folder: Path) -> Admitted:
    """Check a video against the limits, and convert it where browsers do not play it.

    Args:
        model: A model whose process reads the file.
        path: The file.
        folder: Where a converted copy goes.

    Raises:
        ValueError, OSError: If the video cannot be read or exceeds a limit; the message says which.
    """
    facts = _read_facts(model, path)
    duration, (width, height) = facts["duration"].item(), facts["size"].tolist()
    if duration > MAX_LENGTH:
        raise ValueError(
            f"{path} lasts {duration / 60:.1f} minutes; the limit of this page is {MAX_LENGTH / 60:.0f} minutes. "
            "Cut out the part with the action."
        )
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{path} has frames of {width} x {height} pixels; the limit of this page is 4096 x 2304. Make it smaller."
        )
    if facts["playable"].item():
        return Admitted(path, duration, is_copy=False)
    copy = str(new_copy(folder, f"{Path(path).stem}.mp4"))
    model.decoder.run(convert, path, copy, COPY_SHORT_SIDE)
    return Admitted(copy, read_duration(model, copy), is_copy=True)


def read_duration(model: ShownModel, path: str) -> float:
    """Return the length of a video in seconds.

    Raises:
        ValueError, OSError: If it cannot be read.
    """
    return _read_facts(model, path)["duration"].item()


def _read_facts(model: ShownModel, path: str) -> dict[str, torch.Tensor]:
    if Path(path).stat().st_size == 0:
        raise ValueError(f"{path} is empty: record or upload it again.")
    return model.decoder.run(read_facts, path)


def answer(model: ShownModel, path: str, start: float | None = None, end: float | None = None) -> Answer:
    """Classify a video, or the part of it between two times in seconds.

    Raises:
        ValueError, OSError: If the video cannot be read, or shows nothing in between.
    """
    loaded = model.decoder.run(load_timed_clips, path, start=start, end=end)
    clips = VideoClips(weights=loaded["weights"], pixel_values=loaded["pixel_values"].to(model.classify.dtype))
    [scores] = score_videos(model.classify.model, [clips])
    best = model.classify.postprocess(scores, top_k=NUM_CLASSES_SHOWN)
    said = []
    for weight, clip, times in zip(scores.weights.tolist(), scores.clip_scores, loaded["times"], strict=True):
        label = clip.argmax().item()
        # A short video begins again within a clip.
        extent = times.min().item(), times.max().item()
        said.append(ClipAnswer(weight, *extent, model.class_names[label], clip[label].item()))
    return Answer(model.name, best, said)


def why_not(model: ShownModel) -> str:
    """Return the sentence that says why a model cannot be explained; empty if it can."""
    try:
        check_explainable(model.classify.model, model.name)
    except ValueError as error:
        return str(error)
    return ""


def why(model: ShownModel, path: str, start: float | None = None, end: float | None = None) -> Explanation:
    """Explain the class of the clip in the middle.

    Raises:
        ValueError, OSError: If the video cannot be read.
    """
    loaded = model.decoder.run(load_middle_clip, path, start=start, end=end)
    clip = Clip(loaded["times"].tolist(), loaded["pixel_values"], loaded["frames"].numpy())
    return explain_clip(model.classify.model, clip, names=model.class_names, video=path, labels=model.labels)


def find_routine(
    model: ShownModel,
    path: str,
    window: float,
    start: float | None = None,
    end: float | None = None,
    *,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Segment]:
    """Find the actions of a whole routine; nothing is left out, however low its score.

    Args:
        model: The model.
        path: The file.
        window: The number of seconds that are looked at as one action; the stride is a quarter of it.
        start, end: The seconds of the file between which to look.
        report: A function that is told how many windows are done, and how many there are.

    Raises:
        ValueError, OSError: If the video cannot be read, or takes too long.
    """
    duration = read_duration(model, path)
    first, last = start or 0.0, min(duration, duration if end is None else end)
    if not first < last:
        raise ValueError(f"The video lasts {duration:.2f} s: there is nothing between {first:g} s and {last:g} s.")
    windows = slide(first, last, window=window, stride=window / 4)
    begun = time.monotonic()
    scores = []
    for place in range(0, len(windows), BATCH_SIZE):
        if time.monotonic() - begun > MAX_SEARCH:
            raise ValueError(
                f"After {MAX_SEARCH:.0f} s, the search had come to second {windows[place][0]:.0f} of {last:.0f}. "
                "Choose a shorter part, or look at more seconds as one action."
            )
        batch = windows[place : place + BATCH_SIZE]
        pixel_values = model.decoder.run(load_windows, path, batch)["pixel_values"].to(model.classify.dtype)
        single = [VideoClips(torch.ones(1), pixel_values=clip[None]) for clip in pixel_values]
        scores += [result.scores for result in score_videos(model.classify.model, single, BATCH_SIZE)]
        report(len(scores), len(windows))
    return find_segments(windows, torch.stack(scores), model.class_names)
