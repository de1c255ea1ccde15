"""PromQL that boards and rules share.

Boards use these expressions themselves, not the recording rules, which are off by default.

What others measure of a pod (DCGM's exporter, cAdvisor, Ray) is joined to its job by tunesmith_job_pod_info, which the
operator serves: kube-state-metrics is not needed for it.
"""

RUNNING = "Training|Evaluating"
"""The phases in which a job holds what it asks for."""


def of_pod(series: str) -> str:
    """A series of DCGM's exporter by the pod that holds the GPU.

    Where a scrape keeps its own labels, `pod` is the exporter's pod and the holder's is `exported_pod`; where it
    honours the exporter's, `pod` is the holder's.
    """
    exported = f'label_replace({series}{{exported_pod!=""}}, "pod", "$1", "exported_pod", "(.+)")'
    exported = f'label_replace({exported}, "namespace", "$1", "exported_namespace", "(.+)")'
    return f'max by (namespace, pod, gpu) ({exported} or {series}{{exported_pod="", pod!=""}})'


def _or_ray(dcgm: str, ray: str) -> str:
    """DCGM's figure of a pod's GPUs; of pods that DCGM says nothing of, Ray's."""
    by_gpu = f'max by (namespace, pod, gpu) (label_replace({ray}, "gpu", "$1", "GpuIndex", "(.+)"))'
    return f"({dcgm} or on (namespace, pod) {by_gpu})"


GPU_UTILIZATION = f"{_or_ray(of_pod('DCGM_FI_DEV_GPU_UTIL'), 'ray_node_gpus_utilization')} / 100"
"""Share of the time in which a GPU computed anything; by namespace, pod and gpu."""
GPU_MEMORY_USED = f"{_or_ray(of_pod('DCGM_FI_DEV_FB_USED'), 'ray_node_gram_used')} * 1048576"
"""Bytes of a GPU's memory in use; by namespace, pod and gpu. Both sources count in MiB."""
GPU_POWER = of_pod("DCGM_FI_DEV_POWER_USAGE")
"""Watts; by namespace, pod and gpu."""
GPU_TENSOR_ACTIVE = of_pod("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE")
"""Share of the time in which a GPU's tensor cores computed; by namespace, pod and gpu. Not on every GPU."""


def of_job(by_pod: str, matchers: str = "") -> str:
    """Adds the label `name`, the job's, to what is known by namespace and pod; other pods fall out.

    Args:
        by_pod: an expression with these labels.
        matchers: which jobs, by the labels of tunesmith_job_pod_info.
    """
    jobs = f"max by (namespace, pod, name) (tunesmith_job_pod_info{'{' + matchers + '}' if matchers else ''})"
    return f"({by_pod}) * on (namespace, pod) group_left (name) {jobs}"


def in_phase(of_jobs: str, phases: str) -> str:
    """What is known of jobs that are in one of some phases now; by namespace, name and kind.

    Args:
        of_jobs: an expression with these labels. While an operator takes over from another, both serve them.
        phases: a regular expression.
    """
    by_job = "max by (namespace, name, kind)"
    return f'{by_job} ({of_jobs}) * {by_job} (tunesmith_job_phase{{phase=~"{phases}"}})'


HELD_GPUS = in_phase("tunesmith_job_requested_gpus", RUNNING)
"""GPUs of the jobs that run; by namespace, name and kind."""
WAITING_GPUS = in_phase("tunesmith_job_requested_gpus", "Pending|Queued|Starting")
"""GPUs of the jobs that wait for them, likewise."""


def gpu_hours(window: str, matchers: str = "") -> str:
    """GPU-hours that jobs took in a window; by namespace, name and kind.

    A job's counter begins at 0 with the job and stays an hour after its end, so an increase misses neither end. The
    series of an operator and of the one that replaces it are made one before: what a job took while neither was scraped
    counts. A job that is made again under the same name begins at 0 again, which an increase knows.
    """
    held = f"max by (namespace, name, kind) (tunesmith_job_gpu_seconds_total{{{matchers}}})"
    return f"increase(({held})[{window}:1m]) / 3600"
