"""TRN, the multi-scale temporal relation network (arXiv 1711.08496): classes from relations between frames.

Shapes: B clips, K frames, D channels, R relations of S frames.
"""

import itertools
import math

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.utils.generic import can_return_tuple

from .configuration_peers import TrnConfig
from .modeling_finegym import FineGymForVideoClassification
from .modeling_on_backbone import FineGymPreTrainedModel, OnBackboneModel


class FrameProjection(nn.Linear):
    """The layer that shortens a frame's features; its initial scale is a setting."""


class TrnPreTrainedModel(FineGymPreTrainedModel):
    config_class = TrnConfig
    base_model_prefix = "trn"
    input_modalities = ("video",)
    _no_split_modules = ["BNInceptionBlock", "SlowOnlyResidualBlock"]
    _can_record_outputs = {}

    @torch.no_grad()
    def _init_weights(self, module):
        PreTrainedModel._init_weights(self, module)
        if isinstance(module, FrameProjection):
            init.normal_(module.weight, std=self.config.initializer_range)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):  # torch's own, as in TRN
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            bound = 1 / math.sqrt(module.in_features)
            init.uniform_(module.bias, -bound, bound)


class TrnModel(TrnPreTrainedModel, OnBackboneModel):
    """TRN without relations: a backbone on each frame, dropout and a projection."""

    def __init__(self, config: TrnConfig):
        super().__init__(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.projection = FrameProjection(config.video_feature_size, config.hidden_size)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPooling:
        r"""
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
                Normalized frames, as the video processor returns them.
            video_features (`torch.FloatTensor` of shape `(batch_size, num_video_tokens, video_feature_size)`):
                In place of `pixel_values`: what `get_video_features` returned for them.
            output_hidden_states (`bool`, *optional*): Also return `hidden_states`.

        Returns:
            `last_hidden_state` of shape `(batch_size, num_video_tokens, hidden_size)`, which is the only one of the
            `hidden_states`, and `pooler_output`, its mean over the frames.

        Raises:
            `ValueError`: neither or both are given, or one has another shape.
        """
        asked = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        features = self.read_features(pixel_values, video_features).to(self.projection.weight.dtype)
        frames = self.projection(self.dropout(features))
        return BaseModelOutputWithPooling(
            last_hidden_state=frames, pooler_output=frames.mean(1), hidden_states=(frames,) if asked else None
        )


class Relations(nn.Module):
    """
    Logits from the relations of S frames in their order. All relations of K frames are averaged and count as many
    times as training draws: the expected value of the published forward, which draws in testing as well.
    """

    def __init__(self, config: TrnConfig, num_frames: int):
        super().__init__()
        self.places = list(itertools.combinations(range(config.num_video_tokens), num_frames))
        self.num_sampled = min(config.num_sampled_relations, len(self.places))
        self.hidden = nn.Linear(num_frames * config.hidden_size, config.hidden_size)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, K, D) -> (B, num_labels)"""
        places = torch.tensor(self.places, device=frames.device)  # (R, S)
        if self.training and self.num_sampled < len(self.places):
            places = places[torch.randperm(len(self.places))[: self.num_sampled].to(places.device)]
        related = F.relu(frames[:, places].flatten(2))  # (B, R, S*D)
        hidden = F.relu(self.hidden(related)).mean(1)  # the classifier is linear: the mean of its inputs will do
        return self.num_sampled * self.classifier(hidden)


class TrnForVideoClassification(TrnPreTrainedModel, FineGymForVideoClassification):
    """TRN: the sum of the logits of all scales, from all frames of a clip down to two."""

    def __init__(self, config: TrnConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.trn = TrnModel(config)
        self.relations = nn.ModuleList(Relations(config, scale) for scale in range(config.num_video_tokens, 1, -1))
        self.post_init()

    def _classify(self, outputs: BaseModelOutputWithPooling, labels: torch.Tensor | None) -> ImageClassifierOutput:
        frames = outputs.last_hidden_state
        logits = sum(relations(frames) for relations in self.relations)
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        return ImageClassifierOutput(loss=loss, logits=logits, hidden_states=outputs.hidden_states)


__all__ = ["TrnForVideoClassification", "TrnModel", "TrnPreTrainedModel"]
