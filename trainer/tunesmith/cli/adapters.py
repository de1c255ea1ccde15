"""`tunesmith adapters`: combines adapters, and merges one into its base."""

import argparse
import math
from dataclasses import replace
from pathlib import Path

from tunesmith.api.load import InputError, Problem
from tunesmith.cli.terminal import quiet_libraries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    combine = actions.add_parser("combine", help="make one LoRA adapter of several", description="Adds adapters up.")
    combine.add_argument(
        "parts", nargs="+", type=_part, metavar="FOLDER=WEIGHT", help="a run's folder, or an adapter's, and its weight"
    )
    combine.add_argument(
        "--how",
        choices=("cat", "svd", "linear"),
        default="cat",
        help="cat: the exact sum, its rank is the sum of theirs (default); svd: the nearest of a given rank; "
        "linear: adds the factors, which is not the sum",
    )
    combine.add_argument("--rank", type=int, help="of the result, for svd (default: the highest of theirs)")
    merge = actions.add_parser("merge", help="write a base with an adapter in its weights")
    merge.add_argument("folder", type=Path, metavar="FOLDER", help="a run's folder, or an adapter's")
    for action in (combine, merge):
        action.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the result goes")
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Writes the result and prints where it is."""
    quiet_libraries()
    from tunesmith.models import adapters

    adapters.refuse_existing(arguments.output)
    if arguments.action == "merge":
        merge_into_base(arguments.folder, arguments.output)
    else:
        combine_parts(arguments)
    print(f"{'model' if arguments.action == 'merge' else 'adapter'}: {arguments.output}")
    return 0


def combine_parts(arguments: argparse.Namespace) -> None:
    """Adds adapters up."""
    from tunesmith.models.adapters import adapter_folder, combine, load_adapters, save

    if arguments.rank is not None and arguments.how != "svd":
        raise InputError(Problem("goes with --how svd only", "--rank"))
    folders = {f"part{index}": folder for index, (folder, _) in enumerate(arguments.parts)}
    weights = {f"part{index}": weight for index, (_, weight) in enumerate(arguments.parts)}
    model = load_adapters(folders)
    try:
        combine(model, weights, "combined", arguments.how, arguments.rank)
    except InputError as error:
        named = (replace(each, place=str(folders.get(each.place, each.place))) for each in error.problems)
        raise InputError(*named) from None
    save(model, "combined", arguments.output, adapter_folder(arguments.parts[0][0]))


def merge_into_base(folder: Path, output: Path) -> None:
    """Writes the base with the adapter in its weights, in the type of the base's own files."""
    import torch

    from tunesmith.models.adapters import adapter_folder, load_adapters, merged
    from tunesmith.models.load import ModelLocation, kind_at, load_tokenizer, own_dtype
    from tunesmith.models.save import save_bare

    source = adapter_folder(folder)
    model = load_adapters({"default": source})
    if model.active_peft_config.is_prompt_learning:
        raise InputError(Problem("is a prefix or a prompt, which no weights can hold", file=str(source)))
    with torch.no_grad():
        whole = merged(model)
    location = ModelLocation(str(source))
    save_bare(whole.to(own_dtype(location)), output)
    load_tokenizer(location, kind_at(location)).save_pretrained(output)


def _part(text: str) -> tuple[Path, float]:
    folder, separator, weight = text.rpartition("=")
    try:
        if not separator or not math.isfinite(float(weight)):
            raise ValueError
        return Path(folder), float(weight)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} should be FOLDER=WEIGHT, such as runs/a=0.7") from None
