"""`finegym predict` at a terminal."""

import contextlib
import io
import json
import shutil

import pytest
import torch

from finegym.commands.line import main
from finegym.data.files import expand_names
from finegym.data.index import Video
from finegym.data.labels import ActionClass, Labels
from finegym.data.video_writing import write_video
from finegym.evaluation.predict import load_pipeline, predict, predict_timeline
from finegym.evaluation.protocol import evaluate
from modeling_finegym import FineGymPipeline, FineGymVideoProcessor
from tests.footage import moving_square
from tests.small import LABELS, small_model
from tests.training.launching import run_command


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    small_model("slowonly").save_pretrained(folder)
    FineGymVideoProcessor(
        num_frames=8, frame_interval=2, size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path, video_path):
    """A folder with a.mp4, b/c.MP4 and a file that is not a video."""
    (tmp_path / "videos" / "b").mkdir(parents=True)
    shutil.copy(video_path, tmp_path / "videos" / "a.mp4")
    shutil.copy(video_path, tmp_path / "videos" / "b" / "c.MP4")
    (tmp_path / "videos" / "notes.txt").write_text("no video")
    return tmp_path / "videos"


def test_names_of_videos(folder):
    first, second = str(folder / "a.mp4"), str(folder / "b" / "c.MP4")
    assert expand_names([str(folder)]) == [first, second]
    assert expand_names([str(folder / "*.mp4"), first]) == [first]
    assert expand_names([str(folder / "**" / "*.MP4"), first]) == [second, first]
    assert expand_names(["https://example.org/x.mp4"]) == ["https://example.org/x.mp4"]
    for nothing in (folder / "x.mp4", folder / "*.webm", folder / "notes"):
        with pytest.raises(FileNotFoundError, match="is neither a video nor a folder or pattern"):
            expand_names([str(nothing)])


def test_predictions_are_the_pipelines(checkpoint, folder, video_path):
    classify = FineGymPipeline(
        model=small_model("slowonly"),
        video_processor=FineGymVideoProcessor.from_pretrained(checkpoint),
        task="video-classification",
        device="cpu",
    )
    expected = classify(str(video_path))
    answers = predict([str(folder)], model=str(checkpoint), device="cpu", progress=False)
    assert [answer["video"] for answer in answers] == [str(folder / "a.mp4"), str(folder / "b" / "c.MP4")]
    for answer in answers:
        assert [entry["label"] for entry in answer["scores"]] == [entry["label"] for entry in expected]
        assert [e["score"] for e in answer["scores"]] == pytest.approx([e["score"] for e in expected], abs=1e-6)
    [part] = predict([str(video_path)], model=str(checkpoint), start=0.4, end=1.2, num_clips=2, top_k=1)
    assert part["scores"] == classify(str(video_path), start=0.4, end=1.2, num_clips=2, top_k=1)


def test_predictions_agree_with_the_evaluation(checkpoint, tmp_path):
    """Short and long videos, whole files and parts of one: the pipeline and `finegym evaluate` agree."""
    lengths = (5, 16, 40, 90)
    for length in lengths:
        write_video(tmp_path / f"{length}.mp4", moving_square(length), fps=25)
    videos = [Video(str(length), tmp_path / f"{length}.mp4", 0, length) for length in lengths]
    videos.append(Video("part", tmp_path / "90.mp4", 1, 25, start=0.4, end=1.4))
    classes = [ActionClass(label, name, name) for label, name in LABELS.items()]
    classify = load_pipeline(str(checkpoint), device="cpu")
    result = evaluate(
        classify.model, classify.video_processor, videos, Labels("own", classes, attributes=[]), progress=False
    )
    for video, row in zip(videos, result.scores.tolist(), strict=True):
        answer = classify(str(video.path), start=video.start, end=video.end, top_k=len(LABELS))
        assert {entry["label"]: entry["score"] for entry in answer} == pytest.approx(
            {LABELS[label]: score for label, score in enumerate(row)}, abs=1e-6
        )


