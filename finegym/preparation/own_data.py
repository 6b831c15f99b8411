"""Your own classes: a folder of videos, with metadata or without, or a data set on the Hub with a Video column.

Layouts of a folder, those of `datasets`' videofolder:

- one folder per class, `<class>/<file>`, or per split and class, `train/<class>/<file>`;
- a `metadata.csv`, `metadata.jsonl` or `metadata.parquet` with the columns `file_name` and `label`, and optionally
  `start` and `end` in seconds, `split`, `group` and `attributes` (a list, or texts separated by `|`). Such a file may
  also have any other name and be given directly.

Splits are train, val (also validation, valid, dev) and test. Test videos are kept apart and only ever evaluated on.
Where no validation split is given, it is drawn by class and by group from the training videos that can be read.
"""

import contextlib
import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import huggingface_hub.constants
from huggingface_hub.utils import HFValidationError, validate_repo_id
from tqdm import tqdm

from finegym.data.files import write_text
from finegym.data.index import COVERAGE_FILE, INDEX_FILE, LABELS_FILE
from finegym.data.labels import ActionClass, Labels
from finegym.data.text import read_json

from .assemble import assemble
from .class_attributes import attributes_by_class, warning_about
from .coverage import describe_coverage, describe_lost, share_lost
from .cutting import Cut, Encoding, Job
from .entries import METADATA_FILES, METADATA_SUFFIXES, Entry, check_ids, folder_entries, hub_entries
from .formats import FormatName
from .plan import Plan, Row
from .published_sets import (
    PublishedSet,
    describe_import,
    finish,
    finished_import,
    plan_published_set,
    read_published_set,
)
from .sources import FoundVideos, find_video_files
from .splitting import Division, divide, guess_groups, name_groups


# It says where an imported folder came from, so that another data set is not written over it.
SOURCE_FILE = "source.json"


def import_videos(
    source: str,
    root: Path,
    *,
    name: str | None = None,
    license: str = "",
    attributes: str | None = None,
    division: Division | None = None,
    format: FormatName | None = None,
    annotations: Path | None = None,
    encoding: Encoding | None = None,
    num_workers: int | None = None,
    max_lost_share: float = 0.01,
    overwrite: bool = False,
) -> str:
    """Turn your own videos into a data set: short videos, labels, an index and a coverage report.

    The arguments and their defaults are those of `finegym import`; `division` holds its options on splits, and
    `encoding` those on the videos that it writes.

    Returns:
        The coverage report as text.

    Raises:
        FileNotFoundError: If there is neither such a folder nor such a data set.
        ValueError: If the metadata is not of the documented form, more videos are lost than `max_lost_share` allows,
            or `root` holds another data set; the message names the file and row.
    """
    names = {"name": name or root.absolute().name, "license": license}
    encoding = encoding or Encoding()
    if format is None:
        plan = plan_own_data(source, **names, attributes=attributes, division=division)
        _claim_root(root, source, overwrite)
        labels, notes, report = plan.labels, plan.notes, assemble(plan, root, encoding, num_workers)
    else:
        published = read_published_set(format, annotations or Path(source), **names)
        _claim_root(root, source, overwrite)
        labels = published.labels
        report, notes = _import_published(published, Path(source), root, encoding, num_workers)
    lines = [describe_coverage(report, labels), f"  Index: {root / INDEX_FILE}"]
    lines += [f"  Note: {note}" for note in notes]
    lost = share_lost(report)
    if lost:
        lines.append(f"{describe_lost(report)} Each is listed in {root / COVERAGE_FILE}.")
    if lost > max_lost_share:
        raise ValueError(
            "\n".join(lines) + f" More were lost than --max_lost_share {max_lost_share:g} allows, so this is an error."
        )
    return "\n".join(lines)


def _import_published(
    published: PublishedSet, source: Path, root: Path, encoding: Encoding, num_workers: int | None
) -> tuple[dict[str, Any], list[str]]:
    """Return the coverage report and the notes of an import, which is not begun again where it is finished."""
    made_from = describe_import(published, source, encoding)
    finished = finished_import(root, made_from)
    if finished is not None:
        return finished
    plan = plan_published_set(published, source, root)
    report = assemble(plan, root, encoding, num_workers)
    finish(root, made_from, report, plan.notes)
    return report, plan.notes


def prepared_root(root: str) -> Path:
    """Return the prepared folder that `data.root` of a recipe means. Your own videos are imported first, into the
    Hub's cache folder.

    Of several processes only one may call this at a time; the others then find the work done.

    Args:
        root: A prepared folder, a folder of your own videos, or the id of a data set on the Hub.

    Raises:
        FileNotFoundError: If it is none of these.
        ValueError: If the metadata is not of the documented form or many videos are lost; the message names the file
            and row.
    """
    folder = Path(root)
    if (folder / INDEX_FILE).is_file():
        return folder
    key = hashlib.sha256(str(folder.absolute() if folder.exists() else root).encode()).hexdigest()[:12]
    cache = Path(huggingface_hub.constants.HF_HOME) / "finegym" / key / folder.name
    tqdm.write(import_videos(root, cache))
    return cache


