"""What the rows of the board of a job ask for."""

from grafana_foundation_sdk.builders import timeseries

from monitoring.boards.panels import GREEN, Query, Says, Steps, graph
from monitoring.boards.queries import IN_NAMESPACE, JOBS

JOB = f'{JOBS}, name=~"$name"'
PODS = f'{IN_NAMESPACE}, name=~"$name"'
RUN = f'{IN_NAMESPACE}, tunesmith_dev_job=~"$name"'
NAME, RUN_NAME = "{{name}}", "{{tunesmith_dev_job}}"
NOT_TRAINING = "Not training: no pod of the job trains, or it is not scraped (podMonitors.enabled)"
NO_GPUS = "No GPU metrics: DCGM's exporter or Ray's are not scraped, or the job holds no GPU"
NO_OPERATOR = (
    "No metrics of the job: the operator is not scraped (podMonitors.enabled), or the job ended over an hour before"
)


def told(series: str) -> str:
    """A gauge of the operator, by job."""
    return f"max by (namespace, name) (tunesmith_job_{series}{{{JOB}}})"


def run(series: str) -> str:
    """A gauge of the trainer, by job; the attempts of a job follow each other in one line."""
    return f"max by (namespace, tunesmith_dev_job) (tunesmith_training_{series}{{{RUN}}})"


def rate(series: str) -> str:
    return f"sum by (namespace, tunesmith_dev_job) (rate(tunesmith_training_{series}{{{RUN}}}[$__rate_interval]))"


def added(series: str) -> str:
    return f"sum by (namespace, tunesmith_dev_job) (increase(tunesmith_training_{series}{{{RUN}}}[$__rate_interval]))"


def line(
    title: str,
    unit: str,
    bad: str,
    *queries: Query,
    width: int = 8,
    stack: bool = False,
    least: float | None = 0,
    most: float | None = None,
    steps: Steps | None = None,
    base: str = GREEN,
) -> timeseries.Panel:
    """What the trainer says of itself over time."""
    says = Says(title, unit, bad, NOT_TRAINING)
    return graph(says, *queries, width=width, stack=stack, least=least, most=most, steps=steps, base=base)
