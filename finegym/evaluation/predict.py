"""`finegym predict`: what a checkpoint sees in videos, as a table, JSON or subtitles."""

import argparse
import contextlib
import glob
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import AutoModelForVideoClassification

from finegym.data.checkpoints import load_model, load_video_processor
from finegym.data.files import VIDEO_SUFFIXES, write_text
from finegym.data.text import safe_text
from modeling_finegym import FineGymPipeline
from modeling_finegym.clip_scoring import VideoClips, score_videos

from .apart import apart
from .timeline import Segment, find_segments, score_windows, to_subtitles


def load_pipeline(
    model: str, *, revision: str | None = None, device: str | None = None, batch_size: int = 8
) -> FineGymPipeline:
    """The pipeline of a checkpoint folder or Hub id, with this project's own code: nothing downloaded is executed.

    Raises:
        ValueError: naming the model, if it cannot be loaded.
    """
    return FineGymPipeline(
        model=load_model(model, AutoModelForVideoClassification, revision=revision),
        video_processor=load_video_processor(model, revision=revision),
        task="video-classification",
        device=device,
        batch_size=batch_size,
    )


def find_videos(names: Sequence[str]) -> list[str]:
    """Files, addresses, and the video files below folders and behind patterns; each once, in this order.

    Raises:
        FileNotFoundError: naming what stands for no video.
    """
    videos: dict[str, None] = {}
    for name in names:
        path = Path(name)
        if name.startswith(("http://", "https://")) or path.is_file():
            found = [name]
        elif path.is_dir():
            found = sorted(str(file) for file in path.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES)
        else:
            found = sorted(file for file in glob.glob(name, recursive=True) if Path(file).is_file())
        if not found:
            raise FileNotFoundError(
                f"{name} is no video, and no folder or pattern with videos ({', '.join(sorted(VIDEO_SUFFIXES))})."
            )
        videos.update(dict.fromkeys(found))
    return list(videos)


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
        videos: what `find_videos` takes.
        model: checkpoint folder or Hub id.
        revision: commit, tag or branch of a Hub id.
        num_clips: clips per video; by default the checkpoint's own number, the paper's eight.
        top_k: classes to return.
        start, end: seconds; what is shown in between is one action.
        batch_size: clips per forward pass, of several videos.
        device: such as "cuda:1" or "cpu"; by default an accelerator if there is one.
        progress: show a bar.
        decode_apart: decode several videos in a process of its own, so that one which kills the decoder costs itself
            alone. As with every process that Python starts, the caller's script needs `if __name__ == "__main__":`.

    Returns:
        For each video `{"video": name, "scores": [{"score", "label"}, ...]}`, best first, or `{"video": name, "error":
        reason}` for one that cannot be read.

    Raises:
        FileNotFoundError, ValueError: a name stands for no video, the model cannot be loaded, or no video can be read.
    """
    names = find_videos(videos)
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


def predict_timeline(
    video: str,
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
) -> list[Segment]:
    """Find the actions of a whole routine by sliding a window over it.

    Args:
        video: a file.
        model, revision, batch_size, device, progress: as for `predict`.
        window: seconds that are looked at as one action.
        stride: seconds from one window to the next; by default a quarter of the window.
        min_score: stretches whose best class scores less are left blank.
        num_clips: clips per window.
        start, end: seconds of the file between which to look.

    Raises:
        FileNotFoundError, ValueError: the file or the model cannot be read, or a length is not positive.
    """
    classify = load_pipeline(model, revision=revision, device=device, batch_size=batch_size)
    windows, scores = score_windows(
        classify.model,
        classify.video_processor,
        video,
        window=window,
        stride=window / 4 if stride is None else stride,
        num_clips=num_clips,
        start=start,
        end=end,
        batch_size=batch_size,
        progress=progress,
    )
    names = classify.model.config.id2label
    return find_segments(windows, scores, [names[label] for label in range(len(names))], min_score=min_score)


def command(arguments: Sequence[str], prog: str = "finegym predict") -> str:
    """The command line: returns what is printed."""
    parser = _parser(prog)
    options = vars(parser.parse_args(arguments))
    videos, as_json, subtitles = options.pop("videos"), options.pop("json"), options.pop("srt")
    options["progress"] = True
    timeline = {name: options.pop(name) for name in ("window", "stride", "min_score")}
    if timeline["window"] is None:
        if subtitles is not None or timeline["stride"] is not None:
            parser.error("--stride and --srt belong to a timeline: give --window SECONDS")
        answers = predict(videos, **options, decode_apart=True)
        return json.dumps(answers, indent=2, ensure_ascii=False) if as_json else _table(answers)
    del options["top_k"]
    options["num_clips"] = options["num_clips"] or 1
    names = find_videos(videos)
    files = [f"{Path(name).stem}.srt" for name in names]
    if subtitles is not None and len(set(files)) < len(files):
        repeated = next(file for file in files if files.count(file) > 1)
        raise ValueError(f"Several videos would write {repeated}: give them one by one, with a folder each.")
    found = {name: predict_timeline(name, **timeline, **options) for name in names}
    if subtitles is not None:
        for file, segments in zip(files, found.values()):
            write_text(subtitles / file, to_subtitles(segments))
    if as_json:
        report = [{"video": name, "segments": [segment.to_dict() for segment in found[name]]} for name in found]
        return json.dumps(report, indent=2, ensure_ascii=False)
    return "\n\n".join("\n".join([name, *map(str, segments)]) for name, segments in found.items())


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description="Classify videos, or draw the timeline of a whole routine."
    )
    parser.add_argument(
        "videos", nargs="+", metavar="VIDEO", help="files, folders, patterns such as 'clips/*.mp4', URLs"
    )
    parser.add_argument("--model", required=True, help="checkpoint folder or Hub id")
    parser.add_argument("--revision", help="commit, tag or branch of a Hub id")
    parser.add_argument("--top_k", type=int, default=5, help="classes to show (5)")
    parser.add_argument("--num_clips", type=int, help="clips per video (8) or window (1)")
    parser.add_argument("--start", type=float, help="look only at what is shown after this second")
    parser.add_argument("--end", type=float, help="and before this one")
    parser.add_argument("--batch_size", type=int, default=8, help="clips per forward pass (8)")
    parser.add_argument("--device", help="cpu, cuda:1, ...; by default an accelerator if there is one")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--window", type=float, metavar="SECONDS", help="find the actions of a whole routine")
    parser.add_argument(
        "--stride", type=float, metavar="SECONDS", help="from one window to the next (a quarter of it)"
    )
    parser.add_argument(
        "--min_score", type=float, default=0.5, help="leave weaker stretches of a timeline blank (0.5)"
    )
    parser.add_argument("--srt", type=Path, metavar="FOLDER", help="also write a timeline as subtitles")
    return parser


def _table(answers: Sequence[dict[str, Any]]) -> str:
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
