"""The review page in Chromium: rated by keyboard alone, closed and reopened, by several, on a phone, in the dark."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.browser.conftest import PHONE
from tests.unit.review.runs import EMOJI, SCRIPT, items_of, make, rated, served, write_run

LONG = "long " * 4000
ARABIC = "مرحبا بالعالم"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    answers = [SCRIPT, EMOJI, LONG, "", ARABIC, "plain\n  two lines"]
    return write_run(tmp_path / "run", answers, [f"other {row}" for row in range(6)])


@pytest.fixture
def folder(tmp_path: Path, run: Path) -> Path:
    """Six pairs."""
    return make(tmp_path / "set", run, kind="pairwise", rows=6)


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    with served(folder, "anna") as (_, addresses):
        yield addresses["anna"]


def at(page: Page, text: str) -> None:
    """Waits until the page shows an item, or the end."""
    expect(page.get_by_role("heading", level=1)).to_have_text(text)


def visit(page: Page, address: str, then: str = "Item 1 of 6") -> None:
    page.goto(address)
    at(page, then)


def press(page: Page, key: str, then: str) -> None:
    page.keyboard.press(key)
    at(page, then)


def test_a_set_is_rated_by_keyboard_alone(page: Page, address: str, folder: Path) -> None:
    visit(page, address)
    press(page, "1", "Item 2 of 6")
    assert rated(folder, "anna") == {1: "A much"}, "saved when the next item is seen"
    press(page, "b", "Item 3 of 6")
    press(page, "ArrowRight", "Item 4 of 6")
    press(page, "t", "Item 5 of 6")
    press(page, "u", "Item 4 of 6")
    assert rated(folder, "anna") == {1: "A much", 2: "B", 4: None}
    press(page, "5", "Item 5 of 6")
    press(page, "ArrowLeft", "Item 4 of 6")
    expect(page.get_by_role("button", name="B is much better")).to_have_attribute("aria-pressed", "true")
    press(page, "A", "Item 5 of 6")
    press(page, "Backspace", "Item 4 of 6")
    expect(page.get_by_role("button", name="B is much better")).to_have_attribute("aria-pressed", "true")
    assert rated(folder, "anna")[4] == "B much", "undo brings back what stood before"
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("1")  # means nothing behind the list of keys
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).not_to_be_visible()
    at(page, "Item 4 of 6")
    press(page, "n", "Item 5 of 6")
    press(page, "2", "Item 6 of 6")
    press(page, "3", "Item 3 of 6")  # the one that was passed over
    press(page, "4", "The end")
    expect(page.get_by_role("heading", level=2, name="All rated, thank you")).to_be_visible()
    assert rated(folder, "anna") == {1: "A much", 2: "B", 3: "B", 4: "B much", 5: "A", 6: "tie"}


def test_a_rater_goes_on_where_they_stopped(page: Page, folder: Path) -> None:
    with served(folder, "anna") as (process, addresses):
        visit(page, addresses["anna"])
        press(page, "1", "Item 2 of 6")
        press(page, "2", "Item 3 of 6")
        page.reload()
        at(page, "Item 3 of 6")
        page.goto("about:blank")  # a page that is open would say that its server is gone
        process.kill()
        process.wait()
    with served(folder, "anna") as (_, addresses):
        visit(page, addresses["anna"], "Item 3 of 6")
        expect(page.get_by_text("2 rated")).to_be_visible()
        press(page, "p", "Item 2 of 6")
        expect(page.get_by_role("button", name="A is better")).to_have_attribute("aria-pressed", "true")
    assert rated(folder, "anna") == {1: "A much", 2: "A"}


def test_two_raters_at_once(browser: Browser, folder: Path) -> None:
    with (
        served(folder, "anna", "ben") as (_, addresses),
        browser.new_context() as one,
        browser.new_context() as other,
    ):
        pages = {"anna": one.new_page(), "ben": other.new_page()}
        for name, page in pages.items():
            visit(page, addresses[name])
        for item in range(1, 7):
            after = f"Item {item + 1} of 6" if item < 6 else "The end"
            press(pages["anna"], "a", after)
            press(pages["ben"], "b", after)
    assert rated(folder, "anna") == dict.fromkeys(range(1, 7), "A")
    assert rated(folder, "ben") == dict.fromkeys(range(1, 7), "B")


def test_texts_are_shown_as_text(page: Page, address: str, folder: Path) -> None:
    visit(page, address)
    for number, item in enumerate(items_of(folder), start=1):
        at(page, f"Item {number} of 6")
        for letter, answer in zip("AB", item["answers"], strict=True):
            region = page.get_by_role("region", name=f"Answer {letter}")
            assert region.evaluate("box => box.textContent") == (answer or "(nothing)")
            assert region.locator("script, img, a").count() == 0
            if answer == ARABIC:
                assert region.evaluate("box => getComputedStyle(box).direction") == "rtl"
        assert re.fullmatch(r"\d/6 · Review", page.title()), "no script of an answer has run"
        page.keyboard.press("ArrowRight")


def test_a_long_answer_scrolls_within_reach_of_the_choices(page: Page, address: str, folder: Path) -> None:
    number, letter = next(
        (item["item"], "AB"[item["answers"].index(LONG)]) for item in items_of(folder) if LONG in item["answers"]
    )
    for size in (ViewportSize(width=1280, height=800), PHONE):
        page.set_viewport_size(size)
        visit(page, address)
        for after in range(2, number + 1):
            press(page, "ArrowRight", f"Item {after} of 6")
        region = page.get_by_role("region", name=f"Answer {letter}")
        height, inner = region.evaluate("box => [box.clientHeight, box.scrollHeight]")
        assert height < size["height"] * 0.7 < inner
        region.focus()
        page.keyboard.press("End")
        page.wait_for_function("box => box.scrollTop > 0", arg=region.element_handle())
        expect(page.get_by_role("button", name="about the same")).to_be_in_viewport()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the window"


def test_a_rating_that_was_not_saved_is_said_and_not_shown_as_given(browser: Browser, folder: Path) -> None:
    with browser.new_context() as context, served(folder, "anna") as (process, addresses):
        page = context.new_page()
        visit(page, addresses["anna"])
        press(page, "1", "Item 2 of 6")
        process.kill()
        process.wait()
        page.keyboard.press("2")
        expect(page.get_by_role("alert")).to_contain_text("Not saved: The server does not answer.")
        at(page, "Item 2 of 6")
        assert page.locator('[aria-pressed="true"]').count() == 0
    assert rated(folder, "anna") == {1: "A much"}


def test_a_ranking_by_keyboard(page: Page, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, [f"{name} 0", f"{name} 1"]) for name in ("x", "y", "z")]
    folder = make(tmp_path / "ranking", *runs, kind="ranking", rows=2)
    with served(folder, "anna") as (_, addresses):
        visit(page, addresses["anna"], "Item 1 of 2")
        page.keyboard.press("2")
        expect(page.locator('[data-letter="B"] .rank')).to_have_text("rank 1")
        page.keyboard.press("2")  # again: means nothing
        page.keyboard.press("u")
        expect(page.locator(".rank")).to_have_count(0)
        assert rated(folder, "anna") == {}
        page.keyboard.press("c")
        expect(page.locator('[data-letter="C"] .rank')).to_have_text("rank 1")
        press(page, "a", "Item 2 of 2")
        assert rated(folder, "anna") == {1: "C>A>B"}, "the last one is clear"


@pytest.mark.parametrize(("kind", "keys"), [("likert", "51"), ("ab", "12")])
def test_other_kinds_by_keyboard(page: Page, tmp_path: Path, kind: str, keys: str) -> None:
    run = write_run(tmp_path / "two", ["good", "bad"], ["fair", "fine"])
    folder = make(tmp_path / kind, run, kind=kind, rows=2)
    items = len(items_of(folder))
    with served(folder, "anna") as (_, addresses):
        visit(page, addresses["anna"], f"Item 1 of {items}")
        for item in range(1, items + 1):
            press(page, keys[item % 2], f"Item {item + 1} of {items}" if item < items else "The end")
    values = {"likert": "51", "ab": "AB"}[kind]
    assert rated(folder, "anna") == {item: values[item % 2] for item in range(1, items + 1)}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_that_is_read_stands_out(page: Page, address: str, scheme: str) -> None:
    """Contrast of at least 4.5 to 1 (WCAG 2.2, 1.4.3), and names for all that is used."""
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    visit(page, address)
    press(page, "a", "Item 2 of 6")
    press(page, "ArrowLeft", "Item 1 of 6")  # with a choice that is pressed
    assert page.evaluate(CONTRASTS) == []
    background = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(background) < 3 * 60) == (scheme == "dark")
    for button in page.get_by_role("button").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 40, "large enough for a finger"
        assert button.evaluate("b => (b.getAttribute('aria-label') || b.innerText).trim().length > 0")


CONTRASTS = """() => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => {
    const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = parts(color).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (e) => {
    const own = getComputedStyle(e).backgroundColor, p = parts(own);
    return (p.length === 4 && p[3] === 0) ? ground(e.parentElement) : own;
  };
  const poor = [];
  for (const e of document.querySelectorAll("body *")) {
    const said = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!said || !e.checkVisibility() || e.closest(":disabled, script, dialog")) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${e.textContent.slice(0, 20)}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""
