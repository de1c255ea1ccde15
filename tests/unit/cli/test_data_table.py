"""The table of a run's data, as a terminal of 80 columns and a pipe show it."""

from dataclasses import asdict, replace
from io import BytesIO, TextIOWrapper

import pytest
from rich.console import Console

from tests.unit.cli.test_progress import SUMMARY
from tunesmith.cli.data_table import data_table, histogram_line
from tunesmith.data.summary import DataSummary, SetSummary


def shown(summary: DataSummary, encoding: str = "utf-8") -> list[str]:
    output = TextIOWrapper(BytesIO(), encoding=encoding)
    console = Console(file=output, width=80, highlight=False)
    console.print(data_table(asdict(summary), console))
    output.flush()
    assert isinstance(output.buffer, BytesIO)
    return [line.rstrip() for line in output.buffer.getvalue().decode(encoding).splitlines()]


def test_one_set() -> None:
    assert shown(SUMMARY) == [
        "                 rows  tokens  learned",
        "to train on     1,234  56,789    5,678",
        "to validate on     12",
        "tokens per row: 3 |▁█▃ ▂| 90, median 17",
        "of the rows: 3 cut off at maxLength",
        "warning: 2 training rows stand in the validation or test rows too: left out of",
        "the training",
    ]


def test_a_mixture_says_what_an_epoch_takes_of_each_set() -> None:
    sets = [SetSummary("pvc://data/few.jsonl", 234, 5000, 500, 617)]
    sets += [SetSummary("pvc://data/many/", 1000, 51789, 5178, 617)]
    summary = replace(SUMMARY, sets=sets, warnings=[], truncated=0, repeated=1200)
    assert shown(summary) == [
        "                 rows  tokens  learned  in an epoch",
        "few.jsonl         234   5,000      500    617 (50%)",
        "many            1,000  51,789    5,178    617 (50%)",
        "to validate on     12",
        "tokens per row: 3 |▁█▃ ▂| 90, median 17",
        "of the rows: 1,200 the same as an earlier row",
    ]


def test_a_terminal_without_unicode_gets_plain_characters() -> None:
    assert "tokens per row: 3 |.@- :| 90, median 17" in shown(SUMMARY, "ascii")


@pytest.mark.parametrize(("counts", "line"), [([5], "█"), ([1, 1000], "▁█"), ([0, 1, 2], " ▄█")])
def test_the_histogram(counts: list[int], line: str) -> None:
    assert histogram_line(counts) == line
