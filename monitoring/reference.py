"""The page of all metrics (docs/metrics-reference.md), from the declarations that they are served by."""

from collections.abc import Iterable

from tunesmith.api.series import Series
from tunesmith.training.series import SERIES as OF_TRAINER
from tunesmith_operator.series import SERIES as OF_OPERATOR

_BEFORE = """\
# All metrics

Made from the declarations in the code by `make generate`. Labels are the metric's own; Prometheus adds those of the
scrape. *since* is the release that brought it.
"""
_OPERATOR = """\
## The operator

On port 8080 of its pod. The series of a job stay while it is there, at most an hour after its end (chart value
`settings.jobMetricsSeconds`), so that they outlive its pods. The scrape must honour their labels (`honorLabels: true`,
as the chart's PodMonitor does): `namespace` and `pod` are the job's.
"""
_TRAINER = """\
## The trainer

On port 9095 of the pod of the first worker, while it trains. The chart's PodMonitor adds `namespace`, `pod` and
`tunesmith_dev_job`, the job's name. Beside these there are prometheus-client's own of the process (`process_*`).
"""
_OTHERS = """\
## Of others

The boards and the rules also read these, where they are there:

- of NVIDIA's DCGM exporter `DCGM_FI_DEV_GPU_UTIL`, `DCGM_FI_DEV_FB_USED`, `DCGM_FI_DEV_POWER_USAGE` and
  `DCGM_FI_PROF_PIPE_TENSOR_ACTIVE`;
- of Ray, instead, `ray_node_gpus_utilization` and `ray_node_gram_used`;
- of the kubelet `container_network_receive_bytes_total` and `container_network_transmit_bytes_total`, or of Ray
  `ray_node_network_receive_speed` and `ray_node_network_send_speed`;
- of the kubelet `kubelet_volume_stats_available_bytes` and `kubelet_volume_stats_capacity_bytes`;
- of kube-state-metrics `kube_pod_container_status_restarts_total`.

What they say of a pod is joined to its job by `tunesmith_job_pod_info`.
"""


def files() -> dict[str, str]:
    """The page by its path."""
    return {"docs/metrics-reference.md": page()}


def page() -> str:
    """The page as Markdown."""
    parts = (_BEFORE, _OPERATOR, _table(OF_OPERATOR), _TRAINER, _table(OF_TRAINER), _OTHERS)
    return "\n".join(parts)


def _table(declared: Iterable[Series]) -> str:
    rows = ["| name | type | labels | meaning | since |", "|---|---|---|---|---|"]
    for series in declared:
        labels = ", ".join(f"`{label}`" for label in series.labels)
        rows.append(f"| `{series.name}` | {series.kind} | {labels} | {series.text} | {series.since} |")
    return "\n".join(rows) + "\n"
