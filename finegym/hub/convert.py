"""`finegym convert`: from checkpoints of other projects to checkpoint folders, and back."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from finegym.architectures import ARCHITECTURES, Architecture, ArchitectureName
from finegym.data.checkpoints import load_config, load_model, load_video_processor
from finegym.data.files import replacing
from finegym.data.labels import Labels
from modeling_finegym import FineGymVideoProcessor, SlowOnlyModel

from .conversion import Head, Report, take_head
from .foreign_files import RELEASES, locate, read_tensors
from .inception import find_inception, make_inception, make_trn, take_trn
from .layouts import BERT_PREFIXES, MMACTION2, Layout, find_depths, find_layout, key_map, non_local_names, tidy


# Frames and frame interval in the names of pytorchvideo, PySlowFast and mmaction2: SLOW_8x8_R50, .._4x16x1_120e_gym99.
CLIP_IN_NAME = re.compile(r"(?<![0-9a-zA-Z])(\d+)x(\d+)(?:x\d+)?(?![0-9a-zA-Z])")
# Segments in the names of TSM and mmaction2: TSM_.._avg_segment8_e50, tsm_r50_1x1x8_50e_kinetics400_rgb.
SEGMENTS_IN_NAME = re.compile(r"(?<![0-9a-zA-Z])(?:segment(\d+)|1x1x(\d+))(?![0-9a-zA-Z])")


def convert(
    source: str,
    output: Path,
    *,
    labels: Path | None = None,
    head: Head | None = None,
    num_frames: int | None = None,
    frame_interval: int | None = None,
    architecture: ArchitectureName = "slowonly",
    backbone: Path | None = None,
    num_hidden_layers: int | None = None,
    sha256: str | None = None,
) -> str:
    """Turn the weights of another project into a checkpoint folder.

    mmaction2, pytorchvideo, PySlowFast, ImageNet ResNets of torchvision and timm, torchvision's S3D, BN-Inception, the
    repositories of TSN, TRN and TSM, UniVL and BERT are told apart by the names of their tensors.

    The arguments and their defaults are those of `finegym convert`.

    Returns:
        A report for people to read: the tensors taken, dropped and newly made.

    Raises:
        FileNotFoundError: If there is no such source.
        ValueError: If the source is not a known checkpoint; the message names the file and the tensor.
    """
    if Path(output).exists() and any(Path(output).iterdir()):
        raise ValueError(f"{output} is not empty: name a new folder for the checkpoint.")
    tensors = read_tensors(locate(source, sha256=sha256))
    known_labels = Labels.read(labels) if labels else None
    inception = find_inception(tensors)
    if inception:
        model, report = make_inception(tensors, inception, source=source, labels=known_labels, head=head)
        if num_frames and model.config.num_frames != num_frames:
            model.config.num_frames = num_frames
        processor = FineGymVideoProcessor(
            image_mean=list(inception.mean),
            image_std=list(inception.std),
            num_frames=model.config.num_frames,
            frame_interval=frame_interval or 1,
            sampling=inception.sampling,
            antialias=False,
        )
    elif _is_resnet(tensors):
        model, processor, report = _convert_resnet(
            tensors,
            architecture,
            source=source,
            labels=known_labels,
            head=head,
            num_frames=num_frames,
            frame_interval=frame_interval,
        )
    else:
        model, report = make_encoder(
            tensors,
            source=source,
            architecture=architecture,
            backbone=backbone,
            labels=known_labels,
            num_hidden_layers=num_hidden_layers,
        )
        processor = load_video_processor(backbone)
    model.save_pretrained(output)
    processor.save_pretrained(output)
    clip = f"{processor.num_frames} frames, interval {processor.frame_interval}"
    clip += "" if processor.antialias else ", resized without antialiasing"
    values = f"mean {processor.image_mean}, std {processor.image_std}"
    return f"{report}\n  clips    {clip}; {values}\nWritten to {output}."


def _is_resnet(tensors: dict[str, torch.Tensor]) -> bool:
    return find_layout({name.removeprefix("base_model.") for name in tensors}) is not None


def _convert_resnet(
    tensors: dict[str, torch.Tensor],
    architecture: ArchitectureName,
    *,
    source: str,
    num_frames: int | None,
    frame_interval: int | None,
    **options: Any,
) -> tuple[PreTrainedModel, FineGymVideoProcessor, Report]:
    row = ARCHITECTURES[architecture]
    if row.needs_backbone:
        raise ValueError(f"{source} holds a ResNet, and architecture {architecture} is an encoder: leave it out.")
    tensors, settings = tidy(tensors, source=source)
    layout = find_layout(set(tensors))
    # networks of videos whose kernels are those of images see frames of segments: TSN and TSM
    sees_segments = not layout.of_images and tensors[f"{layout.stem}.weight"].ndim == 4
    if settings or sees_segments:
        row = ARCHITECTURES["video_resnet"]
    if "stem_temporal_stride" in settings:  # how short a clip may be depends on it
        settings["num_frames"], _ = find_clip(source, layout, num_frames, frame_interval)
    relations = take_trn(tensors) if sees_segments else {}
    if relations:
        backbone, report = make_resnet(tensors, layout, row, source=source, labels=None, head="drop")
        model, taken = make_trn(relations, backbone, source=source, labels=options["labels"])
        report.taken |= taken
        num_frames = model.config.num_frames
    else:
        model, report = make_resnet(tensors, layout, row, source=source, settings=settings, **options)
    if sees_segments:
        named = SEGMENTS_IN_NAME.search(source.rsplit("/", 1)[-1])
        num_frames = num_frames or (int(named[1] or named[2]) if named else None)
        frame_interval = 1
    model.config.num_frames, model.config.frame_interval = find_clip(source, layout, num_frames, frame_interval)
    processor = FineGymVideoProcessor(
        image_mean=list(layout.mean),
        image_std=list(layout.std),
        num_frames=model.config.num_frames,
        frame_interval=model.config.frame_interval,
        sampling="segments" if sees_segments else "centers",
        antialias=layout.antialias,
    )
    return model, processor, report


def find_clip(source: str, layout: Layout, num_frames: int | None, frame_interval: int | None) -> tuple[int, int]:
    """Return the frames and frame interval of the clips that a checkpoint was trained on: as asked, or as its file's
    name says.

    Raises:
        ValueError: If neither says it. The model would accept any number of frames, and most would give bad results.
    """
    named = CLIP_IN_NAME.search(RELEASES.get(source, source).rsplit("/", 1)[-1])
    clip = layout.clip or (tuple(map(int, named.groups())) if named else (None, None))
    num_frames, frame_interval = num_frames or clip[0], frame_interval or clip[1]
    if not num_frames or not frame_interval:
        raise ValueError(
            f"{source} does not say which clips it was trained on: give --num_frames and --frame_interval, 4 and 16 "
            "for a 4x16 model."
        )
    return num_frames, frame_interval


def make_resnet(
    tensors: dict[str, torch.Tensor],
    layout: Layout,
    architecture: Architecture,
    *,
    source: str,
    labels: Labels | None,
    head: Head | None,
    settings: dict[str, Any] | None = None,
) -> tuple[PreTrainedModel, Report]:
    """Return a SlowOnly or video ResNet with the weights of `tensors`, which has a classifier if they or the labels
    give it one.

    Raises:
        ValueError: If a tensor is missing, has another shape or belongs to another network; the message names it.
    """
    report = Report(source, layout.name)
    depths = find_depths(layout, set(tensors))
    names = key_map(layout, depths) | non_local_names(layout, (settings or {}).get("non_local_blocks", ()))
    remaining = dict(tensors)
    state = {}
    for ours, theirs in names.items():
        if theirs in remaining:
            state[ours] = remaining.pop(theirs)
            report.taken[ours] = "as it is"
        elif ours.endswith("num_batches_tracked"):
            state[ours] = torch.zeros((), dtype=torch.long)
            report.new[ours] = "the counter of batches starts at 0"
        else:
            raise ValueError(
                f"{source}: {theirs!r} is missing, so this is not a whole {layout.name} checkpoint of a SlowOnly. "
                f"Without a place are {sorted(set(remaining) - set(names.values()))[:3]}."
            )
    _fill_biases(state, report)
    is_2d = layout.is_2d or (layout is MMACTION2 and state["blocks.0.conv.weight"].ndim == 4)
    sizes = _read_sizes(state, depths, source=source, is_2d=is_2d)
    config = architecture.config_class(**sizes | (settings or {}))
    classifier = take_head(
        remaining, layout.head, config, report, of_images=layout.of_images, labels=labels, head=head
    )
    for theirs in remaining:
        if not theirs.startswith(layout.ignored or ("\0",)):
            raise ValueError(f"{source}: {theirs!r} has no place in a SlowOnly: this is another network's checkpoint.")
        report.dropped[theirs] = "no part of the network"
    if labels or classifier:
        model = architecture.classifier_class(config)
        backbone = model.base_model
    else:
        model = backbone = architecture.model_class(config)
    _load(backbone, state, names, source=source, report=report)
    if classifier:
        model.classifier.load_state_dict(classifier)
    elif labels:
        report.new |= dict.fromkeys(("classifier.weight", "classifier.bias"), f"for the {len(labels.classes)} labels")
    return model, report


def _read_sizes(
    state: dict[str, torch.Tensor],
    depths: tuple[int, ...],
    *,
    source: str,
    is_2d: bool,
) -> dict[str, Any]:
    stem = state["blocks.0.conv.weight"]
    stages = range(1, len(depths) + 1)
    first_convs = [state[f"blocks.{stage}.res_blocks.0.branch2.conv_a.weight"] for stage in stages]
    last_convs = [state[f"blocks.{stage}.res_blocks.0.branch2.conv_c.weight"] for stage in stages]
    num_dimensions = 4 if is_2d else 5
    for tensor in (stem, *first_convs, *last_convs):
        if tensor.ndim != num_dimensions:
            raise ValueError(
                f"{source} has a kernel of shape {tuple(tensor.shape)}, expected {num_dimensions} dimensions."
            )
    if stem.shape[1] != 3:
        raise ValueError(f"{source} takes {stem.shape[1]} channels, not RGB: it sees optical flow or poses.")
    sizes = {
        "stem_width": stem.shape[0],
        "hidden_sizes": [conv.shape[0] for conv in last_convs],
        "depths": list(depths),
    }
    return sizes if is_2d else sizes | {"temporal_kernel_sizes": [conv.shape[2] for conv in first_convs]}


def _load(
    backbone: nn.Module, state: dict[str, torch.Tensor], names: dict[str, str], *, source: str, report: Report
) -> None:
    """Copy `state` into `backbone`, repeating 2-D kernels over time, after comparing every shape."""
    for ours, expected in backbone.state_dict().items():
        tensor = state[ours]
        if expected.ndim == 5 and tensor.ndim == 4:
            # "inflation" (I3D, arXiv 1705.07750): a video of one still image gives the image's activations
            num_steps = expected.shape[2]
            tensor = tensor.unsqueeze(2).expand(-1, -1, num_steps, -1, -1) / num_steps
            if num_steps > 1:
                report.taken[ours] = f"repeated over {num_steps} steps and divided by {num_steps}"
        if tensor.shape != expected.shape:
            raise ValueError(
                f"{source}: {names[ours]!r} has shape {tuple(state[ours].shape)}, expected "
                f"{tuple(expected.shape)} ({ours})."
            )
        state[ours] = tensor
    backbone.load_state_dict(state)


def _fill_biases(state: dict[str, torch.Tensor], report: Report) -> None:
    """Add zeros for the biases that mmaction2's non-local blocks do not have."""
    for name, weight in list(state.items()):
        if name.endswith("conv_out.weight") and "non_local_blocks" in name:
            bias = name.replace("conv_out.weight", "conv_out.bias")
            state[bias] = weight.new_zeros(len(weight))
            report.new[bias] = "zeros, as mmaction2 has none"


