"""The doors through which a video comes in: the processor, the pipeline, the loader, `import` and `prepare`,
`features`, `predict`, and the page. The functions here are work for `ApartProcessor.run`.
"""

import functools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from finegym.data.dataset import ClipDataset, collate
from finegym.data.index import Video, read_index
from finegym.data.transforms import augment
from finegym.evaluation import clips
from finegym.evaluation.labelled_video import LabelledStretch, write_labelled_video
from finegym.evaluation.predict import predict
from finegym.evaluation.timeline import score_windows
from finegym.features.extract import extract, find_rows
from finegym.features.shards import Shards
from finegym.features.views import EvaluationViews
from finegym.preparation.cutting import Cut, Encoding, Job, cut_source
from finegym.preparation.own_data import import_videos
from finegym.preparation.sources import Source
from modeling_finegym import FineGymPipeline, FineGymVideoProcessor
from modeling_finegym.video_decoding import open_video
from tests.footage import numbers_of
from tests.small import small_model


NUM_FRAMES = 24
# Seconds of the processor that a door may take for these videos of a second.
MAX_SECONDS = 10.0
DOCUMENTED = (ValueError, OSError)
STRETCH = [LabelledStretch(0.0, float("inf"), [("leap", 0.9), ("turn", 0.1)])]


def pass_doors(processor: FineGymVideoProcessor, video: str) -> dict[str, torch.Tensor]:
    """Pass a file through every door.

    Returns:
        `numbers`, which the frames show in their order, up to the first that cannot be read; `others`, the frames that
        are others when they are read alone; and `problems`, the UTF-8 bytes of a JSON list of texts, with a kind and a
        colon before the details.
    """
    path, problems = Path(video), []
    numbers: list[int] = []
    others: list[int] = []
    doors = {**DOORS, "frames": lambda processor, path: read_frames(path, numbers, others)}
    for name, enter in doors.items():
        start = time.process_time()
        try:
            enter(processor, path)
        except DOCUMENTED as error:
            if path.name not in str(error):
                problems.append(f"undocumented: {name}: without the file's name: {str(error)[:200]}")
        except Exception as error:
            problems.append(f"undocumented: {name}: {type(error).__name__}: {str(error)[:200]}")
        seconds = time.process_time() - start
        if seconds > MAX_SECONDS:
            problems.append(f"hang: {name}: {seconds:.0f} s of the processor")
    problems += watch_memory(processor, path)
    return {
        "numbers": torch.tensor(numbers, dtype=torch.int64),
        "others": torch.tensor(others, dtype=torch.int64),
        "problems": torch.tensor(list(json.dumps(problems).encode()), dtype=torch.uint8),
    }


def read_frames(path: Path, numbers: list[int], others: list[int]) -> None:
    """Append the number that each frame shows, and which of some frames are others when they are read alone."""
    with open_video(path) as file:
        indices = range(min(file.num_frames, 4 * NUM_FRAMES))
        images = []
        for _, image in file.pictures(indices):
            # a picture rotated by 90 degrees shows horizontal bars
            is_turned = image.shape[0] > image.shape[1]
            numbers += numbers_of([torch.rot90(image).numpy() if is_turned else image.numpy()])
            images.append(image)
        for index in indices[:: max(1, len(indices) // 3)]:
            [(_, alone)] = file.pictures([index])
            if not torch.equal(alone, images[index]):
                others.append(index)


def watch_memory(processor: FineGymVideoProcessor, path: Path) -> list[str]:
    """Return a problem if loading clips takes more memory than SECURITY.md says."""
    status, peak = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not peak.exists():
        return []
    peak.write_text("5")
    before = _kilobytes(status.read_text(), "VmRSS")
    num_bytes = 32e6
    try:
        with open_video(path) as file:
            num_bytes += 512 * file.num_frames
            try:
                num_bytes += 4 * processor.load_clips(file).pixel_values.numel()
            finally:
                coded = file._stream.codec_context  # of the largest frame so far
                num_bytes += 64 * max(file.width * file.height, coded.width * coded.height)
    except Exception:
        pass  # the doors report it
    grown = 1024 * (_kilobytes(status.read_text(), "VmHWM") - before)
    return [f"memory: {grown / 1e6:.0f} MB, more than the {num_bytes / 1e6:.0f} stated"] if grown > num_bytes else []


def _kilobytes(status: str, name: str) -> int:
    return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1])


@functools.cache
def _pipeline(processor: FineGymVideoProcessor) -> FineGymPipeline:
    return FineGymPipeline(model=small_model("slowonly").eval(), video_processor=processor, device="cpu")


def _process(processor: FineGymVideoProcessor, path: Path) -> None:
    processor(str(path), return_tensors="pt")


def _classify(processor: FineGymVideoProcessor, path: Path) -> None:
    _pipeline(processor)(str(path), num_clips=2)


def _open_bytes(processor: FineGymVideoProcessor, path: Path) -> None:
    with _named(path, "The content given"):
        processor.load_clips(path.read_bytes(), 1)


