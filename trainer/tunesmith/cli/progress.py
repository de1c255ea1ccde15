"""The progress display of `tunesmith run`: follows metrics.jsonl, whichever process writes it."""

import json
import os
import threading
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from tunesmith.api.pod import RunFolder
from tunesmith.cli.data_table import data_table
from tunesmith.training.curve import explodes, loss_curve


def figures_of(record: dict[str, float]) -> str:
    """What a step's record says of how well the run goes."""
    if "ppo/reward" in record:
        validation = f", validation {record['validation/reward']:.3f}" if "validation/reward" in record else ""
        return f"reward {record['ppo/reward']:.3f}{validation}, kl {record['ppo/kl']:.2f}"
    validation = f", validation {record['validation/loss']:.4f}" if "validation/loss" in record else ""
    loss = f"loss {record['loss']:.4f}" if "loss" in record else "no loss yet"  # the first steps may be left out
    return f"{loss}{validation}"


class TrainingProgress:
    """A bar with the loss, or of PPO reward and divergence, tokens per second and time left."""

    def __init__(self, folder: RunFolder, console: Console) -> None:
        self._folder, self._console = folder, console
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True, name="progress")
        self._file, self._offset = 0, 0
        self._last: dict[str, float] = {}
        self._records: list[dict[str, float]] = []
        self._warned = False

    def __enter__(self) -> Self:
        self._folder.data.unlink(missing_ok=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._folder.data.exists():
            if self._done.wait(0.2) and not self._folder.data.exists():  # it may have come with the end of a short run
                return
        summary = json.loads(self._folder.data.read_text(encoding="utf-8"))
        self._console.print(data_table(summary, self._console))
        columns = (
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        )
        with Progress(*columns, console=self._console) as bar:
            task = bar.add_task("", total=summary["total_steps"], figures="")
            while not self._done.wait(0.3):
                self._show(bar, task)
            self._show(bar, task)

    def _show(self, bar: Progress, task: TaskID) -> None:
        if not self._read():
            return
        self._warn()
        figures = f"{figures_of(self._last)}, {self._last['tokens_per_second']:,.0f} tokens/s,"
        bar.update(task, completed=self._last["step"], figures=figures)

    def _warn(self) -> None:
        """Says once that the loss explodes, while there is time to stop; that of PPO says little."""
        silent = self._warned or "ppo/reward" in self._last
        seen = None if silent else explodes(loss_curve(self._records))
        if seen is not None:
            self._warned = True
            self._console.print(f"[yellow]LossExplodes[/]: {seen}; stop with Ctrl-C", soft_wrap=True)

    def _read(self) -> bool:
        """Takes in the whole lines that have come; a figure stays until the next line that has it."""
        try:
            with self._folder.metrics.open("rb") as file:
                identity = os.fstat(file.fileno()).st_ino
                if identity != self._file:  # a resumed run has put another in its place
                    self._file, self._offset, self._records = identity, 0, []
                file.seek(self._offset)
                lines = file.read().split(b"\n")[:-1]
        except OSError:
            return False
        self._offset += sum(len(line) + 1 for line in lines)
        for line in lines:
            self._records.append(json.loads(line))
            self._last |= self._records[-1]
        return bool(lines)
