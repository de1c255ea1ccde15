"""The board of one job, or of a few to compare."""

from monitoring.boards import job_pods, job_run
from monitoring.boards.board import Row, choice, logs_source, namespace, of
from monitoring.boards.job_queries import JOB, NAME, NO_GPUS, NO_OPERATOR, NOT_TRAINING, PODS, RUN_NAME, run, told
from monitoring.boards.panels import GREEN, ORANGE, RED, Query, Says, log_lines, number, rows, timeline
from monitoring.boards.queries import IN_NAMESPACE, JOBS, PHASES, phase
from monitoring.expressions import GPU_UTILIZATION, gpu_hours, of_job


def _now() -> Row:
    return Row(
        "Now",
        (
            number(
                Says("Phase", "none", "Failed is bad, and so is Starting for more than minutes.", NO_OPERATOR),
                Query(phase(JOB), NAME),
                texts=PHASES,
            ),
            number(
                Says("Progress", "percentunit", "Share of the steps; one that stands still is bad.", NO_OPERATOR),
                Query(told("progress_ratio"), NAME),
            ),
            number(
                Says("Time left", "s", "An estimate; one that grows is bad.", "Not training"),
                Query(told("remaining_seconds"), NAME),
            ),
            number(
                Says("Attempts", "none", "More than a few are bad: the job starts again and again.", NO_OPERATOR),
                Query(told("attempts"), NAME),
                steps={3: ORANGE, 6: RED},
            ),
            number(
                Says("GPU utilization", "percentunit", "Under 50% is bad: the GPUs wait for data or others.", NO_GPUS),
                Query(f"avg by (namespace, name) ({of_job(GPU_UTILIZATION, PODS)})", NAME),
                steps={0.3: ORANGE, 0.5: GREEN},
                base=RED,
            ),
            number(
                Says("MFU", "percentunit", "Share of the devices' peak; under 20% on GPUs is bad.", NOT_TRAINING),
                Query(run("model_flop_utilization_ratio"), RUN_NAME),
            ),
            number(
                Says("GPU-hours", "h", "Of the time shown; more than planned is bad.", NO_OPERATOR),
                Query(f"sum by (namespace, name) ({gpu_hours('$__range', JOB)})", NAME),
            ),
            number(
                Says(
                    "At risk", "s", "Training since the last checkpoint, lost if it stops now; hours are bad.", "None"
                ),
                Query(f"time() - {run('last_checkpoint_timestamp_seconds')} > 0", RUN_NAME),
                steps={3600: ORANGE, 6 * 3600: RED},
            ),
            timeline(
                Says("Phases", "none", "Starting or Queued again and again is bad; so is red.", NO_OPERATOR),
                Query(phase(JOB), NAME),
                texts=PHASES,
                width=16,
                height=5,
            ),
            rows(
                Says("Why it failed", "none", "Any reason; its page says what to do.", "Did not fail"),
                {"name": "Job", "reason": "Reason"},
                Query(f"max by (name, reason) (tunesmith_job_failure{{{JOB}}})", "Failed"),
                width=8,
                height=5,
            ),
        ),
    )


def _result() -> Row:
    def values(model: str) -> str:
        return f'max by (namespace, name, metric) (tunesmith_evaluation{{{JOB}, model="{model}"}})'

    return Row(
        "Result",
        (
            rows(
                Says("Evaluation", "none", "A tuned model that is no better than before is bad.", "Not evaluated yet"),
                {"name": "Job", "metric": "Metric"},
                Query(values("tuned"), "Tuned"),
                Query(values("base"), "Before"),
                width=24,
            ),
        ),
    )


def _logs() -> Row:
    return Row(
        "Logs and events, where Loki has them",
        (
            log_lines(
                Says(
                    "Logs of the job's pods",
                    "none",
                    "Lines of level ERROR, and tracebacks, are bad.",
                    "No lines in Loki",
                ),
                f'{{{IN_NAMESPACE}, pod=~"($name)-.+"}}',
            ),
            log_lines(
                Says(
                    "Events of the job and its pods",
                    "none",
                    "Warnings are bad: FailedScheduling, OOMKilling.",
                    "No events in Loki",
                ),
                f'{{{IN_NAMESPACE}, job=~".*events.*"}} |~ "($name)"',
                height=8,
            ),
        ),
        collapsed=True,
    )


def board() -> str:
    """The board as JSON."""
    about = "One job, or a few to compare: is it learning, how fast, on what, and what would an interruption lose."
    names = f"label_values(tunesmith_job_phase{{{JOBS}}}, name)"
    variables = (
        namespace(),
        choice("name", "Job", names, "FineTuneJobs of the chosen namespaces.", everything=False),
        logs_source(),
    )
    parts = (_now(), job_run.learning(), job_run.speed(), job_pods.devices(), job_pods.recovery(), _result(), _logs())
    return of("job", "Job", about, variables, parts, ("docs/boards.md", "docs/troubleshooting.md"))
