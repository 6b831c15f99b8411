"""The handler of a Hugging Face Inference Endpoint: what answers a request for this repository.

A request is JSON: `{"inputs": VIDEO, "parameters": {"top_k": 3}}`. A video is an http(s) address or the bytes of a
file in Base64; `inputs` may be a list of them. The parameters are those of the pipeline. The answer is the pipeline's.
"""

import base64
import binascii
from typing import Any

import torch
from transformers import pipeline


class EndpointHandler:
    """
    Loaded by the endpoint's server, once.

    Args:
        path (`str`): The folder of this repository.
    """

    def __init__(self, path: str = ""):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.classify = pipeline("video-classification", model=path, trust_remote_code=True, device=device)

    def __call__(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        """
        Classify the videos of one request.

        Args:
            data (`dict`): The request. `inputs` is a video or a list of videos, `parameters` (*optional*) the
                pipeline's arguments.

        Returns:
            The pipeline's answer, which is JSON.

        Raises:
            `ValueError`: `inputs` is missing or is no video, or the pipeline refuses the parameters.
        """
        inputs, parameters = data.get("inputs"), data.get("parameters") or {}
        if not isinstance(parameters, dict):
            raise ValueError("`parameters` must be a mapping of the pipeline's arguments to values.")
        several = isinstance(inputs, list)
        try:
            return self.classify([_read(video) for video in inputs] if several else _read(inputs), **parameters)
        except TypeError as error:  # an argument that the pipeline does not have
            raise ValueError(str(error)) from error


def _read(video: Any) -> str | bytes:
    """Return an address as it is and a file as its bytes; a path on the server is neither."""
    if isinstance(video, bytes):
        return video
    if isinstance(video, str) and video.startswith(("http://", "https://")):
        return video
    try:
        return base64.b64decode(video, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise ValueError(
            "`inputs` must be an http(s) address or the bytes of a video file in Base64, or a list of these."
        ) from error


__all__ = ["EndpointHandler"]
