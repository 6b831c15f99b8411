"""What all conversions of foreign weights share: the report, and the rule for classifiers."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from transformers import PreTrainedConfig

from finegym.data.labels import Labels


Head = Literal["keep", "cut", "drop"]


@dataclass
class Report:
    """The fate of every tensor. `taken` names ours, `dropped` theirs and `new` ours, each with the reason."""

    source: str
    layout: str
    taken: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    new: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.source} ({self.layout})"]
        for title in ("taken", "dropped", "new"):
            tensors = getattr(self, title)
            lines.append(f"  {title:<8} {len(tensors):>4} tensors")
            reasons: dict[str, list[str]] = {}
            for name, reason in tensors.items():
                reasons.setdefault(reason, []).append(name)
            for reason, names in reasons.items():
                shown = ", ".join(names[:2]) + (f", … ({len(names)})" if len(names) > 2 else "")
                lines.append(f"           {shown}: {reason}")
        return "\n".join(lines)


def take_head(
    remaining: dict[str, torch.Tensor],
    name: str,
    config: PreTrainedConfig,
    report: Report,
    *,
    of_images: bool,
    labels: Labels | None,
    head: Head | None,
) -> dict[str, torch.Tensor] | None:
    """Move the classifier `name` out of `remaining` and set the config's labels; return None if there is none to keep.

    Args:
        of_images: Whether its classes are those of images, which are never kept.

    Raises:
        ValueError: If it is not whole, or has other rows than there are labels; the message says what to do.
    """
    names = [f"{name}.{tensor}" for tensor in ("weight", "bias")]
    weight, bias = (remaining.pop(name, None) for name in names)
    if labels:
        config.id2label, config.label2id = labels.id2label, labels.label2id
    if weight is None or bias is None:
        if weight is not None or bias is not None:
            raise ValueError(f"{report.source}: of the classifier only one of {names} is there.")
        return None
    if weight.ndim == 5 and weight.shape[2:] == (1, 1, 1):
        weight = weight.flatten(1)  # a convolution over the feature maps' mean is a linear layer
    if weight.ndim != 2 or weight.shape[1] != config.hidden_size or bias.shape != weight.shape[:1]:
        raise ValueError(
            f"{report.source}: {names[0]!r} has shape {tuple(weight.shape)} and {names[1]!r} {tuple(bias.shape)}, "
            f"expected (classes, {config.hidden_size}) and (classes,)."
        )
    num_rows, num_labels = len(weight), len(labels.classes) if labels else len(weight)
    if of_images or head == "drop":
        report.dropped |= dict.fromkeys(names, f"{num_rows} classes of images" if of_images else "as asked")
        return None
    if num_rows < num_labels or (num_rows > num_labels and head != "cut"):
        advice = "Drop it (head=drop)"
        if num_rows > num_labels:
            advice += (
                f", or cut it (head=cut) if its first {num_labels} rows are these labels: of the 400 rows of "
                "mmaction2's Gym99 checkpoint the first 99 are"
            )
        raise ValueError(
            f"{report.source}: its classifier has {num_rows} rows, the labels are {num_labels}. {advice}."
        )
    note = "as it is" if num_rows == num_labels else f"rows 0 to {num_labels - 1} of {num_rows}; the others dropped"
    report.taken |= dict.fromkeys(("classifier.weight", "classifier.bias"), note)
    if not labels:
        config.num_labels = num_labels
    return {"weight": weight[:num_labels], "bias": bias[:num_labels]}
