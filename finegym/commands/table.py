"""`finegym table`."""

from pathlib import Path


def table(folders: list[Path]) -> str:
    """Print the metrics of finished checkpoints side by side.

    Checkpoints whose recipes differ only in the seed or the fold are also shown as one, with mean and standard
    deviation. Below encoders, two rows show what a linear model makes of the same cached features.

    Args:
        folders: Checkpoint folders, and folders that hold checkpoint folders.

    Examples:
        finegym table outputs/synthgym
        finegym table outputs/mine/frozen outputs/mine/small
    """
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no folder {folder}.")
    from finegym.evaluation.report import table

    return table(*folders)
