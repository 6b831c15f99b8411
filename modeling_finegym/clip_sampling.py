"""Which frames make a clip, which clips of a video are the same, and how their scores are averaged.

With `clip_len=4` and `frame_interval=2` a clip spans seven frames (f: frame taken, x: frame left out) and its window
is eight frames long:

    frame   0 1 2 3 4 5 6 7 8 9
    clip 0  f x f x f x f
    clip 2      f x f x f x f

Four in five of FineGym's validation clips are shorter than the paper's window of 64 frames, so what happens past their
end matters: "loop" starts again at the first frame (the default of mmaction2, on which the paper builds),
"repeat_last" repeats the last frame that was taken. Both are counted from the video's own number of frames.
"""

import torch


OUT_OF_RANGE = ("loop", "repeat_last")


def clip_indices(offset: int, num_frames: int, clip_len: int, frame_interval: int, out_of_range: str) -> list[int]:
    """The frames of the clip that starts at `offset` in a video of `num_frames` frames."""
    if out_of_range not in OUT_OF_RANGE:
        raise ValueError(f"out_of_range must be one of {OUT_OF_RANGE}, got {out_of_range!r}.")
    indices = [offset + position * frame_interval for position in range(clip_len)]
    if out_of_range == "loop":
        return [index % num_frames for index in indices]
    last = max(index for index in indices if index < num_frames)
    return [min(index, last) for index in indices]


def sample_clips(
    num_frames: int, *, clip_len: int, frame_interval: int, num_clips: int, out_of_range: str = "loop"
) -> tuple[list[list[int]], list[float]]:
    """
    The distinct ones of `num_clips` windows spread evenly over a video (mmaction2 0.x, `SampleFrames` in test mode).

    Returns:
        The frame indices of each distinct clip, in order, and the share of the `num_clips` windows that equal it. The
        weighted mean over the distinct clips is the plain mean over all the windows.

    Raises:
        `ValueError`: the video has no frames, or an argument is not positive.
    """
    _check(num_frames, clip_len, frame_interval, num_clips)
    spacing = (num_frames - clip_len * frame_interval + 1) / num_clips
    offsets = [int(index * spacing + spacing / 2) if spacing > 0 else 0 for index in range(num_clips)]
    counts: dict[tuple[int, ...], int] = {}
    for offset in offsets:
        clip = tuple(clip_indices(offset, num_frames, clip_len, frame_interval, out_of_range))
        counts[clip] = counts.get(clip, 0) + 1
    return [list(clip) for clip in counts], [count / num_clips for count in counts.values()]


def random_clip(
    num_frames: int,
    *,
    clip_len: int,
    frame_interval: int,
    out_of_range: str = "loop",
    generator: torch.Generator | None = None,
) -> list[int]:
    """
    One window at a random place (mmaction2, `SampleFrames` in training mode); at the start where none fits.

    Raises:
        `ValueError`: the video has no frames, or an argument is not positive.
    """
    _check(num_frames, clip_len, frame_interval, 1)
    num_offsets = max(1, num_frames - clip_len * frame_interval + 1)
    offset = int(torch.randint(num_offsets, (1,), generator=generator))
    return clip_indices(offset, num_frames, clip_len, frame_interval, out_of_range)


def average_clips(logits: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """
    The score of a video: the weighted mean of its clips' softmax (mmaction2's `average_clips="prob"`).

    Args:
        logits (`torch.Tensor` of shape `(num_clips, num_labels)`), weights (`torch.Tensor` of shape `(num_clips,)`).

    Returns:
        `torch.Tensor` of shape `(num_labels,)`, in float32.
    """
    return weights.float() @ logits.float().softmax(-1)


def _check(num_frames: int, clip_len: int, frame_interval: int, num_clips: int) -> None:
    if num_frames < 1:
        raise ValueError(f"A video of {num_frames} frames has no clips.")
    if min(clip_len, frame_interval, num_clips) < 1:
        raise ValueError(
            f"clip_len, frame_interval and num_clips must be positive, got {clip_len}, {frame_interval}, {num_clips}."
        )
