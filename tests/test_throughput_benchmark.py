"""The benchmark of the whole way from files to scores runs here in small."""

import json
import sys

import pytest

from benchmarks import throughput


@pytest.mark.slow
def test_every_measurement_is_made_once_and_kept(tmp_path, monkeypatch):
    command = ["throughput", "--num_files", "3", "--num_frames", "2", "--rounds", "1", "--short_rounds", "1"]
    monkeypatch.setattr(sys, "argv", [*command, "--work", str(tmp_path / "work"), "--folder", str(tmp_path)])
    throughput.main()
    written = json.loads((tmp_path / "throughput.json").read_text())
    figures = written["figures"]
    for path in throughput.PATHS:
        assert figures[f"{path}.share_of_limit"] > 0 and figures[f"{path}.videos_per_second"] > 0
    assert figures["loading.over_videomae.cpu_seconds"] > 0 and figures["bf16_over_fp32.slowonly.cpu_seconds"] > 0
    throughput.main()  # resumes with nothing left to do
    assert json.loads((tmp_path / "throughput.json").read_text())["runs"] == written["runs"]
