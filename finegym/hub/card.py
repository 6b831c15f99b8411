"""The model card: written from a checkpoint's own files, never by hand.

The text is in `card_template.md`; this module fills in what varies. Every text that comes from a data file goes
through `markdown.plain`, so that it is shown and cannot do anything else.
"""

import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, eval_result_entries_to_yaml
from huggingface_hub.utils import HFValidationError, validate_repo_id

from finegym.data.markdown import plain, table
from finegym.evaluation.trust import trust_in

from .checkpoint import Checkpoint


NUM_HARDEST_CLASSES = 10
EVENTS = {"VT": "vault (VT)", "FX": "floor exercise (FX)", "BB": "balance beam (BB)", "UB": "uneven bars (UB)"}
ORDINALS = {1: "", 2: "second ", 3: "third "}
# Top-1, mean class accuracy and table of the paper (arXiv 2208.01897), by data set, model type and encoder layers.
PAPER_RESULTS = {
    ("gym99", "slowonly", None): (93.46, 89.99, "Table 1"),
    ("gym99", "finegym_vision", 1): (93.85, 90.26, "Table 1"),
    ("gym99", "finegym_vision", 3): (94.01, 90.54, "Table 1"),
    ("gym99", "finegym_video_text", 2): (94.57, 91.43, "Table 2"),
    ("gym99", "tqn", 4): (93.80, 90.60, "Table 3"),
    ("gym288", "tqn", 4): (89.60, 61.90, "Table 3"),
    ("gym288", "slowonly", None): (86.82, 51.29, "Table 2"),
    ("gym288", "finegym_video_text", 2): (90.10, 62.62, "Table 2"),
}
# What the evaluation of a model that answers attributes adds.
ATTRIBUTE_METRICS = ("attribute_accuracy", "match_top1", "match_mean_class_accuracy")
# The Hub's names for the licenses that data commonly has: https://huggingface.co/docs/hub/repositories-licenses.
HUB_LICENSES = frozenset(
    ("apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-3.0", "cc-by-sa-4.0", "cc-by-sa-3.0", "cc-by-nc-4.0")
    + ("cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0", "odbl", "odc-by", "pddl", "unlicense")
)
REVISION = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*", re.ASCII)


def check_names(repo_id: str, revision: str | None = None) -> None:
    """Refuse names that the Hub does not allow, before they reach a card's code or an address.

    Raises:
        ValueError: If a name is not allowed; the message gives it.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"{repo_id!r} is not a repository name: {error}") from error
    if repo_id.count("/") != 1:
        raise ValueError(f"{repo_id!r} is not a repository name: write OWNER/NAME.")
    if revision is not None and not REVISION.fullmatch(revision):
        raise ValueError(
            f"{revision!r} is not the name of a branch or tag: use letters, digits, '.', '_', '-' and '/'."
        )


def render_card(
    checkpoint: Checkpoint,
    repo_id: str,
    *,
    revision: str | None = None,
    family: Mapping[str, str] | None = None,
    base_model: str | None = None,
) -> ModelCard:
    """Return the card of `checkpoint` as published at `repo_id`.

    Args:
        checkpoint: A finished checkpoint.
        repo_id: The repository, `owner/name`, that every code block loads from.
        revision: The tag that the published commit gets, if any; the code blocks then ask for it.
        family: The repositories published together, repo id -> title. The card links to the others.
        base_model: The repository of the backbone; by default the recipe's, if that is one.

    Raises:
        ValueError: If the Hub would refuse a name, the metrics lack a key, or the terms of the weights are not known.
    """
    check_names(repo_id, revision)
    argument = "" if revision is None else f'revision="{revision}"'
    others = {other: plain(title) for other, title in (family or {}).items() if other != repo_id}
    try:
        metadata = card_metadata(checkpoint, base_model)
        values = {
            "repo_id": repo_id,
            "revision_first": argument and f"{argument}, ",
            "revision_last": argument and f", {argument}",
            "others": others,
            "requirements": " ".join(
                f'"{name}"' if set("<>") & set(name) else name for name in checkpoint.requirements
            ),
            **_description(checkpoint),
            **_protocol(checkpoint),
            **_results(checkpoint),
            "training_table": _training_table(checkpoint),
        }
    except KeyError as error:
        raise ValueError(
            f"{checkpoint.folder}: one of config.json, metrics.json, recipe.yaml lacks {error}."
        ) from error
    template = resources.files(__package__).joinpath("card_template.md").read_text(encoding="utf-8")
    return ModelCard.from_template(metadata, template_str=template, **values)


def card_metadata(checkpoint: Checkpoint, base_model: str | None = None) -> ModelCardData:
    """Return the card's YAML header, with top-1 and mean class accuracy as a `model-index`."""
    metrics = checkpoint.metrics
    dataset = {
        "task_type": "video-classification",
        "task_name": "Fine-grained action recognition",
        "dataset_type": str(metrics["dataset"]),
        "dataset_name": ("FineGym " if checkpoint.is_finegym else "") + checkpoint.dataset,
        "dataset_split": metrics["split"],
        "dataset_args": {key: metrics[key] for key in ("annotation_version", "num_evaluated", "num_expected")},
        "metric_type": "accuracy",
    }
    results = [
        EvalResult(**dataset, metric_name=name, metric_value=round(metrics[key], 2))
        for name, key in (("top-1 accuracy (%)", "top1"), ("mean class accuracy (%)", "mean_class_accuracy"))
    ]
    backbone = checkpoint.config.get("vision_config", checkpoint.config)["model_type"]
    tags = ["video-classification", "action-recognition", backbone]
    if checkpoint.shows_a_gymnast:
        tags += ["gymnastics", "synthetic" if checkpoint.is_synthetic else "finegym"]
    return ModelCardData(
        language="en",
        **_license(checkpoint),
        library_name="transformers",
        pipeline_tag="video-classification",
        tags=tags,
        datasets=[str(metrics["dataset"])],
        metrics=["accuracy"],
        base_model=base_model or _backbone_repository(checkpoint),
        model_name=checkpoint.title,
        eval_results=results,
    )


