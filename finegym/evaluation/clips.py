"""What a page or an explanation reads of a video file: the clips a model sees, and when their frames are shown.

The functions that return dictionaries of tensors are work for `ApartProcessor.run`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from finegym.data.video_writing import recode
from modeling_finegym import FineGymVideoProcessor
from modeling_finegym.clip_sampling import sample_clips
from modeling_finegym.optical_flow import count_starts
from modeling_finegym.video_decoding import VideoFile, open_video

from .timeline import shown_between


# What every current browser plays: codec -> the names that its files end with.
PLAYABLE = {"h264": (".mp4",), "vp8": (".webm",), "vp9": (".webm", ".mp4"), "av1": (".webm", ".mp4")}


@dataclass(frozen=True)
class Clip:
    """One clip as a model sees it.

    Attributes:
        times: When each of the T frames is shown, in seconds from the start of the file.
        pixel_values: The normalized frames (1, T, C, H, W).
        frames: The same frames as pictures, (T, H, W, 3) uint8.
    """

    times: list[float]
    pixel_values: torch.Tensor
    frames: np.ndarray


def load_clip(
    processor: FineGymVideoProcessor, file: VideoFile, start: float | None = None, end: float | None = None
) -> Clip:
    """Return the clip in the middle of a video, the one that `processor(video)` returns.

    Raises:
        ValueError: If the model sees optical flow, of which there are no pictures.
    """
    if processor.flow_len:
        raise ValueError(
            "Explanations are drawn on pictures, and this model sees optical flow: explain the other stream."
        )
    pixel_values = processor.load_clips(file, 1, start=start, end=end).pixel_values
    [times] = clip_times(processor, file, 1, start, end)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (processor.image_mean, processor.image_std))
    pictures = (255 * (pixel_values[0] * std + mean).clamp(0, 1)).round().to(torch.uint8)
    return Clip(times, pixel_values, pictures.permute(0, 2, 3, 1).numpy())


def clip_times(
    processor: FineGymVideoProcessor,
    file: VideoFile,
    num_clips: int,
    start: float | None = None,
    end: float | None = None,
) -> list[list[float]]:
    """Return when each frame of the distinct clips that `load_clips` returns is shown, in seconds."""
    shown = file.select(start, end, processor.frame_rate)
    clips, _ = sample_clips(
        count_starts(len(shown), processor.flow_len),
        clip_len=processor.num_frames,
        frame_interval=processor.frame_interval,
        num_clips=num_clips,
        out_of_range=processor.out_of_range,
        sampling=processor.sampling,
    )
    return [[float(file.times[shown[place]]) for place in clip] for clip in clips]


def read_facts(processor: FineGymVideoProcessor, video: str) -> dict[str, torch.Tensor]:
    """Return `duration` in seconds, `size` (width and height in pixels), and whether browsers play the file
    (`playable`)."""
    with open_video(video) as file:
        _, duration = shown_between(file)
        size = file.width, file.height
        endings = PLAYABLE.get(file.codec, ())
        playable = Path(video).suffix.lower() in endings and file.pixel_format in ("yuv420p", "yuvj420p")
    return {
        "duration": torch.tensor(duration, dtype=torch.float64),
        "size": torch.tensor(size),
        "playable": torch.tensor(playable),
    }


def load_timed_clips(
    processor: FineGymVideoProcessor,
    video: str,
    num_clips: int | None = None,
    start: float | None = None,
    end: float | None = None,
) -> dict[str, torch.Tensor]:
    """Return `weights` (K,) and `pixel_values` (K, T, C, H, W) of the distinct clips, and their frames' `times`
    (K, T)."""
    num_clips = num_clips or processor.num_clips
    with open_video(video) as file:
        clips = processor.load_clips(file, num_clips, start=start, end=end)
        times = clip_times(processor, file, num_clips, start, end)
    return {
        "weights": clips.weights,
        "pixel_values": clips.pixel_values,
        "times": torch.tensor(times, dtype=torch.float64),
    }


def load_windows(
    processor: FineGymVideoProcessor, video: str, windows: Sequence[tuple[float, float]]
) -> dict[str, torch.Tensor]:
    """Return `pixel_values` (W, T, C, H, W) of the clip in the middle of each window."""
    with open_video(video) as file:
        clips = [processor.load_clips(file, 1, start=start, end=end).pixel_values for start, end in windows]
    return {"pixel_values": torch.cat(clips)}


def load_middle_clip(
    processor: FineGymVideoProcessor, video: str, start: float | None = None, end: float | None = None
) -> dict[str, torch.Tensor]:
    """Return the attributes of the `Clip` in the middle of a video."""
    with open_video(video) as file:
        clip = load_clip(processor, file, start, end)
    times = torch.tensor(clip.times, dtype=torch.float64)
    return {"times": times, "pixel_values": clip.pixel_values, "frames": torch.from_numpy(clip.frames)}


def convert(processor: FineGymVideoProcessor, video: str, path: str, short_side: int) -> dict[str, torch.Tensor]:
    """Write a copy that browsers play; see `recode`."""
    recode(video, path, short_side=short_side)
    return {}
