"""SlowOnly, the 3D vision encoder and the video-text cross encoder: the files published beside every checkpoint.

Importing this package registers its classes with Transformers' Auto classes.
"""

from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification
from transformers.models.auto.video_processing_auto import AutoVideoProcessor

from .configuration_backbones import BNInceptionConfig, S3DConfig, SlowOnlyConfig, VideoResNetConfig
from .configuration_checks import __version__
from .configuration_finegym import FineGymVideoTextConfig, FineGymVisionConfig
from .configuration_peers import MtnConfig, TqnConfig, TrnConfig
from .modeling_bn_inception import BNInceptionForVideoClassification, BNInceptionModel
from .modeling_finegym import (
    FineGymVideoTextForVideoClassification,
    FineGymVideoTextModel,
    FineGymVisionForVideoClassification,
    FineGymVisionModel,
)
from .modeling_mtn import MtnForVideoClassification, MtnModel
from .modeling_s3d import S3DForVideoClassification, S3DModel
from .modeling_slowonly import SlowOnlyForVideoClassification, SlowOnlyModel
from .modeling_tqn import TqnForVideoClassification, TqnModel
from .modeling_trn import TrnForVideoClassification, TrnModel
from .modeling_video_resnet import VideoResNetForVideoClassification, VideoResNetModel
from .pipeline_finegym import FineGymPipeline
from .video_processing_finegym import FineGymVideoProcessor


for config_class, model_class, classifier_class in (
    (SlowOnlyConfig, SlowOnlyModel, SlowOnlyForVideoClassification),
    (VideoResNetConfig, VideoResNetModel, VideoResNetForVideoClassification),
    (S3DConfig, S3DModel, S3DForVideoClassification),
    (BNInceptionConfig, BNInceptionModel, BNInceptionForVideoClassification),
    (FineGymVisionConfig, FineGymVisionModel, FineGymVisionForVideoClassification),
    (FineGymVideoTextConfig, FineGymVideoTextModel, FineGymVideoTextForVideoClassification),
    (TrnConfig, TrnModel, TrnForVideoClassification),
    (TqnConfig, TqnModel, TqnForVideoClassification),
    (MtnConfig, MtnModel, MtnForVideoClassification),
):
    AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
    AutoModel.register(config_class, model_class, exist_ok=True)
    AutoModelForVideoClassification.register(config_class, classifier_class, exist_ok=True)
    AutoVideoProcessor.register(config_class, FineGymVideoProcessor, exist_ok=True)

__all__ = [
    "BNInceptionConfig",
    "BNInceptionForVideoClassification",
    "BNInceptionModel",
    "FineGymPipeline",
    "FineGymVideoProcessor",
    "FineGymVideoTextConfig",
    "FineGymVideoTextForVideoClassification",
    "FineGymVideoTextModel",
    "FineGymVisionConfig",
    "FineGymVisionForVideoClassification",
    "FineGymVisionModel",
    "MtnConfig",
    "MtnForVideoClassification",
    "MtnModel",
    "S3DConfig",
    "S3DForVideoClassification",
    "S3DModel",
    "SlowOnlyConfig",
    "SlowOnlyForVideoClassification",
    "SlowOnlyModel",
    "TqnConfig",
    "TqnForVideoClassification",
    "TqnModel",
    "TrnConfig",
    "TrnForVideoClassification",
    "TrnModel",
    "VideoResNetConfig",
    "VideoResNetForVideoClassification",
    "VideoResNetModel",
    "__version__",
]