def eval_results(checkpoint: Checkpoint, repo_id: str) -> tuple[str, str]:
    """Return the name and the text of the file in `.eval_results` that says what `model-index` says.

    The form is that of https://huggingface.co/docs/hub/eval-results.
    """
    metrics = checkpoint.metrics
    notes = (
        f"split {metrics['split']}, annotation {metrics['annotation_version']}, {metrics['num_clips']} clips a video, "
        f"{metrics['num_evaluated']} of {metrics['num_expected']} videos, percent"
    )
    source = {"source_url": f"https://huggingface.co/{repo_id}", "source_name": "Model card"}
    dataset = str(metrics["dataset"])
    entries = [
        EvalResultEntry(dataset_id=dataset, task_id=key, value=round(metrics[key], 2), notes=notes, **source)
        for key in ("top1", "mean_class_accuracy")
    ]
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", dataset).strip("-") or "results"
    return f"{name}.yaml", yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False)


def _license(checkpoint: Checkpoint) -> dict[str, str]:
    """Return the license of the weights, which inherit the terms of what they were trained on."""
    if checkpoint.is_synthetic:
        return {"license": "apache-2.0"}
    if checkpoint.is_finegym:
        return {"license": "cc-by-nc-4.0"}
    if checkpoint.labels is None or not checkpoint.labels.license:
        raise ValueError(
            f"{checkpoint.folder}: nothing says under which terms the weights may be used. Import "
            f"{checkpoint.dataset} with --license, or put its license into the labels.json beside the checkpoint."
        )
    license = checkpoint.labels.license
    if license.lower() in HUB_LICENSES:
        return {"license": license.lower()}
    return {"license": "other", "license_name": license}


def _backbone_repository(checkpoint: Checkpoint) -> str | None:
    backbone = checkpoint.recipe["model"].get("backbone")
    if backbone is None or Path(backbone).exists():
        return None
    try:
        check_names(backbone)
    except ValueError:
        return None
    return backbone


def _description(checkpoint: Checkpoint) -> dict[str, Any]:
    config = checkpoint.config
    attributes = config.get("attribute_names", ()) if checkpoint.architecture.needs_attributes else ()
    rows = [(number, name or "(blank)") for number, name in enumerate(attributes)]
    return {
        "title": plain(checkpoint.title),
        "description": checkpoint.architecture.describe(checkpoint.architecture.description, config),
        "num_classes": len(config["id2label"]),
        "dataset": plain(checkpoint.dataset),
        "is_synthetic": checkpoint.is_synthetic,
        "is_finegym": checkpoint.is_finegym,
        "example": checkpoint.shows_a_gymnast or (checkpoint.folder / checkpoint.example_name).exists(),
        "example_name": checkpoint.example_name,
        "own_name": "clip" + Path(checkpoint.example_name).suffix,
        "flow_len": checkpoint.flow_len,
        "flow": checkpoint.metrics.get("optical_flow"),
        "terms": plain(checkpoint.labels.license) if checkpoint.labels else "",
        "code_version": _code_version(checkpoint.folder),
        "num_attributes": len(attributes),
        "attribute_table": table(("id", "text"), rows) if rows else "",
        "num_attribute_groups": len(config.get("attribute_group_sizes", ())),
        "has_confusion": (checkpoint.folder / "confusion.png").exists(),
        "has_calibration": (checkpoint.folder / "calibration.png").exists(),
        "trust": trust_in(config["model_type"]),
        "has_curves": (checkpoint.folder / "curves.png").exists(),
    }