def make_encoder(
    tensors: dict[str, torch.Tensor],
    *,
    source: str,
    architecture: ArchitectureName,
    backbone: Path | None,
    labels: Labels | None,
    num_hidden_layers: int | None,
) -> tuple[PreTrainedModel, Report]:
    """Return a 3D vision encoder or a video-text cross encoder whose layers come from UniVL or BERT; the rest of it is
    new.

    Raises:
        ValueError: If there are no BERT layers or too few, or an argument that the encoder needs is missing.
    """
    # Google's and UniVL's files still call the parameters of LayerNorm gamma and beta
    renamed = {name.replace(".gamma", ".weight").replace(".beta", ".bias"): tensor for name, tensor in tensors.items()}
    prefixes = BERT_PREFIXES.get(architecture, BERT_PREFIXES["vision"])
    prefix = next((prefix for prefix in prefixes if any(name.startswith(prefix) for name in renamed)), None)
    if prefix is None:
        raise ValueError(
            f"{source} has the names of no checkpoint that is known here (pytorchvideo, mmaction2, PySlowFast, a "
            f"ResNet of torchvision or timm, UniVL, BERT). Its first tensors are {sorted(tensors)[:3]}."
        )
    if not ARCHITECTURES[architecture].needs_backbone or not backbone or not labels:
        raise ValueError(
            f"{source} holds BERT layers: say which encoder they are for (architecture: vision or video_text), on "
            "which SlowOnly checkpoint (backbone), and for which classes (labels)."
        )
    layers = {name.removeprefix(prefix): tensor for name, tensor in renamed.items() if name.startswith(prefix)}
    slowonly = load_model(backbone, SlowOnlyModel)
    model = _new_encoder(architecture, slowonly, labels, layers, num_hidden_layers, source=source)
    encoder = model.base_model.encoder
    report = Report(source, f"BERT layers under {prefix}")
    state = {}
    for ours, expected in encoder.state_dict().items():
        theirs = ours.removeprefix("layer.")
        if theirs not in layers:
            raise ValueError(f"{source}: {prefix + theirs!r} is missing.")
        if layers[theirs].shape != expected.shape:
            shape = tuple(layers[theirs].shape)
            raise ValueError(f"{source}: {prefix + theirs!r} has shape {shape}, expected {tuple(expected.shape)}.")
        state[ours] = layers.pop(theirs)
        report.taken[f"encoder.{ours}"] = "as it is"
    encoder.load_state_dict(state)
    model.base_model.backbone.load_state_dict(slowonly.state_dict())
    report.taken |= {f"backbone.{name}": f"from {backbone}" for name in slowonly.state_dict()}
    report.dropped = {prefix + name: "deeper than this encoder" for name in layers}
    report.dropped |= {name: "no layer of this encoder" for name in renamed if not name.startswith(prefix)}
    taken = ("encoder.", "backbone.")
    names = (name.removeprefix(f"{model.base_model_prefix}.") for name in model.state_dict())
    report.new = {name: "to be trained" for name in names if not name.startswith(taken)}
    return model, report


