"""`finegym push`."""

from pathlib import Path

from finegym.data.arguments import UsageError
from finegym.paths import shipped


def push(
    checkpoint: Path | None,
    repository: str,
    *,
    all: Path | None = None,
    private: bool = False,
    create_pr: bool = False,
    revision: str | None = None,
    tag: str | None = None,
    example: Path | None = None,
    space: bool = False,
    dry_run: bool = False,
) -> None:
    """Publish a finished checkpoint on the Hugging Face Hub.

    The folder is built, loaded in a fresh process as a stranger would load it, listed with its SHA-256, and sent as
    one commit. The token is the one of `hf auth login`, or HF_TOKEN.

    Args:
        checkpoint: The checkpoint folder, as training leaves it. Leave it out with --all.
        repository: The repository to publish to, OWNER/NAME. With --all, only OWNER.
        all: A folder of recipes. Every checkpoint that they have finished is published, and a Collection.
        private: Make a new repository private.
        create_pr: Open a pull request rather than commit.
        revision: The branch to commit to. By default, it is main.
        tag: The name for the published commit, such as v1.0.
        example: A video of your own to publish as example.mp4, without its sound and metadata. By default, it is a
            drawn gymnast for checkpoints of FineGym and SynthGym, and none for those of own data.
        space: Publish a Space of the same name too, with the page of `finegym demo`. It needs the `demo` extra.
        dry_run: Do everything except send.

    Examples:
        finegym push outputs/gym99/video_text OWNER/NAME --dry_run
        finegym push outputs/gym99/video_text OWNER/NAME --tag v1.0
        finegym push outputs/gym99/video_text OWNER/NAME --space
        finegym push --all configuration/gym99 OWNER
    """
    if (checkpoint is None) == (all is None):
        raise UsageError("Give either a checkpoint folder or --all RECIPES.")
    if all is not None and (create_pr or revision or example):
        raise UsageError("--all commits to main, without examples: leave out --create_pr, --revision and --example.")
    if space and (all is not None or create_pr or revision):
        raise UsageError("--space shows one model of the branch main: leave out --all, --create_pr and --revision.")
    if checkpoint is not None and not checkpoint.is_dir():
        raise FileNotFoundError(f"There is no checkpoint folder {checkpoint}.")
    recipes = None if all is None else shipped(all)
    from finegym.hub.family import publish_family
    from finegym.hub.publish import publish

    shared = {"private": private, "tag": tag, "dry_run": dry_run}
    if recipes is not None:
        publish_family(recipes, repository, **shared)
    elif space:
        from finegym.hub.space import publish_space

        publish_space(checkpoint, repository, example=example, **shared)
    else:
        publish(checkpoint, repository, create_pr=create_pr, revision=revision, example=example, **shared)
