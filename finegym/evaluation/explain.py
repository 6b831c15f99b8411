"""Where the video-text cross encoder attends: attention between attribute tokens and moments of the clip.

What this can and cannot say: the text stream is the same for every clip, the whole vocabulary, and no attribute of a
clip was ever given in training; only the class was. An attribute token is therefore a learned query that happens to
carry a text. Its attention shows which moments the network relates to it, not that the gymnast performs it. Compare
clips with one another (`attention - attention.mean(0)`): what all clips share comes from the query alone.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from modeling_finegym import FineGymVideoTextForVideoClassification

from .pictures import new_figure, save_picture


@dataclass(frozen=True)
class AttributeAttention:
    """Attention weights of one layer, averaged over its heads. B clips, N attributes, T' video tokens.

    Attributes:
        attributes: The N attribute texts.
        to_video: The attention (B, N, T') of each attribute token to the moments of the clip. A row sums to at most 1;
            the rest goes to other attributes.
        from_video: The attention (B, T', N) of each moment to the attributes.
        scores: The class probabilities (B, C).
    """

    attributes: list[str]
    to_video: torch.Tensor
    from_video: torch.Tensor
    scores: torch.Tensor


@torch.no_grad()
def attribute_attention(
    model: FineGymVideoTextForVideoClassification, *, layer: int = -1, **inputs: torch.Tensor
) -> AttributeAttention:
    """Run clips through the cross encoder and keep one layer's attention between the two modalities.

    Args:
        model: The cross encoder, loaded with `attn_implementation="eager"`; faster kernels do not keep their weights.
        layer: The encoder layer; by default the last.
        inputs: The model's input, `pixel_values` (B, T, C, H, W) or `video_features` (B, T', D).

    Raises:
        ValueError: If the model has no attributes or was loaded with another attention implementation.
    """
    if not getattr(model.config, "num_attributes", 0):
        raise ValueError(f"Only the video-text cross encoder has attributes; this is a {model.config.model_type}.")
    if model.config._attn_implementation != "eager":
        raise ValueError('Load the model with attn_implementation="eager": other kernels keep no attention weights.')
    was_training = model.training
    outputs = model.eval()(**inputs, output_attentions=True)
    model.train(was_training)
    weights = outputs.attentions[layer].float().mean(1)  # (B, T'+N, T'+N)
    num_video = weights.shape[1] - model.config.num_attributes
    return AttributeAttention(
        attributes=list(model.config.attribute_names),
        to_video=weights[:, num_video:, :num_video],
        from_video=weights[:, :num_video, num_video:],
        scores=outputs.logits.float().softmax(-1),
    )


def draw_attention(
    path: str | Path, attention: AttributeAttention, *, clip: int = 0, num_attributes: int = 12
) -> None:
    """Return a PNG of the attributes that attend most unevenly to one clip (rows) over its moments (columns)."""
    weights = attention.to_video[clip]
    unevenness = weights.amax(1) - weights.amin(1)
    chosen = unevenness.argsort(descending=True)[:num_attributes]
    figure = new_figure(8, 0.6 + 0.25 * len(chosen))
    axis = figure.subplots()
    image = axis.imshow(weights[chosen].numpy(), aspect="auto", cmap="viridis")
    axis.set(xlabel="moment of the clip (video token)", yticks=range(len(chosen)))
    axis.set_yticklabels([attention.attributes[attribute] or "(blank)" for attribute in chosen], fontsize=7)
    figure.colorbar(image, ax=axis, label="attention")
    save_picture(figure, path)
