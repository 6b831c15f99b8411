"""The model card: written from a checkpoint's own files, never by hand."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id

from finegym.data.labels import Labels

from .markdown import plain, table


NUM_HARDEST_CLASSES = 10
NAMES_OF_DATASETS = {"gym99": "Gym99", "gym288": "Gym288", "synthgym": "SynthGym"}
EVENTS = {"VT": "vault (VT)", "FX": "floor exercise (FX)", "BB": "balance beam (BB)", "UB": "uneven bars (UB)"}
# Top-1, mean class accuracy and table of the paper (arXiv 2208.01897), by dataset, model type and encoder layers.
PAPER_RESULTS = {
    ("gym99", "slowonly", None): (93.46, 89.99, "Table 1"),
    ("gym99", "finegym_vision", 1): (93.85, 90.26, "Table 1"),
    ("gym99", "finegym_vision", 3): (94.01, 90.54, "Table 1"),
    ("gym99", "finegym_video_text", 2): (94.57, 91.43, "Table 2"),
    ("gym288", "slowonly", None): (86.82, 51.29, "Table 2"),
    ("gym288", "finegym_video_text", 2): (90.10, 62.62, "Table 2"),
}
BIBTEX_PAPER = """@misc{leong2022combined,
  title         = {Combined {CNN} Transformer Encoder for Enhanced Fine-grained Human Action Recognition},
  author        = {Leong, Mei Chee and Zhang, Haosong and Tan, Hui Li and Li, Liyuan and Lim, Joo Hwee},
  year          = {2022},
  eprint        = {2208.01897},
  archivePrefix = {arXiv},
}"""
BIBTEX_FINEGYM = """@inproceedings{shao2020finegym,
  title     = {{FineGym}: A Hierarchical Video Dataset for Fine-grained Action Understanding},
  author    = {Shao, Dian and Zhao, Yue and Dai, Bo and Lin, Dahua},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2020},
}"""


@dataclass(frozen=True)
class Checkpoint:
    """What a card is written from: the files of one finished checkpoint folder."""

    folder: Path
    config: dict[str, Any]
    metrics: dict[str, Any]
    recipe: dict[str, Any]
    training: dict[str, Any]
    labels: Labels | None

    @classmethod
    def read(cls, folder: str | Path) -> "Checkpoint":
        """Reads `config.json`, `metrics.json`, `recipe.yaml` and, where they exist, `training.json` and `labels.json`.

        Raises:
            FileNotFoundError: naming the first file that is missing and the command that writes it.
            ValueError: naming a file that cannot be read.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no checkpoint folder at {folder}.")
        return cls(
            folder=folder,
            config=_read(folder / "config.json", "train.py writes it"),
            metrics=_read(folder / "metrics.json", f"run `finegym evaluate --model {folder}`"),
            recipe=_read(folder / "recipe.yaml", "train.py writes it"),
            training=_read(folder / "training.json") if (folder / "training.json").exists() else {},
            labels=Labels.read(folder / "labels.json") if (folder / "labels.json").exists() else None,
        )

    @property
    def dataset(self) -> str:
        """The dataset's name as a title shows it."""
        name = str(self.metrics["dataset"])
        return NAMES_OF_DATASETS.get(name, name)

    @property
    def is_synthetic(self) -> bool:
        return bool(self.metrics["synthetic"])

    @property
    def is_finegym(self) -> bool:
        return self.metrics["dataset"] in ("gym99", "gym288")

    @property
    def num_layers(self) -> int | None:
        """Encoder layers; None for SlowOnly, which has none."""
        return None if self.config["model_type"] == "slowonly" else self.config["num_hidden_layers"]

    @property
    def model_name(self) -> str:
        """The model's name in the paper's words."""
        match self.config["model_type"]:
            case "slowonly":
                return "SlowOnly"
            case "finegym_vision":
                return f"3D vision encoder (B = {self.num_layers})"
            case "finegym_video_text":
                return "Video-text cross encoder"
        raise ValueError(f"{self.folder / 'config.json'}: {self.config['model_type']!r} is no model of this project.")

    @property
    def title(self) -> str:
        return f"{self.model_name} on {self.dataset}" + (" (synthetic)" if self.is_synthetic else "")


