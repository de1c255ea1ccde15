"""The samples are valid: what a reader copies first, and nothing else reads all of them."""

from pathlib import Path

import pytest

from tunesmith.cli.main import main

SAMPLES = Path(__file__).parents[3] / "manifests" / "samples"
FILES = sorted(file for file in SAMPLES.rglob("*") if file.is_file())


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SAMPLES)))
def test_a_sample_is_valid_on_a_cluster(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "-f", str(file)]) == 0, capsys.readouterr().err
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == file.read_text().count("\nkind: ") > 0
    assert all(line.startswith(f"{file}: ") and line.endswith(" is valid") for line in lines)
