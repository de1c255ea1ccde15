"""How busy the GPUs of jobs are, from a Prometheus that scrapes the operator and DCGM's exporter, or Ray."""

import json
import re
from typing import Any

from tunesmith.cluster.client import Cluster, ClusterError

QUERY = (
    "avg by (namespace, name) (((max by (namespace, pod, gpu) ("
    'label_replace(label_replace(DCGM_FI_DEV_GPU_UTIL{exported_pod!=""}, "pod", "$1", "exported_pod", "(.+)"), '
    '"namespace", "$1", "exported_namespace", "(.+)") or DCGM_FI_DEV_GPU_UTIL{exported_pod="", pod!=""}) '
    "or on (namespace, pod) max by (namespace, pod, gpu) "
    '(label_replace(ray_node_gpus_utilization, "gpu", "$1", "GpuIndex", "(.+)"))) / 100) '
    "* on (namespace, pod) group_left (name) max by (namespace, pod, name) (tunesmith_job_pod_info))"
)
"""Of each job, the mean over its GPUs: the dashboards' expression (monitoring/expressions.py), which is not installed
with the command line; a test holds them alike."""
_SERVICE = re.compile(r"^[a-z0-9-]+/([a-z]+:)?[a-z0-9.-]+(:[a-z0-9-]+)?$")
_TIMEOUT_S = 10.0


class Prometheus:
    """Asks a Prometheus, by its URL or through the API server."""

    def __init__(self, address: str, cluster: Cluster) -> None:
        """
        Args:
            address: a URL, or NAMESPACE/SERVICE:PORT for the way through the API server.
            cluster: the API server.

        Raises:
            ValueError: the address is neither.
        """
        self.address = address.rstrip("/")
        self._is_url = address.startswith(("http://", "https://"))
        if not self._is_url and not _SERVICE.match(address):
            raise ValueError(f"{address!r} should be a URL, or NAMESPACE/SERVICE:PORT")
        self._cluster = cluster

    def utilization(self) -> dict[tuple[str, str], float]:
        """The mean share of the time in which a job's GPUs compute, by namespace and name.

        Raises:
            ClusterError: Prometheus gives no answer that can be read.
        """
        answer = self._direct() if self._is_url else self._through_api_server()
        try:
            return {
                (each["metric"]["namespace"], each["metric"]["name"]): float(each["value"][1])
                for each in answer["data"]["result"]
            }
        except (KeyError, TypeError, ValueError):
            raise ClusterError(f"{self.address} does not answer as a Prometheus does") from None

    def _through_api_server(self) -> Any:
        namespace, _, service = self.address.partition("/")
        path = f"/api/v1/namespaces/{namespace}/services/{service}/proxy/api/v1/query"
        return self._cluster.get(path, {"query": QUERY})

    def _direct(self) -> Any:
        import urllib3

        try:
            answer = urllib3.request(
                "GET", f"{self.address}/api/v1/query", fields={"query": QUERY}, timeout=_TIMEOUT_S, retries=False
            )
            return json.loads(answer.data)
        except urllib3.exceptions.HTTPError as error:
            why = str(error).rpartition(": ")[2]
            raise ClusterError(f"{self.address} cannot be reached: {why}") from None
        except ValueError:
            raise ClusterError(f"{self.address} does not answer as a Prometheus does") from None
