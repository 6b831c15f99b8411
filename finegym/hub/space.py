"""A Space: the page of `finegym demo` for a published model, as a folder that Hugging Face runs.

In: a built checkpoint folder and its name on the Hub. Out: a folder with the app, this project's own code, the pinned
versions of what it needs, and the header of a Space. It is started, and must answer as we do, before it is sent.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from huggingface_hub import HfApi, SpaceCardData
from packaging.requirements import Requirement

import finegym
import modeling_finegym
from finegym.data.markdown import plain
from finegym.paths import CONFIGURATION

from .card import card_metadata
from .checkpoint import Checkpoint
from .example import example_of
from .publish import (
    TOLERANCE,
    Build,
    build_folder,
    check_options,
    commit_message,
    describe,
    outcome,
    own_logits,
    validate,
)
from .sending import Publication, PublishedFile, PublishingError, send, write_manifest


# What the page imports. A Space installs Gradio by the `sdk_version` of its header.
REQUIREMENTS = (
    *("torch", "torchvision", "transformers", "safetensors", "huggingface_hub", "av", "captum", "numpy", "pillow"),
    *("scipy", "scikit-learn", "matplotlib", "jinja2", "pyarrow", "pyyaml", "tqdm", "filelock", "packaging"),
)
CODE = ("*.py", "*.html", "*.css", "*.js", "*.json", "*.md")
APP = '''"""The page that `finegym demo` shows, for the models that MODELS names: one Hub id, or two."""

import os

from finegym.evaluation.demo import serve


if __name__ == "__main__":
    serve(os.environ.get("MODELS", {models!r}).split(), revision={revision!r}, host=None, port=None)
'''
TEXT = """
# {title}

