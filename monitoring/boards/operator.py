"""The board of the operator's own health."""

from monitoring.boards.board import Row, choice, of
from monitoring.boards.panels import GREEN, ORANGE, RED, Query, Says, bars, graph, number, rows
from monitoring.boards.queries import IN_NAMESPACE

_NO_OPERATOR = "No metrics of the operator: it is not scraped (podMonitors.enabled), or is down"
_FAILED = 'result="failed"'
_ITSELF = "tunesmith_operator_queue_depth"


def _raw(series: str, matchers: str = "") -> str:
    return f"tunesmith_operator_{series}{{{', '.join(filter(None, (IN_NAMESPACE, matchers)))}}}"


def _rate(by: str, series: str, matchers: str = "") -> str:
    return f"sum by ({by}) (rate({_raw(series, matchers)}[$__rate_interval]))"


def _quantiles(series: str, by: str = "") -> tuple[Query, Query]:
    buckets = _rate(f"le{by}", f"{series}_bucket")
    legend = f"{{{{{by.strip(', ')}}}}} " if by else ""
    return (
        Query(f"histogram_quantile(0.5, {buckets})", f"{legend}median"),
        Query(f"histogram_quantile(0.99, {buckets})", f"{legend}99th percentile"),
    )


def _process(series: str) -> str:
    """A metric of the operator's process, not of other processes in its namespace."""
    return f"{series} and on (namespace, pod, instance) {_raw('queue_depth')}"


def _now() -> Row:
    return Row(
        "Now",
        (
            number(
                Says(
                    "Operators", "none", "None is bad, and so are two for longer than an upgrade takes.", _NO_OPERATOR
                ),
                Query(f"count({_raw('queue_depth')}) or vector(0)"),
                steps={1: GREEN, 2: ORANGE},
                base=RED,
            ),
            rows(
                Says("Version", "none", "One other than the chart's is bad.", _NO_OPERATOR),
                {"version": "Version", "pod": "Pod"},
                Query(f"max by (version, pod) ({_raw('info')})", "Up"),
                width=6,
                height=4,
            ),
            number(
                Says("Up for", "s", "Minutes, again and again, are bad: it restarts.", _NO_OPERATOR),
                Query(f"time() - {_process(f'process_start_time_seconds{{{IN_NAMESPACE}}}')}"),
            ),
            number(
                Says("Queue", "none", "Jobs to be looked after; more than 20 for minutes are bad.", _NO_OPERATOR),
                Query(f"sum({_raw('queue_depth')})"),
                steps={20: ORANGE, 100: RED},
            ),
            number(
                Says(
                    "Failed looks",
                    "percentunit",
                    "Share of the time shown; any is bad, its log says why.",
                    _NO_OPERATOR,
                ),
                Query(
                    f"(sum(increase({_raw('reconciles_total', _FAILED)}[$__range])) or vector(0)) "
                    f"/ sum(increase({_raw('reconciles_total')}[$__range]))"
                ),
                steps={0.001: ORANGE, 0.05: RED},
            ),
            number(
                Says(
                    "Last comparison",
                    "s",
                    "With the API server; over twice settings.resyncSeconds is bad.",
                    _NO_OPERATOR,
                ),
                Query(f"time() - max({_raw('resync_timestamp_seconds')})"),
                steps={600: ORANGE, 1800: RED},
            ),
            number(
                Says(
                    "Repairs", "none", "Changes that the watches missed in the time shown; many are bad.", _NO_OPERATOR
                ),
                Query(f"sum(increase({_raw('watch_repairs_total')}[$__range]))"),
                steps={1: ORANGE, 10: RED},
            ),
        ),
    )


