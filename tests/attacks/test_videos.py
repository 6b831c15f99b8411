"""Mutated videos in every format pass every door, or are refused by name, without a crash, a hang or a wrong frame."""

import json
import random

import pytest

from benchmarks import fuzz_videos
from benchmarks.fuzz_containers import parts
from benchmarks.fuzz_doors import pass_doors


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
    """Of the film that grows, only the last pictures before it does are lost, and named."""
    for name, content in films.items():
        (tmp_path / name).write_bytes(content)
        found = reader.run(pass_doors, tmp_path / name)
        assert json.loads(bytes(found["problems"].tolist())) == [], name
        count = fuzz_videos.COUNTS.get(name, fuzz_videos.NUM_FRAMES)
        numbers = found["numbers"].tolist()
        assert numbers == list(range(count)) or (name == "grows.ts" and numbers == list(range(count - 2))), name


def test_the_parts_of_every_container_are_found(films):
    for name, content in films.items():
        spans = parts(content)
        assert len(spans) > 6 and {0, len(content)} <= {place for span in spans for place in span}, name
        assert all(0 <= start < end <= len(content) for start, end in spans)


def test_changed_films(reader, films, tmp_path):
    try_cases(reader, films, tmp_path, [0])


@pytest.mark.slow
def test_a_thousand_changed_films(reader, films, tmp_path):
    try_cases(reader, films, tmp_path, range(1, 47))


@pytest.mark.slow
def test_whole_commands_account_for_every_film(reader, films, tmp_path):
    assert fuzz_videos.run_folder(reader, films, 0, tmp_path) is None
