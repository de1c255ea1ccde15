"""Writes what is made from Python for the chart and the docs: `python -m monitoring.generate [--check]`."""

import sys
from pathlib import Path

from monitoring import boards, reference, rules

ROOT = Path(__file__).resolve().parents[1]


def files() -> dict[str, str]:
    """The text of each generated file by its path from the root of the repository."""
    return {**boards.files(), **rules.files(), **reference.files()}


def main(arguments: list[str]) -> int:
    """Writes the files; with --check it says which of them are not what it would write."""
    drifted = []
    for name, text in files().items():
        file = ROOT / name
        if "--check" not in arguments:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != text:
            drifted.append(name)
    for name in drifted:
        print(f"{name} is not what monitoring generates; run `make generate`", file=sys.stderr)
    return 1 if drifted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
