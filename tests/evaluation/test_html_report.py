"""The report as a stranger receives it: one file, read by an HTML parser and opened in a real browser."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from finegym.data.index import Video
from finegym.data.labels import ActionClass, Labels
from finegym.data.video_writing import write_video
from finegym.evaluation.html_report import ModelScores, ReportData, write_html_report
from tests.browser import chromium
from tests.footage import moving_square


HOSTILE = '</script><script>document.title="owned"</script><img src=https://example.com/x onerror=alert(1)>'


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text outside scripts and styles."""

    def __init__(self, content: str):
        super().__init__()
        self.elements, self.text, self.scripts, self._inside = [], [], [], None
        self.feed(content)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.text.append(data)


def report_data(folder, num_classes=8, *, name="leap with {} turn"):
    """An evaluation of two videos per class: one is a file on disk, one cannot be read."""
    path = folder / "video.mp4"
    write_video(path, moving_square(30), fps=25)
    classes = [
        ActionClass(
            label,
            name.format(label),
            "",
            event="FX" if label % 2 else "BB",
            set_name=f"set {label % 4}",
            attributes=(1,),
        )
        for label in range(num_classes)
    ]
    ids = [f"video {number}" for number in range(2 * num_classes)]
    videos = {
        video_id: Video(video_id, path if number % 2 == 0 else folder / "gone.mp4", number // 2, 30)
        for number, video_id in enumerate(ids)
    }
    labels = np.arange(2 * num_classes) // 2
    return ReportData(
        classes=Labels("test", classes, ["", "leap"]),
        ids=ids,
        labels=labels,
        description="Evaluated 16 of 16 videos.",
        videos=videos,
        num_training_videos=[10 * label for label in range(num_classes)],
    )


def model_scores(data, name, seed):
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(len(data.ids), len(data.classes.classes)))
    logits[np.arange(len(data.ids)), data.labels] += 1
    scores = np.exp(logits)
    return ModelScores(name, scores / scores.sum(axis=1, keepdims=True))


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    data = report_data(folder)
    models = [model_scores(data, "slowonly", 0), model_scores(data, "video_text", 1)]
    write_html_report(folder / "report.html", data, models)
    return folder / "report.html", data, models


def test_the_numbers_in_the_page_are_those_of_the_scores(report):
    path, data, models = report
    page = Page(path.read_text(encoding="utf-8"))
    charts = json.loads(next(script for script in page.scripts if script.startswith("{")))
    text = " ".join(page.text)
    for position, model in enumerate(models, start=1):
        right = model.scores.argmax(1) == data.labels
        assert f"{100 * right.mean():.1f} %" in text
        counts = charts[f"confusion-{position}"]["data"][0]["customdata"]
        assert np.sum(_decoded(counts)) == len(data.ids)
        assert np.trace(_decoded(counts)) == right.sum()
    places = [attributes["data-chart"] for _, attributes in page.elements if "data-chart" in attributes]
    assert sorted(places) == sorted(charts), "every chart has its place and every place its chart"


def _decoded(values):
    """Decode Plotly's arrays, which are base64 of a stated type."""
    if not isinstance(values, dict):
        return np.array(values)
    import base64

    array = np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"])
    return array.reshape([int(side) for side in str(values["shape"]).split(",")]) if "shape" in values else array


def test_the_page_names_no_address_outside_itself(report):
    content = report[0].read_text(encoding="utf-8")
    page = Page(content)
    for tag, attributes in page.elements:
        for name in ("src", "href", "poster", "action", "data"):
            assert re.match(r"data:|#|$", attributes.get(name) or ""), (tag, attributes)
    policy = next(attributes["content"] for tag, attributes in page.elements if attributes.get("http-equiv"))
    assert "default-src 'none'" in policy and "http" not in policy


def test_a_video_that_is_gone_is_said_to_be(report):
    content = report[0].read_text(encoding="utf-8")
    assert "data:video/mp4;base64," in content and "data:image/jpeg;base64," in content
    assert "cannot be read" in content


def test_hostile_names_stay_text(tmp_path):
    data = report_data(tmp_path, name=HOSTILE + " {}")
    data = ReportData(data.classes, [HOSTILE + video_id for video_id in data.ids], data.labels, HOSTILE)
    write_html_report(tmp_path / "report.html", data, [model_scores(data, HOSTILE, 0)])
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert not [tag for tag, attributes in page.elements if tag == "img" or "onerror" in attributes]
    assert len(page.scripts) == 3 and HOSTILE in "".join(page.text)


