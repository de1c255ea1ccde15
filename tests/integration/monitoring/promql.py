"""Changes of PromQL as text, for a world in which a minute takes a second and nothing has gone wrong."""

import re

_TOKEN = re.compile(
    r'(?P<apart>"(?:\\.|[^"\\])*"|#[^\n]*|\{[^}]*\})|(?P<word>\bunless\b|\babsent\b)|(?P<sign>[<>]=?|[!=]=)'
)


def in_seconds(expr: str) -> str:
    """Windows and offsets of minutes become seconds, those of hours minutes."""
    return re.sub(r"\b(\d+)([mh])\b", lambda found: f"{found[1]}{'s' if found[2] == 'm' else 'm'}", expr)


def without_conditions(expr: str) -> str:
    """What an alert looks at, whether or not it should fire: a comparison says 0 or 1, and nothing is left out.

    What is `absent` is asked for; `unless` becomes `or`, so that its side must be understood, too.
    """
    words = {"unless": "or", "absent": ""}

    def changed(found: re.Match[str]) -> str:
        if found["apart"]:
            return found["apart"]
        return words[found["word"]] if found["word"] else f"{found['sign']} bool"

    return _TOKEN.sub(changed, expr)
