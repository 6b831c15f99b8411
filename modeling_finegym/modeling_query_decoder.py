"""A block in which learned queries read a video; TQN decodes with it and the encoders pool with it."""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer


class QueryDecoderLayer(GradientCheckpointingLayer):
    """Attention among the queries, attention to the video, and a network of two layers; each normalized before."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        size, dropout = config.hidden_size, config.hidden_dropout_prob
        self.self_attn = nn.MultiheadAttention(size, config.num_attention_heads, dropout, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(size, config.num_attention_heads, dropout, batch_first=True)
        self.linear1 = nn.Linear(size, config.intermediate_size)
        self.linear2 = nn.Linear(config.intermediate_size, size)
        self.LayerNorm1, self.LayerNorm2, self.LayerNorm3 = (nn.LayerNorm(size) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        queries: torch.Tensor,
        video: torch.Tensor,
        padding: torch.Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(B, Q, D), (B, T', D), (B, T') -> (B, Q, D) and, if asked for, attention (B, heads, Q, T')."""
        normed = self.LayerNorm1(queries)
        queries = queries + self.dropout(self.self_attn(normed, normed, normed, need_weights=False)[0])
        attended, attention = self.multihead_attn(
            self.LayerNorm2(queries),
            video,
            video,
            key_padding_mask=padding,
            need_weights=output_attentions,
            average_attn_weights=False,
        )
        queries = queries + self.dropout(attended)
        inner = self.dropout(F.relu(self.linear1(self.LayerNorm3(queries))))
        return queries + self.dropout(self.linear2(inner)), attention