def test_models_of_other_videos_are_refused(tmp_path):
    data = report_data(tmp_path)
    with pytest.raises(ValueError, match=r"short has scores of shape \(3, 8\); 16 videos and 8 classes"):
        write_html_report(tmp_path / "report.html", data, [ModelScores("short", np.ones((3, 8)) / 8)])
    with pytest.raises(ValueError, match="at least one model"):
        write_html_report(tmp_path / "report.html", data, [])


def assert_points_are_at_their_values(browser):
    """Measure in pixels where the points of the chart of intervals are drawn."""
    shown = browser.execute_script("""
        const chart = document.querySelector("[data-chart=intervals]"), { xaxis } = chart._fullLayout;
        const traces = [...chart.querySelectorAll(".scatterlayer .trace")];
        return traces.flatMap((trace, number) => [...trace.querySelectorAll("path.point")].map((path, place) => {
          const { e, f } = path.transform.baseVal.consolidate().matrix;
          return [xaxis.p2l(e), chart.data[number].x[place], f]; }));""")
    assert len(shown) == 4
    for drawn, value, _ in shown:
        assert drawn == pytest.approx(value, abs=0.01)
    assert len({round(height) for *_, height in shown}) == 4, "an interval covers another"


def assert_it_fits_a_sheet_of_paper(browser):
    """Print a dark page, and look at its charts at that moment and afterwards."""
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": dark})
    widths = "[...document.querySelectorAll('.main-svg')].map((chart) => chart.getBoundingClientRect().width)"
    before = browser.execute_script(f"return {widths}")
    browser.execute_script(
        "addEventListener('beforeprint', () => { window.printed = ["
        f"{widths}, getComputedStyle(document.querySelector('.xtick text')).fill]; }})"
    )
    browser.execute_cdp_cmd("Page.printToPDF", {"paperWidth": 8.27, "paperHeight": 11.69})
    printed, ink = browser.execute_script("return window.printed")
    inches = 8.27 - 2 * 0.4  # what the browser's margins leave of A4
    assert max(printed) <= 96 * inches and ink == "rgb(0, 0, 0)"
    assert browser.execute_script(f"return {widths}") == before


@pytest.mark.slow
@pytest.mark.parametrize("num_classes", [8, 99, 288])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_works_in_a_browser(num_classes, width, tmp_path):
    pytest.importorskip("selenium", reason="the demo extra is not installed")
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    data = report_data(tmp_path, num_classes)
    write_html_report(tmp_path / "report.html", data, [model_scores(data, "a", 0), model_scores(data, "b", 1)])
    with chromium(tmp_path, width) as browser:
        browser.get("about:blank")
        browser.get_log("performance")  # discard the requests of the browser's own first page
        browser.get((tmp_path / "report.html").as_uri())
        places = browser.find_elements(By.CSS_SELECTOR, "[data-chart]")
        drawn = lambda page: len(page.find_elements(By.CSS_SELECTOR, "[data-chart] svg.main-svg")) >= len(places)  # noqa: E731
        WebDriverWait(browser, 60).until(drawn)
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
        messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
        requested = [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]
        assert all(re.match(r"file:|data:|blob:", address) for address in requested), requested
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth + 1")
        shares = browser.execute_script(
            "return [...document.querySelectorAll('[data-chart]')].map((place) =>"
            " [place.dataset.chart, place._fullLayout._size.w / place.parentElement.clientWidth])"
        )
        assert [name for name, share in shares if not 0.4 < share < 1] == [], "names leave no room for what they name"
        assert_points_are_at_their_values(browser)
        assert_it_fits_a_sheet_of_paper(browser)
        heading = browser.find_element(By.XPATH, "//th/button[normalize-space()='videos']")
        browser.execute_script("arguments[0].click()", heading)
        table = heading.find_element(By.XPATH, "ancestor::table")
        shown = [
            int(cell.get_attribute("data-value")) for cell in table.find_elements(By.CSS_SELECTOR, "td:nth-child(5)")
        ]
        assert shown == sorted(shown)
