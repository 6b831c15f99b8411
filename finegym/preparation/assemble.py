"""Execution of a plan: the videos, their index, the labels and the coverage report of a prepared folder."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import filelock
from tqdm import tqdm

from finegym.data.index import LABELS_FILE, write_coverage, write_index

from .coverage import coverage_report, describe_coverage, fold_coverage
from .cutting import Encoding, run_jobs
from .plan import Plan, Row
from .sources import remove_partial_files


FEW_VIDEOS = 50


def assemble(plan: Plan, root: Path, encoding: Encoding, num_workers: int | None = None) -> dict[str, Any]:
    """Make the videos of a plan under `root`, and write the index and the report when all are done.

    A run that was stopped, at any moment and in any way, is resumed by the next one; what is finished is kept.

    Args:
        num_workers: The number of processes; 0 works in this one. None starts one for each core, and none for a few
            videos, which are done before processes have started.

    Returns:
        The coverage report.

    Raises:
        ValueError: If not one video can be made, or another run is working on `root`.
    """
    root.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(root / ".lock", timeout=0):
            return _assemble(plan, root, encoding, num_workers)
    except filelock.Timeout:
        raise ValueError(f"Another run is working on {root}. Wait for it or stop it.") from None


def _assemble(plan: Plan, root: Path, encoding: Encoding, num_workers: int | None) -> dict[str, Any]:
    remove_partial_files(root)
    plan.labels.write(root / LABELS_FILE)
    missing = dict(plan.missing)
    finished = {}
    total = sum(len(job.cuts) for job in plan.jobs)
    if num_workers is None:
        num_workers = 0 if total < FEW_VIDEOS else os.cpu_count() or 1
    # The longest work first, so that no process is left alone with it at the end.
    jobs = sorted(plan.jobs, key=lambda job: -len(job.cuts))
    for result in tqdm(run_jobs(jobs, root, encoding, num_workers), "Preparing", total, unit="video"):
        if result.problem:
            missing[result.id] = result.problem
        else:
            finished[result.id] = result
    rows = plan.rows(finished.keys())
    report = coverage_report(
        plan.labels,
        _expected(rows),
        missing,
        annotation_version=plan.annotation_version,
        refused=plan.refused,
        ignored=plan.ignored,
    )
    folds = sorted({row.fold for row in rows if row.fold is not None})
    if folds:
        report["folds"] = [fold_coverage(plan.labels, _expected(rows, fold), missing) for fold in folds]
    report["num_groups"] = len({row.group for row in rows if row.group is not None})
    write_coverage(root, report)
    if not finished:
        raise ValueError(f"Not one video could be made.\n{describe_coverage(report, plan.labels)}")
    write_index(
        root,
        (
            {
                **asdict(row),
                "file": f"clips/{row.id}.mp4",
                "num_frames": finished[row.id].num_frames,
                "fps": finished[row.id].fps,
            }
            for row in rows
            if row.id in finished
        ),
    )
    return report


def _expected(rows: Sequence[Row], fold: int | None = None) -> dict[str, dict[str, int]]:
    """Return the class by id by split. With a fold, training and validation are those of that fold."""
    expected: dict[str, dict[str, int]] = {"train": {}, "val": {}}
    for row in rows:
        split = row.split
        if fold is not None and row.fold is not None:
            split = "val" if row.fold == fold else "train"
        expected.setdefault(split, {})[row.id] = row.label
    return expected
