"""Turn a video file or an array of frames into the model's `pixel_values`.

Written with torch alone, so that it works where torchvision is not installed.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, SizeDict
from transformers.processing_utils import VideosKwargs
from transformers.utils import logging
from transformers.video_processing_utils import BaseVideoProcessor
from transformers.video_utils import VideoMetadata

from .clip_sampling import resample, sample_clips
from .clip_scoring import VideoClips
from .optical_flow import check_flow_file, count_starts, join_flow, split_flow, stack_frames
from .video_decoding import VideoFile, open_video
from .video_inputs import as_file, check_videos, is_file_content, to_frames


logger = logging.get_logger(__name__)

# PIL's numbers, as in Transformers' processors.
INTERPOLATION = {2: "bilinear", 3: "bicubic"}


class FineGymVideoProcessorKwargs(VideosKwargs, total=False):
    """
    Arguments of the processor beyond those of every video processor.

    frame_interval (`int`): Distance in frames between two frames of a clip.
    num_clips (`int`): Clips that `load_clips` spreads over a video.
    out_of_range (`str`): What follows the last frame of a video shorter than a window, "loop" or "repeat_last".
    sampling (`str`): Where the clips of a video lie: "centers" of its parts, from "ends" to end, or a frame from each
        of `num_frames` "segments".
    antialias (`bool`): Whether to smooth a frame before shrinking it, as PIL does and OpenCV does not.
    frame_rate (`float`): Frames per second of the videos that the model was trained on. Other videos are sampled as if
        they had been filmed at this rate; with `None` their frames are counted, whatever their rate.
    flow_len (`int`): Frames of optical flow that make one frame of a clip, with two channels each; 0: pictures. Videos
        are those of `finegym flow`.
    protocol_counts_frames (`bool`): Whether the protocol of training and evaluation counts frames nevertheless, as
        FineGym's does.
    """

    frame_interval: int
    num_clips: int
    out_of_range: str
    sampling: str
    antialias: bool
    flow_len: int
    frame_rate: float | None
    protocol_counts_frames: bool


class _UnreadClip(NamedTuple):
    """The clip to read from an open file, and the device that its frames are transformed on."""

    file: VideoFile
    indices: list[int]
    device: Any = None

    def read(self, settings: dict[str, Any]) -> torch.Tensor:
        """Return the transformed frames (T, C, h, w), and close the file; only one frame is held in full size."""

        def pictures(indices: list[int]) -> Iterator[tuple[int, torch.Tensor]]:
            for index, picture in self.file.pictures(indices):
                yield index, picture.to(self.device)

        with self.file:
            if settings.get("flow_len"):
                check_flow_file(self.file)
            return _stack([self.indices], pictures, settings)[0]


class FineGymVideoProcessor(BaseVideoProcessor):
    r"""
    The paper's test transform: sample a clip, resize its short side, crop the center and normalize (32 frames at
    interval 2 and 224 x 224 pixels: section 4.2; short side and ImageNet statistics: mmaction2's Gym99 recipe).

    `processor(videos)` takes a path, an array of frames `(T, H, W, C)`, or a list of these, and returns `pixel_values`
    of shape `(batch_size, num_frames, num_channels, height, width)`: the clip in the middle of each video.
    `processor.load_clips(video)` returns the distinct clips among `num_clips`, for the paper's averaged scores.

    Clips are sampled by time: `frame_interval` is counted in frames of `frame_rate`, at which the model was trained.
    Files declare when their frames are shown; for an array, pass its rate as `fps`.
    """

    resample = 2
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    size = {"shortest_edge": 256}
    default_to_square = False
    crop_size = {"height": 224, "width": 224}
    do_resize = True
    do_center_crop = True
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    do_convert_rgb = False
    do_sample_frames = True
    num_frames = 32
    frame_interval = 2
    num_clips = 8
    out_of_range = "loop"
    sampling = "centers"
    antialias = True
    flow_len = 0
    frame_rate = None
    protocol_counts_frames = False
    valid_kwargs = FineGymVideoProcessorKwargs
    model_input_names = ["pixel_values"]

    def to_dict(self) -> dict:
        values = super().to_dict()
        values["auto_map"] = {"AutoVideoProcessor": "video_processing_finegym.FineGymVideoProcessor"}
        return values

    def preprocess(self, videos, **kwargs) -> BatchFeature:
        if isinstance(videos, Path):
            videos = str(videos)
        elif isinstance(videos, (list, tuple)):
            videos = [str(video) if isinstance(video, Path) else video for video in videos]
        check_videos(videos, do_rescale=kwargs.get("do_rescale", self.do_rescale))
        return super().preprocess(videos, **kwargs)

    def sample_frames(
        self,
        metadata: VideoMetadata,
        num_frames: int | None = None,
        frame_interval: int | None = None,
        out_of_range: str | None = None,
        sampling: str | None = None,
        fps: float | None = None,
        frame_rate: float | None = None,
        **kwargs,
    ) -> np.ndarray:
        """Return the frame indices of the clip in the middle of a video, an array of shape `(num_frames,)`. `fps` is
        the frame rate of an array of frames."""
        frame_rate = frame_rate or self.frame_rate
        file = getattr(metadata, "file", None)
        if file is None:
            known = fps if fps is not None or frame_rate is None else metadata.fps
            shown = _select(metadata.total_num_frames, known, frame_rate)
        elif fps is not None:
            raise ValueError("Files know their frame rate: leave fps out, which is for arrays of frames.")
        else:
            shown = file.select(frame_rate=frame_rate)
        flow_len = kwargs.get("flow_len") or self.flow_len
        clips, _ = sample_clips(
            count_starts(len(shown), flow_len),
            clip_len=num_frames or self.num_frames,
            frame_interval=frame_interval or self.frame_interval,
            num_clips=1,
            out_of_range=out_of_range or self.out_of_range,
            sampling=sampling or self.sampling,
        )
        return np.array(shown)[stack_frames(clips[0], len(shown), flow_len)]

    def fetch_videos(self, video_url_or_urls, sample_indices_fn=None):
        """Open a path, or a list of them, with PyAV; return what `_preprocess` reads of it, and its metadata."""
        if isinstance(video_url_or_urls, (list, tuple)):
            return list(zip(*(self.fetch_videos(path, sample_indices_fn) for path in video_url_or_urls)))
        video = open_video(video_url_or_urls)
        metadata = VideoMetadata(
            total_num_frames=video.num_frames,
            fps=video.fps,
            width=video.width,
            height=video.height,
            duration=video.times[-1],
            video_backend="pyav",
        )
        metadata.file = video
        indices = np.arange(video.num_frames) if sample_indices_fn is None else sample_indices_fn(metadata=metadata)
        del metadata.file
        metadata.frames_indices = indices
        return _UnreadClip(video, indices.tolist()), metadata

    def _prepare_input_videos(self, videos, device=None, **kwargs) -> list:
        if isinstance(videos[0], _UnreadClip):
            return [clip._replace(device=device) for clip in videos]
        return super()._prepare_input_videos(videos, device=device, **kwargs)

    def _preprocess(self, videos: list, return_tensors=None, **settings) -> BatchFeature:
        # Frame by frame, so that only one frame, not a whole video, is held as full-size floats.
        clips = [
            video.read(settings)
            if isinstance(video, _UnreadClip)
            else join_flow(torch.cat([_transform(frame[None], **settings) for frame in video]), settings["flow_len"])
            for video in videos
        ]
        if return_tensors is not None and len({clip.shape for clip in clips}) > 1:
            raise ValueError(f"Videos of different shapes cannot be batched: {[tuple(clip.shape) for clip in clips]}.")
        return BatchFeature(data={"pixel_values": clips}, tensor_type=return_tensors)

    def preprocess_frames(self, frames: torch.Tensor) -> torch.Tensor:
        """
        Transform single frames, without sampling.

        Args:
            frames (`torch.ByteTensor` of shape `(num_frames, height, width, 3)`).

        Returns:
            `torch.FloatTensor` of shape `(num_frames, 3, crop height, crop width)`.
        """
        return _transform(frames.permute(0, 3, 1, 2), **self._settings())

    def _settings(self) -> dict[str, Any]:
        settings = {name: getattr(self, name, None) for name in self.valid_kwargs.__annotations__}
        return self._standardize_kwargs(**settings)

    def load_clips(
        self,
        video: str | Path | VideoFile | bytes | BinaryIO | list | np.ndarray | torch.Tensor,
        num_clips: int | None = None,
        start: float | None = None,
        end: float | None = None,
        fps: float | None = None,
        count_frames: bool = False,
    ) -> VideoClips:
        """
        Load the distinct clips among `num_clips` clips of a video. Each frame is decoded and transformed once, and
        only one is held in full size. In addition to the clips, which take
        `4 * num_clips * num_frames * 3 * crop height * crop width` bytes, this takes up to 64 bytes for each pixel of
        a frame, including the decoder's own frames, 512 bytes for each frame of the file, and 32 MB.

        Args:
            video: A path, a `VideoFile`, the bytes of a file, a file open in binary mode, or frames as
                [`~video_inputs.to_frames`] accepts them.
            num_clips (`int`, *optional*): Clips spread over the video; the default is the processor's.
            start (`float`, *optional*), end (`float`, *optional*): The part of the file to sample from, in seconds.
            fps (`float`, *optional*): Frame rate of an array of frames. Without it, an array is assumed to have
                the rate at which the model was trained.
            count_frames (`bool`, defaults to `False`): Assume that every video has that rate, as FineGym's protocol
                does.
        """
        if is_file_content(video):
            with as_file(video) as path:
                try:
                    return self.load_clips(path, num_clips, start, end, fps, count_frames)
                except ValueError as error:
                    raise ValueError(str(error).replace(str(path), "The content given")) from error
        frame_rate = None if count_frames else self.frame_rate
        if isinstance(video, (str, Path)):
            with open_video(video) as file:
                return self.load_clips(file, num_clips, start, end, fps, count_frames)
        if isinstance(video, VideoFile):
            if fps is not None:
                raise ValueError("Files know their frame rate: leave fps out, which is for arrays of frames.")
            if self.flow_len:
                check_flow_file(video)
            return self._clips(video.select(start, end, frame_rate), num_clips, video.pictures)
        if start is not None or end is not None:
            raise ValueError("start and end are times in a file: cut an array of frames by indexing it.")
        frames = to_frames(video)
        shown = _select(len(frames), fps, frame_rate, counts=count_frames)
        return self._clips(shown, num_clips, lambda indices: ((index, frames[index]) for index in indices))

    def _clips(
        self,
        shown: list[int],
        num_clips: int | None,
        read: Callable[[list[int]], Iterable[tuple[int, torch.Tensor]]],
    ) -> VideoClips:
        """Build clips of the frames `shown`; `read` yields some of them one by one, of shape (H, W, 3)."""
        clips, weights = sample_clips(
            count_starts(len(shown), self.flow_len),
            clip_len=self.num_frames,
            frame_interval=self.frame_interval,
            num_clips=num_clips or self.num_clips,
            out_of_range=self.out_of_range,
            sampling=self.sampling,
        )
        clips = [[shown[place] for place in stack_frames(clip, len(shown), self.flow_len)] for clip in clips]
        return VideoClips(weights=torch.tensor(weights), pixel_values=_stack(clips, read, self._settings()))


def _select(num_frames: int, fps: float | None, frame_rate: float | None, *, counts: bool = False) -> list[int]:
    """Return the frames of an array that are shown at `frame_rate`, if the array has a rate."""
    if fps is not None and frame_rate is None:
        reason = "frames are to be counted" if counts else "this processor has no frame_rate to sample at"
        raise ValueError(f"fps says when frames are shown, but {reason}: leave it out.")
    if fps is None or frame_rate is None:
        if frame_rate is not None:
            logger.warning_once(
                f"An array of frames without fps is assumed to have {frame_rate:g} frames per second, at which "
                "the model was trained. Pass its rate as fps=."
            )
        return list(range(num_frames))
    if fps <= 0:
        raise ValueError(f"fps must be positive, got {fps}.")
    return resample([number / fps for number in range(num_frames)], frame_rate, 1 / fps)


def _stack(
    clips: list[list[int]],
    read: Callable[[list[int]], Iterable[tuple[int, torch.Tensor]]],
    settings: dict[str, Any],
) -> torch.Tensor:
    """Return the transformed frames of clips (K, T, C, h, w); read and transform each once, one after the other."""
    places: dict[int, list[tuple[int, int]]] = {}
    for number, clip in enumerate(clips):
        for position, index in enumerate(clip):
            places.setdefault(index, []).append((number, position))
    pixel_values = None
    for index, picture in read(sorted(places)):
        [frame] = _transform(picture[None].permute(0, 3, 1, 2), **settings)  # (C, h, w)
        if pixel_values is None:
            pixel_values = frame.new_empty(len(clips), len(clips[0]), *frame.shape)
        if frame.shape != pixel_values.shape[2:]:
            raise ValueError(f"Frame {index} differs in size from those before it: only crops of them make a clip.")
        for number, position in places[index]:
            pixel_values[number, position] = frame
    return join_flow(pixel_values, settings["flow_len"])


def _transform(
    frames: torch.Tensor,
    *,
    do_resize: bool,
    size: SizeDict,
    resample: int,
    do_center_crop: bool,
    crop_size: SizeDict,
    do_rescale: bool,
    rescale_factor: float,
    do_normalize: bool,
    image_mean: tuple[float, ...],
    image_std: tuple[float, ...],
    antialias: bool = True,
    flow_len: int = 0,
    **kwargs,
) -> torch.Tensor:
    """Transform frames (T, C, H, W) of any number type to (T, C, h, w) float32; of flow, to (T, 2, h, w)."""
    if flow_len:
        frames = split_flow(frames.movedim(1, -1)).movedim(-1, 1)
    height, width = frames.shape[-2:]
    target = _target_size(height, width, size) if do_resize else (height, width)
    if target != (height, width):
        if resample not in INTERPOLATION:
            raise ValueError(f"resample must be 2 (bilinear) or 3 (bicubic), got {resample}.")
        frames = F.interpolate(frames.float(), target, mode=INTERPOLATION[resample], antialias=antialias)
        frames = frames.clamp(0, 255)  # bicubic overshoots
    if do_center_crop:
        if target[0] < crop_size.height or target[1] < crop_size.width:
            raise ValueError(
                f"A crop of {crop_size.height} x {crop_size.width} does not fit into frames of {target[0]} x "
                f"{target[1]}: choose a smaller crop_size or a larger size."
            )
        top, left = (target[0] - crop_size.height) // 2, (target[1] - crop_size.width) // 2
        frames = frames[..., top : top + crop_size.height, left : left + crop_size.width]
    frames = frames.float()
    if do_rescale:
        frames = frames * rescale_factor
    if do_normalize:
        mean, std = (torch.tensor(value, device=frames.device).view(-1, 1, 1) for value in (image_mean, image_std))
        frames = (frames - mean) / std
    return frames.contiguous()


def _target_size(height: int, width: int, size: SizeDict) -> tuple[int, int]:
    if size.shortest_edge:
        scale = size.shortest_edge / min(height, width)
        return int(height * scale + 0.5), int(width * scale + 0.5)
    if size.height and size.width:
        return size.height, size.width
    raise ValueError(f"size must have 'shortest_edge', or 'height' and 'width', got {size}.")


__all__ = ["FineGymVideoProcessor"]
