"""`finegym fuse`."""

from pathlib import Path


def fuse(
    run_a: Path,
    run_b: Path,
    *,
    output: Path,
    weights: tuple[float, float] = (1.0, 1.0),
    root: Path | None = None,
) -> str:
    """Fuse the scores of two runs on the same videos, such as those of two streams, and report on the result.

    It takes the weighted mean of what `finegym evaluate` or the end of training wrote to scores.parquet, and refuses
    runs whose videos, labels or classes differ. It writes metrics.json, scores and pictures as for a checkpoint.

    Args:
        run_a: The folder of the first run.
        run_b: The folder of the second run.
        output: The folder to write to, empty or new.
        weights: The weight of each run's scores, which are probabilities. By default, both weigh the same.
        root: The prepared data set folder. With it, report.html compares the result with both runs.

    Examples:
        finegym fuse outputs/gym99/tsm_rgb outputs/gym99/tsm_flow --output outputs/gym99/tsm
        finegym fuse outputs/synthgym/tsm_rgb outputs/synthgym/i3d --output fused --weights "[1, 1.5]"
    """
    for folder in (run_a, run_b, *([] if root is None else [root])):
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no folder {folder}.")
    from finegym.evaluation.fuse import fuse_runs

    return fuse_runs([run_a, run_b], output, weights=weights, root=root)
