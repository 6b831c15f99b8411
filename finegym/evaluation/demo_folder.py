"""Where the page of `finegym demo` keeps visitors' videos: in a folder of its own, for a bounded time."""

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path


# Seconds for which a visitor's video and its copy are kept, and after which they are looked through.
MAX_AGE, INTERVAL = 3600.0, 60.0
COPIES = "copy-"


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """Yield a folder that only this user can open, in which Gradio keeps uploads as well; it is gone after the block.

    Copies in it that are older than `MAX_AGE` are deleted meanwhile; Gradio deletes uploads, if it is told the age.
    """
    before, ended = os.environ.get("GRADIO_TEMP_DIR"), threading.Event()
    with tempfile.TemporaryDirectory(prefix="finegym-page-") as name:
        folder = Path(name)

        def clean() -> None:
            while not ended.wait(INTERVAL):
                delete_copies(folder, MAX_AGE)

        cleaner = threading.Thread(target=clean, daemon=True)
        cleaner.start()
        os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")
        try:
            yield folder
        finally:
            ended.set()
            cleaner.join()
            os.environ.pop("GRADIO_TEMP_DIR")
            if before is not None:
                os.environ["GRADIO_TEMP_DIR"] = before


def new_copy(folder: Path, name: str) -> Path:
    """Return where a copy of a video is to be written."""
    return Path(tempfile.mkdtemp(prefix=COPIES, dir=folder)) / name


def delete_copies(folder: Path, age: float) -> None:
    """Delete the copies that are older than `age` seconds."""
    for copy in folder.glob(f"{COPIES}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - copy.stat().st_mtime > age:
                shutil.rmtree(copy, ignore_errors=True)
