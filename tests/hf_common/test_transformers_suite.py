"""Transformers' own model, configuration and video-processor tests, run over this project's classes.

The tests are those of the installed Transformers (see conftest.py). Every override here gives its reason; everything
else passes unchanged or is skipped by Transformers itself.
"""

import importlib.util
import unittest

import pytest
import torch
from transformers.models.auto import modeling_auto

from finegym.architectures import ARCHITECTURES
from modeling_finegym import (
    BNInceptionConfig,
    BNInceptionForVideoClassification,
    BNInceptionModel,
    FineGymVideoProcessor,
    FineGymVideoTextConfig,
    FineGymVideoTextForVideoClassification,
    FineGymVideoTextModel,
    FineGymVisionConfig,
    FineGymVisionForVideoClassification,
    FineGymVisionModel,
    MtnConfig,
    MtnForVideoClassification,
    MtnModel,
    S3DConfig,
    S3DForVideoClassification,
    S3DModel,
    SlowOnlyConfig,
    SlowOnlyForVideoClassification,
    SlowOnlyModel,
    TqnConfig,
    TqnForVideoClassification,
    TqnModel,
    TrnConfig,
    TrnForVideoClassification,
    TrnModel,
    VideoResNetConfig,
    VideoResNetForVideoClassification,
    VideoResNetModel,
)


if importlib.util.find_spec("transformers_tests") is None:
    pytest.skip(
        "Transformers' common tests are neither in .cache/ nor downloadable from the package index",
        allow_module_level=True,
    )

# The common tests tell base models from heads, and decide which heads take labels, by looking class names up in the
# tables of in-tree models. Without these entries they would ask the base models for a loss.
for row in ARCHITECTURES.values():
    model_type = row.config_class.model_type
    modeling_auto.MODEL_MAPPING_NAMES[model_type] = row.model_class.__name__
    modeling_auto.MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES[model_type] = row.classifier_class.__name__

from transformers_tests.test_configuration_common import ConfigTester  # noqa: E402
from transformers_tests.test_modeling_common import ModelTesterMixin, floats_tensor  # noqa: E402
from transformers_tests.test_video_processing_common import (  # noqa: E402
    VideoProcessingTestMixin,
    prepare_video_inputs,
)


NUM_FRAMES = 4
IMAGE_SIZE = 32


def small_slowonly_config() -> SlowOnlyConfig:
    return SlowOnlyConfig(
        num_frames=NUM_FRAMES,
        image_size=IMAGE_SIZE,
        stem_width=8,
        hidden_sizes=(16, 32),
        depths=(1, 1),
        temporal_kernel_sizes=(1, 3),
        # With dropout, tests that call a model twice in training mode would compare noise.
        classifier_dropout=0.0,
    )


class VideoModelTester:
    """The sizes and inputs that the common tests ask a model for."""

    is_training = True
    batch_size = 2
    num_frames = seq_length = NUM_FRAMES

    def __init__(self, parent: unittest.TestCase):
        self.parent = parent

    def prepare_config_and_inputs_for_common(self):
        pixel_values = floats_tensor([self.batch_size, self.num_frames, 3, IMAGE_SIZE, IMAGE_SIZE])
        return self.get_config(), {"pixel_values": pixel_values}


class CommonModelTest(ModelTesterMixin):
    test_resize_embeddings = False  # the vocabulary does not grow with a tokenizer
    config_common_properties: list[str]
    model_tester_class: type[VideoModelTester]

    def setUp(self):
        self.model_tester = self.model_tester_class(self)
        self.config_tester = ConfigTester(
            self,
            config_class=self.all_model_classes[0].config_class,
            has_text_modality=False,
            common_properties=list(self.config_common_properties),
        )

    def test_config(self):
        self.config_tester.run_common_tests()


class SlowOnlyModelTester(VideoModelTester):
    def get_config(self) -> SlowOnlyConfig:
        return small_slowonly_config()


class BackboneModelTest(CommonModelTest):
    config_common_properties = ["hidden_size", "num_channels", "num_frames", "image_size"]
    has_attentions = False
    hidden_shapes: list[tuple[int, int, int, int]]

    def test_hidden_states_output(self):
        """The common test expects (sequence, hidden size); the states of a CNN are (B, C, T, H, W) feature maps."""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        for model_class in self.all_model_classes:
            with torch.no_grad():
                hidden_states = model_class(config).eval()(**inputs, output_hidden_states=True).hidden_states
            self.assertEqual([tuple(state.shape[1:]) for state in hidden_states], self.hidden_shapes)


class SlowOnlyModelTest(BackboneModelTest, unittest.TestCase):
    all_model_classes = (SlowOnlyModel, SlowOnlyForVideoClassification)
    model_tester_class = SlowOnlyModelTester
    hidden_shapes = [(8, 4, 8, 8), (16, 4, 8, 8), (32, 4, 4, 4)]


