"""The paper's two encoders on a frozen backbone: the 3D vision encoder and the video-text cross encoder.

Shapes: B clips, T' moments of P video tokens each, N attribute texts, D channels of the encoder.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.models.bert.modeling_bert import BertEncoder
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_finegym import FineGymVideoTextConfig, FineGymVisionConfig
from .modeling_on_backbone import FineGymPreTrainedModel, OnBackboneModel
from .modeling_video_tokens import CrossEmbeddings, TextEmbeddings, VideoEmbeddings, VideoPooling, pool_places


class FineGymVisionPreTrainedModel(FineGymPreTrainedModel):
    config_class = FineGymVisionConfig
    base_model_prefix = "finegym_vision"
    input_modalities = ("video",)


class FineGymVideoTextPreTrainedModel(FineGymPreTrainedModel):
    config_class = FineGymVideoTextConfig
    base_model_prefix = "finegym_video_text"
    input_modalities = ("video", "text")


class FineGymModel(OnBackboneModel):
    """What the two encoders share: features become video tokens."""

    def __init__(self, config: FineGymVisionConfig):
        super().__init__(config)
        self.video_embeddings = VideoEmbeddings(config)
        self.video_pooling = VideoPooling(config)

    def _compute_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        grid_size = self.config.spatial_grid_size
        if grid_size == 1:
            return super()._compute_features(pixel_values)
        if self.has_own_backbone:
            maps = self.backbone(pixel_values, return_dict=True).last_hidden_state.permute(0, 2, 3, 4, 1)
        else:
            patches = self._compute_patches(pixel_values)  # (B, T', h w, C), as high and wide as the frames
            height, width = pixel_values.shape[-2:]
            num_patches = patches.shape[2]
            num_rows = round((num_patches * height / width) ** 0.5)
            if num_patches % num_rows:
                raise ValueError(
                    f"{self.config.vision_config.model_type} gives {num_patches} tokens for a frame of {height} x "
                    f"{width}, which make no rows: set num_prefix_tokens and token_layout to the model's own."
                )
            maps = patches.unflatten(2, (num_rows, -1))
        return pool_places(maps, grid_size)

    def embed_video(self, pixel_values: torch.Tensor | None, video_features: torch.Tensor | None) -> torch.Tensor:
        """Map frames, or the backbone's features in their place, to video tokens (B, T'P, D)."""
        video_features = self.read_features(pixel_values, video_features)
        return self.video_embeddings(video_features.to(self.video_embeddings.projection.weight.dtype))


class FineGymVisionModel(FineGymVisionPreTrainedModel, FineGymModel):
    """The 3D vision encoder (paper, section 3.1): BERT layers over video tokens, and these pooled."""

    def __init__(self, config: FineGymVisionConfig):
        super().__init__(config)
        self.encoder = BertEncoder(config)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self, pixel_values: torch.Tensor | None = None, video_features: torch.Tensor | None = None, **kwargs
    ) -> BaseModelOutputWithPooling:
        r"""
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
                Normalized frames, as the video processor returns them.
            video_features (`torch.FloatTensor` of shape `(batch_size, num_video_tokens, video_feature_size)`):
                In place of `pixel_values`: what `get_video_features` returned for them.

        Returns:
            `last_hidden_state` of shape `(batch_size, num_video_tokens, hidden_size)` and `pooler_output` of shape
            `(batch_size, pooled_video_size)`: the mean of the tokens, then those of `num_pooled_parts` parts, then
            the answers of `num_pooling_queries` queries.

        Raises:
            `ValueError`: neither or both are given, or one has another shape.
        """
        video_tokens = self.embed_video(pixel_values, video_features)
        encoded = self.encoder(video_tokens, **kwargs).last_hidden_state  # (B, T'P, D)
        return BaseModelOutputWithPooling(last_hidden_state=encoded, pooler_output=self.video_pooling(encoded))


@dataclass
class FineGymVideoTextModelOutput(BaseModelOutputWithPooling):
    r"""
    Args:
        last_hidden_state (`torch.FloatTensor` of shape `(batch_size, num_video_tokens + num_texts, hidden_size)`):
            Video tokens, then text tokens.
        pooler_output (`torch.FloatTensor` of shape `(batch_size, pooled_video_size + hidden_size)`): The mean of the
            video tokens, those of `num_pooled_parts` parts of them, the answers of `num_pooling_queries` queries, and
            the mean of the text tokens.
        hidden_states, attentions: Returned with `output_hidden_states=True` and `output_attentions=True`.
    """


class FineGymVideoTextModel(FineGymVideoTextPreTrainedModel, FineGymModel):
    """The video-text cross encoder (paper, section 3.2): BERT layers over video and text tokens, a mean of each."""

    def __init__(self, config: FineGymVideoTextConfig):
        super().__init__(config)
        self.text_embeddings = TextEmbeddings(config)
        self.cross_embeddings = CrossEmbeddings(config)
        self.encoder = BertEncoder(config)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        attribute_ids: torch.Tensor | None = None,
        **kwargs,
    ) -> FineGymVideoTextModelOutput:
        r"""
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
                Normalized frames, as the video processor returns them.
            video_features (`torch.FloatTensor` of shape `(batch_size, num_video_tokens, video_feature_size)`):
                In place of `pixel_values`: what `get_video_features` returned for them.
            attribute_ids (`torch.LongTensor` of shape `(batch_size, num_texts)`, *optional*):
                Ids of attribute texts. The default is the paper's: the whole vocabulary, the same for every clip.

        Raises:
            `ValueError`: neither or both of the first two are given, one has another shape, or an attribute id is
                not in the vocabulary.
        """
        video_tokens = self.embed_video(pixel_values, video_features)
        text_tokens = self.text_embeddings(self._check_attribute_ids(attribute_ids, video_tokens))
        embeddings = self.cross_embeddings(video_tokens, text_tokens)
        encoded = self.encoder(embeddings, **kwargs).last_hidden_state  # (B, T'P+N, D)
        video, text = encoded.split([video_tokens.shape[1], text_tokens.shape[1]], dim=1)
        pooled = torch.cat([self.video_pooling(video), text.mean(1)], dim=-1)
        return FineGymVideoTextModelOutput(last_hidden_state=encoded, pooler_output=pooled)

    def _check_attribute_ids(self, attribute_ids: torch.Tensor | None, video_tokens: torch.Tensor) -> torch.Tensor:
        batch_size, num_attributes = video_tokens.shape[0], self.config.num_attributes
        if attribute_ids is None:
            return torch.arange(num_attributes, device=video_tokens.device).expand(batch_size, -1)
        if (
            attribute_ids.ndim != 2
            or attribute_ids.shape[0] != batch_size
            or not 0 < attribute_ids.shape[1] <= num_attributes
        ):
            raise ValueError(
                f"attribute_ids must have shape ({batch_size}, up to {num_attributes}), got "
                f"{tuple(attribute_ids.shape)}."
            )
        if attribute_ids.min() < 0 or attribute_ids.max() >= num_attributes:
            raise ValueError(
                f"attribute_ids must lie between 0 and {num_attributes - 1}, the vocabulary of this model, got "
                f"{attribute_ids.min().item()} to {attribute_ids.max().item()}."
            )
        return attribute_ids


class FineGymForVideoClassification(FineGymPreTrainedModel):
    """What classifiers on a backbone share: the call, and dropout and a linear layer over a pooled output."""

    def _add_classifier(self, pooled_size: int) -> None:
        self.num_labels = self.config.num_labels
        self.dropout = nn.Dropout(self.config.classifier_dropout)
        self.classifier = nn.Linear(pooled_size, self.config.num_labels)

    def get_video_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map frames (B, T, C, H, W) to (B, T', features); see [`OnBackboneModel.get_video_features`]."""
        return self.base_model.get_video_features(pixel_values)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs,
    ) -> ModelOutput:
        r"""
        The arguments are those of the model without its classifier, such as [`FineGymVisionModel.forward`], and:

        Args:
            labels (`torch.LongTensor` of shape `(batch_size,)`, *optional*): Classes; the loss is their cross entropy,
                and that of what else the model classifies.
        """
        return self._classify(self.base_model(pixel_values, video_features, **kwargs), labels)

    def _classify(self, outputs: ModelOutput, labels: torch.Tensor | None) -> ModelOutput:
        logits = self.classifier(self.dropout(outputs.pooler_output))  # (B, num_labels)
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        return ImageClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class FineGymVisionForVideoClassification(FineGymVisionPreTrainedModel, FineGymForVideoClassification):
    """The 3D vision encoder with a linear classifier."""

    def __init__(self, config: FineGymVisionConfig):
        super().__init__(config)
        self.finegym_vision = FineGymVisionModel(config)
        self._add_classifier(config.pooled_video_size)
        self.post_init()


class FineGymVideoTextForVideoClassification(FineGymVideoTextPreTrainedModel, FineGymForVideoClassification):
    """The video-text cross encoder with a linear classifier over the means of both modalities."""

    def __init__(self, config: FineGymVideoTextConfig):
        super().__init__(config)
        self.finegym_video_text = FineGymVideoTextModel(config)
        self._add_classifier(config.pooled_video_size + config.hidden_size)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        attribute_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs,
    ) -> ImageClassifierOutput:
        r"""
        See [`FineGymVideoTextModel.forward`], and:

        Args:
            labels (`torch.LongTensor` of shape `(batch_size,)`, *optional*): Classes; the loss is their cross entropy.
        """
        outputs = self.finegym_video_text(pixel_values, video_features, attribute_ids, **kwargs)
        return self._classify(outputs, labels)


__all__ = [
    "FineGymVideoTextForVideoClassification",
    "FineGymVideoTextModel",
    "FineGymVisionForVideoClassification",
    "FineGymVisionModel",
]
