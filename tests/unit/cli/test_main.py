"""Commands and their exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.api.invalid import VALID, changed
from tunesmith.cli.main import COMMANDS, main


def exit_code(*arguments: str) -> int:
    """As the shell sees it: argparse ends the process itself."""
    try:
        return main(arguments)
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("job.yaml")
    path.write_text(VALID)
    return path


def test_a_valid_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("validate", "-f", "job.yaml") == 0
    assert capsys.readouterr() == ("job.yaml: FineTuneJob sums is valid\n", "")


def test_an_invalid_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(changed({"2e-4": "-2e-4"}))
    assert exit_code("validate", "-f", "job.yaml") == 2
    printed = "job.yaml:17: spec.training.learningRate: should be greater than 0 (is -0.0002)\n"
    assert capsys.readouterr() == ("", printed)


def test_a_local_path_is_valid_for_a_local_run_only(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(changed({"hf://acme/sums": "rows.jsonl"}))
    assert exit_code("validate", "-f", "job.yaml", "--local") == 0
    assert exit_code("validate", "-f", "job.yaml") == 2
    assert "works only with `tunesmith run`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "required: COMMAND"),
        (("trian",), "invalid choice: 'trian'"),
        (("validate",), "required: -f/--filename"),
        (("run", "-f", "job.yaml", "--mount", "data"), "argument --mount: 'data' should be NAME=DIR"),
        (("run", "-f", "job.yaml", "--mount", "=x"), "argument --mount: '=x' should be NAME=DIR"),
        (("run", "-f", "job.yaml", "--mount", "data=nowhere"), "argument --mount: nowhere is not a folder"),
        (("run", "-f", "nowhere.yaml"), "nowhere.yaml: cannot be read: No such file or directory"),
    ],
)
def test_what_cannot_be_understood_ends_with_2(
    arguments: tuple[str, ...], said: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(*arguments) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS if name not in ("submit", "evaluate"))])
def test_help_is_there(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(*command, "--help") == 0
    assert "usage: tunesmith" in capsys.readouterr().out


def test_checking_a_file_needs_no_torch(file: Path) -> None:
    """So it is quick, and works where only the API is installed."""
    run = "from tunesmith.cli.main import main; main(['validate', '-f', 'job.yaml'])"
    code = f"import sys; {run}; print(sorted(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "is valid" in output
    assert not {"torch", "transformers", "ray"} & set(output.replace("'", "").replace(",", "").split())


def test_a_reader_that_goes_away_does_no_harm(file: Path) -> None:
    command = f"{sys.executable} -m tunesmith.cli.main validate -f job.yaml 2>errors | true; cat errors"
    assert subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout == ""


@pytest.mark.parametrize("command", ["top", "watch", "logs"])
def test_looking_at_a_cluster_needs_little(command: str) -> None:
    """They are installed without torch, and their help is there at once."""
    run = f"from tunesmith.cli.main import main\ntry: main([{command!r}, '--help'])\nexcept SystemExit: pass"
    code = f"import sys\n{run}\nprint('kubernetes' in sys.modules, 'pydantic' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output.endswith("False False\n")
    needed = ("log_source", "logs", "board", "table", "evaluation", "story", "follow", "utilization")
    code = f"import sys, {', '.join(f'tunesmith.cluster.{name}' for name in needed)}; print(sorted(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert not {"torch", "transformers", "ray", "numpy"} & set(output.replace("'", "").replace(",", "").split())
