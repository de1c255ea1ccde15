"""Alerts of runs, from what their trainer tells, with promtool."""

import pytest

from .cases import POD, Case, Fires, Series, of_job, phase, pod, series, then, trainer, training

NAN = Fires(
    "The loss of FineTuneJob team-a/chat is not finite",
    "The loss or the gradient was NaN or infinite in several steps of the last 15 minutes.",
)


def no_steps(time: str) -> Fires:
    return Fires("FineTuneJob team-a/chat trains without finishing steps", f"No step was finished for at least {time}.")


def steps_of(seconds: int) -> Series:
    """The times of 100 steps."""
    sums = trainer("step_duration_seconds_sum", f"{100 * seconds}x600")
    return {**sums, **trainer("step_duration_seconds_count", "100x600")}


PROGRESS = [
    Case(
        "TunesmithNoProgress",
        "the last step is 40 minutes old",
        50,
        {**training(), **trainer("last_step_timestamp_seconds", "600x600"), **steps_of(20)},
        no_steps("40m 0s"),
    ),
    Case(
        "TunesmithNoProgress",
        "steps of five minutes, and one of 40",
        50,
        {**training(), **trainer("last_step_timestamp_seconds", "600x600"), **steps_of(300)},
    ),
    Case(
        "TunesmithNoProgress",
        "steps go on",
        50,
        {**training(), **trainer("last_step_timestamp_seconds", "0+60x600"), **steps_of(20)},
    ),
    Case(
        "TunesmithNoProgress",
        "all steps are done, and the model is written",
        50,
        {
            **training(),
            **trainer("last_step_timestamp_seconds", "600x600"),
            **steps_of(20),
            **of_job("progress_ratio", "1x600"),
        },
    ),
    Case(
        "TunesmithNoProgress",
        "the model is loaded for 25 minutes",
        35,
        {
            **phase("Starting", "1x9 stale"),
            **phase("Training", then((10, "_"), (60, "1"))),
            **pod(),
            **trainer("last_step_timestamp_seconds", "0x600"),
        },
    ),
    Case(
        "TunesmithNoProgress",
        "no first step for 40 minutes",
        50,
        {
            **phase("Starting", "1x9 stale"),
            **phase("Training", then((10, "_"), (60, "1"))),
            **pod(),
            **trainer("last_step_timestamp_seconds", "0x600"),
        },
        no_steps("30m 0s"),
    ),
    Case(
        "TunesmithNoProgress",
        "a resumed attempt hangs before its first step",
        60,
        {
            **phase("Training", "1x9 stale _x9 1x100"),
            **phase("Starting", "_x10 1x8 stale"),
            **of_job("steps", "0+10x9 90x100"),
        },
        no_steps("30m 0s"),
    ),
    Case(
        "TunesmithNoProgress",
        "trainers are not scraped, and the status moves",
        50,
        {**training(), **of_job("steps", "0x9 10x19 20x19 30x19")},
    ),
    Case(
        "TunesmithNoProgress",
        "suspended for hours",
        120,
        {
            **phase("Training", "1x9 stale"),
            **phase("Suspended", then((10, "_"), (200, "1"))),
            **of_job("steps", "9x600"),
        },
    ),
]

