"""The progress display of `tunesmith run`: follows metrics.jsonl, whichever process writes it."""

import json
import threading
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tunesmith.api.pod import RunFolder


class TrainingProgress:
    """A bar with loss, tokens per second and time left."""

    def __init__(self, folder: RunFolder, console: Console) -> None:
        self._folder, self._console = folder, console
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True, name="progress")
        self._step = 0

    def __enter__(self) -> Self:
        self._folder.data.unlink(missing_ok=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._folder.data.exists():
            if self._done.wait(0.2):
                return
        summary = json.loads(self._folder.data.read_text(encoding="utf-8"))
        self._console.print(
            f"{summary['train_rows']:,} rows, {summary['train_tokens']:,} tokens to train on; "
            f"{summary['validation_rows']:,} rows to validate on"
            + (f"; {summary['truncated']:,} truncated" if summary["truncated"] else "")
            + (f"; {summary['dropped']:,} left out, longer than maxLength" if summary["dropped"] else "")
        )
        columns = (
            TextColumn("Training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        with Progress(*columns, console=self._console) as bar:
            task = bar.add_task("", total=summary["total_steps"], figures="")
            while not self._done.wait(0.3):
                self._show(bar, task)
            self._show(bar, task)

    def _show(self, bar: Progress, task: object) -> None:
        last, validation = self._last_lines()
        if last is None or last["step"] == self._step:
            return
        self._step = last["step"]
        figures = f"loss {last['loss']:.4f}"
        figures += f"  validation {validation:.4f}" if validation is not None else ""
        figures += f"  {last['tokens_per_second']:,.0f} tokens/s"
        bar.update(task, completed=last["step"], figures=figures)  # type: ignore[arg-type]  # rich's TaskID is an int

    def _last_lines(self) -> tuple[dict[str, float] | None, float | None]:
        """The last whole line, and the last validation loss."""
        try:
            text = self._folder.metrics.read_text(encoding="utf-8")
        except OSError:
            return None, None
        records = [json.loads(line) for line in text.split("\n")[:-1] if line]
        losses = [r["validation/loss"] for r in records if "validation/loss" in r]
        return (records[-1] if records else None), (losses[-1] if losses else None)
