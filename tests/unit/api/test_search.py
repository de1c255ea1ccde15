"""spec.search: fields that do not exist and values that are not valid are refused, each in one line with its place."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tunesmith.api.identity import identity_hash
from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import check
from tunesmith.api.trials import trial_spec

VALID = yaml.safe_load((Path(__file__).parent / "valid.yaml").read_text().replace("2e-4", "2.0e-4"))
RATE = {"field": "training.learningRate", "logUniform": {"low": 1e-5, "high": 1e-2}}


def job(*parameters: dict[str, Any], validation: bool = True, **search: Any) -> dict[str, Any]:
    spec = dict(VALID["spec"]) | {"search": {"parameters": list(parameters)} | search}
    spec["dataset"] = dict(spec["dataset"]) | ({"validation": {"fraction": 0.1}} if validation else {})
    if not validation:
        spec["dataset"].pop("validation", None)
        spec["training"] = {k: v for k, v in spec.get("training", {}).items() if k != "earlyStopping"}
    return dict(VALID) | {"spec": spec}


def twenty(field: str) -> dict[str, Any]:
    return {"field": f"training.{field}", "numbers": [n / 100 for n in range(20)]}


P0 = "spec.search.parameters[0]"
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "no such field": (
        job({"field": "training.learningrate", "numbers": [0.1]}),
        f"{P0}.field: training has no field learningrate; did you mean learningRate?",
    ),
    "a method that this job does not use": (
        job({"field": "method.prefix.tokens", "integers": [4]}),
        f"{P0}.field: method.prefix is not set in this job; set it, or name another field",
    ),
    "a part instead of a field": (
        job({"field": "training.schedule", "strings": ["cosine"]}),
        f"{P0}.field: training.schedule holds several fields; name one of them",
    ),
    "a field that never changes the result": (
        job({"field": "training.microBatchSize", "integers": [4]}),
        f"{P0}.field: training.microBatchSize changes memory and speed, never the result; "
        "`tunesmith find micro-batch` finds the largest",
    ),
    "trials that could not be compared": (
        job({"field": "training.maxLength", "integers": [64]}),
        f"{P0}.field: training.maxLength changes what the validation loss is computed on: trials could not be compared",
    ),
    "an end of a range that the field does not take": (
        job({"field": "training.learningRate", "uniform": {"low": 0.1, "high": 200}}),
        f"{P0}.uniform: 200.0 does not go: spec.training.learningRate: should be less than or equal to 100 (is 200.0)",
    ),
    "a word that is no choice": (
        job({"field": "training.schedule.type", "strings": ["cosin"]}),
        f"{P0}.strings: 'cosin' does not go: spec.training.schedule.type: should be one of constant, linear, cosine, "
        "cosineWithRestarts, polynomial, inverseSquareRoot, warmupStableDecay; did you mean cosine? (is 'cosin')",
    ),
    "a grid of a range": (
        job(RATE, algorithm="grid"),
        "spec.search.algorithm: a grid needs listed values (integers, numbers, strings, booleans), not a range",
    ),
    "a grid without end": (
        job(*(twenty(field) for field in ("weightDecay", "schedule.warmup", "schedule.floor")), algorithm="grid"),
        "spec.search.parameters: there are 8,000 combinations, and 1,000 trials at most; list fewer values, or set "
        "algorithm: random",
    ),
    "a grid with a number of trials": (
        job({"field": "training.weightDecay", "numbers": [0.0]}, algorithm="grid", trials=3),
        "spec.search.trials: a grid has as many trials as it has combinations; leave it out",
    ),
    "a field twice": (
        job(RATE, RATE),
        "spec.search.parameters: a field stands twice; give all of its values in one place",
    ),
    "two kinds of values": (
        job(RATE | {"numbers": [0.1]}),
        f"{P0}: set exactly one of logUniform, uniform, integers, numbers, strings, booleans",
    ),
    "a field that is none of the training": (
        job({"field": "dataset.train", "numbers": [0.1]}),
        f"{P0}.field: should be a field below method or training, such as training.learningRate",
    ),
    "a range upside down": (
        job({"field": "training.weightDecay", "uniform": {"low": 0.2, "high": 0.1}}),
        f"{P0}.uniform.high: should be greater than low",
    ),
    "nothing to compare by": (
        job(RATE, validation=False),
        "spec.search: needs dataset.validation: trials are compared by the loss on it",
    ),
}


@pytest.mark.parametrize("story", CASES)
def test_a_search_that_cannot_work_is_refused(story: str) -> None:
    body, expected = CASES[story]
    assert [str(problem) for problem in check(body, "local")] == [expected]


def test_a_trial_differs_from_the_job_in_its_values_alone() -> None:
    body = job(RATE, {"field": "training.schedule.warmup", "numbers": [0.1, 0.2]})
    assert check(body, "local") == []
    spec = FineTuneJobSpec.model_validate(body["spec"])
    trial = trial_spec(spec, {"training.learningRate": 3e-3, "training.schedule.warmup": 0.2})
    assert trial.search is None
    assert trial.training.learning_rate == 3e-3
    assert trial.training.schedule.warmup == 0.2
    schedule = spec.training.schedule.model_copy(update={"warmup": 0.2})
    training = spec.training.model_copy(update={"learning_rate": 3e-3, "schedule": schedule})
    assert trial == spec.model_copy(update={"search": None, "evaluation": None, "training": training})


def test_only_the_concurrency_may_change_between_two_parts_of_a_search() -> None:
    def identity(**search: Any) -> str:
        return identity_hash(FineTuneJobSpec.model_validate(job(RATE, **search)["spec"]))

    assert identity() == identity(concurrency=4)
    assert identity() != identity(seed=1)
    assert identity() != identity(trials=3)
