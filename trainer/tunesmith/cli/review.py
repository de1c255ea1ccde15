"""`tunesmith review`: people rate answers, without knowing whose they are."""

import argparse
import json
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from tunesmith.api.load import InputError, Problem
from tunesmith.review.folder import ReviewFolder, open_rater, write_set
from tunesmith.review.kinds import KINDS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    make = _action(actions, "make", "draws a blinded set from the answers of evaluated runs", make_set)
    make.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN_FOLDER",
        help="of evaluated runs; one alone stands beside its base, several beside each other",
    )
    make.add_argument("--kind", required=True, choices=KINDS, help="what is asked; see docs/review.md")
    make.add_argument("--rows", required=True, type=_positive, metavar="N", help="how many rows are drawn")
    make.add_argument("--seed", type=int, default=0, help="the same seed draws the same set (default: 0)")
    make.add_argument("--out", required=True, type=Path, metavar="SET", help="the set's folder; must not exist yet")
    make.add_argument(
        "--with-base", action="store_true", help="the first run's base takes part beside several runs too"
    )
    make.add_argument("--metric", help="what tells how far answers differ (default: the first of the evaluation)")
    make.add_argument("--show-reference", action="store_true", help="raters see the right answer")

    serve = _action(actions, "serve", "serves the page to rate a set on", serve_set)
    _set_argument(serve)
    serve.add_argument(
        "--rater", required=True, action="append", metavar="NAME", help="who rates; may be given several times"
    )
    serve.add_argument("--port", type=int, default=8484, help="0 for any that is free (default: 8484)")
    serve.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: this machine alone)")

    results = _action(actions, "results", "shows what the ratings of a set show", show_results)
    _set_argument(results)

    export = _action(actions, "export", "writes a set as CSV, to be rated in a spreadsheet", export_csv)
    _set_argument(export)
    export.add_argument("--csv", required=True, type=Path, metavar="FILE", help="must not exist yet")

    bring = _action(actions, "import", "reads ratings from CSV", import_csv)
    _set_argument(bring)
    bring.add_argument("--csv", required=True, type=Path, metavar="FILE")
    bring.add_argument("--rater", required=True, metavar="NAME", help="whose ratings these are")

    pairs = _action(actions, "pairs", "writes ratings as preferences, for objective.reward", write_pairs)
    _set_argument(pairs)
    pairs.add_argument("--out", required=True, type=Path, metavar="FILE.jsonl", help="must not exist yet")


def _action(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, summary: str, main: object
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
    parser.set_defaults(main=main)
    return parser


def _set_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("set", type=Path, metavar="SET", help="the set's folder")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} should be a number from 1")
    return int(text)


def make_set(arguments: argparse.Namespace) -> int:
    """Makes a set, and says what is in it."""
    from tunesmith.review.draw import draw_set
    from tunesmith.review.rows import has_base, read_answers

    if arguments.out.exists():
        raise InputError(Problem("exists already, perhaps with ratings; choose another --out", file=str(arguments.out)))
    first = arguments.runs[0]
    with_base = arguments.with_base or (len(arguments.runs) == 1 and has_base(first))
    answered = read_answers(arguments.runs, with_base)
    drawn = draw_set(
        answered, arguments.kind, arguments.rows, arguments.seed, arguments.metric, arguments.show_reference
    )
    write_set(arguments.out, drawn.info, drawn.items, drawn.key)
    key = drawn.key
    print(f"{drawn.info.items:,} items on answers of {', '.join(key.models)}")
    for stratum in key.strata:
        print(f"  {stratum.name}: {stratum.drawn:,} of {stratum.units:,}")
    if key.same:
        print(f"  the same answer, not asked about: {key.same:,}")
    if key.left_out:
        print(f"  rows that a model could not answer, left out: {key.left_out:,}")
    if (found := sum(stratum.drawn for stratum in key.strata)) < arguments.rows:
        print(f"fewer than the {arguments.rows:,} asked for: no more than {found:,} differ", file=sys.stderr)
    print(f"rate it: tunesmith review serve {arguments.out} --rater NAME")
    return 0


