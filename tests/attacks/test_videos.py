"""Mutated videos in every format are decoded, or refused by name, without a crash, a hang or a wrong frame."""

import random

import pytest

from benchmarks import fuzz_videos


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return fuzz_videos.make_sound(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def reader():
    reader = fuzz_videos.make_reader()
    yield reader
    reader.close()


def try_cases(reader, films, folder, seeds):
    for seed in seeds:
        for name in films:
            problem = fuzz_videos.run_case(reader, films, name, random.Random(f"{name}/{seed}"), folder)
            assert problem is None, f"{name}, seed {seed}"


def test_the_intact_films_show_every_frame(reader, films, tmp_path):
    for name, content in films.items():
        (tmp_path / name).write_bytes(content)
        count = 1 if name.startswith("single") else fuzz_videos.NUM_FRAMES
        assert reader.load_clips(tmp_path / name).weights.tolist() == list(range(count)), name


def test_changed_films(reader, films, tmp_path):
    try_cases(reader, films, tmp_path, range(4))


@pytest.mark.slow
def test_a_thousand_changed_films(reader, films, tmp_path):
    try_cases(reader, films, tmp_path, range(4, 71))
