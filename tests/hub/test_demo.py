"""The page of `finegym demo`, asked over HTTP as its buttons ask it."""

import pytest

from finegym.evaluation.predict import load_pipeline, predict_timeline
from finegym.hub import demo
from modeling_finegym import FineGymVideoProcessor
from tests.conftest import small_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("checkpoint")
    small_model("slowonly").save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
    FineGymVideoProcessor(num_frames=8, frame_interval=2, **sizes).save_pretrained(folder)
    return str(folder)


def test_without_gradio_the_remedy_is_named(checkpoint, monkeypatch):
    monkeypatch.setattr(demo, "gradio", None)
    with pytest.raises(ImportError, match="pip install 'gradio"):
        demo.demo(model=checkpoint)


def test_the_page_answers_like_the_pipeline(checkpoint, video_path, tmp_path):
    pytest.importorskip("gradio", reason="the demo extra is not installed")
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    classify = load_pipeline(checkpoint, device="cpu")
    page = demo.build_page(classify, title="<b>model</b>")
    _, address, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    try:
        client = Client(address, verbose=False)
        file = handle_file(str(video_path))
        answer = client.predict(file, 0.4, 1.2, api_name="/classify")
        expected = classify(str(video_path), start=0.4, end=1.2)
        assert answer["label"] == expected[0]["label"]
        shown = {entry["label"]: entry["confidence"] for entry in answer["confidences"]}
        assert shown == pytest.approx({entry["label"]: entry["score"] for entry in expected}, abs=1e-6)

        rows = client.predict(file, 1.0, api_name="/timeline")["data"]
        segments = predict_timeline(str(video_path), model=checkpoint, window=1.0, device="cpu", progress=False)
        assert [row[2] for row in rows if row[2]] == [segment.label for segment in segments]

        (tmp_path / "broken.mp4").write_bytes(b"no video")
        for mistake in (None, handle_file(str(tmp_path / "broken.mp4"))):
            with pytest.raises(AppError):
                client.predict(mistake, None, None, api_name="/classify")
    finally:
        page.close()
