"""The video that the card's code and the tests of a published folder run on: drawn, or the user's own.

A model that sees optical flow gets the flow of it.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from finegym.data.index import Video
from finegym.data.video_writing import recode, write_video
from finegym.preparation.flow import FlowSettings, write_flow
from finegym.synthgym.generate import Performance, render_performance

from .checkpoint import EXAMPLE, Checkpoint


# The short side in pixels of an example of own data.
SHORT_SIDE = 256


@contextlib.contextmanager
def example_of(checkpoint: Checkpoint) -> Iterator[Path]:
    """Yield the published example; own data without one is tested on a video that is not published."""
    published = checkpoint.folder / checkpoint.example_name
    if published.exists():
        yield published
        return
    with tempfile.TemporaryDirectory(prefix="finegym-example-") as elsewhere:
        yield write_example(checkpoint, Path(elsewhere))


def write_example(checkpoint: Checkpoint, folder: Path, own: Path | None = None) -> Path:
    """Write the example of a checkpoint into a folder; return its path.

    Args:
        own: The user's own video, which is encoded again without sound and metadata; by default, a gymnast is drawn.

    Raises:
        ImportError: If the model sees optical flow and OpenCV is not installed.
    """
    path = folder / checkpoint.example_name
    with tempfile.TemporaryDirectory(prefix="finegym-example-") as elsewhere:
        video = Path(elsewhere) / EXAMPLE if checkpoint.flow_len else path
        if own is None:
            draw_gymnast(video)
        else:
            recode(own, video, short_side=SHORT_SIDE)
        if checkpoint.flow_len:
            settings = checkpoint.metrics.get("optical_flow") or {}
            known = {name: settings[name] for name in ("method", "short_side") if name in settings}
            whole = Video(id="example", path=video, label=0, num_frames=0)
            write_flow(whole, path, FlowSettings(**known), made_from={})
    return path


def draw_gymnast(path: Path, size: int = 144) -> None:
    """Draw a vaulting gymnast of SynthGym, free to use."""
    vault = ("VT", "salto forward", "flic-flac", "stretched", "0.5 turn")
    # Twice FineGym's frame rate makes it longer than the paper's window of 64 frames: its clips differ.
    performance = Performance("example", "val", 0, "VT", vault, seed=(0,), fps=50.0, first_frame=0, num_frames=0)
    write_video(path, render_performance(performance, size).frames, fps=performance.fps)