class SlowLoading:
    @pytest.mark.slow  # it loads hundreds of tensors dozens of times
    def test_bc_torch_dtype(self):
        super().test_bc_torch_dtype()


class VideoResNetModelTester(VideoModelTester):
    """Everything that the four systems have, in one small network."""

    def get_config(self) -> VideoResNetConfig:
        return VideoResNetConfig(
            num_frames=NUM_FRAMES,
            image_size=IMAGE_SIZE,
            stem_width=8,
            hidden_sizes=(16, 32),
            depths=(1, 2),
            temporal_kernel_sizes=(1, [3, 1]),
            stem_temporal_kernel_size=3,
            temporal_pool_size=2,
            temporal_shift_divisor=8,
            non_local_blocks=([], [1]),
            classifier_dropout=0.0,
        )


class VideoResNetModelTest(SlowLoading, BackboneModelTest, unittest.TestCase):
    all_model_classes = (VideoResNetModel, VideoResNetForVideoClassification)
    model_tester_class = VideoResNetModelTester
    hidden_shapes = [(8, 4, 8, 8), (16, 2, 8, 8), (32, 2, 4, 4)]  # the first stage keeps every second frame


class S3DModelTester(VideoModelTester):
    num_frames = 8  # it halves time three times

    def get_config(self) -> S3DConfig:
        return S3DConfig(width_multiplier=1 / 32, depths=(1, 1, 1), image_size=IMAGE_SIZE, classifier_dropout=0.0)


class S3DModelTest(SlowLoading, BackboneModelTest, unittest.TestCase):
    all_model_classes = (S3DModel, S3DForVideoClassification)
    model_tester_class = S3DModelTester
    hidden_shapes = [(6, 4, 4, 4), (15, 4, 4, 4), (26, 2, 2, 2), (32, 1, 1, 1)]


class BNInceptionModelTester(VideoModelTester):
    def get_config(self) -> BNInceptionConfig:
        return BNInceptionConfig(
            num_frames=NUM_FRAMES,
            width_multiplier=1 / 32,
            depths=(1, 1, 1),
            image_size=IMAGE_SIZE,
            classifier_dropout=0.0,
        )


class BNInceptionModelTest(SlowLoading, BackboneModelTest, unittest.TestCase):
    all_model_classes = (BNInceptionModel, BNInceptionForVideoClassification)
    model_tester_class = BNInceptionModelTester
    hidden_shapes = [(6, 4, 4, 4), (14, 4, 2, 2), (28, 4, 1, 1), (32, 4, 1, 1)]


class EncoderModelTester(VideoModelTester):
    """A small encoder over a small SlowOnly that is trained with it: the common tests require all weights to learn."""

    num_hidden_layers = 2
    num_attention_heads = 2
    hidden_size = 32
    config_class: type

    def get_config(self):
        return self.config_class(
            vision_config=small_slowonly_config(),
            freeze_backbone=False,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=37,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            **self.extra_arguments,
        )


class FineGymVisionModelTester(EncoderModelTester):
    config_class = FineGymVisionConfig
    extra_arguments = {}


class FineGymVisionModelTest(CommonModelTest, unittest.TestCase):
    all_model_classes = (FineGymVisionModel, FineGymVisionForVideoClassification)
    model_tester_class = FineGymVisionModelTester
    config_common_properties = ["hidden_size", "num_attention_heads", "num_hidden_layers", "num_frames"]


class FineGymVideoTextModelTester(EncoderModelTester):
    config_class = FineGymVideoTextConfig
    attribute_names = ["", "salto", "twist"]
    extra_arguments = {"attribute_names": attribute_names}
    seq_length = NUM_FRAMES + len(attribute_names)


class FineGymVideoTextModelTest(CommonModelTest, unittest.TestCase):
    all_model_classes = (FineGymVideoTextModel, FineGymVideoTextForVideoClassification)
    model_tester_class = FineGymVideoTextModelTester
    config_common_properties = ["hidden_size", "num_attention_heads", "num_hidden_layers", "num_frames"]


class TrnModelTester(VideoModelTester):
    num_frames = 3  # more would draw relations at random

    def get_config(self) -> TrnConfig:
        return TrnConfig(vision_config=small_slowonly_config(), num_frames=3, hidden_size=16, classifier_dropout=0.0)


class TrnModelTest(SlowLoading, CommonModelTest, unittest.TestCase):
    all_model_classes = (TrnModel, TrnForVideoClassification)
    model_tester_class = TrnModelTester
    config_common_properties = ["hidden_size", "num_frames"]
    has_attentions = False

    def test_hidden_states_output(self):
        """There are no layers: the frames after the projection are the only state."""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        with torch.no_grad():
            outputs = TrnModel(config).eval()(**inputs, output_hidden_states=True)
        self.assertEqual(tuple(outputs.last_hidden_state.shape), (2, 3, 16))


