"""SlowOnly, the 3D vision encoder and the video-text cross encoder: the files published beside every checkpoint.

Importing this package registers its classes with Transformers' Auto classes.
"""

from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification
from transformers.models.auto.video_processing_auto import AutoVideoProcessor

from .configuration_finegym import (
    FineGymVideoTextConfig,
    FineGymVisionConfig,
    SlowOnlyConfig,
    VideoResNetConfig,
    __version__,
)
from .modeling_finegym import (
    FineGymVideoTextForVideoClassification,
    FineGymVideoTextModel,
    FineGymVisionForVideoClassification,
    FineGymVisionModel,
)
from .modeling_slowonly import SlowOnlyForVideoClassification, SlowOnlyModel
from .modeling_video_resnet import VideoResNetForVideoClassification, VideoResNetModel
from .pipeline_finegym import FineGymPipeline
from .video_processing_finegym import FineGymVideoProcessor


for config_class, model_class, classifier_class in (
    (SlowOnlyConfig, SlowOnlyModel, SlowOnlyForVideoClassification),
    (VideoResNetConfig, VideoResNetModel, VideoResNetForVideoClassification),
    (FineGymVisionConfig, FineGymVisionModel, FineGymVisionForVideoClassification),
    (FineGymVideoTextConfig, FineGymVideoTextModel, FineGymVideoTextForVideoClassification),
):
    AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
    AutoModel.register(config_class, model_class, exist_ok=True)
    AutoModelForVideoClassification.register(config_class, classifier_class, exist_ok=True)
    AutoVideoProcessor.register(config_class, FineGymVideoProcessor, exist_ok=True)

__all__ = [
    "FineGymPipeline",
    "FineGymVideoProcessor",
    "FineGymVideoTextConfig",
    "FineGymVideoTextForVideoClassification",
    "FineGymVideoTextModel",
    "FineGymVisionConfig",
    "FineGymVisionForVideoClassification",
    "FineGymVisionModel",
    "SlowOnlyConfig",
    "SlowOnlyForVideoClassification",
    "SlowOnlyModel",
    "VideoResNetConfig",
    "VideoResNetForVideoClassification",
    "VideoResNetModel",
    "__version__",
]
