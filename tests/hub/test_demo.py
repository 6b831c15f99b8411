"""The page of `finegym demo`, called over HTTP as its buttons call it, by one visitor and by ten at once."""

import html
import json
import os
import re
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from finegym.commands.line import main
from finegym.evaluation.apart import ApartProcessor
from finegym.evaluation.predict import load_pipeline, predict_timeline
from modeling_finegym import FineGymVideoProcessor
from modeling_finegym.video_decoding import open_video
from tests.footage import encode, number_of, picture
from tests.hub.demo_page import make_checkpoint, served, write_avi


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> list[str]:
    return [make_checkpoint(tmp_path_factory.mktemp(family), family) for family in ("slowonly", "video_text")]


@pytest.fixture(scope="module")
def page(checkpoints, tmp_path_factory):
    """The address of a page with two models, and the folder of its examples."""
    pytest.importorskip("gradio", reason="the demo extra is not installed")
    folder = tmp_path_factory.mktemp("page")
    with served(checkpoints, folder) as address:
        yield address, folder


@pytest.fixture(scope="module")
def visit(page):
    """A function that calls the page as one visitor does: `visit(name, path, *arguments)`."""
    from gradio_client import Client, handle_file

    client = Client(page[0], verbose=False)

    def call(name: str, path: Path | str | None, *arguments):
        return client.predict(path and handle_file(str(path)), *arguments, api_name=f"/{name}")

    return call


def film(path: Path, times: list[float], *, width: int = 64, height: int = 48) -> Path:
    encode(path, [np.full((height, width, 3), 40 + number % 100, np.uint8) for number in range(len(times))], times)
    return path


