"""The page in headless Chromium: clicks, sorting, threshold, keyboard, names as text, widths, print."""

import base64
import shutil

import numpy as np
import pytest
from pages import HOSTILE, made_results, made_sets
from sklearn.metrics import auc, roc_auc_score

from featood.report import write_report

HEADS = ("msp", "heat-gmm", "knn", "x" * 80, *HOSTILE[:2])


@pytest.fixture(scope="module")
def browser():
    """A driver of Chromium; no driver is ever downloaded."""
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium or chromedriver is not on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=Service(driver)) as browser:
        yield browser


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A page of six heads on six sets, and its results and scores."""
    results, scores = made_results(HEADS, ("svhn", "textures", "y" * 60, "near-1", "near-2", HOSTILE[0]))
    results["groups"] = {"near": ["near-1", "near-2"], "far": ["svhn", "textures"]}
    results["id"] |= {
        "reliability": {"confidence": [0.2, 0.9], "accuracy": [0.1, 1.0], "rows": [5, 195]},
        "classes": [{"class": name, "n": 3, "accuracy": 0.5} for name in HOSTILE],
    }
    sets, predictions = made_sets(results, scores)
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, results, scores, sets=sets, predictions=predictions)
    return path, results, scores


@pytest.fixture
def page(browser, made):
    """The open page at 1280 pixels; every test ends without a message in the console."""
    browser.get_log("browser")
    resize(browser, 1280)
    browser.get(made[0].as_uri())
    wait(browser)
    yield browser
    assert browser.get_log("browser") == []


def resize(browser, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def wait(browser):
    """Wait for the next two frames, in the first of which everything is drawn."""
    browser.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
    )


def find(browser, css):
    return browser.find_element("css selector", css)


def texts(browser, css):
    return [one.text for one in browser.find_elements("css selector", css) if one.is_displayed()]


def choose(browser, css, value):
    from selenium.webdriver.support.ui import Select

    Select(find(browser, css)).select_by_visible_text(value)
    wait(browser)


def column(browser, number):
    cells = texts(browser, f"table.matrix tbody tr td:nth-child({number})")
    return [float(cell) for cell in cells]


def test_columns_are_sorted_by_clicks_and_the_keyboard(page):
    from selenium.webdriver.common.keys import Keys

    button = find(page, "table.matrix thead th:nth-child(5) button")
    button.click()
    assert column(page, 5) == sorted(column(page, 5), reverse=True)
    assert find(page, "table.matrix th:nth-child(5)").get_attribute("aria-sort") == "descending"
    button.send_keys(Keys.ENTER)
    assert column(page, 5) == sorted(column(page, 5))
    find(page, "table.matrix thead th:first-child button").click()
    names = texts(page, "table.matrix tbody th")
    assert names.index("heat-gmm") < names.index("knn") < names.index("msp")
    assert len(page.find_elements("css selector", "[aria-sort]")) == 1


def test_the_metric_is_chosen_and_sorted_with_the_best_first(page, made):
    find(page, "table.matrix thead th:nth-child(2) button").click()
    choose(page, "#metric", "FPR95 ↓")
    found = column(page, 2)
    assert found == sorted(found)
    results = made[1]
    rows = {row["ood"]: row for row in results["rows"] if row["head"] == "msp"}
    place = texts(page, "table.matrix tbody th").index("msp")
    mean = np.mean([row["fpr95"] for row in rows.values()])
    assert found[place] == pytest.approx(100 * mean, abs=0.051)
    assert texts(page, "td.best")


def test_heads_and_sets_are_filtered(page):
    find(page, "#filter").send_keys("KNN")
    assert texts(page, "table.matrix tbody th") == ["knn"] and texts(page, "#shown") == ["1 of 6 heads"]
    choose(page, "#group", "near")
    assert texts(page, "table.matrix thead th button > span") == ["near", "near-1", "near-2"]


def test_a_click_on_a_cell_chooses_head_and_set(page, made):
    row = texts(page, "table.matrix tbody th").index("knn")
    names = texts(page, "table.matrix thead button > span")
    td = page.find_elements("css selector", "table.matrix tbody tr")[row].find_elements("css selector", "td")
    cell = td[names.index("textures")]
    cell.click()
    wait(page)
    assert find(page, "#head option:checked").text == "knn"
    assert find(page, "#set option:checked").text == "textures"
    assert "chosen" in cell.get_attribute("class")
    (auroc,) = [row["auroc"] for row in made[1]["rows"] if (row["head"], row["ood"]) == ("knn", "textures")]
    assert find(page, "#auroc").text == f"AUROC {100 * auroc:.2f} %"
    assert find(page, "#explore").rect["y"] - page.execute_script("return scrollY") < 500


def confusion(page):
    return {key: int(find(page, f"#{key}").text.replace(",", "")) for key in ("tn", "fp", "fn", "tp")}


def check_decisions(page, scores, head, name):
    """Compare confusion and rates on the page with counts over all rows at a threshold."""
    position = int(find(page, "#threshold").get_property("value"))
    threshold = page.execute_script(f"return state.curve.thresholds[{position}]")
    known, odd = scores[head, "mnist"], scores[head, name]
    # the page has nine digits of a threshold
    flagged = (known > threshold + 1e-8).sum(), (odd > threshold + 1e-8).sum()
    expected = {"tn": 200 - flagged[0], "fp": flagged[0], "fn": 100 - flagged[1], "tp": flagged[1]}
    assert confusion(page) == expected
    rates = texts(page, "#rates li")
    assert rates[0].split()[-2] == f"{100 * flagged[0] / 200:.2f}"
    (own,) = [line for line in rates if line.startswith(f"{name} ")]
    assert own.split()[-2] == f"{100 - flagged[1]:.2f}"
    return threshold


def test_the_threshold_is_moved_by_keyboard_mouse_and_button(page, made):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    choose(page, "#head", "knn")
    choose(page, "#set", "textures")
    scores = made[2]
    first = check_decisions(page, scores, "knn", "textures")
    assert confusion(page)["fp"] == 10, "at first, 95 % of ID are accepted"
    find(page, "#threshold").send_keys(*[Keys.ARROW_LEFT] * 20)
    wait(page)
    second = check_decisions(page, scores, "knn", "textures")
    assert second < first
    plot = find(page, "#histogram svg")
    # from the centre to the left, over a third of the width
    drag = ActionChains(page).move_to_element(plot).click_and_hold()
    drag.move_by_offset(-plot.size["width"] // 3, 10).release().perform()
    wait(page)
    third = check_decisions(page, scores, "knn", "textures")
    assert third != second and confusion(page)["fp"] > 20
    find(page, "#reset").click()
    wait(page)
    assert check_decisions(page, scores, "knn", "textures") == first


def test_the_drawn_roc_curve_has_the_area_of_all_rows(page, made):
    choose(page, "#head", "msp")
    choose(page, "#set", "svhn")
    path = page.find_elements("css selector", "#roc path.chosen")[0].get_attribute("d")
    points = np.array([point.split() for point in path[1:].split("L")], float)
    unit = (points - points[-1]) / (points[0] - points[-1])  # from the last threshold to the first
    area = auc(unit[:, 0], unit[:, 1])
    known, odd = made[2]["msp", "mnist"], made[2]["msp", "svhn"]
    exact = roc_auc_score(np.repeat([0, 1], [200, 100]), np.concatenate([known, odd]))
    assert area == pytest.approx(exact, abs=0.01)


def test_every_figure_is_drawn(page):
    for host in ("histogram", "roc", "det", "pr", "risk", "reliability"):
        assert find(page, f"#{host} svg path").get_attribute("d").count("L") > 0, host
        assert "NaN" not in find(page, f"#{host}").get_attribute("innerHTML"), host
    pixels = "return byId('map').toDataURL()"
    by_set = page.execute_script(pixels)
    assert len(by_set) > 10_000
    page.execute_script("arguments[0].click()", find(page, "input[name=colour][value=score]"))
    wait(page)
    assert page.execute_script(pixels) != by_set and texts(page, "#map-keys")[0].startswith("low score")
    assert len(texts(page, "#alarms li")) == 8 and len(texts(page, "#id-classes li")) == 3


def test_names_are_text(page, made):
    """Names that are scripts are chosen and shown everywhere; none of them runs or becomes an element."""
    for name in HOSTILE[:2]:
        choose(page, "#head", name)
        choose(page, "#set", HOSTILE[0])
        assert name in texts(page, "table.matrix tr.chosen th")
        assert f"{HOSTILE[0]} accepted" in " ".join(texts(page, "#rates li"))
    assert len(page.find_elements("css selector", "script")) == 2
    assert not page.find_elements("css selector", "img")
    assert any(HOSTILE[0] in text for text in texts(page, "#alarms li"))


def test_injected_scripts_and_requests_are_refused(browser, made, tmp_path):
    path = tmp_path / "injected.html"
    injected = "<script>window.ran = 1</script><img src='https://localhost:9/x.png' onerror='window.ran = 2'>"
    path.write_text(made[0].read_text().replace("<main>", f"<main>{injected}"))
    browser.get(path.as_uri())
    wait(browser)
    assert browser.execute_script("return window.ran") is None
    assert "Content Security Policy" in str(browser.get_log("browser"))


@pytest.mark.parametrize("width", [400, 768, 1280, 1920])
def test_nothing_is_wider_than_the_page(page, width):
    resize(page, width)
    wait(page)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    # outside the parts that scroll, nothing is cut off either
    outside = page.execute_script(
        "return [...document.querySelectorAll('main *, header *')].filter((one) => !one.closest('.scroll, .sr-only')"
        " && one.getClientRects().length && one.getBoundingClientRect().right > innerWidth + 1)"
        ".map((one) => one.outerHTML.slice(0, 80))"
    )
    assert outside == []
    assert page.execute_script("return byId('histogram').firstChild.viewBox.baseVal.width") <= width


def test_the_page_can_be_printed(page):
    printed = page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not find(page, "#filter").is_displayed() and find(page, "table.matrix").is_displayed()
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_dark_mode_changes_the_colours(page):
    def background():
        return page.execute_script("return getComputedStyle(document.body).backgroundColor")

    light = background()
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    assert background() != light
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_without_scripts_the_tables_are_shown(browser, made):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(made[0].as_uri())
    assert len(texts(browser, "table.matrix tbody tr")) == len(HEADS)
    assert not find(browser, "#explore").is_displayed() and not find(browser, "#filter").is_displayed()
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
