"""URLs from strangers, tested against a local server that does whatever servers should not."""

import gzip
import time

import pytest
from huggingface_hub import constants
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz_names import run_case, served, try_address
from modeling_finegym.downloading import DownloadError, download


@pytest.fixture(autouse=True)
def online(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def answer(content=b"", *, status="200 OK", length=None, **fields):
    length = len(content) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def drip(connection, content, pause=0.05):
    for byte in content:
        connection.sendall(bytes([byte]))
        time.sleep(pause)


def endless(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")


HEADER = b"HTTP/1.1 200 OK\r\nA: b\r\nA: b\r\n"
SENT = {
    "more than it announces": (lambda c: c.sendall(answer(b"x" * 2000, length=2000)), "more than the 1,000 bytes"),
    "an announcement of exabytes": (lambda c: c.sendall(answer(b"x", length=10**18)), "more than the 1,000 bytes"),
    "an announcement beyond numbers": (lambda c: c.sendall(answer(b"x", length="9" * 5000)), "cannot be downloaded"),
    "less than it announces": (lambda c: c.sendall(answer(b"x", length=500)), "cannot be downloaded"),
    "without end": (endless, "more than the 1,000 bytes"),
    "what unfolds": (
        lambda c: c.sendall(answer(gzip.compress(bytes(10**6))[:900], Content_Encoding="gzip")),
        "sends a compressed file",
    ),
    "an error that unfolds": (
        lambda c: c.sendall(answer(gzip.compress(bytes(10**6)), status="404 No", Content_Encoding="gzip")),
        "answered 404",
    ),
    "a redirection to itself": (lambda c: c.sendall(answer(status="302 Go", Location="/video.mp4")), "more than 5"),
    "a redirection to a file": (
        lambda c: c.sendall(answer(status="302 Go", Location="file:///etc/passwd")),
        "cannot be downloaded|nothing is downloaded from",
    ),
    "a redirection to nowhere": (
        lambda c: c.sendall(answer(status="302 Go", Location="http://[x/")),
        "cannot be downloaded",
    ),
    "no HTTP": (lambda c: c.sendall(b"SSH-2.0-x\r\n\r\n"), "cannot be downloaded"),
    "a header without end": (
        lambda c: c.sendall(HEADER * 10**5),
        "cannot be downloaded",
    ),
    "a header line of 70 kB": (lambda c: c.sendall(b"HTTP/1.1 200 OK\r\n" + b"a" * 70_000 + b"\r\n\r\n"), "cannot be"),
    "a redirection of 20 kB": (
        lambda c: c.sendall(answer(status="302 Go", Location="ftp://" + "x" * 20_000)),
        "nothing is downloaded from|cannot be downloaded",
    ),
    "nothing": (lambda c: None, "cannot be downloaded"),
    "silence": (lambda c: time.sleep(2), "cannot be downloaded"),
    "a byte at a time": (lambda c: drip(c, answer(b"x" * 900)), "takes longer than 1 s"),
    "a header a byte at a time": (
        lambda c: drip(c, HEADER * 9),
        "takes longer than 1 s",
    ),
}


@pytest.mark.parametrize(("act", "message"), SENT.values(), ids=SENT)
def test_no_server_holds_or_fills_this_machine(tmp_path, act, message):
    start = time.perf_counter()
    with served(act) as address, pytest.raises(DownloadError, match=message) as caught:
        download(address, tmp_path / "video", max_bytes=1000, max_seconds=1, max_silence=0.5)
    assert time.perf_counter() - start < 10
    assert address in str(caught.value) and len(str(caught.value)) < 1000
    assert not (tmp_path / "video").exists() or (tmp_path / "video").stat().st_size <= 1000


def test_what_is_sound_comes_whole(tmp_path):
    pieces = []
    with served(lambda connection: connection.sendall(answer(b"video"))) as address:
        download(address, tmp_path / "video", max_bytes=5, on_bytes=pieces.append)
        assert (tmp_path / "video").read_bytes() == b"video" and sum(pieces) == 5
        download_in_a_running_loop(address, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == b"video"


def download_in_a_running_loop(address, path):
    import asyncio

    async def notebook():
        download(address, path)

    asyncio.run(notebook())


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "http://", "https://[", ""])
def test_addresses_that_are_none(tmp_path, address):
    with pytest.raises(DownloadError):
        download(address, tmp_path / "video", max_seconds=2)


def test_offline_means_offline(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with (
        served(lambda connection: connection.sendall(answer(b"video"))) as address,
        pytest.raises(DownloadError, match="offline mode"),
    ):
        download(address, tmp_path / "video")


@settings(max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(chance=st.randoms(use_true_random=False))
def test_any_answer_is_bounded_and_named(tmp_path_factory, chance):
    assert try_address(chance, tmp_path_factory.mktemp("case")) is None


@pytest.mark.parametrize("seed", range(30))
def test_names_and_members_stay_inside(tmp_path, seed):
    assert run_case(seed // 2 * 3 + seed % 2, tmp_path) is None