def _read(path: Path, remedy: str = "") -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {remedy}.")
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a table of keys, not {type(content).__name__}.")
    return content


def render_card(
    checkpoint: Checkpoint, repo_id: str, *, revision: str | None = None, family: Mapping[str, str] | None = None
) -> ModelCard:
    """The card of `checkpoint` as it stands at `repo_id`.

    Args:
        checkpoint: a finished checkpoint.
        repo_id: `owner/name`; every code block loads from there.
        revision: the tag that the published commit gets, if any; the code blocks then ask for it.
        family: repositories published together, repo id -> title. The card links to the others.

    Raises:
        ValueError: for a repository name or a revision that the Hub would refuse, or metrics without a needed key.
    """
    check_names(repo_id, revision)
    argument = "" if revision is None else f'revision="{revision}"'
    family_rows = [(f"https://huggingface.co/{other}", title) for other, title in (family or {}).items() if other != repo_id]
    try:
        values = {
            "title": plain(checkpoint.title),
            "summary": _summary(checkpoint),
            "synthetic": checkpoint.is_synthetic,
            "repo_id": repo_id,
            "revision_argument": argument and f"{argument}, ",
            "revision_last_argument": argument and f", {argument}",
            "code_version": _code_version(checkpoint.folder),
            "protocol": _protocol(checkpoint),
            **_results(checkpoint),
            "confusion": (checkpoint.folder / "confusion.png").exists(),
            "curves": (checkpoint.folder / "curves.png").exists(),
            "training_table": _training_table(checkpoint),
            "num_attributes": len(checkpoint.config.get("attribute_names", ())),
            "attribute_table": _attribute_table(checkpoint),
            "num_classes": len(checkpoint.config["id2label"]),
            "licence_text": _licence_text(checkpoint),
            "family_table": "\n".join(f"- [{plain(title)}]({url})" for url, title in family_rows),
            "bibtex": BIBTEX_PAPER + (f"\n\n{BIBTEX_FINEGYM}" if checkpoint.is_finegym else ""),
        }
        metadata = card_metadata(checkpoint, repo_id)
    except KeyError as error:
        raise ValueError(f"{checkpoint.folder}: config.json, metrics.json or recipe.yaml lacks the key {error}.") from error
    template = resources.files("finegym.hub").joinpath("card_template.md").read_text(encoding="utf-8")
    return ModelCard.from_template(metadata, template_str=template, **values)


def check_names(repo_id: str, revision: str | None = None) -> None:
    """Refuses names that are none on the Hub, before they reach a card's code or an address."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"{repo_id!r} is no repository name: {error}") from error
    if repo_id.count("/") != 1:
        raise ValueError(f"{repo_id!r} is no repository name: write OWNER/NAME.")
    if revision is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*", revision):
        raise ValueError(f"{revision!r} is no name of a branch or tag: use letters, digits, '.', '_', '-' and '/'.")


def card_metadata(checkpoint: Checkpoint, repo_id: str) -> ModelCardData:
    """The card's YAML header, with top-1 and mean class accuracy as a `model-index`."""
    metrics = checkpoint.metrics
    dataset = {
        "task_type": "video-classification",
        "task_name": "Fine-grained action recognition",
        "dataset_type": str(metrics["dataset"]),
        "dataset_name": ("FineGym " if checkpoint.is_finegym else "") + checkpoint.dataset,
        "dataset_split": metrics["split"],
        "dataset_args": {
            "annotation_version": metrics["annotation_version"],
            "num_evaluated": metrics["num_evaluated"],
            "num_expected": metrics["num_expected"],
        },
        "metric_type": "accuracy",
    }
    results = [
        EvalResult(**dataset, metric_name=name, metric_value=round(metrics[key], 2))
        for name, key in (("top-1 accuracy (%)", "top1"), ("mean class accuracy (%)", "mean_class_accuracy"))
    ]
    licence = _licence(checkpoint)
    backbone = checkpoint.recipe["model"].get("backbone")
    is_hub_backbone = backbone is not None and not Path(backbone).exists() and backbone.count("/") == 1
    tags = ["video-classification", "action-recognition", "gymnastics", "slowonly"]
    return ModelCardData(
        language="en",
        library_name="transformers",
        pipeline_tag="video-classification",
        tags=[*tags, "synthetic"] if checkpoint.is_synthetic else [*tags, "finegym"],
        datasets=[str(metrics["dataset"])],
        metrics=["accuracy"],
        base_model=backbone if is_hub_backbone else None,
        model_name=checkpoint.title,
        eval_results=results,
        **licence,
    )