def serve_set(arguments: argparse.Namespace) -> int:
    """Serves until it is interrupted, which loses nothing."""
    from tunesmith.review.serve import ReviewServer

    folder = ReviewFolder(arguments.set)
    info, items = folder.info(), folder.items()
    with ExitStack() as stack:
        raters = {name: stack.enter_context(open_rater(folder, name)) for name in dict.fromkeys(arguments.rater)}
        try:
            server = stack.enter_context(ReviewServer(arguments.host, arguments.port, info, items, raters))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            message = f"cannot listen on {arguments.host}, port {arguments.port}: {reason}"
            raise InputError(Problem(message, "--port")) from None
        for name, address in server.addresses().items():
            print(f"{name}: {address}", flush=True)
        print("every answer is saved at once; stop with Ctrl-C", flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            for name, file in raters.items():
                print(f"{name}: {len(file.given()):,} of {info.items:,} rated")
    return 0


def show_results(arguments: argparse.Namespace) -> int:
    """Prints tables, and leaves results.json in the set's folder."""
    from rich.console import Console

    from tunesmith.review.results import results_of
    from tunesmith.review.table import results_table

    folder = ReviewFolder(arguments.set)
    info, ratings = folder.info(), folder.ratings()
    _refuse_unrated(arguments.set, ratings)
    found = results_of(info.id, info.kind, folder.key(), ratings)
    folder.results.write_text(json.dumps(found.to_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    Console(highlight=False).print(results_table(found))
    print(f"figures: {folder.results}")
    return 0


def export_csv(arguments: argparse.Namespace) -> int:
    """Writes the set without its key."""
    from tunesmith.review.kinds import CHOICES
    from tunesmith.review.spreadsheet import write_csv

    _refuse_existing(arguments.csv)
    folder = ReviewFolder(arguments.set)
    info, items = folder.info(), folder.items()
    write_csv(arguments.csv, info, items)
    allowed = ", ".join(choice.value for choice in CHOICES[info.kind]) or "letters, the best first, such as B>A>C"
    print(f"written to {arguments.csv}; the column rating takes {allowed}")
    return 0


def import_csv(arguments: argparse.Namespace) -> int:
    """Adds the ratings of a spreadsheet to a rater's."""
    from tunesmith.review.spreadsheet import read_csv

    folder = ReviewFolder(arguments.set)
    info, items = folder.info(), folder.items()
    ratings = read_csv(arguments.csv, info, items)
    with open_rater(folder, arguments.rater) as file:
        given = file.given()
        new = {item: value for item, value in ratings.items() if given.get(item) != value}
        for item, value in new.items():
            file.give(item, value)
    changed = sum(item in given for item in new)
    print(f"{len(new):,} ratings of {arguments.rater} read, {changed:,} of them instead of earlier ones")
    print(f"{info.items - len(given | new):,} of {info.items:,} items are without")
    return 0


def write_pairs(arguments: argparse.Namespace) -> int:
    """Writes preferences, and says how to read them."""
    from tunesmith.review.preferences import preferences_of

    _refuse_existing(arguments.out)
    folder = ReviewFolder(arguments.set)
    info, ratings = folder.info(), folder.ratings()
    _refuse_unrated(arguments.set, ratings)
    found = preferences_of(info.kind, folder.items(), ratings)
    if not found.rows:
        raise InputError(Problem(f"all {found.ties:,} pairs are ties: there is no preference", file=str(arguments.set)))
    try:
        with arguments.out.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in found.rows)
    except OSError as error:
        raise InputError(Problem(f"cannot be written: {error.strerror}", file=str(arguments.out))) from None
    what, columns = ("rated answers", "rating: rating") if info.kind == "likert" else ("pairs", "margin: margin")
    print(f"{len(found.rows):,} {what}; left out: {found.ties:,} ties, {found.unrated:,} items that nobody has rated")
    print(f'read them with dataset.columns: {{{columns}}} and objective.reward.template: "{{prompt}}{{response}}"')
    return 0


def _refuse_unrated(folder: Path, ratings: dict[str, dict[int, str]]) -> None:
    if not any(ratings.values()):
        raise InputError(Problem("nobody has rated anything yet", file=str(folder)))


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise InputError(Problem("exists already; choose another name", file=str(path)))
