"""Training augmentation: one random crop and one flip for all frames of a clip (paper's recipe, from mmaction2's Gym99
config)."""

import hashlib
import math
from collections.abc import Sequence

import torch
from torch.nn import functional as F


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Of optical flow, x and y (TSM's code).
FLOW_MEAN, FLOW_STD = (0.5, 0.5), (0.226, 0.226)


def derive_seed(*key: int | str) -> int:
    """Return a number of 63 bits that depends on `key` alone, such as (seed, epoch, video id), and on no state of the
    process."""
    digest = hashlib.blake2b(repr(key).encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def clip_generator(*key: int | str) -> torch.Generator:
    """Return a generator of its own for `key`: the same numbers in any worker, on any rank and after any restart."""
    return torch.Generator().manual_seed(derive_seed(*key))


def resize_short_side(frames: torch.Tensor, short_side: int, antialias: bool = True) -> torch.Tensor:
    """Resize uint8 frames (T, H, W, C) so that the shorter of height and width is `short_side` pixels.

    The interpolation is bilinear, by default with antialiasing. Frames that have this size already are returned
    unchanged.
    """
    height, width = frames.shape[1:3]
    if min(height, width) == short_side:
        return frames
    factor = short_side / min(height, width)
    size = (short_side, round(width * factor)) if height <= width else (round(height * factor), short_side)
    return _resize(frames.permute(0, 3, 1, 2), size, antialias).permute(0, 2, 3, 1)


def random_crop_box(
    height: int,
    width: int,
    *,
    scale: Sequence[float],
    ratio: Sequence[float],
    generator: torch.Generator,
) -> tuple[int, int, int, int]:
    """Draw the box of a random resized crop as (top, left, height, width) in pixels.

    The share of the area is uniform in `scale`, the aspect ratio (width / height) log-uniform in `ratio`. After ten
    boxes that do not fit, take the largest centered one of a permitted ratio (Inception's rule, and torchvision's).
    """
    log_ratio = [math.log(bound) for bound in ratio]
    for _ in range(10):
        area = height * width * torch.empty(1).uniform_(scale[0], scale[1], generator=generator).item()
        aspect = torch.exp(torch.empty(1).uniform_(log_ratio[0], log_ratio[1], generator=generator)).item()
        crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int(torch.randint(0, height - crop_height + 1, (1,), generator=generator))
            left = int(torch.randint(0, width - crop_width + 1, (1,), generator=generator))
            return top, left, crop_height, crop_width
    crop_width = min(width, round(height * ratio[1]))
    crop_height = min(height, round(width / ratio[0]))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def augment(
    frames: torch.Tensor,
    generator: torch.Generator,
    *,
    short_side: int,
    crop_size: int,
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
    antialias: bool = True,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> torch.Tensor:
    """Turn the decoded frames of one training clip into model input; every frame gets the same crop and flip.

    Args:
        frames: uint8 RGB of shape (T, H, W, 3), or optical flow, x and y, of shape (T, H, W, 2). Where flow is
            flipped, what moved to the left moves to the right.
        generator: The only source of randomness; see `clip_generator`.
        short_side: The length in pixels of the shorter side before the crop (mmaction2's Gym99 config: 256).
        crop_size: The height and width of the result in pixels (paper, section 4.2: 224).
        scale: The bounds of the crop's share of the area (mmaction2's RandomResizedCrop: 0.08 to 1).
        ratio: The bounds of the crop's width / height (the same source: 3/4 to 4/3).
        flip: The probability of a horizontal flip (the same config: 0.5).
        antialias: Whether to smooth frames that get smaller.
        mean, std: The mean and standard deviation of each channel, for values from 0 to 1 (ImageNet's).

    Returns:
        float32 of shape (T, 3, crop_size, crop_size), or (T, 2, crop_size, crop_size).
    """
    num_channels = frames.shape[3]
    frames = resize_short_side(frames, short_side, antialias)
    top, left, height, width = random_crop_box(*frames.shape[1:3], scale=scale, ratio=ratio, generator=generator)
    frames = frames[:, top : top + height, left : left + width].permute(0, 3, 1, 2)  # (T, C, height, width)
    frames = _resize(frames, (crop_size, crop_size), antialias)
    if torch.rand(1, generator=generator).item() < flip:
        frames = frames.flip(3)
        if num_channels == 2:
            frames = torch.stack([255 - frames[:, 0], frames[:, 1]], dim=1)
    # (x / 255 - mean) / std as one multiply-add over whole rows of pixels, which is three times faster than channel by
    # channel.
    mean, std = torch.tensor(mean).repeat(crop_size), torch.tensor(std).repeat(crop_size)
    rows = frames.permute(0, 2, 3, 1).flatten(2).float()  # (T, crop_size, crop_size * C)
    rows = torch.addcmul(-mean / std, rows, 1 / (255 * std))
    return rows.unflatten(2, (crop_size, num_channels)).permute(0, 3, 1, 2)


def _resize(frames: torch.Tensor, size: tuple[int, int], antialias: bool) -> torch.Tensor:
    if frames.shape[2:] == size:
        return frames
    return F.interpolate(frames, size=size, mode="bilinear", antialias=antialias)
