"""The paper's two encoders on a frozen backbone: the 3D vision encoder and the video-text cross encoder.

Shapes: B clips, T' video tokens, N attribute texts, D channels of the encoder.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.models.bert.modeling_bert import BertEncoder, BertLayer, BertSelfAttention
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_finegym import FineGymVideoTextConfig, FineGymVisionConfig, OnBackboneConfig
from .modeling_bn_inception import BNInceptionModel
from .modeling_s3d import S3DModel
from .modeling_slowonly import SlowOnlyModel, check_pixel_values
from .modeling_video_resnet import VideoResNetModel
from .publishing_finegym import PublishedModelMixin


VIDEO_TOKEN_TYPE, TEXT_TOKEN_TYPE = 0, 1

# The backbones whose code is published with the encoders: they freeze themselves and compute their own features.
OWN_BACKBONES = {
    model.config_class.model_type: model for model in (SlowOnlyModel, VideoResNetModel, S3DModel, BNInceptionModel)
}


class PositionEmbeddings(nn.Embedding):
    """The position embeddings of the video tokens: (T', D). Their initial scale is a setting of its own."""


class FeatureStandardization(nn.Module):
    """Every channel minus its mean, over its deviation, both measured on the training features: (.., C) -> (.., C)."""

    def __init__(self, num_channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_channels))
        self.register_buffer("std", torch.ones(num_channels))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return (features - self.mean) / self.std


class EmbeddingOutput(nn.Module):
    """The end of every embedding of BERT and UniVL: LayerNorm and dropout."""

    def __init__(self, config: FineGymVisionConfig):
        super().__init__()
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.LayerNorm(embeddings))


class VideoEmbeddings(nn.Module):
    """Features of the backbone -> video tokens: (B, T', features) -> (B, T', D) (paper, section 3.1)."""

    def __init__(self, config: FineGymVisionConfig):
        super().__init__()
        self.feature_norm = nn.Identity()
        if config.normalize_features:
            self.feature_norm = nn.LayerNorm(config.video_feature_size)
        elif config.standardize_features:
            self.feature_norm = FeatureStandardization(config.video_feature_size)
        self.projection = nn.Linear(config.video_feature_size, config.hidden_size)
        self.position_embeddings = (
            PositionEmbeddings(config.num_video_tokens, config.hidden_size) if config.use_position_embeddings else None
        )
        self.output = EmbeddingOutput(config)

    def forward(self, video_features: torch.Tensor) -> torch.Tensor:
        embeddings = self.projection(self.feature_norm(video_features))
        if self.position_embeddings is not None:
            embeddings = embeddings + self.position_embeddings.weight
        return self.output(embeddings)


class TextEmbeddings(nn.Module):
    """Attribute ids -> text tokens: (B, N) -> (B, N, D); each attribute text is one word (paper, section 3.2)."""

    def __init__(self, config: FineGymVideoTextConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.num_attributes, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.num_attributes, config.hidden_size)
        self.output = EmbeddingOutput(config)

    def forward(self, attribute_ids: torch.Tensor) -> torch.Tensor:
        positions = self.position_embeddings.weight[: attribute_ids.shape[1]]
        return self.output(self.word_embeddings(attribute_ids) + positions)


class CrossEmbeddings(nn.Module):
    """Video and text tokens -> one sequence: (B, T', D), (B, N, D) -> (B, T'+N, D) (paper, section 3.2)."""

    def __init__(self, config: FineGymVideoTextConfig):
        super().__init__()
        sequence_length = config.num_video_tokens + config.num_attributes
        self.position_embeddings = (
            PositionEmbeddings(sequence_length, config.hidden_size) if config.use_position_embeddings else None
        )
        self.token_type_embeddings = nn.Embedding(2, config.hidden_size) if config.use_token_type_embeddings else None
        self.output = EmbeddingOutput(config)

    def forward(self, video_tokens: torch.Tensor, text_tokens: torch.Tensor) -> torch.Tensor:
        embeddings = torch.cat([video_tokens, text_tokens], dim=1)  # (B, T'+N, D)
        if self.position_embeddings is not None:
            embeddings = embeddings + self.position_embeddings.weight[: embeddings.shape[1]]
        if self.token_type_embeddings is not None:
            video_type, text_type = self.token_type_embeddings.weight[[VIDEO_TOKEN_TYPE, TEXT_TOKEN_TYPE]]
            types = torch.cat([video_type.expand_as(video_tokens[0]), text_type.expand_as(text_tokens[0])])
            embeddings = embeddings + types
        return self.output(embeddings)


