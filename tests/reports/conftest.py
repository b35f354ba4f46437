"""A browser for the tests of pages, and pages opened in it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def _refuse(reason: str) -> None:
    """Fail where browser tests must run, skip where they may be left out."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}; CI must run the tests of pages")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium of this machine."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        _refuse("Chromium is not installed (Debian: apt-get install chromium)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _refuse("playwright is not installed (pip install playwright)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGUMENTS)
        yield chromium
        chromium.close()


@dataclass
class OpenPage:
    """A page, and everything it complained about or asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def wait_until(self, condition: str, *, timeout_s: float = 30.0) -> None:
        """Wait for a JavaScript condition; the page's policy forbids the scripts that Playwright would wait with."""
        end = time.monotonic() + timeout_s
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, f"after {timeout_s:g} s still not so: {condition}"
            self.page.wait_for_timeout(20)

    def hover_texts(self, plot: str, *, across: float, down: float) -> list[str]:
        """The texts of the hover label at a place inside a plot, in shares of its width and height."""
        self.page.locator(f"#plot-{plot}").scroll_into_view_if_needed()
        box = self.page.locator(f"#plot-{plot} .nsewdrag").first.bounding_box()
        self.page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])
        self.page.locator(f"#plot-{plot} .hoverlayer text").first.wait_for()
        texts: list[str] = self.page.locator(f"#plot-{plot} .hoverlayer text").all_text_contents()
        return texts


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., OpenPage]]:
    """A function that opens a report and waits until it is drawn."""
    opened = []

    def open_file(path: Path, *, width: int = 1280, **settings: Any) -> OpenPage:
        # Without motion: a page that still scrolls moves its figures away from the pointer.
        page = browser.new_page(viewport={"width": width, "height": 900}, reduced_motion="reduce", **settings)
        result = OpenPage(page=page)
        opened.append(page)
        page.on("console", lambda message: result.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: result.complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: result.complaints.append(f"dialog: {dialog.message}") or dialog.dismiss())
        page.on("request", lambda request: result.requests.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]", timeout=120_000)
        return result

    yield open_file
    for page in opened:
        page.close()
