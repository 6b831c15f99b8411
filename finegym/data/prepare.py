"""`finegym prepare`: from videos as people have them to short clips, an index and a coverage report."""

import hashlib
import os
from pathlib import Path
from typing import Literal

import filelock
import huggingface_hub.constants
from tqdm import tqdm

from .annotations import read_annotation
from .coverage import coverage_report, describe_coverage
from .cutting import Encoding, run_jobs
from .index import INDEX_FILE, LABELS_FILE, write_coverage, write_index
from .labels import Labels
from .own_data import plan_own_data
from .plan import Plan, plan_finegym
from .sources import find_videos, remove_partial_files


CONFIGURATION = Path(__file__).parents[2] / "configuration"


def prepare(
    source: str,
    root: Path,
    dataset: str = "gym99",
    annotations: Path = Path("data/finegym"),
    annotation_version: Literal["v1.0", "v1.1"] = "v1.0",
    labels: Path | None = None,
    attributes: str | None = None,
    val_share: float = 0.2,
    short_side: int = 256,
    key_interval: int = 12,
    crf: int = 18,
    num_workers: int | None = None,
) -> str:
    """Cut and re-encode the clips of a dataset; write them, an index and a coverage report under `root`.

    A run that was stopped, at any moment and in any way, is continued by the same command; what is finished is kept.
    The same source gives the same index, byte for byte.

    Args:
        source: the videos. For Gym99 and Gym288 a folder of full videos, event clips, sub-action clips or tar archives
            of them, named by FineGym's ids; for `own` a folder with one folder per class or with metadata, or the id
            of a dataset on the Hub.
        root: the folder to write.
        dataset: "gym99", "gym288", "own", or the prefix of split lists in FineGym's format, together with `labels`.
        annotations: FineGym's annotation files, as `finegym fetch-annotations` puts them.
        annotation_version: "v1.0" is what the paper counts, "v1.1" has more training clips.
        labels: the classes; by default those of `configuration/<dataset>`.
        attributes: for `own`: a JSON file of attributes by class, or "names" to take the class names apart.
        val_share: for `own`: the share of each class to validate on, where nothing else tells.
        short_side: pixels of the shorter side of the clips.
        key_interval: the largest distance between two key frames, in frames.
        crf: x264's constant rate factor; 18 is visually lossless.
        num_workers: processes; by default one for each core, 0 for none but this one.

    Returns:
        The coverage report as text.

    Raises:
        FileNotFoundError: if the source or an annotation file is missing.
        ValueError: naming the file, if it is not of the documented form; or if another run is preparing `root`.
    """
    encoding = Encoding(short_side, key_interval, crf)
    if dataset == "own":
        plan = plan_own_data(source, name=root.name, attributes=attributes, val_share=val_share)
    else:
        classes = Labels.read(labels or CONFIGURATION / dataset / LABELS_FILE)
        annotation = read_annotation(annotations, dataset, annotation_version, classes)
        plan = plan_finegym(find_videos(source), annotation, source=Path(source))
    root.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(root / ".lock", timeout=0):
            return _make(plan, root, encoding, os.cpu_count() or 1 if num_workers is None else num_workers)
    except filelock.Timeout:
        raise ValueError(f"Another run is preparing {root}. Wait for it or stop it.") from None


def prepared_root(root: str) -> Path:
    """The prepared folder that `data.root` of a recipe means; a videofolder or a dataset of the Hub is prepared first,
    in a cache.

    Of several processes only one may call this at a time; the others find the work done.

    Args:
        root: a prepared folder, a folder of your own videos, or the id of a dataset on the Hub.

    Raises:
        FileNotFoundError: if it is none of these.
        ValueError: naming the file, if the videos' metadata is not of the documented form.
    """
    folder = Path(root)
    if (folder / INDEX_FILE).is_file():
        return folder
    key = hashlib.sha256(str(folder.absolute() if folder.is_dir() else root).encode()).hexdigest()[:12]
    cache = Path(huggingface_hub.constants.HF_HOME) / "finegym" / key / folder.name
    tqdm.write(prepare(root, cache, dataset="own"))
    return cache


def _make(plan: Plan, root: Path, encoding: Encoding, num_workers: int) -> str:
    remove_partial_files(root)
    plan.labels.write(root / LABELS_FILE)
    missing = dict(plan.missing)
    finished = {}
    total = sum(len(job.cuts) for job in plan.jobs)
    # The longest work first, so that no process is left alone with it at the end.
    jobs = sorted(plan.jobs, key=lambda job: -len(job.cuts))
    for result in tqdm(run_jobs(jobs, root, encoding, num_workers), "Preparing", total, unit="clip"):
        if result.problem:
            missing[result.id] = result.problem
        else:
            finished[result.id] = result
    rows = [
        {
            "id": clip_id,
            "file": f"clips/{clip_id}.mp4",
            "split": split,
            "label": label,
            "num_frames": finished[clip_id].num_frames,
            "fps": finished[clip_id].fps,
        }
        for split, clips in plan.expected.items()
        for clip_id, label in clips.items()
        if clip_id in finished
    ]
    report = coverage_report(
        plan.labels, plan.expected, missing, annotation_version=plan.annotation_version, refused=plan.refused
    )
    write_coverage(root, report)
    if not rows:
        raise ValueError(f"Not one clip could be made.\n{describe_coverage(report, plan.labels)}")
    write_index(root, rows)
    return f"{describe_coverage(report, plan.labels)}\n  Index: {root / INDEX_FILE}"
