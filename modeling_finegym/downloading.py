"""Fetch a file from an http(s) address, within bounds of size and time that the server cannot extend."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import get_async_session


# Half an hour of video as phones record it.
MAX_BYTES = 4 * 2**30
# Seconds that a download may take, and that a server may stay silent within it.
MAX_SECONDS = 1800.0
MAX_SILENCE = 10.0
MAX_REDIRECTS = 5
SCHEMES = ("http", "https")
MAX_REASON = 300


class DownloadError(ValueError):
    """An address cannot be downloaded; the message names it."""


def download(
    address: str,
    path: str | Path,
    *,
    max_bytes: int = MAX_BYTES,
    max_seconds: float = MAX_SECONDS,
    max_silence: float = MAX_SILENCE,
    on_bytes: Callable[[int], object] | None = None,
) -> None:
    """
    Write what an address returns to a file, as it arrives. Refuse a compressed transfer, since a few of its bytes can
    expand to any number, and a redirection from https to http.

    Args:
        address (`str`): An http or https address.
        path (`str` or `Path`): The file to write.
        max_bytes (`int`): Size at which the download is given up.
        max_seconds (`float`): Seconds after which it is given up, from the first connection to the last byte.
        max_silence (`float`): Seconds without a byte after which it is given up.
        on_bytes (`Callable`, *optional*): Called with the size of every piece that arrives.

    Raises:
        `DownloadError`: the server or the network fails in any way; the message names the address.
    """
    attempt = _fetch(address, Path(path), max_bytes, max_silence, on_bytes)
    try:
        _run(asyncio.wait_for(attempt, max_seconds))
    except DownloadError:
        raise
    except TimeoutError:
        raise DownloadError(f"{address} cannot be downloaded: it takes longer than {max_seconds:.0f} s.") from None
    except Exception as error:  # the exceptions depend on the version of huggingface_hub
        reason = _shorten(str(error) or type(error).__name__)
        raise DownloadError(f"{address} cannot be downloaded: {reason}") from error


def _shorten(text: str) -> str:
    """Return what a server says, which may be long, in a length that fits a message."""
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}..."


def _run(attempt) -> None:
    async def wait():
        await attempt

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(wait())
    else:  # a notebook or a server already runs a loop, which cannot wait for another
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, wait()).result()


async def _fetch(
    address: str, path: Path, max_bytes: int, max_silence: float, on_bytes: Callable[[int], object] | None
) -> None:
    async with get_async_session() as client:
        # huggingface_hub's own hook would read, and decompress, the whole body of an error
        client.event_hooks = {**client.event_hooks, "response": []}
        target = address
        for _ in range(MAX_REDIRECTS + 1):
            if urlsplit(target).scheme not in SCHEMES or target.startswith("http:") and address.startswith("https:"):
                raise DownloadError(f"{address} leads to {_shorten(target)}, where nothing is downloaded from.")
            request = client.stream(
                "GET", target, headers={"Accept-Encoding": "identity"}, follow_redirects=False, timeout=max_silence
            )
            async with request as response:
                if response.next_request is None:
                    await _write(response, address, path, max_bytes, on_bytes)
                    return
                target = str(response.next_request.url)
    raise DownloadError(f"{address} redirects more than {MAX_REDIRECTS} times.")


async def _write(response, address: str, path: Path, max_bytes: int, on_bytes) -> None:
    if response.status_code != 200:
        raise DownloadError(f"{address} answered {response.status_code} instead of a file.")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise DownloadError(f"{address} sends a compressed file, which was not requested.")
    too_large = DownloadError(f"{address} gives more than the {max_bytes:,} bytes that may be downloaded.")
    announced = response.headers.get("Content-Length", "")
    if announced.isdecimal() and len(announced) < 20 and int(announced) > max_bytes:
        raise too_large
    num_bytes = 0
    with open(path, "wb") as file:
        async for piece in response.aiter_raw():
            num_bytes += len(piece)
            if num_bytes > max_bytes:
                raise too_large
            file.write(piece)
            if on_bytes is not None:
                on_bytes(len(piece))
