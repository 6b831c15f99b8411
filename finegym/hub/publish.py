"""Publishing a checkpoint: build the whole folder, test it as a stranger would, send exactly what was tested."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from huggingface_hub import HfApi
from transformers import AutoModelForVideoClassification

import modeling_finegym
from finegym.data.checkpoints import SHARDS, WEIGHTS, load_model, load_video_processor
from finegym.data.text import read_json, read_yaml
from modeling_finegym.clip_scoring import score_videos
from modeling_finegym.publishing_finegym import copy_code

from . import stranger
from .card import card_metadata, check_names, eval_results, render_card
from .checkpoint import Checkpoint
from .example import example_of, write_example
from .sending import Publication, PublishedFile, PublishingError, send, write_manifest


RECIPE = "recipe.yaml"
# The files of a published checkpoint, apart from the code, the card, the example and the manifest.
PUBLISHED = (
    "config.json",
    WEIGHTS,
    SHARDS,
    "video_preprocessor_config.json",
    RECIPE,
    "metrics.json",
    "training.json",
    "labels.json",
    "curves.png",
    "confusion.png",
    "confusion.pdf",
    "calibration.png",
    "calibration.pdf",
)
SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
# Texts of these files that are paths on their author's machine, and keys where any text is allowed.
TELLING_FILES = ("config.json", "video_preprocessor_config.json", "training.json", "metrics.json", RECIPE)
LOCAL_PATH = re.compile(r"/|~|\.\.[/\\]|[A-Za-z]:[/\\]|\\\\")
NAMES_OF_CLASSES = ("id2label", "label2id", "attribute_names", "per_class", "per_set", "per_event")
# The largest difference between two computations of the same score that counts as equal.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Build:
    """A complete folder, ready to be tested and sent. `left_out` names what of the checkpoint is not published."""

    folder: Path
    files: list[PublishedFile]
    checkpoint: Checkpoint
    left_out: list[str]


def publish(
    checkpoint: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    create_pr: bool = False,
    revision: str | None = None,
    tag: str | None = None,
    example: Path | None = None,
    dry_run: bool = False,
    api: HfApi | None = None,
    say: Callable[[str], None] = print,
) -> Publication | None:
    """Publish one finished checkpoint as a Hub repository.

    The arguments that are not described here, and their defaults, are those of `finegym push`.

    Args:
        api: The Hub to publish to.
        say: A function that shows a line of progress.

    Returns:
        What was sent; None for a dry run.

    Raises:
        FileNotFoundError, ValueError: If something is missing from or wrong with the checkpoint or the names.
        PublishingError: If the folder fails its test, or the Hub refuses; nothing was published unless the message
            says so.
    """
    check_options(create_pr=create_pr, revision=revision, tag=tag)
    with tempfile.TemporaryDirectory(prefix="finegym-publish-") as folder:
        build = build_folder(checkpoint, Path(folder), repo_id, tag=tag, example=example)
        validate(build)
        say(describe(build, repo_id))
        if dry_run:
            say(f"\n{(build.folder / 'README.md').read_text(encoding='utf-8')}\nDry run: nothing was sent.")
            return None
        options = {"private": private, "create_pr": create_pr, "revision": revision, "tag": tag}
        publication = send(build.folder, build.files, repo_id, message=commit_message(build), api=api, **options)
    say(outcome(publication))
    return publication


def check_options(*, create_pr: bool, revision: str | None, tag: str | None) -> None:
    """Refuse options that exclude each other, and invalid names."""
    for name in (revision, tag):
        check_names("owner/name", name)
    if create_pr and revision is not None:
        raise ValueError("--create-pr opens a pull request against main; leave out --revision.")
    if create_pr and tag is not None:
        raise ValueError("--create-pr only proposes a commit; tag it with --tag once it is merged.")


def build_folder(
    checkpoint: str | Path,
    folder: Path,
    repo_id: str,
    *,
    tag: str | None = None,
    family: dict[str, str] | None = None,
    base_model: str | None = None,
    example: Path | None = None,
) -> Build:
    """Copy what is published into `folder` and add code, example video, card and manifest.

    Raises:
        FileNotFoundError, ValueError: If something is missing or wrong; the message names it.
    """
    read = Checkpoint.read(checkpoint)
    card_metadata(read)  # errors name the checkpoint's own folder, not the copy
    source = read.folder
    for path in _chosen_files(source):
        if path.is_symlink() or not path.is_file():
            raise ValueError(f"{path} is a link or a folder; only plain files are published.")
        shutil.copyfile(path, folder / path.name)
    for name in TELLING_FILES:
        if (folder / name).exists():
            hide_local_folders(folder / name)
    if not read.shows_a_gymnast:
        _name_recipe(folder / RECIPE, read.dataset)
    copy_code(folder)
    if example is not None or read.shows_a_gymnast:
        write_example(read, folder, example)
    built = Checkpoint.read(folder)
    card = render_card(built, repo_id, revision=tag, family=family, base_model=base_model)
    (folder / "README.md").write_text(str(card), encoding="utf-8")
    (folder / "requirements.txt").write_text("".join(f"{name}\n" for name in built.requirements), encoding="utf-8")
    name, results = eval_results(built, repo_id)
    (folder / ".eval_results").mkdir()
    (folder / ".eval_results" / name).write_text(results, encoding="utf-8")
    files = write_manifest(folder)
    names = {file.path for file in files}
    left_out = sorted(path.name + "/" * path.is_dir() for path in source.iterdir() if path.name not in names)
    return Build(folder, files, built, left_out)


def _chosen_files(source: Path) -> list[Path]:
    """Return the files of a checkpoint to publish: those of known names, and the shards that the index of weights
    names."""
    names = set(PUBLISHED)
    if (source / SHARDS).is_file():
        index = read_json(source / SHARDS, what="index of weights", remedy="Save the checkpoint again.")
        weight_map = index.get("weight_map") if isinstance(index, dict) else None
        shards = set(map(str, weight_map.values())) if isinstance(weight_map, dict) else {""}
        wrong = sorted(name for name in shards if not SHARD.fullmatch(name))
        if wrong:
            raise ValueError(f"{source / SHARDS} names {wrong[0]!r}, which is not a shard of weights.")
        names |= shards
    return [source / name for name in sorted(names) if (source / name).exists() or (source / name).is_symlink()]


def hide_local_folders(path: Path) -> None:
    """Shorten every path outside the working folder in a JSON or YAML file to its last name: the rest tells about the
    author's machine."""

    def shorten(value):
        if isinstance(value, dict):
            return {name: part if name in NAMES_OF_CLASSES else shorten(part) for name, part in value.items()}
        if isinstance(value, list):
            return [shorten(part) for part in value]
        if isinstance(value, str) and LOCAL_PATH.match(value):
            return re.split(r"[/\\]", value.rstrip("/\\"))[-1].lstrip("~.")
        return value

    if path.suffix == ".json":
        content = read_json(path, what="JSON file", remedy="train.py writes it.", finite=False)
    else:
        content = read_yaml(path, what="YAML file")
    published = shorten(content)
    if published == content:
        return
    is_json = path.suffix == ".json"
    text = json.dumps(published, indent=2) if is_json else yaml.safe_dump(published, sort_keys=False)
    path.write_text(text.rstrip() + "\n", encoding="utf-8")


