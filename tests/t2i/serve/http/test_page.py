"""The page in a real browser, on a phone and on a desk."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from t2i.client import Client
from t2i.serve.messages import QueueFullError
from tests.browser import Findings, open_address, open_chromium

WIDTHS = (375, 1280)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_chromium() as browser:
        expect.set_options(timeout=300_000)  # a machine that is busy is no failure
        yield browser


@contextmanager
def clean(browser: Browser, address: str, width: int = 375, colours: str = "light") -> Iterator[Page]:
    """A page that asks nobody but its server, and in which nothing goes wrong."""
    with open_address(browser, address, width, colours) as (page, findings):
        yield page
        check(findings, address)


def check(findings: Findings, address: str) -> None:
    host = urlsplit(address).netloc
    assert findings.errors == []
    assert {urlsplit(each).netloc for each in findings.requests if not each.startswith(("data:", "blob:"))} == {host}


@dataclass
class Drawn:
    status: str
    pictures: list[str]
    address: str


def draw(page: Page, caption: str, **fields: str) -> Drawn:
    page.get_by_label("Caption", exact=True).fill(caption)
    for label, value in fields.items():
        page.get_by_label(label.replace("_", " ")).fill(value)
    page.get_by_role("button", name="Draw").click()
    return finished(page)


def finished(page: Page) -> Drawn:
    expect(page.get_by_role("status")).to_contain_text("Done")
    pictures = page.locator("#best img").all()
    return Drawn(
        page.get_by_role("status").inner_text(), [each.get_attribute("src") or "" for each in pictures], page.url
    )


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_draws_ranks_and_fits_the_window(browser: Browser, http: str, service: Any, width: int, colours: str) -> None:
    with clean(browser, http, width, colours) as page:
        drawn = draw(page, "a red taco", Images_to_draw="6", Show_the_best="2", Seed="7")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        small = [
            each
            for each in page.locator("button:visible, input:visible").all()
            if (each.bounding_box() or {"height": 0})["height"] < 44
        ]
        assert small == []
        assert page.locator("#tiles li").count() == 6
        assert page.locator("#tiles li.kept").count() == 2
    with Client(service.address) as client:
        expected = client.generate("a red taco", candidates=6, keep=2, seed=7)
    assert len(drawn.pictures) == 2
    assert "2 of 6" in drawn.status
    assert drawn.pictures == [f"data:image/png;base64,{base64_of(image.data)}" for image in expected.images]


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_candidates_grow_row_by_row(browser: Browser, http: str) -> None:
    heights = """() => { window.seen = new Set(); new MutationObserver(() => {
        for (const tile of document.querySelectorAll('#candidate-0')) window.seen.add(+tile.dataset.rows);
    }).observe(document.body, { subtree: true, childList: true, attributes: true }); }"""
    with clean(browser, http) as page:
        page.evaluate(heights)
        draw(page, "a red taco", Images_to_draw="4", Show_the_best="1")
        seen = sorted(page.evaluate("[...window.seen]"))
    assert seen[-1] == 8
    assert len([rows for rows in seen if 0 < rows < 8]) > 0


def test_a_link_brings_the_same_images_back(browser: Browser, http: str) -> None:
    with clean(browser, http) as page:
        first = draw(page, "a red & blue #taco", Images_to_draw="3", Show_the_best="2")
        link = page.url
    fields = parse_qs(urlsplit(link).fragment)
    assert fields["caption"] == ["a red & blue #taco"]
    assert re.fullmatch(r"\d+", fields["seed"][0])
    with clean(browser, link) as page:
        assert finished(page).pictures == first.pictures
        expect(page.locator("#receipt")).not_to_contain_text("changed")
    with clean(browser, re.sub("weights=[^&]*", "weights=other", link)) as page:
        finished(page)
        expect(page.locator("#receipt")).to_contain_text("the models have changed")


def test_the_best_can_be_saved(browser: Browser, http: str) -> None:
    with clean(browser, http) as page:
        draw(page, "A red taco!", Images_to_draw="2", Show_the_best="1")
        with page.expect_download() as download:
            page.get_by_role("link", name="Download image 1").click()
        assert download.value.suggested_filename == "a-red-taco-1.png"
        assert download.value.path().read_bytes().startswith(b"\x89PNG")


def test_cancelling_ends_the_work(browser: Browser, http: str, service: Any) -> None:
    with clean(browser, http) as page:
        page.get_by_label("Caption", exact=True).fill("a red taco")
        page.get_by_label("Images to draw").fill("64")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_have_text("Drawing.")
        expect(page.get_by_role("button", name="Cancel")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.get_by_role("status")).to_have_text("Cancelled.")
        while service.activity()["requests"]:
            page.wait_for_timeout(50)
        assert page.get_by_role("alert").inner_text() == ""


def test_all_of_it_goes_by_keyboard(browser: Browser, http: str) -> None:
    with clean(browser, http) as page:
        order = []
        for _ in range(6):
            page.keyboard.press("Tab")
            order.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        assert order == ["caption", "candidates", "keep", "seed", "SUMMARY", "draw"]
        names = page.evaluate(
            "[...document.querySelectorAll('input, select, textarea')].map((each) => each.labels.length)"
        )
        assert set(names) == {1}


def test_a_full_queue_says_when_to_come_back(browser: Browser, http: str, service: Any) -> None:
    async def full(_: object) -> Any:
        raise QueueFullError(30.0)
        yield

    with open_address(browser, http, 375) as (page, _):
        with mock.patch.object(service.prior.replica, "sample", full):
            page.get_by_label("Caption", exact=True).fill("a red taco")
            page.get_by_role("button", name="Draw").click()
            expect(page.get_by_role("alert")).to_contain_text("Too many requests are waiting")
        expect(page.get_by_role("button", name=re.compile("Try again in \\d+ s"))).to_be_disabled()


def test_a_model_that_is_being_started_is_waited_for(browser: Browser, http: str, service: Any) -> None:
    with clean(browser, http) as page, service.starting() as ready:
        page.get_by_label("Caption", exact=True).fill("a red taco")
        page.get_by_role("button", name="Draw").click()
        expect(page.locator("#counts")).to_have_text("A replica of the model is being started")
        ready.set()
        assert finished(page).pictures


def test_errors_are_told_as_they_are(browser: Browser, http: str, service: Any) -> None:
    async def late(_: object) -> Any:
        raise TimeoutError
        yield

    with open_address(browser, http, 375) as (page, _):
        page.get_by_label("Caption", exact=True).fill("a red taco")
        with mock.patch.object(service.prior.replica, "sample", late):
            page.get_by_role("button", name="Draw").click()
            expect(page.get_by_role("alert")).to_contain_text("The time for this request is over")
        page.context.set_offline(True)
        page.get_by_role("button", name="Try again").click()
        expect(page.get_by_role("alert")).to_contain_text("The service does not answer")
        page.context.set_offline(False)
        page.get_by_role("button", name="Try again").click()
        finished(page)
        assert page.get_by_role("alert").inner_text() == ""


def test_a_wrong_field_is_named(browser: Browser, http: str) -> None:
    with open_address(browser, http, 375) as (page, _):
        page.get_by_label("Caption", exact=True).fill("a red taco")
        page.get_by_label("Seed", exact=True).fill("9999999999999999999")
        page.get_by_role("button", name="Draw").click()
        expect(page.get_by_role("alert")).to_contain_text("seed")
