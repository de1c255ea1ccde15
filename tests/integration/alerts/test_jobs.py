"""Alerts of jobs, with promtool: each fires where it should, and not where it nearly should."""

import pytest

from .cases import POD, TEAM, Case, Fires, Series, of_job, phase, pod, series, then, training

IDLE = Fires(
    "FineTuneJob team-a/chat holds GPUs that do nothing",
    "1 of its GPUs were busy for less than 5% of the last 30 minutes.",
)
DEAF = Fires(
    "FineTuneJob team-a/chat does not start",
    "It has been in phase Starting for more than 20 minutes: its pods wait for a node, an image or a volume, or Ray's "
    "cluster does not form.",
)


def dcgm(gpu: str, values: str, pod: str = POD) -> Series:
    return series("DCGM_FI_DEV_GPU_UTIL", values, namespace="team-a", pod=pod, gpu=gpu, Hostname="n1")


def exported(gpu: str, values: str) -> Series:
    own = {"namespace": "gpu-operator", "pod": "dcgm-exporter-8xk2l"}
    return series("DCGM_FI_DEV_GPU_UTIL", values, **own, exported_namespace="team-a", exported_pod=POD, gpu=gpu)


def ray(gpu: str, values: str) -> Series:
    return series("ray_node_gpus_utilization", values, namespace="team-a", pod=POD, GpuIndex=gpu, tunesmith_dev_job="c")


GPUS = [
    Case("TunesmithGpuIdle", "one of two", 40, {**training(), **dcgm("0", "2x600"), **dcgm("1", "90x600")}, IDLE),
    Case(
        "TunesmithGpuIdle",
        "of an exporter that is scraped as itself",
        40,
        {**training(), **exported("0", "0x600")},
        IDLE,
    ),
    Case("TunesmithGpuIdle", "of Ray, without DCGM", 40, {**training(), **ray("0", "3x600")}, IDLE),
    Case("TunesmithGpuIdle", "busy a tenth of the time", 40, {**training(), **dcgm("0", "90 0x8 " * 60)}),
    Case(
        "TunesmithGpuIdle",
        "idle for long while it started, and a little since",
        60,
        {
            **phase("Starting", "1x30 stale"),
            **phase("Training", then((31, "_"), (60, "1"))),
            **pod(),
            **dcgm("0", "0x90"),
        },
    ),
    Case(
        "TunesmithGpuIdle",
        "suspended after it was idle",
        60,
        {
            **phase("Training", "1x50 stale"),
            **phase("Suspended", then((51, "_"), (60, "1"))),
            **pod("1x50 stale"),
            **dcgm("0", "0x50 stale"),
        },
    ),
    Case(
        "TunesmithGpuIdle",
        "evaluates in a new pod, which loads the model",
        60,
        {
            **phase("Training", "1x50 stale"),
            **phase("Evaluating", then((51, "_"), (60, "1"))),
            **pod("1x50 stale"),
            **dcgm("0", "80x50 stale"),
            **pod(then((51, "_"), (60, "1")), "chat-evaluation-1"),
            **dcgm("0", then((51, "_"), (60, "0")), "chat-evaluation-1"),
        },
    ),
    Case("TunesmithGpuIdle", "nobody measures", 60, training()),
    Case(
        "TunesmithGpuIdle",
        "an idle pod of others",
        60,
        {**training(), **dcgm("0", "0x600", "notebook-1")},
    ),
]

STARTING = [
    Case("TunesmithJobStuckStarting", "for 25 minutes", 25, phase("Starting"), DEAF),
    Case("TunesmithJobStuckStarting", "for 19 minutes", 19, phase("Starting")),
    Case("TunesmithJobStuckStarting", "queued for hours", 300, phase("Queued")),
    Case(
        "TunesmithJobStuckStarting",
        "an operator is replaced",
        41,
        {**phase("Starting", "1x39 stale"), **phase("Starting", then((43, "_"), (60, "1")), instance="10.0.0.8:8080")},
        DEAF,
    ),
    Case(
        "TunesmithJobStuckStarting",
        "starts twice, with training between",
        30,
        {
            **phase("Starting", "1x14 stale _x4 1x20"),
            **phase("Training", "_x15 1x3 stale"),
        },
    ),
]

