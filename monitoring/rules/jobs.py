"""Alerts of jobs: each has the labels namespace, name and kind, by which Alertmanager finds the team.

What a trainer serves goes with its pod, and is joined to the job's phase: nothing fires for a job that is queued,
suspended or over. Where the past is asked for, the pod must have been training then, so that a start is no news.
"""

from monitoring.expressions import of_job
from monitoring.rules.recordings import LOSS, RUNNING_GPU, of_pod, phase
from monitoring.rules.rule import Alert

_JOB = "{{ $labels.kind }} {{ $labels.namespace }}/{{ $labels.name }}"
_HOLD = "5m"
_STAGES = 'label_replace(tunesmith_job_stage_info, "kind", "FineTuneJob", "", "")'
"""A stage that fails ends its pipeline, which is told."""
_PAST_END = "max by (namespace, name, kind) (tunesmith_job_progress_ratio) >= 1"


def _of_training(by_pod: str) -> str:
    """What holds of a pod, of the job that trains there."""
    by_job = f"max by (namespace, name) (\n{of_job(by_pod)}\n)"
    return f"{by_job}\n* on (namespace, name) group_left (kind) {phase('Training')}"


def _steady(name: str, minutes: str) -> str:
    """Jobs that have been in a phase for so many minutes, even while the operator was replaced by another."""
    of_job = "max by (namespace, name, kind)"
    then = f'{of_job} (max_over_time(tunesmith_job_phase{{phase="{name}"}}[5m] offset {minutes}m))'
    other = f'{of_job} (max_over_time(tunesmith_job_phase{{phase!="{name}"}}[{minutes}m]))'
    return f"{phase(name)}\nand {then}\nunless {other}"


_LAST_STEP = of_pod("tunesmith_training_last_step_timestamp_seconds > 0")
_STEP_SECONDS = (
    f"{of_pod('tunesmith_training_step_duration_seconds_sum')}\n/ "
    f"{of_pod('tunesmith_training_step_duration_seconds_count')}"
)
_AT_RISK_SINCE = (
    f"{of_pod('tunesmith_training_last_checkpoint_timestamp_seconds > 0')}\n"
    f"or {of_pod('process_start_time_seconds and on (namespace, pod) tunesmith_training_steps_total > 0')}"
)
_FREE = of_pod("tunesmith_training_storage_free_bytes")
_SPEED = "tunesmith_training_tokens_per_second"

