"""`finegym table`."""

from pathlib import Path
from typing import Literal

from finegym.data.arguments import UsageError


SUFFIXES = (".md", ".csv", ".tex")


def table(
    folders: list[Path],
    *,
    sort: Literal[
        "model", "top1", "mean_class_accuracy", "num_parameters", "train_seconds", "num_evaluated"
    ] = "mean_class_accuracy",
    descending: bool = False,
    output: Path | None = None,
) -> str:
    """Print the metrics of finished checkpoints side by side.

    Accuracies have their 95 % bootstrap interval over the videos, and the best on the same videos are marked.
    Checkpoints whose recipes differ only in the seed or the fold are also shown as one, with mean and standard
    deviation. Below encoders, two rows show what a linear model makes of the same cached features.

    Args:
        folders: Checkpoint folders, and folders that hold checkpoint folders.
        sort: The column to sort by, smallest first.
        descending: Sort the largest first.
        output: Write the table to this file too, as Markdown (.md), CSV (.csv) or LaTeX with booktabs (.tex).

    Examples:
        finegym table outputs/synthgym
        finegym table outputs/mine/frozen outputs/mine/small --sort top1 --descending --output table.tex
    """
    if output is not None and output.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--output must end in {', '.join(SUFFIXES)}, not {output.name}.")
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no folder {folder}.")
    from finegym.evaluation.table import EXPLANATION, left_out, render_text, table_rows, write_table

    rows = table_rows(*folders, sort=sort, descending=descending)
    if output is not None:
        write_table(output, rows)
    written = [f"Written to {output}."] if output else []
    return "\n".join([render_text(rows), "", EXPLANATION, *left_out(*folders), *written])
