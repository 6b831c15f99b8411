"""A multi-task network after MTN (arXiv 2110.05853): pathways of rising frame rates for events, sets and elements.

The paper is public by its abstract alone: three SlowOnly networks, "integration layers", and training in two stages.
What the integration layers are, how many frames a pathway has and how losses are weighted are this project's choices.

Shapes: B clips, T frames, D channels of a pathway, 3 levels.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .configuration_peers import LEVELS, MtnConfig
from .modeling_finegym import FineGymForVideoClassification
from .modeling_on_backbone import IGNORED_LABEL, FineGymPreTrainedModel, OnBackboneModel


@dataclass
class LevelClassifierOutput(ModelOutput):
    r"""
    Args:
        loss (`torch.FloatTensor` of shape `(1,)`, with `labels`): The weighted sum of the levels' cross entropies.
        logits (`torch.FloatTensor` of shape `(batch_size, num_labels)`): The classes, FineGym's elements.
        event_logits (`torch.FloatTensor` of shape `(batch_size, num_events)`): The events of the classes.
        set_logits (`torch.FloatTensor` of shape `(batch_size, num_sets)`): The sets of the classes.
        hidden_states (`tuple(torch.FloatTensor)`, with `output_hidden_states=True`): The features of the pathways.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    event_logits: torch.FloatTensor | None = None
    set_logits: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None


class MtnPathways(nn.ModuleList):
    """Three networks of one kind, each on every k-th frame of a clip."""

    def __init__(self, config: MtnConfig, backbones: list[PreTrainedModel]):
        super().__init__(backbones)
        self.config = config
        # where `post_init` of the model around them looks for it
        self._keep_in_fp32_modules_strict = backbones[0]._keep_in_fp32_modules_strict

    def get_video_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(B, T, C, H, W) -> (B, 3, D): the features of each pathway, averaged over time and space."""
        features = [
            backbone.get_video_features(pixel_values[:, ::interval]).mean(1)
            for backbone, interval in zip(self, self.config.pathway_intervals, strict=True)
        ]
        return torch.stack(features, dim=1)


class MtnPreTrainedModel(FineGymPreTrainedModel):
    config_class = MtnConfig
    base_model_prefix = "mtn"
    input_modalities = ("video",)
    _no_split_modules = ["SlowOnlyResidualBlock", "VideoResNetResidualBlock", "BNInceptionBlock", "S3DBlock"]
    _can_record_outputs = {}


class MtnModel(MtnPreTrainedModel, OnBackboneModel):
    """The three pathways, without what integrates and classifies."""

    def __init__(self, config: MtnConfig):
        super().__init__(config)
        others = [type(self.backbone)(config.vision_config) for _ in LEVELS[1:]]
        self.backbone = MtnPathways(config, [self.backbone, *others])
        self.post_init()

    @property
    def backbone_blocks(self) -> list[nn.Module]:
        """Return the blocks of the pathways in their order, those of one depth together."""
        if not isinstance(self.backbone, MtnPathways):  # there is one network yet
            return super().backbone_blocks
        return [nn.ModuleList(blocks) for blocks in zip(*(network.blocks for network in self.backbone))]

    def get_input_embeddings(self):
        return self.backbone[-1].get_input_embeddings()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPooling:
        r"""
        Give either `pixel_values`, as for [`OnBackboneModel.get_video_features`], or what that returned for them as
        `video_features`, of shape `(batch_size, 3, video_feature_size)`; else a `ValueError` is raised.

        Returns:
            `last_hidden_state` of shape `(batch_size, 3, hidden_size)`, the features of the pathways of events, sets
            and elements, which with `output_hidden_states` are the only `hidden_states`; and `pooler_output`, those of
            the last.
        """
        asked = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        features = self.read_features(pixel_values, video_features)
        return BaseModelOutputWithPooling(
            last_hidden_state=features, pooler_output=features[:, -1], hidden_states=(features,) if asked else None
        )


class LevelIntegration(nn.Module):
    """The features of one pathway, normalized and shortened: (B, D) -> (B, integration_size)."""

    def __init__(self, config: MtnConfig):
        super().__init__()
        self.LayerNorm = nn.LayerNorm(config.hidden_size)
        self.projection = nn.Linear(config.hidden_size, config.integration_size)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return F.relu(self.projection(self.LayerNorm(features)))


class MtnForVideoClassification(MtnPreTrainedModel, FineGymForVideoClassification):
    """The three pathways with a linear classifier for each level, over the integrated features of all pathways."""

    def __init__(self, config: MtnConfig):
        super().__init__(config)
        self.mtn = MtnModel(config)
        size = config.hidden_size
        self.integrations = None
        if config.integrate_levels:
            self.integrations = nn.ModuleList(LevelIntegration(config) for _ in LEVELS)
            size = len(LEVELS) * config.integration_size
        num_events, num_sets, _ = config.level_sizes
        self.event_classifier = nn.Linear(size, num_events)
        self.set_classifier = nn.Linear(size, num_sets)
        self._add_classifier(size)
        self.post_init()

    def _integrate(self, features: torch.Tensor) -> list[torch.Tensor]:
        """Return what each level's classifier reads: (B, 3, D) -> three of (B, features)."""
        pathways = list(features.to(self.classifier.weight.dtype).unbind(1))
        if self.integrations is None:
            return pathways
        shortened = [layer(pathway) for layer, pathway in zip(self.integrations, pathways, strict=True)]
        return [torch.cat(shortened, dim=1)] * len(LEVELS)

    def _classify(self, outputs: BaseModelOutputWithPooling, labels: torch.Tensor | None) -> LevelClassifierOutput:
        """Classify every level; the events and sets of the classes are `config.class_events` and `class_sets`."""
        classifiers = (self.event_classifier, self.set_classifier, self.classifier)
        inputs = self._integrate(outputs.last_hidden_state)
        logits = [classifier(self.dropout(features)) for classifier, features in zip(classifiers, inputs)]
        return LevelClassifierOutput(
            loss=None if labels is None else self._sum_losses(logits, labels),
            logits=logits[2],
            event_logits=logits[0],
            set_logits=logits[1],
            hidden_states=outputs.hidden_states,
        )

    def _sum_losses(self, logits: list[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        config = self.config
        weights = config.level_loss_weights
        loss = weights[2] * self.loss_function(labels, logits[2], config)
        for level, groups in enumerate((config.class_events, config.class_sets)):
            group_of = torch.tensor(groups or [0] * config.num_labels, device=labels.device)
            answers = group_of[labels.clamp_min(0)].masked_fill(labels < 0, IGNORED_LABEL)
            loss = loss + weights[level] * F.cross_entropy(logits[level], answers, ignore_index=IGNORED_LABEL)
        return loss


__all__ = ["MtnForVideoClassification", "MtnModel", "MtnPreTrainedModel"]