LOSS = [
    Case(
        "TunesmithLossNotFinite",
        "NaN since ten minutes",
        20,
        {**training(), **trainer("loss", "2x9" + 14 * " NaN")},
        NAN,
    ),
    Case(
        "TunesmithLossNotFinite",
        "one step is left out",
        20,
        {**training(), **trainer("loss", "2x15 NaN NaN 2x60"), **trainer("skipped_steps_total", "0x15 1x60")},
    ),
    Case(
        "TunesmithLossNotFinite",
        "every third step is left out",
        30,
        {**training(), **trainer("loss", "2x600"), **trainer("skipped_steps_total", "0x9 1+1x60")},
        NAN,
    ),
    Case(
        "TunesmithLossNotFinite",
        "the counter begins anew",
        30,
        {**training(), **trainer("skipped_steps_total", "9x19 0x60")},
    ),
    Case(
        "TunesmithLossNotFinite",
        "failed of it",
        20,
        {
            **phase("Failed", then((10, "_"), (60, "1"))),
            **phase("Training", "1x9 stale"),
            **trainer("loss", 10 * "NaN " + "stale"),
        },
    ),
    Case(
        "TunesmithLossDiverging",
        "from 1.2 to 6",
        160,
        {**training(), **trainer("loss", then((120, "1.2"), (60, "6"))), **trainer("steps_total", "10+10x600")},
        Fires(
            "The loss of FineTuneJob team-a/chat rises",
            "Its mean of 15 minutes is 6, half as much again as the lowest of the last 6 hours and another 0.5 above "
            "that.",
        ),
    ),
    Case(
        "TunesmithLossDiverging",
        "a spike of five minutes",
        132,
        {
            **training(),
            **trainer("loss", then((120, "1.2"), (5, "4"), (60, "1.2"))),
            **trainer("steps_total", "10+10x600"),
        },
    ),
    Case(
        "TunesmithLossDiverging",
        "twice of nearly nothing",
        160,
        {**training(), **trainer("loss", then((120, "0.01"), (60, "0.3"))), **trainer("steps_total", "10+10x600")},
    ),
    Case(
        "TunesmithLossDiverging",
        "a lucky first batch",
        30,
        {**training(), **trainer("loss", "0.1 4x600"), **trainer("steps_total", "10+10x600")},
    ),
    Case(
        "TunesmithLossDiverging",
        "a new job of the same name begins higher",
        160,
        {
            **phase("Training", "1x99 stale _x4 1x100"),
            **pod("1x99 stale"),
            **trainer("loss", "0.5x99 stale"),
            **trainer("steps_total", "10+10x99 stale"),
            **pod(then((104, "_"), (100, "1")), "chat-1-fghij-head-1"),
            **trainer("loss", then((104, "_"), (100, "9")), "chat-1-fghij-head-1"),
            **trainer("steps_total", "_x104 10+10x100", "chat-1-fghij-head-1"),
        },
    ),
    Case(
        "TunesmithLossDiverging",
        "PPO's loss, which has no scale",
        160,
        {
            **training(),
            **trainer("loss", then((120, "0.1"), (60, "3"))),
            **trainer("steps_total", "10+10x600"),
            **series("tunesmith_ppo_objective", "1x600", namespace="team-a", pod=POD),
        },
    ),
]

SPEED = [
    Case(
        "TunesmithThroughputHalved",
        "from 1000 to 300",
        150,
        {**training(), **trainer("tokens_per_second", "1000x119 300x60"), **trainer("steps_total", "10+10x600")},
        Fires(
            "FineTuneJob team-a/chat trains at less than half its speed",
            "In the last 15 minutes it read 30% of the tokens per second that were usual in the 3 hours before.",
        ),
    ),
    Case(
        "TunesmithThroughputHalved",
        "from 1000 to 600",
        150,
        {**training(), **trainer("tokens_per_second", "1000x119 600x60"), **trainer("steps_total", "10+10x600")},
    ),
    Case(
        "TunesmithThroughputHalved",
        "slow for five minutes",
        127,
        {**training(), **trainer("tokens_per_second", "1000x119 100x4 1000x60"), **trainer("steps_total", "10+10x600")},
    ),
    Case(
        "TunesmithThroughputHalved",
        "scrapes are missing",
        150,
        {**training(), **trainer("tokens_per_second", "1000x119 _x20 1000x60"), **trainer("steps_total", "10+10x600")},
    ),
    Case(
        "TunesmithThroughputHalved",
        "a fast first step",
        28,
        {**training(), **trainer("tokens_per_second", "9000x4 1000x60"), **trainer("steps_total", "10+10x600")},
    ),
]

CASES = [*PROGRESS, *LOSS, *SPEED]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_alert(case: Case, told: dict[str, str]) -> None:
    assert told[str(case)] == ""
