"""`finegym demo`."""

import importlib.util
import socket

from finegym.data.arguments import UsageError
from finegym.paths import require_path_or_hub_id


HOST = "127.0.0.1"
MAX_MODELS = 2


def demo(models: list[str], *, revision: str | None = None, device: str | None = None, port: int = 7860) -> None:
    """Open a page on this machine that shows what models see in videos.

    It shows the best classes, what each clip of the video says, what the answer rests on, and the actions of a whole
    routine; two models answer side by side. Models of SynthGym's classes have drawn gymnasts to try.
    The page is served to this machine alone, until Ctrl-C. It needs the `demo` extra: pip install 'finegym[demo]'.

    Args:
        models: One or two checkpoint folders or Hub ids.
        revision: The commit, tag or branch of the Hub ids.
        device: The device to compute on, such as cpu or cuda:1. By default, it is an accelerator if there is one.
        port: The port of the page, http://127.0.0.1:PORT, from 1 to 65535.

    Examples:
        finegym demo outputs/synthgym/video_text
        finegym demo outputs/synthgym/slowonly outputs/synthgym/video_text
    """
    if not 0 < port < 2**16:
        raise UsageError(f"--port must be a whole number from 1 to 65535, not {port}.")
    if len(models) > MAX_MODELS:
        raise UsageError(f"The page shows one or two models, not {len(models)}.")
    for model in models:
        require_path_or_hub_id(model, "checkpoint folder")
    for module, package in (("gradio", "gradio>=6,<7"), ("captum", "captum>=0.9")):
        if importlib.util.find_spec(module) is None:
            raise ImportError(f"The page needs {module.capitalize()}: run `pip install '{package}'`.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise OSError(f"Port {port} cannot be used ({error.strerror}): give another --port.") from error
    from finegym.evaluation.demo import serve

    serve(models, revision=revision, device=device, host=HOST, port=port)
