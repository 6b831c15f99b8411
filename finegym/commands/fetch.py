"""`finegym fetch`."""

from pathlib import Path


def fetch(*, folder: Path = Path("data/finegym"), base_url: str | None = None) -> str:
    """Download FineGym's annotation files, or check those that are there.

    Correct files in the folder are not downloaded again, so that on a machine without a network they can be put there
    by hand. The annotations are FineGym's, under CC BY-NC 4.0.

    Args:
        folder: The folder that the files go to.
        base_url: The address of a mirror of FineGym's files. By default, they come from FineGym's site.

    Examples:
        finegym fetch
    """
    from finegym.preparation.fetch import BASE_URL, fetch_annotations

    return fetch_annotations(folder, base_url or BASE_URL)
