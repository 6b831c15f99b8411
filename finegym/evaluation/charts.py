"""The interactive charts of a report, as plotly figures without colors and fonts of the page: the page gives them its
own, and shortens the names of rows to its width. The text under the pointer has them in full.

The palette is Okabe and Ito's, which color-blind readers can tell apart (https://jfly.uni-koeln.de/color).
"""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike
from plotly.subplots import make_subplots

from finegym.data.labels import Labels

from .analysis import GroupAccuracy, hierarchical_order, ordered_confusion, set_spans
from .metrics import Interval, calibration, per_class_accuracy
from .pictures import BLUE, GREEN, MAX_NAMED_CLASSES, ORANGE, VERMILION


LEGEND_ABOVE = {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "traceorder": "normal"}


def intervals_chart(rows: Sequence[tuple[str, str, Interval]]) -> go.Figure:
    """Return the metrics with their 95 % bootstrap intervals: one point for each (model, metric, interval)."""
    figure = go.Figure()
    for color, metric in zip((BLUE, ORANGE, GREEN), dict.fromkeys(metric for _, metric, _ in rows), strict=False):
        chosen = [(model, interval) for model, name, interval in rows if name == metric]
        values = [interval.value for _, interval in chosen]
        figure.add_scatter(
            name=metric,
            x=values,
            y=[model for model, _ in chosen],
            error_x={
                "array": [interval.high - interval.value for _, interval in chosen],
                "arrayminus": [interval.value - interval.low for _, interval in chosen],
            },
            mode="markers",
            orientation="h",
            marker={"size": 10, "color": color},
            customdata=[(interval.low, interval.high) for _, interval in chosen],
            hovertemplate="%{y}: %{x:.1f} % (95 %: %{customdata[0]:.1f} to %{customdata[1]:.1f})"
            "<extra>%{fullData.name}</extra>",
        )
    # the metrics of a row are a little apart, or their intervals would cover one another
    figure.update_layout(
        height=150 + 45 * len({model for model, _, _ in rows}), xaxis_title="percent", scattermode="group"
    )
    figure.update_layout(legend=LEGEND_ABOVE)
    # grouped points would draw the axis from zero on
    figure.update_xaxes(range=[min(row[2].low for row in rows) - 1, max(row[2].high for row in rows) + 1])
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False)
    return figure


def groups_chart(groups: Sequence[GroupAccuracy]) -> go.Figure:
    """Return the accuracy within groups of classes and, where it is known, how often the right group is found."""
    names = [group.name for group in groups]
    counts = [group.num_videos for group in groups]
    figure = go.Figure()
    series = [("right class", BLUE, [group.top1 for group in groups])]
    if all(group.found is not None for group in groups):
        series.append(("right group", ORANGE, [group.found for group in groups]))
    for name, color, values in series:
        figure.add_bar(
            name=name,
            x=values,
            y=names,
            orientation="h",
            marker_color=color,
            customdata=counts,
            hovertext=names,
            hovertemplate="%{hovertext}: %{x:.1f} % of %{customdata} videos<extra>" + name + "</extra>",
        )
    figure.update_layout(
        height=130 + 22 * len(series) * len(groups),
        barmode="group",
        showlegend=len(series) > 1,
        legend=LEGEND_ABOVE,
    )
    figure.update_xaxes(range=[0, 100], title="percent")
    figure.update_yaxes(autorange="reversed", automargin=True, dtick=1, showgrid=False)
    return figure