def _name_recipe(path: Path, dataset: str) -> None:
    """Name a recipe after its data set: it may still have the name of the shipped one that it was made from."""
    recipe = read_yaml(path, what="recipe")
    name = f"{dataset} {recipe['model']['architecture']}"
    path.write_text(yaml.safe_dump(recipe | {"name": name}, sort_keys=False), encoding="utf-8")


def validate(build: Build) -> None:
    """Load the folder in a fresh process without this project or a network, and compare its scores with our own.

    Raises:
        PublishingError: If a user would meet an error or other scores; the message says what.
    """
    with example_of(build.checkpoint) as video:
        seen = look_as_stranger(build.folder, video)
        logits, scores = own_logits(build.folder, video)
    family = build.checkpoint.config["architectures"][0].removesuffix("ForVideoClassification")
    expected = {
        "config": f"{family}Config",
        "base": f"{family}Model",
        "model": f"{family}ForVideoClassification",
        "processor": "FineGymVideoProcessor",
        "pipeline": "FineGymPipeline",
    }
    if seen["classes"] != expected or seen["modules"] != ["transformers_modules"]:
        raise PublishingError(f"A user would load {seen['classes']} from {seen['modules']}, not {expected}.")
    if seen["loading"]:
        raise PublishingError(f"The weights do not fit the model: {seen['loading']}.")
    difference = (torch.tensor(seen["logits"]) - logits).abs().max().item()
    if not difference <= TOLERANCE * max(1.0, logits.abs().max().item()):
        raise PublishingError(f"A user would get other logits for {video.name}: they differ by {difference:.1e}.")
    off = max(abs(seen["scores"][name] - score) for name, score in scores.items())
    if not off <= TOLERANCE:
        raise PublishingError(
            f"The pipeline and the evaluation disagree about {video.name}: scores differ by {off:.1e}."
        )


