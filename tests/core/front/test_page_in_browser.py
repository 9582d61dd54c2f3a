"""The page in Debian's chromium: what a person sees, draws, types and reads."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="requirements/front.txt is not installed")
pytest.importorskip("selenium", reason="selenium is not installed")

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.core.front.serving import FILES, ROOT, TABLE, Served, serving

_CHROMIUM, _DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
if not (_CHROMIUM.exists() and _DRIVER.exists()):
    pytest.skip(f"{_CHROMIUM} or {_DRIVER} is missing", allow_module_level=True)

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_WAIT_S = 300
_MUG, _BOX = (189, 193, 266, 300), (330, 152, 501, 283)
_SIZES = ("length_m", "width_m", "height_m", "camera_distance_m")

# Text whose contrast is below WCAG AA: 4.5, or 3 for large text. Only opaque backgrounds occur.
_LOW_CONTRAST = """
const light = (rgb) => {
  const [r, g, b] = rgb.map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
const ground = (element) => {
  for (let one = element; one; one = one.parentElement) {
    const colour = parts(getComputedStyle(one).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const low = [], seen = [];
const check = (element, style, text) => {
  const a = light(parts(style.color)), b = light(ground(element));
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  seen.push(text);
  if (ratio < (large ? 3 : 4.5)) low.push(`${text}: ${ratio.toFixed(2)}`);
};
for (const element of document.body.querySelectorAll("*:not(svg, svg *)")) {
  if (!element.checkVisibility() || element.disabled) continue;
  const own = [...element.childNodes].filter((one) => one.nodeType === 3 && one.data.trim());
  if (own.length) check(element, getComputedStyle(element), own[0].data.trim());
  if (element.placeholder) {
    check(element, getComputedStyle(element, "::placeholder"), element.placeholder);
  }
}
return [low, seen.length];
"""

_UNNAMED = """
return [...document.querySelectorAll("button, input, summary, [tabindex]")]
  .filter((one) => one.checkVisibility())
  .filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim()
    || (one.labels && one.labels.length)))
  .map((one) => one.outerHTML);
"""


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(*FILES, "--sensor", "simulated") as page:
        yield page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(_CHROMIUM)
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(_DRIVER)))
    driver.set_script_timeout(_WAIT_S)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: webdriver.Chrome, served: Served) -> Iterator[webdriver.Chrome]:
    """The page of the rendered table, freshly loaded; nothing may be on the console afterwards."""
    look(browser, 1280, "light")
    load(browser, served.url)
    yield browser
    assert browser.get_log("browser") == []


def look(browser: webdriver.Chrome, width: int, theme: str) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)


def load(browser: webdriver.Chrome, url: str) -> None:
    browser.get(url)
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#color svg"))


def until(browser: webdriver.Chrome, condition: Callable[[], Any]) -> Any:
    return WebDriverWait(browser, _WAIT_S).until(lambda _: condition())


def texts(browser: webdriver.Chrome, selector: str) -> list[str]:
    return [one.text for one in browser.find_elements(By.CSS_SELECTOR, selector)]


def drag(browser: webdriver.Chrome, box: tuple[int, int, int, int]) -> None:
    """Drag over the colour image; a corner is in the middle of the box's first or last pixel."""
    picture = browser.find_element(By.ID, "color")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", picture)
    size = picture.size

    def offset(u: float, v: float) -> tuple[int, int]:
        across, down = (u + 0.5) / 640 - 0.5, (v + 0.5) / 480 - 0.5
        return round(across * size["width"]), round(down * size["height"])

    x1, y1, x2, y2 = box
    start, end = offset(x1, y1), offset(x2 - 1, y2 - 1)
    actions = ActionChains(browser, duration=20)
    actions.move_to_element_with_offset(picture, *start).click_and_hold()
    actions.move_to_element_with_offset(picture, *end).release().perform()


def by_numbers(browser: webdriver.Chrome, label: str, box: tuple[int, ...]) -> None:
    form = browser.find_element(By.ID, "by-numbers")
    if not form.is_displayed():
        browser.find_element(By.CSS_SELECTOR, "details summary").click()
    for name, value in zip(("label", "x1", "y1", "x2", "y2"), (label, *box), strict=False):
        field = form.find_element(By.NAME, name)
        field.clear()
        field.send_keys(str(value))
    form.find_element(By.TAG_NAME, "button").click()


def measured(browser: webdriver.Chrome, count: int) -> list[list[float]]:
    """The values of each region, metres, once all of them are there."""
    until(
        browser,
        lambda: len(browser.find_elements(By.CSS_SELECTOR, "#regions dd data")) == 4 * count,
    )
    values = browser.execute_script(
        "return [...document.querySelectorAll('#regions dd data')].map((one) => Number(one.value))"
    )
    return [values[4 * index : 4 * index + 4] for index in range(count)]


def printed(*regions: str) -> dict[str, Any]:
    """What `sdvlm measure --json` prints."""
    command = [sys.executable, "-m", "sdvlm_core.cli", "measure", *FILES, "--sensor", "simulated"]
    words = [word for region in regions for word in ("--region", region)]
    done = subprocess.run(
        [*command, *words, "--json"],
        cwd=TABLE,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def theme_of(browser: webdriver.Chrome) -> str:
    return str(browser.execute_script("return document.documentElement.dataset.theme"))


def focused(browser: webdriver.Chrome) -> WebElement:
    return browser.switch_to.active_element


def test_a_dragged_box_has_the_numbers_of_the_command(page):
    drag(page, _MUG)
    (values,) = measured(page, 1)
    # The picture is smaller than the image, so the box is known from what was sent.
    text = page.execute_script("return measured.copy.cli")
    box = text.rpartition("--region ")[2].removesuffix(" --json").strip("'")
    sent = [float(value) for value in box.partition("=")[2].split(",")]
    assert max(abs(a - b) for a, b in zip(sent, _MUG, strict=True)) <= 2
    (region,) = printed(box)["regions"]
    assert values == [region[key] for key in _SIZES]
    height = next(text for text in texts(page, "#regions .sizes > div") if "Height" in text)
    low, high = (1000 * end for end in region["interval_90"]["height_m"])
    expected = f"{1000 * region['height_m']:.1f} ± {1000 * region['std_dev']['height_m']:.1f} mm"
    assert height.split("\n") == ["Height", expected, f"90 %: {low:.1f} \u2013 {high:.1f}"]


def test_boxes_given_by_numbers_have_a_distance_and_can_be_copied(page):
    by_numbers(page, "red mug", _MUG)
    measured(page, 1)
    by_numbers(page, "box", _BOX)
    values = measured(page, 2)
    document = printed("red mug=189,193,266,300", "box=330,152,501,283")
    assert values == [[region[key] for key in _SIZES] for region in document["regions"]]
    (pair,) = document["pairs"]
    (shown,) = texts(page, "#pairs li")
    assert "red mug \u2013 box" in shown
    assert f"{1000 * pair['gap_m']:.1f} ± {1000 * pair['gap_std_dev_m']:.1f} mm" in shown
    page.find_element(By.ID, "copy").click()
    command, call, python = texts(page, "#copy-texts pre")
    assert "--region 'red mug=189,193,266,300'" in command
    assert "/spatial_query/measure_regions" in call
    assert "sdvlm.measure(frame, regions, 'simulated')" in python
    page.find_element(By.CSS_SELECTOR, "#copy-dialog form button").click()
    page.find_element(By.ID, "clear").click()
    assert until(page, lambda: not texts(page, "#regions li"))


def test_a_click_measures_a_point_and_warnings_are_in_words(page):
    drag(page, (20, 300, 22, 302))  # too short for a box: a click on the bare table
    until(page, lambda: texts(page, "#regions .notes li"))
    assert "Nothing stands out" in " ".join(texts(page, "#regions .notes li"))
    assert all(
        text.startswith(("Do not act", "Note")) for text in texts(page, "#regions .notes li")
    )


def test_a_question_streams_and_is_checked_with_the_named_region(page):
    by_numbers(page, "red mug", _MUG)
    measured(page, 1)
    page.execute_script(
        "window.parts = []; new MutationObserver(() => { const said = document.querySelector"
        "('#answers .said'); if (said) parts.push(said.textContent); })"
        ".observe(document.getElementById('answers'), {subtree: true, childList: true})"
    )
    field = page.find_element(By.ID, "question")
    field.send_keys("How tall is the red mug?", Keys.ENTER)
    until(page, lambda: texts(page, "#answers .meta"))
    (said,) = texts(page, "#answers .said")
    parts = page.execute_script("return parts")
    growing = [part for part in dict.fromkeys(parts) if said.startswith(part.rstrip(".") or "?")]
    assert len(growing) > 2, parts
    assert "checked with red mug" in texts(page, "#answers .meta")[0]
    assert "measured from depth" in " ".join(texts(page, "#answers .facts"))
    assert said in page.find_element(By.ID, "announce").get_attribute("textContent")
    field.send_keys("How tall is the sofa?", Keys.ENTER)
    until(page, lambda: len(texts(page, "#answers .meta, #answers .error")) == 2)
    assert texts(page, "#answers .asked") == ["How tall is the sofa?", "How tall is the red mug?"]


def test_everything_can_be_done_with_the_keyboard(page):
    body = page.find_element(By.TAG_NAME, "body")
    for _ in range(12):
        ActionChains(page).send_keys(Keys.TAB).perform()
        if focused(page).get_attribute("id") == "color":
            break
    assert focused(page).get_attribute("id") == "color"
    outline = page.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    # From the middle (320, 240) in steps of ten pixels to the mug, and around it.
    keys = [Keys.ARROW_LEFT] * 14 + [Keys.ARROW_UP] * 5 + [Keys.ENTER]
    keys += [Keys.ARROW_RIGHT] * 9 + [Keys.ARROW_DOWN] * 12 + [Keys.ENTER]
    ActionChains(page).send_keys(*keys).perform()
    (values,) = measured(page, 1)
    assert values[2] == pytest.approx(0.11, abs=0.02)
    for _ in range(20):
        ActionChains(page).send_keys(Keys.TAB).perform()
        if focused(page).get_attribute("id") == "question":
            break
    ActionChains(page).send_keys("How tall is the red mug?", Keys.ENTER).perform()
    until(page, lambda: texts(page, "#answers .meta"))
    assert body.is_displayed()


def test_what_people_and_models_write_is_text_and_never_markup(page):
    by_numbers(page, "<img src=x onerror=alert(1)>", _MUG)
    measured(page, 1)
    page.find_element(By.ID, "question").send_keys("<b>How</b> tall?", Keys.ENTER)
    until(page, lambda: texts(page, "#answers .meta, #answers .error"))
    assert texts(page, "#answers .asked") == ["<b>How</b> tall?"]
    assert len(page.find_elements(By.TAG_NAME, "img")) == 1  # the colour image


def test_text_has_contrast_controls_have_names_and_nothing_is_cut(page):
    by_numbers(page, "red mug", _MUG)
    by_numbers(page, "table", (20, 300, 60, 340))
    measured(page, 2)
    page.find_element(By.ID, "question").send_keys("How tall is the red mug?", Keys.ENTER)
    until(page, lambda: texts(page, "#answers .meta"))
    for width, theme in itertools.product((1280, 390), ("light", "dark")):
        look(page, width, theme)
        until(page, lambda wanted=theme: theme_of(page) == wanted)
        low, count = page.execute_script(_LOW_CONTRAST)
        assert low == [], (width, theme)
        assert count > 30
        assert page.execute_script(_UNNAMED) == []
        root = "document.documentElement"
        assert page.execute_script(f"return {root}.scrollWidth <= {root}.clientWidth"), width


def test_the_theme_can_be_chosen_and_stays(page):
    page.find_element(By.ID, "theme").click()
    page.refresh()
    until(page, lambda: page.find_elements(By.CSS_SELECTOR, "#color svg"))
    assert theme_of(page) == "dark"
    page.execute_script("localStorage.clear()")


def test_a_bag_moves_in_time_and_measures_the_same_box_again(browser):
    look(browser, 1280, "light")
    bag = ("--bag", str(ROOT / "demo" / "table"), "--sensor", "simulated", "--model", "none")
    with serving(*bag) as served:
        load(browser, served.url)
        assert not browser.find_element(By.ID, "question").is_enabled()
        by_numbers(browser, "can", (364, 398, 405, 450))
        (first,) = measured(browser, 1)
        stamp = browser.find_element(By.ID, "age").text
        slider = browser.find_element(By.ID, "time")
        slider.send_keys(Keys.END)
        until(browser, lambda: browser.find_element(By.ID, "age").text != stamp)
        copied = "return measured.copy.cli"
        until(browser, lambda: "--time 1.8" in browser.execute_script(copied))
        assert measured(browser, 1) == [first]  # the table of this bag stands still
        assert "1.80 s" in browser.find_element(By.ID, "time-value").text
        assert browser.get_log("browser") == []
        served.stop(signal.SIGINT)
        by_numbers(browser, "again", (364, 398, 405, 450))
        until(browser, lambda: browser.find_element(By.ID, "measure-problem").is_displayed())
        assert "does not answer" in browser.find_element(By.ID, "measure-problem").text


def test_a_live_node_is_measured_and_asked(browser):
    pytest.importorskip("rclpy", reason="a live node needs ROS 2")
    from tests.ros.conftest import running

    inside = ("--ros-args", "-r", "__ns:=/paged")
    options = ("-p", "model:=nano", "-p", "sensor:=simulated", "-p", "max_age:=60.0")
    with (
        running("sdvlm_ros.node", *inside, *options),
        running("sdvlm_ros.simulated_camera", *inside, "-p", "rate:=2.0"),
        serving("--node", "/paged/spatial_query") as live,
    ):
        browser.get("about:blank")
        browser.get_log("browser")  # of the page before, whose server has ended
        look(browser, 1280, "light")
        load(browser, live.url)
        by_numbers(browser, "red mug", _MUG)
        ((_, _, height, _),) = measured(browser, 1)
        assert height == pytest.approx(0.11, abs=0.005)
        browser.find_element(By.ID, "question").send_keys("How tall is the red mug?", Keys.ENTER)
        until(browser, lambda: texts(browser, "#answers .meta, #answers .error"))
        (said,) = texts(browser, "#answers .said")
        assert said.endswith(" m.")
        assert browser.get_log("browser") == []