def _licence(checkpoint: Checkpoint) -> dict[str, str]:
    """Weights inherit the terms of what they were trained on."""
    if checkpoint.is_synthetic:
        return {"license": "apache-2.0"}
    if checkpoint.is_finegym:
        return {"license": "cc-by-nc-4.0"}
    if checkpoint.labels is None or not checkpoint.labels.license:
        raise ValueError(
            f"{checkpoint.folder}: nothing says under which terms the weights may be used. Put the `license` of "
            f"{checkpoint.dataset} into its labels.json, beside the checkpoint."
        )
    return {"license": "other", "license_name": checkpoint.labels.license}


def _licence_text(checkpoint: Checkpoint) -> str:
    code = "The code in this repository is under the Apache License 2.0."
    if checkpoint.is_synthetic:
        return f"{code} So are the weights: everything they were trained on was drawn by the same project."
    if checkpoint.is_finegym:
        return (
            f"{code} The weights were trained on FineGym, whose annotations are under "
            "[CC BY-NC 4.0](https://creativecommons.org/licenses/by-nc/4.0/): use the weights for non-commercial purposes "
            "only, and credit FineGym. The videos belong to their owners and are not part of this repository."
        )
    return f"{code} The weights were trained on {plain(checkpoint.dataset)}: {plain(checkpoint.labels.license)}."


def _summary(checkpoint: Checkpoint) -> str:
    num_classes = len(checkpoint.config["id2label"])
    task = f"tells {num_classes} fine-grained gymnastic actions of {plain(checkpoint.dataset)} apart in a short video."
    match checkpoint.config["model_type"]:
        case "slowonly":
            return f"A SlowOnly 3D CNN that {task}"
        case "finegym_vision":
            return f"A Transformer encoder of {checkpoint.num_layers} layers over the features of a frozen 3D CNN that {task}"
    return f"A Transformer over the features of a frozen 3D CNN and a fixed set of attribute texts that {task}"


def _protocol(checkpoint: Checkpoint) -> str:
    data = checkpoint.recipe["data"]
    num_clips = checkpoint.metrics["num_clips"]
    length, interval = data["clip_len"], data["frame_interval"]
    policy = {
        "loop": "start again from the first frame",
        "repeat_last": "repeat the last frame",
    }[data["out_of_range"]]
    return (
        f"{num_clips} clips of {length} frames, every {_ordinal(interval)} frame, are spread evenly over the video (the "
        f"test rule of mmaction2 0.x). The short side is resized to {data['short_side']} pixels and the centre "
        f"{data['crop_size']} x {data['crop_size']} is kept: one crop. Clips that reach past the end of the video "
        f"{policy}. A video shorter than {length * interval} frames gives the same clip {num_clips} times: it is computed once and "
        "counted with its weight, which leaves the score as it is. The softmax scores of the clips are averaged. The pipeline "
        "does all this by default and agrees with the evaluation below."
    )


def _ordinal(interval: int) -> str:
    return {1: "single", 2: "second", 3: "third"}.get(interval, f"{interval}th")


