"""Optical flow as input: which frames make one frame of a clip, and how a picture of `finegym flow` becomes channels.

Such a picture is gray and twice as wide as the video's frames, with the horizontal motion on the left and the vertical
motion on the right; no motion is at 128.
"""

import torch

from .video_decoding import VideoDecodingError, VideoFile


# Frames of optical flow that make one frame of a clip, at most; TSN has 5.
MAX_FLOW_LEN = 64
NOT_FLOW = "This model sees optical flow, which `finegym flow` computes for a prepared folder, and not pictures"


def count_starts(num_frames: int, flow_len: int) -> int:
    """Return at how many frames of a video a stack of `flow_len` frames can begin; with 0, at every frame."""
    return max(1, num_frames - max(1, flow_len) + 1)


def stack_frames(clip: list[int], num_frames: int, flow_len: int) -> list[int]:
    """
    Follow every frame of a clip by the next ones, `flow_len` of them together; past the end of the video its last
    frame is repeated (TSN, arXiv 1608.00859). With 0, the clip is returned as it is.
    """
    return [min(first + step, num_frames - 1) for first in clip for step in range(max(1, flow_len))]


def split_flow(pictures: torch.Tensor) -> torch.Tensor:
    """
    Put the two halves of pictures beside each other as channels: `(..., H, 2W, 3)` to `(..., H, W, 2)`, x and y.

    Raises:
        `ValueError`: the pictures are not gray, or of an odd width.
    """
    gray = pictures[..., 0]
    if pictures.shape[-2] % 2 or not (torch.equal(gray, pictures[..., 1]) and torch.equal(gray, pictures[..., 2])):
        raise ValueError(f"{NOT_FLOW}.")
    return torch.stack(gray.tensor_split(2, dim=-1), dim=-1)


def check_flow_file(file: VideoFile) -> None:
    """Raise a `VideoDecodingError` unless a file holds gray pictures, as `finegym flow` writes them."""
    if file.pixel_format != "gray":
        raise VideoDecodingError(f"{file.path} holds pictures. {NOT_FLOW}.")


def join_flow(frames: torch.Tensor, flow_len: int) -> torch.Tensor:
    """
    Join the channels of stacked frames, `(..., T * flow_len, 2, H, W)` to `(..., T, 2 * flow_len, H, W)`: x and y of
    the first, then of the next. With 0, the frames are returned as they are.
    """
    return frames.unflatten(-4, (-1, flow_len)).flatten(-4, -3) if flow_len else frames
