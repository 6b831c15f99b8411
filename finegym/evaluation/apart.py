"""Decoding in a process of its own: a video that kills the decoder, or never ends, costs only itself."""

import contextlib
import json
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from finegym.data.worker_pool import bound_memory, server_context
from modeling_finegym.clip_scoring import VideoClips
from modeling_finegym.video_processing_finegym import FineGymVideoProcessor


# Seconds that the clips of one video may take: a hundred times as many as those of a ten-minute film in 4K need.
MAX_SECONDS = 600.0
TENSORS, ERROR = b"tensors", b"error"


class ApartProcessor:
    """A video processor whose `load_clips` decodes files in another process, and is otherwise the one it is given.

    `run` does other work on a file there. The results come back as safetensors and JSON, so that nothing is unpickled.

    Args:
        processor: The processor that does the work.
        seconds: The time after which a video is given up.
    """

    def __init__(self, processor: FineGymVideoProcessor, *, seconds: float = MAX_SECONDS):
        self.processor = processor
        self.seconds = seconds
        self._lock = threading.Lock()
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: multiprocessing.connection.Connection | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.processor, name)

    def load_clips(self, video, num_clips: int | None = None, **options: Any) -> VideoClips:
        """Load clips as the processor's own `load_clips` does.

        Raises:
            ValueError, OSError: If the processor's own raises them, or the video kills the process or takes too long.
        """
        if not isinstance(video, (str, Path)):
            return self.processor.load_clips(video, num_clips, **options)
        return VideoClips(**self.run(_load_clips, video, num_clips, **options))

    def run(
        self, function: Callable[..., dict[str, torch.Tensor]], video: str | Path, *arguments: Any, **options: Any
    ) -> dict[str, torch.Tensor]:
        """Return what `function(processor, video, *arguments, **options)` returns in the other process.

        Args:
            function: A function of a module, which the other process imports.
            video: The file.

        Raises:
            ValueError, OSError: If the function raises them, or the video kills the process or takes too long.
        """
        with self._lock:
            try:
                self.start()
                self._connection.send((function, str(video), arguments, options))
                if not self._connection.poll(self.seconds):
                    self.close()
                    raise ValueError(f"{video} takes longer than {self.seconds:.0f} s to decode.")
                kind, content = self._connection.recv_bytes(), self._connection.recv_bytes()
            except (EOFError, ConnectionError):
                self.close()
                raise ValueError(f"{video} kills the decoder.") from None
        if kind == TENSORS:
            return safetensors.torch.load(content)
        name, message = json.loads(content)
        raise (FileNotFoundError if name == "FileNotFoundError" else ValueError)(message)

    def close(self) -> None:
        """End the process; the next video starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
            self._process = self._connection = None

    def start(self) -> None:
        """Start the process, if it does not run, and wait until it is ready."""
        if self._process is not None:
            return
        context = server_context(__name__)
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self.processor), daemon=True)
        self._process.start()
        theirs.close()
        self._connection.recv_bytes()  # its imports do not count as a video's time


@contextlib.contextmanager
def apart(processor: FineGymVideoProcessor) -> Iterator[ApartProcessor]:
    """Yield an `ApartProcessor` whose process ends with the block."""
    decoder = ApartProcessor(processor)
    try:
        yield decoder
    finally:
        decoder.close()


def _serve(connection: multiprocessing.connection.Connection, processor: FineGymVideoProcessor) -> None:
    """Decode what is asked for until the other side closes."""
    torch.set_num_threads(1)
    bound_memory()
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process().sentinel,), daemon=True).start()
    connection.send_bytes(b"ready")
    while True:
        try:
            function, video, arguments, options = connection.recv()
        except EOFError:
            return
        try:
            tensors = function(processor, video, *arguments, **options)
            answer = TENSORS, safetensors.torch.save({name: value.contiguous() for name, value in tensors.items()})
        except (ValueError, OSError) as error:
            answer = ERROR, json.dumps([type(error).__name__, str(error)]).encode()
        except (MemoryError, RuntimeError) as error:  # torch's own, where memory ends
            reason = str(error).partition("\n")[0] or type(error).__name__
            answer = ERROR, json.dumps(["ValueError", f"{video} cannot be decoded: {reason}"]).encode()
        for part in answer:
            connection.send_bytes(part)


def _load_clips(
    processor: FineGymVideoProcessor, video: str, num_clips: int | None, **options: Any
) -> dict[str, torch.Tensor]:
    clips = processor.load_clips(video, num_clips, **options)
    return {name: value for name, value in vars(clips).items() if isinstance(value, torch.Tensor)}


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
