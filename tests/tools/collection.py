"""What a folder of tests needs before the first of them runs."""

from collections.abc import Callable
from pathlib import Path

import pytest


def prepare_for(folder: Path, session: pytest.Session, work: Callable[[], None]) -> None:
    """Does long work once the tests of a folder have been collected, where any of them is to run.

    Then the minutes that a first time takes are seen, and are no test's timeout.

    Args:
        folder: of the tests.
        session: has collected them.
        work: builds what they need; what it prints is shown.
    """
    if session.config.option.collectonly or not any(folder in item.path.parents for item in session.items):
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        work()


def mark_all(folder: Path, items: list[pytest.Item], mark: pytest.MarkDecorator) -> None:
    """Marks every test of a folder."""
    for item in items:
        if folder in item.path.parents:
            item.add_marker(mark)
