"""The three places where Ray Tune asks or tells: what to try next, when to stop, what has happened."""

from typing import Any

from ray.tune import Callback, Stopper
from ray.tune.search import Searcher

from tunesmith.api.outcome import Outcome
from tunesmith.launch.book import Book


class Numbers(Searcher):
    """Gives out the trials by number."""

    def __init__(self, book: Book, skip_ended: bool) -> None:
        super().__init__(metric="loss", mode="min")
        self._book, self._skip, self._next = book, skip_ended, 1

    def suggest(self, trial_id: str) -> Any:
        """The next trial; Tune keeps asking until it is told that there is none left."""
        while self._skip and self._next <= len(self._book.trials) and self._book.trials[self._next - 1].ended:
            self._next += 1
        if self._next > self._book.count or self._book.stopping:
            return Searcher.FINISHED
        trial = self._book.trial(self._next)
        self._next += 1
        return {"trial": trial.to_dict()}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """The book is kept by `Notes`."""

    def save(self, checkpoint_path: str) -> None:
        """There is no state that trials.json does not hold."""

    def restore(self, checkpoint_path: str) -> None:
        """As above."""


class Until(Stopper):
    """Ends the search when somebody asks for it, or nothing more can work."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._book.stopping


class Notes(Callback):
    """Writes down how trials end."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        result = trial.last_result or {}
        outcome = Outcome.model_validate(result["outcome"]) if "outcome" in result else None
        self._book.end(trial.config["trial"]["number"], outcome, result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        said = str(trial.get_error() or "").strip().splitlines()
        message = f"its process died; did it run out of memory? ({said[-1] if said else 'it left no message'})"
        self._book.end(
            trial.config["trial"]["number"], Outcome(reason="WorkerLost", message=message), trial.last_result or {}
        )
