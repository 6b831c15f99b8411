"""Every reader of files that strangers may write accepts a randomly mutated file, or refuses it by name."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz_readers import READERS, run_case


OPTIONS = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}


def check(name, chance):
    with tempfile.TemporaryDirectory(prefix="case-") as folder:
        assert run_case(name, chance, Path(folder)) is None


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=15, **OPTIONS)
@given(chance=st.randoms(use_true_random=False))
def test_a_changed_file_is_taken_or_refused_by_name(name, chance):
    check(name, chance)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
@settings(max_examples=1000, **OPTIONS)
@given(chance=st.randoms(use_true_random=False))
def test_a_thousand_changed_files_are_taken_or_refused_by_name(name, chance):
    check(name, chance)


@pytest.mark.parametrize("name", READERS)
def test_the_sound_file_is_read(name, tmp_path):
    READERS[name].make(tmp_path)
    READERS[name].read(tmp_path)
