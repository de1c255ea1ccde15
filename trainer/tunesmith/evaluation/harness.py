"""Tasks of lm-evaluation-harness (EleutherAI), through its library: its prompts and its scoring, our answers.

No code of a folder with tasks is run: `!function` is refused there, and templates are rendered in Jinja's sandbox.
"""

import contextlib
import difflib
import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from tunesmith.api.evaluation import HarnessSpec
from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.api.outcome import Interval
from tunesmith.api.source import Location
from tunesmith.evaluation.compare import Scored
from tunesmith.evaluation.outputs import Outputs
from tunesmith.evaluation.report import Comparison, MetricReport
from tunesmith.evaluation.statistics import RowScores, mean_score
from tunesmith.evaluation.verdict import Better
from tunesmith.evaluation.work import describe_model
from tunesmith.sources import Resolver

PLACE = "spec.evaluation.harness"
_DRAWS = 100
"""For the standard error of what is no mean of its rows."""


@dataclass(frozen=True)
class HarnessMetric:
    """One metric of one task, of one model."""

    better: Better
    rows: int
    value: Interval
    """The harness's own value, with 1.96 of its standard errors to each side; no width where it gives none."""
    scores: RowScores | None
    """Where it is the mean of its rows."""


@dataclass(frozen=True)
class Harness:
    """What one model makes of all tasks."""

    metrics: dict[str, HarnessMetric] = field(default_factory=dict)
    """By TASK/METRIC, with the filter of the answers where a task has several: gsm8k/exact_match,strict-match."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Of each row of each task (and filter) what was asked, what the model gave, and its scores."""


class Tasks:
    """The tasks of a spec, read and ready; one for all models.

    Raises:
        InputError: the library or a task is missing, or a task cannot be used.
    """

    def __init__(self, spec: FineTuneJobSpec, resolver: Resolver) -> None:
        assert spec.evaluation is not None
        assert spec.evaluation.harness is not None
        if importlib.util.find_spec("lm_eval") is None:
            raise InputError(Problem("needs lm-evaluation-harness: pip install 'tunesmith[harness]'", PLACE))
        if spec.objective.kind != "decoder" or spec.objective.reward is not None:
            raise InputError(Problem("is for decoders that write: causalLM, instruction or ppo; leave it out", PLACE))
        self._harness, self._size = spec.evaluation.harness, spec.evaluation.batch_size
        source = self._harness.folder
        self._folder = None if source is None else resolver.path(Location.parse(source), f"{PLACE}.folder").absolute()

    def run(self, outputs: Outputs, progress: Callable[[str, int, int], None]) -> Harness:
        """All tasks with one model.

        Raises:
            InputError: a task is unknown, has code of its own, or cannot be used.
        """
        from lm_eval import evaluator

        from tunesmith.evaluation.harness_model import HarnessModel

        context = outputs.of(describe_model())[0][0]["context"]
        model = HarnessModel(outputs, self._size, context or 2048, progress)
        state = np.random.get_state(), torch.random.get_rng_state()
        try:
            with _no_code_of(self._folder), _in_folder(self._folder):
                loaded = _load(self._harness, self._folder)
                found = evaluator.evaluate(
                    model, loaded, limit=self._harness.limit, bootstrap_iters=_DRAWS, log_samples=True
                )
        except (InputError, torch.OutOfMemoryError):
            raise
        except ValueError as error:  # what a task says of itself: unsafe code, other inputs than text
            raise InputError(Problem(str(error).strip().splitlines()[0], f"{PLACE}.tasks")) from None
        finally:
            np.random.set_state(state[0])
            torch.random.set_rng_state(state[1])
        return Harness(_metrics(found, loaded["tasks"]), list(_rows(found["samples"])))


def _load(spec: HarnessSpec, folder: Path | None) -> Any:
    """Tasks as the library's own `simple_evaluate` prepares them."""
    from lm_eval.defaults import DEFAULT_OTHER_SEED
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder), include_defaults=False) if folder else None
    if manager is None or not set(spec.tasks) <= set(manager.all_tasks):
        manager = TaskManager(include_path=str(folder) if folder else None)
    for name in spec.tasks:
        if name not in manager.all_tasks:
            near = difflib.get_close_matches(name, manager.all_tasks, 3)
            listing = f"; near it are {', '.join(near)}" if near else ""
            raise InputError(Problem(f"there is no task or group {name!r}{listing}", f"{PLACE}.tasks"))
    try:
        loaded = manager.load(list(spec.tasks))
    except InputError:
        raise
    except Exception as error:  # of any library that reads data
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        message = f"cannot be loaded, its data included: {said}"
        raise InputError(Problem(message, f"{PLACE}.tasks")) from None
    for task in loaded["tasks"].values():
        own = task.get_config("num_fewshot")
        if spec.examples is not None and own != 0:
            task.set_config(key="num_fewshot", value=spec.examples)
        elif own is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
    return loaded


