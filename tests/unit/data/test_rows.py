"""Reading rows: every format, and what is said of a file that is not as it should be."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from tunesmith.api.dataset import DataSource
from tunesmith.api.load import InputError
from tunesmith.data.rows import LONGEST_LINE, TEXT_PIECE, Row, count_rows, iterate_rows, read_rows, source_files
from tunesmith.sources import Resolver

PLACE = "spec.dataset.train.source"


def read(folder: Path, source: str, **fields: Any) -> list[Row]:
    data, resolver = DataSource.model_validate({"source": source, **fields}), Resolver(base=folder)
    rows = read_rows(data, resolver, PLACE)
    assert count_rows(data, resolver, PLACE) == len(rows)
    return rows


def refusal(folder: Path, source: str, **fields: Any) -> str:
    with pytest.raises(InputError) as refused:
        read(folder, source, **fields)
    return str(refused.value).replace(f"{folder}/", "")


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_jsonl_keeps_its_order_and_skips_blank_lines(tmp_path: Path) -> None:
    rows = [{"prompt": f"é {i}", "number": i} for i in range(20)]
    (tmp_path / "rows.jsonl").write_text("\n" + lines(*rows) + "\n\n", encoding="utf-8")
    assert read(tmp_path, "rows.jsonl") == rows
    assert read(tmp_path, f"file://{tmp_path}/rows.jsonl") == rows


def test_jsonl_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + lines({"a": 1}).encode())
    assert read(tmp_path, "rows.jsonl") == [{"a": 1}]


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    text = lines(*({"text": str(i)} for i in range(30))).splitlines()
    text[16] = '{"text": "16'
    (tmp_path / "rows.jsonl").write_text("\n".join(text))
    message = "rows.jsonl:17: spec.dataset.train.source: is broken JSON: Unterminated string starting at column 10"
    assert refusal(tmp_path, "rows.jsonl") == message


def test_json_over_several_lines_is_no_json_lines(tmp_path: Path) -> None:
    for rows in ([{"text": "1"}], {"text": "1", "number": 2}):
        (tmp_path / "rows.json").write_text(json.dumps(rows, indent=1))
        with pytest.raises(InputError, match=r"rows\.json:1: .*: is JSON over several lines; write each row as one"):
            read(tmp_path, "rows.json")


def test_a_line_that_is_no_object_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(lines({"a": 1}, [1, 2]))
    message = "rows.jsonl:2: spec.dataset.train.source: should be an object with the row's columns, one on each line"
    assert refusal(tmp_path, "rows.jsonl") == message


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"a": "\xff"}\n')
    assert refusal(tmp_path, "rows.jsonl") == "rows.jsonl: spec.dataset.train.source: is not UTF-8 text (byte 7)"


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_set_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "rows.jsonl").write_text(content)
    message = f"{PLACE}: rows.jsonl is empty: there is not a single row in it"
    assert refusal(tmp_path, "rows.jsonl") == message
    with pytest.raises(InputError, match=message):
        count_rows(DataSource.model_validate({"source": "rows.jsonl"}), Resolver(base=tmp_path), PLACE)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert refusal(tmp_path, "rows.jsonl") == f"{PLACE}: rows.jsonl does not exist"


def test_a_folder_stands_for_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2.jsonl").write_text(lines({"n": 2}))
    (tmp_path / "a.jsonl").write_text(lines({"n": 1}))
    (tmp_path / "README.md").write_text("not data")
    assert read(tmp_path, ".") == [{"n": 1}, {"n": 2}]


def test_a_folder_without_data(tmp_path: Path) -> None:
    assert refusal(tmp_path, ".").endswith("holds no .jsonl, .parquet or .txt file")


def test_an_unknown_extension_needs_a_format(tmp_path: Path) -> None:
    (tmp_path / "rows.dat").write_text(lines({"n": 1}))
    message = f"{PLACE}: rows.dat: unknown extension; set format to jsonl, parquet or text"
    assert refusal(tmp_path, "rows.dat") == message
    assert read(tmp_path, "rows.dat", format="jsonl") == [{"n": 1}]


def test_text_is_cut_at_the_ends_of_lines_and_nothing_is_lost(tmp_path: Path) -> None:
    text = "".join(f"line {i} of a long text\n" for i in range(2000)) + "no end of line"
    (tmp_path / "book.txt").write_text(text)
    rows = read(tmp_path, "book.txt")
    assert "".join(row["text"] for row in rows) == text
    assert all(row["text"].endswith("\n") for row in rows[:-1])
    assert all(TEXT_PIECE <= len(row["text"]) < TEXT_PIECE + 100 for row in rows[:-1])


def test_text_without_ends_of_lines_is_cut_all_the_same(tmp_path: Path) -> None:
    text = "x" * (2 * LONGEST_LINE)
    (tmp_path / "book.txt").write_text(text)
    rows = read(tmp_path, "book.txt")
    assert "".join(row["text"] for row in rows) == text
    assert max(len(row["text"]) for row in rows) <= LONGEST_LINE + TEXT_PIECE


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet", "rows.txt"])
def test_rows_are_read_as_they_are_asked_for(tmp_path: Path, name: str) -> None:
    """Each first row comes without the others in memory: they are far larger."""
    import pyarrow
    import pyarrow.parquet

    texts = [f"{i} ".rjust(10_000, "x") + "\n" for i in range(3000)]
    match name.rpartition(".")[2]:
        case "jsonl":
            (tmp_path / name).write_text(lines(*({"text": text} for text in texts)))
        case "txt":
            (tmp_path / name).write_text("".join(texts))
        case _:
            table = pyarrow.table({"text": texts})
            pyarrow.parquet.write_table(table, tmp_path / name, row_group_size=100, compression="none")
    source = DataSource.model_validate({"source": name})
    tracemalloc.start()
    try:
        for row in iterate_rows(source, Resolver(base=tmp_path), PLACE):
            assert len(row["text"]) == 10_001
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 15_000_000 < sum(map(len, texts))


def test_the_files_that_are_read(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("b/2.jsonl", "1.jsonl"):
        (tmp_path / name).write_text(lines({"n": 2}))
    source = DataSource.model_validate({"source": "."})
    files = source_files(source, Resolver(base=tmp_path), PLACE)
    assert [str(file.relative_to(tmp_path)) for file in files] == ["1.jsonl", "b/2.jsonl"]


def test_parquet(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [{"question": "1 + 1", "answer": "2"}, {"question": "ü", "answer": None}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert read(tmp_path, "rows.parquet") == rows


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_text("hello, this is some text")
    assert refusal(tmp_path, "rows.parquet").startswith(f"rows.parquet: {PLACE}: is not a Parquet file: ")


def test_claims_are_where_they_are_mounted(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(lines({"n": 1}))
    source = DataSource.model_validate({"source": "pvc://data/rows.jsonl"})
    assert read_rows(source, Resolver(mounts={"data": tmp_path}), PLACE) == [{"n": 1}]
    with pytest.raises(InputError, match=r"pvc://data is not on this machine; add --mount data=DIR$"):
        read_rows(source, Resolver(), PLACE)
    (tmp_path / "pvc" / "data").mkdir(parents=True)
    (tmp_path / "pvc" / "data" / "rows.jsonl").write_text(lines({"n": 2}))
    assert read_rows(source, Resolver(in_pod=True, mount_root=tmp_path), PLACE) == [{"n": 2}]


def test_a_data_set_in_the_layout_of_the_hub_is_loaded_by_its_own_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library takes a folder of this name for the repository, and finds its splits and files by itself."""
    data = tmp_path / "acme" / "sums" / "data"
    data.mkdir(parents=True)
    (data / "train.jsonl").write_text(lines({"n": 1}, {"n": 2}))
    (data / "test.jsonl").write_text(lines({"n": 3}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    assert read(tmp_path, "hf://acme/sums") == [{"n": 1}, {"n": 2}]
    assert read(tmp_path, "hf://acme/sums", split="test") == [{"n": 3}]
    (file,) = source_files(DataSource.model_validate({"source": "hf://acme/sums"}), Resolver(), PLACE)
    assert file.is_relative_to(tmp_path / "cache")
    message = 'spec.dataset.train.source: hf://acme/sums cannot be loaded from the Hub: Unknown split "dev"'
    assert refusal(tmp_path, "hf://acme/sums", split="dev").startswith(message)
