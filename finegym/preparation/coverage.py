"""The coverage report: how much of what an annotation lists is present, and what the rest costs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from finegym.data.labels import Labels


def coverage_report(
    labels: Labels,
    expected: Mapping[str, Mapping[str, int]],
    missing: Mapping[str, str],
    *,
    annotation_version: str,
    refused: Mapping[str, str],
    ignored: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Compare what is expected with what is there.

    Args:
        labels: The classes.
        expected: For each split, the class of every video the annotation lists.
        missing: The missing videos -> the reason, which begins with its kind and a colon.
        annotation_version: The version of the annotation, kept in the report and from there in every result.
        refused: The files in the source that were not used -> the reason.
        ignored: The number of files that are not videos, by suffix.

    Returns:
        What `write_coverage` writes. `mean_class_accuracy_ceiling` is in percent over the classes with validation
        videos: a class without a single training video cannot be learned and counts as 0.
    """
    splits = fold_coverage(labels, expected, missing)
    present = {
        split: {label for video_id, label in videos.items() if video_id not in missing}
        for split, videos in expected.items()
    }
    validated = present["val"]
    learnable = validated & present["train"]
    return {
        "dataset": labels.name,
        "annotation_version": annotation_version,
        "splits": splits,
        "mean_class_accuracy_ceiling": 100 * len(learnable) / len(validated) if validated else None,
        "files_not_used": dict(refused),
        "files_that_are_no_videos": dict(ignored or {}),
    }


def fold_coverage(
    labels: Labels, expected: Mapping[str, Mapping[str, int]], missing: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Return what a report says of each split under one fold."""
    splits = {}
    for split, videos in expected.items():
        present = Counter(label for video_id, label in videos.items() if video_id not in missing)
        absent = {video_id: missing[video_id] for video_id in videos if video_id in missing}
        splits[split] = {
            "num_expected": len(videos),
            "num_present": present.total(),
            "missing": absent,
            "missing_by_reason": dict(Counter(reason.split(":")[0] for reason in absent.values())),
            "empty_classes": [action.id for action in labels.classes if not present[action.id]],
            "empty_classes_of_the_annotation": sorted(set(range(len(labels.classes))) - set(videos.values())),
        }
    return splits


def share_lost(report: Mapping[str, Any]) -> float:
    """Return the share of the expected videos that are missing."""
    parts = report["splits"].values()
    return sum(len(part["missing"]) for part in parts) / max(1, sum(part["num_expected"] for part in parts))


def describe_lost(report: Mapping[str, Any]) -> str:
    """Return one sentence: how many videos are missing, and for which reasons."""
    parts = report["splits"].values()
    reasons: Counter[str] = sum((Counter(part["missing_by_reason"]) for part in parts), Counter())
    num_expected = sum(part["num_expected"] for part in parts)
    counts = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    return f"LOST {reasons.total():,} of {num_expected:,} videos ({100 * share_lost(report):.1f} %): {counts}."


def describe_coverage(report: Mapping[str, Any], labels: Labels) -> str:
    """Return the report as text."""
    lines = [f"{report['dataset']}, annotation {report['annotation_version']}"]
    for split, part in report["splits"].items():
        num_expected, num_present = part["num_expected"], part["num_present"]
        share = f" ({100 * num_present / num_expected:.1f} %)" if num_expected else ""
        lines.append(f"  {split}: {num_present:,} of {num_expected:,} videos{share}")
        for reason, count in sorted(part["missing_by_reason"].items(), key=lambda item: -item[1]):
            example = next(video_id for video_id, text in part["missing"].items() if text.split(":")[0] == reason)
            lines.append(f"    {count:,} missing: {part['missing'][example]} ({_such_as(example, count)})")
        lines += _describe_empty_classes(split, part, labels)
    ceiling = report["mean_class_accuracy_ceiling"]
    if ceiling is not None and ceiling < 100:
        lines.append(f"  No model can reach more than {ceiling:.2f} % mean class accuracy on these validation videos.")
    if report.get("num_groups"):
        lines.append(f"  {report['num_groups']:,} groups, each on one side of every split")
    if report.get("folds"):
        counts = ", ".join(f"{part['val']['num_present']:,}" for part in report["folds"])
        lines.append(f"  {len(report['folds'])} folds of {counts} videos; `data.fold` of a recipe validates on one")
    if report["files_that_are_no_videos"]:
        suffixes = ", ".join(f"{count:,} {suffix}" for suffix, count in report["files_that_are_no_videos"].items())
        lines.append(f"  Files that are not videos were ignored: {suffixes}")
    if report["files_not_used"]:
        name, reason = next(iter(report["files_not_used"].items()))
        count = len(report["files_not_used"])
        lines.append(f"  {count:,} files of the source were not used: {reason} ({_such_as(name, count)})")
    return "\n".join(lines)


def _describe_empty_classes(split: str, part: Mapping[str, Any], labels: Labels) -> list[str]:
    lines = []
    by_annotation = part["empty_classes_of_the_annotation"]
    by_missing_videos = [label for label in part["empty_classes"] if label not in by_annotation]
    for empty, why in ((by_annotation, "the annotation lists none"), (by_missing_videos, "all are missing")):
        if empty:
            names = ", ".join(f"{label} {labels.names[label]!r}" for label in empty[:5])
            more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
            lines.append(f"    classes without a {split} video, because {why}: {names}{more}")
    return lines


def _such_as(name: Sequence[str], count: int) -> str:
    return str(name) if count == 1 else f"such as {name}"
