"""Pictures and short films of videos, small enough to embed in an HTML file."""

import base64
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from finegym.data.index import Video
from finegym.data.transforms import resize_short_side
from finegym.data.video_writing import write_video
from modeling_finegym.video_decoding import VideoDecodingError, open_video


# The shorter side in pixels, and the most seconds of a film, at a rate that looks smooth.
SHORT_SIDE = 144
MAX_SECONDS = 6.0
FRAME_RATE = 15.0


def thumbnails(video: Video, *, count: int = 3, short_side: int = 72) -> str | None:
    """Return `count` frames spread over a video, side by side, as the data address of a JPEG; None if it cannot be
    read."""
    try:
        frames = read_frames(video, lambda times: _spread(len(times), count), short_side)
    except (VideoDecodingError, OSError):
        return None
    return picture_address(np.concatenate(list(frames), axis=1))


def picture_address(picture: np.ndarray) -> str:
    """Return a picture (H, W, 3) of uint8 as the data address of a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=80)
    return _address(buffer.getvalue(), "image/jpeg")


def film(video: Video) -> str | None:
    """Return the first seconds of a video as the data address of an H.264 MP4; None if it cannot be read."""

    def regular(times: list[float]) -> list[int]:
        wanted = np.arange(0, min(times[-1] - times[0], MAX_SECONDS) + 1e-9, 1 / FRAME_RATE) + times[0]
        return np.clip(np.searchsorted(times, wanted, side="right") - 1, 0, len(times) - 1).tolist()

    try:
        frames = read_frames(video, regular, SHORT_SIDE)
    except (VideoDecodingError, OSError):
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        write_video(path, frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2], fps=FRAME_RATE, crf=28)
        return _address(path.read_bytes(), "video/mp4")


def read_frames(video: Video, choose: Callable[[list[float]], list[int]], short_side: int) -> np.ndarray:
    """Read frames of a video as they are, without a crop.

    Args:
        video: The video.
        choose: A function from the times of its frames, in seconds, to the places of those to read.
        short_side: The length in pixels of the shorter side of the result.

    Returns:
        uint8 RGB of shape (T, H, W, 3).

    Raises:
        VideoDecodingError, OSError: If the video cannot be read.
    """
    with open_video(video.path) as file:
        first, stop = file.index_range(video.start, video.end)
        frames = file.frames([first + place for place in choose(file.times[first:stop])])
    return resize_short_side(frames, short_side).numpy()


def _spread(length: int, count: int) -> list[int]:
    return np.linspace(0, length - 1, count + 2).round().astype(int)[1:-1].tolist()


def _address(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
