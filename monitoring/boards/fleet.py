"""The board that a platform team opens first: is anything wrong, who uses what, what did it cost."""

from monitoring.boards.board import JOB_BOARD, Row, constant, namespace, of
from monitoring.boards.panels import GREEN, ORANGE, RED, Query, Says, bars, graph, heat_map, number, rows
from monitoring.boards.queries import IN_NAMESPACE, JOBS, PHASES, UTILIZATION, WAITING, or_none, phase
from monitoring.expressions import RUNNING, gpu_hours, in_phase

_BY_JOB = "namespace, name"
_PRICE = "$gpu_hour_price"
_CURRENCY = "currency@currency@"
_REQUESTED = f"tunesmith_job_requested_gpus{{{IN_NAMESPACE}}}"
_HELD = in_phase(_REQUESTED, RUNNING)
_WAITING_GPUS = in_phase(_REQUESTED, WAITING)
_WAITING_JOBS = f'max by ({_BY_JOB}) (tunesmith_job_phase{{{JOBS}, phase=~"{WAITING}"}})'
_RECENT = f"avg_over_time(({UTILIZATION})[15m:1m])"
_LONG = f"count_over_time(({UTILIZATION})[15m:1m]) >= 14"
"""A job that has just begun is not idle: it loads its model."""
_IDLE_GPUS = f"({_RECENT} < 0.05 and {_LONG})"
_IDLE = f"count by ({_BY_JOB}) {_IDLE_GPUS}"
_HOURS = gpu_hours("$__range", IN_NAMESPACE)
_STAGES = f"max by ({_BY_JOB}) (max_over_time(tunesmith_job_stage_info{{{IN_NAMESPACE}}}[$__range]))"
_FAILED = f"""
max by (namespace, name, kind, reason) (max_over_time(tunesmith_job_failure{{{IN_NAMESPACE}}}[$__range]))
unless on (namespace, name, kind) label_replace({_STAGES}, "kind", "FineTuneJob", "", "")
""".strip()
_JOB_COLUMNS = {"namespace": "Namespace", "name": "Job"}
_TO_JOB = {
    "Job": f"{JOB_BOARD}&var-namespace=${{__data.fields.namespace}}&var-name=${{__data.fields.name}}",
}
_FROM_GRAPH = f"{JOB_BOARD}&var-namespace=${{__field.labels.namespace}}&var-name=${{__field.labels.name}}"
_NO_PRICE = "No price: set dashboards.gpuHourPrice in the chart's values"
_NO_GPUS = "No GPU metrics: DCGM's exporter or Ray's are not scraped, or no job holds a GPU"
_NO_OPERATOR = "No metrics of the operator: it is not scraped (podMonitors.enabled), or is down"


def _cost(hours: str) -> str:
    """What GPU-hours cost; nothing while no price is set."""
    return f"({hours}) * {_PRICE} and on () (vector({_PRICE}) > 0)"


def _first() -> Row:
    alerts = f'count(ALERTS{{alertname=~"Tunesmith.+", alertstate="firing", {IN_NAMESPACE}}})'
    return Row(
        "Is anything wrong, who uses what, what did it cost",
        (
            number(
                Says("Operator", "none", "Down is bad: running jobs go on, but nothing follows their end."),
                Query("clamp_max(count(tunesmith_operator_queue_depth), 1) or vector(0)"),
                texts={0: ("Down", RED), 1: ("Up", GREEN)},
                link="/d/tunesmith-operator?${prometheus_datasource:queryparam}",
            ),
            number(
                Says("Alerts that fire", "none", "Any is bad; its runbook says what to do.", "None, or rules are off"),
                Query(alerts),
                steps={1: RED},
            ),
            number(
                Says("Failed", "none", "Jobs that failed in the time shown; see the reasons below.", _NO_OPERATOR),
                Query(or_none(f"count({_FAILED})")),
                steps={1: RED},
            ),
            number(
                Says("Waiting", "none", "Jobs that wait to run; many while GPUs are free are bad.", _NO_OPERATOR),
                Query(or_none(f"count({_WAITING_JOBS})")),
                steps={10: ORANGE},
            ),
            number(
                Says("Idle GPUs", "none", "GPUs held by jobs, under 5% busy for 15 minutes: any is bad.", _NO_GPUS),
                Query(f"count{_IDLE_GPUS} or 0 * count({UTILIZATION})"),
                steps={1: ORANGE, 8: RED},
            ),
            number(
                Says("GPUs", "none", "Many that jobs ask for beside few that are held are bad.", _NO_OPERATOR),
                Query(or_none(f"sum({_HELD})"), "held"),
                Query(or_none(f"sum({_WAITING_GPUS})"), "asked for"),
            ),
            number(
                Says("GPU utilization", "percentunit", "Of the GPUs that jobs hold; under 50% is bad.", _NO_GPUS),
                Query(f"avg({UTILIZATION})"),
                steps={0.3: ORANGE, 0.5: GREEN},
                base=RED,
            ),
            number(
                Says("Cost", _CURRENCY, "Of the time shown; more than last week without more work is bad.", _NO_PRICE),
                Query(_cost(f"sum({_HOURS})")),
            ),
        ),
    )


