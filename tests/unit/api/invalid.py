"""Job files that are wrong in one place each, for `tunesmith validate` here and for a real API server elsewhere."""

from dataclasses import dataclass
from pathlib import Path

import yaml

HERE = Path(__file__).parent
VALID = (HERE / "valid.yaml").read_text()
VALID_EVALUATION = (HERE / "valid_evaluation.yaml").read_text()
VALID_PIPELINE = (HERE / "valid_pipeline.yaml").read_text()


@dataclass(frozen=True)
class Invalid:
    """A job file that is refused; refused.yaml says what the fields mean."""

    story: str
    changes: dict[str, str]
    line: int
    place: str
    message: str
    server: str | None = None
    valid: str = VALID

    @property
    def text(self) -> str:
        return changed(self.changes, self.valid)

    @property
    def printed(self) -> str:
        return f"{self.line}: {self.place}: {self.message}"


def changed(changes: dict[str, str], text: str = VALID) -> str:
    """A valid file with every key of `changes`, which must be in it, replaced by its value."""
    for old, new in changes.items():
        assert old in text, f"{old!r} is not in the job any more"
        text = text.replace(old, new)
    return text


def _read(name: str, valid: str = VALID) -> list[Invalid]:
    return [Invalid(**case, valid=valid) for case in yaml.safe_load((HERE / name).read_text())]


SPECS = [*_read("refused.yaml"), *_read("refused_evaluation.yaml", VALID_EVALUATION)]
"""Specs that both `tunesmith validate` and the API server refuse."""
PIPELINES = _read("refused_pipeline.yaml", VALID_PIPELINE)
"""Pipelines that both refuse."""
OFFLINE = _read("refused_offline.yaml")
"""Specs that only `tunesmith validate` refuses, or that the API server refuses in words of its own."""