ALERTS = (
    Alert(
        "TunesmithGpuIdle",
        f"""
count by (namespace, name) (
  avg_over_time({RUNNING_GPU}[@gpuIdleMinutes@m]) < @gpuIdleRatio@
  and {RUNNING_GPU}
  and {RUNNING_GPU} offset @gpuIdleMinutes@m
)
* on (namespace, name) group_left (kind) {phase("Training|Evaluating")}
""",
        severity="warning",
        hold=_HOLD,
        summary=f"{_JOB} holds GPUs that do nothing",
        description="{{ $value }} of its GPUs were busy for less than {{ @gpuIdleRatio@ | humanizePercentage }} of the "
        "last @gpuIdleMinutes@ minutes.",
    ),
    Alert(
        "TunesmithJobStuckStarting",
        phase("Starting"),
        wait="@startingMinutes@m",
        severity="warning",
        hold=_HOLD,
        summary=f"{_JOB} does not start",
        description="It has been in phase Starting for more than @startingMinutes@ minutes: its pods wait for a node, "
        "an image or a volume, or Ray's cluster does not form.",
    ),
    Alert(
        "TunesmithNoProgress",
        f"""
(
{
            _of_training(
                f'''(time() - {_LAST_STEP})
> 60 * @noProgressMinutes@
> on (namespace, pod) 10 * ({_STEP_SECONDS})'''
            )
        }
or
  60 * @noProgressMinutes@ * (
{_steady("Training", "@noProgressMinutes@")}
  unless max by (namespace, name, kind) (changes(tunesmith_job_steps[@noProgressMinutes@m])) > 0
  unless on (namespace, name) {of_job(_LAST_STEP)}
  )
)
unless {_PAST_END}
""",
        severity="warning",
        hold=_HOLD,
        summary=f"{_JOB} trains without finishing steps",
        description="No step was finished for at least {{ $value | humanizeDuration }}.",
    ),
    Alert(
        "TunesmithLossNotFinite",
        _of_training(
            f"""
(
  # all samples of five minutes are NaN, which equals nothing
  ({of_pod("min_over_time(tunesmith_training_loss[5m])")} != {of_pod("min_over_time(tunesmith_training_loss[5m])")})
  or ({of_pod("increase(tunesmith_training_skipped_steps_total[15m])")} > 2)
)
"""
        ),
        severity="warning",
        hold=_HOLD,
        summary=f"The loss of {_JOB} is not finite",
        description="The loss or the gradient was NaN or infinite in several steps of the last 15 minutes.",
    ),
    Alert(
        "TunesmithLossDiverging",
        _of_training(f"{LOSS} > 1.5 * min_over_time({LOSS}[6h]) + 0.5"),
        wait="10m",
        severity="warning",
        hold=_HOLD,
        summary=f"The loss of {_JOB} rises",
        description="Its mean of 15 minutes is {{ $value | humanize }}, half as much again as the lowest of the last "
        "6 hours and another 0.5 above that.",
    ),
    Alert(
        "TunesmithThroughputHalved",
        _of_training(
            f"""
(
  {of_pod(f"avg_over_time({_SPEED}[15m])")}
  / ({of_pod(f"quantile_over_time(0.5, {_SPEED}[3h] offset 15m)")} > 0)
) < 0.5
and on (namespace, pod) ({of_pod("tunesmith_training_steps_total offset 30m")} > 0)
"""
        ),
        wait="5m",
        severity="warning",
        hold=_HOLD,
        summary=f"{_JOB} trains at less than half its speed",
        description="In the last 15 minutes it read {{ $value | humanizePercentage }} of the tokens per second that "
        "were usual in the 3 hours before.",
    ),
    Alert(
        "TunesmithRepeatedRestarts",
        f"""
(
  max by (namespace, name, kind) (tunesmith_job_attempts)
  - clamp_min(min by (namespace, name, kind) (min_over_time(tunesmith_job_attempts[3h])), 1)
) >= @restarts@
and {phase("Pending|Starting|Training|Evaluating")}
unless max by (namespace, name, kind) (max_over_time(tunesmith_job_phase{{phase="Suspended"}}[3h]))
""",
        severity="warning",
        hold=_HOLD,
        summary=f"{_JOB} starts again and again",
        description="It was started {{ $value }} times more in the last 3 hours.",
    ),
    Alert(
        "TunesmithCheckpointFailing",
        # a failure ends the attempt, and its pod: both are looked for in the past
        f"""
max by (namespace, name) (
  ({of_pod("increase(tunesmith_training_checkpoint_failures_total[1h])")} > 0)
  * on (namespace, pod) group_left (name) max by (namespace, pod, name) (max_over_time(tunesmith_job_pod_info[1h]))
)
* on (namespace, name) group_left (kind) {phase("Pending|Starting|Training")}
or max by (namespace, name, kind) (tunesmith_job_failure{{kind="FineTuneJob", reason="StorageFull"}})
""",
        severity="warning",
        hold=_HOLD,
        summary=f"{_JOB} cannot write checkpoints",
        description='{{ $value | printf "%.0f" }} could not be written in the last hour.',
    ),
    Alert(
        "TunesmithCheckpointOld",
        _of_training(f"(time() - ({_AT_RISK_SINCE})) > 3600 * @checkpointHours@"),
        wait="5m",
        severity="warning",
        hold=_HOLD,
        summary=f"{_JOB} has no recent checkpoint",
        description="An interruption now would lose {{ $value | humanizeDuration }} of training.",
    ),
    Alert(
        "TunesmithStorageNearlyFull",
        _of_training(
            f"""
(
  {_FREE} < @storageFreeRatio@ * {of_pod("tunesmith_training_storage_size_bytes")}
  or {_FREE} < 2 * {of_pod("tunesmith_training_checkpoint_bytes")}
)
"""
        ),
        wait="10m",
        severity="warning",
        hold=_HOLD,
        summary=f"The storage of {_JOB} is nearly full",
        description="{{ $value | humanize1024 }}B are free where its folder is: less than "
        "{{ @storageFreeRatio@ | humanizePercentage }}, or less than two of its checkpoints.",
    ),
    Alert(
        "TunesmithVolumeNearlyFull",
        """
(
  max by (namespace, persistentvolumeclaim) (kubelet_volume_stats_available_bytes)
  / (max by (namespace, persistentvolumeclaim) (kubelet_volume_stats_capacity_bytes) > 0)
) < @storageFreeRatio@
and on (namespace) tunesmith_job_phase
""",
        wait="10m",
        severity="warning",
        hold=_HOLD,
        summary="Claim {{ $labels.namespace }}/{{ $labels.persistentvolumeclaim }} is nearly full",
        description="{{ $value | humanizePercentage }} of it is free, in a namespace that has jobs.",
    ),
    Alert(
        "TunesmithEvaluationGateFailed",
        f"""
max by (namespace, name, kind) (tunesmith_job_failure{{reason="GateFailed"}})
unless on (namespace, name, kind) {_STAGES}
""",
        severity="warning",
        hold=_HOLD,
        summary=f"The model of {_JOB} does not pass its gates",
        description="A condition of evaluation.gates does not hold; the job's message names it.",
    ),
    Alert(
        "TunesmithJobFailed",
        f"""
max by (namespace, name, kind, reason) (tunesmith_job_failure{{reason!~"GateFailed|StorageFull"}})
unless on (namespace, name, kind) {_STAGES}
""",
        severity="warning",
        hold=_HOLD,
        summary=f"{_JOB} failed",
        description="Its reason is {{ $labels.reason }}; its message says more.",
    ),
)
