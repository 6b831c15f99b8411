"""From FineGym's videos, in any form, to short videos, an index and a coverage report."""

from pathlib import Path
from typing import Literal

from finegym.data.index import INDEX_FILE, LABELS_FILE
from finegym.data.labels import Labels
from finegym.paths import shipped

from .annotations import read_annotation
from .assemble import assemble
from .coverage import describe_coverage
from .cutting import Encoding
from .plan import plan_finegym
from .sources import find_video_files


def prepare(
    source: Path,
    root: Path,
    dataset: str = "gym99",
    annotations: Path = Path("data/finegym"),
    annotation_version: Literal["v1.0", "v1.1"] = "v1.0",
    labels: Path | None = None,
    short_side: int = 256,
    key_interval: int = 12,
    crf: int = 18,
    num_workers: int | None = None,
) -> str:
    """Cut and re-encode FineGym's sub-actions; write them, an index and a coverage report.

    A run that was stopped, at any moment and in any way, is resumed by the same command; what is finished is kept. The
    same source yields the same index, byte for byte. A sub-action is cut by the float times of the annotation and
    encoded again, never copied.

    Args:
        source: A folder of full videos, events, sub-actions or tar archives of them, named by FineGym's ids.
        root: The folder to write.
        dataset: The data set, "gym99" or "gym288", or the prefix of other split lists in FineGym's format, together
            with `labels`.
        annotations: The folder of FineGym's annotation files, as `finegym fetch` leaves it.
        annotation_version: The annotation version. "v1.0" is what the paper counts; "v1.1" has more training videos.
        labels: The classes; by default those of `configuration/<dataset>`.
        short_side: The length in pixels of the shorter side of the videos.
        key_interval: The largest distance between two key frames, in frames.
        crf: The constant rate factor of x264; 18 is visually lossless.
        num_workers: The number of processes; by default one for each core (none for a few videos). 0 works in this
            one.

    Returns:
        The coverage report as text.

    Raises:
        FileNotFoundError: If the source or an annotation file is missing.
        ValueError: If an annotation file is not of the documented form, or not one video can be made; the message
            names the file.
    """
    encoding = Encoding(short_side, key_interval, crf)
    classes = Labels.read(labels or shipped(f"{dataset}/{LABELS_FILE}"))
    annotation = read_annotation(annotations, dataset, annotation_version, classes)
    plan = plan_finegym(find_video_files(source), annotation, source=source)
    report = assemble(plan, root, encoding, num_workers)
    return f"{describe_coverage(report, plan.labels)}\n  Index: {root / INDEX_FILE}"
