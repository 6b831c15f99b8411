"""Weights of Inception networks: torchvision's S3D, Cadene's and yjxiong's BN-Inception, and the repositories of TSN
and TRN, whose models contain it."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from finegym.data.labels import Labels
from modeling_finegym import (
    BNInceptionConfig,
    BNInceptionForVideoClassification,
    BNInceptionModel,
    S3DConfig,
    S3DForVideoClassification,
    S3DModel,
    TrnConfig,
    TrnForVideoClassification,
)

from .conversion import Head, Report, take_head


def torchvision_name(ours: str) -> str:
    """Return torchvision's name for a tensor of our S3D: its layers and pools are numbered, and named by place."""
    name = re.sub(
        r"^blocks\.([123])\.blocks\.(\d)",
        lambda place: f"features.{(5, 8, 14)[int(place[1]) - 1] + int(place[2])}",
        ours,
    )
    for part, number in (("conv_1a", 0), ("conv_2b", 2), ("conv_2c", 3)):
        name = name.replace(f"blocks.0.{part}", f"features.{number}")
    name = name.replace("branch3.", "branch3.1.").replace(".spatial.", ".0.").replace(".temporal.", ".1.")
    return name.replace(".conv.", ".0.").replace(".norm.", ".1.")


def caffe_name(ours: str) -> str:
    """Return the name of a tensor of our BN-Inception in the networks that were ported from Caffe."""
    *place, layer, tensor = ours.split(".")
    path = ".".join(place)
    path = {
        "blocks.0.conv1": "conv1_7x7_s2",
        "blocks.0.conv2_reduce": "conv2_3x3_reduce",
        "blocks.0.conv2": "conv2_3x3",
    }.get(path, path)
    path = re.sub(
        r"^blocks\.([123])\.blocks\.(\d)\.",
        lambda place: f"inception_{int(place[1]) + 2}{'abcde'[int(place[2])]}_",
        path,
    )
    path = re.sub(r"_conv_1x1$", "_1x1", path)
    path = path.replace("_conv_3x3.0", "_3x3_reduce").replace("_conv_3x3.1", "_3x3")
    path = path.replace("double_3x3.0", "double_3x3_reduce")
    path = path.replace("double_3x3.2", "double_3x3_2").replace("double_3x3.1", "double_3x3_1")
    return f"{path}{'_bn' if layer == 'norm' else ''}.{tensor}"


@dataclass(frozen=True)
class InceptionLayout:
    """One network under the names of another project.

    Attributes:
        name: The name of the project.
        marker: A tensor that only this network has.
        name_of: Gives the project's name for one of ours.
        heads: The names that the classifier may have.
        mean, std: The normalization of its weights, for values from 0 to 1.
        num_frames: The frames of a clip, where nothing else says them.
        sampling: How these are taken from a video.
    """

    name: str
    marker: str
    name_of: Callable[[str], str]
    heads: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    num_frames: int
    sampling: str


S3D = InceptionLayout(
    name="torchvision S3D",
    marker="features.5.branch1.1.0.0.weight",
    name_of=torchvision_name,
    heads=("classifier.1",),
    mean=(0.43216, 0.394666, 0.37645),
    std=(0.22803, 0.22145, 0.216989),
    num_frames=8,  # the blocks of TQN; torchvision's classifier has seen longer clips
    sampling="centers",
)
BN_INCEPTION = InceptionLayout(
    name="BN-Inception",
    marker="conv1_7x7_s2.weight",
    name_of=caffe_name,
    heads=("new_fc", "last_linear", "fc"),
    # of values from 0 to 255: 104, 117 and 128 for blue, green and red, and no division
    mean=(128 / 255, 117 / 255, 104 / 255),
    std=(1 / 255,) * 3,
    num_frames=3,  # FineGym's supplement, section 1.1
    sampling="segments",
)
INCEPTION_LAYOUTS = (S3D, BN_INCEPTION)
COUNTER = "the counter of batches starts at 0"
# Beside the network in files of the repositories of TSN and TRN.
RELATION = re.compile(r"consensus\.fc_fusion_scales\.(\d+)\.([13])\.(weight|bias)")


def find_inception(tensors: dict[str, torch.Tensor]) -> InceptionLayout | None:
    """Return the layout whose marker is among the tensors, with or without the prefix of TSN and TRN."""
    names = {name.removeprefix("base_model.") for name in tensors}
    return next((layout for layout in INCEPTION_LAYOUTS if layout.marker in names), None)


def take_backbone(
    tensors: dict[str, torch.Tensor], layout: InceptionLayout, *, source: str
) -> tuple[PreTrainedModel, dict[str, str]]:
    """Move the network's tensors out of `tensors`; return it and, for each of its tensors, what was done.

    Raises:
        ValueError: If one is missing or has another shape; the message names it.
    """
    num_channels = 3
    if layout is S3D:
        backbone: PreTrainedModel = S3DModel(S3DConfig())
    else:
        num_channels = tensors[layout.marker].shape[1]
        backbone = BNInceptionModel(BNInceptionConfig(num_channels=num_channels))
    state, taken = {}, {}
    for ours, expected in backbone.state_dict().items():
        theirs = layout.name_of(ours)
        if theirs not in tensors and ours.endswith("num_batches_tracked"):
            state[ours], taken[ours] = torch.zeros((), dtype=torch.long), COUNTER
            continue
        if theirs not in tensors:
            raise ValueError(f"{source}: {theirs!r} is missing, so this is not a whole {layout.name}.")
        tensor = tensors.pop(theirs)
        if expected.ndim == 1 and tensor.shape == (1, *expected.shape):
            tensor = tensor[0]  # early files of BN-Inception
        if tensor.shape != expected.shape:
            raise ValueError(
                f"{source}: {theirs!r} has shape {tuple(tensor.shape)}, expected {tuple(expected.shape)} ({ours})."
            )
        state[ours], taken[ours] = tensor, "as it is"
    if layout is BN_INCEPTION and num_channels == 3:
        name = "blocks.0.conv1.conv.weight"
        state[name], taken[name] = state[name].flip(1), "for red, green and blue in place of blue, green and red"
    backbone.load_state_dict(state)
    return backbone, taken


