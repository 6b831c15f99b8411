"""A real Chromium for the tests of pages."""

import contextlib
import shutil

import pytest


@contextlib.contextmanager
def chromium(folder, width, *arguments):
    """Yield a browser of a width in pixels that records what it requests; its profile is in a folder of the test.
    `arguments` are its own, without the dashes."""
    pytest.importorskip("selenium", reason="the demo extra is not installed")
    programs = [shutil.which(program) for program in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("needs the programs chromium and chromedriver")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = programs[0]
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", *arguments):
        options.add_argument(f"--{argument}")
    options.add_argument(f"--user-data-dir={folder / 'browser'}")
    metrics = {"width": width, "height": 900, "pixelRatio": 1.0}
    options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with Chrome(options, ChromeService(programs[1])) as browser:
        browser.set_script_timeout(120)
        yield browser
