"""Alerts of the operator itself; their namespace is the operator's."""

from monitoring.rules.rule import Alert

_WAITING = "min by (namespace) (min_over_time(tunesmith_operator_queue_depth[15m]))"
_BAD = 'code=~"5..|429|403"'


def _bad_share(window: str) -> str:
    """Share of the API server's answers that refuse or fail; a conflict or something that is gone is no failure."""
    bad = f"sum by (namespace) (rate(tunesmith_operator_api_requests_total{{{_BAD}}}[{window}]))"
    return f"{bad}\n  / sum by (namespace) (rate(tunesmith_operator_api_requests_total[{window}]))"


def _repairs(offset: str = "") -> str:
    return f"sum by (namespace) (increase(tunesmith_operator_watch_repairs_total[30m]{offset}))"


ALERTS = (
    Alert(
        "TunesmithOperatorDown",
        'absent(tunesmith_operator_resync_timestamp_seconds{namespace="@namespace@"} > 0)',
        wait="10m",
        severity="critical",
        namespace="@namespace@",
        summary="No operator of Tunesmith is at work",
        description="For 10 minutes Prometheus has seen none that has read its jobs: it is down, or is not scraped. "
        "Running jobs go on, but nothing follows their end, and alerts of jobs are blind.",
    ),
    Alert(
        "TunesmithOperatorQueueGrows",
        f"""
{_WAITING}
and on (namespace) (
  {_WAITING} > 20
  or
  (
    sum by (namespace) (rate(tunesmith_operator_queue_wait_seconds_sum[15m]))
    / sum by (namespace) (rate(tunesmith_operator_queue_wait_seconds_count[15m]))
  ) > 30
)
""",
        wait="5m",
        severity="warning",
        summary="The operator of Tunesmith in {{ $labels.namespace }} does not keep up",
        description="At any time of the last 15 minutes at least {{ $value }} jobs waited to be looked after (20 are "
        "too many), or each waited for more than 30 seconds on average.",
    ),
    Alert(
        "TunesmithReconcilesFailing",
        """
sum by (namespace, kind) (increase(tunesmith_operator_reconciles_total{result="failed"}[15m])) > 0
""",
        wait="30m",
        severity="warning",
        summary="The operator of Tunesmith in {{ $labels.namespace }} fails to look after some {{ $labels.kind }}",
        description="Looking after a {{ $labels.kind }} has failed for 30 minutes, "
        '{{ $value | printf "%.0f" }} times in the last 15; its log names the job and the error.',
    ),
    Alert(
        "TunesmithOperatorStale",
        """
(time() - max by (namespace) (tunesmith_operator_resync_timestamp_seconds > 0)) > 2 * @resyncSeconds@ + 60
""",
        wait="2m",
        severity="critical",
        summary="The operator of Tunesmith in {{ $labels.namespace }} may act on old information",
        description="It compared what it knows with the API server {{ $value | humanizeDuration }} ago; it should "
        "every {{ @resyncSeconds@ | humanizeDuration }}.",
    ),
    Alert(
        "TunesmithWatchMissesChanges",
        f"{_repairs()} > 0\nand {_repairs(' offset 30m')} > 0",
        severity="warning",
        summary="The watches of Tunesmith's operator in {{ $labels.namespace }} miss changes",
        description='{{ $value | printf "%.0f" }} changes reached it only by its comparison in the last 30 minutes, '
        "and some in the 30 before: jobs are looked after minutes late.",
    ),
    Alert(
        "TunesmithApiErrors",
        f"""
(
  {_bad_share("30m")}
) > @apiErrorRatio@
and
(
  {_bad_share("5m")}
) > @apiErrorRatio@
and sum by (namespace) (increase(tunesmith_operator_api_requests_total{{{_BAD}}}[30m])) > 5
""",
        wait="5m",
        severity="warning",
        summary="The API server refuses requests of Tunesmith's operator in {{ $labels.namespace }}",
        description="{{ $value | humanizePercentage }} of its answers in the last 30 minutes were 403, 429 or 5xx.",
    ),
    Alert(
        "TunesmithNotificationsFailing",
        'sum by (namespace, format) (increase(tunesmith_operator_notifications_total{result="failed"}[1h])) > 0',
        severity="warning",
        summary="Notifications of Tunesmith's operator in {{ $labels.namespace }} do not arrive",
        description='{{ $value | printf "%.0f" }} in the format {{ $labels.format }} were given up in the last hour: '
        "somebody waits for news of a job that do not come.",
    ),
)