class MtnModelTester(VideoModelTester):
    def get_config(self) -> MtnConfig:
        return MtnConfig(
            vision_config=small_slowonly_config(),
            freeze_backbone=False,
            pathway_intervals=[4, 2, 1],
            integration_size=16,
            classifier_dropout=0.0,
        )


class MtnModelTest(SlowLoading, CommonModelTest, unittest.TestCase):
    all_model_classes = (MtnModel, MtnForVideoClassification)
    model_tester_class = MtnModelTester
    config_common_properties = ["hidden_size", "num_frames"]
    has_attentions = False

    def test_hidden_states_output(self):
        """There are no layers over all tokens: the features of the pathways are the only state."""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        with torch.no_grad():
            outputs = MtnModel(config).eval()(**inputs, output_hidden_states=True)
        self.assertEqual([tuple(state.shape) for state in outputs.hidden_states], [(2, 3, 32)])


class TqnModelTester(VideoModelTester):
    def get_config(self) -> TqnConfig:
        return TqnConfig(
            vision_config=small_slowonly_config(),
            num_frames=NUM_FRAMES,
            block_len=2,
            num_hidden_layers=2,
            intermediate_size=37,
            hidden_dropout_prob=0.0,
            classifier_dropout=0.0,
            attribute_names=["", "salto", "twist"],
            attribute_group_sizes=[1, 1],
            class_attributes=[[1, 0], [0, 2]],
        )


class TqnModelTest(SlowLoading, CommonModelTest, unittest.TestCase):
    all_model_classes = (TqnModel, TqnForVideoClassification)
    model_tester_class = TqnModelTester
    config_common_properties = ["hidden_size", "num_attention_heads", "num_hidden_layers", "num_frames"]
    has_attentions = False  # its attention goes from queries to video and is returned as `cross_attentions`

    def test_hidden_states_output(self):
        """The common test expects one state for each token; TQN's are those of its queries."""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        for model_class in self.all_model_classes:
            with torch.no_grad():
                outputs = model_class(config).eval()(**inputs, output_hidden_states=True, output_attentions=True)
            self.assertEqual([tuple(state.shape) for state in outputs.hidden_states], [(2, 3, 32)] * 3)
            self.assertEqual([tuple(one.shape) for one in outputs.cross_attentions], [(2, 4, 3, 4)] * 2)


class FineGymVideoProcessorTester:
    batch_size = 2
    num_channels = 3
    num_frames = 8
    crop_size = 18

    @property
    def video_processor_dict(self) -> dict:
        return {
            "size": {"shortest_edge": 20},
            "crop_size": {"height": self.crop_size, "width": self.crop_size},
            "num_frames": self.num_frames,
            "frame_interval": 1,
        }

    def expected_output_video_shape(self, videos) -> tuple[int, int, int, int]:
        return self.num_frames, self.num_channels, self.crop_size, self.crop_size

    def prepare_video_inputs(self, equal_resolution=False, return_tensors="pil"):
        return prepare_video_inputs(
            batch_size=self.batch_size,
            num_frames=self.num_frames,
            num_channels=self.num_channels,
            min_resolution=24,
            max_resolution=40,
            equal_resolution=equal_resolution,
            return_tensors=return_tensors,
        )


class FineGymVideoProcessorTest(VideoProcessingTestMixin, unittest.TestCase):
    fast_video_processing_class = FineGymVideoProcessor
    input_name = "pixel_values"

    def setUp(self):
        super().setUp()
        self.video_processor_tester = FineGymVideoProcessorTester()

    @property
    def video_processor_dict(self) -> dict:
        return self.video_processor_tester.video_processor_dict

    def test_call_sample_frames(self):
        """
        The common test also asks for sampling by `fps`, and for an error when a clip is longer than its video. Here a
        clip is a window of every k-th frame, and four in five of FineGym's videos are shorter: they are looped.
        """
        video_processor = FineGymVideoProcessor(**self.video_processor_dict)
        videos = self.video_processor_tester.prepare_video_inputs(return_tensors="torch")
        whole = video_processor(videos, return_tensors="pt", do_sample_frames=False)["pixel_values"]
        self.assertEqual(whole.shape[:2], (2, 8))
        for num_frames in (3, 20):
            clip = video_processor(videos, return_tensors="pt", num_frames=num_frames)["pixel_values"]
            self.assertEqual(clip.shape[:2], (2, num_frames))
        torch.testing.assert_close(clip[:, 8:16], whole)
        with self.assertRaisesRegex(ValueError, "fps"):
            video_processor(videos, return_tensors="pt", fps=3)
