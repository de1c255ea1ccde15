"""The rows of a job's board about its pods: GPUs, memory, network, restarts, checkpoints."""

from monitoring.boards.board import Row
from monitoring.boards.job_queries import (
    NAME,
    NO_GPUS,
    NO_OPERATOR,
    PODS,
    RUN_NAME,
    added,
    line,
    run,
    told,
)
from monitoring.boards.panels import GREEN, RED, YELLOW, Query, Says, graph
from monitoring.boards.queries import IN_NAMESPACE
from monitoring.expressions import GPU_MEMORY_USED, GPU_POWER, GPU_TENSOR_ACTIVE, GPU_UTILIZATION, of_job

_GPU = "{{pod}} {{gpu}}"


def _gpu(by_pod: str) -> Query:
    return Query(of_job(by_pod, PODS), _GPU)


def _network(direction: str, ray: str) -> str:
    """Bytes a second of each pod: cAdvisor's, else Ray's."""
    seen = f'rate(container_network_{direction}_bytes_total{{{IN_NAMESPACE}, pod!=""}}[$__rate_interval])'
    by_ray = f"max by (namespace, pod) (ray_node_network_{ray}_speed{{{IN_NAMESPACE}}})"
    return of_job(f"sum by (namespace, pod) ({seen}) or on (namespace, pod) {by_ray}", PODS)


def devices() -> Row:
    used = of_job(GPU_MEMORY_USED, PODS)
    return Row(
        "GPUs, memory, network",
        (
            graph(
                Says(
                    "GPU utilization, by pod",
                    "percentunit",
                    "One far below the others is bad; so are all near 0.",
                    NO_GPUS,
                ),
                _gpu(GPU_UTILIZATION),
                most=1,
            ),
            graph(
                Says(
                    "GPU memory used, by pod",
                    "bytes",
                    "At the GPU's size the next long batch fails; far below is waste.",
                    NO_GPUS,
                ),
                Query(used, _GPU),
            ),
            line(
                "Memory of the first worker",
                "bytes",
                "Reserved far above allocated is fragmentation; a steady rise is a leak.",
                Query(run("memory_allocated_bytes"), f"{RUN_NAME} allocated"),
                Query(run("memory_reserved_bytes"), f"{RUN_NAME} reserved"),
                Query(run("peak_memory_bytes"), f"{RUN_NAME} peak"),
            ),
            graph(
                Says(
                    "GPU power, by pod",
                    "watt",
                    "A busy GPU that draws little computes little.",
                    "Needs DCGM's exporter",
                ),
                _gpu(GPU_POWER),
            ),
            graph(
                Says(
                    "Tensor cores, by pod",
                    "percentunit",
                    "Near 0 on a busy GPU: the precision or the shapes do not use them.",
                    "Needs DCGM's profiling metrics",
                ),
                _gpu(GPU_TENSOR_ACTIVE),
                most=1,
            ),
            graph(
                Says(
                    "Network, by pod",
                    "Bps",
                    "At the network's limit, workers wait for each other.",
                    "Needs the kubelet's or Ray's metrics",
                ),
                Query(_network("receive", "receive"), "{{pod}} in"),
                Query(_network("transmit", "send"), "{{pod}} out"),
            ),
        ),
    )


def recovery() -> Row:
    restarts = (
        "sum by (namespace, pod) "
        f"(increase(kube_pod_container_status_restarts_total{{{IN_NAMESPACE}}}[$__rate_interval]))"
    )
    free = f"{run('storage_free_bytes')} / {run('storage_size_bytes')}"
    return Row(
        "Restarts and checkpoints",
        (
            graph(
                Says(
                    "Attempts and restarts",
                    "none",
                    "Steps up are bad: each loses what follows the last checkpoint.",
                    NO_OPERATOR,
                ),
                Query(told("attempts"), f"{NAME} attempts"),
                Query(f"sum by (namespace, name) ({of_job(restarts, PODS)})", f"{NAME} restarts of containers"),
            ),
            graph(
                Says(
                    "Age of the last checkpoint",
                    "s",
                    "It should fall to 0 again and again; a rise over hours is bad.",
                    "No checkpoint yet",
                ),
                Query(f"time() - {run('last_checkpoint_timestamp_seconds')}", RUN_NAME),
                steps={6 * 3600: RED},
            ),
            line(
                "Checkpoints written and failed",
                "none",
                "A failure is bad: the storage is full or slow.",
                Query(added("checkpoints_total"), f"{RUN_NAME} written"),
                Query(added("checkpoint_failures_total"), f"{RUN_NAME} failed"),
            ),
            graph(
                Says(
                    "Time of a checkpoint",
                    "s",
                    "Much of the time between two is bad: training waits for it.",
                    "No checkpoint yet",
                ),
                Query(run("checkpoint_duration_seconds"), RUN_NAME),
            ),
            graph(
                Says(
                    "Size of a checkpoint",
                    "bytes",
                    "Growth is bad; twice this must fit into what is free.",
                    "No checkpoint yet",
                ),
                Query(run("checkpoint_bytes"), RUN_NAME),
            ),
            line(
                "Free storage",
                "percentunit",
                "Under 5% is bad: the next checkpoint may not fit.",
                Query(free, RUN_NAME),
                steps={0.05: YELLOW, 0.1: GREEN},
                base=RED,
                most=1,
            ),
        ),
    )
