"""Every metric that the operator serves."""

from tunesmith.api.series import Series

_JOB = ("namespace", "name", "kind")

_OWN = (
    Series("tunesmith_operator_info", "gauge", "1 for the operator's version.", ("version",)),
    Series("tunesmith_operator_jobs", "gauge", "FineTuneJobs and RLHFPipelines by phase.", ("kind", "phase")),
    Series(
        "tunesmith_operator_reconciles_total",
        "counter",
        "Looks after a job or pipeline; one that failed is repeated.",
        ("kind", "result"),
    ),
    Series(
        "tunesmith_operator_reconcile_duration_seconds",
        "histogram",
        "Time to look after one job or pipeline once.",
        ("kind",),
    ),
    Series("tunesmith_operator_queue_depth", "gauge", "Jobs that wait to be looked after."),
    Series("tunesmith_operator_queue_wait_seconds", "histogram", "Time that a job waits to be looked after."),
    Series("tunesmith_operator_api_requests_total", "counter", "Requests to the API server.", ("verb", "code")),
    Series(
        "tunesmith_operator_watch_last_event_timestamp_seconds",
        "gauge",
        "When a watch last brought something.",
        ("kind",),
    ),
    Series(
        "tunesmith_operator_resync_timestamp_seconds",
        "gauge",
        "When the watches were last compared with the API server.",
    ),
    Series(
        "tunesmith_operator_watch_repairs_total",
        "counter",
        "Objects that the watches had missed, found by the comparison.",
    ),
    Series(
        "tunesmith_operator_attempt_duration_seconds",
        "histogram",
        "Time that attempts ran, by how they ended.",
        ("reason",),
    ),
    Series(
        "tunesmith_operator_retries_total",
        "counter",
        "Attempts that follow a failed one, by how that ended.",
        ("reason",),
    ),
    Series(
        "tunesmith_operator_job_duration_seconds",
        "histogram",
        "Time from the first attempt to the end of a job.",
        ("phase",),
    ),
    Series(
        "tunesmith_operator_notifications_total",
        "counter",
        "Tries to notify somebody of an end: delivered, retried (a later try follows), failed (none does).",
        ("format", "result"),
    ),
)

_OF_JOBS = (
    Series("tunesmith_job_phase", "gauge", "1 for the phase that the job is in.", (*_JOB, "phase")),
    Series("tunesmith_job_failure", "gauge", "1 for the reason why the job failed.", (*_JOB, "reason")),
    Series("tunesmith_job_start_timestamp_seconds", "gauge", "When the first attempt was created.", _JOB),
    Series("tunesmith_job_end_timestamp_seconds", "gauge", "When the job succeeded or failed.", _JOB),
    Series("tunesmith_job_attempts", "gauge", "Attempts so far, the running one included.", _JOB),
    Series(
        "tunesmith_job_progress_ratio",
        "gauge",
        "Finished share of the optimizer steps; of a pipeline, of its stages.",
        _JOB,
    ),
    Series("tunesmith_job_steps", "gauge", "Finished optimizer steps, from the job's status.", _JOB),
    Series("tunesmith_job_steps_planned", "gauge", "Optimizer steps of the whole run.", _JOB),
    Series("tunesmith_job_remaining_seconds", "gauge", "Estimated time to the end of training, while it runs.", _JOB),
    Series("tunesmith_job_requested_gpus", "gauge", "GPUs of all workers, whether they are held now or not.", _JOB),
    Series(
        "tunesmith_job_gpu_seconds_total",
        "counter",
        "The requested GPUs times the seconds that attempts have run, queueing excluded.",
        _JOB,
    ),
    Series(
        "tunesmith_job_pod_info",
        "gauge",
        "1 for each pod that a job holds now; joins what others measure of a pod to its job.",
        ("namespace", "pod", "name", "component"),
    ),
    Series(
        "tunesmith_job_stage_info",
        "gauge",
        "1 for each FineTuneJob that is a stage of a pipeline.",
        ("namespace", "name", "pipeline", "stage"),
    ),
    Series(
        "tunesmith_evaluation",
        "gauge",
        "What an evaluation measured, of the evaluated model and of the one that training started from.",
        (*_JOB, "metric", "model"),
    ),
)

SERIES = (*_OWN, *_OF_JOBS)
BY_NAME = {series.name: series for series in SERIES}