def _protocol(checkpoint: Checkpoint) -> dict[str, Any]:
    processor = checkpoint.processor
    interval = processor["frame_interval"]
    return {
        "num_clips": checkpoint.metrics["num_clips"],
        "clip_len": processor["num_frames"],
        "window": processor["num_frames"] * interval,
        "every": ORDINALS.get(interval, f"{interval}th "),
        "short_side": processor["size"]["shortest_edge"],
        "crop_height": processor["crop_size"]["height"],
        "crop_width": processor["crop_size"]["width"],
        "out_of_range": processor["out_of_range"],
        # processors saved before these settings were there
        "sampling": processor.get("sampling", "centers"),
        "frame_rate": processor.get("frame_rate"),
        "counts_frames": processor.get("protocol_counts_frames", False),
    }


def _results(checkpoint: Checkpoint) -> dict[str, Any]:
    metrics = checkpoint.metrics
    evaluated, expected = metrics["num_evaluated"], metrics["num_expected"]
    coverage = f"{evaluated:,} of the {expected:,} videos ({100 * evaluated / expected:.1f} %)"
    split = f"{checkpoint.dataset} {metrics['split']}, annotation {metrics['annotation_version']}"
    rows = [("this checkpoint, measured", f"{split}, {coverage}", metrics["top1"], metrics["mean_class_accuracy"])]
    key = (metrics["dataset"], checkpoint.config["model_type"], checkpoint.num_layers)
    top1, mean, paper_table = PAPER_RESULTS.get(key, (None, None, None))
    if paper_table:
        rows.append((f"the authors' model, as printed in the paper ({paper_table})", checkpoint.dataset, top1, mean))
    events = [
        (EVENTS.get(event, event), values["num_videos"], values["top1"], values["mean_class_accuracy"])
        for event, values in metrics.get("per_event", {}).items()
    ]
    # Only NaN, the accuracy of a class without a video, differs from itself.
    known = [(value, name) for name, value in metrics["per_class"].items() if value is not None and value == value]
    hardest = [(name, value) for value, name in sorted(known)[:NUM_HARDEST_CLASSES]]
    return {
        "coverage": coverage,
        "is_complete": evaluated == expected,
        "paper_table": paper_table,
        "results_table": table(("", "evaluated on", "top-1", "mean class accuracy"), rows),
        "event_table": table(("event", "videos", "top-1", "mean class accuracy"), events) if events else "",
        "hardest_table": table(("class", "accuracy"), hardest) if hardest else "",
        "num_hardest": len(hardest),
        "attribute_results": {name: metrics[name] for name in ATTRIBUTE_METRICS if name in metrics},
    }


def _training_table(checkpoint: Checkpoint) -> str:
    recipe, metrics, training = checkpoint.recipe, checkpoint.metrics, checkpoint.training
    model, data, optimization = recipe["model"], recipe["data"], recipe["optimization"]
    frames = f"{data['clip_len']} frames, interval {data['frame_interval']}"
    rows = {
        **({"recipe": recipe["name"]} if checkpoint.shows_a_gymnast else {}),
        "model": f"{checkpoint.model_name}, {metrics['num_parameters']:,} parameters",
        "backbone": model.get("backbone") or "trained with the rest",
        "clips": f"{frames}, {data['crop_size']} x {data['crop_size']}",
        "training data": f"{checkpoint.dataset} {data['train_split']}, annotation {metrics['annotation_version']}",
        "optimizer": f"{optimization['optimizer']}, learning rate {optimization['learning_rate']}",
        "weight decay": optimization["weight_decay"],
        "schedule": f"{optimization['schedule']}, {optimization['epochs']} epochs",
        "batch": f"{optimization['batch_size']} clips, over all processes",
        "precision": optimization["precision"],
        "seed": recipe["seed"],
        **{name: training[name] for name in ("commit", "hardware", "duration", "software") if training.get(name)},
    }
    return table(("", ""), [(name, str(value)) for name, value in rows.items()])


def _code_version(folder: Path) -> str:
    for path in sorted(folder.glob("configuration_*.py")):
        match = re.search(r'^__version__ = "([\w.]+)"$', path.read_text(encoding="utf-8"), re.MULTILINE)
        if match is not None:
            return match[1]
    raise ValueError(f"{folder}: none of its configuration_*.py says its __version__.")
