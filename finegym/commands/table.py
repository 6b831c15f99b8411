"""`finegym table`."""

from pathlib import Path


def table(folder: Path) -> str:
    """Print the metrics of finished checkpoints side by side.

    Checkpoints whose recipes differ only in the seed are also shown as one, with mean and standard deviation.

    Args:
        folder: The folder that holds the checkpoint folders.

    Examples:
        finegym table outputs/synthgym
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    from finegym.evaluation.report import table

    return table(folder)
