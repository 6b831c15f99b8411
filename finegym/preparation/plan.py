"""What is to be cut out of what: FineGym's annotation set against the videos that are there."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from finegym.data.labels import Labels

from .annotations import EVENT_ID_LENGTH, VIDEO_ID_LENGTH, Annotation, segments_file
from .cutting import Cut, Job, VideoSource
from .sources import FoundVideos, by_known_id


@dataclass(frozen=True)
class Plan:
    """All that is known before the first frame is decoded.

    Attributes:
        labels: the classes.
        annotation_version: "v1.0", "v1.1", or "own".
        expected: for each split, the class of every clip there should be.
        jobs: the clips that can be made, by source.
        missing: the clips that cannot -> the reason.
        refused: files in the source that are not used -> the reason.
    """

    labels: Labels
    annotation_version: str
    expected: dict[str, dict[str, int]]
    jobs: list[Job]
    missing: dict[str, str]
    refused: dict[str, str]


def plan_finegym(found: FoundVideos, annotation: Annotation, *, source: Path) -> Plan:
    """Match FineGym's clips with videos named by their ids: full videos, event clips, sub-action clips, in any
    mixture.

    A full video comes before an event clip and this before a sub-action clip, because the later ones are somebody's
    cut.

    Raises:
        ValueError: if no video of `source` can give a clip, with the names expected.
    """
    clip_ids = [*annotation.train, *annotation.val]
    video_ids = {clip_id[:VIDEO_ID_LENGTH] for clip_id in clip_ids}
    event_ids = {clip_id[:EVENT_ID_LENGTH] for clip_id in clip_ids}
    known = by_known_id(found, [*clip_ids, *event_ids, *video_ids])
    cuts: dict[VideoSource, list[Cut]] = defaultdict(list)
    missing: dict[str, str] = {}
    for clip_id in clip_ids:
        chosen = _choose_source(clip_id, known, annotation)
        if isinstance(chosen, str):
            missing[clip_id] = chosen
        else:
            video, cut = chosen
            cuts[video].append(cut)
    if not cuts:
        raise ValueError(_nothing_fits(found, known, annotation, source))
    jobs = [Job(video, tuple(of_video)) for video, of_video in cuts.items()]
    expected = {"train": annotation.train, "val": annotation.val}
    return Plan(annotation.labels, annotation.version, expected, jobs, missing, found.refused)


def _choose_source(
    clip_id: str, known: Mapping[str, VideoSource], annotation: Annotation
) -> tuple[VideoSource, Cut] | str:
    """Where a clip comes from, or why it cannot be had."""
    file = f"clips/{clip_id}.mp4"
    video, event = known.get(clip_id[:VIDEO_ID_LENGTH]), known.get(clip_id[:EVENT_ID_LENGTH])
    segments = annotation.segments
    if segments and clip_id in segments.sub_actions:
        sub_action = segments.sub_actions[clip_id]
        if video:
            return video, Cut(clip_id, file, sub_action.start, sub_action.end)
        if event:
            offset = sub_action.event_offset
            return event, Cut(clip_id, file, sub_action.start - offset, sub_action.end - offset)
    if clip_id in known:
        return known[clip_id], Cut(clip_id, file)
    if not (video or event):
        return f"video absent: {clip_id[:VIDEO_ID_LENGTH]}"
    if not segments:
        return f"no times to cut it by: {segments_file(annotation.version)} is not there"
    return segments.problems.get(clip_id, f"no times to cut it by: it is not in {segments_file(annotation.version)}")


def _nothing_fits(found: FoundVideos, known: Mapping[str, VideoSource], annotation: Annotation, source: Path) -> str:
    if known:
        return (
            f"{source} holds {len(known)} of the videos, but without {segments_file(annotation.version)} nobody knows "
            "where in them the clips are. `finegym fetch` gets it."
        )
    clip_id = next(iter(annotation.train))
    names = ", ".join(str(name) for name in list(found.videos)[:3]) or "no video file"
    return (
        f"{source} holds {len(found.videos)} videos ({names}), none of them named by an id of {annotation.name}. "
        f"Expected are full videos such as {clip_id[:VIDEO_ID_LENGTH]}.mp4, event clips such as "
        f"{clip_id[:EVENT_ID_LENGTH]}.mp4 or clips such as {clip_id}.mp4, in folders or tar archives. Your own "
        "classes go through `finegym import`."
    )
