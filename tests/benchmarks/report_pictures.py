"""`python -m tests.benchmarks.report_pictures RUN_FOLDER [--output docs/images]`: the pictures of docs/report.md.

From a real run, such as that of manifests/samples/arithmetic.yaml: its page on a desktop, and on a phone in the dark.
Needs Chromium.
"""

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, ViewportSize, sync_playwright

from tunesmith.api.pod import RunFolder
from tunesmith.report.page import run_page
from tunesmith.report.read import read_run
from tunesmith.whole_files import write_whole

COLOURS = 256
"""Enough for flat colours and smooth letters; keeps a picture below 100 KB."""


def main() -> None:
    """Makes the page anew and photographs it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    folder = RunFolder(arguments.run)
    write_whole(folder.report, run_page(read_run(folder)))
    arguments.output.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        address = folder.report.absolute().as_uri()
        photograph(browser, address, arguments.output / "report.png", {"width": 1000, "height": 1180})
        phones = [f"phone-{part}" for part in ("top", "curves")]
        pictures = [arguments.output / f".{name}.png" for name in phones]
        for picture, place in zip(pictures, ("", "#curves"), strict=True):
            photograph(browser, address + place, picture, {"width": 360, "height": 780}, dark=True)
        side_by_side(pictures, arguments.output / "report-phone.png")
        browser.close()


def photograph(browser: Browser, address: str, target: Path, size: ViewportSize, dark: bool = False) -> None:
    """What a window of that size shows of a page."""
    page = browser.new_page(viewport=size, color_scheme="dark" if dark else "light")
    page.goto(address)
    page.wait_for_timeout(800)  # it scrolls smoothly
    save(Image.open(io.BytesIO(page.screenshot())), target)
    page.close()


def side_by_side(pictures: list[Path], target: Path) -> None:
    """One picture of several, which go."""
    parts = [Image.open(picture).convert("RGB") for picture in pictures]
    whole = Image.new("RGB", (sum(part.width for part in parts) + 24 * (len(parts) - 1), parts[0].height), "white")
    left = 0
    for part in parts:
        whole.paste(part, (left, 0))
        left += part.width + 24
    save(whole, target)
    for picture in pictures:
        picture.unlink()


def save(picture: Image.Image, target: Path) -> None:
    """As a small PNG."""
    picture.convert("RGB").quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
        target, optimize=True
    )


if __name__ == "__main__":
    main()
