"""Carrying out a plan: the videos, their index, the labels and the coverage report of a prepared folder."""

import os
from pathlib import Path

import filelock
from tqdm import tqdm

from finegym.data.index import INDEX_FILE, LABELS_FILE, write_coverage, write_index

from .coverage import coverage_report, describe_coverage
from .cutting import Encoding, run_jobs
from .plan import Plan
from .sources import remove_partial_files


FEW_VIDEOS = 50


def assemble(plan: Plan, root: Path, encoding: Encoding, num_workers: int | None = None) -> str:
    """Make the videos of a plan under `root`, and write the index and the report when all are done.

    A run that was stopped, at any moment and in any way, is continued by the next one: what is finished is kept.

    Args:
        num_workers: processes; 0: none but this one. None: one for each core, and none for a few videos, which are
            made before processes have started.

    Returns:
        The coverage report as text.

    Raises:
        ValueError: if not one video can be made, or another run is at work on `root`.
    """
    root.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(root / ".lock", timeout=0):
            return _assemble(plan, root, encoding, num_workers)
    except filelock.Timeout:
        raise ValueError(f"Another run is at work on {root}. Wait for it or stop it.") from None


def _assemble(plan: Plan, root: Path, encoding: Encoding, num_workers: int | None) -> str:
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
    rows = [
        {
            "id": video_id,
            "file": f"clips/{video_id}.mp4",
            "split": split,
            "label": label,
            "num_frames": finished[video_id].num_frames,
            "fps": finished[video_id].fps,
        }
        for split, videos in plan.expected.items()
        for video_id, label in videos.items()
        if video_id in finished
    ]
    report = coverage_report(
        plan.labels, plan.expected, missing, annotation_version=plan.annotation_version, refused=plan.refused
    )
    write_coverage(root, report)
    if not rows:
        raise ValueError(f"Not one video could be made.\n{describe_coverage(report, plan.labels)}")
    write_index(root, rows)
    return f"{describe_coverage(report, plan.labels)}\n  Index: {root / INDEX_FILE}"
