"""Content addresses: two things have the same fingerprint only if they are the same, whatever they are called."""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import torch
from transformers import PreTrainedConfig, PreTrainedModel

from finegym.data.files import write_text
from finegym.data.text import parse_json, read_text
from modeling_finegym.configuration_token_layouts import known_layout


# A file changed twice within one tick of its file system's clock looks unchanged: a stamp counts only if it was taken
# this many seconds after the change. FAT, the coarsest in use, ticks every two seconds.
CLOCK_TICK = 2.0
READ_BYTES = 1 << 20
# Under the names of the first version: others would be the address of other features.
UNFROZEN = {"freeze_backbone": False, "num_trainable_stages": 0}
# The stamps of five million files.
MAX_KNOWN_BYTES = 1 << 30
SHA256 = re.compile("[0-9a-f]{64}")


def fingerprint(content: Any) -> str:
    """Return the SHA-256, in hexadecimal, of anything JSON can express, whatever the order of its dictionaries."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def file_fingerprint(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def describe_backbone(model: PreTrainedModel) -> dict[str, Any]:
    """Return the frozen part of a model as JSON: its class, the settings that shape it, and the SHA-256 of its
    weights.

    A SlowOnly classifier and an encoder on that very SlowOnly have the same backbone. Labels and other fields that
    every configuration of Transformers has do not count. How an encoder reads the backbone's tokens counts where it is
    not as printed.
    """
    backbone = getattr(model.base_model, "backbone", model.base_model)
    generic = set(PreTrainedConfig().to_dict()) | {
        "auto_map",
        "custom_pipelines",
        "transformers_version",
        "model_type",
    }
    settings = {key: value for key, value in backbone.config.to_dict().items() if key not in generic}
    # Freezing changes no feature: an encoder that freezes its backbone shares the features of one that does not.
    if settings.pop("num_trainable_blocks", None) is not None:
        settings |= UNFROZEN
    digest = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    description = {"class": type(backbone).__name__, "settings": settings, "weights": digest.hexdigest()}
    read = _describe_reading(model.base_model.config)
    return description | ({"read": read} if read else {})


def _describe_reading(config: PreTrainedConfig) -> dict[str, Any]:
    """Return what of an encoder's way to read its backbone's tokens is neither as printed nor as the table says."""
    usual: dict[str, Any] = {"spatial_grid_size": 1, "backbone_layers": None}
    if getattr(config, "token_layout", None) is not None:
        num_prefix_tokens, order = known_layout(config.vision_config)
        known_by_the_model = order is not None and num_prefix_tokens is None
        usual["num_prefix_tokens"] = config.num_prefix_tokens if known_by_the_model else num_prefix_tokens
        usual["token_layout"] = order
    read = {name: getattr(config, name, value) for name, value in usual.items()}
    return {name: value for name, value in read.items() if value != usual[name]}


def describe_decoder() -> dict[str, str]:
    """Return the versions of what turns a file into pixels."""
    versions = av.library_versions
    return {"pyav": av.__version__} | {
        name: ".".join(map(str, versions[name])) for name in ("libavcodec", "libswscale")
    }


def fingerprint_files(paths: Iterable[str | Path], known: str | Path) -> dict[Path, str]:
    """Return the SHA-256 of each distinct file, reading only those that may have changed since the last time.

    A file counts as unchanged while size, inode, modification time and change time are. The change time is the
    system's own and cannot be set back, so that even a file replaced with its old modification time is read again.

    Args:
        paths: The files.
        known: A JSON file that keeps the stamps. It is created if needed, and may be deleted at any time.

    Raises:
        FileNotFoundError: If a file is missing; the message names the first one.
    """
    known, paths = Path(known), sorted({Path(path) for path in paths})
    try:
        remembered = parse_json(read_text(known, max_bytes=MAX_KNOWN_BYTES))
    except (FileNotFoundError, ValueError):
        remembered = {}
    if not isinstance(remembered, dict):
        remembered = {}

    def look_up(path: Path) -> tuple[str, list[int] | None]:
        stamp = _stamp(path)
        row = remembered.get(str(path))
        if isinstance(row, list) and row[:-1] == stamp and isinstance(row[-1], str) and SHA256.fullmatch(row[-1]):
            return row[-1], stamp
        settled = time.time() - max(stamp[2], stamp[3]) / 1e9 > CLOCK_TICK
        return file_fingerprint(path), stamp if settled else None

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = dict(zip(paths, pool.map(look_up, paths), strict=True))
    stamps = {str(path): [*stamp, digest] for path, (digest, stamp) in found.items() if stamp is not None}
    if any(remembered.get(path) != row for path, row in stamps.items()):
        write_text(known, json.dumps(remembered | stamps, indent=0))
    return {path: digest for path, (digest, _) in found.items()}


def _stamp(path: Path) -> list[int]:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"The video {path} is not there. `finegym prepare` lists what an index needs."
        ) from None
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
