"""The page of a run in a real browser."""

from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Page, ViewportSize, expect

from tests.unit.report.runs import ARABIC, finished, job_of
from tunesmith.report.compare import comparison_page
from tunesmith.report.page import run_page
from tunesmith.report.read import read_run
from tunesmith.whole_files import write_whole

NARROW: ViewportSize = {"width": 360, "height": 780}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    runs = [read_run(finished(root / "a")), read_run(finished(root / "b", job=job_of("other", method={"full": {}})))]
    made = {"run": root / "run.html", "comparison": root / "comparison.html"}
    write_whole(made["run"], run_page(runs[0]))
    write_whole(made["comparison"], comparison_page(runs))
    return made


@pytest.mark.parametrize("which", ["run", "comparison"])
def test_nothing_is_loaded_and_nothing_of_a_model_runs(page: Page, pages: dict[str, Path], which: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(pages[which].as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert asked == [pages[which].as_uri()]
    assert page.title() != "owned"
    expect(page.locator("img, script")).to_have_count(0)


@pytest.mark.parametrize("which", ["run", "comparison"])
@pytest.mark.parametrize("opened", [False, True])
def test_a_phone_does_not_scroll_sideways(page: Page, pages: dict[str, Path], which: str, opened: bool) -> None:
    page.set_viewport_size(NARROW)
    page.goto(pages[which].as_uri())
    if opened:
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    outside = "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > 361).length"
    assert page.evaluate(outside) == 0


def test_charts_follow_the_page_into_the_dark(page: Page, pages: dict[str, Path]) -> None:
    page.goto(pages["run"].as_uri())
    found = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found[scheme] = page.evaluate(
            "['body', '#curves svg text', '#curves svg path[style*=series]'].map(q => document.querySelector(q))"
            ".map((e, i) => getComputedStyle(e)[['backgroundColor', 'fill', 'stroke'][i]])"
        )
    assert all(light != dark for light, dark in zip(found["light"], found["dark"], strict=True)), found


def test_right_to_left_text_is_laid_out_from_the_right(page: Page, pages: dict[str, Path]) -> None:
    page.goto(pages["run"].as_uri())
    text = page.locator("#samples .text", has_text=ARABIC).first
    assert text.evaluate("e => getComputedStyle(e).direction") == "rtl"


def test_a_long_text_opens_by_keyboard(page: Page, pages: dict[str, Path]) -> None:
    page.goto(pages["run"].as_uri())
    folded = page.locator("#samples details.long").first
    expect(folded).to_contain_text("20,000 characters")
    whole = folded.locator("> .text")
    expect(whole).to_be_hidden()
    folded.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(whole).to_be_visible()


def test_headings_and_charts_have_names(page: Page, pages: dict[str, Path]) -> None:
    page.goto(pages["run"].as_uri())
    levels = page.eval_on_selector_all("h1, h2, h3, h4", "all => all.map(h => Number(h.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(late <= early + 2 for early, late in pairwise(levels))
    unnamed = "all => all.filter(s => !s.getAttribute('aria-label')).length"
    assert page.eval_on_selector_all("svg", unnamed) == 0
    assert page.locator("figure").count() == page.locator("figure figcaption").count() > 4
