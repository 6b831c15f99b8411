"""Small checkpoints that know SynthGym's classes, and the page that shows them."""

import contextlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from finegym.data.labels import Labels
from finegym.synthgym.generate import LABELS
from modeling_finegym import FineGymVideoProcessor
from tests.small import small_model


def make_checkpoint(folder: Path, family: str) -> str:
    """Write a checkpoint with random weights and return its folder."""
    labels = Labels.read(LABELS["class"])
    texts = {"id2label": labels.id2label, "label2id": labels.label2id}
    if family == "video_text":
        texts["attribute_names"] = labels.attributes
    small_model(family, **texts).save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
    FineGymVideoProcessor(num_frames=8, frame_interval=2, frame_rate=25, **sizes).save_pretrained(folder)
    labels.write(folder / "labels.json")
    return str(folder)


def write_avi(path: Path) -> Path:
    """Write 30 gray frames, 25 a second, which browsers do not play."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(30):
            frame = np.full((48, 64, 3), 5 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@contextlib.contextmanager
def served(models: Sequence[str], folder: Path) -> Iterator[str]:
    """Yield the address of the page while it is served as `finegym demo` serves it."""
    from finegym.evaluation.demo import build_page, launch_options
    from finegym.evaluation.demo_answers import ShownModel
    from finegym.evaluation.demo_examples import draw_examples

    loaded = [ShownModel.load(model, device="cpu") for model in models]
    page = build_page(loaded, examples=draw_examples(folder), folder=str(folder))
    options = launch_options(str(folder))
    _, address, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **options)
    try:
        yield address.rstrip("/")
    finally:
        page.close()
        for model in loaded:
            model.close()