def _work() -> Row:
    return Row(
        "Looking after jobs",
        (
            graph(
                Says(
                    "Looks, by result",
                    "ops",
                    "Failed ones are bad; many while nothing changes are bad, too.",
                    _NO_OPERATOR,
                ),
                Query(_rate("kind, result", "reconciles_total"), "{{kind}} {{result}}"),
            ),
            graph(
                Says(
                    "Time of a look",
                    "s",
                    "A 99th percentile over seconds is bad: the API server is slow.",
                    _NO_OPERATOR,
                ),
                *_quantiles("reconcile_duration_seconds", ", kind"),
            ),
            graph(
                Says("Wait for a look", "s", "Over 30 seconds is bad: it does not keep up.", _NO_OPERATOR),
                *_quantiles("queue_wait_seconds"),
                steps={30: RED},
            ),
            graph(
                Says("Queue", "none", "One that grows and does not shrink is bad.", _NO_OPERATOR),
                Query(f"sum({_raw('queue_depth')})", "jobs"),
                steps={20: ORANGE},
            ),
            graph(
                Says("Jobs, by kind and phase", "none", "Many in Starting or Pending are bad.", _NO_OPERATOR),
                Query(f"max by (kind, phase) ({_raw('jobs')})", "{{kind}} {{phase}}"),
                stack=True,
            ),
            bars(
                Says(
                    "New attempts, by reason",
                    "none",
                    "After failures in the time shown; many of one reason are bad.",
                    "None",
                ),
                Query(f"sum by (reason) (increase({_raw('retries_total')}[$__range])) > 0", "{{reason}}"),
                color=ORANGE,
            ),
            graph(
                Says("Time of attempts, by how they ended", "s", "Failures after hours cost most.", "No attempt ended"),
                Query(
                    f"histogram_quantile(0.5, {_rate('le, reason', 'attempt_duration_seconds_bucket')})", "{{reason}}"
                ),
                width=12,
            ),
            graph(
                Says("Time of jobs, by how they ended", "s", "Failures after hours cost most.", "No job ended"),
                Query(f"histogram_quantile(0.5, {_rate('le, phase', 'job_duration_seconds_bucket')})", "{{phase}}"),
                width=12,
            ),
        ),
    )


def _api() -> Row:
    failed = 'code=~"403|429|5.."'
    return Row(
        "The API server",
        (
            graph(
                Says("Requests, by verb", "reqps", "Many at rest are bad: it should write nothing then.", _NO_OPERATOR),
                Query(_rate("verb", "api_requests_total"), "{{verb}}"),
            ),
            graph(
                Says(
                    "Requests, by code",
                    "reqps",
                    "A 403 is a missing right, 429 too many requests, 5xx a sick API server.",
                    _NO_OPERATOR,
                ),
                Query(_rate("code", "api_requests_total"), "{{code}}"),
            ),
            graph(
                Says("Refused requests", "percentunit", "Share of 403, 429 and 5xx; over 5% is bad.", _NO_OPERATOR),
                Query(
                    f"(sum(rate({_raw('api_requests_total', failed)}[$__rate_interval])) or vector(0)) "
                    f"/ sum(rate({_raw('api_requests_total')}[$__rate_interval]))",
                    "refused",
                ),
                steps={0.05: RED},
            ),
            graph(
                Says(
                    "Age of the last event, by kind",
                    "s",
                    "Old is usual in a quiet cluster, bad in a busy one.",
                    _NO_OPERATOR,
                ),
                Query(f"time() - max by (kind) ({_raw('watch_last_event_timestamp_seconds')})", "{{kind}}"),
            ),
            graph(
                Says("Age of the last comparison", "s", "Over twice settings.resyncSeconds is bad.", _NO_OPERATOR),
                Query(f"time() - max({_raw('resync_timestamp_seconds')})", "age"),
                steps={600: RED},
            ),
            graph(
                Says("Repairs", "none", "What the watches missed; again and again is bad.", _NO_OPERATOR),
                Query(f"sum(increase({_raw('watch_repairs_total')}[$__rate_interval]))", "repairs"),
            ),
        ),
    )


def _resources() -> Row:
    memory = f"process_resident_memory_bytes{{{IN_NAMESPACE}}}"
    cpu = f"rate(process_cpu_seconds_total{{{IN_NAMESPACE}}}[$__rate_interval])"
    files = f"process_open_fds{{{IN_NAMESPACE}}}"
    return Row(
        "Its process",
        (
            graph(
                Says(
                    "Memory",
                    "bytes",
                    "Near resources.limits.memory it is killed; a steady rise is a leak.",
                    _NO_OPERATOR,
                ),
                Query(_process(memory), "{{pod}}"),
            ),
            graph(
                Says("CPU", "none", "Cores; near 1 is bad: it uses one at most.", _NO_OPERATOR),
                Query(_process(cpu), "{{pod}}"),
                steps={0.9: RED},
            ),
            graph(
                Says("Open files", "none", "A steady rise is a leak.", _NO_OPERATOR), Query(_process(files), "{{pod}}")
            ),
        ),
    )


def board() -> str:
    """The board as JSON."""
    about = "The operator's own health: does it see, does it keep up, does the API server let it."
    where = choice("namespace", "Namespace", f"label_values({_ITSELF}, namespace)", "Where the operator runs.")
    return of("operator", "Operator", about, (where,), (_now(), _work(), _api(), _resources()), ("docs/boards.md",))
