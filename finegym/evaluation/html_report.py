"""The report of one or several evaluations as a single HTML file that opens from disk, without a network.

In: scores of models on the same videos. Out: one page with charts that can be hovered and sorted, the worst confusions
with pictures, and films of the mistakes that were made with the highest confidence. A content security policy in the
page forbids every address but those inside the file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finegym.data.files import write_text
from finegym.data.index import Video
from finegym.data.labels import Labels

from . import analysis, charts, media
from .metrics import bootstrap_interval, calibration, paired_difference
from .pages import render_page


HTML_FILE = "report.html"
TEMPLATE = Path(__file__).with_name("report_template.html")


@dataclass(frozen=True)
class ModelScores:
    """The predictions of one model for the videos of a report: `scores` (N, C) are class probabilities."""

    name: str
    scores: np.ndarray


@dataclass(frozen=True)
class ReportData:
    """The videos that all models of a report were evaluated on.

    Attributes:
        classes: The classes of the data set.
        ids: The ids of the N videos.
        labels: The true class ids (N,).
        description: One sentence on what was evaluated.
        videos: The videos by id, for pictures; without them the report has none.
        num_training_videos: The number of training videos of each class; None where it is not known.
    """

    classes: Labels
    ids: Sequence[str]
    labels: np.ndarray
    description: str
    videos: Mapping[str, Video] | None = None
    num_training_videos: Sequence[int] | None = None


def write_html_report(path: str | Path, data: ReportData, models: Sequence[ModelScores]) -> None:
    """Write the report of one or several models; the first is the baseline of every comparison.

    Raises:
        ValueError: If there is no model, or a model has another number of videos or classes than the data.
    """
    from plotly.offline import get_plotlyjs  # imported only to draw

    _check(data, models)
    figures: dict[str, Any] = {"intervals": charts.intervals_chart(_interval_rows(data, models))}
    pictures = _Pictures(data)
    sections = [_section(position, model, data, figures, pictures) for position, model in enumerate(models, start=1)]
    comparisons = [_comparison(model, models[0], data, figures) for model in models[1:]]
    content = render_page(
        TEMPLATE,
        title=_title([model.name for model in models]),
        subtitle=data.description,
        models=sections,
        comparisons=comparisons,
        library=get_plotlyjs(),
        charts=_embedded(figures),
    )
    write_text(path, content)


def _title(names: Sequence[str]) -> str:
    if len(names) > 3:
        return f"{len(names)} models"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _check(data: ReportData, models: Sequence[ModelScores]) -> None:
    if not models:
        raise ValueError("A report needs at least one model.")
    shape = (len(data.ids), len(data.classes.classes))
    for model in models:
        if model.scores.shape != shape:
            raise ValueError(
                f"{model.name} has scores of shape {model.scores.shape}; {shape[0]} videos and {shape[1]} classes "
                "were evaluated. Evaluate all models on the same videos."
            )


def _interval_rows(data: ReportData, models: Sequence[ModelScores]) -> list[tuple[str, str, Any]]:
    names = {"top1": "top-1", "mean_class_accuracy": "mean class accuracy"}
    return [
        (model.name, name, bootstrap_interval(model.scores, data.labels, metric=metric))
        for model in models
        for metric, name in names.items()
    ]


def _section(
    position: int, model: ModelScores, data: ReportData, figures: dict[str, Any], pictures: "_Pictures"
) -> dict[str, Any]:
    scores, labels, classes = model.scores, data.labels, data.classes
    parts: list[tuple[str, str, str, Any]] = [
        (
            "classes",
            "Accuracy of each class",
            "",
            charts.classes_chart(scores, labels, classes, data.num_training_videos),
        )
    ]
    for key, name, groups in (
        ("events", "event", [action.event for action in classes.classes]),
        ("sets", "set", [action.set_name for action in classes.classes]),
    ):
        found = analysis.group_accuracies(scores, labels, groups)
        if len(found) > 1:
            text = f"How often the element is right, and how often at least the {name} is."
            parts.append((key, f"By {name}", text, charts.groups_chart(found)))
    if data.num_training_videos is not None:
        found = analysis.frequency_accuracies(scores, labels, data.num_training_videos)
        text = "" if len(found) > 1 else "All classes of this data set are in one group."
        parts.append(("frequency", "By number of training videos of the class", text, charts.groups_chart(found)))
    found = analysis.attribute_accuracies(scores, labels, classes)
    if found:
        text = "The accuracy on the videos whose class has the attribute, worst first."
        parts.append(("attributes", "By attribute", text, charts.groups_chart(found)))
    error = calibration(scores, labels).error
    text = (
        f"Expected calibration error: {error:.1f} points. On the dotted line the confidence can be taken at its word."
    )
    parts.append(("reliability", "Can the confidence be believed?", text, charts.reliability_chart(scores, labels)))
    text = "Rows are true classes and columns predictions, ordered by event and set; hover for the names."
    parts.append(("confusion", "Confusion matrix", text, charts.confusion_chart(scores, labels, classes)))
    for key, _, _, figure in parts:
        figures[f"{key}-{position}"] = figure
    return {
        "name": model.name,
        "tiles": _tiles(scores, data),
        "charts": [{"key": f"{key}-{position}", "title": title, "text": text} for key, title, text, _ in parts],
        "confusions": [_confusion_row(pair, data, pictures) for pair in analysis.worst_confusions(scores, labels)],
        "mistakes": [_mistake(place, scores, data, pictures) for place in analysis.confident_mistakes(scores, labels)]
        if data.videos
        else [],
    }


def _tiles(scores: np.ndarray, data: ReportData) -> list[dict[str, str]]:
    def interval(metric: str) -> str:
        bounds = bootstrap_interval(scores, data.labels, metric=metric)
        return f"{bounds.low:.1f} to {bounds.high:.1f}"

    values = analysis.summary(scores, data.labels)
    mean_class = bootstrap_interval(scores, data.labels, metric="mean_class_accuracy").value
    tiles = [{"name": "top-1", "value": f"{values['top1']:.1f} %", "interval": interval("top1")}]
    if "top5" in values:
        tiles.append({"name": "top-5", "value": f"{values['top5']:.1f} %", "interval": interval("top5")})
    tiles += [
        {"name": "mean class accuracy", "value": f"{mean_class:.1f} %", "interval": interval("mean_class_accuracy")},
        {"name": "calibration error", "value": f"{calibration(scores, data.labels).error:.1f}", "interval": "points"},
        {"name": "videos", "value": f"{len(data.ids):,}", "interval": f"of {len(data.classes.classes)} classes"},
    ]
    return tiles


def _confusion_row(pair: analysis.Confusion, data: ReportData, pictures: "_Pictures") -> dict[str, Any]:
    true, predicted = data.classes.names[pair.true], data.classes.names[pair.predicted]
    marked, marked_predicted = analysis.differing_words(true, predicted)
    return {
        "true": marked,
        "predicted": marked_predicted,
        "true_name": true,
        "predicted_name": predicted,
        "true_picture": pictures.of_class(pair.true),
        "predicted_picture": pictures.of_class(pair.predicted),
        "num_videos": pair.num_videos,
        "num_true": pair.num_true,
        "share": 100 * pair.num_videos / pair.num_true,
    }


def _mistake(place: int, scores: np.ndarray, data: ReportData, pictures: "_Pictures") -> dict[str, Any]:
    predicted = int(scores[place].argmax())
    return {
        "id": data.ids[place],
        "film": pictures.film(data.ids[place]),
        "poster": pictures.poster(data.ids[place]),
        "confidence": round(100 * float(scores[place, predicted])),
        "predicted": data.classes.names[predicted],
        "true": data.classes.names[int(data.labels[place])],
    }


def _comparison(
    model: ModelScores, baseline: ModelScores, data: ReportData, figures: dict[str, Any]
) -> dict[str, Any]:
    difference = paired_difference(model.scores, baseline.scores, data.labels)
    test = analysis.mcnemar(model.scores, baseline.scores, data.labels)
    chart = f"gains-{model.name}"
    gains = analysis.class_gains(model.scores, baseline.scores, data.labels)
    figures[chart] = charts.gains_chart(gains, data.classes)

    def points(interval) -> str:
        return f"{interval.value:+.1f} ({interval.low:+.1f} to {interval.high:+.1f})"

    return {
        "name": model.name,
        "baseline": baseline.name,
        "top1": points(difference.top1),
        "mean_class_accuracy": points(difference.mean_class_accuracy),
        "num_videos": f"{len(data.ids):,}",
        "test": test,
        "p_value": f"{test.p_value:.2g}",
        "chart": chart,
    }


class _Pictures:
    """Thumbnails and films of the report's videos, each made once."""

    def __init__(self, data: ReportData):
        self.data = data
        self._thumbnails: dict[int, str | None] = {}
        self._films: dict[str, str | None] = {}

    def of_class(self, label: int) -> str | None:
        """Return three frames of the first video of a class that can be read; None if there is none."""
        if self.data.videos is None:
            return None
        if label not in self._thumbnails:
            ids = (self.data.ids[place] for place in np.flatnonzero(np.asarray(self.data.labels) == label)[:3])
            found = (media.thumbnails(self.data.videos[video_id]) for video_id in ids if video_id in self.data.videos)
            self._thumbnails[label] = next((picture for picture in found if picture is not None), None)
        return self._thumbnails[label]

    def poster(self, video_id: str) -> str | None:
        """Return the picture that is shown until a film is played: the frame in the middle of the video."""
        video = (self.data.videos or {}).get(video_id)
        return None if video is None else media.thumbnails(video, count=1, short_side=media.SHORT_SIDE)

    def film(self, video_id: str) -> str | None:
        if video_id not in self._films:
            video = (self.data.videos or {}).get(video_id)
            self._films[video_id] = None if video is None else media.film(video)
        return self._films[video_id]


def _embedded(figures: Mapping[str, Any]) -> str:
    """Return the charts as JSON that is safe inside a script element: it has no `<` that could end it."""
    import plotly.io

    parts = (f"{plotly.io.json.to_json_plotly(key)}:{figure.to_json()}" for key, figure in figures.items())
    return ("{" + ",".join(parts) + "}").replace("<", "\\u003c")
