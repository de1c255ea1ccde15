"""What is known of a search's trials when it is begun, and begun again."""

from pathlib import Path
from typing import Any

import pytest

from tunesmith.api.job import FineTuneJob
from tunesmith.api.load import InputError
from tunesmith.api.outcome import Outcome
from tunesmith.api.pod import RunFolder
from tunesmith.launch.book import Book
from tunesmith.launch.trials import best_trial, read_trials
from tunesmith.sources import Resolver
from tunesmith.training.assignment import Assignment

JOB: dict[str, Any] = {
    "metadata": {"name": "sums"},
    "spec": {
        "model": {"source": "hf://acme/tiny"},
        "dataset": {"train": {"source": "hf://acme/sums"}, "validation": {"fraction": 0.1}},
        "objective": {"causalLM": {}},
        "method": {"full": {}},
        "search": {"parameters": [{"field": "training.learningRate", "numbers": [0.1, 0.2, 0.3]}], "algorithm": "grid"},
    },
}
DONE = Outcome(reason="Succeeded", step=20)


class Story:
    """A search in a folder."""

    def __init__(self, root: Path) -> None:
        self.folder = RunFolder(root)
        self.told: list[str] = []
        self.again()

    def again(self) -> None:
        """The search is killed and begun again."""
        self.book = Book(Assignment(FineTuneJob.model_validate(JOB), self.folder, Resolver()), self.told.append)

    def ends(self, number: int, loss: float | None, outcome: Outcome | None = DONE) -> None:
        self.book.trial(number)
        found = {"best_loss": loss, "best_step": 10, "step": 20} if loss is not None else {"step": 0}
        self.book.end(number, outcome, found)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def test_a_trial_keeps_its_values_and_its_end_through_a_kill(story: Story) -> None:
    story.ends(1, 0.5)
    drawn = story.book.trial(2).values
    story.again()
    assert [trial.ended for trial in story.book.trials] == ["Succeeded", None]
    assert story.book.trial(2).values == drawn == {"training.learningRate": 0.2}
    assert story.book.left == 2
    story.ends(1, 0.1)
    assert read_trials(story.folder)[0].loss == 0.5, "an end is noted once"
    assert len(story.told) == 1


def test_a_trial_that_was_interrupted_goes_on_the_next_time(story: Story) -> None:
    story.ends(1, 0.5, Outcome(reason="Interrupted"))
    assert story.book.trials[0].ended is None
    story.folder.stop_request.touch()
    story.ends(2, 0.5, None)
    assert story.book.trials[1].ended is None, "it was stopped with the search, not for lagging behind"


def test_a_full_disk_ends_the_search_and_no_trial(story: Story) -> None:
    story.ends(1, 0.5, Outcome(reason="StorageFull"))
    assert story.book.stopping
    assert story.book.trials[0].ended is None


def test_a_stopped_trial_is_never_the_best(story: Story) -> None:
    story.ends(1, 0.5)
    story.ends(2, 0.1, None)
    story.ends(3, None, Outcome(reason="LossDiverged", message="step 3: the loss is nan"))
    best = best_trial(story.book.trials)
    assert best is not None
    assert best.number == 1
    assert story.told[1:] == [
        "trial 2/3: validation loss 0.1000 after 20 steps, Stopped (learningRate 0.2)",
        "trial 3/3: no validation loss after 0 steps, LossDiverged (learningRate 0.3)",
    ]


def test_when_all_have_failed_all_are_tried_again(story: Story) -> None:
    for number in (1, 2, 3):
        story.ends(number, None, Outcome(reason="InvalidInput", message="there is no such file"))
    assert story.book.left == 0
    story.again()
    assert story.book.left == 3


def test_a_damaged_table_is_said(story: Story) -> None:
    story.folder.trials_table.write_text("[{")
    with pytest.raises(InputError, match=r"trials\.json: is damaged; start over with --fresh"):
        story.again()
