"""Weights from other projects: pickles that run code, tensors larger than their file, numbers that are not weights."""

import io
import pickle
import zipfile

import pytest
import torch

from finegym.hub.foreign_files import locate, read_tensors


class Act:
    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


class Picky:
    pass


WEIGHT = torch.zeros(4)
CONTENTS = {
    "a key of 100 kB": {"x" * 100_000: WEIGHT},
    "a key that is a number": {7: WEIGHT},
    "a key with a class": {"x": Picky()},
    "a tensor larger than its file": {"x": torch.zeros(1).expand(2**28)},
    "one larger in the second dimension": {"x": torch.zeros(2, 1).expand(2, 2**20)},
    "truths": {"x": torch.zeros(4, dtype=torch.bool)},
    "complex numbers": {"x": torch.zeros(4, dtype=torch.complex64)},
    "bytes": {"x": torch.zeros(4, dtype=torch.uint8)},
    "whole numbers for weights": {"layer.weight": torch.zeros(4, dtype=torch.int64)},
    "a sparse tensor": {"x": torch.eye(3).to_sparse()},
    "what is not finite": {"x": torch.tensor([float("nan")])},
    "two of one name": {"x": WEIGHT, "module.x": WEIGHT},
    "no tensors": {},
    "a list": [WEIGHT],
    "nothing": None,
    "a text": {"x": "weights"},
    "wrappers without end": {"state_dict": {"state_dict": {"state_dict": {}}}},
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_what_is_no_weight_is_refused_by_file(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x\.pth") as caught:
        read_tensors(tmp_path / "x.pth")
    assert len(str(caught.value)) < 600 + len(str(tmp_path))


def test_what_counts_is_read(tmp_path):
    torch.save({"state_dict": {"module.x": WEIGHT, "n.num_batches_tracked": torch.tensor(3)}}, tmp_path / "x.pth")
    assert list(read_tensors(tmp_path / "x.pth")) == ["x", "n.num_batches_tracked"]


def test_no_pickle_acts(tmp_path):
    """Write it in every form that torch has used: its archive, its older format, and bare."""
    burst = tmp_path / "burst"
    acts = [
        Act(open, str(burst), "w"),
        Act(eval, f"open({str(burst)!r}, 'w')"),
        Act(exec, f"open({str(burst)!r}, 'w')"),
    ]
    acts += [Act(getattr, Act(__import__, "os"), "getcwd"), Act(torch.hub.load, "a/b", "c")]
    for number, act in enumerate(acts):
        for content in (act, {"x": act}, {"state_dict": {"x": WEIGHT, "y": act}}):
            path = tmp_path / f"{number}.pth"
            for options in ({}, {"_use_new_zipfile_serialization": False}):
                torch.save(content, path, **options)
                with pytest.raises(ValueError, match=f"{number}.pth"):
                    read_tensors(path)
            path.write_bytes(pickle.dumps(content))
            with pytest.raises(ValueError, match=f"{number}.pth"):
                read_tensors(path)
    assert not burst.exists()


def test_damaged_files_are_refused_by_name(tmp_path):
    buffer = io.BytesIO()
    torch.save({"x": torch.arange(100.0)}, buffer)
    whole = buffer.getvalue()
    path = tmp_path / "x.pth"
    for position in range(0, len(whole), 37):
        for damaged in (whole[:position], whole[:position] + bytes([whole[position] ^ 255]) + whole[position + 1 :]):
            path.write_bytes(damaged)
            try:
                assert [tuple(tensor.shape) for tensor in read_tensors(path).values()] == [(100,)]
            except ValueError as error:
                assert "x.pth" in str(error) or "holds" in str(error)


def test_an_archive_that_unfolds_is_not_unfolded(tmp_path, monkeypatch):
    monkeypatch.setattr("finegym.hub.foreign_files.MAX_BYTES", 2**20)
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**21))
    assert path.stat().st_size < 2**14
    with pytest.raises(ValueError, match="x.pth holds 2,097,152 bytes, more than the 1,048,576"):
        read_tensors(path)


@pytest.mark.parametrize("address", ["http://x.org/a.pth", "file:///etc/passwd", "ftp://x.org/a.pth"])
def test_only_https_is_fetched(address):
    with pytest.raises(ValueError, match="is not an https address"):
        locate(address)


@pytest.mark.parametrize("name", ["", "..", ".", "%2e%2e", "a b", "x" * 300, ".hidden", "?x=/a.pth"])
def test_no_address_chooses_where_its_file_goes(name):
    with pytest.raises(ValueError, match="names no file"):
        locate(f"https://127.0.0.1:9/{name}")
