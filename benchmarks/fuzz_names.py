"""Names and addresses from strangers: file names that lead out of their folder, archive members, and servers that do
whatever servers should not. A seed names a case."""

import contextlib
import gzip
import io
import json
import os
import random
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from finegym.data.index import read_index, write_index
from finegym.preparation.own_data import plan_own_data
from finegym.preparation.sources import find_video_files
from modeling_finegym.downloading import DownloadError, download


PARTS = ["..", ".", "", "~", "a", "ü", "C:", "con", "a\\..", "..\\..", "\0", "\n", "%2e%2e", "\u2024\u2024", "a" * 300]
KINDS = [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
STATUSES = ["200 OK"] * 4 + ["206 Partial", "204 No", "302 Go", "301 Go", "404 No", "500 No", "999 x", "200", "\x00"]
FIELDS = [
    "Content-Length: 20",
    "Content-Length: 9" + "9" * 40,
    "Content-Length: -1",
    "Content-Length: 20, 30",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Content-Encoding: gzip",
    "Content-Encoding: br",
    "Location: /again",
    "Location: file:///etc/passwd",
    "Location: http://[",
    "Location: http://127.0.0.1:1/",
    "Location: \x1b[2J",
    "Set-Cookie: " + "x" * 5000,
    ": no name",
    "a" * 70_000,
]
MAX_BYTES, MAX_SECONDS, MAX_SILENCE = 1000, 1.0, 0.3


def run_case(seed: int, folder: Path) -> str | None:
    """Try one name, member or address in an empty folder; return what went wrong, or None."""
    chance = random.Random(f"path/{seed}")
    if seed % 3 == 2:
        return try_address(chance, folder)
    path = "/".join(chance.choice(PARTS) for _ in range(chance.randint(1, 5)))
    return try_member(f"{path}/b.mp4", chance, folder) if seed % 3 else try_name(f"{path}/b.mp4", folder)


def try_name(name: str, folder: Path) -> str | None:
    """Return whether a file of this name, in metadata or in an index, would be read or written outside `folder`."""
    (folder / "a.mp4").write_bytes(b"video")
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": name, "label": "x"}) + "\n")
    with contextlib.suppress(ValueError):
        for job in plan_own_data(str(folder), name="x").jobs:
            for cut in job.cuts:
                if not _is_inside(cut.file):
                    return f"escape: metadata {name!r} -> {cut.file!r}"
    row = {"id": "a", "file": name, "split": "val", "label": 0, "num_frames": 1}
    with contextlib.suppress(ValueError):
        write_index(folder, [row])
        if not all(_is_inside(os.path.relpath(found.path, folder)) for found in read_index(folder, "val")):
            return f"escape: index {name!r}"
    return None


def try_member(name: str, chance: random.Random, folder: Path) -> str | None:
    """Return whether a member of an archive leads out of it, or is anything but its own bytes."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = chance.choice(KINDS), chance.choice(["/etc/passwd", "../x", name])
    member.size = 5 if member.type == tarfile.REGTYPE else 0
    with (
        tarfile.open(folder / "a.tar", "w", format=chance.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])) as archive,
        contextlib.suppress(ValueError),
    ):  # a name that no archive can hold
        archive.addfile(member, io.BytesIO(b"video"))
    scratch = folder / "scratch"
    scratch.mkdir()
    for found, source in find_video_files(folder / "a.tar").videos.items():
        if not _is_inside(str(found)):
            return f"escape: member {name!r} -> {found}"
        with source.as_file(scratch) as path:
            if path.parent != scratch or path.read_bytes() != b"video":
                return f"escape: member {name!r} is read from {path}"
    return None


def _is_inside(path: str) -> bool:
    return not PurePosixPath(path).is_absolute() and not os.path.normpath(path).startswith("..")


def try_address(chance: random.Random, folder: Path) -> str | None:
    """Download from a hostile server; return whether that holds or fills this machine, or gives what was not sent."""
    body = chance.choice([b"", b"video", b"x" * 20, b"x" * 900, b"x" * 2000, gzip.compress(bytes(10**6))])
    lines = [f"HTTP/1.1 {chance.choice(STATUSES)}", *chance.choices(FIELDS, k=chance.randrange(4))]
    if chance.random() < 0.4:
        lines.append(f"Content-Length: {len(body)}")
    head = chance.choice(["\r\n", "\r\n", "\n"]).join([*lines, "", ""]).encode()
    if "chunked" in lines[-1] and chance.random() < 0.7:
        body = b"".join(b"%x\r\n%s\r\n" % (len(body[at : at + 400]), body[at : at + 400]) for at in range(0, 800, 400))
    answer = head + body + (b"0\r\n\r\n" if chance.random() < 0.3 else b"")
    pace = chance.choice([len(answer), len(answer), 1, 50])
    start = time.perf_counter()
    with served(lambda connection: _send(connection, answer, pace)) as address:
        try:
            download(address, folder / "v", max_bytes=MAX_BYTES, max_seconds=MAX_SECONDS, max_silence=MAX_SILENCE)
        except DownloadError as error:
            if address not in str(error) or len(str(error)) > 1000:
                return f"address: {str(error)[:200]}"
        except Exception as error:
            return f"address: {type(error).__name__}: {str(error)[:200]}"
    if (folder / "v").exists():
        content = (folder / "v").read_bytes()
        if len(content) > MAX_BYTES or (content[:100] not in answer):
            return f"address: {len(content)} bytes were written that were not sent: {content[:50]!r}"
    seconds = time.perf_counter() - start
    return f"address: took {seconds:.0f} s" if seconds > 10 * MAX_SECONDS else None


def _send(connection: socket.socket, answer: bytes, pace: int) -> None:
    for place in range(0, len(answer), max(1, pace)):
        connection.sendall(answer[place : place + max(1, pace)])
        if pace < len(answer):
            time.sleep(0.01)


@contextlib.contextmanager
def served(act: Callable[[socket.socket], object]) -> Iterator[str]:
    """Serve on the loopback interface: read a request, and leave the rest to `act(connection)`. Yield an address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    with contextlib.suppress(OSError):  # the other side may have disconnected
                        act(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/video.mp4"
