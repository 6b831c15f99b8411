"""Accept videos in the forms people have them: frames of several kinds, and the content of a file."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.image_utils import is_pil_image


def is_file_content(video: Any) -> bool:
    """Return whether `video` is bytes or an open file."""
    return isinstance(video, (bytes, bytearray)) or hasattr(video, "read")


def is_list_of_images(video: Any) -> bool:
    """Return whether `video` is a list of PIL images, which are the frames of one video."""
    return isinstance(video, (list, tuple)) and len(video) > 0 and all(is_pil_image(frame) for frame in video)


@contextmanager
def as_file(content: Any) -> Iterator[Path]:
    """Provide a temporary file with the bytes of `content`, or with what is left to read in it, for a `with` block."""
    content = content.read() if hasattr(content, "read") else content
    if isinstance(content, str):
        raise ValueError("The video's file is open as text: open it in binary mode, open(path, 'rb').")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video"
        path.write_bytes(content)
        yield path


def to_frames(video: Any) -> torch.Tensor:
    """
    Convert frames to uint8 of shape `(T, H, W, 3)`.

    Args:
        video: Frames of one size: a list of PIL images, or uint8 arrays or tensors of shape `(T, H, W, 3)` or
            `(T, 3, H, W)`, or a list of those of single frames.

    Raises:
        `ValueError`: `video` is none of these.
    """
    if is_list_of_images(video):
        if len({image.size for image in video}) > 1:
            raise ValueError(f"Frames of one video have one size, got {sorted({image.size for image in video})}.")
        video = np.stack([np.asarray(image.convert("RGB")) for image in video])
    elif isinstance(video, (list, tuple)) and video and all(isinstance(f, (np.ndarray, torch.Tensor)) for f in video):
        if len({tuple(frame.shape) for frame in video}) > 1:
            raise ValueError(f"Frames of one video have one shape, got {sorted({tuple(f.shape) for f in video})}.")
        video = torch.stack([torch.as_tensor(frame) for frame in video])
    if not isinstance(video, (np.ndarray, torch.Tensor)):
        raise ValueError(
            f"A video is a path, an address, bytes, an open file, a list of PIL images or an array of frames, not a "
            f"{type(video).__name__}."
        )
    frames = torch.as_tensor(video)
    if frames.dtype != torch.uint8:
        raise ValueError(
            f"Frames must be uint8, got {frames.dtype}: multiply values from 0 to 1 by 255, round, and convert to "
            "uint8."
        )
    if frames.ndim == 4 and frames.shape[-1] != 3 and frames.shape[1] == 3:
        frames = frames.permute(0, 2, 3, 1)
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"Frames must have shape (T, H, W, 3) or (T, 3, H, W), got {tuple(frames.shape)}.")
    return frames


def check_videos(videos: Any, *, do_rescale: bool) -> None:
    """
    Refuse what Transformers' processors would mistake for something else.

    Raises:
        `ValueError`: a video is the content of a file, or has values from 0 to 1 that `do_rescale` would divide by
            255.
    """
    for video in videos if isinstance(videos, (list, tuple)) else [videos]:
        if is_file_content(video):
            raise ValueError("The processor takes paths and frames; pass bytes and open files to its `load_clips`.")
        if do_rescale and isinstance(video, (np.ndarray, torch.Tensor)):
            values = torch.as_tensor(video)
            if values.is_floating_point() and values.numel() and values.max() <= 1:
                raise ValueError(
                    "The frames have values from 0 to 1, and the processor divides by 255: pass do_rescale=False, or "
                    "frames of uint8."
                )
