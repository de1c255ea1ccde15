"""`--mount NAME=DIR`: where claims and ConfigMaps are on this machine."""

import argparse
from pathlib import Path


def add_mount_argument(parser: argparse.ArgumentParser) -> None:
    """Declares --mount, which may be given several times."""
    parser.add_argument(
        "--mount",
        action="append",
        default=[],
        type=_mount,
        metavar="NAME=DIR",
        help="the folder that stands for pvc://NAME or configmap://NAME",
    )


def _mount(text: str) -> tuple[str, Path]:
    name, separator, folder = text.partition("=")
    if not (name and separator and folder):
        raise argparse.ArgumentTypeError(f"{text!r} should be NAME=DIR")
    if not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"{folder} is not a folder")
    return name, Path(folder)
