"""The rows of a job's board that its trainer fills: is it learning, and how fast."""

from monitoring.boards.board import Row
from monitoring.boards.job_queries import NAME, NO_OPERATOR, RUN, RUN_NAME, added, line, rate, run, told
from monitoring.boards.panels import ORANGE, Query, Says, graph


def learning() -> Row:
    return Row(
        "Learning",
        (
            line(
                "Loss",
                "none",
                "Rising is bad; validation that rises while training falls is overfitting; a gap is NaN.",
                Query(run("loss"), f"{RUN_NAME} training"),
                Query(run("validation_loss"), f"{RUN_NAME} validation"),
                width=12,
                least=None,
            ),
            line(
                "Learning rate",
                "sci",
                "It should rise, then fall as the schedule says; a jump is a resumed attempt.",
                Query(run("learning_rate"), RUN_NAME),
                width=6,
            ),
            line(
                "Gradient norm",
                "short",
                "Spikes, or a steady rise, come before a loss that diverges.",
                Query(run("gradient_norm"), RUN_NAME),
                width=6,
            ),
            graph(
                Says("Steps", "short", "A line that stays flat while the job trains is bad.", NO_OPERATOR),
                Query(told("steps"), f"{NAME} done"),
                Query(told("steps_planned"), f"{NAME} planned"),
                width=12,
            ),
            line(
                "Skipped steps",
                "none",
                "Steps whose loss or gradient was not finite; more than a few are bad.",
                Query(added("skipped_steps_total"), RUN_NAME),
                steps={1: ORANGE},
                width=12,
            ),
        ),
    )


def speed() -> Row:
    duration = (
        "sum by (le, namespace, tunesmith_dev_job) "
        f"(rate(tunesmith_training_step_duration_seconds_bucket{{{RUN}}}[$__rate_interval]))"
    )
    phases = f"rate(tunesmith_training_phase_seconds_total{{{RUN}}}[$__rate_interval])"
    return Row(
        "Speed",
        (
            line(
                "Throughput",
                "short",
                "Tokens a second; a drop to half is bad.",
                Query(run("tokens_per_second"), RUN_NAME),
            ),
            line(
                "Model FLOP utilization",
                "percentunit",
                "Share of the devices' peak; under 20% on GPUs is bad.",
                Query(run("model_flop_utilization_ratio"), RUN_NAME),
            ),
            line(
                "What a step's time is spent on",
                "percentunit",
                "Much data, checkpoint or other is bad: the GPUs wait.",
                Query(f"sum by (phase) ({phases}) / on () group_left () sum({phases})", "{{phase}}"),
                stack=True,
                most=1,
            ),
            line(
                "Duration of a step",
                "s",
                "A 95th percentile far above the median is bad.",
                Query(f"histogram_quantile(0.5, {duration})", f"{RUN_NAME} median"),
                Query(f"histogram_quantile(0.95, {duration})", f"{RUN_NAME} 95th percentile"),
            ),
            line(
                "Steps a second",
                "none",
                "A drop is bad.",
                Query(rate("steps_total"), RUN_NAME),
            ),
            line(
                "FLOPs a second",
                "flops",
                "Far below the peak is bad; the peak is of all workers' devices.",
                Query(rate("model_flops_total"), f"{RUN_NAME} reached"),
                Query(run("peak_flops_per_second"), f"{RUN_NAME} peak"),
            ),
        ),
    )