def look_as_stranger(folder: Path, video: Path) -> dict:
    """Run `stranger.py` on a folder and a video, offline, with an empty Hugging Face home and in another working
    directory."""
    with tempfile.TemporaryDirectory(prefix="finegym-stranger-") as elsewhere:
        result = Path(elsewhere) / "seen.json"
        command = [sys.executable, "-I", stranger.__file__, str(folder), str(video), str(result)]
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))},
            "HF_HOME": elsewhere,
            "HF_HUB_OFFLINE": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
        process = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
        if process.returncode:
            raise PublishingError(
                f"The published folder does not load in a fresh process:\n{process.stderr.strip()[-2000:]}"
            )
        return read_json(result, what="report", remedy="Run it again.")


def own_logits(folder: Path, video: Path) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the logits of a video's clips and its averaged scores by class, by this project's own code."""
    model = load_model(folder, AutoModelForVideoClassification)
    processor = load_video_processor(folder)
    if not isinstance(processor, modeling_finegym.FineGymVideoProcessor):
        raise PublishingError(f"{folder} holds a {type(processor).__name__}, not a FineGymVideoProcessor.")
    clips = processor.load_clips(video)
    with torch.no_grad():
        logits = model(pixel_values=clips.pixel_values).logits
    scores = next(score_videos(model, [clips])).scores
    return logits, {model.config.id2label[label]: score for label, score in enumerate(scores.tolist())}


def describe(build: Build, repo_id: str) -> str:
    """Return what will be sent, as a table for a terminal."""
    lines = [f"{build.checkpoint.title} -> {repo_id}", ""]
    width = max(len(file.path) for file in build.files)
    lines += [f"  {file.path:{width}}  {file.size:>12,} bytes  {file.sha256}" for file in build.files]
    total = sum(file.size for file in build.files)
    lines += ["", f"  {len(build.files)} files, {total:,} bytes. They load without this project, and give its scores."]
    if build.left_out:
        lines.append(f"  Not published: {', '.join(build.left_out)}.")
    return "\n".join(lines)


def commit_message(build: Build) -> str:
    metrics = build.checkpoint.metrics
    top1, mean = metrics["top1"], metrics["mean_class_accuracy"]
    return f"{build.checkpoint.title}: top-1 {top1:.2f}, mean class accuracy {mean:.2f}"


def outcome(publication: Publication) -> str:
    """Return one sentence on what a publication did."""
    if not publication.changed and not publication.deleted:
        return f"{publication.repo_id} holds these files already (commit {publication.commit}). Nothing was sent."
    moved = f"{len(publication.changed)} files" + (
        f", {len(publication.deleted)} deleted" if publication.deleted else ""
    )
    return f"Published {moved} as one commit: {publication.url}"
