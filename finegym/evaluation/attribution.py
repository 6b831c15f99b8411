"""What a model's answer for one clip rests on: over time, over attributes, and for convolutional networks over space.

In: a classifier and one clip. Out: numbers. What is explained is a logit or, with a contrast, the difference of two.
The methods are Captum's; attention and its rollout are read from the model.

An encoder's logit is a sum over its tokens, because it is linear in their mean: each attribute token adds a part to
it, and the video tokens add the rest. Every method asks how each moment of the clip changes each of these parts, which
makes a map of attribute x time whose sum is the whole effect on the logit. The part of an attribute token is what the
network adds by way of it; that the gymnast performs the attribute does not follow (`benchmarks/explanations.py`
measures how often it is so).

Shapes: N attributes, R rows of a map, T' moments, P places of each (1 in the paper), C channels. A moment has P video
tokens, which are taken as one: features (.., T'P, C) are explained as (.., T', PC).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import nn
from transformers import PreTrainedModel


try:
    from captum.attr import (
        FeatureAblation,
        IntegratedGradients,
        LayerGradCam,
        LayerGradientXActivation,
        LayerIntegratedGradients,
        Occlusion,
        Saliency,
    )
except ImportError as error:
    raise ImportError("Explanations need Captum: run `pip install 'captum>=0.9'`.") from error


# Steps of the integral. On SynthGym's encoders the sum misses the difference of logits by less than a hundredth of it.
NUM_STEPS = 64
# Rows of a map that are not one attribute.
OTHERS, VIDEO, CLASS = "all other attributes", "video tokens", "the class"
ALL_FRAMES = "all frames"


@dataclass(frozen=True)
class Target:
    """The class that is explained and, to explain why it and not another, the one it is compared with."""

    label: int
    contrast: int | None = None

    def of(self, logits: torch.Tensor) -> torch.Tensor:
        """(..., classes) -> (...)"""
        score = logits[..., self.label]
        return score if self.contrast is None else score - logits[..., self.contrast]


@dataclass(frozen=True)
class Attribution:
    """What one clip's answer rests on.

    Attributes:
        rows: The names of the R rows of the maps over time.
        over_time: Method -> (R, T'). Of attention a share (each attribute's whole attention is 1, including that to
            other attributes); of the others the change of the logit that is ascribed to the moment.
        over_attributes: Method -> (N,), the change of the logit that is ascribed to the attribute token; empty without
            attributes.
        over_space: Grad-CAM (T', h, w), whose sum is the logit without its bias; None for encoders.
        completeness: Integrated gradients' sum over time, and the difference of logits that it should be; None where
            they were not computed.
    """

    rows: list[str]
    over_time: dict[str, torch.Tensor]
    over_attributes: dict[str, torch.Tensor] = field(default_factory=dict)
    over_space: torch.Tensor | None = None
    completeness: tuple[float, float] | None = None

    @property
    def num_attribute_rows(self) -> int:
        """How many rows are one attribute each; the others come last."""
        return sum(row not in (OTHERS, VIDEO, CLASS, ALL_FRAMES) for row in self.rows)

    def cpu(self) -> "Attribution":
        """Return the same numbers on the CPU."""
        over_time, over_attributes = (
            {name: values.cpu() for name, values in maps.items()} for maps in (self.over_time, self.over_attributes)
        )
        space = None if self.over_space is None else self.over_space.cpu()
        return replace(self, over_time=over_time, over_attributes=over_attributes, over_space=space)


def attribute_encoder(
    model: PreTrainedModel, video_features: torch.Tensor, target: Target, attributes: Sequence[int] = ()
) -> Attribution:
    """Explain an encoder's answer.

    A moment is taken away by replacing its features by the clip's mean over time: what remains is what the clip shows
    all along. An attribute is taken away by replacing it by the blank attribute.

    Args:
        model: The vision encoder or the cross encoder, in eval mode.
        video_features: The clip's features (1, T'P, C), as `get_video_features` returns them.
        target: What is explained.
        attributes: The attributes that have rows of their own; the others share one.
    """
    features = _join_places(model, video_features.detach().float())
    baseline = features.mean(1, keepdim=True).expand_as(features).contiguous()
    num_attributes = getattr(model.config, "num_attributes", 0) or 0
    parts = _parts(model, target, attributes, num_attributes)
    rows = [*(model.config.attribute_names[attribute] or "(blank)" for attribute in attributes)] if attributes else []
    rows += [OTHERS, VIDEO] if num_attributes else [VIDEO]
    with gradients_of_inputs(model):
        maps = maps_over_time(parts, features, baseline, len(rows))
        maps |= _attention_maps(model, video_features, attributes, num_attributes)
        over_attributes = _over_attributes(model, video_features, target, num_attributes) if num_attributes else {}
        with torch.no_grad():
            expected = (parts(features) - parts(baseline)).sum().item()
    sum_of_map = maps["integrated gradients"].sum().item()
    return Attribution(rows, maps, over_attributes, completeness=(sum_of_map, expected))


@torch.no_grad()
def strongest_attributes(
    model: PreTrainedModel, video_features: torch.Tensor, target: Target, count: int, leave_out: Sequence[int] = ()
) -> list[int]:
    """Return the `count` attributes whose part of the logit changes most when the clip is replaced by its mean."""
    every = range(model.config.num_attributes)
    parts = _parts(model, target, every, len(every))
    features = _join_places(model, video_features.float())
    change = parts(features) - parts(features.mean(1, keepdim=True).expand_as(features))
    order = change[0, : len(every)].abs().argsort(descending=True, stable=True).tolist()
    return [attribute for attribute in order if attribute and attribute not in leave_out][:count]


def _parts(
    model: PreTrainedModel, target: Target, attributes: Sequence[int], num_attributes: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the function from features (B, T', PC) to the parts of the logit (B, R); with the bias they sum to it."""
    weight = target.of(model.classifier.weight.detach().float().T)  # (channels,)
    size = model.config.pooled_video_size

    def parts(features: torch.Tensor) -> torch.Tensor:
        tokens = features.unflatten(2, (model.config.num_places, -1)).flatten(1, 2)
        tokens = model.base_model(video_features=tokens).last_hidden_state.float()  # (B, T'P+N, D)
        video, text = tokens.split([tokens.shape[1] - num_attributes, num_attributes], dim=1)
        of_video = (model.base_model.video_pooling(video) @ weight[:size])[:, None]
        if not num_attributes:
            return of_video
        of_text = text @ weight[size:] / num_attributes  # (B, N)
        own = of_text[:, list(attributes)]
        return torch.cat([own, of_text.sum(1, keepdim=True) - own.sum(1, keepdim=True), of_video], dim=1)

    return parts


