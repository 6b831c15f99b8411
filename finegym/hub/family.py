"""Publishing all checkpoints of a data set, tied together by links and a Collection."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import HfApi

from finegym.data.text import read_yaml

from .checkpoint import Checkpoint
from .publish import build_folder, check_options, commit_message, describe, outcome, validate
from .sending import Publication, explained, send


def publish_family(
    recipes: str | Path,
    owner: str,
    *,
    private: bool = False,
    tag: str | None = None,
    dry_run: bool = False,
    api: HfApi | None = None,
    say: Callable[[str], None] = print,
) -> list[Publication]:
    """Publish every finished checkpoint of a folder of recipes, and a Collection that ties them together.

    All checkpoints are built and tested before the first is sent. A recipe without a finished checkpoint is reported
    and left out. A repository is named after its recipe, `owner/finegym-<name>`.

    Args:
        recipes: The folder of the recipes, such as configuration/gym99; each names its checkpoint by `output_dir`.
        owner: The user or organization on the Hub.
        private, tag, dry_run, api, say: The same as for `publish`.

    Raises:
        ValueError: If none of the recipes has a finished checkpoint, or two have the same name.
        PublishingError: If a repository cannot be published; the message names it, and those named before it are
            published.
    """
    check_options(create_pr=False, revision=None, tag=tag)
    checkpoints, unfinished = finished_checkpoints(recipes)
    for recipe, reason in unfinished.items():
        say(f"Left out {recipe}: {reason}")
    if not checkpoints:
        raise ValueError(f"No recipe in {recipes} has a finished checkpoint.")
    repositories = _name_repositories(owner, checkpoints)
    family = {repo_id: checkpoint.title for repo_id, checkpoint in repositories.items()}
    published_from = {checkpoint.folder.resolve(): repo_id for repo_id, checkpoint in repositories.items()}
    publications = []
    with tempfile.TemporaryDirectory(prefix="finegym-publish-") as workplace:
        builds = {}
        for number, (repo_id, checkpoint) in enumerate(repositories.items()):
            folder = Path(workplace) / str(number)
            folder.mkdir()
            backbone = checkpoint.recipe["model"].get("backbone")
            base_model = published_from.get(Path(backbone).resolve()) if backbone else None
            build = build_folder(checkpoint.folder, folder, repo_id, tag=tag, family=family, base_model=base_model)
            validate(build)
            say(f"{describe(build, repo_id)}\n")
            builds[repo_id] = build
        if dry_run:
            say("Dry run: nothing was sent.")
            return []
        for repo_id, build in builds.items():
            options = {"private": private, "tag": tag, "api": api}
            publications.append(send(build.folder, build.files, repo_id, message=commit_message(build), **options))
            say(outcome(publications[-1]))
    say(f"Collection: {_collect(owner, family, checkpoints[0], private=private, api=api or HfApi())}")
    return publications


def finished_checkpoints(recipes: str | Path) -> tuple[list[Checkpoint], dict[str, str]]:
    """Return the finished checkpoints of a folder of recipes, and for every other recipe the reason why there is none.

    Raises:
        FileNotFoundError: If the folder holds no recipe.
    """
    files = sorted(Path(recipes).glob("*.yaml"))
    if not files:
        raise FileNotFoundError(f"There is no recipe (*.yaml) in {recipes}.")
    checkpoints, unfinished = [], {}
    for file in files:
        recipe = read_yaml(file, what="recipe")
        if not isinstance(recipe, dict) or "output_dir" not in recipe:
            raise ValueError(f"{file} is not a recipe: it names no output_dir.")
        try:
            checkpoints.append(Checkpoint.read(recipe["output_dir"]))
        except FileNotFoundError as error:
            unfinished[file.name] = str(error)
    return checkpoints, unfinished


def _name_repositories(owner: str, checkpoints: list[Checkpoint]) -> dict[str, Checkpoint]:
    repositories: dict[str, Checkpoint] = {}
    for checkpoint in checkpoints:
        name = re.sub(r"[^a-z0-9.]+", "-", str(checkpoint.recipe["name"]).lower()).strip("-.")
        repo_id = f"{owner}/finegym-{name.removeprefix('finegym-')}"
        if repo_id in repositories:
            raise ValueError(f"{repositories[repo_id].folder} and {checkpoint.folder} would both become {repo_id}.")
        repositories[repo_id] = checkpoint
    return repositories


def _collect(owner: str, family: dict[str, str], checkpoint: Checkpoint, *, private: bool, api: HfApi) -> str:
    """Create or complete the Collection and return its address."""
    with explained(
        "The checkpoints are published, but not their Collection. Running the same command again only adds it"
    ):
        title = f"Fine-grained action recognition on {checkpoint.dataset}"
        collection = api.create_collection(title[:60], namespace=owner, private=private, exists_ok=True)
        for repo_id, name in family.items():
            api.add_collection_item(collection.slug, repo_id, "model", note=name, exists_ok=True)
    return f"{api.endpoint}/collections/{collection.slug}"
