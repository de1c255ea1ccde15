"""Leaves a run's page and its model's card in the run's folder; that they cannot be made never fails a run."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tunesmith.api.outcome import Outcome
from tunesmith.api.pod import RunFolder
from tunesmith.whole_files import write_whole

log = logging.getLogger(__name__)


def leave_report(folder: RunFolder, tell: Callable[[str], None] = log.warning) -> Path | None:
    """Writes report.html, and README.md beside the model where there is one.

    Args:
        folder: of a run, held by the caller.
        tell: is given a sentence where something could not be written.

    Returns:
        The page; None where it could not be written.
    """
    try:
        from tunesmith.report.card import write_cards
        from tunesmith.report.page import run_page
        from tunesmith.report.read import read_run

        run = read_run(folder, running=False)
        write_cards(run, tell)
        write_whole(folder.report, run_page(run))
    except Exception as error:  # whatever it is, the model is there and is what the run is for
        log.debug("the report could not be written", exc_info=True)
        tell(f"the report could not be written: {error}; try `tunesmith report {folder.root}`")
        return None
    return folder.report


def with_report(outcome: Outcome, page: Path | None) -> Outcome:
    """The outcome with the page among its artifacts."""
    if page is None:
        return outcome
    return outcome.model_copy(update={"artifacts": outcome.artifacts.model_copy(update={"report": str(page)})})


def leave_pipeline_report(
    name: str, folders: Sequence[RunFolder], runs: Path, tell: Callable[[str], None] = log.warning
) -> Path | None:
    """Writes NAME.html, the page of a pipeline, beside its stages' folders; they are as far as they are.

    Args:
        name: of the pipeline.
        folders: of its stages, in their order.
        runs: where the page goes.
        tell: is given a sentence where it could not be written.
    """
    target = runs / f"{name}.html"
    try:
        from tunesmith.report.pipeline import pipeline_page
        from tunesmith.report.read import read_run

        stages = [read_run(folder, running=False) for folder in folders if folder.config.exists()]
        if not stages:
            return None
        pages = {run.name: os.path.relpath(run.folder.report, runs) for run in stages}
        write_whole(target, pipeline_page(name, stages, pages))
    except Exception as error:  # as above
        log.debug("the pipeline's report could not be written", exc_info=True)
        tell(f"the report of {name} could not be written: {error}")
        return None
    return target