def take_trn(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Move what mmaction2's TRN has beside its ResNet out of `tensors`, under the names of TRN's own repository; of
    another network there is nothing."""
    names = {name: name.removeprefix("cls_head.") for name in tensors if name.startswith("cls_head.")}
    if not any(RELATION.fullmatch(name) for name in names.values()):
        return {}
    return {name.replace("fc_cls.", "new_fc."): tensors.pop(theirs) for theirs, name in names.items()}


def make_trn(
    tensors: dict[str, torch.Tensor], backbone: PreTrainedModel, *, source: str, labels: Labels | None
) -> tuple[TrnForVideoClassification, dict[str, str]]:
    """Move TRN's own tensors out of `tensors`; return it on `backbone`, and what was done with them.

    Raises:
        ValueError: If the tensors are not those of a multi-scale TRN, or the labels are others; the message names one.
    """
    relations = {name: tensors.pop(name) for name in list(tensors) if RELATION.fullmatch(name)}
    scales = {int(RELATION.fullmatch(name)[1]) for name in relations}
    weight, bias = tensors.pop("new_fc.weight", None), tensors.pop("new_fc.bias", None)
    last = relations.get("consensus.fc_fusion_scales.0.3.weight")
    if weight is None or bias is None or last is None or scales != set(range(len(scales))):
        raise ValueError(f"{source}: 'new_fc' or a scale of 'consensus.fc_fusion_scales' is missing: no whole TRN.")
    config = TrnConfig(
        vision_config=backbone.config,
        num_frames=len(scales) + 1,
        hidden_size=weight.shape[0],
        num_labels=last.shape[0],
    )
    model = TrnForVideoClassification(config)
    state = {f"trn.backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}
    state |= {"trn.projection.weight": weight, "trn.projection.bias": bias}
    for name, tensor in relations.items():
        scale, layer, kind = RELATION.fullmatch(name).groups()
        state[f"relations.{scale}.{'hidden' if layer == '1' else 'classifier'}.{kind}"] = tensor
    for name, expected in model.state_dict().items():
        if name not in state or state[name].shape != expected.shape:
            found = "missing" if name not in state else f"of shape {tuple(state[name].shape)}"
            raise ValueError(f"{source}: {name} is {found}, expected {tuple(expected.shape)}.")
    model.load_state_dict(state)
    if labels:
        if len(labels.classes) != model.num_labels:
            raise ValueError(f"{source}: it has {model.num_labels} classes, the labels are {len(labels.classes)}.")
        model.config.id2label, model.config.label2id = labels.id2label, labels.label2id
    return model, dict.fromkeys(
        sorted(state.keys() - {f"trn.backbone.{name}" for name in backbone.state_dict()}), "as it is"
    )


def make_inception(
    tensors: dict[str, torch.Tensor],
    layout: InceptionLayout,
    *,
    source: str,
    labels: Labels | None,
    head: Head | None,
) -> tuple[PreTrainedModel, Report]:
    """Return an S3D, a BN-Inception or the TRN that contains it with the weights of `tensors`, and a classifier if
    they or the labels give it one.

    Raises:
        ValueError: If a tensor is missing, has another shape or belongs to another network; the message names it.
    """
    report = Report(source, layout.name)
    remaining = {name.removeprefix("base_model."): tensor for name, tensor in tensors.items()}
    backbone, taken = take_backbone(remaining, layout, source=source)
    for name, note in taken.items():
        (report.new if note == COUNTER else report.taken)[name] = note
    config = backbone.config
    if any(RELATION.fullmatch(name) for name in remaining):
        model, taken = make_trn(remaining, backbone, source=source, labels=labels)
        report.taken |= taken
    else:
        name = next((name for name in layout.heads if f"{name}.weight" in remaining), layout.heads[0])
        of_images = layout is BN_INCEPTION and name != "new_fc"
        classifier = take_head(remaining, name, config, report, of_images=of_images, labels=labels, head=head)
        model = backbone
        if classifier or labels:
            model = (S3DForVideoClassification if layout is S3D else BNInceptionForVideoClassification)(config)
            model.base_model.load_state_dict(backbone.state_dict())
        if classifier:
            model.classifier.load_state_dict(classifier)
        elif labels:
            report.new |= dict.fromkeys(("classifier.weight", "classifier.bias"), f"for the {model.num_labels} labels")
    if remaining:
        raise ValueError(
            f"{source}: {min(remaining)!r} has no place in a {layout.name}: this is another network's checkpoint."
        )
    return model, report
