"""What the pipeline and the processor accept as a video, and how they refuse the rest."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from modeling_finegym import FineGymPipeline, FineGymVideoProcessor
from tests.footage import moving_square
from tests.small import small_model


FRAMES = moving_square(20)
IMAGES = [Image.fromarray(frame) for frame in FRAMES]


@pytest.fixture(scope="module")
def classify() -> FineGymPipeline:
    sizes = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
    processor = FineGymVideoProcessor(num_frames=8, frame_interval=2, **sizes)
    return FineGymPipeline(
        model=small_model("slowonly"), video_processor=processor, task="video-classification", device="cpu"
    )


@pytest.mark.parametrize(
    "video",
    [FRAMES.transpose(0, 3, 1, 2), torch.from_numpy(FRAMES), IMAGES, [image.convert("RGBA") for image in IMAGES]],
    ids=["channels first", "tensor", "images", "images with alpha"],
)
def test_frames_of_every_kind_are_the_same_video(classify, video):
    expected = classify(FRAMES)
    assert classify(video) == expected
    assert classify([video], batch_size=1) == [expected]
    processor = classify.video_processor
    assert torch.equal(processor.load_clips(video).pixel_values, processor.load_clips(FRAMES).pixel_values)


def test_single_frames_in_a_list_are_one_video(classify):
    processor = classify.video_processor
    assert torch.equal(processor.load_clips(list(FRAMES)).pixel_values, processor.load_clips(FRAMES).pixel_values)


def test_bytes_and_open_files(classify, video_path):
    expected, content = classify(str(video_path)), video_path.read_bytes()
    assert classify(content) == classify(io.BytesIO(content)) == expected
    with open(video_path, "rb") as file:
        assert classify(file) == expected
    with open(video_path, encoding="latin1") as file, pytest.raises(ValueError, match="open it in binary mode"):
        classify(file)
    with pytest.raises(ValueError, match="The content given is not a readable video"):
        classify(b"no video")


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (FRAMES / 255, "must be uint8, got torch.float64: multiply"),
        (FRAMES[..., :1], r"\(T, H, W, 3\) or \(T, 3, H, W\), got \(20, 48, 64, 1\)"),
        (FRAMES[0], r"got \(48, 64, 3\)"),
        ([IMAGES[0], IMAGES[1].resize((8, 8))], r"have one size, got \[\(8, 8\), \(64, 48\)\]"),
        ([[FRAMES[0], FRAMES[1, :5]]], "have one shape"),
        ({"frames": FRAMES}, "not a dict"),
        ([], "empty"),
    ],
    ids=["floats", "gray", "one frame", "sizes", "shapes", "a dictionary", "nothing"],
)
def test_the_rest_is_refused_in_one_sentence(classify, video, message):
    with pytest.raises(ValueError, match=message):
        classify(video)


def test_the_processor_refuses_what_it_would_misread():
    processor = FineGymVideoProcessor(num_frames=8, frame_interval=2)
    with pytest.raises(ValueError, match="values from 0 to 1.*do_rescale=False"):
        processor((FRAMES / 255).astype(np.float32))
    with pytest.raises(ValueError, match="load_clips"):
        processor(b"bytes")
    scaled = processor((FRAMES / 255).astype(np.float32), do_rescale=False, do_resize=False, do_center_crop=False)
    whole = processor(FRAMES, do_resize=False, do_center_crop=False)
    torch.testing.assert_close(scaled["pixel_values"][0], whole["pixel_values"][0])


def test_a_saved_pipeline_is_loaded_as_it_was(classify, tmp_path):
    classify.save_pretrained(tmp_path)
    again = pipeline(model=str(tmp_path), trust_remote_code=True, device="cpu")
    assert type(again).__name__ == "FineGymPipeline" and again(FRAMES) == classify(FRAMES)