@contextmanager
def _named(path: Path, name: str) -> Iterator[None]:
    """Check that an error names what it is about, and name the file."""
    try:
        yield
    except DOCUMENTED as error:
        raise (ValueError if name in str(error) else RuntimeError)(f"{path}: {error}") from error


def _train(processor: FineGymVideoProcessor, path: Path) -> None:
    options = {"seed": 0, "clip_len": 8, "frame_interval": 2, "short_side": 36}
    options["transform"] = functools.partial(augment, short_side=36, crop_size=32)
    collate([ClipDataset([Video("x", path, 0, 9)], skip_unreadable=True, **options)[0]])
    ClipDataset([Video("x", path, 0, 9)], frame_rate=10.0, **options)[1, 0]


def _cut(processor: FineGymVideoProcessor, path: Path) -> None:
    cuts = (Cut("all", f"{path.stem}-all.mp4"), Cut("part", f"{path.stem}-part.mp4", 0.2, 0.6))
    for cut, result in zip(cuts, cut_source(Job(Source(path, path.name), cuts), path.parent, Encoding(32))):
        (path.parent / cut.file).unlink(missing_ok=True)
        if result.problem and path.name not in result.problem and "segment" not in result.problem:
            raise ValueError(result.problem)


def _extract(processor: FineGymVideoProcessor, path: Path) -> None:
    EvaluationViews(processor, find_rows(path), num_clips=2, count_frames=False).load([0])


def _draw(processor: FineGymVideoProcessor, path: Path) -> None:
    drawn = path.with_name("drawn.mp4")
    try:
        write_labelled_video(str(path), drawn, STRETCH)
    finally:
        drawn.unlink(missing_ok=True)


def _search(processor: FineGymVideoProcessor, path: Path) -> None:
    model = _pipeline(processor).model
    score_windows(model, processor, str(path), window=3600.0, stride=1800.0, progress=False)


def _show(processor: FineGymVideoProcessor, path: Path) -> None:
    """Do what the page does."""
    copy = path.with_name("copy.mp4")
    try:
        if not clips.read_facts(processor, str(path))["playable"]:
            clips.convert(processor, str(path), str(copy), 48)
        clips.load_timed_clips(processor, str(path), 2)
        clips.load_middle_clip(processor, str(path))
        clips.load_windows(processor, str(path), [(0.0, 0.5)])
    finally:
        copy.unlink(missing_ok=True)


DOORS: dict[str, Callable[[FineGymVideoProcessor, Path], None]] = {
    "processor": _process,
    "pipeline and predict": _classify,
    "bytes": _open_bytes,
    "loader": _train,
    "import and prepare": _cut,
    "features": _extract,
    "labeled video": _draw,
    "timeline": _search,
    "page": _show,
}


def run_commands(processor: FineGymVideoProcessor, folder: str) -> dict[str, torch.Tensor]:
    """Pass a folder of files through whole commands, `predict`, `import` and `features`: each must account for every
    file, by its answer or by its name and a reason.

    Args:
        processor: What the checkpoint has.
        folder: It holds `videos/leap/`.
    """
    root, videos = Path(folder), Path(folder) / "videos"
    files = sorted(videos.rglob("*.*"))
    small_model("slowonly").save_pretrained(root / "model")
    processor.save_pretrained(root / "model")
    problems = []
    commands = {"predict": _predict_all, "import": _import_all, "features": _extract_all}
    for name, run in commands.items():
        try:
            lost = [file.name for file in files if file not in run(root, videos)]
            if lost:
                problems.append(f"undocumented: {name} says nothing of {lost}")
        except Exception as error:
            problems.append(f"undocumented: {name}: {type(error).__name__}: {str(error)[:300]}")
    return {"problems": torch.tensor(list(json.dumps(problems).encode()), dtype=torch.uint8)}


def _predict_all(root: Path, videos: Path) -> set[Path]:
    answers = predict([str(videos)], model=str(root / "model"), num_clips=1, device="cpu", progress=False)
    return {Path(answer["video"]) for answer in answers if "scores" in answer or answer["video"] in answer["error"]}


def _import_all(root: Path, videos: Path) -> set[Path]:
    import_videos(str(videos), root / "data", name="x", encoding=Encoding(32), num_workers=0, max_lost_share=1.0)
    report = json.loads((root / "data" / "coverage.json").read_text())
    missing = {name for part in report["splits"].values() for name in part["missing"]}
    made = {video.id for split in ("train", "val") for video in read_index(root / "data", split)}
    ids = missing | made
    return {file for file in videos.rglob("*.*") if file.relative_to(videos).with_suffix("").as_posix() in ids}


def _extract_all(root: Path, videos: Path) -> set[Path]:
    options = {"num_clips": 1, "clip_len": None, "frame_interval": None, "spatial_grid_size": 1, "dtype": "float32"}
    report = extract(
        videos, model=str(root / "model"), output=root / "features", batch_size=4, num_workers=0, **options
    )
    kept = {entry.name for entry in Shards(root / "features").entries.values()}
    return {file for file in videos.rglob("*.*") if any(file.name in name for name in [report, *kept])}