def command(arguments: list[str]) -> str:
    """Return what `finegym predict` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["predict", *arguments]) == 0
    return printed.getvalue().removesuffix("\n")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda:0", "gpu"])
def test_a_device_that_is_not_there(checkpoint, folder, device, capsys):
    assert main(["predict", str(folder), "--model", str(checkpoint), "--device", device]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"finegym predict: --device {device}: ") and "cpu" in line


def test_a_damaged_video_among_others_is_listed(checkpoint, folder):
    (folder / "broken.mp4").write_bytes(b"no video")
    *read, failed = predict([str(folder)], model=str(checkpoint), device="cpu", progress=False)
    assert [sorted(answer) for answer in read] == [["scores", "video"]] * 2
    assert failed["video"] == str(folder / "broken.mp4")
    last = command([str(folder), "--model", str(checkpoint), "--device", "cpu"]).splitlines()[-1]
    assert last.split("  not read: ") == [f"{failed['video']:{len(str(folder / 'b' / 'c.MP4'))}}", failed["error"]]
    with pytest.raises(ValueError, match="No video could be read.*broken.mp4"):
        predict([str(folder / "broken.mp4")], model=str(checkpoint), progress=False)


def test_a_model_that_is_none(folder, tmp_path):
    with pytest.raises(ValueError, match="nothing-here cannot be loaded"):
        predict([str(folder)], model=str(tmp_path / "nothing-here"), progress=False)


def test_table_and_json(checkpoint, video_path):
    arguments = [str(video_path), "--model", str(checkpoint), "--device", "cpu", "--top_k", "2"]
    [answer] = json.loads(command([*arguments, "--json"]))
    first, second = command(arguments).splitlines()
    assert first == f"{video_path}  {answer['scores'][0]['score']:6.4f}  {answer['scores'][0]['label']}"
    assert second.split("  ")[-1] == answer["scores"][1]["label"]


def test_timeline_as_text_json_and_subtitles(checkpoint, video_path, tmp_path):
    options = {"model": str(checkpoint), "window": 1.0, "stride": 0.5, "min_score": 0.0, "device": "cpu"}
    segments = predict_timeline(str(video_path), **options, progress=False)
    assert segments[0].start == 0.0 and segments[-1].end == pytest.approx(2.8)
    assert {segment.label for segment in segments} <= set(LABELS.values())
    arguments = [str(video_path), "--model", str(checkpoint), "--device", "cpu"]
    arguments += ["--window", "1", "--stride", "0.5", "--min_score", "0"]
    [report] = json.loads(command([*arguments, "--json", "--srt", str(tmp_path)]))
    assert report == {"video": str(video_path), "segments": [segment.to_dict() for segment in segments]}
    assert command(arguments).splitlines() == [str(video_path), *map(str, segments)]
    subtitles = (tmp_path / f"{video_path.stem}.srt").read_text(encoding="utf-8")
    assert subtitles.count(" --> ") == len(segments)


def test_a_bad_video_keeps_the_timelines_of_the_others(checkpoint, video_path, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    shutil.copy(video_path, tmp_path / "good.mp4")
    arguments = [str(tmp_path), "--model", str(checkpoint), "--device", "cpu", "--window", "1", "--min_score", "0"]
    bad, good = json.loads(command([*arguments, "--json", "--srt", str(tmp_path / "srt")]))
    assert "bad.mp4 is not a readable video" in bad["error"] and good["segments"]
    assert [path.name for path in (tmp_path / "srt").iterdir()] == ["good.srt"]
    assert command(arguments).startswith(f"{tmp_path / 'bad.mp4'}  not read: ")
    with pytest.raises(ValueError, match=r"No video could be read. .*bad\.mp4"):
        predict_timeline(str(tmp_path / "bad.mp4"), model=str(checkpoint), window=1.0, progress=False)
    with pytest.raises(ValueError, match="The stride must be positive"):
        predict_timeline(str(video_path), model=str(checkpoint), window=1.0, stride=2.0, progress=False)


def test_options_that_need_a_window(checkpoint, video_path, capsys):
    for option in (["--srt", "."], ["--stride", "1"]):
        assert main(["predict", str(video_path), "--model", str(checkpoint), *option]) == 2
        assert "give --window SECONDS" in capsys.readouterr().err


def test_subtitles_that_would_overwrite_each_other(checkpoint, folder, tmp_path, capsys):
    shutil.copy(folder / "a.mp4", folder / "b" / "a.mp4")
    arguments = [str(folder), "--model", str(checkpoint), "--window", "1", "--srt", str(tmp_path)]
    assert main(["predict", *arguments]) == 1
    assert "Several videos would write a.srt" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.srt"))


def test_from_a_shell(checkpoint, folder):
    command = ["finegym", "predict", str(folder), "--model", str(checkpoint), "--device", "cpu", "--json"]
    status, output, errors = run_command(command, folder)
    assert status == 0, errors
    assert len(json.loads(output)) == 2, "nothing but JSON on the standard output"
    assert "2/2" in errors, "a bar on the standard error"


def test_mistakes_end_in_one_line(checkpoint, capsys):
    assert main(["predict", "nowhere.mp4", "--model", str(checkpoint)]) == 1
    assert capsys.readouterr().err.startswith("finegym predict: nowhere.mp4 is neither a video")
