"""Choose the frames of a clip, find the clips of a video that are the same, and average their scores.

With `clip_len=4` and `frame_interval=2` a clip spans seven frames (f: frame taken, x: frame left out) and its window
is eight frames long:

    frame   0 1 2 3 4 5 6 7 8 9
    clip 0  f x f x f x f
    clip 2      f x f x f x f

Four in five of FineGym's validation clips are shorter than the paper's window of 64 frames, so what happens past their
end matters: "loop" starts again at the first frame (the default of mmaction2, on which the paper builds),
"repeat_last" repeats the last frame that was taken. Both count from the video's own number of frames.
"""

from collections.abc import Sequence

import torch


# Containers round times to their clock, commonly to milliseconds: half a millisecond decides nothing.
TIME_TOLERANCE = 5e-4
OUT_OF_RANGE = ("loop", "repeat_last")
# Where the clips of a video lie: windows in the middles of equal parts of it (mmaction2 0.x), windows from its first
# frame to its last (mmaction2 1.x), or clips of one frame from each of `clip_len` equal segments (TSN).
SAMPLING = ("centers", "ends", "segments")


def clip_indices(offset: int, num_frames: int, clip_len: int, frame_interval: int, out_of_range: str) -> list[int]:
    """Return the frames of the clip that starts at `offset` in a video of `num_frames` frames."""
    if out_of_range not in OUT_OF_RANGE:
        raise ValueError(f"out_of_range must be one of {OUT_OF_RANGE}, got {out_of_range!r}.")
    indices = [offset + position * frame_interval for position in range(clip_len)]
    if out_of_range == "loop":
        return [index % num_frames for index in indices]
    last = max(index for index in indices if index < num_frames)
    return [min(index, last) for index in indices]


def sample_clips(
    num_frames: int,
    *,
    clip_len: int,
    frame_interval: int,
    num_clips: int,
    out_of_range: str = "loop",
    sampling: str = "centers",
) -> tuple[list[list[int]], list[float]]:
    """
    Return the distinct clips among `num_clips` clips spread evenly over a video, like mmaction2's `SampleFrames` in
    test mode.

    Args:
        sampling (`str`, defaults to `"centers"`): See `SAMPLING`. With `"segments"` a clip has one frame from every
            segment, even where a short video gives several segments the same frame; `frame_interval` is ignored.

    Returns:
        The frame indices of each distinct clip, in order, and the share of the `num_clips` clips that equal it. The
        weighted mean over the distinct clips is the plain mean over all of them.

    Raises:
        `ValueError`: the video has no frames, or an argument is not positive or unknown.
    """
    _check(num_frames, clip_len, frame_interval, num_clips, sampling)
    if sampling == "segments":
        length, phases = num_frames / clip_len, [(index + 0.5) / num_clips for index in range(num_clips)]
        clips = [[int(length * phase + length * segment) for segment in range(clip_len)] for phase in phases]
    else:
        offsets = _offsets(num_frames, clip_len, frame_interval, num_clips, sampling)
        clips = [clip_indices(offset, num_frames, clip_len, frame_interval, out_of_range) for offset in offsets]
    counts: dict[tuple[int, ...], int] = {}
    for clip in clips:
        counts[tuple(clip)] = counts.get(tuple(clip), 0) + 1
    return [list(clip) for clip in counts], [count / num_clips for count in counts.values()]


def _offsets(num_frames: int, clip_len: int, frame_interval: int, num_clips: int, sampling: str) -> list[int]:
    if sampling == "centers":
        spacing = (num_frames - clip_len * frame_interval + 1) / num_clips
        return [int(index * spacing + spacing / 2) if spacing > 0 else 0 for index in range(num_clips)]
    last = max(0, num_frames - ((clip_len - 1) * frame_interval + 1))
    if num_clips == 1:
        return [last // 2]
    return [round(index * (last / (num_clips - 1))) for index in range(num_clips)]


def random_clip(
    num_frames: int,
    *,
    clip_len: int,
    frame_interval: int,
    out_of_range: str = "loop",
    sampling: str = "centers",
    generator: torch.Generator | None = None,
) -> list[int]:
    """
    Choose a window at a random place (mmaction2's `SampleFrames` in training mode), or at the start where none fits.
    With `sampling="segments"`, choose a random frame of each segment (TSN), or the first frame where there are fewer
    frames than segments.

    Raises:
        `ValueError`: the video has no frames, or an argument is not positive or unknown.
    """
    _check(num_frames, clip_len, frame_interval, 1, sampling)
    if sampling == "segments":
        length = num_frames // clip_len
        within = torch.randint(max(1, length), (clip_len,), generator=generator).tolist()
        return [segment * length + place for segment, place in enumerate(within)]
    num_offsets = max(1, num_frames - clip_len * frame_interval + 1)
    offset = int(torch.randint(num_offsets, (1,), generator=generator))
    return clip_indices(offset, num_frames, clip_len, frame_interval, out_of_range)


def resample(times: Sequence[float], frame_rate: float, frame_duration: float) -> list[int]:
    """
    Return the frames of a video as a camera of another rate would have taken them: for each of the camera's pictures
    the frame nearest in time, and the earlier of two equally near ones. A video of this rate gives each frame once.

    Args:
        times (`Sequence[float]`): When each frame is shown, in seconds, in ascending order.
        frame_rate (`float`): Pictures per second.
        frame_duration (`float`): How long the last frame is shown, in seconds.

    Raises:
        `ValueError`: there are no frames, or the rate is not positive.
    """
    if not len(times) or not 0 < frame_rate < float("inf"):
        raise ValueError(f"{len(times)} frames cannot be sampled at {frame_rate} frames per second.")
    seconds = torch.as_tensor(times, dtype=torch.float64)
    num_pictures = max(1, round((times[-1] - times[0] + frame_duration) * frame_rate))
    pictures = seconds[0] + torch.arange(num_pictures, dtype=torch.float64) / frame_rate
    middles = (seconds[1:] + seconds[:-1]) / 2
    return torch.searchsorted(middles, pictures - TIME_TOLERANCE).tolist()


def average_clips(logits: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """
    Return the score of a video: the weighted mean of its clips' softmax (mmaction2's `average_clips="prob"`).

    Args:
        logits (`torch.Tensor` of shape `(num_clips, num_labels)`), weights (`torch.Tensor` of shape `(num_clips,)`).

    Returns:
        `torch.Tensor` of shape `(num_labels,)`, in float32.
    """
    return weights.float() @ logits.float().softmax(-1)


def _check(num_frames: int, clip_len: int, frame_interval: int, num_clips: int, sampling: str) -> None:
    if num_frames < 1:
        raise ValueError(f"A video of {num_frames} frames has no clips.")
    if min(clip_len, frame_interval, num_clips) < 1:
        raise ValueError(
            f"clip_len, frame_interval and num_clips must be positive, got {clip_len}, {frame_interval}, {num_clips}."
        )
    if sampling not in SAMPLING:
        raise ValueError(f"sampling must be one of {SAMPLING}, got {sampling!r}.")