RESTARTS = [
    Case(
        "TunesmithRepeatedRestarts",
        "four attempts in an hour",
        60,
        {**phase("Training"), **of_job("attempts", "1x9 2x19 3x19 4x60")},
        Fires("FineTuneJob team-a/chat starts again and again", "It was started 3 times more in the last 3 hours."),
    ),
    Case(
        "TunesmithRepeatedRestarts",
        "its first start, and two more",
        60,
        {**phase("Training"), **of_job("attempts", "0x9 1x9 2x9 3x60")},
    ),
    Case(
        "TunesmithRepeatedRestarts",
        "three within a day",
        600,
        {**phase("Training"), **of_job("attempts", "1x100 2x200 3x200 4x200")},
    ),
    Case(
        "TunesmithRepeatedRestarts",
        "suspended and resumed",
        60,
        {**phase("Training"), **phase("Suspended", "_x9 1 stale"), **of_job("attempts", "1x9 2x19 3x19 4x60")},
    ),
    Case(
        "TunesmithRepeatedRestarts",
        "failed after four",
        60,
        {**phase("Failed"), **of_job("attempts", "1x9 2x19 3x19 4x60")},
    ),
    Case(
        "TunesmithRepeatedRestarts",
        "a new job of the same name",
        60,
        {**phase("Training"), **of_job("attempts", "9x20 stale _x4 0x4 1x60")},
    ),
]

PIPELINE = {"namespace": "team-a", "name": "align", "kind": "RLHFPipeline"}
STAGE = series("tunesmith_job_stage_info", "1x60", namespace="team-a", name="chat", pipeline="align", stage="sft")
ENDS = [
    Case(
        "TunesmithEvaluationGateFailed",
        "a gate",
        5,
        {**phase("Failed"), **of_job("failure", "1x60", reason="GateFailed")},
        Fires(
            "The model of FineTuneJob team-a/chat does not pass its gates",
            "A condition of evaluation.gates does not hold; the job's message names it.",
        ),
    ),
    Case("TunesmithEvaluationGateFailed", "other reasons", 5, of_job("failure", "1x60", reason="OutOfMemory")),
    Case(
        "TunesmithJobFailed",
        "out of memory",
        5,
        of_job("failure", "1x60", reason="OutOfMemory"),
        Fires(
            "FineTuneJob team-a/chat failed",
            "Its reason is OutOfMemory; its message says more.",
            {**TEAM, "reason": "OutOfMemory"},
        ),
    ),
    Case("TunesmithJobFailed", "a gate, which is told as such", 5, of_job("failure", "1x60", reason="GateFailed")),
    Case("TunesmithJobFailed", "no space, which is told as such", 5, of_job("failure", "1x60", reason="StorageFull")),
    Case("TunesmithJobFailed", "succeeded", 5, phase("Succeeded")),
    Case(
        "TunesmithJobFailed",
        "a stage: its pipeline is told",
        5,
        {
            **of_job("failure", "1x60", reason="OutOfMemory"),
            **STAGE,
            **series("tunesmith_job_failure", "1x60", **PIPELINE, reason="OutOfMemory"),
        },
        Fires(
            "RLHFPipeline team-a/align failed",
            "Its reason is OutOfMemory; its message says more.",
            {**PIPELINE, "reason": "OutOfMemory"},
        ),
    ),
]

CASES = [*GPUS, *STARTING, *RESTARTS, *ENDS]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_alert(case: Case, told: dict[str, str]) -> None:
    assert told[str(case)] == ""
