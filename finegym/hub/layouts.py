"""How other projects name the tensors of a SlowOnly, of other video ResNets and of BERT layers.

Every SlowOnly layout is one row of name templates, from which `key_map` makes the bijection between its names and ours
(which are pytorchvideo's), so that reading and writing follow from the same row.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from finegym.data.transforms import IMAGENET_MEAN, IMAGENET_STD


NORM_TENSORS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

# Bottlenecks per stage of ResNet-50, -101 and -152 (He et al. 2016, table 1); the deepest first, see `find_depths`.
RESNET_DEPTHS = ((3, 8, 36, 3), (3, 4, 23, 3), (3, 4, 6, 3))

KINETICS_MEAN, KINETICS_STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)


@dataclass(frozen=True)
class Layout:
    """One project's names for the tensors of a SlowOnly.

    Templates may use `{stage}` (1 to 4), `{next_stage}` (2 to 5), `{block}` (from 0), `{number}` (1 to 3) and
    `{letter}` (a to c).

    Attributes:
        name: The name of the project.
        wrapper: The key under which its checkpoint files keep the state dict.
        stem, stem_norm, conv, norm, shortcut, shortcut_norm, head: The templates.
        ignored: The prefixes of tensors that are not part of the network.
        mean, std: The normalization that its weights were trained with, for values from 0 to 1.
        antialias: Whether its frames were smoothed where they got smaller.
        clip: The frames and the frame interval, where the project's files are of images and the clip is ours to
            choose.
        is_2d: Whether its kernels are (k, k) and must be inflated over time.
    """

    name: str
    wrapper: str
    stem: str
    stem_norm: str
    conv: str
    norm: str
    shortcut: str
    shortcut_norm: str
    head: str
    ignored: tuple[str, ...] = ()
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    antialias: bool = False
    clip: tuple[int, int] | None = None
    is_2d: bool = False

    @property
    def of_images(self) -> bool:
        """Whether its files are of networks of images, whose classes are not those of videos."""
        return self.clip is not None


OURS = Layout(
    name="pytorchvideo",
    wrapper="model_state",
    stem="blocks.0.conv",
    stem_norm="blocks.0.norm",
    conv="blocks.{stage}.res_blocks.{block}.branch2.conv_{letter}",
    norm="blocks.{stage}.res_blocks.{block}.branch2.norm_{letter}",
    shortcut="blocks.{stage}.res_blocks.{block}.branch1_conv",
    shortcut_norm="blocks.{stage}.res_blocks.{block}.branch1_norm",
    head="blocks.5.proj",
    mean=KINETICS_MEAN,
    std=KINETICS_STD,
)
MMACTION2 = Layout(
    name="mmaction2",
    wrapper="state_dict",
    stem="backbone.conv1.conv",
    stem_norm="backbone.conv1.bn",
    conv="backbone.layer{stage}.{block}.conv{number}.conv",
    norm="backbone.layer{stage}.{block}.conv{number}.bn",
    shortcut="backbone.layer{stage}.{block}.downsample.conv",
    shortcut_norm="backbone.layer{stage}.{block}.downsample.bn",
    head="cls_head.fc_cls",
    ignored=("data_preprocessor.",),
)
PYSLOWFAST = Layout(
    name="PySlowFast",
    wrapper="model_state",
    stem="s1.pathway0_stem.conv",
    stem_norm="s1.pathway0_stem.bn",
    conv="s{next_stage}.pathway0_res{block}.branch2.{letter}",
    norm="s{next_stage}.pathway0_res{block}.branch2.{letter}_bn",
    shortcut="s{next_stage}.pathway0_res{block}.branch1",
    shortcut_norm="s{next_stage}.pathway0_res{block}.branch1_bn",
    head="head.projection",
    mean=KINETICS_MEAN,
    std=KINETICS_STD,
)
# torchvision and timm use the same names
IMAGENET = Layout(
    name="ImageNet ResNet",
    wrapper="state_dict",
    stem="conv1",
    stem_norm="bn1",
    conv="layer{stage}.{block}.conv{number}",
    norm="layer{stage}.{block}.bn{number}",
    shortcut="layer{stage}.{block}.downsample.0",
    shortcut_norm="layer{stage}.{block}.downsample.1",
    head="fc",
    antialias=True,
    clip=(32, 2),  # the paper's (section 4.2)
    is_2d=True,
)
# the repository of TSM, whose names `tidy` has freed of the layers around them
TSM = replace(IMAGENET, name="TSM", head="new_fc", antialias=False, clip=None)
LAYOUTS = (OURS, MMACTION2, PYSLOWFAST, IMAGENET, TSM)

# The prefixes of BERT layers, by the encoder they suit best: UniVL's visual and cross encoders, then a text BERT.
BERT_PREFIXES = {
    "vision": ("visual.encoder.layer.", "bert.encoder.layer.", "encoder.layer."),
    "video_text": ("cross.encoder.layer.", "bert.encoder.layer.", "encoder.layer."),
}


def layer_names(layout: Layout, depths: tuple[int, ...]) -> list[tuple[str, bool]]:
    """Return the layers of `layout` in a fixed order, without the head; True marks a normalization."""
    names = [(layout.stem, False), (layout.stem_norm, True)]
    for stage, depth in enumerate(depths, start=1):
        for block in range(depth):
            place = {"stage": stage, "next_stage": stage + 1, "block": block}
            if block == 0:
                names += [(layout.shortcut.format(**place), False), (layout.shortcut_norm.format(**place), True)]
            for number, letter in enumerate("abc", start=1):
                place |= {"number": number, "letter": letter}
                names += [(layout.conv.format(**place), False), (layout.norm.format(**place), True)]
    return names


def key_map(layout: Layout, depths: tuple[int, ...]) -> dict[str, str]:
    """Return the name in `layout` for each of our names of the backbone's tensors, which are 318 for ResNet-50."""
    names = {}
    for (ours, is_norm), (theirs, _) in zip(layer_names(OURS, depths), layer_names(layout, depths), strict=True):
        for tensor in NORM_TENSORS if is_norm else ("weight",):
            names[f"{ours}.{tensor}"] = f"{theirs}.{tensor}"
    return names


