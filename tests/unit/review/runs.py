"""Runs as an evaluation leaves them, and sets that are drawn from them."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunesmith.cli.main import main

EMOJI = "😀 👩‍👩‍👧‍👦 ﷽"
SCRIPT = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"
FORMULA = '=HYPERLINK("http://example.test","click"),\n+1\r\n@x'


def write_run(
    folder: Path, answers: Sequence[str], base: Sequence[str] | None = None, **scores: Sequence[float]
) -> Path:
    """A run whose evaluation answered so; `scores` are metrics of each answer, `base_` in front means the base's."""
    lines = []
    for row, answer in enumerate(answers):
        line: dict[str, Any] = {"row": row + 1, "prompt": f"Question {row + 1}: ", "reference": f"right {row + 1}"}
        line["tuned"] = {"answer": answer, "finished": True, "answerTokens": 3}
        if base is not None:
            line["base"] = {"answer": base[row], "finished": True, "answerTokens": 3}
        for name, values in scores.items():
            line["base" if name.startswith("base_") else "tuned"][name.removeprefix("base_")] = values[row]
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    (folder / "evaluation").mkdir(parents=True)
    (folder / "evaluation" / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def make(out: Path, *runs: Path, kind: str, rows: int, options: Sequence[str] = ()) -> Path:
    """A set that `tunesmith review make` drew."""
    command = ["review", "make", *map(str, runs), "--kind", kind, "--rows", str(rows), "--out", str(out), *options]
    assert main(command) == 0
    return out


def items_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "items.jsonl").read_bytes().splitlines()]


def key_of(folder: Path) -> dict[str, Any]:
    key: dict[str, Any] = json.loads((folder / "key.json").read_text(encoding="utf-8"))
    return key


def rate(folder: Path, rater: str, values: Mapping[int, str]) -> None:
    """Leaves ratings as the page does."""
    lines = (
        json.dumps({"item": item, "value": value, "at": "2026-01-01T00:00:00Z"}) + "\n"
        for item, value in values.items()
    )
    (folder / "answers" / f"{rater}.jsonl").write_text("".join(lines), encoding="utf-8")


def rated(folder: Path, rater: str) -> dict[int, str | None]:
    """The last rating of each item in a rater's file."""
    lines = (folder / "answers" / f"{rater}.jsonl").read_text(encoding="utf-8").splitlines()
    return {line["item"]: line["value"] for line in map(json.loads, lines)}


@contextmanager
def served(folder: Path, *raters: str) -> Iterator[tuple["subprocess.Popen[str]", dict[str, str]]]:
    """A process of `tunesmith review serve`, and each rater's address."""
    names = [part for rater in raters for part in ("--rater", rater)]
    command = [sys.executable, "-m", "tunesmith.cli.main", "review", "serve", str(folder), "--port", "0", *names]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = [
                re.fullmatch(r"(\S+): (http://127\.0\.0\.1:\d+/\S+/)\n", process.stdout.readline()) for _ in raters
            ]
            yield process, {line[1]: line[2] for line in lines if line}
        finally:
            process.kill()
