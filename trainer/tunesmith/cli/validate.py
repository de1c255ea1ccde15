"""`tunesmith validate`: what the API server and the operator would refuse, offline."""

import argparse
from pathlib import Path

from tunesmith.api.load import Where, load_resources


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("-f", "--filename", type=Path, required=True, help="the file to check")
    parser.add_argument("--local", action="store_true", help="also accept what works only with `tunesmith run`")
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Prints a line for each resource; all are valid, or none is printed."""
    where: Where = "local" if arguments.local else "cluster"
    for resource in load_resources(arguments.filename, where):
        print(f"{arguments.filename}: {resource.kind} {resource.metadata.name} is valid")
    return 0
