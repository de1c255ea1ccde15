"""Which values a trial of a search gets: a function of the search, the trial's number and what is known by then.

So there is no state to save: a search that was killed draws what it would have drawn.
"""

import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.search import Parameter, SearchSpec, Value
from tunesmith.api.trials import takes_integers
from tunesmith.launch.trials import Trial


def suggest(spec: FineTuneJobSpec, number: int, trials: Sequence[Trial]) -> dict[str, Value]:
    """The values of a trial.

    Args:
        spec: the job's, with a search.
        number: the trial's, counted from 1.
        trials: those before it, ended or not; only the Bayesian search looks at them.
    """
    search = spec.search
    assert search is not None
    if search.algorithm == "grid":
        combinations = itertools.product(*(parameter.listed for parameter in search.parameters))
        values = next(itertools.islice(combinations, number - 1, None))
        return {p.field: value for p, value in zip(search.parameters, values, strict=True)}
    whole = [takes_integers(spec, parameter.field) for parameter in search.parameters]
    if search.algorithm == "random":
        places = _spread(len(whole), search.seed, number)
        return {p.field: _at(p, w, place) for p, w, place in zip(search.parameters, whole, places, strict=True)}
    return _bayesian(search, whole, number, trials)


def _spread(dimensions: int, seed: int, number: int) -> list[float]:
    """A point of the unit cube: the seed draws where the first lies, each next one fills a gap, in every dimension
    (Roberts 2018, the R sequence). Points drawn one by one would lie in heaps, which few trials cannot afford."""
    ratio = 2.0
    for _ in range(50):  # the root of x^(d+1) = x + 1
        ratio = (1 + ratio) ** (1 / (dimensions + 1))
    start = np.random.default_rng(seed).uniform(size=dimensions)
    return [float((start[d] + number * ratio ** -(d + 1)) % 1) for d in range(dimensions)]


def _at(parameter: Parameter, whole: bool, place: float) -> Value:
    """The value at a place between 0 and 1."""
    ends = parameter.range
    if ends is None:
        return parameter.listed[int(place * len(parameter.listed))]
    if parameter.log_uniform is not None:
        number = math.exp(math.log(ends.low) + place * math.log(ends.high / ends.low))
        return round(number) if whole else _short(number)
    if whole:
        return int(ends.low) + int(place * (ends.high - ends.low + 1))
    return _short(ends.low + place * (ends.high - ends.low))


def _bayesian(search: SearchSpec, whole: list[bool], number: int, trials: Sequence[Trial]) -> dict[str, Value]:
    """A tree-structured Parzen estimator over all parameters together; the first ten trials are random. Trials that
    still run count as bad ones, so that others at the same time look elsewhere."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = {p.field: _distribution(optuna, p, w) for p, w in zip(search.parameters, whole, strict=True)}
    seed = int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of options that Optuna calls experimental
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
    study = optuna.create_study(direction="minimize", sampler=sampler)
    states = optuna.trial.TrialState
    for trial in trials:
        state = states.RUNNING if not trial.ended else states.COMPLETE if trial.loss is not None else states.FAIL
        value = trial.loss if state == states.COMPLETE else None
        past = optuna.trial.create_trial(state=state, value=value, params=trial.values, distributions=space)
        study.add_trial(past)
    params: dict[str, Value] = study.ask(space).params
    return {field: _short(value) if isinstance(value, float) else value for field, value in params.items()}


def _distribution(optuna: Any, parameter: Parameter, whole: bool) -> Any:
    ends = parameter.range
    if ends is None:
        return optuna.distributions.CategoricalDistribution(parameter.listed)
    log = parameter.log_uniform is not None
    if whole:
        return optuna.distributions.IntDistribution(int(ends.low), int(ends.high), log=log)
    return optuna.distributions.FloatDistribution(ends.low, ends.high, log=log)


def _short(value: float) -> float:
    """Four digits are what anybody reads, writes down and tries again."""
    return float(f"{value:.4g}")
