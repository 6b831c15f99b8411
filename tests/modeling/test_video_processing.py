import json

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tvf

from modeling_finegym import FineGymVideoProcessor
from modeling_finegym.clip_sampling import sample_clips
from modeling_finegym.video_decoding import open_video
from tests.footage import moving_square


def small_processor(**changes):
    values = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}, "num_frames": 8}
    return FineGymVideoProcessor(**{**values, **changes})


def test_defaults_are_the_papers(video_path):
    pixel_values = FineGymVideoProcessor()(video_path, return_tensors="pt").pixel_values
    assert pixel_values.shape == (1, 32, 3, 224, 224)
    assert pixel_values.dtype == torch.float32


def test_transform_agrees_with_torchvision():
    frames = torch.randint(256, (3, 90, 108, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    ours = small_processor().preprocess_frames(frames)
    theirs = tvf.resize(frames.permute(0, 3, 1, 2).float(), [40, 48], antialias=True)
    theirs = tvf.center_crop(theirs, [32, 32]) / 255
    theirs = tvf.normalize(theirs, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_without_antialiasing_frames_are_resized_as_by_opencv():
    """mmaction2 and PySlowFast resize without antialiasing, which changes fine texture."""
    cv2 = pytest.importorskip("cv2")
    frames = torch.randint(256, (2, 90, 108, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    settings = {"do_center_crop": False, "do_rescale": False, "do_normalize": False}
    theirs = torch.stack([torch.from_numpy(cv2.resize(f.numpy().astype(np.float32), (48, 40))) for f in frames])
    ours = small_processor(antialias=False, **settings).preprocess_frames(frames).permute(0, 2, 3, 1)
    assert (ours - theirs).abs().max() < 0.01
    smoothed = small_processor(**settings).preprocess_frames(frames).permute(0, 2, 3, 1)
    assert (smoothed - theirs).abs().mean() > 5


def test_path_array_and_list_give_the_same_clip(video_path):
    processor = small_processor()
    with open_video(video_path) as video:
        frames = video.frames(list(range(video.num_frames))).numpy()
    from_path = processor(video_path, return_tensors="pt").pixel_values
    from_array = processor(frames, return_tensors="pt").pixel_values
    both = processor([str(video_path), str(video_path)], return_tensors="pt").pixel_values
    assert torch.equal(from_path, from_array)
    assert torch.equal(both, torch.cat([from_path, from_path]))


def test_single_clip_is_the_middle_one(video_path):
    processor = small_processor()
    expected, _ = sample_clips(70, clip_len=8, frame_interval=2, num_clips=1)
    assert expected[0][0] == 27  # (70 - 16 + 1) / 2
    with open_video(video_path) as video:
        frames = processor.preprocess_frames(video.frames(expected[0]))
    assert torch.equal(processor(video_path, return_tensors="pt").pixel_values[0], frames)


def test_load_clips_takes_the_distinct_ones(video_path):
    processor = small_processor()
    clips = processor.load_clips(video_path)
    expected, weights = sample_clips(70, clip_len=8, frame_interval=2, num_clips=8)
    assert clips.pixel_values.shape == (len(expected), 8, 3, 32, 32)
    assert clips.weights.tolist() == pytest.approx(weights)
    with open_video(video_path) as video:
        assert torch.equal(clips.pixel_values[3], processor.preprocess_frames(video.frames(expected[3])))
    assert len(small_processor(num_frames=48).load_clips(video_path).weights) == 1


def test_load_clips_of_a_part(video_path):
    processor = small_processor()
    part = processor.load_clips(video_path, start=1.0, end=2.0)
    with open_video(video_path) as video:
        cut = video.frames(list(range(25, 50)))
    assert torch.equal(part.pixel_values, processor.load_clips(cut).pixel_values)


def test_settings_survive_saving(tmp_path, video_path):
    processor = small_processor(
        frame_interval=3, out_of_range="repeat_last", sampling="ends", antialias=False, num_clips=5
    )
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "video_preprocessor_config.json").read_text())
    assert saved["auto_map"]["AutoVideoProcessor"] == "video_processing_finegym.FineGymVideoProcessor"
    loaded = FineGymVideoProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == processor.to_dict()
    assert torch.equal(loaded.load_clips(video_path).pixel_values, processor.load_clips(video_path).pixel_values)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, path: p(path, fps=5), "fps"),
        (lambda p, path: p.load_clips(moving_square(9).astype(np.float32)), "uint8"),
        (lambda p, path: p.load_clips(moving_square(9)[..., :1]), r"\(T, H, W, 3\)"),
        (lambda p, path: p.load_clips(moving_square(9), start=1.0), "times in a file"),
        (lambda p, path: p.load_clips(path, start=99.0), "shows no frame"),
        (lambda p, path: p.load_clips(path.parent / "absent.mp4"), "absent.mp4"),
        (lambda p, path: small_processor(crop_size={"height": 64, "width": 64}).load_clips(path), "does not fit"),
    ],
)
def test_mistakes_are_named(video_path, call, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        call(small_processor(), video_path)
