"""The page of a run: what stands in it, and that it works in a browser."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from importlib import resources, util
from pathlib import Path
from typing import Any

import pytest

from syq_dse.errors import InputError
from syq_dse.report import page
from syq_dse.search import run
from syq_dse.search.run import explore
from syq_dse.search.space import Space
from syq_dse.search.study import Study

MOST_BYTES = 3_000_000

PAGE = 100
"""Rows of the table at once."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of lenet5, with what was measured of two of its points."""
    out = tmp_path_factory.mktemp("runs") / "lenet5 & <b>"
    space = Space(bits=(2, 4), weights=("binary", "ternary", "int4"), intervals=6)
    goals = ("accuracy", "lut", "fps")
    explore(Study(network="lenet5", target="zcu102", objectives=goals, space=space), out)
    front = json.loads((out / "front.json").read_text())
    front["expected"] = {}
    for row in front["points"][:2]:
        kept = {name: row[name] for name in ("accuracy", "accuracy_low", "accuracy_high")}
        front["expected"][row["point"]] = kept | {"accuracy_source": row["accuracy_source"]}
        row["accuracy_source"] = "measured"
    (out / "front.json").write_text(json.dumps(front))
    return out


def data(path: Path) -> dict[str, Any]:
    """What the page's script reads."""
    text = path.read_text(encoding="utf-8")
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    return json.loads(found)  # type: ignore[no-any-return]


def test_the_page_has_all_points_and_their_layers(folder: Path, tmp_path: Path) -> None:
    path = page.write(folder, tmp_path / "page.html")
    assert path.stat().st_size < MOST_BYTES
    front, found = run.read_front(folder), data(path)
    names = [column["name"] for column in found["columns"]]
    assert len(found["points"]) == len(front["points"])
    for row, wanted in zip(found["points"], front["points"], strict=True):
        point = dict(zip(names, row, strict=True))
        assert point["point"] == wanted["point"] and point["lut"] == wanted["lut"]
        assert point["fps"] == pytest.approx(wanted["fps"], rel=1e-5)
    point = run.read_point(folder, front["named"]["knee"])
    layers = found["details"][point["point"]]["layers"]
    assert [layer[0] for layer in layers] == [one["name"] for one in point["cost"]["layers"]]
    assert layers[0][1:3] == ["int8", "layer"]
    used = {label: (value, of) for label, value, of, _ in found["details"][point["point"]]["used"]}
    assert used["LUTs"] == (point["cost"]["total"]["lut"], point["cost"]["capacity"]["lut"])
    assert found["limit"] == 0.8


