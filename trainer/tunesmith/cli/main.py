"""The entry point: `tunesmith COMMAND`.

Exit codes: 0 success, 1 the run failed, 2 the input is wrong, 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from tunesmith import __version__
from tunesmith.api.problem import InputError

COMMANDS = {
    "run": "train and evaluate here what a file describes",
    "validate": "check a file without running it",
    "estimate": "the memory that a job needs, whether it fits, and what would make it fit",
    "find": "find a learning rate, or the largest micro-batch, for a job",
    "evaluate": "evaluate a run's model on its test set",
    "review": "let people rate answers, blinded, and see what their ratings show",
    "report": "the page of a run, or a comparison of several",
    "track": "send a run to the trackers of its spec.tracking",
    "adapters": "combine adapters, or merge one into its base",
    "export": "write a run's model merged, quantized or as a graph",
    "top": "the jobs of a cluster as a live table: progress, loss, GPUs, time left",
    "watch": "follow a job on a cluster to its end",
    "logs": "the log of a job on a cluster",
    "train": "what a RayJob's driver runs",
    "submit": "what a RayJob's submitter runs",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; a user's mistake becomes a line on standard error, never a traceback."""
    # threads that spin while they wait take turns with whatever else runs here, which costs a busy machine most of its
    # speed; it must be said before torch is imported
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="tunesmith", description="Fine-tunes and evaluates language models.")
    parser.add_argument("--version", action="version", version=f"tunesmith {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if arguments[:1] == [name]:  # only the command that is meant: others import much
            import_module(f"tunesmith.cli.{name}").add_arguments(subparser)
    try:
        parsed = parser.parse_args(arguments)
        return int(parsed.main(parsed))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder that may not be written
        print(f"{error.filename}: {error.strerror}" if error.filename else error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
