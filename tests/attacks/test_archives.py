"""Tar archives from strangers: members that run backwards, escape the archive or end it; names no disk accepts."""

import io
import os
import random
import struct
import tarfile

import pytest

from finegym.preparation.assemble import assemble
from finegym.preparation.cutting import Encoding
from finegym.preparation.own_data import plan_own_data
from finegym.preparation.sources import find_video_files


def header(name=b"jump/a.mp4", size=b"%011o\0" % 0, kind=b"0", **places) -> bytes:
    """Return a block of 512 bytes with a valid checksum, whatever its content."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:108] = b"0000644\0"
    block[124:136] = size
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    for place, content in places.items():
        start = int(place.removeprefix("at_"))
        block[start : start + len(content)] = content
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def base256(number: int) -> bytes:
    return bytes([0xFF if number < 0 else 0x80]) + (number % 2**88).to_bytes(11, "big")


def pax(text: bytes) -> bytes:
    return header(b"pax", b"%011o\0" % len(text), b"x") + text.ljust(-(-len(text) // 512) * 512, b"\0")


def record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    while length != len(str(length)) + len(key) + len(value) + 3:
        length = len(str(length)) + len(key) + len(value) + 3
    return b"%d %s=%s\n" % (length, key, value)


VIDEO = header(b"jump/good.mp4", b"%011o\0" % 5) + b"video".ljust(512, b"\0")
END = bytes(1024)
MEMBERS = {
    "of size -512": header(size=base256(-512)),
    "of size -2**80": header(size=base256(-(2**80))),
    "of size 2**80": header(size=base256(2**80)),
    "of a size in letters": header(size=b"zzzzzzzzzzzz"),
    "of size -512 by PAX": pax(record(b"size", b"-512")) + header(),
    "of size 2**80 by PAX": pax(record(b"size", b"%d" % 2**80)) + header(),
    "with a PAX record of length 0": pax(b"0 x=y\n") + header(),
    "with a PAX record of digits": pax(b"9" * 5000 + b" x=y\n") + header(),
    "with a PAX text that is none": pax(record(b"path", b"\xff\xfe")) + header(),
    "sparse without a map": pax(record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.minor", b"0")) + header(),
    "sparse with a map of letters": pax(record(b"GNU.sparse.map", b"a,b")) + header(),
    "sparse of size x": pax(record(b"GNU.sparse.size", b"x") + record(b"GNU.sparse.map", b"0,1")) + header(),
    "sparse in the old way": header(kind=b"S", at_386=b"77777777777x" * 8, at_482=b"\1"),
    "with a long name of exabytes": header(b"././@LongLink", base256(2**60), b"L"),
    "with a long name of 2 MB": header(b"././@LongLink", b"%011o\0" % 2**21, b"L") + bytes(2**21) + header(),
    "behind ten thousand long names": (header(b"l", b"%011o\0" % 2, b"L") + b"a\0".ljust(512, b"\0")) * 10_000,
    "with a wrong checksum": b"x" * 512,
    "that is cut": header()[:300],
    "that leads out": header(b"../../jump/a.mp4"),
    "that leads out on Windows": header(b"..\\..\\jump/a.mp4"),
    "from the root": header(b"/etc/jump/a.mp4"),
    "that is a link": header(kind=b"2", at_157=b"/etc/passwd"),
    "that is a hard link": header(kind=b"1", at_157=b"/etc/passwd"),
    "that is a device": header(kind=b"3"),
    "longer than the archive": header(size=b"%011o\0" % 10**6),
    "whose name is no UTF-8": header(b"jump/\xff\xfe.mp4"),
    "whose name clears the screen": header(b"jump/\x1b[2J.mp4/../../a.mp4"),
}


@pytest.mark.parametrize("member", MEMBERS.values(), ids=MEMBERS)
def test_a_member_that_is_none_costs_itself_and_is_named(tmp_path, member):
    """What precedes it is read; what follows is read too, or the report says that reading ended there."""
    (tmp_path / "a.tar").write_bytes(VIDEO + member + VIDEO.replace(b"good", b"next") + END)
    found = find_video_files(tmp_path)
    names = [str(name) for name in found.videos]
    assert "jump/good.mp4" in names and "jump/a.mp4" not in names
    assert found.refused and all(reason.startswith("a.tar") for reason in found.refused)
    for source in found.videos.values():
        with source.as_file(tmp_path) as path:
            assert path.read_bytes() == b"video" and path.parent == tmp_path
    "\n".join([*found.refused, *found.refused.values()]).encode("utf-8")  # the report can be stored


NO_ARCHIVES = {
    "empty": b"",
    "one byte": b"x",
    "zeros": bytes(512),
    "many zeros": bytes(10**6),
    "gzip's mark": b"\x1f\x8b" * 600,
    "noise": random.Random(0).randbytes(5000),
}


@pytest.mark.parametrize("content", NO_ARCHIVES.values(), ids=NO_ARCHIVES)
def test_files_that_are_no_archives_are_named(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    found = find_video_files(tmp_path)
    assert not found.videos and (found.refused or not content.strip(b"\0"))


def test_every_truncation_of_an_archive_is_read_without_harm(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number in range(3):
            member = tarfile.TarInfo(f"jump/{'ä' * 60}{number}.mp4")
            member.size = 600
            archive.addfile(member, io.BytesIO(bytes(600)))
    whole = buffer.getvalue()
    for length in range(0, len(whole), 97):
        (tmp_path / "a.tar").write_bytes(whole[:length])
        for source in find_video_files(tmp_path).videos.values():
            assert 0 <= source.offset <= source.offset + source.size <= length


def test_names_that_no_disk_takes_cost_their_own_clips(tmp_path, video_path):
    """Names of 240 bytes fit with what is added to them; a name that is not UTF-8 cannot be in an index."""
    folder = tmp_path / "videos" / "jump"
    folder.mkdir(parents=True)
    for name in ("a" * 236 + ".mp4", "ü" * 118 + ".mp4", "b.mp4", "c.mp4", "d" * 251 + ".mp4"):
        (folder / name).symlink_to(video_path)
    with open(os.fsencode(folder) + b"/\xff.mp4", "wb") as file:
        file.write(video_path.read_bytes())
    plan = plan_own_data(str(tmp_path / "videos"), name="x")
    report = assemble(plan, tmp_path / "root", Encoding(short_side=32), num_workers=0)
    assert "jump/\\udcff.mp4" in report["files_not_used"]
    assert len(list((tmp_path / "root" / "clips" / "jump").iterdir())) == 5


def test_a_stretch_of_a_long_name_is_a_missing_clip(tmp_path, video_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a" * 250 + ".mp4", "b.mp4"):
        (folder / name).symlink_to(video_path)
    rows = [f"{name},leap,0.0,1.0" for name in ("a" * 250 + ".mp4", "b.mp4")]
    (folder / "metadata.csv").write_text("\n".join(["file_name,label,start,end", *rows]))
    report = assemble(plan_own_data(str(folder), name="x"), tmp_path / "root", Encoding(32), num_workers=0)
    assert "name too long: clips/aaa" in str(report["splits"])


def test_packed_sizes():
    """Check the helpers of this file."""
    assert tarfile.nti(base256(-512)) == -512 and tarfile.nti(base256(2**80)) == 2**80
    assert struct.calcsize("<Q") == 8 and record(b"size", b"-512") == b"13 size=-512\n"