def _results(checkpoint: Checkpoint) -> dict[str, str]:
    metrics = checkpoint.metrics
    evaluated, expected = metrics["num_evaluated"], metrics["num_expected"]
    where = f"{checkpoint.dataset} {metrics['split']}, annotation {metrics['annotation_version']}"
    coverage = f"{evaluated:,} of the {expected:,} clips ({100 * evaluated / expected:.1f} %)"
    rows = [("this checkpoint, measured", f"{where}: {coverage}", float(metrics["top1"]), float(metrics["mean_class_accuracy"]))]
    note = f"In percent. This checkpoint was evaluated on {coverage} that the annotation lists."
    if evaluated < expected:
        note += " The rest could not be had; results on another subset do not compare exactly."
    key = (metrics["dataset"], checkpoint.config["model_type"], checkpoint.num_layers)
    if key in PAPER_RESULTS:
        top1, mean, where_printed = PAPER_RESULTS[key]
        rows.append((f"the paper's figure, not reproduced here ({where_printed})", checkpoint.dataset, top1, mean))
        note += (
            " The paper's row is what its authors printed for their own model. It does not belong to these weights, and the paper "
            "names neither the version of the annotation nor the number of clips it could evaluate."
        )
    else:
        note += " The paper prints no figure for this model on this data."
    results = {
        "results_note": note,
        "results_table": table(("", "evaluated on", "top-1", "mean class accuracy"), rows),
        "event_table": "",
        "hardest_table": "",
    }
    if metrics.get("per_event"):
        event_rows = [
            (EVENTS.get(event, event), values["num_clips"], float(values["top1"]), float(values["mean_class_accuracy"]))
            for event, values in metrics["per_event"].items()
        ]
        results["event_table"] = table(("event", "clips", "top-1", "mean class accuracy"), event_rows)
    known = [(float(accuracy), name) for name, accuracy in metrics["per_class"].items() if accuracy is not None]
    hardest = sorted((accuracy, name) for accuracy, name in known if accuracy == accuracy)[:NUM_HARDEST_CLASSES]
    results["hardest_table"] = table(("class", "accuracy"), [(name, accuracy) for accuracy, name in hardest])
    return results


def _training_table(checkpoint: Checkpoint) -> str:
    recipe, training = checkpoint.recipe, checkpoint.training
    model, data, optimisation = recipe["model"], recipe["data"], recipe["optimisation"]
    rows = [
        ("recipe", recipe["name"]),
        ("model", f"{checkpoint.model_name}, {checkpoint.metrics['num_parameters']:,} parameters"),
        ("backbone", model.get("backbone") or "trained with the rest"),
        ("clips", f"{data['clip_len']} frames, interval {data['frame_interval']}, {data['crop_size']} x {data['crop_size']}"),
        ("training data", f"{checkpoint.dataset} {data['train_split']}, annotation {data['annotation_version']}"),
        ("optimiser", f"{optimisation['optimizer']}, learning rate {optimisation['learning_rate']}"),
        ("weight decay", optimisation["weight_decay"]),
        ("schedule", f"{optimisation['schedule']}, {optimisation['epochs']} epochs"),
        ("batch", f"{optimisation['batch_size']} clips, all processes together"),
        ("precision", optimisation["precision"]),
        ("seed", recipe["seed"]),
    ]
    facts = (("commit", "commit"), ("hardware", "hardware"), ("training time", "duration"), ("software", "software"))
    rows += [(name, training[key]) for name, key in facts if training.get(key)]
    return table(("", ""), [(name, str(value)) for name, value in rows])


def _attribute_table(checkpoint: Checkpoint) -> str:
    names = checkpoint.config.get("attribute_names")
    if checkpoint.config["model_type"] != "finegym_video_text" or not names:
        return ""
    return table(("id", "text"), [(number, name or "(blank)") for number, name in enumerate(names)])


def _code_version(folder: Path) -> str:
    source = (folder / "configuration_finegym.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([\w.]+)"$', source, re.MULTILINE)
    if match is None:
        raise ValueError(f"{folder / 'configuration_finegym.py'} does not say its __version__.")
    return match[1]
