"""Checkpoint files of other projects: where they are, and their tensors.

This is the only place in the project that reads pickled files, and it reads them with `weights_only=True`: a file that
carries code is refused before any of it runs.
"""

import hashlib
import mmap
import pickle
import re
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import torch
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file
from tqdm import tqdm

from finegym.data.files import replacing
from finegym.data.text import shorten
from modeling_finegym.downloading import download


# Files and their tensors may not be larger than this; a SlowOnly-R152 has 0.2 GB, a BERT-large 1.3 GB.
MAX_BYTES = 4 * 2**30

RELEASES = {
    "slow_r50": "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/SLOW_8x8_R50.pyth",
    "slowonly_gym99": "https://download.openmmlab.com/mmaction/recognition/slowonly/"
    "slowonly_imagenet_pretrained_r50_4x16x1_120e_gym99_rgb/"
    "slowonly_imagenet_pretrained_r50_4x16x1_120e_gym99_rgb_20201111-a9c34b54.pth",
    "i3d_r50": "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/I3D_8x8_R50.pyth",
    "s3d": "https://download.pytorch.org/models/s3d-d76dad2f.pth",
    "resnet50": "https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
}
# mmaction2 and torchvision end their file names with the first digits of the file's SHA-256.
SHA256_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")
FILE_NAME = re.compile(r"[\w-][\w.-]{0,199}")
CAFFE2_LAYER = b"res_conv1_bn_s"
# The longest name in any checkpoint that is known here has 71 characters.
MAX_NAME = 500
COUNTERS = (torch.int64, torch.int32)


def locate(source: str, *, sha256: str | None = None) -> Path:
    """Return the file behind `source`, downloaded if it is elsewhere.

    Args:
        source: A file, an https address, a Hub repository (`owner/name`), or a name in `RELEASES`.
        sha256: The digits that the file's SHA-256 must begin with; by default those in the file's name, if any.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the address is not https, or the file has another SHA-256.
    """
    address = RELEASES.get(source, source)
    if "://" in address and not address.startswith("https://"):
        raise ValueError(f"{source} is not an https address; checkpoints are not fetched in any other way.")
    if not address.startswith("https://"):
        path = Path(address)
        if not path.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", address):
            path = Path(hf_hub_download(address, "model.safetensors"))
        if not path.is_file():
            raise FileNotFoundError(f"There is no checkpoint file at {source}.")
    else:
        name = urlsplit(address).path.rsplit("/", 1)[-1]
        if not FILE_NAME.fullmatch(name):
            raise ValueError(f"{source} names no file: its last part is {name[:80]!r}.")
        path = Path(torch.hub.get_dir()) / "checkpoints" / name
        if not path.is_file():
            with replacing(path) as temporary, tqdm(desc=name, unit="B", unit_scale=True, leave=False) as bar:
                download(address, temporary, max_bytes=MAX_BYTES, on_bytes=bar.update)
        named = SHA256_IN_NAME.search(path.name)
        sha256 = sha256 or (named.group(1) if named else None)
    if sha256:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(sha256.lower()):
            raise ValueError(f"{path} has SHA-256 {digest}, expected {sha256}: delete it and fetch it again.")
    return path


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a `.safetensors` file or of a file written by `torch.save`, without the wrappers around
    them.

    Raises:
        ValueError: If the file carries anything but tensors and plain values, is damaged or is too large; the message
            names the file, and the tensor where there is one.
    """
    content = _read_file(path)
    for wrapper in ("state_dict", "model_state", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds a {type(content).__name__}, not the tensors of a network.")
    num_bytes = 0
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in content.items():
        if not isinstance(name, str) or len(name) > MAX_NAME:
            raise ValueError(f"{path}: {shorten(name)} is not the name of a tensor.")
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.is_quantized:
            raise ValueError(f"{path}: {name!r} is not an ordinary tensor but a {type(tensor).__name__}.")
        num_bytes += tensor.numel() * tensor.element_size()
        if num_bytes > MAX_BYTES:
            raise ValueError(f"{path}: the tensors up to {name!r} need more than {MAX_BYTES:,} bytes.")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError(f"{path}: {name!r} has fewer numbers than its shape {tuple(tensor.shape)} says.")
        # counters of batches and tables of positions are whole numbers, not weights
        if not tensor.is_floating_point() and (tensor.dtype not in COUNTERS or name.endswith((".weight", ".bias"))):
            raise ValueError(f"{path}: {name!r} is of {tensor.dtype}, which is not a type of weights.")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{path}: {name!r} has values that are not finite; the training it comes from diverged.")
        plain = name.removeprefix("module.")
        if plain in tensors:
            raise ValueError(f"{path}: there are two tensors {plain!r}.")
        tensors[plain] = tensor
    return tensors


def _read_file(path: Path) -> object:
    num_bytes = path.stat().st_size
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                num_bytes = max(num_bytes, sum(member.file_size for member in archive.infolist()))
    except Exception as error:
        raise ValueError(f"{path} is damaged or not a checkpoint ({error}). Fetch it again.") from error
    if num_bytes > MAX_BYTES:
        raise ValueError(f"{path} holds {num_bytes:,} bytes, more than the {MAX_BYTES:,} that are read.")
    if _is_of_caffe2(path):
        raise ValueError(
            f"{path} is a pickle of Caffe2, as SlowFast's model zoo and video-nonlocal-net have them. It could run "
            "code, so it was not opened. `finegym convert i3d_r50` fetches an I3D that is free of it."
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        carried = re.search(r"GLOBAL ([\w.]{1,100})", str(error)[:10_000])
        what = f"the object {carried.group(1)}" if carried else "what is not a tensor"
        raise ValueError(
            f"{path} carries {what}, which could run code, so it was not opened; or it is damaged. If you trust its "
            "origin, save the state dict alone where it was made: torch.save({'state_dict': ...}, ...)."
        ) from error
    except Exception as error:  # torch lets through whatever a damaged file makes its parts raise
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ValueError(f"{path} is damaged or not a checkpoint ({reason}). Fetch it again.") from error


def _is_of_caffe2(path: Path) -> bool:
    """Return whether a file, which stays unopened, begins as a pickle and names a layer of Caffe2's ResNets."""
    with open(path, "rb") as file:
        if not path.stat().st_size or file.read(1) not in (b"\x80", b"(", b"}"):  # how pickles begin
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(CAFFE2_LAYER) >= 0


__all__ = ["RELEASES", "locate", "read_tensors"]
