"""Alerts of checkpoints and storage, with promtool."""

import pytest

from .cases import Case, Fires, Series, of_job, phase, pod, series, then, trainer, training


def unwritten(number: int) -> Fires:
    return Fires("FineTuneJob team-a/chat cannot write checkpoints", f"{number} could not be written in the last hour.")


CHECKPOINTS = [
    Case(
        "TunesmithCheckpointFailing",
        "twice",
        60,
        {**training(), **trainer("checkpoint_failures_total", "0x29 1x14 2x60")},
        unwritten(2),
    ),
    Case(
        "TunesmithCheckpointFailing",
        "in an attempt that ended of it",
        60,
        {
            **phase("Training", "1x44 stale"),
            **phase("Starting", then((45, "_"), (60, "1"))),
            **pod("1x44 stale"),
            **trainer("checkpoint_failures_total", "0x29 1x14 stale"),
        },
        unwritten(1),
    ),
    Case(
        "TunesmithCheckpointFailing",
        "no space is left",
        20,
        {**phase("Failed"), **of_job("failure", "1x60", reason="StorageFull")},
        unwritten(1),
    ),
    Case("TunesmithCheckpointFailing", "never", 60, {**training(), **trainer("checkpoint_failures_total", "0x600")}),
    Case(
        "TunesmithCheckpointFailing",
        "the workers of an attempt begin anew",
        60,
        {**training(), **trainer("checkpoint_failures_total", "0x30 _x3 0x60")},
    ),
    Case(
        "TunesmithCheckpointFailing",
        "twice, hours ago",
        200,
        {**training(), **trainer("checkpoint_failures_total", "0x29 2x600")},
    ),
    Case(
        "TunesmithCheckpointOld",
        "seven hours",
        430,
        {**training(), **trainer("last_checkpoint_timestamp_seconds", "600x600")},
        Fires(
            "FineTuneJob team-a/chat has no recent checkpoint",
            "An interruption now would lose 7h 0m 0s of training.",
        ),
    ),
    Case(
        "TunesmithCheckpointOld",
        "none at all since it began",
        430,
        {
            **training(),
            **trainer("last_checkpoint_timestamp_seconds", "0x600"),
            **trainer("process_start_time_seconds", "600x600"),
            **trainer("steps_total", "1+1x600"),
        },
        Fires(
            "FineTuneJob team-a/chat has no recent checkpoint",
            "An interruption now would lose 7h 0m 0s of training.",
        ),
    ),
    Case(
        "TunesmithCheckpointOld",
        "every five hours",
        580,
        {**training(), **trainer("last_checkpoint_timestamp_seconds", "1x299 18000x600")},
    ),
    Case(
        "TunesmithCheckpointOld",
        "suspended with an old one",
        580,
        {
            **phase("Training", "1x99 stale"),
            **phase("Suspended", then((100, "_"), (500, "1"))),
            **pod("1x99 stale"),
            **trainer("last_checkpoint_timestamp_seconds", "600x99 stale"),
        },
    ),
]


def storage(free: str, size: str, checkpoint: str = "1e9x600") -> Series:
    sizes = trainer("storage_size_bytes", size)
    return {**training(), **trainer("storage_free_bytes", free), **sizes, **trainer("checkpoint_bytes", checkpoint)}


def volume(available: str, namespace: str = "team-a") -> Series:
    labels = {"namespace": namespace, "persistentvolumeclaim": "runs"}
    sizes = series("kubelet_volume_stats_capacity_bytes", "100x600", **labels, node="n1")
    return {**sizes, **series("kubelet_volume_stats_available_bytes", available, **labels, node="n1")}


NEARLY = "where its folder is: less than 5%, or less than two of its checkpoints."
SPACE = [
    Case(
        "TunesmithStorageNearlyFull",
        "4 of 100 GiB",
        20,
        storage("4294967296x60", "107374182400x60"),
        Fires("The storage of FineTuneJob team-a/chat is nearly full", f"4GiB are free {NEARLY}"),
    ),
    Case(
        "TunesmithStorageNearlyFull",
        "room for one checkpoint more",
        20,
        storage("21474836480x60", "107374182400x60", "16106127360x60"),
        Fires("The storage of FineTuneJob team-a/chat is nearly full", f"20GiB are free {NEARLY}"),
    ),
    Case("TunesmithStorageNearlyFull", "6 of 100 GB", 20, storage("6e9x60", "100e9x60")),
    Case(
        "TunesmithStorageNearlyFull",
        "while a checkpoint takes another's place",
        20,
        storage("6e9x9 1e9x4 6e9x9", "100e9x60"),
    ),
    Case(
        "TunesmithVolumeNearlyFull",
        "a claim of a namespace with jobs",
        20,
        {**phase("Succeeded"), **volume("3x60")},
        Fires(
            "Claim team-a/runs is nearly full",
            "3% of it is free, in a namespace that has jobs.",
            {"namespace": "team-a", "persistentvolumeclaim": "runs"},
        ),
    ),
    Case("TunesmithVolumeNearlyFull", "a claim of others", 20, {**phase("Succeeded"), **volume("3x60", "team-b")}),
    Case("TunesmithVolumeNearlyFull", "half full", 20, {**phase("Succeeded"), **volume("50x60")}),
]

CASES = [*CHECKPOINTS, *SPACE]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_alert(case: Case, told: dict[str, str]) -> None:
    assert told[str(case)] == ""
