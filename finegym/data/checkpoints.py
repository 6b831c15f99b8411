"""The one place that loads models: safetensors, the project's own code, sizes that the weights vouch for, no gaps."""

import contextlib
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModel, AutoVideoProcessor, PreTrainedConfig, PreTrainedModel
from transformers.utils import cached_file

from modeling_finegym.configuration_checks import LARGEST
from modeling_finegym.optical_flow import MAX_FLOW_LEN

from .index import LABELS_FILE
from .labels import Labels
from .text import read_json, shorten


WEIGHTS = "model.safetensors"
SHARDS = "model.safetensors.index.json"
# What safetensors calls the types that weights have.
FLOATS = ("F64", "F32", "F16", "BF16")
# A processor's numbers beyond these ask for more memory than any clip takes.
MAX_SIDE = 4096
MAX_CLIPS = 1024
MAX_FRAME_RATE = 1000
MAX_SETTING = 1e6


def load_config(name: str | Path, *, revision: str | None = None) -> PreTrainedConfig:
    """Return the configuration of a checkpoint folder or Hub id. No code of the checkpoint is run.

    Raises:
        ValueError: If there is none or its values are impossible; the message names the checkpoint.
    """
    path = _file(name, "config.json", revision)
    if path is None:
        raise ValueError(f"{name} cannot be loaded: it has no config.json.")
    content = read_json(path, what="configuration", remedy="Save or download the checkpoint again.")
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a table of keys, not {type(content).__name__}.")
    if "quantization_config" in content:
        raise ValueError(f"{path} asks for quantized weights, which this project does not load.")
    _check_layers(content, path)
    with _explained(name):
        return AutoConfig.from_pretrained(name, revision=revision or "main", trust_remote_code=False)


def load_model(
    name: str | Path, auto_class: type = AutoModel, *, revision: str | None = None, **options: Any
) -> PreTrainedModel:
    """Return a model with all its weights, in eval mode.

    Args:
        name: A checkpoint folder or Hub id.
        auto_class: An Auto class, or a class of models.
        revision: The commit, tag or branch of a Hub id.
        options: For `from_pretrained`, such as `dtype`.

    Raises:
        ValueError: If the checkpoint cannot be read, has only pickled weights, describes a larger network than its
            weights are of, or lacks weights; the message names it.
    """
    config = load_config(name, revision=revision)
    num_weights = sum(_count_weights(path) for path in _weight_files(name, revision))
    with _explained(name):
        build = getattr(auto_class, "from_config", auto_class)
        with torch.device("meta"):
            num_parameters = sum(parameter.numel() for parameter in build(config).parameters())
    if num_parameters > num_weights:  # before memory is taken for them
        raise ValueError(
            f"{name} lacks weights: config.json describes a network of {num_parameters:,} of them, and its files hold "
            f"{num_weights:,}."
        )
    options = {"revision": revision or "main", "trust_remote_code": False, "use_safetensors": True, **options}
    with _explained(name):
        model, report = auto_class.from_pretrained(name, config=config, output_loading_info=True, **options)
    if report["missing_keys"]:
        raise ValueError(f"{name} lacks weights: {sorted(report['missing_keys'])[:3]} and perhaps more.")
    return model.eval()


def load_video_processor(name: str | Path, *, revision: str | None = None):
    """Return the video processor of a checkpoint folder or Hub id.

    Raises:
        ValueError: If the checkpoint has none or its values are impossible; the message names it.
    """
    with _explained(name):
        processor = AutoVideoProcessor.from_pretrained(name, revision=revision or "main", trust_remote_code=False)
        check_processor(processor)
    return processor


def load_labels(name: str | Path, *, revision: str | None = None) -> Labels | None:
    """Return the classes of a checkpoint folder or Hub id with their attributes; None if it does not say.

    Raises:
        ValueError: If its `labels.json` cannot be read; the message names it.
    """
    path = _file(name, LABELS_FILE, revision)
    return None if path is None else Labels.read(path)


def check_processor(processor) -> None:
    """Refuse numbers that no clip has.

    Raises:
        ValueError: If a number of the processor is impossible; the message names the setting.
    """
    limits = {"num_frames": LARGEST["num_frames"], "frame_interval": LARGEST["frame_interval"], "num_clips": MAX_CLIPS}
    for name, largest in limits.items():
        value = getattr(processor, name, None)
        is_left_out = value is None and not hasattr(processor, "load_clips")  # of Transformers' own processors
        if not is_left_out and (type(value) is not int or not 1 <= value <= largest):
            raise ValueError(f"{name} of its video processor must be between 1 and {largest}, got {value!r}")
    flow_len = getattr(processor, "flow_len", 0)
    if type(flow_len) is not int or not 0 <= flow_len <= MAX_FLOW_LEN:
        raise ValueError(f"flow_len of its video processor must be between 0 and {MAX_FLOW_LEN}, got {flow_len!r}")
    rate = getattr(processor, "frame_rate", None)
    if rate is not None and (type(rate) not in (int, float) or not 0 < rate <= MAX_FRAME_RATE):
        raise ValueError(
            f"frame_rate of its video processor must be between 0 and {MAX_FRAME_RATE} per second, got {rate!r}"
        )
    if type(getattr(processor, "protocol_counts_frames", False)) is not bool:
        raise ValueError("protocol_counts_frames of its video processor must be true or false")
    for name in ("size", "crop_size"):
        sides = dict(getattr(processor, name, None) or {})
        for side in sides.values():
            if side is not None and (type(side) is not int or not 1 <= side <= MAX_SIDE):
                raise ValueError(f"{name} of its video processor must be between 1 and {MAX_SIDE}, got {side!r}")
    _check_values(processor, 2 if flow_len else 3)


