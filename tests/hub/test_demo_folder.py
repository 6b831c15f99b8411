"""What visitors send to the page lies in a private folder, and not for long."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

from finegym.evaluation import demo_folder
from tests.hub.demo_page import make_checkpoint, write_avi


def wait_for(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answers(address: str) -> bool:
    """Whether a page is there; a bare connection could be one of the port with itself."""
    try:
        urllib.request.urlopen(address, timeout=10).close()
    except OSError:
        return False
    return True


def test_the_folder_is_private_and_gone_at_the_end(monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "elsewhere")
    with demo_folder.private_folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert os.environ["GRADIO_TEMP_DIR"].startswith(f"{folder}{os.sep}")
        demo_folder.new_copy(folder, "of.mp4").write_bytes(b"a video")
    assert not folder.exists() and os.environ["GRADIO_TEMP_DIR"] == "elsewhere"


def test_old_copies_are_deleted_while_the_page_is_open(monkeypatch):
    monkeypatch.setattr(demo_folder, "INTERVAL", 0.05)
    with demo_folder.private_folder() as folder:
        old, new = (demo_folder.new_copy(folder, name) for name in ("old.mp4", "new.mp4"))
        for path in (old, new, folder / "gymnast.mp4"):
            path.write_bytes(b"a video")
        os.utime(old.parent, (0, 0))
        os.utime(folder / "gymnast.mp4", (0, 0))
        wait_for(lambda: not old.parent.exists())
        assert new.exists() and (folder / "gymnast.mp4").exists(), "an example is no copy"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_of_a_visitor_is_left_when_the_page_is_closed(number, tmp_path):
    pytest.importorskip("gradio", reason="the demo extra is not installed")
    from gradio_client import Client, handle_file

    model = make_checkpoint(tmp_path / "model", "slowonly")
    temporary = Path(tempfile.mkdtemp(prefix="page-"))  # short: the sockets of its workers are below it
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "finegym", "demo", model, "--port", str(port), "--device", "cpu"]
    environment = os.environ | {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    environment.pop("GRADIO_TEMP_DIR", None)
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # jobs in the background inherit that it is ignored
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}") or process.poll() is not None)
        assert process.poll() is None, process.communicate()[1]
        client = Client(f"http://127.0.0.1:{port}", verbose=False)
        answer = client.predict(handle_file(str(write_avi(tmp_path / "old.avi"))), None, None, api_name="/classify")
        assert "fg-best" in answer[0]
        [folder] = temporary.glob("finegym-page-*")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and list(folder.rglob("old.avi"))
        assert not [path for path in temporary.rglob("*.avi") if folder not in path.parents]
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert "Traceback" not in said, said
        assert not list(temporary.glob("finegym-page-*")) and not list(temporary.rglob("*.avi"))
    finally:
        process.kill()
        shutil.rmtree(temporary)