def test_names_stay_text(folder: Path, tmp_path: Path) -> None:
    hostile = "<script>alert(1)<b>"
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    front = json.loads((copy / "front.json").read_text())
    front["network"] = hostile
    front["accuracy_note"] = f"</script>{hostile}"
    (copy / "front.json").write_text(json.dumps(front))
    text = page.write(copy).read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_nothing_is_fetched(folder: Path, tmp_path: Path) -> None:
    text = page.write(folder, tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", text)


def test_of_many_points_some_are_in_the_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    front = run.read_front(folder)
    many = front | {"points": [{**front["points"][0], "point": f"p{i:05d}"} for i in range(50_000)]}
    many["named"] = {"knee": "p31234"}
    rows = page.chosen_rows(many)
    assert len(rows) <= page.MOST_POINTS
    assert "p31234" in {row["point"] for row in rows}
    monkeypatch.setattr(page, "MOST_ROWS", 30)
    details = page.read_details(folder, front, front["points"])
    assert set(front["named"].values()) <= set(details)
    assert len(details) < len(front["points"])


def test_a_run_that_has_not_finished_has_no_page(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        page.write(tmp_path)
    assert not list(tmp_path.iterdir())


# In a browser

chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
in_browser = pytest.mark.skipif(
    chromium is None or driver is None or util.find_spec("selenium") is None,
    reason="needs chromium, chromium-driver and selenium",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = str(chromium)
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(str(driver)))
    yield made
    made.quit()


def opened(browser: Any, path: Path, width: int = 1200, dark: bool = False) -> Any:
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    size = {"width": width, "height": 1400, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get(path.absolute().as_uri())
    end = time.monotonic() + 60
    while browser.execute_script("return document.body.dataset.ready") != "yes":
        assert time.monotonic() < end, browser.get_log("browser")
        time.sleep(0.05)
    return browser


@pytest.fixture(scope="module")
def written(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page.write(folder, tmp_path_factory.mktemp("pages") / "a page.html")


@in_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_it_opens_without_errors_and_by_the_rules_of_axe(
    width: int, dark: bool, written: Path, browser: Any
) -> None:
    shown = opened(browser, written, width, dark)
    assert [line for line in shown.get_log("browser") if line["level"] != "INFO"] == []
    assert shown.execute_script("return document.documentElement.scrollWidth") <= width
    back = shown.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert back == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")
    rules = resources.files("axe_playwright_python") / "axe.min.js"
    shown.execute_script(rules.read_text(encoding="utf-8"))
    found = shown.execute_async_script("axe.run().then(arguments[0])")
    assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []
    assert len(found["passes"]) > 20


@in_browser
def test_a_click_on_a_point_shows_its_layers(folder: Path, written: Path, browser: Any) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    shown = opened(browser, written)
    front = run.read_front(folder)
    before = shown.find_element(By.ID, "point-name").text
    assert before.startswith(f"Point {front['named']['knee']}")
    wanted = next(
        row["point"] for row in front["points"] if row["point"] not in front["named"].values()
    )
    # where the plot has drawn it, in the window's pixels
    x, y = shown.execute_script(
        """
        const [wanted] = arguments;
        const plot = find("front"), kind = data.sources.find((one) =>
          find("source-" + one).data.point.includes(wanted));
        const source = find("source-" + kind).data, at = source.point.indexOf(wanted);
        const view = Object.values(Bokeh.index).map((root) => root.model === plot ? root :
          null).filter((one) => one)[0] ?? Bokeh.index.get_by_id(plot.id);
        const box = view.el.getBoundingClientRect(), frame = view.frame ?? view.inner_bbox;
        window.scrollTo(0, box.top + window.scrollY - 100);
        const again = view.el.getBoundingClientRect();
        return [again.left + view.frame.bbox.left + view.frame.x_scale.compute(source.x[at]) -
                  view.frame.bbox.left,
                again.top + view.frame.y_scale.compute(source.y[at])];
        """,
        wanted,
    )
    actions = ActionChains(shown)
    actions.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    actions.w3c_actions.pointer_action.click()
    actions.perform()
    time.sleep(0.5)
    assert shown.find_element(By.ID, "point-name").text == f"Point {wanted}"
    rows = shown.find_elements(By.CSS_SELECTOR, "#layers tbody tr")
    point = run.read_point(folder, wanted)
    texts = [[cell.text for cell in row.find_elements(By.CSS_SELECTOR, "th, td")] for row in rows]
    layers = point["cost"]["layers"]
    assert [row[0] for row in texts] == [layer["name"] for layer in layers]
    assert [row[1] for row in texts] == [layer.get("weights") or "\N{EN DASH}" for layer in layers]
    assert wanted in shown.find_element(By.ID, "commands").text


@in_browser
def test_the_table_sorts_and_filters(folder: Path, written: Path, browser: Any) -> None:
    from selenium.webdriver.common.by import By

    shown = opened(browser, written)
    rows = run.read_front(folder)["points"]

    def column(index: int) -> list[str]:
        cells = shown.find_elements(By.CSS_SELECTOR, f"#points tbody tr td:nth-child({index})")
        return [cell.text for cell in cells]

    heads = [head.text for head in shown.find_elements(By.CSS_SELECTOR, "#points th")]
    place = heads.index("LUTs") + 1
    button = shown.find_elements(By.CSS_SELECTOR, "#points th button")[place - 1]
    for sign in (1, -1):
        shown.execute_script("arguments[0].click()", button)
        numbers = [int(text.replace(",", "")) for text in column(place)]
        assert numbers == sorted((row["lut"] for row in rows), reverse=sign < 0)[:PAGE]
    shown.find_element(By.ID, "after").click()
    assert len(column(1)) == len(rows) - PAGE
    middle = sorted(row["lut"] for row in rows)[len(rows) // 2]
    shown.find_element(By.ID, "filter").send_keys(f"lut>{middle}")
    kept = {row["point"] for row in rows if row["lut"] > middle}
    assert set(column(1)) == kept
    shown.find_element(By.ID, "filter").send_keys(" nonsense>1")
    assert "not understood: nonsense>1" in shown.find_element(By.ID, "filter-note").text
    field = shown.find_element(By.ID, "filter")
    for typed, wanted in (
        (f"LUT > {middle:,}", kept),  # as people type it
        ("Knee", {run.read_front(folder)["named"]["knee"]}),
        ("lut<abc", None),
    ):
        field.clear()
        field.send_keys(typed)
        if wanted is None:
            assert "not understood: lut<abc" in shown.find_element(By.ID, "filter-note").text
        else:
            assert set(column(1)) == wanted
    shown.find_element(By.ID, "clear").click()
    assert len(column(1)) == PAGE


@in_browser
def test_axes_can_be_chosen(written: Path, browser: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    shown = opened(browser, written)
    Select(shown.find_element(By.ID, "x-axis")).select_by_value("lut")
    label = shown.execute_script('return find("front").below[0].axis_label')
    values = shown.execute_script(
        'return data.sources.flatMap((one) => find("source-" + one).data.x)'
    )
    luts = shown.execute_script("return data.points.map((row) => row[index.lut])")
    assert label == "LUTs" and sorted(values) == sorted(luts)