def _check_values(processor, num_channels: int) -> None:
    """Refuse settings of the transform that are of another type than theirs."""
    is_own = hasattr(processor, "load_clips")  # Transformers' own leave some out
    for name in ("image_mean", "image_std"):
        values = getattr(processor, name, None)
        if values is None and not (is_own and processor.do_normalize):
            continue
        is_list = isinstance(values, (list, tuple)) and len(values) == num_channels
        if not is_list or not all(_is_number(value) and (value > 0 or name == "image_mean") for value in values):
            raise ValueError(f"{name} of its video processor must be {num_channels} numbers, got {shorten(values)}")
    factor, resample = getattr(processor, "rescale_factor", 1.0), getattr(processor, "resample", None)
    if not _is_number(factor):
        raise ValueError(f"rescale_factor of its video processor must be a number, got {shorten(factor)}")
    if resample is not None and not isinstance(resample, int):
        raise ValueError(f"resample of its video processor must be one of PIL's numbers, got {shorten(resample)}")
    for name, is_used in (("crop_size", "do_center_crop"), ("size", "do_resize")):
        sides = dict(getattr(processor, name, None) or {})
        is_given = (sides.get("height") and sides.get("width")) or (name == "size" and sides.get("shortest_edge"))
        if is_own and getattr(processor, is_used) and not is_given:
            raise ValueError(f"{name} of its video processor must have a height and a width, got {sides}")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < MAX_SETTING


@contextlib.contextmanager
def _explained(name: str | Path) -> Iterator[None]:
    """Turn whatever Transformers, safetensors or torch raise over a checkpoint into one error that names it."""
    try:
        yield
    except Exception as error:
        # where every tensor is wrong, the whole message fills pages
        reason = " ".join(str(error).split())[:400] or type(error).__name__
        raise ValueError(f"{name} cannot be loaded: {reason}") from error


def _file(name: str | Path, file: str, revision: str | None) -> Path | None:
    """Return a file of a checkpoint, downloaded where it is a Hub id; None if the checkpoint has none."""
    with _explained(name):
        if Path(name).is_dir():
            return Path(name) / file if (Path(name) / file).is_file() else None
        path = cached_file(str(name), file, revision=revision or "main", _raise_exceptions_for_missing_entries=False)
        return None if path is None else Path(path)


def _weight_files(name: str | Path, revision: str | None) -> list[Path]:
    whole = _file(name, WEIGHTS, revision)
    if whole is not None:
        return [whole]
    index = _file(name, SHARDS, revision)
    if index is None:
        raise ValueError(
            f"{name} cannot be loaded: it has no {WEIGHTS}. Pickled weights are never opened here; `finegym convert` "
            "reads those of other projects."
        )
    content = read_json(index, what="index of weights", remedy="Save or download the checkpoint again.")
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    names = sorted(set(map(str, weight_map.values()))) if isinstance(weight_map, dict) else []
    files = [_file(name, shard, revision) for shard in names if re.fullmatch(r"[\w.-]+\.safetensors", shard)]
    if not names or len(files) < len(names) or None in files:
        raise ValueError(f"{index} names no weights, or weights that are not there: {names[:3]}.")
    return [file for file in files if file is not None]


def _count_weights(path: Path) -> int:
    """Return how many numbers a safetensors file holds, by its header."""
    num_weights = 0
    with _explained(path), safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (no dict)
            tensor = file.get_slice(name)
            if name.endswith(("weight", "bias")) and tensor.get_dtype() not in FLOATS:
                raise ValueError(f"{name!r} is of {tensor.get_dtype()}, which is not a type of weights.")
            num_weights += math.prod(tensor.get_shape())
    return num_weights


def _check_layers(content: Any, path: Path) -> None:
    """Depths and sizes are looked at before a configuration class or a network is made of them, at any level."""
    values = [content]
    while values:
        value = values.pop()
        for key, part in value.items() if isinstance(value, dict) else ():
            if isinstance(part, dict):
                values.append(part)
            largest = LARGEST["num_hidden_layers"] if "layers" in str(key) else 2**31 - 1
            for number in part if isinstance(part, list) else (part,):
                if type(number) is int and abs(number) > largest:
                    raise ValueError(f"{path}: {key} is {number}, more than {largest:,}.")


__all__ = ["check_processor", "load_config", "load_labels", "load_model", "load_video_processor"]