def _join_places(model: PreTrainedModel, features: torch.Tensor) -> torch.Tensor:
    """(B, T'P, C) -> (B, T', PC)"""
    return features.unflatten(1, (-1, model.config.num_places)).flatten(2)


def _input_gradients(parts, features: torch.Tensor, baseline: torch.Tensor, row: int) -> torch.Tensor:
    gradient = Saliency(parts).attribute(features.clone().requires_grad_(), target=row, abs=False)
    return (gradient * (features - baseline)).sum(-1)[0].detach()


def _integrated_gradients(parts, features: torch.Tensor, baseline: torch.Tensor, row: int) -> torch.Tensor:
    method = IntegratedGradients(parts)
    return method.attribute(features, baselines=baseline, target=row, n_steps=NUM_STEPS).sum(-1)[0].detach()


def _occlusion(parts, features: torch.Tensor, baseline: torch.Tensor, row: int) -> torch.Tensor:
    num_moments, width = features.shape[1:]
    with torch.no_grad():
        change = Occlusion(parts).attribute(
            features,
            sliding_window_shapes=(1, width),
            strides=(1, width),
            baselines=baseline,
            target=row,
            perturbations_per_eval=num_moments,
        )
    return change[0, :, 0]  # each channel of a moment has the change of the whole moment


