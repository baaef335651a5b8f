"""The page in a browser: it draws, folds, searches and reads out, under its own content security policy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.building import recorded
from tests.report.test_page import CHAIN, MODULES, written

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Opens pages offline; when the test is over, none must have complained or asked for anything."""
    said: list[str] = []
    contexts = []

    def open_page(text: str, **context: Any) -> Any:
        (tmp_path / "report.html").write_text(text, encoding="utf-8")
        contexts.append(browser.new_context(offline=True, **context))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.extend([request.url] * (not request.url.endswith("report.html"))))
        page.goto((tmp_path / "report.html").as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def boxes(page: Any) -> list[str]:
    labels: list[str] = page.eval_on_selector_all(".box", "all => all.map(one => one.getAttribute('aria-label'))")
    return labels


def test_the_graph_opens_folds_and_is_searched_from_the_keyboard(opened: Any):
    page = opened(written(recorded(MODULES)))
    page.locator("#graph").scroll_into_view_if_needed()
    page.wait_for_selector(".box")
    search = page.locator("input[type=search]")
    search.fill("first.weight")
    assert page.locator(".found").text_content() == "2 found"
    page.locator(".hits button").first.press("Enter")
    assert "net.blocks.1.first.weight" in page.locator(".box.hit").get_attribute("aria-label")
    unfolded = len(boxes(page))
    page.locator(".box.hit").press("Enter")
    assert any(label.startswith("net.blocks.1.first, ") for label in boxes(page)) and len(boxes(page)) < unfolded
    page.locator(".box.fold").first.press(" ")
    search.fill("line 8")
    assert page.locator(".found").text_content() == "12 found"


def test_thousands_of_nodes_are_drawn_a_few_at_a_time(opened: Any):
    page = opened(written(recorded(CHAIN)))
    page.locator("#graph").scroll_into_view_if_needed()
    page.wait_for_selector(".box")
    assert len(boxes(page)) <= 24
    page.locator("input[type=search]").fill("MulBack")
    assert page.locator(".found").text_content() == "2,500 found, the first 40 shown"
    page.locator(".hits button").last.click()
    assert page.locator(".box.hit").count() == 1 and len(boxes(page)) <= 300


def test_memory_is_read_out_and_zoomed(opened: Any):
    page = opened(written(recorded(CHAIN)))
    read = page.locator("#timeline output")
    assert "in use" in read.text_content()
    page.locator("#cursor").press("Home")
    assert read.text_content().startswith("call 6, line 4: w = w * 2 + 1: ")
    page.get_by_role("button", name="Zoom in").click()
    width = float(page.locator("#timeline .plot svg").get_attribute("viewBox").split()[2])
    page.get_by_role("button", name="All", exact=True).click()
    assert width < float(page.locator("#timeline .plot svg").get_attribute("viewBox").split()[2])


def test_links_open_what_they_lead_to_and_the_theme_is_chosen(opened: Any):
    page = opened(
        written(
            recorded("import torch\nw = torch.ones(2, requires_grad=True)\nh = w * 2\nh.sum().backward()\nh.grad\n")
        )
    )
    page.locator("a.code").first.click()
    assert page.locator("details.explained").first.get_attribute("open") is not None
    page.locator(".place a").first.click()
    assert page.locator("details.line:target").get_attribute("open") is not None
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_is_not_wider_than_itself(opened: Any, scheme: str):
    page = opened(written(recorded(MODULES)), viewport={"width": 360, "height": 700}, color_scheme=scheme)
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