def classes_chart(
    scores: ArrayLike, labels: ArrayLike, classes: Labels, num_training_videos: Sequence[int] | None
) -> go.Figure:
    """Return the accuracy of every class as bars that a menu sorts by accuracy, by relationship or by training
    videos."""
    accuracy = per_class_accuracy(scores, labels)
    counts = np.bincount(np.asarray(labels), minlength=len(accuracy))
    present = [class_id for class_id in hierarchical_order(classes) if counts[class_id]]
    orders = {
        "by accuracy": sorted(present, key=lambda class_id: accuracy[class_id]),
        "by event and set": present,
    }
    if num_training_videos is not None:
        orders["by training videos"] = sorted(present, key=lambda class_id: num_training_videos[class_id])
    training = num_training_videos if num_training_videos is not None else ["?"] * len(accuracy)

    named = len(present) <= MAX_NAMED_CLASSES
    values, names = ("x", "y") if named else ("y", "x")

    def bars(order: Sequence[int]) -> dict[str, list]:
        return {
            names: [[classes.names[class_id] for class_id in order]],
            "hovertext": [[classes.names[class_id] for class_id in order]],
            values: [[float(accuracy[class_id]) for class_id in order]],
            "customdata": [[(int(counts[class_id]), training[class_id]) for class_id in order]],
        }

    first = bars(orders["by accuracy"])
    figure = go.Figure(
        go.Bar(
            **{key: value[0] for key, value in first.items()},
            orientation="h" if named else "v",
            marker_color=BLUE,
            hovertemplate=f"%{{hovertext}}: %{{{values}:.1f}} % of %{{customdata[0]}} videos "
            "(%{customdata[1]} to train on)<extra></extra>",
        )
    )
    buttons = [
        {"label": f"sorted {name}", "method": "restyle", "args": [bars(order)]} for name, order in orders.items()
    ]
    menu = {"buttons": buttons, "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "pad": {"b": 8}}
    figure.update_layout(height=130 + 20 * len(present) if named else 340, updatemenus=[menu], bargap=0.15)
    share_axis, name_axis = (
        (figure.update_xaxes, figure.update_yaxes)
        if named
        else (
            figure.update_yaxes,
            figure.update_xaxes,
        )
    )
    share_axis(range=[0, 100], title="percent right")
    name_axis(
        showticklabels=named,
        automargin=True,
        dtick=1,
        showgrid=False,
        title=None if named else "class (hover for its name)",
    )
    if named:
        figure.update_yaxes(autorange="reversed")
    return figure


def reliability_chart(scores: ArrayLike, labels: ArrayLike) -> go.Figure:
    """Draw the accuracy against the confidence in bins of equal width, above the number of videos in each bin."""
    result = calibration(scores, labels)
    num_bins = len(result.num_videos)
    centers = (np.arange(num_bins) + 0.5) * 100 / num_bins
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.72, 0.28], vertical_spacing=0.05)
    figure.add_bar(
        x=centers,
        y=result.accuracy,
        width=100 / num_bins,
        marker_color=BLUE,
        customdata=np.stack([result.confidence, result.num_videos], axis=1),
        hovertemplate="confidence %{customdata[0]:.1f} %: %{y:.1f} % right, %{customdata[1]} videos<extra></extra>",
        row=1,
        col=1,
    )
    figure.add_scatter(
        x=[0, 100], y=[0, 100], mode="lines", line={"dash": "dot", "color": VERMILION}, hoverinfo="skip", row=1, col=1
    )
    figure.add_bar(
        x=centers,
        y=result.num_videos,
        width=100 / num_bins,
        marker_color=ORANGE,
        hovertemplate="%{y} videos<extra></extra>",
        row=2,
        col=1,
    )
    figure.update_layout(height=430, showlegend=False, bargap=0)
    figure.update_xaxes(range=[0, 100])
    figure.update_xaxes(title="confidence in percent", row=2)
    figure.update_yaxes(range=[0, 100], title="percent right", row=1)
    figure.update_yaxes(title="videos", row=2)
    return figure


def confusion_chart(scores: ArrayLike, labels: ArrayLike, classes: Labels) -> go.Figure:
    """Return the share of each class's videos (rows) taken for each class (columns), related classes side by side."""
    order, counts, shares = ordered_confusion(scores, labels, classes)
    names = [classes.names[class_id] for class_id in order]
    places = list(range(len(order)))
    figure = go.Figure(
        go.Heatmap(
            z=np.round(shares, 1),
            x=places,
            y=places,
            zmin=0,
            zmax=100,
            colorscale="Cividis",
            customdata=counts,
            text=[[f"{true}<br>taken for {predicted}" for predicted in names] for true in names]
            if len(names) <= 100
            else None,
            hovertemplate="%{text}<br>%{customdata} videos, %{z} %<extra></extra>"
            if len(names) <= 100
            else "row %{y}, column %{x}: %{customdata} videos, %{z} %<extra></extra>",
            colorbar={"title": "percent<br>of the class", "thickness": 14},
        )
    )
    if len(names) <= MAX_NAMED_CLASSES:
        ticks, columns = places, [str(place + 1) for place in places]
        texts = [f"{name}  {number}" for name, number in zip(names, columns, strict=True)]
    else:  # the sets in place of the classes
        spans = set_spans(order, classes)
        ticks = [(start + stop - 1) / 2 for _, start, stop in spans]
        columns = texts = [name for name, _, _ in spans]
        for _, start, _ in spans[1:]:
            line = {"color": "rgba(255,255,255,0.55)", "width": 1}
            figure.add_hline(y=start - 0.5, line=line)
            figure.add_vline(x=start - 0.5, line=line)
    figure.update_layout(height=760 if len(names) <= MAX_NAMED_CLASSES else 900)
    figure.update_xaxes(tickvals=ticks, ticktext=columns, automargin=True, title="predicted", showgrid=False)
    figure.update_yaxes(
        tickvals=ticks, ticktext=texts, autorange="reversed", automargin=True, title="true", showgrid=False
    )
    return figure


def gains_chart(gains: np.ndarray, classes: Labels, *, count: int = 15) -> go.Figure:
    """Return the classes that gained and lost most between two models, in points."""
    order = [class_id for class_id in np.argsort(-gains) if gains[class_id] == gains[class_id] and gains[class_id]]
    chosen = order if len(order) <= 2 * count else [*order[:count], *order[-count:]]
    figure = go.Figure(
        go.Bar(
            x=[float(gains[class_id]) for class_id in chosen],
            y=[classes.names[class_id] for class_id in chosen],
            orientation="h",
            marker_color=[BLUE if gains[class_id] > 0 else VERMILION for class_id in chosen],
            hovertext=[classes.names[class_id] for class_id in chosen],
            hovertemplate="%{hovertext}: %{x:+.1f} points<extra></extra>",
        )
    )
    figure.update_layout(height=130 + 22 * len(chosen))
    figure.update_xaxes(title="points of the class's accuracy")
    figure.update_yaxes(autorange="reversed", automargin=True, dtick=1, showgrid=False)
    return figure
