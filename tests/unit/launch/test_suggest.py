"""What trials of a search get: spread, repeatable, and by the Bayesian search near what was good."""

import math
from statistics import median
from typing import Any

import pytest

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.launch.suggest import suggest
from tunesmith.launch.trials import Trial

RATE = {"field": "training.learningRate", "logUniform": {"low": 1e-5, "high": 1e-1}}
RANK = {"field": "method.lora.rank", "uniform": {"low": 2, "high": 5}}
KIND = {"field": "training.schedule.type", "strings": ["linear", "cosine", "constant"]}


def spec(*parameters: dict[str, Any], **search: Any) -> FineTuneJobSpec:
    return FineTuneJobSpec.model_validate(
        {
            "model": {"source": "hf://acme/tiny"},
            "dataset": {"train": {"source": "hf://acme/sums"}, "validation": {"fraction": 0.1}},
            "objective": {"causalLM": {}},
            "method": {"lora": {}},
            "search": {"parameters": list(parameters)} | search,
        }
    )


def test_a_grid_takes_every_combination_once() -> None:
    grid = spec(KIND, {"field": "method.lora.rank", "integers": [4, 8]}, algorithm="grid")
    assert grid.search is not None
    assert grid.search.count == 6
    values = [suggest(grid, number, []) for number in range(1, 7)]
    assert {(v["training.schedule.type"], v["method.lora.rank"]) for v in values} == {
        (kind, rank) for kind in ("linear", "cosine", "constant") for rank in (4, 8)
    }


def test_random_trials_leave_no_half_of_a_range_out() -> None:
    rates = [math.log10(float(suggest(spec(RATE), number, [])["training.learningRate"])) for number in range(1, 9)]
    for low in (-5, -4, -3, -2):
        assert any(low <= rate <= low + 1 for rate in rates), f"none of 8 trials is in a quarter of the range: {rates}"


def test_a_field_of_whole_numbers_gets_whole_numbers_and_both_ends() -> None:
    ranks = [suggest(spec(RANK), number, [])["method.lora.rank"] for number in range(1, 40)]
    assert all(type(rank) is int for rank in ranks)
    assert set(ranks) == {2, 3, 4, 5}


@pytest.mark.parametrize("algorithm", ["random", "bayesian"])
def test_the_same_trial_gets_the_same_values(algorithm: str) -> None:
    search = spec(RATE, RANK, KIND, algorithm=algorithm, seed=3)
    before = [Trial(number=n, values=suggest(search, n, []), ended="Succeeded", loss=1 / n) for n in range(1, 4)]
    assert suggest(search, 4, before) == suggest(search, 4, before)
    assert suggest(search, 4, before) != suggest(spec(RATE, RANK, KIND, algorithm=algorithm, seed=4), 4, before)


def test_the_bayesian_search_comes_closer_than_the_random_one() -> None:
    def typical_distance(algorithm: str) -> float:
        trials: list[Trial] = []
        for number in range(1, 41):
            values = suggest(spec(RATE, algorithm=algorithm), number, trials)
            off = abs(math.log10(float(values["training.learningRate"])) + 3.3)
            trials.append(Trial(number=number, values=values, ended="Succeeded", loss=off))
        return median(trial.loss or 0.0 for trial in trials[15:])

    assert typical_distance("bayesian") < 0.6 * typical_distance("random")


def test_failed_and_running_trials_are_known_to_the_bayesian_search() -> None:
    search = spec(RATE, algorithm="bayesian")
    trials = [Trial(number=1, values={"training.learningRate": 0.1}, ended="LossDiverged")]
    trials.append(Trial(number=2, values={"training.learningRate": 0.01}))
    assert 1e-5 <= float(suggest(search, 3, trials)["training.learningRate"]) <= 1e-1
