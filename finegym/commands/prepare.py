"""`finegym prepare`."""

from pathlib import Path
from typing import Literal

from finegym.data.arguments import Count, CountOrZero
from finegym.paths import shipped


def prepare(
    source: Path,
    root: Path,
    *,
    dataset: str = "gym99",
    annotations: Path = Path("data/finegym"),
    annotation_version: Literal["v1.0", "v1.1"] = "v1.0",
    labels: Path | None = None,
    short_side: Count = 256,
    key_interval: Count = 12,
    crf: CountOrZero = 18,
    num_workers: CountOrZero | None = None,
) -> str:
    """Cut FineGym's videos into an indexed data set, with a report of what is missing.

    A run that was stopped, at any moment and in any way, is resumed by the same command; what is finished is kept. The
    same source gives the same index, byte for byte.

    Args:
        source: The folder with full videos, event clips, sub-action clips or tar archives of them, named by FineGym's
            ids.
        root: The folder to write.
        dataset: The data set, gym99 or gym288, or the prefix of other split lists in FineGym's format. Those need
            `--labels`.
        annotations: The folder with FineGym's annotation files, as `finegym fetch` leaves it.
        annotation_version: The annotation version. v1.0 is what the paper counts; v1.1 has more training videos.
        labels: The label file of the classes. By default, it is the shipped one of the data set.
        short_side: The length of the shorter side of the videos, in pixels.
        key_interval: The largest distance between two key frames, in frames.
        crf: The constant rate factor of x264, from 0 to 51. 18 is visually lossless.
        num_workers: The number of processes that cut. By default, there is one for each CPU core; 0 cuts in this one.

    Examples:
        finegym prepare VIDEOS data/gym99
        finegym prepare VIDEOS data/gym288 --dataset gym288 --annotation_version v1.1
    """
    label_file = shipped(f"{dataset}/labels.json" if labels is None else labels)
    from finegym.data.index import INDEX_FILE
    from finegym.data.labels import Labels
    from finegym.preparation.annotations import read_annotation
    from finegym.preparation.assemble import assemble
    from finegym.preparation.coverage import describe_coverage
    from finegym.preparation.cutting import Encoding
    from finegym.preparation.plan import plan_finegym
    from finegym.preparation.sources import find_video_files

    encoding = Encoding(short_side, key_interval, crf)
    annotation = read_annotation(annotations, dataset, annotation_version, Labels.read(label_file))
    plan = plan_finegym(find_video_files(source), annotation, source=source)
    report = assemble(plan, root, encoding, num_workers)
    return f"{describe_coverage(report, plan.labels)}\n  Index: {root / INDEX_FILE}"
