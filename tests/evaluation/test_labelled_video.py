"""`finegym predict --video`: the frames stay what and when they were, and the classes are drawn over them."""

import numpy as np
import pytest
import torch
from PIL import Image

from finegym.commands.line import main
from finegym.evaluation.labelled_video import LabelledStretch, draw_panel, label_stretches, write_labelled_video
from modeling_finegym import FineGymVideoProcessor
from modeling_finegym.video_decoding import open_video
from tests.footage import encode, picture
from tests.small import small_model


def test_stretches_average_overlapping_windows():
    scores = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]])
    first, both, last = label_stretches([(0.0, 2.0), (1.0, 3.0)], scores, ["a", "b", "c"], top_k=2)
    assert (first.start, first.end, both.end, last.end) == (0.0, 1.0, 2.0, 3.0)
    assert [label for label, _ in first.classes] == ["a", "b"] and last.classes[0] == ("b", pytest.approx(0.7))
    assert both.classes == [("a", pytest.approx(0.5)), ("b", pytest.approx(0.4))]


def test_frames_keep_their_content_and_their_times_and_bear_the_classes(tmp_path):
    times = [0.0, 0.04, 0.12, 0.3, 0.34, 0.5]
    encode(tmp_path / "in.mp4", [picture(n) for n in range(6)], times)
    stretches = [LabelledStretch(0.1, 0.4, [("a <b> \u202e $x$", 0.9)])]
    write_labelled_video(str(tmp_path / "in.mp4"), tmp_path / "out.mp4", stretches)
    with open_video(tmp_path / "out.mp4") as file, open_video(tmp_path / "in.mp4") as original:
        np.testing.assert_allclose(file.times, original.times, atol=1e-3)
        written, before = file.frames(range(6)).numpy(), original.frames(range(6)).numpy()
    assert written.shape[1:3] == (5 * 64, 5 * 96), "enlarged by a whole factor"
    for number in range(6):
        large = np.asarray(Image.fromarray(before[number]).resize((480, 320), Image.Resampling.BICUBIC))
        difference = np.abs(written[number].astype(int) - large)
        assert difference[:240].mean() < 6, "above the panel the picture is the same"
        bottom = difference[290:].mean()
        assert bottom > 20 if number in (2, 3, 4) else bottom < 8
    write_labelled_video(str(tmp_path / "in.mp4"), tmp_path / "part.mp4", stretches, start=0.1, end=0.32)
    with open_video(tmp_path / "part.mp4") as file:
        np.testing.assert_allclose(file.times, [0.0, 0.18], atol=1e-3)


def test_bars_are_as_long_as_probabilities_and_long_names_are_cut():
    panel = np.asarray(draw_panel([("x" * 300, 0.75), ("short", 0.25)], 480))
    blue = (panel[..., :3] == (86, 180, 233)).all(-1)
    lengths = sorted({int(row.sum()) for row in blue if row.sum() > 20})
    inner = 480 - 2 * 5
    assert lengths == pytest.approx([0.25 * inner, 0.75 * inner], abs=2)
    assert panel.shape[0] < 60


def test_the_command_writes_it_and_refuses_what_it_cannot(tmp_path, video_path, capsys):
    folder = tmp_path / "model"
    small_model("slowonly").save_pretrained(folder)
    size = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
    FineGymVideoProcessor(**size, num_frames=8, frame_interval=2).save_pretrained(folder)
    arguments = ["predict", str(video_path), "--model", str(folder)]
    for options in ([], ["--window", "1"]):
        output = tmp_path / f"labelled{len(options)}.mp4"
        assert main([*arguments, *options, "--video", str(output)]) == 0
        with open_video(output) as file, open_video(video_path) as original:
            assert file.num_frames == original.num_frames == 70
    capsys.readouterr()
    assert main([*arguments, "--video", "labelled.avi"]) == 2
    assert "--video must end in .mp4" in capsys.readouterr().err
    assert main([*arguments, "--video", str(video_path)]) == 2
    assert "would replace the video itself" in capsys.readouterr().err
    assert main(["predict", str(video_path), str(output), "--model", str(folder), "--video", "x.mp4"]) == 2
    assert "--video writes one video, and 2 are given" in capsys.readouterr().err
