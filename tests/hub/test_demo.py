"""The page of `finegym demo`, called over HTTP as its buttons call it, and used in a browser."""

import contextlib
import json
import shutil
import socket
import sys
from collections.abc import Iterator

import pytest

from finegym.commands.line import main
from finegym.evaluation.predict import load_pipeline, predict_timeline
from modeling_finegym import FineGymVideoProcessor
from tests.small import small_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("checkpoint")
    small_model("slowonly").save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
    FineGymVideoProcessor(num_frames=8, frame_interval=2, **sizes).save_pretrained(folder)
    return str(folder)


def test_without_gradio_the_remedy_is_named(checkpoint, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo", "--model", checkpoint]) == 1
    assert capsys.readouterr().err == "finegym demo: The page needs Gradio: run `pip install 'gradio>=6,<7'`.\n"


def test_a_port_that_is_taken_is_named(checkpoint, capsys):
    pytest.importorskip("gradio", reason="the demo extra is not installed")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["demo", "--model", checkpoint, "--port", str(port)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line == f"finegym demo: Port {port} cannot be used (Address already in use): give another --port."


@contextlib.contextmanager
def served(classify, examples=()) -> Iterator[str]:
    """The address of the page while it is served."""
    from finegym.evaluation.demo import build_page

    page = build_page(classify, name="<b>model</b>", examples=examples)
    _, address, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    try:
        yield address
    finally:
        page.close()


def test_the_page_answers_like_the_pipeline(checkpoint, video_path, tmp_path, capfd):
    pytest.importorskip("gradio", reason="the demo extra is not installed")
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    classify = load_pipeline(checkpoint, device="cpu")
    with served(classify) as address:
        client = Client(address, verbose=False)
        file = handle_file(str(video_path))
        answer, clips, as_json, code = client.predict(file, 0.4, 1.2, api_name="/classify")
        expected = classify(str(video_path), start=0.4, end=1.2)
        assert answer["label"] == expected[0]["label"]
        shown = {entry["label"]: entry["confidence"] for entry in answer["confidences"]}
        assert shown == pytest.approx({entry["label"]: entry["score"] for entry in expected}, abs=1e-6)

        assert {entry["label"]: entry["score"] for entry in json.loads(as_json)} == pytest.approx(shown, abs=1e-6)
        assert "start=0.4, end=1.2" in code and "model='<b>model</b>'" in code
        assert sum(float(row[1].rstrip("%")) for row in clips["data"]) == pytest.approx(100, abs=len(clips["data"]))

        rows = client.predict(file, 1.0, api_name="/timeline")["data"]
        options = {"window": 1.0, "min_score": 0.0, "device": "cpu", "progress": False}
        segments = predict_timeline(str(video_path), model=checkpoint, **options)
        assert [row[2] for row in rows if row[2]] == [segment.label for segment in segments]

        (tmp_path / "broken.mp4").write_bytes(b"no video")
        for mistake in (None, handle_file(str(tmp_path / "broken.mp4"))):
            with pytest.raises(AppError) as told:
                client.predict(mistake, None, None, api_name="/classify")
            assert "/" not in str(told.value) and "rrno" not in str(told.value), "no path of the server"
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_the_page_works_in_a_browser(checkpoint, video_path, tmp_path):
    pytest.importorskip("gradio", reason="the demo extra is not installed")
    pytest.importorskip("selenium", reason="the demo extra is not installed")
    programs = [shutil.which(program) for program in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("needs the programs chromium and chromedriver")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    options = ChromeOptions()
    options.binary_location = programs[0]
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path}")
    classify = load_pipeline(checkpoint, device="cpu")
    with served(classify) as address, Chrome(options, ChromeService(programs[1])) as browser:
        browser.set_window_size(1100, 900)
        browser.get(address)
        wait = WebDriverWait(browser, 60)
        title = wait.until(lambda page: page.find_element(By.TAG_NAME, "h1"))
        assert title.text == "What does the gymnast do?"
        assert "<b>model</b>" in browser.find_element(By.TAG_NAME, "body").text, "a model's name is text, not markup"
        wait.until(lambda page: page.find_element(By.CSS_SELECTOR, "input[type=file]")).send_keys(str(video_path))
        wait.until(lambda page: page.find_element(By.TAG_NAME, "video"))
        browser.find_element(By.XPATH, "//button[normalize-space()='Classify']").click()
        answer = wait.until(lambda page: page.find_element(By.CSS_SELECTOR, "[data-testid=label-output-value]"))
        assert answer.text == classify(str(video_path))[0]["label"]
