"""The page of `finegym demo` in a real Chromium: at two widths, by keyboard, without a network."""

import json
import time
from importlib import resources
from pathlib import Path

import pytest

from tests.browser import chromium
from tests.hub.demo_page import make_checkpoint, served, write_avi


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    pytest.importorskip("gradio", reason="the demo extra is not installed")
    models = [make_checkpoint(tmp_path_factory.mktemp(family), family) for family in ("slowonly", "video_text")]
    folder = tmp_path_factory.mktemp("page")
    with served(models, folder) as address:
        yield address


def write_camera(path: Path) -> Path:
    """Write what the browser takes for a camera: two seconds that become brighter, 160 x 120, again and again."""
    frames = [bytes([60 + 3 * number]) * (160 * 120) + bytes([128]) * (160 * 120 // 2) for number in range(40)]
    path.write_bytes(b"YUV4MPEG2 W160 H120 F20:1 Ip A1:1 C420\n" + b"".join(b"FRAME\n" + frame for frame in frames))
    return path


class Visitor:
    """A person with a browser of some width."""

    def __init__(self, browser):
        from selenium.webdriver.support.ui import WebDriverWait

        self.browser = browser
        self.wait = WebDriverWait(browser, 120)

    def see(self, selector: str):
        from selenium.webdriver.common.by import By

        return self.wait.until(lambda page: page.find_element(By.CSS_SELECTOR, selector))

    def click(self, text: str) -> None:
        from selenium.webdriver.common.by import By

        path = f"//button[contains(normalize-space(), {text!r})]"
        button = self.wait.until(lambda page: page.find_element(By.XPATH, path))
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()

    def until(self, script: str):
        return self.wait.until(lambda page: page.execute_script(f"return {script}"))

    def faults(self) -> list[str]:
        """Return what axe finds that is serious or critical, once nothing is faded that waits for an answer."""
        self.until("!document.querySelector('.pending')")
        source = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
        self.browser.execute_script(source)
        found = self.browser.execute_async_script("axe.run().then(arguments[0])")
        assert len(found["passes"]) > 20
        return [
            f"{fault['id']}: {fault['nodes'][0]['html']}"
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
        ]

    def foreign_requests(self) -> list[str]:
        messages = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        assert asked
        own = ("http://127.0.0.1:", "data:", "blob:", "chrome:")
        return [address for address in asked if not address.startswith(own)]


@pytest.fixture
def visitor(request, tmp_path):
    pytest.importorskip("axe_playwright_python", reason="the demo extra is not installed")
    camera = write_camera(tmp_path / "camera.y4m")
    fake = [f"use-fake-{part}-for-media-stream" for part in ("device", "ui")]
    with chromium(tmp_path, request.param, *fake, f"use-file-for-fake-video-capture={camera}") as browser:
        yield Visitor(browser)


@pytest.mark.parametrize("visitor", [1280, 390], indirect=True)
def test_from_an_example_to_its_reasons(visitor, page):
    visitor.browser.get(page)
    assert visitor.see("h1").text == "What does the gymnast do?"
    assert not visitor.faults()
    visitor.click("A routine of 4 elements")
    visitor.see(".fg-best")
    assert visitor.until("document.querySelectorAll('.fg-card .fg-bars').length == 2"), "two models side by side"
    visitor.until("document.querySelector('#video video').readyState >= 2")
    visitor.click("Find all actions")
    visitor.see(".fg-track button")
    visitor.click("Why?")
    visitor.see(".fg-why table")
    assert not visitor.faults()
    wide = visitor.browser.execute_script("return document.documentElement.scrollWidth")
    assert wide <= visitor.browser.execute_script("return window.innerWidth"), "nothing lies beside the screen"

    # A jump moves the video, and what is drawn follows it.
    script = "[...document.querySelectorAll('.fg-why thead button')].at(-1)"
    visitor.browser.execute_script(f"{script}.click()")
    time_ = float(visitor.browser.execute_script(f"return {script}.dataset.time"))
    visitor.until(f"Math.abs(document.querySelector('#video video').currentTime - {time_}) < 0.001")
    visitor.until(f"{script}.parentElement.classList.contains('fg-current')")
    now = "parseFloat(getComputedStyle(document.querySelector('.fg-track')).getPropertyValue('--now'))"
    duration = float(visitor.see(".fg-track").get_attribute("data-duration"))
    assert visitor.until(now) == pytest.approx(100 * time_ / duration, abs=0.5)
    assert not visitor.foreign_requests()


@pytest.mark.parametrize("visitor", [1280], indirect=True)
def test_the_handles_by_keyboard_and_a_link_that_carries_them(visitor, page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    visitor.browser.get(page)
    visitor.click("1 turn on one leg")
    handle = visitor.see(".fg-from")
    visitor.see(".fg-best")
    first = visitor.see(".fg-bars").text
    handle.send_keys(*[Keys.ARROW_RIGHT] * 10)
    assert visitor.see(".fg-trim output").text.startswith("0.40 s to ")
    visitor.until("Math.abs(document.querySelector('#video video').currentTime - 0.4) < 0.001")
    visitor.click("Classify")
    visitor.wait.until(lambda browser: browser.find_element(By.CSS_SELECTOR, ".fg-bars").text != first)
    trimmed = visitor.see(".fg-bars").text
    visitor.click("Settings, and a link to them")
    visitor.click("Make a link")
    path = "//label[contains(., 'Link')]//textarea | //label[contains(., 'Link')]//input"
    box = visitor.wait.until(lambda browser: browser.find_element(By.XPATH, path))
    link = visitor.wait.until(lambda browser: box.get_attribute("value"))
    assert "example=gymnast_FX_9" in link and "start=0.4" in link and "window=2.5" in link
    visitor.browser.get("about:blank")
    visitor.browser.get(link)
    visitor.see(".fg-best")
    assert visitor.see(".fg-bars").text == trimmed
    assert visitor.see(".fg-trim output").text.startswith("0.40 s to ")


@pytest.mark.parametrize("visitor", [1280], indirect=True)
def test_an_upload_that_browsers_do_not_play_and_one_that_is_no_video(visitor, page, tmp_path):
    old = write_avi(tmp_path / "old.avi")
    visitor.browser.get(page)
    visitor.see("input[type=file]").send_keys(str(old))
    visitor.see(".fg-best")
    assert "MP4 copy" in visitor.see(".fg-note").text
    assert visitor.until("document.querySelector('#video video').videoWidth") == 64, "the browser plays the copy"
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    visitor.browser.get(page)
    visitor.see("input[type=file]").send_keys(str(broken))
    told = visitor.see(".fg-trouble").text
    assert "save it again as MP4" in told and str(tmp_path) not in told and "/tmp" not in told


@pytest.mark.parametrize("visitor", [390], indirect=True)
def test_two_seconds_of_a_webcam(visitor, page):
    visitor.browser.get(page)
    visitor.see("button[aria-label='Capture from camera']").click()
    # as on a busy machine: the recorder hands over what it has only after it was stopped
    visitor.browser.execute_script(
        "window.MediaRecorder = class extends MediaRecorder { start() { super.start(); } };"
    )
    visitor.click("Access Webcam")
    visitor.click("Record")
    time.sleep(2)
    visitor.click("Stop")
    told = visitor.see(".fg-best, .fg-trouble")
    assert told.get_attribute("class") == "fg-best", told.text
    assert float(visitor.see(".fg-axis").get_attribute("data-duration")) > 1
    assert visitor.until("document.querySelector('#video video').videoWidth") == 160
    assert not visitor.foreign_requests()
