"""`tunesmith export`: a run's model merged, quantized, or as an ONNX graph, checked against the original."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from tunesmith.api.load import InputError, Problem
from tunesmith.api.pod import RunFolder
from tunesmith.cli.evaluate import job_of
from tunesmith.cli.mounts import add_mount_argument
from tunesmith.cli.terminal import quiet_libraries
from tunesmith.sources import Resolver


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("folder", type=Path, metavar="RUN_FOLDER", help="the run's folder, such as runs/NAME")
    parser.add_argument("--to", required=True, metavar="FORMAT", help="an unknown one, such as list, names them all")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where to; must not exist yet")
    parser.add_argument(
        "--relative-to", type=Path, default=Path(), metavar="DIR", help="where relative paths start (default: here)"
    )
    add_mount_argument(parser)
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Exports, and prints a line for the original and one for the export."""
    folder = RunFolder(arguments.folder)
    job = job_of(folder)
    quiet_libraries()
    from tunesmith.export.formats import FORMATS, ExportFailedError, export_run
    from tunesmith.export.measure import table
    from tunesmith.export.onnx import DisagreementError

    if arguments.to not in FORMATS:
        listing = "; ".join(f"{name} ({summary})" for name, summary in FORMATS.items())
        raise InputError(Problem(f"there is no format {arguments.to!r}; there are {listing}", "--to"))
    resolver = Resolver(mounts=dict(arguments.mount), base=arguments.relative_to, runs=folder.root.absolute().parent)
    console = Console(highlight=False)
    try:
        with console.status(f"exporting to {arguments.to}"):
            done = export_run(job.spec, folder, resolver, arguments.to, arguments.output)
    except (ExportFailedError, DisagreementError) as error:
        print(f"{job.metadata.name}: {error}; nothing was written", file=sys.stderr)
        return 1
    console.print(table([done.original, done.exported]))
    console.print(f"written to {arguments.output}")
    return 0
