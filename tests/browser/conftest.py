"""Chromium for the tests of pages: one browser a session, a window of its own for each test."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

HERE = Path(__file__).parent
PHONE = {"width": 390, "height": 844}
"""Pixels of CSS; a usual phone held upright."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; playwright brings its driver along, and no browser."""
    path = shutil.which("chromium")
    if path is None:
        pytest.fail("there is no chromium: run scripts/chromium as root, or install it your way", pytrace=False)
    with sync_playwright() as playwright:
        # its sandbox does not go with root, which containers like to be
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty window; the test fails where its page throws an error or writes one to the console.

    Width, colours and the like: `page.set_viewport_size(PHONE)`, `page.emulate_media(color_scheme="dark")`.
    """
    with browser.new_context() as context:
        context.set_default_timeout(10_000)
        page = context.new_page()
        errors = list[str]()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        yield page
        assert not errors
