"""What the answers of TRN, TQN and MTN rest on: the models whose logit is no sum over tokens.

In: a classifier and one clip. Out: an `Attribution`, by the methods of `attribution`. Shapes are those of that file.
"""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from .attribution import (
    ALL_FRAMES,
    CLASS,
    VIDEO,
    Attribution,
    Target,
    gradients_of_inputs,
    maps_of_frames,
    maps_over_time,
)


def attribute_relations(model: PreTrainedModel, video_features: torch.Tensor, target: Target) -> Attribution:
    """Explain the answer of TRN: how the features of each frame change the logit.

    Args:
        model: TRN, in eval mode.
        video_features: The clip's features (1, T', C). A moment is taken away by replacing them by their mean.
        target: What is explained.
    """
    features = video_features.detach().float()
    baseline = features.mean(1, keepdim=True).expand_as(features).contiguous()

    def logit(features: torch.Tensor) -> torch.Tensor:
        return target.of(model(video_features=features).logits.float())[:, None]

    with gradients_of_inputs(model):
        maps = maps_over_time(logit, features, baseline, 1)
        with torch.no_grad():
            expected = (logit(features) - logit(baseline)).item()
    return Attribution([VIDEO], maps, completeness=(maps["integrated gradients"].sum().item(), expected))


def attribute_pathways(model: PreTrainedModel, pixel_values: torch.Tensor, target: Target) -> Attribution:
    """Explain the answer of MTN, whose pathways share no moments, over the frames that its fastest pathway sees.

    Args:
        model: MTN, in eval mode.
        pixel_values: The clip (1, T, C, H, W).
        target: What is explained.
    """
    pixels = pixel_values.detach().float()

    def score(frames: torch.Tensor) -> torch.Tensor:
        return target.of(model(pixel_values=frames).logits.float())[:, None]

    num_moments = len(range(0, pixels.shape[1], min(model.config.pathway_intervals)))
    with gradients_of_inputs(model):
        maps = maps_of_frames(score, pixels, num_moments)
    return Attribution([ALL_FRAMES], maps)


def attribute_queries(
    model: PreTrainedModel,
    video_features: torch.Tensor,
    target: Target,
    attributes: Sequence[int] = (),
    padding: torch.Tensor | None = None,
) -> Attribution:
    """Explain the answers of TQN: of each attribute by the query of its group, and of the class by its own query.

    The row of an attribute explains how much likelier its query finds it than none of its group (the difference of
    both logits), the last row explains the class. Attention is that of the row's query to the video.

    Args:
        model: TQN, in eval mode.
        video_features: The clip's features (1, T', C). A moment is taken away by replacing them by their mean over the
            moments that are no padding.
        target: What the last row explains.
        attributes: The attributes that have rows of their own.
        padding: The moments (1, T') that no query reads, as `find_padding` returns them.
    """
    features = video_features.detach().float()
    shown = torch.ones_like(features[:, :, :1]) if padding is None else (~padding)[..., None].float()
    baseline = (features * shown).sum(1, keepdim=True).div(shown.sum(1, keepdim=True)).expand_as(features)
    groups = [group_of_attribute(model, attribute) for attribute in attributes]

    def answer(features: torch.Tensor, **options):
        hidden = None if padding is None else padding.expand(len(features), -1)
        return model(video_features=features, padding=hidden, **options)

    def parts(features: torch.Tensor) -> torch.Tensor:
        outputs = answer(features)
        found = outputs.attribute_logits.float()[:, groups]  # (B, R-1, N)
        found = found[:, range(len(groups)), list(attributes)] - found[:, :, 0]
        return torch.cat([found, target.of(outputs.logits.float())[:, None]], dim=1)

    rows = [*(model.config.attribute_names[attribute] for attribute in attributes), CLASS]
    with gradients_of_inputs(model):
        maps = maps_over_time(parts, features, baseline.contiguous(), len(rows))
        with torch.no_grad():
            expected = (parts(features) - parts(baseline))[0, -1].item()
            attentions = answer(features, output_attentions=True).cross_attentions
    of_layers = torch.stack([layer[0].float().mean(0)[[*groups, -1]] for layer in attentions])  # (L, R, T')
    maps |= {f"attention, layer {number}": rows for number, rows in enumerate(of_layers, start=1)}
    maps["attention, mean"] = of_layers.mean(0)
    return Attribution(rows, maps, completeness=(maps["integrated gradients"][-1].sum().item(), expected))


def group_of_attribute(model: PreTrainedModel, attribute: int) -> int:
    """Return the group, and so the query, of an attribute of TQN's vocabulary; 0 is in none."""
    last = 0
    for group, size in enumerate(model.config.attribute_group_sizes):
        last += size
        if 1 <= attribute <= last:
            return group
    raise ValueError(f"Attribute {attribute} is in no group.")


@torch.no_grad()
def answered_attributes(model: PreTrainedModel, **inputs: torch.Tensor) -> list[int]:
    """Return the attributes that TQN's queries find in a clip, the surest first."""
    answers = model(**inputs).attribute_logits[0].float().softmax(-1)  # (G, N)
    scores, found = answers.max(-1)
    return [found[group].item() for group in scores.argsort(descending=True).tolist() if found[group]]
