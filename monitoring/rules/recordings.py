"""What the alerts look back on, and what is worth keeping for longer than the series of single jobs."""

from monitoring.expressions import GPU_UTILIZATION, HELD_GPUS, RUNNING, of_job
from monitoring.rules.rule import Recording

RUNNING_GPU = "pod_gpu:tunesmith_running_gpu_utilization:ratio"
LOSS = "pod:tunesmith_training_loss:avg15m"


def phase(phases: str) -> str:
    """1 for each FineTuneJob in one of these phases now; by namespace, name and kind.

    Args:
        phases: a regular expression.
    """
    return f'max by (namespace, name, kind) (tunesmith_job_phase{{kind="FineTuneJob", phase=~"{phases}"}})'


def of_pod(series: str) -> str:
    """A series of the trainer by namespace and pod, whatever labels a scrape adds."""
    return f"max by (namespace, pod) ({series})"


RECORDINGS = (
    Recording(
        RUNNING_GPU,
        f"{of_job(GPU_UTILIZATION)}\nand on (namespace, name) {phase(RUNNING)}",
        "Utilization of each GPU of a job, while it trains or evaluates; by namespace, name, pod and gpu.",
    ),
    Recording(
        LOSS,
        of_pod("avg_over_time(tunesmith_training_loss[15m])")
        # an average of less than 15 minutes is lower, or higher, by chance; the loss of PPO is near 0 and means little
        + f"\nand on (namespace, pod) ({of_pod('tunesmith_training_steps_total offset 15m')} > 0)"
        + f"\nunless on (namespace, pod) {of_pod('tunesmith_ppo_objective')}",
        "Mean loss of 15 minutes of a run, PPO excluded; by namespace and pod.",
    ),
    Recording(
        "namespace:tunesmith_held_gpus:sum",
        f"sum by (namespace) ({HELD_GPUS})",
        "GPUs that the jobs of a namespace hold.",
    ),
    Recording(
        "namespace:tunesmith_running_gpu_utilization:avg",
        f"avg by (namespace) ({RUNNING_GPU})",
        "Mean utilization of the GPUs that the jobs of a namespace hold.",
    ),
)