# The methods over time that say how the logit changes; attention is added to them.
TIME_METHODS: dict[str, Callable[..., torch.Tensor]] = {
    "integrated gradients": _integrated_gradients,
    "occlusion": _occlusion,
    "input gradients": _input_gradients,
}


def maps_over_time(
    parts: Callable[[torch.Tensor], torch.Tensor], features: torch.Tensor, baseline: torch.Tensor, num_rows: int
) -> dict[str, torch.Tensor]:
    """Return method -> (R, T'), how each moment changes each part.

    Args:
        parts: Features (B, T', C) -> what is explained (B, R).
        features: The clip's features (1, T', C).
        baseline: What takes the place of a moment that is taken away, likewise.
        num_rows: R.
    """
    return {
        name: torch.stack([method(parts, features, baseline, row) for row in range(num_rows)])
        for name, method in TIME_METHODS.items()
    }


def _over_attributes(
    model: PreTrainedModel, video_features: torch.Tensor, target: Target, num_attributes: int
) -> dict[str, torch.Tensor]:
    features = video_features.detach().float()
    ids = torch.arange(num_attributes, device=features.device)[None]
    words = model.base_model.text_embeddings.word_embeddings

    def score(attribute_ids: torch.Tensor) -> torch.Tensor:
        repeated = features.expand(len(attribute_ids), -1, -1)
        return target.of(model(video_features=repeated, attribute_ids=attribute_ids).logits.float())

    blank = torch.zeros_like(ids)
    gradient = LayerGradientXActivation(score, words, multiply_by_inputs=False).attribute(ids)
    change = words(ids) - words(blank)
    integrated = LayerIntegratedGradients(score, words).attribute(ids, baselines=blank, n_steps=NUM_STEPS)
    with torch.no_grad():
        occluded = FeatureAblation(score).attribute(ids, baselines=0, perturbations_per_eval=16)
    found = {
        "integrated gradients": integrated.sum(-1)[0],
        "occlusion": occluded[0].float(),
        "input gradients": (gradient * change).sum(-1)[0],
    }
    return {name: values.detach() for name, values in found.items()}


@torch.no_grad()
def _attention_maps(
    model: PreTrainedModel, video_features: torch.Tensor, attributes: Sequence[int], num_attributes: int
) -> dict[str, torch.Tensor]:
    """Return the attention of each row to the moments: of each layer, its mean over layers, and its rollout."""
    features = video_features.float()
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")  # other kernels keep no weights
    try:
        layers = model(video_features=features, output_attentions=True).attentions
    finally:
        model.set_attn_implementation(before)
    matrices = torch.stack([layer[0].float().mean(0) for layer in layers])  # (L, S, S)
    named = {f"attention, layer {number}": matrix for number, matrix in enumerate(matrices, start=1)}
    named |= {"attention, mean": matrices.mean(0), "attention rollout": rollout(matrices)}
    num_tokens = features.shape[1]
    others = [attribute for attribute in range(num_attributes) if attribute not in attributes]
    groups = [[num_tokens + attribute] for attribute in attributes]
    groups += [[num_tokens + attribute for attribute in others]] if num_attributes else []
    groups.append(list(range(num_tokens)))
    maps = {
        name: torch.stack(
            [matrix[group, :num_tokens].mean(0) if group else matrix.new_zeros(num_tokens) for group in groups]
        )
        for name, matrix in named.items()
    }
    return {name: values.unflatten(1, (-1, model.config.num_places)).sum(-1) for name, values in maps.items()}


