"""What is around an encoder's layers: the embeddings before them and the pooling behind them.

Shapes: B clips, T' moments, P places of a moment, N attribute texts, D channels of the encoder.
"""

import torch
from torch import nn
from torch.nn import functional as F

from .configuration_finegym import FineGymVideoTextConfig, FineGymVisionConfig
from .modeling_query_decoder import QueryDecoderLayer


VIDEO_TOKEN_TYPE, TEXT_TOKEN_TYPE = 0, 1


class PositionEmbeddings(nn.Embedding):
    """The positions of the video tokens in time or in space. Their initial scale is a setting of its own."""


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
    """Features of the backbone -> video tokens: (B, T'P, features) -> (B, T'P, D) (paper, section 3.1)."""

    def __init__(self, config: FineGymVisionConfig):
        super().__init__()
        self.feature_norm = nn.Identity()
        if config.normalize_features:
            self.feature_norm = nn.LayerNorm(config.video_feature_size)
        elif config.standardize_features:
            self.feature_norm = FeatureStandardization(config.video_feature_size)
        self.projection = nn.Linear(config.video_feature_size, config.hidden_size)
        self.position_embeddings = (
            PositionEmbeddings(config.num_moments, config.hidden_size) if config.use_position_embeddings else None
        )
        self.spatial_position_embeddings = (
            PositionEmbeddings(config.num_places, config.hidden_size)
            if config.use_position_embeddings and config.num_places > 1
            else None
        )
        self.output = EmbeddingOutput(config)

    def forward(self, video_features: torch.Tensor) -> torch.Tensor:
        embeddings = self.projection(self.feature_norm(video_features))
        if self.position_embeddings is not None:
            positions = self.position_embeddings.weight
            if self.spatial_position_embeddings is not None:
                positions = (positions[:, None] + self.spatial_position_embeddings.weight).flatten(0, 1)
            embeddings = embeddings + positions
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
    """Video and text tokens -> one sequence: (B, T'P, D), (B, N, D) -> (B, T'P+N, D) (paper, section 3.2)."""

    def __init__(self, config: FineGymVideoTextConfig):
        super().__init__()
        sequence_length = config.num_video_tokens + config.num_attributes
        self.position_embeddings = (
            PositionEmbeddings(sequence_length, config.hidden_size) if config.use_position_embeddings else None
        )
        self.token_type_embeddings = nn.Embedding(2, config.hidden_size) if config.use_token_type_embeddings else None
        self.output = EmbeddingOutput(config)

    def forward(self, video_tokens: torch.Tensor, text_tokens: torch.Tensor) -> torch.Tensor:
        embeddings = torch.cat([video_tokens, text_tokens], dim=1)  # (B, T'P+N, D)
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


def pool_places(feature_maps: torch.Tensor, grid_size: int | str) -> torch.Tensor:
    """
    Return the means of a moment's features in the cells of a grid, whose edges may share a place as `pool_parts`' may
    share a token: (B, T', h, w, C) -> (B, T' G^2, C), or (B, T' h w, C) for "all".

    Raises:
        `ValueError`: the grid has more cells than there are places.
    """
    height, width = feature_maps.shape[2:4]
    if grid_size == "all":
        return feature_maps.flatten(1, 3)
    if grid_size > min(height, width):
        raise ValueError(
            f"spatial_grid_size {grid_size} is finer than the backbone's {height} x {width} places: take a smaller "
            "one, or larger frames."
        )
    maps = feature_maps.flatten(0, 1).permute(0, 3, 1, 2)  # (B*T', C, h, w)
    cells = F.adaptive_avg_pool2d(maps, grid_size).flatten(2).transpose(1, 2)  # (B*T', G^2, C)
    return cells.unflatten(0, feature_maps.shape[:2]).flatten(1, 2)


class VideoPooling(nn.Module):
    """Encoded video tokens -> one vector: their mean, the means of parts, and the answers of learned queries."""

    def __init__(self, config: FineGymVisionConfig):
        super().__init__()
        self.num_places, self.num_parts = config.num_places, config.num_pooled_parts
        self.queries = None
        if config.num_pooling_queries:
            self.queries = nn.Embedding(config.num_pooling_queries, config.hidden_size)
            self.layers = nn.ModuleList(QueryDecoderLayer(config) for _ in range(config.num_pooling_layers))
            self.LayerNorm = nn.LayerNorm(config.hidden_size)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T'P, D) -> (B, `pooled_video_size`)"""
        moments = tokens if self.num_places == 1 else tokens.unflatten(1, (-1, self.num_places)).mean(2)
        pooled = pool_parts(moments, self.num_parts)
        if self.queries is None:
            return pooled
        answers = self.queries.weight.expand(tokens.shape[0], -1, -1)
        for layer in self.layers:
            answers = layer(answers, tokens)[0]
        return torch.cat([pooled, self.LayerNorm(answers).flatten(1)], dim=-1)
