"""A headless Chromium for tests of pages, and what it finds in one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


@dataclass
class Findings:
    """What went wrong in a page, and which addresses it asked for."""

    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def find_chromium() -> str | None:
    """Return the path of an installed Chromium; None for the one that playwright has fetched."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def open_chromium() -> Iterator[Browser]:
    """Start the browser, and close it at the end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium())
        yield browser
        browser.close()


@contextmanager
def open_page(browser: Browser, file: Path, width: int, colours: Any = "light") -> Iterator[tuple[Page, Findings]]:
    """Open a local file in a window ``width`` px wide, and note what goes wrong in it."""
    with open_address(browser, file.as_uri(), width, colours) as opened:
        yield opened


@contextmanager
def open_address(browser: Browser, address: str, width: int, colours: Any = "light") -> Iterator[tuple[Page, Findings]]:
    """Open a page in a window ``width`` px wide, and note what goes wrong in it."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=colours)
    page.set_default_timeout(0)  # pytest's own limit is enough: a machine that is busy is no failure
    findings = Findings()
    page.on("pageerror", lambda error: findings.errors.append(str(error)))
    page.on("console", lambda message: findings.errors.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: findings.requests.append(request.url))
    page.goto(address)
    yield page, findings
    page.close()
