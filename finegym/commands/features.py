"""`finegym features`."""

from pathlib import Path
from typing import Literal

from finegym.data.arguments import Count, CountOrZero
from finegym.paths import require_path_or_hub_id


def features(
    videos: Path,
    *,
    model: str,
    output: Path,
    num_clips: Count = 8,
    clip_len: Count | None = None,
    frame_interval: Count | None = None,
    spatial_grid_size: Count | Literal["all"] = 1,
    batch_size: Count = 8,
    num_workers: CountOrZero = 0,
    dtype: Literal["float16", "bfloat16", "float32"] = "float16",
) -> str:
    """Write a frozen backbone's features of a video, or of every video in a folder.

    Each video gives one tensor (K, T', D), of its K distinct clips, under its path in the folder. These lines read
    them:

        from pathlib import Path
        from safetensors.torch import load_file

        for shard in Path("features").glob("*.safetensors"):
            features = load_file(shard)  # {"vault/0001.mp4": tensor of shape (K, T', D), ...}

    A stopped run is resumed by the same command. New and changed videos are added, finished ones are not computed
    again. `accelerate launch -m finegym features ...` shares the work among any number of GPUs and machines.

    Args:
        videos: A video file, or a folder that is searched with all its subfolders.
        model: The checkpoint folder or Hub id of one of this project's models, or of any vision or video model of
            Transformers.
        output: The folder to write.
        num_clips: The number of clips spread over each video. Equal ones are computed once.
        clip_len: The number of frames of a clip. By default, it is the model's.
        frame_interval: The distance between two frames of a clip, in frames of the video. By default, it is the
            model's.
        spatial_grid_size: The cells per side of the grid in which the features of a moment are averaged, so that T'
            moments give T' x its square tokens, or all places. An encoder has its own.
        batch_size: The number of clips in a forward pass.
        num_workers: The number of processes that decode ahead.
        dtype: The number format of the features.

    Examples:
        finegym features my_clips --model outputs/synthgym/slowonly --output features
    """
    if not videos.exists():
        raise FileNotFoundError(f"There is no video and no folder of videos {videos}.")
    require_path_or_hub_id(model, "checkpoint folder")
    from finegym.features.extract import extract

    return extract(
        videos,
        model=model,
        output=output,
        num_clips=num_clips,
        clip_len=clip_len,
        frame_interval=frame_interval,
        spatial_grid_size=spatial_grid_size,
        batch_size=batch_size,
        num_workers=num_workers,
        dtype=dtype,
    )
