"""`finegym predict`."""

import json
from pathlib import Path

from finegym.data.arguments import Count, UsageError
from finegym.data.files import expand_names, write_text
from finegym.data.text import safe_text
from finegym.paths import require_path_or_hub_id


def predict(
    videos: list[str],
    *,
    model: str,
    revision: str | None = None,
    top_k: Count = 5,
    num_clips: Count | None = None,
    start: float | None = None,
    end: float | None = None,
    batch_size: Count = 8,
    device: str | None = None,
    json: bool = False,
    window: float | None = None,
    stride: float | None = None,
    min_score: float = 0.5,
    srt: Path | None = None,
    video: Path | None = None,
) -> str:
    """Classify videos, or draw the timeline of a whole routine.

    Args:
        videos: Files, folders, patterns such as 'clips/*.mp4', or https addresses.
        model: The checkpoint folder or Hub id.
        revision: The commit, tag or branch of a Hub id.
        top_k: The number of classes to show.
        num_clips: The number of clips spread over each video, or over each window of a timeline. By default, it is the
            checkpoint's own, which is 8 in the paper, and 1 for each window.
        start: The second of the video to begin at.
        end: The second of the video to end at.
        batch_size: The number of clips in a forward pass.
        device: The device to compute on, such as cpu or cuda:1. By default, it is an accelerator if there is one.
        json: Print JSON in place of a table.
        window: Find the actions of a whole routine, looking at this many seconds as one action.
        stride: The seconds from one window to the next. By default, it is a quarter of the window.
        min_score: Leave stretches of a timeline blank whose best class scores less, from 0 to 1.
        srt: The folder to write the timelines to as subtitles (.srt) too.
        video: Write a copy of the video to this .mp4, with the top classes over its frames, or over each stretch of a
            timeline.

    Examples:
        finegym predict clip.mp4 --model outputs/synthgym/video_text
        finegym predict routine.mp4 --model outputs/synthgym/video_text --window 2 --video labeled.mp4
    """
    if window is None and (srt is not None or stride is not None):
        raise UsageError("--stride and --srt belong to a timeline: give --window SECONDS.")
    if video is not None and video.suffix.lower() != ".mp4":
        raise UsageError(f"--video must end in .mp4, not {video.name}.")
    names = expand_names(videos)
    if video is not None and len(names) > 1:
        raise UsageError(f"--video writes one video, and {len(names)} are given.")
    if video is not None and Path(names[0]).exists() and video.exists() and video.samefile(names[0]):
        raise UsageError(f"--video {video} would replace the video itself: give another name.")
    files = [f"{Path(name).stem}.srt" for name in names]
    if srt is not None and len(set(files)) < len(files):
        repeated = next(file for file in files if files.count(file) > 1)
        raise ValueError(f"Several videos would write {repeated}: give them one by one, with a folder each.")
    require_path_or_hub_id(model, "checkpoint folder")
    from finegym.evaluation.predict import predict, predict_timelines

    shared = {"model": model, "revision": revision, "start": start, "end": end}
    shared |= {"batch_size": batch_size, "device": device}
    if window is None:
        answers = predict(names, top_k=top_k, num_clips=num_clips, decode_apart=True, **shared)
        if video is not None:
            _draw(answers[0], video, start, end)
        return _as_json(answers) if json else _as_table(answers)
    timeline = {"window": window, "stride": stride, "min_score": min_score, "num_clips": num_clips or 1}
    timeline |= {"draw": video, "top_k": top_k}
    found = predict_timelines(names, **timeline, **shared)
    if srt is not None:
        from finegym.evaluation.timeline import to_subtitles

        for file, segments in zip(files, found.values(), strict=True):
            if not isinstance(segments, str):
                write_text(srt / file, to_subtitles(segments))
    if json:
        return _as_json(
            [
                {"video": name, "error": segments}
                if isinstance(segments, str)
                else {"video": name, "segments": [segment.to_dict() for segment in segments]}
                for name, segments in found.items()
            ]
        )
    return "\n\n".join(_as_timeline(name, segments) for name, segments in found.items())


def _as_timeline(name: str, segments: list | str) -> str:
    name = safe_text(name, one_line=True)
    if isinstance(segments, str):
        return f"{name}  not read: {safe_text(segments, one_line=True)}"
    return "\n".join([name, *map(str, segments)])


def _draw(answer: dict, path: Path, start: float | None, end: float | None) -> None:
    from finegym.evaluation.labelled_video import LabelledStretch, write_labelled_video

    classes = [(score["label"], score["score"]) for score in answer["scores"]]
    whole = LabelledStretch(0.0, float("inf"), classes)
    write_labelled_video(answer["video"], path, [whole], start=start, end=end)


def _as_json(answers: list[dict]) -> str:
    return json.dumps(answers, indent=2, ensure_ascii=False)


def _as_table(answers: list[dict]) -> str:
    width = max(len(safe_text(answer["video"], one_line=True)) for answer in answers)
    lines = []
    for answer in answers:
        name = safe_text(answer["video"], one_line=True)
        if "error" in answer:
            lines.append(f"{name:{width}}  not read: {safe_text(answer['error'], one_line=True)}")
        for score in answer.get("scores", ()):
            lines.append(f"{name:{width}}  {score['score']:6.4f}  {score['label']}")
            name = ""
    return "\n".join(lines)
