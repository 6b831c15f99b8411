"""Small models of every family, with random weights."""

import torch

from modeling_finegym import FineGymVideoTextConfig, FineGymVisionConfig, SlowOnlyConfig
from modeling_finegym import FineGymVideoTextForVideoClassification as VideoTextClassifier
from modeling_finegym import FineGymVisionForVideoClassification as VisionClassifier
from modeling_finegym import SlowOnlyForVideoClassification as SlowOnlyClassifier


LABELS = {0: "split leap", 1: "sheep jump", 2: "switch leap"}
ENCODER = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}


def small_slowonly_config(**changes) -> SlowOnlyConfig:
    values = {"num_frames": 8, "image_size": 32, "stem_width": 8, "hidden_sizes": (16, 32, 32, 64), "depths": (1,) * 4}
    labels = {"id2label": LABELS, "label2id": {name: index for index, name in LABELS.items()}}
    return SlowOnlyConfig(**{**values, **labels, **changes})


def small_model(family: str, **changes) -> torch.nn.Module:
    """Build a classifier of one of the three families with random weights, in eval mode."""
    torch.manual_seed(0)
    backbone = small_slowonly_config()
    labels = {"id2label": backbone.id2label, "label2id": backbone.label2id}
    if family == "slowonly":
        return SlowOnlyClassifier(small_slowonly_config(**changes)).eval()
    if family == "vision":
        return VisionClassifier(FineGymVisionConfig(vision_config=backbone, **ENCODER, **labels, **changes)).eval()
    attributes = {"attribute_names": ["", "leap", "jump", "0.5 turn"]}
    config = FineGymVideoTextConfig(vision_config=backbone, **{**ENCODER, **labels, **attributes, **changes})
    return VideoTextClassifier(config).eval()


FAMILIES = ("slowonly", "vision", "video_text")
