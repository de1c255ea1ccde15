"""`tunesmith report`: the page of a run, or a comparison of several."""

import argparse
from pathlib import Path

from tunesmith.api.load import InputError, Problem
from tunesmith.api.pod import RunFolder
from tunesmith.cli.terminal import quiet_libraries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_FOLDER", help="a run's folder, such as runs/NAME")
    parser.add_argument(
        "--output", type=Path, help="the page (default: RUN_FOLDER/report.html; comparison.html for several runs)"
    )
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Writes the page and says where it is."""
    quiet_libraries()
    from tunesmith.report.compare import comparison_page
    from tunesmith.report.page import run_page
    from tunesmith.report.read import read_run
    from tunesmith.whole_files import write_whole

    runs = [read_run(RunFolder(folder)) for folder in arguments.runs]
    if len(runs) == 1:
        target, text = arguments.output or runs[0].folder.report, run_page(runs[0])
    else:
        target, text = arguments.output or Path("comparison.html"), comparison_page(runs)
    if target.is_dir():
        raise InputError(Problem("is a folder; name a file", "--output", file=str(target)))
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, text)
    print(f"report: {target}")
    return 0
