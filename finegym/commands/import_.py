"""`finegym import`."""

from pathlib import Path

from finegym.data.arguments import Count, CountOrZero, UsageError
from finegym.paths import require_path_or_hub_id
from finegym.preparation.formats import FormatName


def import_(
    source: str,
    root: Path,
    *,
    name: str | None = None,
    license: str = "",
    attributes: str | None = None,
    group: str | None = None,
    val_share: float = 0.2,
    folds: Count | None = None,
    max_lost_share: float = 0.01,
    overwrite: bool = False,
    short_side: Count = 256,
    key_interval: Count = 12,
    crf: CountOrZero = 18,
    num_workers: CountOrZero | None = None,
    format: FormatName | None = None,
    annotations: Path | None = None,
) -> str:
    """Turn your own videos, or those of Diving48 or Something-Something V2, into an indexed data set.

    The source is a folder with one folder for each class, `<class>/<file>` or `train/<class>/<file>`, or one with a
    metadata.csv, .jsonl or .parquet that has the columns `file_name` and `label` and, where you like, `start`, `end`
    (seconds), `split` (train, val or test), `group` and `attributes` (texts separated by `|`).

    With --format, the source has the authors' annotation files and their videos, unpacked or in their archives.

    Videos of one group, such as the pieces of one recording, are on one side of every split. Test videos are kept
    apart and only ever evaluated on.

    Args:
        source: The folder, a metadata file, or the id of a data set on the Hub with a Video column.
        root: The folder to write.
        name: The name of the data set in metrics and model cards. By default, it is that of the folder to write.
        license: The terms of the videos, such as cc-by-4.0, for the cards of models that are trained on them.
        attributes: A JSON file with the attributes of each class, {"class": ["attribute", ...]}, or the word names,
            which takes the class names apart. By default, they are the metadata's, or those of attributes.json in the
            folder.
        group: A regular expression that finds in each file's path what it shares with others that belong on the same
            side of a split: the source video, the athlete, the day. By default, it is the metadata's column `group`.
        val_share: The share to validate on, where neither folders nor metadata tell.
        folds: The number of folds to draw; `data.fold` of a recipe chooses one. By default, there is one split.
        max_lost_share: The share of videos that may be lost. Beyond it the command fails, with the rest in place.
        overwrite: Delete another data set that the folder to write holds.
        short_side: The length of the shorter side of the videos, in pixels. Smaller ones are not enlarged.
        key_interval: The largest distance between two key frames, in frames.
        crf: The constant rate factor of x264, from 0 to 51. 18 is visually lossless.
        num_workers: The number of processes that cut. By default, there is one for each CPU core; 0 cuts in this one.
        format: The published data set whose files these are: diving48, with its four attributes of each class, or
            ssv2.
        annotations: The folder of that data set's annotation files. By default, it is the source.

    Examples:
        finegym import my_clips data/mine
        finegym import my_clips data/mine --attributes names
        finegym import Diving48 data/diving48 --format diving48
    """
    require_path_or_hub_id(source, "folder of videos")
    if format is None and annotations is not None:
        raise UsageError("--annotations is for --format; a metadata file is given as the source.")
    if format is not None and (attributes or group or folds):
        raise UsageError(f"{format} has classes and splits of its own: leave out --attributes, --group and --folds.")
    if format is not None and not Path(source).is_dir():
        raise FileNotFoundError(f"There is no folder {source} with the files of {format}.")
    from finegym.preparation.cutting import Encoding
    from finegym.preparation.own_data import import_videos
    from finegym.preparation.splitting import Division

    return import_videos(
        source,
        root,
        name=name,
        license=license,
        attributes=attributes,
        division=Division(group, val_share, folds),
        format=format,
        annotations=annotations,
        encoding=Encoding(short_side, key_interval, crf),
        num_workers=num_workers,
        max_lost_share=max_lost_share,
        overwrite=overwrite,
    )