def plan_own_data(
    source: str,
    *,
    name: str,
    license: str = "",
    attributes: str | None = None,
    division: Division | None = None,
) -> Plan:
    """Read a videofolder, a metadata file or, if there is neither, a data set of the Hub.

    The arguments are those of `import_videos`.

    Raises:
        FileNotFoundError: If there is neither such a folder nor such a data set.
        ValueError: If the metadata is not of the documented form; the message names the file and line.
    """
    division = division or Division()
    path = Path(source)
    _check_source(source)
    folder = path.parent if path.is_file() else path
    found = find_video_files(folder) if folder.is_dir() and path.exists() else FoundVideos()
    if path.exists():
        entries = list(folder_entries(folder, found, path if path.is_file() else None))
    else:
        entries = list(hub_entries(source, found.refused))
    if not entries:
        raise ValueError(_nothing_found(source, found))
    check_ids(entries, source)
    with _about(source):
        entries = name_groups(entries, division.group)
    classes = sorted({entry.label for entry in entries})
    by_class = attributes_by_class(entries, classes, attributes, folder)
    labels = _labels(name, path.name, license, classes, by_class)
    missing = {entry.id: f"video absent: {entry.id}" for entry in entries if entry.source is None}

    def rows(finished: Set[str]) -> list[Row]:
        readable = [entry for entry in entries if entry.id in finished]
        places = divide(readable, division) if readable else {}
        rows = []
        for entry in entries:
            place = places.get(entry.id)
            split, fold = (place.split, place.fold) if place else (entry.split or "train", None)
            rows.append(Row(entry.id, split, labels.label2id[entry.label], entry.group, fold))
        return rows

    with _about(source):
        rows({entry.id for entry in entries})  # an impossible division is refused before anything is cut
    notes = [note for note in (warning_about(by_class), _groups_note(entries, source)) if note]
    return Plan(labels, "own", rows, _jobs(entries), missing, found.refused, found.ignored, notes)


@contextlib.contextmanager
def _about(source: str) -> Iterator[None]:
    """Name the source in the errors of the block."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _check_source(source: str) -> None:
    """Refuse a misspelled folder, rather than ask the Hub for it."""
    path = Path(source)
    if path.is_dir() or (path.is_file() and path.suffix.lower() in METADATA_SUFFIXES):
        return
    if path.exists():
        raise ValueError(
            f"{source} is neither a folder of videos nor a metadata file ({', '.join(METADATA_SUFFIXES)})."
        )
    try:
        validate_repo_id(source)
        is_repository = source.count("/") == 1 and not Path(source.split("/")[0]).exists()
    except HFValidationError:
        is_repository = False
    if not is_repository:
        raise FileNotFoundError(
            f"There is no folder or metadata file {source}. A data set on the Hub is named OWNER/NAME."
        )


def _nothing_found(source: str, found: FoundVideos) -> str:
    expected = f"Expected are folders named by the classes, <class>/<file>, or {', '.join(METADATA_FILES)}."
    if found.videos:
        return (
            f"{source} holds {len(found.videos):,} videos, such as {next(iter(found.videos))}, and nothing says of "
            f"which class they are. {expected}"
        )
    if found.ignored:
        suffixes = ", ".join(f"{count:,} {suffix}" for suffix, count in found.ignored.most_common(5))
        return f"{source} holds no video; its files are {suffixes}. {expected}"
    return f"{source} holds no video. {expected}"


def _groups_note(entries: Sequence[Entry], source: str) -> str | None:
    """Return a note about likely groups that are not given, where the validation videos would be drawn."""
    if any(entry.group for entry in entries) or any(entry.split == "val" for entry in entries):
        return None
    guess = guess_groups(entries)
    if guess is None:
        return None
    pattern, sizes = guess
    example, size = sizes.most_common(1)[0]
    return (
        f"the file names look like {len(sizes):,} groups, such as {example!r} of {size} videos. They were not kept "
        "together, so validation may show what was trained on and look too good. To split by these groups: "
        f"finegym import {source} ROOT --group '{pattern}'"
    )


def _jobs(entries: Iterable[Entry]) -> list[Job]:
    cuts: dict[Any, list[Cut]] = defaultdict(list)
    for entry in entries:
        if entry.source is not None:
            cuts[entry.source].append(Cut(entry.id, f"clips/{entry.id}.mp4", entry.start, entry.end))
    return [Job(video, tuple(of_video)) for video, of_video in cuts.items()]


def _claim_root(root: Path, source: str, overwrite: bool) -> None:
    """Reserve `root` for this source, and refuse to mix it with the results of another one.

    Raises:
        ValueError: If `root` holds another data set and `overwrite` is False, or is inside the source.
    """
    path = Path(source)
    claim = {"source": str(path.resolve()) if path.exists() else source}
    if path.is_dir() and root.resolve().is_relative_to(path.resolve()):
        raise ValueError(
            f"{root} is inside {source}: what is written would be taken for a source. Choose another folder."
        )
    holds_data = any((root / name).exists() for name in ("clips", INDEX_FILE, COVERAGE_FILE, LABELS_FILE))
    found = None
    if (root / SOURCE_FILE).is_file():
        found = read_json(root / SOURCE_FILE, what="source file", remedy=f"Delete {root} and import again.")
    if holds_data and found != claim:
        if not overwrite:
            of = f", imported from {found['source']}" if isinstance(found, dict) and "source" in found else ""
            raise ValueError(f"{root} holds another data set{of}. Choose another folder, or delete it by --overwrite.")
        shutil.rmtree(root / "clips", ignore_errors=True)
        for name in (INDEX_FILE, COVERAGE_FILE, LABELS_FILE):
            (root / name).unlink(missing_ok=True)
    write_text(root / SOURCE_FILE, json.dumps(claim) + "\n")


def _labels(
    name: str, source: str, license: str, classes: Sequence[str], by_class: Mapping[str, Iterable[str]]
) -> Labels:
    texts = list(dict.fromkeys(phrase for action in classes for phrase in by_class[action] if phrase))
    ids = {text: number for number, text in enumerate(texts, 1)}
    actions = [
        ActionClass(number, action, action, attributes=tuple(ids[phrase] for phrase in by_class[action] if phrase))
        for number, action in enumerate(classes)
    ]
    return Labels(name, actions, ["", *texts] if texts else [], source=f"Own data: {source}", license=license)
