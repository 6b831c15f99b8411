"""Clips show the same moments whatever the frame rate of a file; every frame shows when it was filmed."""

import numpy as np
import pytest
import torch
from footage import encode, number_of, picture

from finegym.data.dataset import ClipDataset
from finegym.data.index import Video
from modeling_finegym import FineGymVideoProcessor
from modeling_finegym.clip_sampling import resample, sample_clips
from modeling_finegym.video_decoding import VideoDecodingError, open_video


SECONDS, RATE = 2.4, 25
# Pictures are numbered by hundredths of a second.
TIMES = {rate: np.arange(round(SECONDS * rate)) / rate for rate in (12.5, 25, 29.97, 30, 50, 60)}
VARIABLE = np.cumsum(np.random.default_rng(3).choice([0.016, 0.033, 0.05], 200))
TIMES["variable"] = np.concatenate([[0.0], VARIABLE[VARIABLE < SECONDS]]).round(3)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rates")
    for rate, times in TIMES.items():
        pictures = [picture(round(time * 100)) for time in times]
        encode(folder / f"{rate}.mkv", pictures, times, g="12")
    return {rate: folder / f"{rate}.mkv" for rate in TIMES}


def processor(**changes) -> FineGymVideoProcessor:
    plain = {"do_resize": False, "do_center_crop": False, "do_rescale": False, "do_normalize": False}
    return FineGymVideoProcessor(
        num_frames=8, frame_interval=3, num_clips=4, **plain, **{"frame_rate": RATE, **changes}
    )


def moments(pixel_values: torch.Tensor) -> np.ndarray:
    """Read the times that pictures show, in seconds: (..., T, 3, H, W) -> (..., T)."""
    flat = pixel_values.flatten(0, -4).permute(0, 2, 3, 1).numpy()
    return np.reshape([number_of(image) for image in flat], pixel_values.shape[:-3]) / 100


@pytest.mark.parametrize("rate", TIMES)
def test_clips_show_the_same_moments_at_any_rate(files, rate):
    expected = moments(processor().load_clips(files[25]).pixel_values)
    shown = moments(processor().load_clips(files[rate]).pixel_values)
    assert shown.shape == expected.shape == (4, 8)
    spacing = np.diff(TIMES[rate]).max()
    assert np.abs(shown - expected).max() <= spacing / 2 + 0.011, "half a frame, and the rounding of the numbers"
    middle = moments(processor()(str(files[rate]), return_tensors="pt").pixel_values[0])
    assert np.abs(middle - moments(processor().load_clips(files[25], num_clips=1).pixel_values)).max() < spacing


def test_counted_frames_show_other_moments(files):
    counting = moments(processor(frame_rate=None).load_clips(files[50]).pixel_values)
    assert np.ptp(counting[0]) == pytest.approx(
        np.ptp(moments(processor().load_clips(files[25]).pixel_values)[0]) / 2, abs=0.02
    )
    protocol = processor(protocol_counts_frames=True)
    assert np.array_equal(counting, moments(protocol.load_clips(files[50], count_frames=True).pixel_values))


def test_a_file_of_the_trained_rate_gives_exactly_its_frames(files):
    with open_video(files[25]) as video:
        assert video.select(frame_rate=RATE) == video.select() == list(range(60))
        assert video.select(0.4, 1.2, RATE) == video.select(0.4, 1.2) == list(range(10, 30))
    by_time, by_count = (processor(frame_rate=rate).load_clips(files[25]).pixel_values for rate in (RATE, None))
    assert torch.equal(by_time, by_count)


@pytest.mark.parametrize("rate", [12.5, 29.97, 50, 60])
def test_arrays_say_their_rate(files, rate):
    with open_video(files[rate]) as video:
        frames = video.frames(video.select())
    from_file = processor().load_clips(files[rate]).pixel_values
    assert torch.equal(processor().load_clips(frames, fps=rate).pixel_values, from_file)
    clip = processor()(frames.numpy(), fps=rate, return_tensors="pt").pixel_values
    assert torch.equal(clip, processor()(str(files[rate]), return_tensors="pt").pixel_values)


def test_an_array_without_a_rate_warns_once(caplog):
    frames = np.stack([picture(number) for number in range(30)])
    unusual = processor(frame_rate=26.25)
    clips = [unusual.load_clips(frames).pixel_values for _ in range(3)]
    assert caplog.text.count("26.25 frames per second") == 1
    assert torch.equal(clips[0], processor(frame_rate=None).load_clips(frames).pixel_values)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda files: processor().load_clips(files[25], fps=25), "Files know their frame rate"),
        (lambda files: processor()(str(files[25]), fps=25), "Files know their frame rate"),
        (lambda files: processor().load_clips(np.zeros((4, 8, 8, 3), np.uint8), fps=0), "must be positive"),
        (
            lambda files: processor(frame_rate=None).load_clips(np.zeros((4, 8, 8, 3), np.uint8), fps=30),
            "no frame_rate",
        ),
    ],
)
def test_mistakes_are_named(files, call, message):
    with pytest.raises(ValueError, match=message):
        call(files)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("rate", [12.5, 30, 50, "variable"])
def test_training_clips_are_drawn_by_time(files, rate, cached):
    def moments_of(path) -> np.ndarray:
        videos = [Video(id="turn", path=path, label=0, num_frames=60)]
        dataset = ClipDataset(
            videos, seed=1, clip_len=8, frame_interval=3, frame_rate=RATE, transform=lambda frames, generator: frames
        )
        if cached:
            dataset.cache_frames(64, progress=False)
        return np.array([[number_of(frame.numpy()) / 100 for frame in dataset.views(0, [e])[0]] for e in range(4)])

    assert np.abs(moments_of(files[rate]) - moments_of(files[25])).max() <= np.diff(TIMES[rate]).max() / 2 + 0.011


def test_resampling_is_by_the_nearest_frame():
    halves, doubles = [k / 12.5 for k in range(10)], [k / 50 for k in range(40)]
    assert resample(halves, 25, 1 / 12.5) == [place // 2 for place in range(20)]
    assert resample(doubles, 25, 1 / 50) == list(range(0, 40, 2))
    assert resample([3.0], 25, 0.2) == [0] * 5
    ntsc = [round(k / 29.97, 3) for k in range(300)]
    assert resample(ntsc, 30, 1 / 29.97) == list(range(300))
    assert len(sample_clips(len(resample(doubles, 25, 0.02)), clip_len=4, frame_interval=2, num_clips=3)[0]) == 3
    for wrong in ([], [0.0]):
        with pytest.raises(ValueError, match="cannot be sampled"):
            resample(wrong, 0 if wrong else 25, 0.04)


def test_the_rate_survives_saving(tmp_path):
    processor(protocol_counts_frames=True).save_pretrained(tmp_path)
    loaded = FineGymVideoProcessor.from_pretrained(tmp_path)
    assert (loaded.frame_rate, loaded.protocol_counts_frames) == (RATE, True)


def test_no_time_is_made_up_outside_the_file(files):
    with open_video(files[60]) as video, pytest.raises(VideoDecodingError, match="shows no frame"):
        video.select(5.0, 6.0, RATE)
