"""`finegym demo`."""

import importlib.util
import socket
import tempfile
from pathlib import Path

from finegym.data.arguments import UsageError
from finegym.paths import require_path_or_hub_id


HOST = "127.0.0.1"
# Visitors wait for one another up to this number, and larger uploads are refused.
MAX_WAITING = 32
MAX_FILE_SIZE = "500mb"


def demo(
    *, model: str, revision: str | None = None, device: str | None = None, port: int = 7860, window: float = 2.5
) -> None:
    """Open a page on this machine that classifies uploaded videos.

    It shows the best classes, what each clip of the video says, and the actions of a whole routine. A model of
    SynthGym's classes has drawn gymnasts to try.
    The page is served to this machine alone, until Ctrl-C. It needs the `demo` extra: pip install 'finegym[demo]'.

    Args:
        model: The checkpoint folder or Hub id.
        revision: The commit, tag or branch of a Hub id.
        device: The device to compute on, such as cpu or cuda:1. By default it is an accelerator if there is one.
        port: The port of the page, http://127.0.0.1:PORT, from 1 to 65535.
        window: The length of what is looked at as one action in a whole routine, in seconds.

    Examples:
        finegym demo --model outputs/synthgym/video_text
    """
    if not 0 < port < 2**16:
        raise UsageError(f"--port must be a whole number from 1 to 65535, not {port}.")
    require_path_or_hub_id(model, "checkpoint folder")
    if importlib.util.find_spec("gradio") is None:
        raise ImportError("The page needs Gradio: run `pip install 'gradio>=6,<7'`.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise OSError(f"Port {port} cannot be used ({error.strerror}): give another --port.") from error
    from finegym.evaluation.apart import ApartProcessor
    from finegym.evaluation.demo import build_page, draw_examples
    from finegym.evaluation.predict import load_pipeline

    classify = load_pipeline(model, revision=revision, device=device)
    classify.video_processor = ApartProcessor(classify.video_processor)
    with tempfile.TemporaryDirectory() as folder:
        examples = draw_examples(Path(folder), list(classify.model.config.id2label.values()))
        page = build_page(classify, name=model, window=window, examples=examples)
        page.queue(max_size=MAX_WAITING)
        page.launch(
            server_name=HOST, server_port=port, share=False, max_file_size=MAX_FILE_SIZE, allowed_paths=[folder]
        )
