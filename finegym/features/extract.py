"""`finegym features`: the features of any folder of videos as safetensors, for retrieval or other people's heads."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from finegym.data.files import VIDEO_SUFFIXES, list_video_files
from finegym.data.index import Video
from finegym.data.launch import this_process
from modeling_finegym.video_decoding import VideoDecodingError, open_video

from .backbones import load_feature_model
from .cache import extract_features
from .shards import Shards
from .views import EvaluationViews


def extract(
    videos: Path,
    *,
    model: str,
    output: Path,
    num_clips: int,
    clip_len: int | None,
    frame_interval: int | None,
    spatial_grid_size: int | Literal["all"],
    batch_size: int,
    num_workers: int,
    dtype: str,
) -> str:
    """Write a frozen backbone's features of a video, or of every video in a folder.

    Each video yields one tensor (K, tokens, D), for its K distinct clips, under its path relative to the folder. The
    arguments, their defaults and how to read the result are those of `finegym features`.

    Returns:
        What was written, as text; empty on all but the main process.

    Raises:
        FileNotFoundError: If there is no such video or no video in the folder.
        ValueError: If the model cannot be read, or `output` holds features of another model or another sampling.
        OSError: If the disk is full; what is finished stays.
    """
    rows = find_rows(videos)
    state = this_process()
    feature_model, processor = load_feature_model(
        model, clip_len=clip_len, frame_interval=frame_interval, spatial_grid_size=spatial_grid_size
    )
    views = EvaluationViews(processor, rows, num_clips=num_clips, count_frames=False)
    features = extract_features(
        feature_model.to(state.device), views, output, dtype=dtype, batch_size=batch_size, num_workers=num_workers
    )
    state.wait_for_everyone()
    if not state.is_main_process:
        return ""
    shards = Shards(output)
    shards.drop_superseded(features.names, features.keys)
    shards.write_index()
    lines = [f"{output} has the features of {len(rows) - len(features.failed)} of {len(rows)} videos."]
    lines += [f"  without features: {name}: {reason}" for name, reason in features.failed.items()]
    return "\n".join(lines)


def find_rows(videos: Path) -> list[Video]:
    """Return every video file in a folder as a row without a label, named by its path in the folder."""
    if videos.is_file():
        return list(_as_rows([videos], videos.parent))
    paths = list_video_files(videos)
    if not paths:
        raise FileNotFoundError(f"There is no video at {videos}. Videos end in {', '.join(sorted(VIDEO_SUFFIXES))}.")
    return list(_as_rows(paths, videos))


def _as_rows(paths: list[Path], folder: Path) -> Iterable[Video]:
    with ThreadPoolExecutor(8) as pool:
        for path, num_frames in zip(paths, pool.map(_num_frames, paths), strict=True):
            yield Video(path.relative_to(folder).as_posix(), path.absolute(), -1, num_frames)


def _num_frames(path: Path) -> int:
    try:
        with open_video(path) as video:
            return video.num_frames
    except VideoDecodingError:
        return 1  # its features will fail with the reason
