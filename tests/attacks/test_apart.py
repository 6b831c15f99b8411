"""Videos that kill the decoder, never end or are not videos, between good ones: each costs only itself."""

import os
import signal
import sys
import time

import pytest
import torch

from finegym.evaluation.apart import ApartProcessor, apart
from finegym.evaluation.predict import predict
from modeling_finegym import FineGymVideoProcessor
from tests.small import small_model


SIZES = {"num_frames": 8, "frame_interval": 2, "size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}


class Fragile(FineGymVideoProcessor):
    """A processor that dies, hangs and takes memory as a vulnerable decoder does, and decodes everything else."""

    def load_clips(self, video, *arguments, **options):
        if "deadly" in str(video):
            os.kill(os.getpid(), signal.SIGSEGV)
        if "endless" in str(video):
            time.sleep(3600)
        if "greedy" in str(video):
            torch.zeros(2**34, dtype=torch.uint8)
        return super().load_clips(video, *arguments, **options)


def test_a_decoder_that_dies_or_hangs_costs_one_video(video_path, tmp_path):
    expected = FineGymVideoProcessor(**SIZES).load_clips(video_path)
    with apart(Fragile(**SIZES)) as processor:
        for name, message in (
            ("deadly.mp4", "deadly.mp4 kills the decoder"),
            ("endless.mp4", "endless.mp4 takes longer than 1 s to decode"),
            ("greedy.mp4", "greedy.mp4 cannot be decoded: .*allocate"),
            ("broken.mp4", "broken.mp4 is not a readable video"),
        ):
            if name == "greedy.mp4" and sys.platform != "linux":
                continue  # other systems do not bound a process's memory
            (tmp_path / name).write_bytes(b"no video")
            processor.seconds = 1 if name == "endless.mp4" else 60
            with pytest.raises(ValueError, match=message):
                processor.load_clips(tmp_path / name)
            processor.seconds = 60
            clips = processor.load_clips(video_path)
            torch.testing.assert_close(clips.pixel_values, expected.pixel_values, rtol=0, atol=0)
            torch.testing.assert_close(clips.weights, expected.weights, rtol=0, atol=0)
        with pytest.raises(FileNotFoundError, match=r"nowhere\.mp4"):
            processor.load_clips(tmp_path / "nowhere.mp4")
        process = processor._process
    assert not process.is_alive() and processor.crop_size["height"] == 32


def test_predict_over_a_folder_with_one_bad_file_keeps_the_good_answers(video_path, tmp_path):
    model = tmp_path / "model"
    small_model("slowonly").save_pretrained(model)
    FineGymVideoProcessor(**SIZES).save_pretrained(model)
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("a.mp4", "\x1b[2Jb.mp4", "z.mp4"):
        (videos / name).symlink_to(video_path)
    with open(os.fsencode(videos) + b"/\xff.mp4", "wb") as file:
        file.write(video_path.read_bytes())
    (videos / "m.avi").write_bytes(b"RIFF\xff\xff\xff\xffAVI LIST" + bytes(2000))
    answers = predict([str(videos)], model=str(model), decode_apart=True, progress=False)
    good = [answer["scores"] for answer in answers if "scores" in answer]
    assert len(answers) == 5 and len(good) == 4 and good.count(good[0]) == 4
    assert ["m.avi" in answer["video"] for answer in answers if "error" in answer] == [True]
    assert predict([str(videos / "a.mp4")], model=str(model), progress=False)[0]["scores"] == good[0]


def test_frames_in_memory_stay_in_this_process():
    processor = ApartProcessor(FineGymVideoProcessor(**SIZES))
    clips = processor.load_clips(torch.zeros(9, 48, 64, 3, dtype=torch.uint8))
    assert clips.pixel_values.shape[1:] == (8, 3, 32, 32) and processor._process is None
