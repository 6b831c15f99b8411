"""How other projects name the tensors of a SlowOnly and of BERT layers.

Every SlowOnly layout is one row of name templates, from which `key_map` makes the bijection between its names and ours
(which are pytorchvideo's), so that reading and writing follow from the same row.
"""

from dataclasses import dataclass


NORM_TENSORS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

# Bottlenecks per stage of ResNet-50, -101 and -152 (He et al. 2016, table 1); the deepest first, see `find_depths`.
RESNET_DEPTHS = ((3, 8, 36, 3), (3, 4, 23, 3), (3, 4, 6, 3))

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
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
LAYOUTS = (OURS, MMACTION2, PYSLOWFAST, IMAGENET)

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
    """Return the layout whose stem is among `keys`."""
    return next((layout for layout in LAYOUTS if f"{layout.stem}.weight" in keys), None)


def find_depths(layout: Layout, keys: set[str]) -> tuple[int, ...]:
    """Return the bottlenecks per stage. What fits no ResNet counts as ResNet-50, whose missing tensors can be
    named."""
    for depths in RESNET_DEPTHS:
        if all(f"{name}.weight" in keys for name, _ in layer_names(layout, depths)):
            return depths
    return RESNET_DEPTHS[-1]
