"""Configuration of the video ResNet, of which TSN, TSM, I3D and NL-I3D are settings."""

from huggingface_hub.dataclasses import strict

from .configuration_finegym import SlowOnlyConfig


@strict
class VideoResNetConfig(SlowOnlyConfig):
    r"""
    Configuration of [`VideoResNetModel`]: SlowOnly's trunk with what other video ResNets have in addition. The
    defaults are a 2-D ResNet-50 on frames (TSN); the other three are

    - TSM (arXiv 1811.08383): `temporal_shift_divisor=8`;
    - I3D as 3-D ResNet (arXiv 1705.07750, in pytorchvideo's form): `stem_temporal_kernel_size=5`,
      `temporal_kernel_sizes=[[3, 3, 3], [3, 1, 3, 1], [3, 1, 3, 1, 3, 1], [1, 3, 1]]`, `temporal_pool_size=2`;
    - NL-I3D (arXiv 1711.07971): I3D with `non_local_blocks=[[], [1, 3], [1, 3, 5], []]`.

    Arguments are those of [`SlowOnlyConfig`], and:

    Args:
        num_frames (`int`, defaults to 3): Frames of a clip (FineGym's supplement, section 1.1: 3 segments).
        frame_interval (`int`, defaults to 1): Distance of two of them; without meaning for frames of segments.
        temporal_kernel_sizes (`list[int]` or `list[list[int]]`, defaults to `(1, 1, 1, 1)`): Temporal kernel of the
            first convolution of the bottlenecks, per stage or per bottleneck.
        stem_temporal_kernel_size (`int`, defaults to 1): Frames that the stem's kernel sees.
        temporal_pool_size (`int`, defaults to 1): Maximum over so many frames after the first stage, and one left of
            them.
        temporal_shift_divisor (`int`, defaults to 0): In front of each bottleneck's first convolution one in so many
            channels comes from the next frame and one from the frame before; 0: none.
        non_local_blocks (`list[list[int]]`, defaults to `()`): After which bottlenecks of each stage a non-local block
            stands.
    """

    model_type = "video_resnet"

    num_frames: int = 3
    frame_interval: int = 1
    temporal_kernel_sizes: list | tuple = (1, 1, 1, 1)
    stem_temporal_kernel_size: int = 1
    temporal_pool_size: int = 1
    temporal_shift_divisor: int = 0
    non_local_blocks: list | tuple = ()

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        for stage, (sizes, depth) in enumerate(zip(self.temporal_kernel_sizes, self.depths)):
            if isinstance(sizes, (list, tuple)) and len(sizes) != depth:
                raise ValueError(
                    f"temporal_kernel_sizes of stage {stage} must be one number or {depth}, one per bottleneck, got "
                    f"{sizes}."
                )
        if self.stem_temporal_kernel_size < 1 or self.stem_temporal_kernel_size % 2 == 0:
            raise ValueError(f"stem_temporal_kernel_size must be odd, got {self.stem_temporal_kernel_size}.")
        if not 1 <= self.temporal_pool_size <= self.num_frames:
            raise ValueError(
                f"temporal_pool_size must lie between 1 and num_frames {self.num_frames}, got "
                f"{self.temporal_pool_size}."
            )
        if self.temporal_shift_divisor and not 2 <= self.temporal_shift_divisor <= self.stem_width:
            raise ValueError(
                f"temporal_shift_divisor must be 0 or lie between 2 and stem_width {self.stem_width}, got "
                f"{self.temporal_shift_divisor}."
            )
        places = [list(places) for places in self.non_local_blocks]
        if places and (
            len(places) != len(self.depths)
            or any(not 0 <= place < depth for stage, depth in zip(places, self.depths) for place in stage)
        ):
            raise ValueError(f"non_local_blocks must name bottlenecks of each of {len(self.depths)} stages: {places}.")

    def kernel_sizes_of(self, stage: int) -> list[int]:
        """Temporal kernels of a stage, one per bottleneck."""
        sizes = self.temporal_kernel_sizes[stage]
        return list(sizes) if isinstance(sizes, (list, tuple)) else [sizes] * self.depths[stage]

    @property
    def num_video_tokens(self) -> int:
        """T': time steps of the last stage."""
        return self.num_frames // self.temporal_pool_size


__all__ = ["VideoResNetConfig"]
