"""What to cut out of what: FineGym's annotation compared with the videos that are there."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from finegym.data.labels import Labels

from .annotations import EVENT_ID_LENGTH, VIDEO_ID_LENGTH, Annotation, segments_file
from .cutting import Cut, Job, VideoSource
from .sources import FoundVideos, by_known_id


@dataclass(frozen=True)
class Row:
    """One video that a data set should have, whether it can be made or not: its id and place in the index."""

    id: str
    split: str
    label: int
    group: str | None = None
    fold: int | None = None


@dataclass(frozen=True)
class Plan:
    """Everything that is known before the first frame is decoded.

    Attributes:
        labels: The classes.
        annotation_version: The version of the annotation: "v1.0", "v1.1" or "own".
        rows: Every video that there should be, given the ids of those that could be made, from which the validation
            videos are drawn.
        jobs: The videos that can be made, by source.
        missing: The videos that cannot be made -> the reason.
        refused: The files in the source that are not used -> the reason.
        ignored: The number of files that are not videos, by suffix.
        notes: What else the user should know.
    """

    labels: Labels
    annotation_version: str
    rows: Callable[[Set[str]], list[Row]]
    jobs: list[Job]
    missing: dict[str, str]
    refused: dict[str, str]
    ignored: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def plan_finegym(found: FoundVideos, annotation: Annotation, *, source: Path) -> Plan:
    """Match FineGym's sub-actions with video files named by their ids: full videos, events, sub-actions, in any
    mixture.

    A full video comes before the file of an event and this before that of a sub-action, because the later ones were
    already cut.

    Raises:
        ValueError: If no file of `source` can give a sub-action; the message gives the names expected.
    """
    sub_action_ids = [*annotation.train, *annotation.val]
    video_ids = {sub_action_id[:VIDEO_ID_LENGTH] for sub_action_id in sub_action_ids}
    event_ids = {sub_action_id[:EVENT_ID_LENGTH] for sub_action_id in sub_action_ids}
    known = by_known_id(found, [*sub_action_ids, *event_ids, *video_ids])
    cuts: dict[VideoSource, list[Cut]] = defaultdict(list)
    missing: dict[str, str] = {}
    for sub_action_id in sub_action_ids:
        chosen = _choose_source(sub_action_id, known, annotation)
        if isinstance(chosen, str):
            missing[sub_action_id] = chosen
        else:
            video, cut = chosen
            cuts[video].append(cut)
    if not cuts:
        raise ValueError(_nothing_fits(found, known, annotation, source))
    jobs = [Job(video, tuple(of_video)) for video, of_video in cuts.items()]
    rows = [
        Row(sub_action_id, split, label)
        for split, sub_actions in (("train", annotation.train), ("val", annotation.val))
        for sub_action_id, label in sub_actions.items()
    ]
    return Plan(annotation.labels, annotation.version, lambda finished: rows, jobs, missing, found.refused)


def _choose_source(
    sub_action_id: str, known: Mapping[str, VideoSource], annotation: Annotation
) -> tuple[VideoSource, Cut] | str:
    """Return where a sub-action comes from, or why it is not available."""
    file = f"clips/{sub_action_id}.mp4"
    video, event = known.get(sub_action_id[:VIDEO_ID_LENGTH]), known.get(sub_action_id[:EVENT_ID_LENGTH])
    segments = annotation.segments
    if segments and sub_action_id in segments.sub_actions:
        sub_action = segments.sub_actions[sub_action_id]
        if video:
            return video, Cut(sub_action_id, file, sub_action.start, sub_action.end)
        if event:
            offset = sub_action.event_offset
            return event, Cut(sub_action_id, file, sub_action.start - offset, sub_action.end - offset)
    if sub_action_id in known:
        return known[sub_action_id], Cut(sub_action_id, file)
    if not (video or event):
        return f"video absent: {sub_action_id[:VIDEO_ID_LENGTH]}"
    if not segments:
        return f"no times to cut it by: {segments_file(annotation.version)} is not there"
    return segments.problems.get(
        sub_action_id, f"no times to cut it by: it is not in {segments_file(annotation.version)}"
    )


def _nothing_fits(found: FoundVideos, known: Mapping[str, VideoSource], annotation: Annotation, source: Path) -> str:
    if known:
        return (
            f"{source} holds {len(known)} of the videos, but without {segments_file(annotation.version)} it is not "
            "known where in them the sub-actions are. `finegym fetch` gets it."
        )
    sub_action_id = next(iter(annotation.train))
    names = ", ".join(str(name) for name in list(found.videos)[:3]) or "no video file"
    return (
        f"{source} holds {len(found.videos)} videos ({names}), none of them named by an id of {annotation.name}. "
        f"Expected are full videos such as {sub_action_id[:VIDEO_ID_LENGTH]}.mp4, events such as "
        f"{sub_action_id[:EVENT_ID_LENGTH]}.mp4 or sub-actions such as {sub_action_id}.mp4, in folders or "
        "tar archives. Your own classes go through `finegym import`."
    )