def pool_parts(tokens: torch.Tensor, num_parts: int) -> torch.Tensor:
    """Return the mean over time, followed by the means of P parts, which may share a token where P does not divide
    T': (B, T', D) -> (B, (1 + P) D)."""
    num_tokens = tokens.shape[1]
    edges = [(part * num_tokens // num_parts, -(-(part + 1) * num_tokens // num_parts)) for part in range(num_parts)]
    return torch.cat([tokens.mean(1), *(tokens[:, start:stop].mean(1) for start, stop in edges)], dim=-1)


class FineGymPreTrainedModel(PublishedModelMixin, PreTrainedModel):
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _no_split_modules = ["SlowOnlyResidualBlock", "BertLayer"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": BertLayer, "attentions": BertSelfAttention}

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, PositionEmbeddings):
            init.normal_(module.weight, std=self.config.position_initializer_range)
        elif isinstance(module, FeatureStandardization):
            init.zeros_(module.mean)
            init.ones_(module.std)
        elif isinstance(module, (nn.Linear, nn.Embedding)):
            init.normal_(module.weight, std=self.config.initializer_range)
            if getattr(module, "bias", None) is not None:
                init.zeros_(module.bias)


class FineGymVisionPreTrainedModel(FineGymPreTrainedModel):
    config_class = FineGymVisionConfig
    base_model_prefix = "finegym_vision"
    input_modalities = ("video",)


class FineGymVideoTextPreTrainedModel(FineGymPreTrainedModel):
    config_class = FineGymVideoTextConfig
    base_model_prefix = "finegym_video_text"
    input_modalities = ("video", "text")


class OnBackboneModel(FineGymPreTrainedModel):
    """What all models on a backbone share: the backbone, its freezing, its features, and the check of the inputs."""

    def __init__(self, config: OnBackboneConfig):
        super().__init__(config)
        backbone_class = OWN_BACKBONES.get(config.vision_config.model_type)
        self.has_own_backbone = backbone_class is not None
        if self.has_own_backbone:
            config.configure_backbone()  # a field may have been set after the configuration was created
        self.backbone = (backbone_class or AutoModel.from_config)(config.vision_config)

    def train(self, mode: bool = True):
        super().train(mode)
        if self.config.freeze_backbone and not self.has_own_backbone:
            self.backbone.eval().requires_grad_(False)
        return self

    def get_input_embeddings(self):
        return self.backbone.get_input_embeddings()

    def get_video_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """
        Return the backbone's features, averaged over space (paper, section 3.1).

        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
                Normalized frames, as the backbone's video processor returns them.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, num_video_tokens, video_feature_size)`.

        Raises:
            `ValueError`: `pixel_values` has another shape, or another number of frames than `config.num_frames`.
        """
        check_pixel_values(pixel_values, getattr(self.config.vision_config, "num_channels", None) or 3)
        if pixel_values.shape[1] != self.config.num_frames:
            raise ValueError(
                f"This model takes clips of {self.config.num_frames} frames, got {pixel_values.shape[1]}: sample that "
                "many (the video processor does), or load the model with another num_frames and train it."
            )
        return self._compute_features(pixel_values)

    def _compute_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        if self.has_own_backbone:
            return self.backbone.get_video_features(pixel_values)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_backbone):
            return self._pool_tokens(pixel_values)

    def _pool_tokens(self, pixel_values: torch.Tensor) -> torch.Tensor:
        config = self.config
        frames = pixel_values.flatten(0, 1) if config.token_layout == "frame" else pixel_values
        extra = {"skip_predictor": True} if config.vision_config.model_type == "vjepa2" else {}
        tokens = self.backbone(frames, return_dict=True, **extra).last_hidden_state[:, config.num_prefix_tokens :]
        if config.token_layout == "frame":  # (B*T', patches, D)
            return tokens.mean(1).unflatten(0, (-1, config.num_video_tokens))
        if config.token_layout == "time":  # (B, T'*patches, D)
            return tokens.unflatten(1, (config.num_video_tokens, -1)).mean(2)
        return tokens.unflatten(1, (-1, config.num_video_tokens)).mean(1)  # (B, patches*T', D)

    def read_features(self, pixel_values: torch.Tensor | None, video_features: torch.Tensor | None) -> torch.Tensor:
        """Return the features (B, T', D) of frames, or those given in their place."""
        if (pixel_values is None) == (video_features is None):
            raise ValueError("Give either pixel_values or video_features.")
        if video_features is None:
            video_features = self.get_video_features(pixel_values)
        expected = (self.config.num_video_tokens, self.config.video_feature_size)
        if video_features.ndim != 3 or tuple(video_features.shape[1:]) != expected:
            raise ValueError(
                f"video_features must have shape (batch_size, {expected[0]}, {expected[1]}), got "
                f"{tuple(video_features.shape)}."
            )
        return video_features


class FineGymModel(OnBackboneModel):
    """What the two encoders share: features become video tokens."""

    def __init__(self, config: FineGymVisionConfig):
        super().__init__(config)
        self.video_embeddings = VideoEmbeddings(config)

    def embed_video(self, pixel_values: torch.Tensor | None, video_features: torch.Tensor | None) -> torch.Tensor:
        """Map frames, or the backbone's features in their place, to video tokens (B, T', D)."""
        video_features = self.read_features(pixel_values, video_features)
        return self.video_embeddings(video_features.to(self.video_embeddings.projection.weight.dtype))


class FineGymVisionModel(FineGymVisionPreTrainedModel, FineGymModel):
    """The 3D vision encoder (paper, section 3.1): BERT layers over video tokens, and these pooled."""

    def __init__(self, config: FineGymVisionConfig):
        super().__init__(config)
        self.encoder = BertEncoder(config)
        self.post_init()
        self.train(self.training)

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
            `(batch_size, pooled_video_size)`: the mean of the tokens, then those of `num_pooled_parts` parts.

        Raises:
            `ValueError`: neither or both are given, or one has another shape.
        """
        video_tokens = self.embed_video(pixel_values, video_features)
        encoded = self.encoder(video_tokens, **kwargs).last_hidden_state  # (B, T', D)
        pooled = pool_parts(encoded, self.config.num_pooled_parts)
        return BaseModelOutputWithPooling(last_hidden_state=encoded, pooler_output=pooled)


@dataclass
class FineGymVideoTextModelOutput(BaseModelOutputWithPooling):
    r"""
    Args:
        last_hidden_state (`torch.FloatTensor` of shape `(batch_size, num_video_tokens + num_texts, hidden_size)`):
            Video tokens, then text tokens.
        pooler_output (`torch.FloatTensor` of shape `(batch_size, pooled_video_size + hidden_size)`): The mean of the
            video tokens, those of `num_pooled_parts` parts of them, and the mean of the text tokens.
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
        self.train(self.training)

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
        encoded = self.encoder(embeddings, **kwargs).last_hidden_state  # (B, T'+N, D)
        video, text = encoded.split([video_tokens.shape[1], text_tokens.shape[1]], dim=1)
        pooled = torch.cat([pool_parts(video, self.config.num_pooled_parts), text.mean(1)], dim=-1)
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
    """What classifiers on a backbone share: its features, and dropout and a linear layer over a pooled output."""

    def _add_classifier(self, pooled_size: int) -> None:
        self.num_labels = self.config.num_labels
        self.dropout = nn.Dropout(self.config.classifier_dropout)
        self.classifier = nn.Linear(pooled_size, self.config.num_labels)
        self.post_init()
        self.train(self.training)

    def get_video_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map frames (B, T, C, H, W) to (B, T', features); see [`OnBackboneModel.get_video_features`]."""
        return self.base_model.get_video_features(pixel_values)

    def _classify(self, outputs: BaseModelOutputWithPooling, labels: torch.Tensor | None) -> ImageClassifierOutput:
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

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs,
    ) -> ImageClassifierOutput:
        r"""
        See [`FineGymVisionModel.forward`], and:

        Args:
            labels (`torch.LongTensor` of shape `(batch_size,)`, *optional*): Classes; the loss is their cross entropy.
        """
        outputs = self.finegym_vision(pixel_values, video_features, **kwargs)
        return self._classify(outputs, labels)


class FineGymVideoTextForVideoClassification(FineGymVideoTextPreTrainedModel, FineGymForVideoClassification):
    """The video-text cross encoder with a linear classifier over the means of both modalities."""

    def __init__(self, config: FineGymVideoTextConfig):
        super().__init__(config)
        self.finegym_video_text = FineGymVideoTextModel(config)
        self._add_classifier(config.pooled_video_size + config.hidden_size)

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