def test_without_gradio_the_remedy_is_named(checkpoints, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo", checkpoints[0]]) == 1
    assert capsys.readouterr().err == "finegym demo: The page needs Gradio: run `pip install 'gradio>=6,<7'`.\n"


def test_a_port_that_is_taken_is_named(checkpoints, capsys):
    pytest.importorskip("gradio", reason="the demo extra is not installed")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["demo", checkpoints[0], "--port", str(port)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line == f"finegym demo: Port {port} cannot be used (Address already in use): give another --port."


def test_both_models_answer_like_the_pipeline(visit, checkpoints, video_path):
    shown, told, code = visit("classify", video_path, 0.4, 1.2)
    found = json.loads(told)
    assert (found["start"], found["end"]) == (0.4, 1.2)
    for answer, model in zip(found["answers"], checkpoints, strict=True):
        expected = load_pipeline(model, device="cpu")(str(video_path), start=0.4, end=1.2, return_clip_scores=True)
        assert answer["model"] == model
        assert [row["label"] for row in answer["scores"]] == [row["label"] for row in expected["scores"]]
        assert [row["score"] for row in answer["scores"]] == pytest.approx(
            [row["score"] for row in expected["scores"]], abs=1e-6
        )
        for clip, theirs in zip(answer["clips"], expected["clips"], strict=True):
            assert clip["weight"] == pytest.approx(theirs["weight"])
            assert clip["score"] == pytest.approx(theirs["scores"][0]["score"], abs=1e-6)
            assert clip["label"] == theirs["scores"][0]["label"] and 0.4 <= clip["start"] < clip["end"] < 1.2
        assert html.escape(answer["scores"][0]["label"]) in shown and model in code
    compile(code, "the code", "exec")
    assert "start=0.4, end=1.2" in code


def test_times_of_clips_are_those_of_their_frames(tmp_path):
    """Every frame of the film carries its own number, at 20 per second."""
    from finegym.evaluation.clips import load_timed_clips

    encode(tmp_path / "numbers.mp4", [picture(number) for number in range(60)], [number / 20 for number in range(60)])
    processor = FineGymVideoProcessor(
        num_frames=4, frame_interval=3, do_resize=False, do_center_crop=False, do_normalize=False
    )
    loaded = load_timed_clips(processor, str(tmp_path / "numbers.mp4"), 5, 0.5, 2.5)
    assert loaded["times"].shape == loaded["pixel_values"].shape[:2] == (5, 4)
    for frames, times in zip(loaded["pixel_values"], loaded["times"].tolist(), strict=True):
        numbers = [number_of(255 * frame.permute(1, 2, 0).numpy()) for frame in frames]
        assert [number / 20 for number in numbers] == pytest.approx(times, abs=1e-3)


def test_the_timeline_is_predicts_and_can_be_jumped_to(visit, checkpoints, video_path):
    shown, told, command = visit("timeline", video_path, 0.2, None, 1.0)
    options = {"window": 1.0, "min_score": 0.0, "start": 0.2, "device": "cpu", "progress": False}
    for found, model in zip(json.loads(told), checkpoints, strict=True):
        segments = [segment.to_dict() for segment in predict_timeline(str(video_path), model=model, **options)]
        assert [segment["label"] for segment in found["segments"]] == [segment["label"] for segment in segments]
        for ours, theirs in zip(found["segments"], segments, strict=True):
            assert [ours[key] for key in ("start", "end", "score")] == pytest.approx(
                [theirs[key] for key in ("start", "end", "score")], abs=1e-3
            )
            assert f'data-time="{ours["start"]}"' in shown
    assert "--window 1 --min_score 0 --start 0.2" in command


def test_why_names_attributes_moments_and_methods(visit, checkpoints, video_path):
    shown = visit("explain", video_path, None, None)
    assert shown.count("<table") >= 6 and "Grad-CAM" in shown and "integrated gradients" in shown
    assert "all other attributes" in shown and "data:image/jpeg;base64," in shown
    assert len(set(re.findall(r'<td data-begin="([\d.]+)"', shown))) == 8


def test_mistakes_are_told_in_words_and_stay_on_the_page(visit, video_path, tmp_path, capfd):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "empty.webm").touch()
    for path, part, words in (
        (None, (None, None), "There is no video yet"),
        (tmp_path / "broken.mp4", (None, None), "save it again as MP4"),
        (tmp_path / "empty.webm", (None, None), "The video is empty: record or upload it again."),
        (video_path, (9.0, 12.0), "shows no frame between 9.0 s and 12.0 s"),
    ):
        for name, arguments in (("classify", part), ("explain", part), ("timeline", (*part, 1.0))):
            answer = visit(name, path, *arguments)
            shown = answer if isinstance(answer, str) else answer[0]
            text = html.unescape(re.sub(r"<[^>]*>", "", shown))
            assert 'role="alert"' in shown and "/" not in text and "rrno" not in text, "no path of the server"
            assert words in text or (name == "timeline" and "there is nothing between" in text)
    assert "Traceback" not in capfd.readouterr().err


def test_long_and_large_videos_are_refused_and_others_converted(checkpoints, tmp_path):
    pytest.importorskip("gradio", reason="the demo extra is not installed")
    from finegym.evaluation.demo_answers import ShownModel, admit

    model = ShownModel.load(checkpoints[0], device="cpu")
    try:
        with pytest.raises(ValueError, match="lasts 10.3 minutes; the limit of this page is 10 minutes"):
            admit(model, str(film(tmp_path / "long.mp4", [10.0 * number for number in range(62)])), tmp_path)
        with pytest.raises(ValueError, match="frames of 4800 x 2400 pixels"):
            admit(model, str(film(tmp_path / "large.mp4", [0.0], width=4800, height=2400)), tmp_path)
        good = film(tmp_path / "good.mp4", [0.0, 0.04, 0.08])
        assert admit(model, str(good), tmp_path).path == str(good)
        old = write_avi(tmp_path / "old.avi")
        admitted = admit(model, str(old), tmp_path)
        assert admitted.is_copy and admitted.duration == pytest.approx(1.2, abs=0.01)
        with open_video(admitted.path) as copy, open_video(old) as file:
            assert copy.times == pytest.approx(file.times, abs=1e-3)
            difference = copy.frames([3, 20]).float() - file.frames([3, 20]).float()
            assert difference.abs().mean() < 6
        with av.open(admitted.path) as container:
            assert container.streams.video[0].codec_context.name == "h264"
    finally:
        model.close()


def die(processor, video):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_video_that_kills_the_decoder_costs_only_itself(video_path):
    from finegym.evaluation.clips import read_facts

    processor = ApartProcessor(FineGymVideoProcessor(num_frames=4, frame_interval=1))
    try:
        with pytest.raises(ValueError, match="kills the decoder"):
            processor.run(die, video_path)
        facts = processor.run(read_facts, video_path)
        assert facts["duration"].item() == pytest.approx(2.8) and facts["playable"].item()
    finally:
        processor.close()


def test_ten_visitors_at_once_get_their_own_answers(page, visit, tmp_path, video_path):
    from gradio_client import Client, handle_file

    videos = [str(path) for path in sorted(page[1].glob("gymnast_*.mp4"))]
    assert len(videos) == 5
    expected = {video: json.loads(visit("classify", video, None, None)[1])["answers"] for video in videos}
    assert len({json.dumps(answers) for answers in expected.values()}) == len(videos)

    def come(number: int):
        client = Client(page[0], verbose=False)
        if number == 0:
            return client.predict(handle_file(str(video_path)), None, None, 0.5, api_name="/timeline")
        answer = client.predict(handle_file(videos[number % 5]), None, None, api_name="/classify")
        return json.loads(answer[1])["answers"]

    with ThreadPoolExecutor(11) as visitors:
        search, *answers = visitors.map(come, range(11))
    assert "fg-track" in search[0]
    for number, answer in enumerate(answers, start=1):
        assert answer == expected[videos[number % 5]]


def test_names_are_text_and_not_markup():
    pytest.importorskip("captum", reason="the demo extra is not installed")
    from finegym.evaluation import demo_views
    from finegym.evaluation.demo_answers import Answer, ClipAnswer
    from finegym.evaluation.timeline import Segment

    name = "<img src=x onerror=alert(1)> \"quoted\" & 'so'"
    answer = Answer(name, [{"label": name, "score": 0.5}], [ClipAnswer(1.0, 0.0, 1.0, name, 0.5)])
    segments = [Segment(0.0, 1.0, name, 0.5)]
    for shown in (
        demo_views.answers([answer], [name], 2.0),
        demo_views.routines([segments], [name], 2.0),
        demo_views.trouble(name),
        demo_views.reasons([name], [name]),
    ):
        assert (
            "<img src=x" not in shown
            and html.escape(name).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in shown
        )
