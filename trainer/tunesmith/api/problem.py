"""What a user did wrong, in one line each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """Something that the user can mend."""

    message: str
    place: str = ""
    """A field's path, or a file."""
    line: int | None = None
    file: str = ""

    def __str__(self) -> str:
        position = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (position, self.place, self.message) if part)


class InputError(Exception):
    """The user's input is wrong; `str` gives one line for each problem."""

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = [Problem(p) if isinstance(p, str) else p for p in problems]
        super().__init__("\n".join(str(p) for p in self.problems))
