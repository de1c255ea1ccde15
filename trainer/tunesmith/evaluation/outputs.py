"""What models gave for test rows, kept in the run's folder as it comes: an evaluation that starts again goes on with
what is missing, and one with other metrics needs no model at all.

A file's name holds a digest of all that its outputs follow from: the model's files, the rows, the settings, the
versions. So what has changed is made anew by itself, and nothing else is.
"""

import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunesmith.evaluation.generate import Answers, Written, answer_work, answers_of
from tunesmith.evaluation.work import Crew, Source, Work, digest

_VERSIONS = ("tunesmith", "torch", "transformers", "peft")


class OutputFile:
    """Outputs by the numbers of their items; a line for each batch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[int, Any]:
        """What is there. A last line that is torn, because its writer was killed, is cut off."""
        found: dict[int, Any] = {}
        whole = 0
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return found
        for line in content.splitlines(keepends=True):
            try:
                pairs = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                pairs = None
            if pairs is None:
                break
            found |= {int(item): output for item, output in pairs}
            whole += len(line)
        if whole < len(content):
            with self.path.open("r+b") as file:
                file.truncate(whole)
        return found

    def append(self, outputs: dict[int, Any]) -> None:
        """Adds a batch, in one piece."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(list(outputs.items()), separators=(",", ":")) + "\n"
        with self.path.open("ab", buffering=0) as file:
            file.write(line.encode())


class Outputs:
    """The outputs of one model.

    Args:
        source: the model.
        tokenizer: the tuned model's, for all models.
        crew: makes what is missing.
        folder: where outputs are kept; None keeps none.
        used: gets the files that are in use.
    """

    def __init__(
        self,
        source: Source,
        tokenizer: PreTrainedTokenizerBase,
        crew: Crew,
        folder: Path | None = None,
        used: set[Path] | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self._used = set() if used is None else used
        self._source, self._crew, self._folder = source, crew, folder
        self._versions = [version(name) for name in _VERSIONS]

    def of(self, work: Work, progress: Callable[[int], None] = lambda done: None) -> tuple[dict[int, Any], int]:
        """The outputs of all items of some work, and how many at once worked.

        Args:
            work: what is asked.
            progress: is told how many items are done.
        """
        file = self._file(work)
        found = file.read() if file else {}
        if found:
            progress(len(found))

        def keep(outputs: dict[int, Any]) -> None:
            if file:
                file.append(outputs)
            found.update(outputs)
            progress(len(found))

        missing = [item for item in work.items if item not in found]
        size = self._crew.do(self._source, work, missing, keep) if missing else work.size
        return found, size

    def answers(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, size: int, progress: Callable[[int], None]
    ) -> Answers:
        """The model's answers to prompts; as `generate_answers`, which says what they are."""
        found, size = self.of(answer_work(self.tokenizer, prompts, max_new_tokens, size), progress)
        written = {row: Written(*output) for row, output in found.items()}
        return answers_of(written, len(prompts), self.tokenizer, size)

    def _file(self, work: Work) -> OutputFile | None:
        if self._folder is None:
            return None
        name = digest(self._source.identity, self._versions, work.name, *work.facts)
        path = self._folder / f"{self._source.name}-{work.name}-{name}.jsonl"
        self._used.add(path)
        return OutputFile(path)


def delete_others(folder: Path, used: set[Path]) -> None:
    """Deletes what no longer belongs to any output: of earlier rows, settings or weights."""
    for path in folder.glob("*.jsonl"):
        if path not in used:
            path.unlink()
