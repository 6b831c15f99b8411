"""Models that return features of a clip, and the video processor that belongs to each: the project's own checkpoints,
or any vision or video model of Transformers under the spatial pooling that the two encoders use."""

from typing import Any, Literal

import torch
from transformers import AutoImageProcessor, AutoVideoProcessor, PreTrainedModel

from finegym.architectures import find_architecture
from finegym.data.checkpoints import check_processor, load_model
from modeling_finegym import FineGymVideoProcessor, FineGymVisionConfig, FineGymVisionModel


SETTINGS = ("size", "crop_size", "resample", "image_mean", "image_std", "rescale_factor", "do_rescale", "do_normalize")


def load_feature_model(
    name: str,
    *,
    clip_len: int | None = None,
    frame_interval: int | None = None,
    spatial_grid_size: int | Literal["all"] = 1,
) -> tuple[PreTrainedModel, FineGymVideoProcessor]:
    """Return a model with `get_video_features`, in eval mode, and its processor.

    Args:
        name: A checkpoint folder or Hub id.
        clip_len: The number of frames of a clip; by default the checkpoint's own. Models of single images need one.
        frame_interval: The distance between two of these frames; by default the checkpoint's own, or 2.
        spatial_grid_size: The cells per side of the grid in which a backbone's features are averaged; an encoder has
            its own.

    Raises:
        ValueError: If the checkpoint cannot be read, lacks weights or takes clips of another length, or is an encoder
            and a grid is given; the message names it.
    """
    model = load_model(name)
    config = model.config
    try:
        processor = load_processor(name, clip_len=clip_len, frame_interval=frame_interval)
    except Exception as error:  # processors of Transformers take any value, and fail over it in any way
        raise ValueError(f"{name} cannot be loaded: {error}") from error
    architecture = find_architecture(config.model_type)
    if spatial_grid_size != 1 and architecture is not None and architecture.needs_backbone:
        raise ValueError(f"{name} is an encoder, whose own spatial_grid_size is {config.spatial_grid_size}.")
    if architecture is None or spatial_grid_size != 1:
        # Only the pooling of this encoder is used; its own layers are as small as they can be.
        head = {"hidden_size": 1, "num_attention_heads": 1, "intermediate_size": 1, "num_hidden_layers": 0}
        sizes = {"num_frames": clip_len, "spatial_grid_size": spatial_grid_size, "image_size": _frame_size(processor)}
        wrapped = FineGymVisionModel(FineGymVisionConfig(vision_config=config, **sizes, **head))
        wrapped.backbone.load_state_dict(model.state_dict())
        model = wrapped
        processor.num_frames = model.config.num_frames
    return model.eval(), processor


def _frame_size(processor: FineGymVideoProcessor) -> int | None:
    """Return the height and width of the frames that a processor returns; None where they differ."""
    sides = dict((processor.crop_size if processor.do_center_crop else processor.size) or {})
    height, width = sides.get("height"), sides.get("width")
    return height if height == width else None


def load_processor(
    name: str, *, clip_len: int | None = None, frame_interval: int | None = None
) -> FineGymVideoProcessor:
    """Return the video processor of a checkpoint. That of a foreign model becomes one with its size, crop, mean and
    std.

    Raises:
        OSError: If the checkpoint has no processor.
    """
    try:
        processor = AutoVideoProcessor.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError):
        processor = AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
    if not isinstance(processor, FineGymVideoProcessor):
        processor = FineGymVideoProcessor(**transform_settings(processor))
    if clip_len is not None:
        processor.num_frames = int(clip_len)  # a command line's numbers are of a type of their own
    if frame_interval is not None:
        processor.frame_interval = int(frame_interval)
    check_processor(processor)
    return processor


def transform_settings(processor) -> dict[str, Any]:
    """Return how a processor of Transformers resizes, crops and normalizes, as arguments of `FineGymVideoProcessor`.

    Raises:
        ValueError: If it shifts the pixels, which this project's processor does not.
    """
    if getattr(processor, "offset", None):
        raise ValueError(f"{type(processor).__name__} adds an offset to the pixels, which is not supported.")
    settings = {"do_center_crop": bool(getattr(processor, "do_center_crop", False))}
    for name in SETTINGS:
        value = getattr(processor, name, None)
        if value is not None:
            settings[name] = value
    return settings


def find_processor(name: str) -> FineGymVideoProcessor | None:
    """Return the video processor of a checkpoint as `load_processor` returns it; None if it has none, as bare weights
    do."""
    try:
        return load_processor(name)
    except OSError:
        return None


def check_normalization(name: str, processor: FineGymVideoProcessor) -> None:
    """Refuse a backbone that was trained on frames normalized in another way than `processor` does.

    Size, crop and sampling may differ on purpose; these numbers never do. A backbone without a processor of its own,
    such as bare weights, cannot be checked.

    Raises:
        ValueError: If a number differs; the message names both.
    """
    own = find_processor(name)
    if own is None or bool(own.flow_len) != bool(
        processor.flow_len
    ):  # weights of pictures are made into those of flow
        return
    wanted, given = ([list(one.image_mean), list(one.image_std)] for one in (own, processor))
    if not torch.allclose(torch.tensor(wanted), torch.tensor(given), atol=1e-3):
        raise ValueError(
            f"model.backbone {name} was trained with mean {wanted[0]} and std {wanted[1]}, and the recipe normalizes "
            f"with {given[0]} and {given[1]}. Set data.mean and data.std to the backbone's."
        )
    if own.antialias != processor.antialias:
        raise ValueError(
            f"model.backbone {name} was trained on frames resized {'with' if own.antialias else 'without'} "
            f"antialiasing: set data.antialias to {str(own.antialias).lower()}."
        )
