"""TQN, the temporal query network (arXiv 2104.09496): learned queries ask a clip for its attributes and its class.

Written from the paper and its published settings. Names and shapes of the decoder are those of
`torch.nn.TransformerDecoder`, but for the normalizations, which must not share a name with those that a backbone keeps
in float32. The bank of features that the paper's second stage keeps for long videos is left out: a
clip of 64 frames is trained as a whole.

Shapes: B clips, T frames, K blocks, T' video tokens, Q queries (one for each of G attribute groups, and the class),
N attributes, D channels.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .configuration_peers import TqnConfig
from .modeling_finegym import FineGymForVideoClassification
from .modeling_on_backbone import IGNORED_LABEL, FineGymPreTrainedModel, OnBackboneModel
from .modeling_query_decoder import QueryDecoderLayer


@dataclass
class TqnModelOutput(ModelOutput):
    r"""
    Args:
        last_hidden_state (`torch.FloatTensor` of shape `(batch_size, num_queries, hidden_size)`): The queries after
            the decoder: one for each group of attributes, then the class.
        pooler_output (`torch.FloatTensor` of shape `(batch_size, hidden_size)`): The query of the class.
        hidden_states (`tuple(torch.FloatTensor)`, with `output_hidden_states=True`): The queries before the first
            layer and after each.
        cross_attentions (`tuple(torch.FloatTensor)`, with `output_attentions=True`): The attention of each layer,
            `(batch_size, num_attention_heads, num_queries, num_video_tokens)`.
    """

    last_hidden_state: torch.FloatTensor | None = None
    pooler_output: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    cross_attentions: tuple[torch.FloatTensor, ...] | None = None


@dataclass
class AttributeClassifierOutput(ModelOutput):
    r"""
    Args:
        loss (`torch.FloatTensor` of shape `(1,)`, with `labels`): Cross entropy of the class plus that of the
            attributes.
        logits (`torch.FloatTensor` of shape `(batch_size, num_labels)`): The classes.
        attribute_logits (`torch.FloatTensor` of shape `(batch_size, num_attribute_groups, num_attributes)`): For each
            group, which of all attributes a clip has; 0 is none of the group.
        hidden_states, cross_attentions: As in the output of the base model.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    attribute_logits: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    cross_attentions: tuple[torch.FloatTensor, ...] | None = None


class TqnDecoder(nn.Module):
    """Layers and a normalization. Neither queries nor video have positions: order is seen within blocks alone."""

    def __init__(self, config: TqnConfig):
        super().__init__()
        self.layers = nn.ModuleList(QueryDecoderLayer(config) for _ in range(config.num_hidden_layers))
        self.LayerNorm = nn.LayerNorm(config.hidden_size)


class TqnPreTrainedModel(FineGymPreTrainedModel):
    config_class = TqnConfig
    base_model_prefix = "tqn"
    input_modalities = ("video",)
    _no_split_modules = ["S3DBlock", "SlowOnlyResidualBlock", "QueryDecoderLayer"]
    _supports_attention_backend = False  # torch's attention chooses its own kernel
    _can_record_outputs = {}


class TqnModel(TqnPreTrainedModel, OnBackboneModel):
    """TQN without classifiers: a backbone over each block of a clip, and a decoder of queries over all blocks."""

    def __init__(self, config: TqnConfig):
        super().__init__(config)
        self.query_embed = nn.Embedding(config.num_attribute_groups + 1, config.hidden_size)
        self.decoder = TqnDecoder(config)
        self.post_init()

    def _compute_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        blocks = pixel_values.unflatten(1, (-1, self.config.block_len)).flatten(0, 1)  # (B*K, block_len, C, H, W)
        features = super()._compute_features(blocks)
        return features.unflatten(0, (len(pixel_values), -1)).flatten(1, 2)

    def find_padding(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """
        Return which video tokens (B, T') are padding: those of blocks whose frames all repeat the frame before, as at
        the end of a video that is shorter than a clip and was sampled with `out_of_range="repeat_last"`.
        """
        repeats = (pixel_values[:, 1:] == pixel_values[:, :-1]).flatten(2).all(2)
        repeats = F.pad(repeats, (1, 0), value=False)  # the first frame repeats none
        blocks = repeats.unflatten(1, (-1, self.config.block_len)).all(2)
        return blocks.repeat_interleave(self.config.vision_config.num_video_tokens, dim=1)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        padding: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs,
    ) -> TqnModelOutput:
        r"""
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
                Normalized frames, as the video processor returns them.
            video_features (`torch.FloatTensor` of shape `(batch_size, num_video_tokens, video_feature_size)`):
                In place of `pixel_values`: what `get_video_features` returned for them.
            padding (`torch.BoolTensor` of shape `(batch_size, num_video_tokens)`, *optional*): True for tokens that no
                query reads. The default is what `find_padding` finds in `pixel_values`.
            output_attentions (`bool`, *optional*): Also return the attention of the queries to the video.
            output_hidden_states (`bool`, *optional*): Also return the queries before and after each layer.

        Raises:
            `ValueError`: neither or both of the first two are given, or one has another shape.
        """
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        video = self.read_features(pixel_values, video_features).to(self.query_embed.weight.dtype)
        if padding is None and pixel_values is not None:
            padding = self.find_padding(pixel_values)
        queries = self.query_embed.weight.expand(len(video), -1, -1)
        hidden_states, attentions = [queries], []
        for layer in self.decoder.layers:
            queries, attention = layer(queries, video, padding, bool(output_attentions))
            hidden_states.append(queries)
            attentions.append(attention)
        queries = self.decoder.LayerNorm(queries)
        return TqnModelOutput(
            last_hidden_state=queries,
            pooler_output=queries[:, -1],
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            cross_attentions=tuple(attentions) if output_attentions else None,
        )


class TqnForVideoClassification(TqnPreTrainedModel, FineGymForVideoClassification):
    """TQN with one linear classifier for all groups of attributes and one for the classes."""

    def __init__(self, config: TqnConfig):
        super().__init__(config)
        self.tqn = TqnModel(config)
        self.attribute_classifier = nn.Linear(config.hidden_size, config.num_attributes)
        self._add_classifier(config.hidden_size)
        self.post_init()

    def _classify(self, outputs: TqnModelOutput, labels: torch.Tensor | None) -> AttributeClassifierOutput:
        """Classify the queries; the loss is the cross entropy of the classes plus that of their attributes in
        `config.class_attributes`, averaged over groups."""
        queries = self.dropout(outputs.last_hidden_state)
        logits, attribute_logits = self.classifier(queries[:, -1]), self.attribute_classifier(queries[:, :-1])
        loss = None
        if labels is not None:
            loss = self.loss_function(labels, logits, self.config)
            if self.config.class_attributes:
                attributes = torch.tensor(self.config.class_attributes, device=labels.device)  # (labels, G)
                attributes = attributes[labels.clamp_min(0)].masked_fill(labels[:, None] < 0, IGNORED_LABEL)
                loss = loss + F.cross_entropy(attribute_logits.flatten(0, 1), attributes.flatten())
        return AttributeClassifierOutput(
            loss=loss,
            logits=logits,
            attribute_logits=attribute_logits,
            hidden_states=outputs.hidden_states,
            cross_attentions=outputs.cross_attentions,
        )


__all__ = ["TqnForVideoClassification", "TqnModel", "TqnPreTrainedModel"]
