"""What a checkpoint sees in videos: the scores of single actions, or the timeline of a whole routine."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoModelForVideoClassification

from finegym.data.checkpoints import load_model, load_video_processor
from finegym.data.files import expand_names
from modeling_finegym import FineGymPipeline
from modeling_finegym.clip_scoring import VideoClips, score_videos

from .apart import apart
from .labelled_video import label_stretches, write_labelled_video
from .timeline import Segment, find_segments, score_windows, slide


def load_pipeline(
    model: str, *, revision: str | None = None, device: str | None = None, batch_size: int = 8
) -> FineGymPipeline:
    """Return the pipeline of a checkpoint folder or Hub id, with this project's own code: nothing downloaded is
    executed.

    Raises:
        ValueError: If the model cannot be loaded; the message names it.
    """
    check_device(device)
    return FineGymPipeline(
        model=load_model(model, AutoModelForVideoClassification, revision=revision),
        video_processor=load_video_processor(model, revision=revision),
        task="video-classification",
        device=device,
        batch_size=batch_size,
    )


def check_device(name: str | None) -> None:
    """Refuse a device that torch does not know or does not see on this machine.

    Raises:
        ValueError: If there is no such device; the message names it and those that there are.
    """
    if name is None:
        return
    kind = torch.accelerator.current_accelerator()
    seen = ["cpu"] + [f"{kind}:{index}" for index in range(torch.accelerator.device_count())] if kind else ["cpu"]
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or f"{device.type}:{device.index or 0}" not in [*seen, "cpu:0"]:
        raise ValueError(f"--device {name}: torch sees no such device here. It sees {', '.join(seen)}.")


def predict(
    videos: Sequence[str],
    *,
    model: str,
    revision: str | None = None,
    num_clips: int | None = None,
    top_k: int = 5,
    start: float | None = None,
    end: float | None = None,
    batch_size: int = 8,
    device: str | None = None,
    progress: bool = True,
    decode_apart: bool = False,
) -> list[dict[str, Any]]:
    """Classify videos under the paper's protocol.

    Args:
        videos: Files, folders, patterns or addresses, as `expand_names` takes them.
        model: A checkpoint folder or Hub id.
        revision: The commit, tag or branch of a Hub id.
        num_clips: The number of clips per video; by default the checkpoint's own number, the paper's eight.
        top_k: The number of classes to return.
        start, end: The seconds between which one action is shown.
        batch_size: The number of clips, of several videos, in a forward pass.
        device: The device, such as "cuda:1" or "cpu"; by default an accelerator if there is one.
        progress: Whether to show a bar.
        decode_apart: Whether to decode several videos in a process of its own, so that one that kills the decoder
            costs only itself. As with every process that Python starts, the caller's script needs `if __name__ ==
            "__main__":`.

    Returns:
        For each video `{"video": name, "scores": [{"score", "label"}, ...]}`, best first, or `{"video": name, "error":
        reason}` for one that cannot be read.

    Raises:
        FileNotFoundError, ValueError: If a name leads to no video, the model cannot be loaded, or no video can be
            read.
    """
    names = expand_names(videos)
    classify = load_pipeline(model, revision=revision, device=device, batch_size=batch_size)
    answers: dict[str, dict[str, Any]] = {}
    readable = []

    def load() -> Iterator[VideoClips]:
        for name in tqdm(names, unit="video", disable=not progress or len(names) == 1):
            try:
                clips = classify.preprocess(name, num_clips=num_clips, start=start, end=end)
            except (ValueError, OSError) as error:
                answers[name] = {"video": name, "error": str(error)}
                continue
            readable.append(name)
            yield clips

    with contextlib.ExitStack() as stack:
        if decode_apart and len(names) > 1:
            classify.video_processor = stack.enter_context(apart(classify.video_processor))
        for number, scores in enumerate(score_videos(classify.model, load(), batch_size)):
            name = readable[number]
            answers[name] = {"video": name, "scores": classify.postprocess(scores, top_k=top_k)}
    if not readable:
        raise ValueError("No video could be read. " + "; ".join(answer["error"] for answer in answers.values()))
    return [answers[name] for name in names]


def predict_timelines(
    videos: Sequence[str],
    *,
    model: str,
    window: float,
    stride: float | None = None,
    min_score: float = 0.5,
    revision: str | None = None,
    num_clips: int = 1,
    start: float | None = None,
    end: float | None = None,
    batch_size: int = 8,
    device: str | None = None,
    progress: bool = True,
    draw: Path | None = None,
    top_k: int = 5,
) -> dict[str, list[Segment] | str]:
    """Find the actions of whole routines by sliding a window over them.

    Args:
        videos: Files, folders or patterns, as `expand_names` takes them.
        model, revision, batch_size, device, progress: The same as for `predict`.
        window: The number of seconds that are looked at as one action.
        stride: The seconds from one window to the next; by default a quarter of the window.
        min_score: The score below which a stretch is left blank.
        num_clips: The number of clips per window.
        start, end: The seconds of the file between which to look.
        draw: The MP4 to write of a single video, with the best classes over the frames; None writes none.
        top_k: The number of classes to draw.

    Returns:
        The actions of each video by its name, or the reason why it cannot be read.

    Raises:
        FileNotFoundError, ValueError: If a name leads to no video, the model cannot be loaded, a length is not
            positive, or no video can be read.
    """
    names = expand_names(videos)
    classify = load_pipeline(model, revision=revision, device=device, batch_size=batch_size)
    classes = [classify.model.config.id2label[label] for label in range(classify.model.config.num_labels)]
    stride = window / 4 if stride is None else stride
    slide(0.0, window, window=window, stride=stride)  # refuses lengths that fit no video
    options = {"window": window, "stride": stride, "num_clips": num_clips, "start": start, "end": end}
    found: dict[str, list[Segment] | str] = {}
    for name in names:
        try:
            windows, scores = score_windows(
                classify.model, classify.video_processor, name, batch_size=batch_size, progress=progress, **options
            )
            if draw is not None:
                stretches = label_stretches(windows, scores, classes, top_k=top_k)
                write_labelled_video(name, draw, stretches, start=start, end=end)
            found[name] = find_segments(windows, scores, classes, min_score=min_score)
        except (ValueError, OSError) as error:
            found[name] = str(error)
    if all(isinstance(segments, str) for segments in found.values()):
        raise ValueError("No video could be read. " + "; ".join(map(str, found.values())))
    return found


def predict_timeline(video: str, **options: Any) -> list[Segment]:
    """Find the actions of a whole routine.

    Args:
        video: The video file.
        options: The arguments of `predict_timelines`.

    Raises:
        FileNotFoundError, ValueError: If the file or the model cannot be read, or a length is not positive.
    """
    [segments] = predict_timelines([video], **options).values()
    return segments
