"""`finegym features`: the features of any folder of videos as safetensors, for retrieval or other people's heads."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from finegym.data.files import VIDEO_SUFFIXES
from finegym.data.index import Video
from finegym.data.launch import this_process
from modeling_finegym.video_decoding import VideoDecodingError, open_video

from .backbones import load_feature_model
from .cache import EvaluationViews, extract_features
from .shards import Shards


def extract(
    videos: Path,
    *,
    model: str,
    output: Path,
    num_clips: int = 8,
    clip_len: int | None = None,
    frame_interval: int | None = None,
    batch_size: int = 8,
    num_workers: int = 0,
    dtype: Literal["float16", "bfloat16", "float32"] = "float16",
) -> str:
    """Write a frozen backbone's features of a video, or of every video in a folder.

    Each video yields one tensor (K, T', D), for its K distinct clips, under its path relative to the folder. Three
    lines read them:

        from safetensors.torch import load_file
        for shard in Path("features").glob("*.safetensors"):
            features = load_file(shard)  # {"vault/0001.mp4": tensor of shape (K, T', D), ...}

    A stopped run resumes where it was; new and changed videos are added, finished ones are not computed again.
    `accelerate launch -m finegym features ...` shares the work among any number of GPUs and machines.

    Args:
        videos: A video file, or a folder that is searched with all its subfolders.
        model: A checkpoint folder or Hub id: one of this project's, or any vision or video model of Transformers.
        output: The folder to write.
        num_clips: The number of windows spread over each video; equal ones are computed once.
        clip_len: The number of frames of a clip; by default the model's.
        frame_interval: The distance between two of these frames; by default the model's.
        batch_size: The number of clips in a forward pass.
        num_workers: The number of processes that decode ahead.
        dtype: The data type of the features.

    Returns:
        What was written, as text.

    Raises:
        FileNotFoundError: If there is no such video or no video in the folder.
        ValueError: If the model cannot be read, or `output` holds features of another model or another sampling.
        OSError: If the disk is full; what is finished stays.
    """
    rows = find_rows(videos)
    state = this_process()
    feature_model, processor = load_feature_model(model, clip_len=clip_len, frame_interval=frame_interval)
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
    paths = sorted(path for path in videos.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())
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
