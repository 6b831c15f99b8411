"""The benchmark for a GPU runs here in small, so that its first minute on a GPU is not spent on a typing mistake."""

import json
import sys

import pytest
import torch

from benchmarks import gpu


@pytest.mark.slow
def test_every_section_runs_in_small(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu", "--smoke", "--folder", str(tmp_path)])
    gpu.main()
    written = json.loads((tmp_path / "gpu.json").read_text())
    figures = written["figures"]
    assert {f"seconds.{section.__name__}" for section in gpu.SECTIONS} <= figures.keys()
    assert all(value > 0 for name, value in figures.items() if name.endswith("per_second"))
    assert 0 < figures["ddp.efficiency"] < 2
    assert [row["what"] for row in written["runs"] if "skipped" in row and not torch.cuda.is_available()] == [
        "NVDEC",
        "tests",
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is missing where there is no GPU")
def test_without_a_gpu_it_says_so(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit, match="no CUDA device"):
        gpu.main()


def test_operations_are_counted_as_published():
    """pytorchvideo's model zoo gives Slow-R50 54.52 billion multiplications on 8 frames of 256 x 256 pixels."""
    setting = gpu.Setting("meta", False, num_frames=8, size=256, largest_batch=1, num_rounds=1)
    assert gpu.count_flops(setting) == pytest.approx(2 * 54.52e9, rel=1e-3)
