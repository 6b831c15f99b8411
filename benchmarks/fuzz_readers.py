"""Pass files that strangers may write, mutated at random, through every reader of the project.

A reader and a seed name a case. A reader may accept a mutated file, or refuse it with a documented error that names
the file; anything else is a failure.
"""

import functools
import random
import tempfile
import time
import warnings
from pathlib import Path

from .fuzz_checkpoints import CHECKPOINTS
from .fuzz_datasets import DATASETS
from .fuzz_mutations import mutate


DOCUMENTED = (ValueError, FileNotFoundError)
MAX_SECONDS = 10.0
READERS = DATASETS | CHECKPOINTS


@functools.cache
def valid_folder(name: str) -> tuple[str, dict[str, bytes]]:
    """Return the file to mutate and the content of the files of a reader's valid folder, by path."""
    with tempfile.TemporaryDirectory(prefix="case-") as folder:
        path = READERS[name].make(Path(folder))
        files = {
            found.relative_to(folder).as_posix(): found.read_bytes()
            for found in sorted(Path(folder).rglob("*"))
            if found.is_file()
        }
        return path.relative_to(folder).as_posix(), files


def run_case(name: str, chance: random.Random, folder: Path) -> str | None:
    """Read one mutated file in an empty folder; return what went wrong, or None."""
    mutated, files = valid_folder(name)
    for relative, content in files.items():
        file = folder / relative
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(mutate(content, chance) if relative == mutated else content)
    path = folder / mutated
    start = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            READERS[name].read(folder)
    except DOCUMENTED as error:
        text = str(error)
        # about a whole folder the message may name the folder, as where nothing in it is a video
        if path.name not in text and path.parent.name not in text and folder.name not in text:
            return f"{type(error).__name__} without the file's name: {text[:200]}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    seconds = time.process_time() - start
    return f"took {seconds:.0f} s" if seconds > MAX_SECONDS else None