def _who() -> Row:
    idle_too = f"and on ({_BY_JOB}) {_IDLE}"
    return Row(
        "Who holds GPUs",
        (
            graph(
                Says("GPUs held, by namespace", "none", "One namespace that holds all while others wait is bad."),
                Query(f"sum by (namespace) ({_HELD})", "{{namespace}}"),
                stack=True,
            ),
            graph(
                Says("GPUs held, by job", "none", "A job that holds many for longer than planned is bad."),
                Query(f"sum by ({_BY_JOB}) ({_HELD})", "{{namespace}}/{{name}}"),
                stack=True,
                link=_FROM_GRAPH,
            ),
            graph(
                Says("Held, asked for, there", "none", "Asked for while held is far below what is there is bad."),
                Query(f"sum({_HELD})", "held by jobs"),
                Query(f"sum({_WAITING_GPUS})", "asked for by waiting jobs"),
                Query("count(max by (UUID) (DCGM_FI_DEV_GPU_UTIL))", "in the cluster (DCGM)"),
            ),
            heat_map(
                Says(
                    "GPUs by utilization", "percentunit", "Colour at the bottom is bad: GPUs that do nothing.", _NO_GPUS
                ),
                Query(UTILIZATION, "{{name}} {{pod}} {{gpu}}"),
                bucket=0.1,
            ),
            rows(
                Says("Jobs that hold idle GPUs", "none", "Each is bad: GPUs under 5% busy for 15 minutes.", "None"),
                _JOB_COLUMNS,
                Query(_IDLE, "Idle GPUs"),
                Query(f"sum by ({_BY_JOB}) ({_HELD}) {idle_too}", "Held GPUs"),
                Query(f"avg by ({_BY_JOB}) ({_RECENT}) {idle_too}", "Utilization"),
                Query(_cost(_IDLE), "Idle cost per hour"),
                units={"Utilization": "percentunit", "Idle cost per hour": _CURRENCY},
                colors={"Idle GPUs": {1: ORANGE, 8: RED}},
                links=_TO_JOB,
                sort="Idle GPUs",
            ),
        ),
    )


def _queue() -> Row:
    waited = f"60 * sum_over_time(({_WAITING_JOBS})[$__range:1m])"
    return Row(
        "Queue and failures",
        (
            graph(
                Says("Jobs by phase", "none", "Pending, Queued or Starting that grow and do not shrink are bad."),
                Query(
                    f"count by (phase) (max by ({_BY_JOB}, phase) "
                    f'(tunesmith_job_phase{{{JOBS}, phase!~"Succeeded|Failed"}}))',
                    "{{phase}}",
                ),
                stack=True,
            ),
            rows(
                Says(
                    "Jobs that wait", "none", "More than minutes in Starting is bad; Queued waits for its turn.", "None"
                ),
                {**_JOB_COLUMNS},
                Query(phase(f'{JOBS}, phase=~"{WAITING}"'), "Phase"),
                Query(f"sum by ({_BY_JOB}) ({_WAITING_GPUS})", "GPUs"),
                Query(f"{waited} and on ({_BY_JOB}) {_WAITING_JOBS}", "Waited"),
                units={"Waited": "s"},
                texts={"Phase": PHASES},
                links=_TO_JOB,
                width=8,
                sort="Waited",
            ),
            bars(
                Says(
                    "Wait per job, by namespace",
                    "s",
                    "Mean time in Pending, Queued and Starting; hours are bad.",
                    "None",
                ),
                Query(f"avg by (namespace) ({waited})", "{{namespace}}"),
            ),
            bars(
                Says("Failures by reason", "none", "Any; many of one reason mean one cause.", "None failed"),
                Query(f"count by (reason) ({_FAILED})", "{{reason}}"),
                color=RED,
            ),
            rows(
                Says("Failed jobs", "none", "Each; the reason's page says what to do.", "None failed"),
                {**_JOB_COLUMNS, "kind": "Kind", "reason": "Reason"},
                Query(_FAILED, "Failed"),
                links=_TO_JOB,
                width=16,
            ),
        ),
    )


def _money() -> Row:
    columns = {"namespace": "Namespace"}
    largest = f"topk(25, sum by ({_BY_JOB}) ({_HOURS}) > 0)"
    by_namespace = f"sum by (namespace) ({_HOURS})"
    return Row(
        "GPU-hours and cost of the time shown",
        (
            rows(
                Says("By namespace", "h", "A share that nobody expected is bad.", _NO_OPERATOR),
                columns,
                Query(by_namespace, "GPU-hours"),
                Query(_cost(by_namespace), "Cost"),
                units={"Cost": _CURRENCY},
                width=8,
                sort="GPU-hours",
            ),
            rows(
                Says("By job, the 25 largest", "h", "A job that nobody waits for at the top is bad.", _NO_OPERATOR),
                _JOB_COLUMNS,
                Query(largest, "GPU-hours"),
                Query(_cost(largest), "Cost"),
                units={"Cost": _CURRENCY},
                links=_TO_JOB,
                width=8,
                sort="GPU-hours",
            ),
            graph(
                Says(
                    "Cost of an hour, by namespace", _CURRENCY, "A level that never falls at night is bad.", _NO_PRICE
                ),
                Query(_cost(f"sum by (namespace) ({_HELD})"), "{{namespace}}"),
                stack=True,
            ),
        ),
    )


def board() -> str:
    """The board as JSON."""
    about = "All jobs: GPUs, queue, failures, GPU-hours and cost. Start here; a job's name leads to its own board."
    variables = (namespace(), constant("gpu_hour_price", "@gpuHourPrice@"))
    return of(
        "fleet",
        "Fleet",
        about,
        variables,
        (_first(), _who(), _queue(), _money()),
        ("docs/boards.md", "docs/alerts.md", "docs/troubleshooting.md"),
    )
