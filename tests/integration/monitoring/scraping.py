"""What Prometheus is told to scrape: the chart's PodMonitors, as the Prometheus operator reads them.

See its API reference (https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.PodMonitor).
"""

import re
from collections.abc import Iterator
from typing import Any

from ..kube import Object, Objects


def jobs_of(monitors: Objects, pods: Objects, interval: str) -> list[Object]:
    """The scrape configurations of all endpoints of all PodMonitors.

    Args:
        monitors: as the chart renders them.
        pods: all pods; those without an address are not scraped.
        interval: in place of the PodMonitors' own.
    """
    found = []
    for monitor in monitors:
        chosen = [pod for pod in pods if pod["status"].get("podIP") and _selects(monitor, pod)]
        meta = monitor["metadata"]
        for number, endpoint in enumerate(monitor["spec"]["podMetricsEndpoints"]):
            name = f"podMonitor/{meta.get('namespace', 'tunesmith-system')}/{meta['name']}/{number}"
            found.append(
                {
                    "job_name": name,
                    "scrape_interval": interval,
                    "scrape_timeout": interval,
                    "honor_labels": endpoint.get("honorLabels", False),
                    "static_configs": [target for pod in chosen for target in _targets(monitor, endpoint, pod)],
                    "metric_relabel_configs": [_relabeling(each) for each in endpoint.get("metricRelabelings", [])],
                }
            )
    return found


def _selects(monitor: Object, pod: Object) -> bool:
    spec, labels = monitor["spec"], pod["metadata"].get("labels", {})
    where = spec.get("namespaceSelector", {"matchNames": [monitor["metadata"].get("namespace", "tunesmith-system")]})
    if not where.get("any") and pod["metadata"]["namespace"] not in where["matchNames"]:
        return False
    wanted = spec["selector"].get("matchLabels", {})
    if any(labels.get(name) != value for name, value in wanted.items()):
        return False
    expressions = spec["selector"].get("matchExpressions", [])
    assert all(each["operator"] == "In" for each in expressions)
    return all(labels.get(each["key"]) in each["values"] for each in expressions)


def _targets(monitor: Object, endpoint: Object, pod: Object) -> Iterator[Object]:
    """An address for each port of the endpoint's name, with the labels that the Prometheus operator adds."""
    meta = pod["metadata"]
    for container in pod["spec"]["containers"]:
        for port in container.get("ports", []):
            if port.get("name") == endpoint["port"]:
                labels = {
                    "namespace": meta["namespace"],
                    "pod": meta["name"],
                    "container": container["name"],
                    "endpoint": endpoint["port"],
                    "job": f"{monitor['metadata'].get('namespace', 'tunesmith-system')}/{monitor['metadata']['name']}",
                }
                for name in monitor["spec"].get("podTargetLabels", []):
                    if name in meta["labels"]:
                        labels[re.sub(r"[^a-zA-Z0-9_]", "_", name)] = meta["labels"][name]
                yield {"targets": [f"{pod['status']['podIP']}:{port['containerPort']}"], "labels": labels}


def _relabeling(rule: Object) -> dict[str, Any]:
    """In Prometheus's own words: sourceLabels is source_labels."""
    return {re.sub(r"[A-Z]", lambda upper: f"_{upper[0].lower()}", name): value for name, value in rule.items()}