def rollout(matrices: torch.Tensor) -> torch.Tensor:
    """Return how much of each token is in each other token after all layers, if attention and the identity beside it
    mix them half and half (Abnar and Zuidema, "Quantifying Attention Flow in Transformers", 2020).

    Args:
        matrices: The attention (L, S, S) of each layer, averaged over its heads.
    """
    identity = torch.eye(matrices.shape[-1], device=matrices.device, dtype=matrices.dtype)
    mixed = identity
    for matrix in matrices:
        mixed = (0.5 * matrix + 0.5 * identity) @ mixed
    return mixed


def attribute_network(model: PreTrainedModel, pixel_values: torch.Tensor, target: Target) -> Attribution:
    """Explain the answer of SlowOnly or another CNN by Grad-CAM on its last stage, and by occlusion and gradients.

    Args:
        model: The network, in eval mode.
        pixel_values: The clip (1, T, C, H, W). A moment is taken away by replacing its frames by the clip's mean
            frame.
        target: What is explained.
    """
    pixels = pixel_values.detach().float()

    def score(frames: torch.Tensor) -> torch.Tensor:
        return target.of(model(pixel_values=frames).logits.float())[:, None]

    with gradients_of_inputs(model):
        camera = LayerGradCam(score, model.base_model.blocks[-1])
        space = camera.attribute(pixels.clone().requires_grad_(), target=0)[:, 0].detach()  # (T', h, w)
        maps = {"Grad-CAM": space.sum((1, 2))[None], **maps_of_frames(score, pixels, len(space))}
    return Attribution([ALL_FRAMES], maps, over_space=space)


def maps_of_frames(
    score: Callable[[torch.Tensor], torch.Tensor], pixels: torch.Tensor, num_moments: int
) -> dict[str, torch.Tensor]:
    """Return method -> (1, T'), how the frames of each moment change a score.

    Args:
        score: Frames (B, T, C, H, W) -> what is explained (B, 1).
        pixels: The clip (1, T, C, H, W).
        num_moments: T'.
    """
    baseline = pixels.mean(1, keepdim=True).expand_as(pixels).contiguous()
    moments = torch.tensor(moments_of_frames(pixels.shape[1], num_moments), device=pixels.device)
    gradient = Saliency(score).attribute(pixels.clone().requires_grad_(), target=0, abs=False)
    gradients = (gradient * (pixels - baseline)).sum((0, 2, 3, 4)).detach()
    with torch.no_grad():
        mask = moments.view(1, -1, 1, 1, 1).expand(1, -1, *pixels.shape[2:])
        changes = FeatureAblation(score).attribute(pixels, baselines=baseline, target=0, feature_mask=mask)
    of_frames = changes[0, :, 0, 0, 0]  # each frame has the change of its whole moment
    first = [frames[0] for frames in frames_of_moments(pixels.shape[1], num_moments)]
    summed = gradients.new_zeros(num_moments).index_add(0, moments, gradients)
    return {"occlusion": of_frames[first][None], "input gradients": summed[None]}


def moments_of_frames(num_frames: int, num_moments: int) -> list[int]:
    """Return the moment to which each frame of a clip belongs."""
    return [frame * num_moments // num_frames for frame in range(num_frames)]


def frames_of_moments(num_frames: int, num_moments: int) -> list[list[int]]:
    """Return the frames of a clip that belong to each moment."""
    moments = moments_of_frames(num_frames, num_moments)
    return [[frame for frame in range(num_frames) if moments[frame] == moment] for moment in range(num_moments)]


@contextmanager
def gradients_of_inputs(model: nn.Module):
    """Take gradients of inputs alone, and through frozen blocks as well."""
    kept: Mapping[nn.Parameter, bool] = {parameter: parameter.requires_grad for parameter in model.parameters()}
    frozen = [module for module in model.modules() if getattr(module, "freeze_backbone", False)]
    model.requires_grad_(False)
    for module in frozen:
        module.freeze_backbone = False
    try:
        yield
    finally:
        for module in frozen:
            module.freeze_backbone = True
        for parameter, required in kept.items():
            parameter.requires_grad_(required)