def _new_encoder(
    architecture: ArchitectureName,
    slowonly: SlowOnlyModel,
    labels: Labels,
    layers: dict[str, torch.Tensor],
    num_hidden_layers: int | None,
    *,
    source: str,
) -> PreTrainedModel:
    query, dense = "0.attention.self.query.weight", "0.intermediate.dense.weight"
    if query not in layers or dense not in layers:
        raise ValueError(f"{source}: {query!r} or {dense!r} is missing among its BERT layers.")
    sizes = {
        "hidden_size": layers[query].shape[0],
        # every BERT and UniVL has heads of 64 channels
        "num_attention_heads": max(1, layers[query].shape[0] // 64),
        "intermediate_size": layers[dense].shape[0],
    }
    if num_hidden_layers:
        sizes["num_hidden_layers"] = num_hidden_layers
    arguments = {"vision_config": slowonly.config, "id2label": labels.id2label, "label2id": labels.label2id, **sizes}
    row = ARCHITECTURES[architecture]
    if row.needs_attributes:
        labels.require_attributes()
        arguments["attribute_names"] = labels.attributes
    return row.classifier_class(row.config_class(**arguments))


def to_mmaction2(checkpoint: str | Path, output: Path) -> str:
    """Write a SlowOnly checkpoint folder as a file that mmaction2 0.x and 1.x load (`load_from`), tensor for tensor.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If the checkpoint is not a SlowOnly.
    """
    path = Path(checkpoint) / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint in {checkpoint}: {path.name} is missing.")
    tensors = {name.removeprefix("slowonly."): tensor for name, tensor in read_tensors(path).items()}
    config = load_config(checkpoint)
    names = key_map(MMACTION2, tuple(config.depths))
    names |= {f"classifier.{tensor}": f"{MMACTION2.head}.{tensor}" for tensor in ("weight", "bias")}
    unknown = sorted(set(tensors) - set(names))
    if unknown:
        raise ValueError(f"{path} is not a SlowOnly: mmaction2 has no name for {unknown[0]!r}.")
    state = {names[name]: tensor for name, tensor in tensors.items()}
    with replacing(output) as temporary:
        torch.save({"meta": {"CLASSES": list(config.label2id)}, MMACTION2.wrapper: state}, temporary)
    return f"{len(state)} tensors under mmaction2's names written to {output}."


__all__ = ["convert", "make_encoder", "make_resnet", "to_mmaction2"]
