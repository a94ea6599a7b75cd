"""The page in a real Chromium."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np
import pytest

from edgeseg.images import read_mask
from edgeseg.runtime.alarms.roi import RoiSet
from edgeseg.runtime.preview import PreviewSink
from tests.runtime.preview.client import Client
from tests.runtime.preview.loop import Alarms, Run

pytestmark = pytest.mark.system

_PIXELS = """
const canvas = document.createElement("canvas"), image = document.getElementById("picture");
canvas.width = 64; canvas.height = 48;
const pen = canvas.getContext("2d");
pen.drawImage(image, 0, 0, 64, 48);
return Array.from(pen.getImageData(0, 0, 64, 48).data);
"""

_STILL = """
const tell = arguments[arguments.length - 1], image = new Image();
image.onload = () => {
  const canvas = document.createElement("canvas");
  canvas.width = 64; canvas.height = 48;
  const pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0, 64, 48);
  tell(Array.from(pen.getImageData(0, 0, 64, 48).data));
};
image.src = "/frame/0.jpg?" + Math.random();
"""


class Browser:
    """A Chromium that keeps a log of its console and network."""

    def __init__(self, driver: Any, client: Client) -> None:
        self.driver, self.client = driver, client

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def pixels(self) -> np.ndarray:
        return np.asarray(self.run(_PIXELS), float)

    def served(self) -> np.ndarray:
        """The same from a still picture, asked for now."""
        return np.asarray(self.driver.execute_async_script(_STILL), float)

    def text(self, name: str) -> str:
        return str(self.run("return document.getElementById(arguments[0]).textContent", name))

    def until(self, true: Callable[[], bool]) -> None:
        self.client.until(true)

    def keys(self, *names: str) -> None:
        from selenium.webdriver import ActionChains

        for name in names:
            ActionChains(self.driver, duration=0).send_keys(name).perform()

    def focused(self) -> str:
        return str(
            self.run("const e = document.activeElement; return e.id || e.getAttribute('aria-label') || e.tagName")
        )

    def is_live(self) -> bool:
        return self.text("connection") == "live" and bool(
            self.run("return document.getElementById('picture').complete")
        )


@pytest.fixture
def browser(page: PreviewSink, client: Client, alarms: Alarms, tmp_path: Path) -> Iterator[Browser]:
    """The page, open and live; at the end nothing may have gone wrong in it."""
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="selenium is not installed; pip install 'edgeseg[dev]'"
    )
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("chromium and chromedriver are not installed; apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path}/chromium",
    ):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path / "downloads")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(chromedriver))
    try:
        opened = Browser(driver, client)
        driver.set_window_size(1280, 1000)
        driver.get("about:blank")
        driver.get_log("performance")  # of the browser's own first page
        driver.get(page.url)
        opened.until(opened.is_live)
        yield opened
        bad = [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        sent = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        asked = {item["params"]["request"]["url"] for item in sent if item["method"] == "Network.requestWillBeSent"}
    finally:
        driver.quit()
    assert not bad
    assert asked and all(url.startswith(page.url) for url in asked), asked


def test_what_a_person_does(browser: Browser, run: Run, alarms: Alarms, tmp_path: Path) -> None:
    first = browser.pixels()
    browser.until(lambda: bool(np.abs(browser.pixels() - first).mean() > 0.1))

    alarms.on.append({"alarm": "too many cars", "source": "0"})
    browser.until(lambda: "too many cars" in browser.text("alarms"))
    browser.run("document.getElementById('picture').scrollIntoView()")

    browser.driver.find_element("id", "pause").click()
    browser.until(lambda: "Paused. This picture is old" in browser.text("stale"))
    browser.until(lambda: browser.text("pause") == "Go on" and run.state.paused)
    browser.until(lambda: bool(np.abs(browser.pixels() - browser.served()).mean() < 1))
    painted = browser.pixels()
    for box in browser.driver.find_elements("css selector", "#classes input"):
        box.click()
        name = box.get_attribute("data-name")
        browser.until(
            lambda name=name: any(c["hidden"] and c["name"] == name for c in browser.client.state()["classes"])
        )
    browser.until(lambda: bool(np.abs(browser.pixels() - painted).mean() > 5))
    plain = browser.pixels()
    browser.client.send("POST", "/api/classes", {"hidden": []})
    browser.until(lambda: bool(np.abs(browser.pixels() - painted).mean() < 1))
    browser.client.send("POST", "/api/classes", {"hidden": ["road"]})
    browser.until(lambda: bool(1 < np.abs(browser.pixels() - painted).mean() < np.abs(plain - painted).mean()))
    browser.client.send("POST", "/api/classes", {"hidden": []})

    browser.driver.find_element("id", "snapshot").click()
    browser.until(lambda: "Saved" in browser.text("snapshot-links"))
    link = browser.driver.find_element("css selector", "#snapshot-links a:last-child")
    mask = tmp_path / "snapshots" / str(link.get_attribute("download"))
    _, label = run.rendered("0", int(link.text.split()[-1]))
    np.testing.assert_array_equal(read_mask(mask), label)
    link.click()
    download = tmp_path / "downloads" / mask.name
    browser.until(lambda: download.exists() and download.read_bytes() == mask.read_bytes())

    browser.driver.find_element("id", "pause").click()
    browser.until(browser.is_live)


def test_by_keyboard_alone(browser: Browser, run: Run, painter: Any, regions: RoiSet) -> None:
    from selenium.webdriver.common.keys import Keys

    walked = []
    for _ in range(60):
        browser.keys(Keys.TAB)
        walked.append(browser.focused())
        outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or walked[-1] == "BODY", f"{walked[-1]} shows no focus"
        if walked[-1] in walked[:-1]:
            break
    for name in ("source-select", "pause", "snapshot", "alpha", "road", "source-uri", "roi-draw", "roi-name"):
        assert name in walked, walked
    unnamed = browser.run(
        "return [...document.querySelectorAll('button,input,select')].filter(e => "
        "!e.labels?.length && !e.getAttribute('aria-label') && !e.textContent.trim()).map(e => e.id)"
    )
    assert not unnamed

    browser.run("document.getElementById('alpha').focus()")
    browser.keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    browser.until(lambda: abs(painter.alpha - 0.6) < 1e-6)
    browser.run("document.activeElement.blur()")
    browser.keys("p")
    browser.until(lambda: run.state.paused)
    browser.until(lambda: browser.text("pause") == "Go on")
    browser.keys("p")
    browser.until(lambda: not run.state.paused)
    browser.keys("1")
    browser.until(lambda: painter.hidden == {run.spec.classes[0]})
    browser.keys("s")
    browser.until(lambda: "Saved" in browser.text("snapshot-links"))

    browser.run("document.getElementById('roi-draw').focus()")
    browser.keys(Keys.ENTER, Keys.ENTER, Keys.ARROW_RIGHT, Keys.ENTER, Keys.ARROW_DOWN, Keys.ENTER, Keys.TAB, "lane")
    browser.keys(Keys.TAB, Keys.ENTER)
    browser.until(lambda: regions.to_json()["rois"] == {"lane": [[0.5, 0.5], [0.52, 0.5], [0.52, 0.52]]})


def test_regions_and_sources_by_mouse(browser: Browser, run: Run, regions: RoiSet) -> None:
    from selenium.webdriver import ActionChains

    browser.driver.find_element("id", "roi-name").send_keys("lane")
    browser.driver.find_element("id", "roi-draw").click()
    picture = browser.driver.find_element("id", "picture")
    width, height = picture.size["width"], picture.size["height"]
    corners = [(0.25, 0.25), (0.75, 0.25), (0.5, 0.75)]
    browser.run("arguments[0].scrollIntoView({block: 'center'})", picture)
    for x, y in corners:
        move = ActionChains(browser.driver, duration=0)
        move.move_to_element_with_offset(picture, round((x - 0.5) * width), round((y - 0.5) * height)).click().perform()
    browser.driver.find_element("id", "roi-save").click()
    browser.until(lambda: "lane" in regions.to_json()["rois"])
    np.testing.assert_allclose(regions.to_json()["rois"]["lane"], corners, atol=0.01)

    browser.driver.find_element("id", "source-uri").send_keys("/etc/passwd\n")
    browser.until(lambda: "command line only" in browser.text("message"))
    browser.driver.get_log("browser")  # the refusal that was asked for
    browser.driver.find_element("id", "source-uri").clear()
    browser.driver.find_element("id", "source-uri").send_keys("demo://street?seed=5\n")
    browser.until(lambda: browser.run("return document.getElementById('source-select').value") == "1")
    browser.until(browser.is_live)
    browser.driver.find_element("css selector", "[aria-label='Remove source 1']").click()
    browser.until(lambda: run.state.sources["1"].status == "ended")
    browser.until(lambda: browser.run("return document.getElementById('source-select').value") == "0")
    browser.until(browser.is_live)


def test_an_old_picture_is_never_shown_as_live(browser: Browser, page: PreviewSink, run: Run) -> None:
    run.frozen.add("0")
    run.state.sources["0"].status = "stalled"
    browser.until(lambda: "Source stalled. This picture is" in browser.text("stale"))
    assert browser.text("connection") == "stalled"
    run.state.sources["0"].status = "streaming"
    browser.until(lambda: "No new picture. This picture is" in browser.text("stale"))
    run.frozen.clear()
    browser.until(browser.is_live)
    assert browser.run("return document.getElementById('stale').hidden")
    page.close()
    browser.until(lambda: browser.text("connection") == "connection lost")
    assert "old" in browser.text("stale")
    assert browser.run("return document.getElementById('stage').classList.contains('old')")
    browser.driver.get_log("browser")  # the connection that was refused


def test_narrow_phone(browser: Browser) -> None:
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    browser.driver.refresh()
    browser.until(browser.is_live)
    assert browser.run("return innerWidth") == 360
    assert browser.run("return document.documentElement.scrollWidth") <= 360
    wide = "return [...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > 361 && "
    assert not browser.run(wide + "!e.closest('.scroll')).map(e => e.outerHTML)")
    small = "return [...document.querySelectorAll('button')].filter(e => e.offsetParent && e.offsetHeight < 32).length"
    assert browser.run(small) == 0


def test_a_hidden_tab_asks_nothing(browser: Browser, page: PreviewSink) -> None:
    browser.driver.switch_to.new_window("tab")
    browser.until(lambda: not page._pictures.viewers)
    browser.driver.switch_to.window(browser.driver.window_handles[0])
    browser.until(lambda: len(page._pictures.viewers) == 1)
    browser.until(browser.is_live)


_ANSWERED_WHEN_HIDDEN = """
const asked = window.fetch;
window.fetch = async (...request) => {
  const answer = await asked(...request);
  await new Promise((go) => document.addEventListener("visibilitychange", () => setTimeout(go, 100), { once: true }));
  return answer;
};
"""


def test_a_tab_hidden_while_it_waits_for_an_answer_asks_nothing(browser: Browser, page: PreviewSink) -> None:
    browser.run(_ANSWERED_WHEN_HIDDEN)
    time.sleep(1)  # it asks twice a second, so that it waits for an answer now
    browser.driver.switch_to.new_window("tab")
    browser.until(lambda: not page._pictures.viewers)
    time.sleep(1.5)  # timers of a hidden tab run once a second
    assert not page._pictures.viewers
