"""The report's page, opened in a browser: readable on a phone, in light and dark, without anything from outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from t2i.evaluate.page import render
from tests.browser import Findings, open_chromium, open_page
from tests.t2i.evaluate.report_sections import INCEPTION, protocol, section

WIDTHS = (375, 1280)
SMALLEST_TEXT = 9
"""Height in px of a line of text in a plot, below which it cannot be read."""


# No longer than this module: Playwright keeps an event loop in the thread, where `asyncio.run` then refuses to start.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_chromium() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    other = section(INCEPTION, name="test")
    file.write_text(render("runs/a-run-with-a-long-name/and/a/long/path", "2030-01-01", [section(), other]))
    return file


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_screen(browser: Browser, page_file: Path, width: int) -> None:
    with open_page(browser, page_file, width) as (page, _):
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_tables_wider_than_a_phone_scroll_by_themselves(browser: Browser, page_file: Path) -> None:
    with open_page(browser, page_file, 375) as (page, _):
        wide = page.locator(".scroll").evaluate_all("all => all.filter(e => e.scrollWidth > e.clientWidth).length")
        assert wide > 0
        assert page.locator("table").count() == page.locator(".scroll > table").count()


@pytest.mark.parametrize("width", WIDTHS)
def test_every_picture_loads_and_nothing_comes_from_outside(browser: Browser, page_file: Path, width: int) -> None:
    with open_page(browser, page_file, width) as (page, findings):
        assert page.locator("img").evaluate_all("all => all.every(e => e.complete && e.naturalWidth > 0)")
        assert page.locator("img").count() > 0
        assert _outside(findings, page_file) == []
        assert findings.errors == []


@pytest.mark.parametrize("width", WIDTHS)
def test_text_in_plots_can_be_read(browser: Browser, page_file: Path, width: int) -> None:
    with open_page(browser, page_file, width) as (page, _):
        heights = page.locator("svg text").evaluate_all("all => all.map(e => e.getBoundingClientRect().height)")
        assert min(heights) >= SMALLEST_TEXT


def test_dark_and_light_differ_and_plots_take_the_pages_colour(browser: Browser, page_file: Path) -> None:
    light, dark = (_colours(browser, page_file, name) for name in ("light", "dark"))
    assert light["paper"] != dark["paper"]
    assert light["plot"] == light["ink"] != dark["ink"] == dark["plot"]


def test_words_stand_before_figures_and_figures_before_pictures(browser: Browser, page_file: Path) -> None:
    with open_page(browser, page_file, 375) as (page, _):
        tops = [_top(page, selector) for selector in ("section > p", ".cautions", ".tiles", ".strip", ".plots", "dl")]
        assert tops == sorted(tops)


def test_published_curves_stand_only_beside_fid_itself(browser: Browser, page_file: Path) -> None:
    with open_page(browser, page_file, 1280) as (page, _):
        sections = page.locator("section")
        assert sections.nth(0).locator("svg", has_text="CogView*").count() == 0
        assert sections.nth(1).locator("svg", has_text="CogView*").count() == 2  # FID and the inception score
        assert page.locator("#published ~ div tr", has_text="CogView").count() > 0


@pytest.mark.parametrize(
    ("changes", "absent"),
    [
        ({"candidates": 1}, "Best of N"),
        ({"blur_radii": [0.0]}, "The same blur on both sides"),
        ({"pruning": {"rows": 3, "keep": 0.5, "group": 16, "finished": 4}}, "Best of N"),
    ],
)
def test_parts_without_figures_are_left_out(changes: dict[str, Any], absent: str) -> None:
    assert absent in render("runs/x", "now", [section()])
    assert absent not in render("runs/x", "now", [section(protocol=protocol(**changes))])


def test_near_copies_and_torch_fidelity_are_told_of_where_they_were_measured() -> None:
    without = [figure for figure in section().figures if figure.subject != "best_distinct"]
    with_both = " ".join(render("runs/x", "now", [section(INCEPTION)]).split())
    with_neither = " ".join(render("runs/x", "now", [section(figures=without)]).split())
    told = "4 real images whose CLIP cosine with one of 1000 training images is at least 0.9"
    row = '<th scope="row">FID</th><td>20.125</td><td>20.126</td><td>3e−05</td>'
    assert told in with_both
    assert row in with_both
    assert told not in with_neither
    assert "torch-fidelity" not in with_neither


def test_every_figure_of_a_table_has_its_interval_and_both_numbers(browser: Browser, page_file: Path) -> None:
    with open_page(browser, page_file, 1280) as (page, _):
        cell = page.locator("tr.main td").first.inner_text().split("\n")
        assert [part for part in cell if part] == ["20", "[19.9, 20.2]", "30 : 29"]


def _outside(findings: Findings, file: Path) -> list[str]:
    return [url for url in findings.requests if url != file.as_uri() and not url.startswith("data:")]


def _colours(browser: Browser, file: Path, colours: str) -> dict[str, str]:
    with open_page(browser, file, 375, colours) as (page, _):
        found: dict[str, str] = page.evaluate(
            "() => { const body = getComputedStyle(document.body);"
            " const text = getComputedStyle(document.querySelector('.plots svg text'));"
            " return {paper: body.backgroundColor, ink: body.color, plot: text.fill}; }"
        )
        return found


def _top(page: Page, selector: str) -> float:
    top: float = page.locator(selector).first.evaluate("e => e.getBoundingClientRect().top")
    return top
