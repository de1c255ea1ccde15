"""What curves show, and that a good one shows nothing."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from tunesmith.api.outcome import Outcome, Reason
from tunesmith.training.coach import POLICY_SYMPTOMS, SYMPTOMS, find
from tunesmith.training.curve import Curve
from tunesmith.training.troubleshooting import main, page

STEPS = 200


def curve(
    loss: Callable[[float], float],
    *,
    validation: Callable[[float], float] | None = None,
    norm: Callable[[float], float] = lambda done: 0.8,
    noise: float = 0.02,
    warmup: int = 6,
    seed: int = 0,
) -> Curve:
    """A run whose loss and the like are functions of the share of it that is done."""
    draw = random.Random(seed)
    shares = [step / STEPS for step in range(1, STEPS + 1)]
    cosine = [0.5 * (1 + math.cos(math.pi * share)) for share in shares]
    return Curve(
        steps=range(1, STEPS + 1),
        losses=[loss(share) * (1 + draw.gauss(0, noise)) for share in shares],
        norms=[norm(share) * (1 + draw.gauss(0, 0.1)) for share in shares],
        rates=[1e-3 * min(1.0, (step + 1) / warmup) * cosine[step] for step in range(STEPS)],
        validations=[(step, validation(step / STEPS)) for step in range(20, STEPS + 1, 20)] if validation else [],
        max_norm=1.0,
        batch_size=16,
        rows=1600,
        tokens=160_000,
        learned=80_000,
    )


def falls(done: float) -> float:
    """As from nothing: steep, then level."""
    return 1.5 + 4.0 * math.exp(-12 * done)


def falls_little(done: float) -> float:
    """As a good base that is tuned."""
    return 1.9 + 0.1 * math.exp(-12 * done)


def with_leaps(base: Curve, steps: Sequence[int]) -> Curve:
    losses = list(base.losses)
    for step in steps:
        losses[step] = 6.0
    return replace(base, losses=losses)


CURVES: dict[str, tuple[Curve, list[str]]] = {
    "from nothing": (curve(falls, validation=falls), []),
    "a good base": (curve(falls_little, validation=falls_little), []),
    "noisy batches": (curve(falls, noise=0.15), []),
    "hardly any noise": (curve(falls, validation=falls, noise=0.0), []),
    "learnt to the end": (curve(lambda done: 0.002 + 5 * math.exp(-20 * done), noise=0.5), []),
    "one odd batch": (with_leaps(curve(falls), [90]), []),
    "too short to tell": (replace(curve(falls), steps=[1], losses=[5.0], norms=[1.0], rates=[1e-3]), []),
    "a rate far too high": (curve(lambda done: 5.5 + 3 * min(1.0, 8 * done)), ["LossExplodes"]),
    "a run that breaks down late": (curve(lambda done: falls(done) if done < 0.9 else 5.0), ["LossExplodes"]),
    "nothing is learnt": (curve(lambda done: 5.5), ["LossDoesNotFall"]),
    "next to nothing is learnt": (curve(lambda done: 5.5 - 0.02 * done, noise=0.0), ["LossDoesNotFall"]),
    "a rate far too low": (curve(lambda done: 5.5 - 0.3 * done, noise=0.002), ["LearningRateTooLow"]),
    "rows learnt by heart": (
        curve(lambda done: 3 * math.exp(-6 * done), validation=lambda done: 2.0 + 2 * (done - 0.3) ** 2),
        ["Overfitting"],
    ),
    "validation rows of another kind": (
        curve(falls, validation=lambda done: falls(done) + 2.0),
        ["ValidationFarAbove"],
    ),
    "rows that do not fit in": (with_leaps(curve(falls), [60, 90, 150]), ["LossSpikes"]),
    "gradients of another size": (curve(falls, norm=lambda done: 12.0), ["AlwaysClipped"]),
    "a warmup of half the run": (
        curve(lambda done: 5.5 if done < 0.3 else 1.5 + 4 * math.exp(-12 * (done - 0.3)), noise=0.003, warmup=100),
        ["WarmupTooLong"],
    ),
    "ended too early": (
        curve(lambda done: 5.5 - 3 * done, validation=lambda done: 5.5 - 3 * done, norm=lambda done: 1.0),
        ["StillFalling"],
    ),
    "rows without their end": (replace(curve(falls), truncated=400), ["RowsTruncated"]),
    "rows left out": (replace(curve(falls), dropped=400), ["RowsTruncated"]),
    "a word to each page": (replace(curve(falls), learned=1600), ["FewLearnedTokens"]),
}


@pytest.mark.parametrize("name", CURVES)
def test_a_curve_shows(name: str) -> None:
    shown, expected = CURVES[name]
    assert [finding.name for finding in find(shown)] == expected


@pytest.mark.parametrize("seed", range(20))
def test_chance_shows_nothing(seed: int) -> None:
    assert find(curve(falls, validation=falls, noise=0.08, seed=seed)) == []
    assert find(curve(falls_little, validation=falls_little, noise=0.02, seed=seed)) == []


def test_every_symptom_is_seen_in_a_curve() -> None:
    assert {name for _, names in CURVES.values() for name in names} == {symptom.name for symptom in SYMPTOMS}


def test_what_is_seen_has_its_figures_and_what_to_do() -> None:
    (finding,) = find(CURVES["rows learnt by heart"][0])
    assert finding.seen.startswith(
        "the validation loss rose from 2.000 at step 60 to 2.980 at 200, while the training "
    )
    assert finding.remedies[0].startswith("set training.earlyStopping")


def test_findings_leave_room_in_a_termination_message() -> None:
    every = [finding for shown, _ in CURVES.values() for finding in find(shown)]
    longest = sorted((f"{finding.name}: {finding.seen}" for finding in every), key=len)[-3:]
    assert len(Outcome(reason="Succeeded", findings=longest).model_dump_json()) < 1500


def test_the_page_tells_every_symptom_and_every_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = page()
    assert all(f"### {name}\n" in text for name in [s.name for s in SYMPTOMS] + [s.name for s in POLICY_SYMPTOMS])
    assert all(f"| `{reason}` |" in text for reason in get_args(Reason))
    file = tmp_path / "page.md"
    assert main(["--check", str(file)]) == 1
    assert main([str(file)]) == main(["--check", str(file)]) == 0
    file.write_text(text.replace("tenfold", "a little"))
    assert main(["--check", str(file)]) == 1
    assert "run `make generate`" in capsys.readouterr().err
