"""Foreign weights that cannot be converted are refused, by the name of what is wrong with them."""

import os
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from finegym.hub.convert import convert
from finegym.hub.foreign_files import locate, read_tensors
from finegym.hub.layouts import MMACTION2
from tests.hub.foreign import renamed


def refuse(tmp_path, state, message):
    torch.save({"state_dict": state}, tmp_path / "theirs_4x16x1.pth")
    with pytest.raises(ValueError, match=message):
        convert(str(tmp_path / "theirs_4x16x1.pth"), tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_missing_and_foreign_and_misshapen_tensors_are_named(tmp_path, slow_r50):
    whole = renamed(slow_r50, MMACTION2)
    key = "backbone.layer4.2.conv3.conv.weight"
    refuse(
        tmp_path,
        {name: t for name, t in whole.items() if name != key},
        "'backbone.layer4.2.conv3.conv.weight' is missing",
    )
    wrong = {name.replace("layer4.2.conv3.conv", "layer4.2.conv3.convolution"): t for name, t in whole.items()}
    refuse(tmp_path, wrong, "'backbone.layer4.2.conv3.conv.weight' is missing.*conv3.convolution.weight")
    refuse(
        tmp_path,
        whole | {"backbone.layer3.1.non_local.g.weight": torch.ones(1)},
        "'backbone.layer3.1.non_local.g.weight'",
    )
    refuse(tmp_path, whole | {key: whole[key][:, :-1]}, r"layer4\.2\.conv3\.conv\.weight' has shape .*expected")
    refuse(
        tmp_path, whole | {"cls_head.fc_cls.weight": torch.ones(9, 5)}, r"'cls_head.fc_cls.weight' has shape \(9, 5\)"
    )
    refuse(tmp_path, {n: t for n, t in whole.items() if n != "cls_head.fc_cls.bias"}, "only one of")
    stem = whole["backbone.conv1.conv.weight"]
    refuse(tmp_path, whole | {"backbone.conv1.conv.weight": stem[:, :2]}, "2 channels, not RGB")
    refuse(tmp_path, whole | {key: whole[key] * float("nan")}, "conv3.conv.weight' has values that are not finite")
    refuse(tmp_path, {"encoder.weight": torch.ones(1)}, "names of no checkpoint that is known.*encoder.weight")
    refuse(tmp_path, whole | {key: "a string"}, "conv3.conv.weight' is not an ordinary tensor but a str")


class Payload:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("where", ["beside the weights", "among the weights"])
def test_a_file_that_carries_code_is_refused_and_the_code_never_runs(tmp_path, slow_r50, zipped, where):
    state, trap = renamed(slow_r50, MMACTION2), tmp_path / "the code ran"
    content = (
        {"state_dict": state, "hook": Payload(trap)} if where.startswith("beside") else state | {"x": Payload(trap)}
    )
    torch.save(content, tmp_path / "theirs_4x16x1.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"carries the object \w+\.mkdir, which could run code"):
        convert(str(tmp_path / "theirs_4x16x1.pth"), tmp_path / "ours")
    assert not trap.exists() and not (tmp_path / "ours").exists()
    # the trap works: without the guard the code runs
    torch.load(tmp_path / "theirs_4x16x1.pth", weights_only=False)
    assert trap.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_truncated_and_empty_files_are_damaged(tmp_path, slow_r50, suffix):
    path = tmp_path / f"theirs{suffix}"
    if suffix == ".pth":
        torch.save(slow_r50.state_dict(), path)
    else:
        save_file(slow_r50.state_dict(), path)
    whole = path.read_bytes()
    for num_bytes in (0, 7, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:num_bytes])
        with pytest.raises(ValueError, match=f"theirs{suffix} .*damaged"):
            read_tensors(path)


def test_what_would_fill_the_memory_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr("finegym.hub.foreign_files.MAX_BYTES", 100_000)
    torch.save({"x": torch.zeros(1).expand(2**40)}, tmp_path / "stride.pth")  # 4 bytes that claim to be 4 TB
    with pytest.raises(ValueError, match="'x' need more than 100,000 bytes"):
        read_tensors(tmp_path / "stride.pth")
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", bytes(10**6))
    assert (tmp_path / "bomb.pth").stat().st_size < 100_000
    with pytest.raises(ValueError, match="holds 1,000,000 bytes"):
        read_tensors(tmp_path / "bomb.pth")


def test_sources_that_are_not_there_or_not_safe(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint file at .*nowhere.pth"):
        locate(str(tmp_path / "nowhere.pth"))
    for address in ("http://example.org/a.pth", "file:///etc/passwd", "ftp://example.org/a.pth"):
        with pytest.raises(ValueError, match="not an https address"):
            locate(address)
    path = tmp_path / "a.pth"
    path.write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert locate(str(path), sha256="ba7816bf") == path
    with pytest.raises(ValueError, match="SHA-256 ba7816bf.*expected 00"):
        locate(str(path), sha256="00")


def test_a_folder_that_holds_something_is_left_alone(tmp_path, slow_r50):
    torch.save(slow_r50.state_dict(), tmp_path / "theirs_4x16x1.pth")
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        convert(str(tmp_path / "theirs_4x16x1.pth"), tmp_path / "ours")
    assert os.listdir(tmp_path / "ours") == ["notes.txt"]
