"""All settings of the operator. Only `main` reads the environment."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class PodResources:
    """The resources of a pod that does not train; memory is request and limit."""

    cpu: str
    memory: str


@dataclass(frozen=True)
class Settings:
    """All settings of the operator."""

    namespaces: tuple[str, ...] = ()
    """The namespaces that are watched; all without any."""
    image: str = ""
    """The trainer image of jobs that name none."""
    image_pull_policy: str = "IfNotPresent"
    """When the trainer image is pulled, for jobs that do not say."""
    storage_claim: str = ""
    """The PersistentVolumeClaim of jobs that name no storage."""
    metric_modules: tuple[str, ...] = ()
    """The modules that metrics of evaluation.own may come from, each with what is below it; none without any."""
    ray_version: str = "2.60.0"
    """The version of Ray in the trainer image, for KubeRay."""
    head: PodResources = field(default_factory=lambda: PodResources("1", "4Gi"))
    """The head of a Ray cluster; with one worker the head is that worker, and has the memory of both."""
    submitter: PodResources = field(default_factory=lambda: PodResources("100m", "512Mi"))
    """The pod that submits the Ray job, follows its logs and reports its outcome."""

    notification_hosts: tuple[str, ...] = ()
    """The hosts that URLs of spec.notifications may lead to, as `check_entry` takes them; none without any."""
    webhooks_folder: str = ""
    """Where the URLs are that spec.notifications names, each in a file of its name; none without it."""
    notification_retry_seconds: float = 30.0
    """Delay before a notification that was not taken is sent again; doubles with each try."""

    progress_seconds: float = 15.0
    """Time between two readings of a job's progress; its status changes no more often for it."""
    pod_grace_seconds: float = 300.0
    """How long an image that cannot be pulled, or a missing Secret, is shown before the job fails."""
    outcome_grace_seconds: float = 20.0
    """How long a finished RayJob's submitter may take to show its outcome."""
    retry_seconds: float = 10.0
    """Delay before an attempt that changes nothing is tried again; doubles with each, up to five minutes."""
    recheck_seconds: float = 15.0
    """Time between two looks at something that is missing or in the way."""
    resync_seconds: float = 300.0
    """Time between two comparisons of what the watches brought with what the API server lists."""

    qps: float = 200.0
    """Requests to the API server per second, watches excluded."""
    burst: int = 2000
    """Requests that may be made at once; 500 new jobs need about 2,000."""
    concurrency: int = 16
    """Jobs that are reconciled at once."""
    job_metrics_seconds: float = 3600.0
    """How long after its end a job still has metrics of its own."""
    log_format: str = "json"
    """`json`, a line an object, or `text`."""
    tracing_endpoint: str = ""
    """The OTLP/HTTP receiver that the operator and the pods of jobs send spans to; none without it."""
    port: int = 8080
    """Port of /metrics and /healthz."""
