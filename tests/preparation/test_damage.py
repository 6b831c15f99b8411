"""Files that are not videos are distinguished by kind; an import that loses half of its videos fails."""

import json

import numpy as np
import pytest
from footage import encode, picture

from finegym.__main__ import main
from finegym.data.index import read_coverage, read_index
from finegym.preparation.cutting import Encoding
from finegym.preparation.damage import reason_of_damage
from finegym.preparation.own_data import import_videos


FORMATS = {
    "a.mp4": {},
    "a.mov": {},
    "a.mkv": {},
    "a.avi": {"codec": "mpeg4"},
    "a.ts": {},
    "a.gif": {"codec": "gif", "pixel_format": "rgb8"},
}


def film(path, first=0, length=8, size=32, **options):
    frames = [picture(first + number, size, size) for number in range(length)]
    encode(path, frames, np.arange(length) / 25, **options)
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_whole_files_of_any_container_are_not_called_damaged(tmp_path, name):
    assert reason_of_damage(film(tmp_path / name, **FORMATS[name]), name) is None


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.avi"])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_missing_end_is_seen(tmp_path, name, share):
    path = film(tmp_path / name, **FORMATS[name])
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert reason_of_damage(path, name).startswith(f"truncated: {name} ")


def test_an_mp4_with_its_index_in_front_lacks_what_was_cut_off(tmp_path):
    path = film(tmp_path / "a.mp4", movflags="+faststart")
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    assert reason_of_damage(path, "a.mp4") in (None, "truncated: a.mp4 lacks its last 100 bytes")
    moov_first = content.index(b"moov") < content.index(b"mdat")
    assert not moov_first or reason_of_damage(path, "a.mp4") is not None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty: a.mp4 has no bytes"),
        (b"<!DOCTYPE html>\n<html>", "text: a.mp4 is not a video but begins with '<!DOCTYPE html>'"),
        ("\n  Größe\n".encode(), "text: a.mp4 is not a video but begins with 'Größe'"),
        ("Größe".encode("utf-16"), "text: a.mp4 is not a video but begins with 'Größe'"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a", "text: a.mp4 is not a video but begins with"),
        (bytes(range(256)) * 40, None),
    ],
)
def test_empty_files_and_texts_are_named(tmp_path, content, reason):
    (tmp_path / "a.mp4").write_bytes(content)
    found = reason_of_damage(tmp_path / "a.mp4", "a.mp4")
    assert found == reason or found.startswith(reason)


@pytest.fixture(scope="module")
def half_lost(tmp_path_factory):
    """Two hundred videos of four classes, half of them truncated, noise, text or empty."""
    folder = tmp_path_factory.mktemp("lossy")
    whole = film(folder / "one.mp4").read_bytes()
    noise = np.random.default_rng(0).bytes(2000)
    damaged = (whole[: len(whole) // 2], noise, b"404 not found", b"")
    for number in range(200):
        path = folder / "mine" / f"class{number // 2 % 4}" / f"{number:03d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(whole if number % 2 else damaged[number // 2 % 4 - number // 8 % 2])
    return folder


def test_an_import_that_loses_half_says_so_last_and_fails(half_lost, tmp_path, capsys):
    arguments = ["import", str(half_lost / "mine"), str(tmp_path / "root"), "--short_side", "32", "--num_workers", "0"]
    assert main(arguments) == 1
    written = capsys.readouterr().err.strip().splitlines()
    lost = "LOST 100 of 200 videos (50.0 %): "
    assert written[-1].startswith(lost)
    assert sorted(written[-1][len(lost) :].split(". Each")[0].split(", ")) == [
        "25 empty",
        "25 text",
        "25 truncated",
        "25 undecodable",
    ]
    assert str(tmp_path / "root" / "coverage.json") in written[-1] and "--max_lost_share 0.01" in written[-1]
    content = json.loads((tmp_path / "root" / "coverage.json").read_text())
    assert sum(len(part["missing"]) for part in content["splits"].values()) == 100


def test_what_is_validated_on_is_drawn_from_what_can_be_read(half_lost, tmp_path, capsys):
    arguments = ["import", str(half_lost / "mine"), str(tmp_path / "root"), "--short_side", "32", "--num_workers", "0"]
    assert main([*arguments, "--max_lost_share", "0.5"]) == 0
    assert "LOST 100 of 200 videos" in capsys.readouterr().out.strip().splitlines()[-1]
    root = tmp_path / "root"
    assert (len(read_index(root, "train")), len(read_index(root, "val"))) == (80, 20)
    assert read_coverage(root, "val").missing == {} and len(read_coverage(root, "train").missing) == 100


def test_of_a_truncated_file_the_stretches_before_its_end_are_kept(tmp_path):
    film(tmp_path / "mine" / "b.mp4")
    path = film(tmp_path / "mine" / "a.mkv", length=60, codec="mjpeg", pixel_format="yuvj420p")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    rows = ["file_name,label,start,end,split", "b.mp4,x,,,val"]
    rows += ["a.mkv,x,0,0.4,train", "a.mkv,x,2,2.4,train", "a.mkv,x,0.4,,train"]
    (tmp_path / "mine" / "metadata.csv").write_text("\n".join(rows))
    import_videos(str(tmp_path / "mine"), tmp_path / "root", encoding=Encoding(32), num_workers=0, max_lost_share=0.5)
    assert [video.num_frames for video in read_index(tmp_path / "root", "train")] == [10]
    assert {
        name: reason.split(":")[0] for name, reason in read_coverage(tmp_path / "root", "train").missing.items()
    } == {
        "a_2.000_2.400": "video too short",
        "a_0.400_end": "truncated",
    }
