"""What others measure of a cluster, in their own formats: DCGM's exporter, Ray, the kubelet, kube-state-metrics.

There are no GPUs here: the figures are played, and move with time. Names, labels and units are those of
github.com/NVIDIA/dcgm-exporter (etc/default-counters.csv), Ray's dashboard/modules/reporter/reporter_agent.py,
github.com/google/cadvisor (metrics/prometheus.go) and github.com/kubernetes/kube-state-metrics (docs/metrics).
"""

import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

_MEMORY_MIB = 81_920
_RAY = {"Version": "2.60.0", "SessionName": "session_2026-11-27_00-00-00_000000_1"}


@dataclass(frozen=True)
class Held:
    """A GPU of a node, and the pod that holds it; nobody does where that is empty."""

    node: str
    index: int
    namespace: str = ""
    pod: str = ""
    container: str = ""
    busy: float = 0.0
    """The share of the time that it computes, about which it sways."""

    def utilization(self, time: float) -> float:
        """Between 0 and 1; none where it does nothing."""
        if not self.pod or self.busy < 0.05:
            return 0.0
        phase = zlib.crc32(f"{self.pod}/{self.index}".encode()) % 100
        sway = 0.05 * math.sin(time / 37 + phase) + 0.04 * math.sin(time / 5.3 + 3 * phase)
        return min(1.0, max(0.02, self.busy + sway))


Figure = Callable[[Held, float], float]
_DCGM: Sequence[tuple[str, str, Figure]] = (
    ("DCGM_FI_DEV_SM_CLOCK", "SM clock frequency (in MHz).", lambda gpu, time: 1410 if gpu.pod else 210),
    ("DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C).", lambda gpu, time: round(31 + 34 * gpu.utilization(time))),
    (
        "DCGM_FI_DEV_POWER_USAGE",
        "Power draw (in W).",
        lambda gpu, time: round(62 + 330 * gpu.utilization(time) ** 1.5, 3),
    ),
    ("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", lambda gpu, time: round(100 * gpu.utilization(time))),
    (
        "DCGM_FI_DEV_FB_FREE",
        "Framebuffer memory free (in MiB).",
        lambda gpu, time: _MEMORY_MIB - _memory_mib(gpu, time),
    ),
    ("DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB).", lambda gpu, time: _memory_mib(gpu, time)),
    (
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
        "Ratio of cycles the tensor (HMMA) pipe is active (in %).",
        lambda gpu, time: round(0.52 * gpu.utilization(time), 6),
    ),
)


def _memory_mib(gpu: Held, time: float) -> int:
    return round(600 + (_MEMORY_MIB - 9_000) * min(1.0, gpu.busy + 0.1) + 900 * gpu.utilization(time)) if gpu.pod else 4


def dcgm(gpus: Sequence[Held], time: float) -> str:
    """The text of the DCGM exporter of a node: the pod of a GPU's process stands in `pod`."""
    lines = []
    for name, meaning, figure in _DCGM:
        lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
        lines += [_line(name, _dcgm_labels(gpu), figure(gpu, time)) for gpu in gpus]
    return "\n".join([*lines, ""])


def _dcgm_labels(gpu: Held) -> dict[str, str]:
    number = zlib.crc32(f"{gpu.node}/{gpu.index}".encode())
    labels = {
        "gpu": str(gpu.index),
        "UUID": f"GPU-{number:08x}-0000-4000-8000-{number:012x}",
        "pci_bus_id": f"00000000:{7 + gpu.index:02X}:00.0",
        "device": f"nvidia{gpu.index}",
        "modelName": "NVIDIA H100 80GB HBM3",
        "Hostname": gpu.node,
        "DCGM_FI_DRIVER_VERSION": "580.95.05",
    }
    holder = {"container": gpu.container, "namespace": gpu.namespace, "pod": gpu.pod} if gpu.pod else {}
    return labels | holder


def ray(gpus: Sequence[Held], address: str, time: float) -> str:
    """The text that Ray serves in a pod; `gpus` are the pod's, where no exporter of DCGM sees them."""
    node = _RAY | {"ip": address, "IsHeadNode": "true"}
    sent = 4e7 + 2e7 * math.sin(time / 11)
    lines = _family("ray_node_network_receive_speed", "Network receive speed", [(node, sent)])
    lines += _family("ray_node_network_send_speed", "Network send speed", [(node, 0.9 * sent)])
    lines += _family("ray_node_mem_used", "Memory usage on a ray node", [(node, 3.1e10)])
    lines += _family(
        "ray_scheduler_tasks", "Number of tasks waiting for scheduling.", [(node | {"State": "Running"}, 1)]
    )
    of_gpu = [(node | {"GpuIndex": str(gpu.index), "GpuDeviceName": "NVIDIA L40S"}, gpu) for gpu in gpus]
    used = "Total GPUs usage on a ray node"
    lines += _family("ray_node_gpus_utilization", used, [(labels, 100 * g.utilization(time)) for labels, g in of_gpu])
    used = "Total GPU RAM usage on a ray node"
    lines += _family("ray_node_gram_used", used, [(labels, _memory_mib(g, time)) for labels, g in of_gpu])
    return "\n".join([*lines, ""])


def kubelet(pods: Iterable[tuple[str, str]], claims: Iterable[tuple[str, str]], time: float, start: float) -> str:
    """The texts of the kubelet and of cAdvisor in it: network of pods, and space of claims, by namespace and name."""
    lines = []
    for direction, rate in (("receive", 1.1e8), ("transmit", 0.9e8)):
        totals = [
            (
                {
                    "namespace": namespace,
                    "pod": pod,
                    "interface": "eth0",
                    "id": f"/kubepods/{pod}",
                    "name": "",
                    "image": "",
                },
                rate * (time - start + 4.6 * (math.cos(start / 23) - math.cos(time / 23))),  # its rate sways by a fifth
            )
            for namespace, pod in pods
        ]
        what = f"container_network_{direction}_bytes_total"
        lines += _family(what, f"Cumulative count of bytes {direction}d", totals, "counter")
    size, claims = 2e12, list(claims)
    of_claim = [{"namespace": namespace, "persistentvolumeclaim": claim} for namespace, claim in claims]
    free = "Number of available bytes in the volume"
    lines += _family("kubelet_volume_stats_available_bytes", free, [(labels, 0.55 * size) for labels in of_claim])
    whole = "Capacity in bytes of the volume"
    lines += _family("kubelet_volume_stats_capacity_bytes", whole, [(labels, size) for labels in of_claim])
    return "\n".join([*lines, ""])


def kube_state(pods: Iterable[tuple[str, str, str]]) -> str:
    """The text of kube-state-metrics for pods by namespace, name and container."""
    about = "The number of container restarts per container."
    restarts = [
        ({"namespace": namespace, "pod": pod, "uid": "", "container": box}, 0.0) for namespace, pod, box in pods
    ]
    return "\n".join([*_family("kube_pod_container_status_restarts_total", about, restarts, "counter"), ""])


def _family(
    name: str, meaning: str, samples: Sequence[tuple[Mapping[str, str], float]], kind: str = "gauge"
) -> list[str]:
    return [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", *(_line(name, labels, x) for labels, x in samples)]


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{label}="{text}"' for label, text in labels.items())
    return f"{name}{{{inside}}} {value}"