def find_layout(keys: set[str]) -> Layout | None:
    """Return the layout whose stem is among `keys`, and whose head as well where two have the same stem."""
    found = [layout for layout in LAYOUTS if f"{layout.stem}.weight" in keys]
    return next((layout for layout in found if f"{layout.head}.weight" in keys), found[0] if found else None)


def tidy(tensors: dict[str, torch.Tensor], *, source: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors of a ResNet under names without the layers that TSM wraps around it, and the settings of a
    video ResNet that those or its kernels tell of.

    Raises:
        ValueError: If it has non-local blocks of another kind than those that are built here.
    """
    stem = tensors.get(f"{OURS.stem}.weight")
    if stem is not None and stem.ndim == 5 and stem.shape[2] > 1 and "blocks.6.proj.weight" in tensors:
        return _tidy_i3d(tensors)
    shifted = any(name.endswith(("conv1.conv.net.weight", "conv1.net.weight")) for name in tensors)
    renamed = {re.sub(r"\.net\.weight$", ".weight", name): tensor for name, tensor in tensors.items()}
    renamed = {name.removeprefix("base_model."): tensor for name, tensor in renamed.items()}
    stem = renamed.get(f"{MMACTION2.stem}.weight")
    if stem is not None and stem.ndim == 5 and stem.shape[2] > 1:
        return renamed, _settings_of_mmaction2_i3d(renamed, source=source)
    return renamed, {"temporal_shift_divisor": 8} if shifted else {}


def _settings_of_mmaction2_i3d(tensors: dict[str, torch.Tensor], *, source: str) -> dict[str, Any]:
    """Return the settings of mmaction2's I3D, with or without non-local blocks.

    Its strides in time are not in the tensors. Those of the configurations whose every bottleneck has a temporal
    kernel ("heavy") are 1, those of all others 2.
    """
    kernels: list[list[int]] = []
    places: list[list[int]] = []
    for stage in range(1, 5):
        blocks = range(sum(f"backbone.layer{stage}.{block}.conv1.conv.weight" in tensors for block in range(64)))
        convs = [tensors[f"backbone.layer{stage}.{block}.conv1.conv.weight"] for block in blocks]
        kernels.append([conv.shape[2] if conv.ndim == 5 else 1 for conv in convs])
        prefixes = [f"backbone.layer{stage}.{block}.non_local_block." for block in blocks]
        places.append(
            [place for place, prefix in enumerate(prefixes) if any(name.startswith(prefix) for name in tensors)]
        )
    is_heavy = min(size for stage in kernels for size in stage) > 1
    settings = {
        "stem_temporal_kernel_size": tensors[f"{MMACTION2.stem}.weight"].shape[2],
        "stem_temporal_stride": 1 if is_heavy else 2,
        "stem_pool_temporal_stride": 1 if is_heavy else 2,
        "temporal_kernel_sizes": kernels,
        "temporal_pool_size": 2,
    }
    if not any(places):
        return settings
    name = source.rsplit("/", 1)[-1].replace("-", "_")
    if "dot_product" in name or not any("non_local_block.theta." in tensor for tensor in tensors):
        raise ValueError(
            f"{source}: of mmaction2's non-local blocks only those of the embedded Gaussian are built here."
        )
    return settings | {"non_local_blocks": places, "non_local_scale": False, "non_local_pool_first": False}


def non_local_names(layout: Layout, blocks: Sequence[Sequence[int]]) -> dict[str, str]:
    """Return the name in mmaction2's layout for each of our names of the tensors of non-local blocks. Its last
    convolution has no bias."""
    names = {}
    for stage, places in enumerate(blocks if layout is MMACTION2 else (), start=1):
        for place in places:
            ours = f"blocks.{stage}.non_local_blocks.{place}"
            theirs = f"backbone.layer{stage}.{place}.non_local_block"
            for layer, other in (("theta", "theta"), ("phi", "phi.0"), ("g", "g.0")):
                for tensor in ("weight", "bias"):
                    names[f"{ours}.conv_{layer}.{tensor}"] = f"{theirs}.{other}.conv.{tensor}"
            names[f"{ours}.conv_out.weight"] = f"{theirs}.conv_out.conv.weight"
            for tensor in NORM_TENSORS:
                names[f"{ours}.norm.{tensor}"] = f"{theirs}.conv_out.bn.{tensor}"
    return names


def _tidy_i3d(tensors: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Renumber pytorchvideo's blocks, of which the pool after the first stage is one; here it is part of the stage."""
    renamed = {}
    for name, tensor in tensors.items():
        block = re.match(r"blocks\.([3-6])\.", name)
        renamed[name if block is None else f"blocks.{int(block[1]) - 1}.{name[block.end() :]}"] = tensor
    kernels: list[list[int]] = []
    for stage in range(1, 5):
        convs = (f"blocks.{stage}.res_blocks.{block}.branch2.conv_a.weight" for block in range(64))
        kernels.append([renamed[conv].shape[2] for conv in convs if conv in renamed])
    time = tensors["blocks.0.conv.weight"].shape[2]
    return renamed, {"stem_temporal_kernel_size": time, "temporal_kernel_sizes": kernels, "temporal_pool_size": 2}


def find_depths(layout: Layout, keys: set[str]) -> tuple[int, ...]:
    """Return the bottlenecks per stage. What fits no ResNet counts as ResNet-50, whose missing tensors can be
    named."""
    for depths in RESNET_DEPTHS:
        if all(f"{name}.weight" in keys for name, _ in layer_names(layout, depths)):
            return depths
    return RESNET_DEPTHS[-1]