The page of [{models}](https://huggingface.co/{models}): give it a video, and it says which action this is, what each
clip of the video says, and what the answer rests on. The files beside this one are the program; `app.py` starts it.
"""
# Seconds in which the app must start; it loads a model and draws its examples.
MAX_START = 240.0


def build_space(
    folder: Path, repo_id: str, *, title: str, license: str | None, tag: str | None, packages: Iterable[str] = ()
) -> list[PublishedFile]:
    """Write the folder of a Space.

    Args:
        folder: The folder to fill.
        repo_id: The published model that it shows, `owner/name`.
        title: The title of the model.
        license: The model's license, as its card states it.
        tag: The revision of the model to show; by default the newest.
        packages: What the model needs beside the page.

    Returns:
        The files with their hashes.

    Raises:
        ImportError: If Gradio or Captum is not installed here, so that its version cannot be pinned.
    """
    pins = {name: _version(name) for name in ("gradio", *REQUIREMENTS, *packages)}
    header = SpaceCardData(
        title=title[:60],
        sdk="gradio",
        sdk_version=pins.pop("gradio"),
        python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
        app_file="app.py",
        models=[repo_id],
        license=license,
    )
    text = TEXT.format(title=plain(title), models=repo_id)
    (folder / "README.md").write_text(f"---\n{header.to_yaml()}\n---\n{text}", encoding="utf-8")
    (folder / "app.py").write_text(APP.format(models=repo_id, revision=tag), encoding="utf-8")
    lines = [f"{name}=={number}\n" for name, number in pins.items()]
    (folder / "requirements.txt").write_text("".join(lines), encoding="utf-8")
    for package in (finegym, modeling_finegym):
        source = Path(package.__file__).parent
        for path in sorted(file for pattern in CODE for file in source.rglob(pattern)):
            target = folder / package.__name__ / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    for path in sorted((CONFIGURATION / "synthgym").glob("*.json")):
        target = folder / "finegym" / "configuration" / "synthgym" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return write_manifest(folder)


def _version(name: str) -> str:
    try:
        return version(name).partition("+")[0]  # a local build, such as +cpu, is not on any index
    except PackageNotFoundError as error:
        raise ImportError(
            f"A Space pins {name}, which is not installed: run `pip install 'finegym[demo]'`."
        ) from error


def check_space(folder: Path, build: Build) -> None:
    """Start the app in a fresh process with the built checkpoint, and compare its answer with our own.

    Raises:
        PublishingError: If it does not start, or gives other scores.
    """
    with example_of(build.checkpoint) as video:
        with running(folder, str(build.folder)) as address:
            seen = ask(address, video)
        _, scores = own_logits(build.folder, video)
    off = max(abs(scores[row["label"]] - row["score"]) for row in seen["answers"][0]["scores"])
    if not off <= TOLERANCE:
        raise PublishingError(f"The Space and the evaluation disagree about {video.name}: scores differ by {off:.1e}.")


@contextlib.contextmanager
def running(folder: Path, models: str) -> Iterator[str]:
    """Run `app.py` as a Space does, offline, and yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HF_TOKEN")}
    environment |= {"MODELS": models, "GRADIO_SERVER_PORT": str(port), "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            deadline = time.monotonic() + MAX_START
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    output.seek(0)
                    said = output.read().decode(errors="replace").strip()[-2000:]
                    raise PublishingError(f"The Space does not start:\n{said}")
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ask(address: str, video: Path) -> dict:
    """Return the page's answer about a video, as its button gives it.

    Raises:
        PublishingError: If it gives none.
    """
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    client = Client(address, verbose=False)
    try:
        shown, told, _ = client.predict(handle_file(str(video)), None, None, api_name="/classify")
    except AppError as error:
        raise PublishingError(f"The Space does not answer: {error}") from error
    if not told:
        raise PublishingError(f"The Space does not answer: {shown}")
    return json.loads(told)


def publish_space(
    checkpoint: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    tag: str | None = None,
    example: Path | None = None,
    dry_run: bool = False,
    api: HfApi | None = None,
    say: Callable[[str], None] = print,
) -> list[Publication]:
    """Publish a finished checkpoint, and a Space of the same name that shows it. Both are tested before one is sent.

    Args:
        checkpoint, repo_id, private, tag, example, dry_run, api, say: The same as for `publish`. A private Space reads
            its private model with the secret HF_TOKEN of its settings.

    Returns:
        What was sent, the model and the Space; nothing for a dry run.

    Raises:
        FileNotFoundError, ValueError: If something is missing from or wrong with the checkpoint or the names.
        ImportError: If Gradio or Captum is not installed.
        PublishingError: If a folder fails its test, or the Hub refuses; the message says whether something was sent.
    """
    check_options(create_pr=False, revision=None, tag=tag)
    if Checkpoint.read(checkpoint).flow_len:
        raise ValueError(
            f"{checkpoint} sees optical flow, and visitors of a Space have videos: publish the other stream."
        )
    with tempfile.TemporaryDirectory(prefix="finegym-publish-") as name:
        model, page = Path(name) / "model", Path(name) / "space"
        model.mkdir()
        page.mkdir()
        build = build_folder(checkpoint, model, repo_id, tag=tag, example=example)
        validate(build)
        title = build.checkpoint.title
        options = {"title": title, "license": card_metadata(build.checkpoint).license, "tag": tag}
        packages = [Requirement(line).name for line in build.checkpoint.requirements]
        files = build_space(page, repo_id, **options, packages=packages)
        check_space(page, build)
        total = sum(file.size for file in files)
        say(describe(build, repo_id))
        say(f"\nspaces/{repo_id}\n\n  {len(files)} files, {total:,} bytes. The page starts, and gives our scores.")
        if dry_run:
            say("\nDry run: nothing was sent.")
            return []
        options = {"private": private, "api": api}
        sent = [send(build.folder, build.files, repo_id, message=commit_message(build), tag=tag, **options)]
        say(outcome(sent[0]))
        sent.append(send(page, files, repo_id, message=f"The page of {title}", kind="space", **options))
        say(outcome(sent[1]))
    return sent
