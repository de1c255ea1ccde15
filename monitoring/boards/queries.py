"""PromQL of more than one board, and what its values are called."""

from typing import get_args

from monitoring.boards.panels import BLUE, GREEN, GREY, ORANGE, RED, YELLOW
from monitoring.expressions import GPU_UTILIZATION, of_job
from tunesmith.api.pipeline_status import PipelinePhase
from tunesmith.api.status import Phase

IN_NAMESPACE = 'namespace=~"$namespace"'
JOBS = f'kind="FineTuneJob", {IN_NAMESPACE}'
WAITING = "Pending|Queued|Starting"
PHASES = {
    1: ("Pending", GREY),
    2: ("Queued", YELLOW),
    3: ("Starting", ORANGE),
    4: ("Training", BLUE),
    5: ("Evaluating", "purple"),
    6: ("Succeeded", GREEN),
    7: ("Failed", RED),
    8: ("Suspended", "#b0b0b0"),
    9: ("Supervised", "light-blue"),
    10: ("Reward", BLUE),
    11: ("PPO", "dark-blue"),
}
"""The number of a phase of a job or a pipeline on the boards, its name and its colour."""
UTILIZATION = of_job(GPU_UTILIZATION, IN_NAMESPACE)
"""By namespace, pod, gpu and name, of the jobs of the chosen namespaces."""


def phase(matchers: str) -> str:
    """The number of each job's phase; by namespace and name."""
    return _number_of(matchers, get_args(Phase))


def pipeline_phase(matchers: str) -> str:
    """The number of each pipeline's phase; by namespace and name."""
    return _number_of(matchers, get_args(PipelinePhase))


def _number_of(matchers: str, phases: tuple[str, ...]) -> str:
    numbers = {name: number for number, (name, _) in PHASES.items()}
    return " or ".join(
        f'max by (namespace, name) (tunesmith_job_phase{{{matchers}, phase="{name}"}}) * {numbers[name]}'
        for name in phases
    )


def or_none(expr: str) -> str:
    """A count, which is 0 where there is nothing to count, but not where the operator is not scraped."""
    return f"{expr} or 0 * count(tunesmith_operator_queue_depth)"
