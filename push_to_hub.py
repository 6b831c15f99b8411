"""Publish a finished checkpoint on the Hugging Face Hub.

    python push_to_hub.py runs/gym99/video_text OWNER/NAME --dry-run      shows everything, sends nothing
    python push_to_hub.py runs/gym99/video_text OWNER/NAME --tag v1.0
    python push_to_hub.py --all configuration/gym99 OWNER                 every finished checkpoint, and a Collection

The folder is built, loaded as a stranger would load it, listed with its SHA-256, and sent as one commit. The token is
the one of `hf auth login`, or HF_TOKEN.
"""

import argparse
import sys

from finegym.data.text import safe_text
from finegym.hub.family import publish_family
from finegym.hub.publish import publish
from finegym.hub.sending import PublishingError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", help="checkpoint folder, as train.py leaves it")
    parser.add_argument("repository", help="OWNER/NAME; only OWNER with --all")
    parser.add_argument("--all", metavar="RECIPES", help="publish every finished checkpoint of this folder of recipes")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request instead of committing")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to commit to (default: main)")
    parser.add_argument("--tag", help="name for the published commit, such as v1.0")
    parser.add_argument("--dry-run", action="store_true", help="do everything but the sending")
    options = parser.parse_args(arguments)
    if (options.checkpoint is None) == (options.all is None):
        parser.error("give either a checkpoint folder or --all RECIPES")
    if options.all and (options.create_pr or options.revision):
        parser.error("--all commits to main: leave out --create-pr and --revision")
    shared = {"private": options.private, "tag": options.tag, "dry_run": options.dry_run}
    try:
        if options.all:
            publish_family(options.all, options.repository, **shared)
        else:
            publish(
                options.checkpoint,
                options.repository,
                create_pr=options.create_pr,
                revision=options.revision,
                **shared,
            )
    except (PublishingError, FileNotFoundError, ValueError) as error:
        sys.stderr.write(safe_text(f"push_to_hub.py: {error}") + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