@contextlib.contextmanager
def _no_code_of(folder: Path | None) -> Iterator[None]:
    """Refuses functions of tasks that are not the library's own, and lets templates reach nothing but their row."""
    import lm_eval
    from jinja2.sandbox import SandboxedEnvironment
    from lm_eval import utils
    from lm_eval.tasks import _yaml_loader

    own, load = Path(lm_eval.__file__).parent.resolve(), _yaml_loader._import_func_in_yml

    def refuse(name: str, base: Path) -> Any:
        if not Path(base).resolve().is_relative_to(own):
            message = f"{base} has a task with code of its own (!function {name}), which is not run; write it without"
            raise InputError(Problem(message, f"{PLACE}.folder"))
        return load(name, base)

    sandbox = SandboxedEnvironment(loader=utils.env.loader, undefined=utils.env.undefined)
    sandbox.filters.update(utils.env.filters)
    with (
        mock.patch.object(_yaml_loader, "_import_func_in_yml", refuse),
        mock.patch.object(utils, "env", sandbox),
        mock.patch.dict(os.environ, {"DISABLE_MULTIPROC": "1"}),  # it would fork a process that has threads
    ):
        yield


def _in_folder(folder: Path | None) -> contextlib.AbstractContextManager[None]:
    """Data files of a task are named from its folder on."""
    return contextlib.nullcontext() if folder is None else contextlib.chdir(folder)


def _metrics(found: Any, tasks: Any) -> dict[str, HarnessMetric]:
    from lm_eval.api.metrics import mean

    metrics: dict[str, HarnessMetric] = {}
    for task, figures in found["results"].items():
        samples = found["samples"].get(task, [])
        for key, value in figures.items():
            name, _, chosen = key.partition(",")
            if name.endswith("_stderr") or not chosen or not isinstance(value, int | float):
                continue
            label = f"{task}/{name}" if chosen == "none" else f"{task}/{name},{chosen}"
            rows = [sample[name] for sample in samples if sample["filter"] == chosen and name in sample]
            scores = None
            if task in tasks and tasks[task].aggregation().get(name, mean) is mean and rows:
                scores = mean_score(np.array(rows, np.float64))
            error = figures.get(f"{name}_stderr,{chosen}")
            half = 1.96 * error if isinstance(error, int | float) else 0.0
            metrics[label] = HarnessMetric(
                better="higher" if found["higher_is_better"].get(task, {}).get(name, True) is not False else "lower",
                rows=len(rows) or int(found["n-samples"].get(task, {}).get("effective", 0)),
                value=Interval(value=value, low=value - half, high=value + half),
                scores=scores,
            )
    return metrics


def _rows(samples: dict[str, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    for task, of_task in samples.items():
        for sample in of_task:
            choices = [asked[1] for asked in sample["arguments"] if len(asked) > 1 and isinstance(asked[1], str)]
            yield {
                "task": task,
                "filter": sample["filter"],
                "row": sample["doc_id"] + 1,
                "prompt": sample["arguments"][0][0],
                **({"choices": choices} if choices else {}),
                "target": sample["target"],
                "given": {"given": sample["filtered_resps"], **_numbers(sample)},
            }


def _numbers(sample: dict[str, Any]) -> dict[str, float]:
    values = {name: sample[name] for name in sample["metrics"]}
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float | np.number)}


def harness_lines(tuned: Harness, base: Harness | None) -> Iterator[dict[str, Any]]:
    """The lines of harness.jsonl: a row of a task, and what each model gave."""
    for number, row in enumerate(tuned.rows):
        line = {name: value for name, value in row.items() if name != "given"} | {"tuned": row["given"]}
        yield line | ({"base": base.rows[number]["given"]} if base is not None else {})


def harness_scores(tuned: Harness, base: Harness | None) -> list[Scored]:
    """The metrics of tasks that are means over rows, beside the base's."""
    found = []
    for label, metric in tuned.metrics.items():
        beside = base.metrics[label].scores if base is not None else None
        if metric.scores is not None:
            found.append(Scored(label, metric.better, metric.scores, {"base": beside} if beside is not None else {}))
    return found


def harness_values(tuned: Harness, base: Harness | None) -> list[MetricReport]:
    """The other metrics of tasks: the harness's own figures, which are not paired by row and so show no difference."""
    reports = []
    for label, metric in tuned.metrics.items():
        if metric.scores is not None:
            continue
        comparisons = []
        if base is not None:
            other = base.metrics[label].value
            comparisons.append(Comparison(to="base", value=other, difference=_difference(metric.value, other)))
        reports.append(
            MetricReport(
                name=label, better=metric.better, rows=metric.rows, tuned=metric.value, comparisons=comparisons
            )
        )
    return reports


def _difference(tuned: Interval, base: Interval) -> Interval:
    """As of independent figures."""
    value = tuned.value - base.value
    half = float(np.hypot(tuned.high - tuned.value, base.high - base.value))
    return Interval(value=value, low=value - half, high=value + half)
