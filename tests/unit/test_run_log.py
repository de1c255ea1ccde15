"""What is kept of the end of a log."""

import os
from pathlib import Path

from tunesmith.api.pod import RunFolder
from tunesmith.run_log import last_tail, tail


def test_the_last_whole_lines_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("".join(f"{number}: {'ä' * 45}\n" for number in range(2000)), encoding="utf-8")
    kept = tail(file, {})
    assert kept is not None
    assert len(kept.encode()) <= 1024
    lines = kept.split("\n")
    assert [line[:4] for line in lines] == [str(number) for number in range(2000 - len(lines), 2000)]
    assert len(lines) == 10


def test_a_single_long_line_is_cut(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("x" * 5000 + "end", encoding="utf-8")
    kept = tail(file, {})
    assert kept is not None
    assert (len(kept), kept[-4:]) == (1024, "xend")


def test_there_may_be_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert tail(tmp_path / "empty", {}) is None
    assert tail(tmp_path / "missing", {}) is None
    assert last_tail(RunFolder(tmp_path)) is None


def test_secrets_of_the_environment_are_masked(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("401 for hf_secret, with s3-key at host-name", encoding="utf-8")
    environment = {"HF_TOKEN": "hf_secret", "AWS_ACCESS_KEY": "s3-key", "HOSTNAME": "host-name", "A_SECRET": "for"}
    assert tail(file, environment) == "401 for ***, with *** at host-name"


def test_of_several_logs_the_one_that_was_written_last(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.logs.mkdir()
    for rank, when in ((0, 100), (1, 300), (2, 200)):
        log = folder.logs / f"worker-{rank}.log"
        log.write_text(f"of {rank}")
        os.utime(log, (when, when))
    assert last_tail(folder) == "of 1"
