"""What operator and trainer agree on inside a pod: where things are mounted, and the files that say what to do."""

from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field

from tunesmith.api.base import Record
from tunesmith.api.outcome import Overrides, PastAttempt

CONFIG_DIR = PurePosixPath("/etc/tunesmith")
"""Where an attempt's ConfigMap is mounted."""
JOB_FILE = "job.json"
"""Key of the ConfigMap: the FineTuneJob with every reference to another job resolved to an address."""
RUN_FILE = "run.json"
"""Key of the ConfigMap: a RunConfig."""
MOUNT_ROOT = PurePosixPath("/mnt/tunesmith")
"""Claims are mounted at pvc/CLAIM below it, ConfigMaps at configmap/NAME."""
METRICS_PORT = 9095
"""Port of the trainer's /metrics (Prometheus) and /progress (JSON: a Progress) on every worker pod."""
TERMINATION_LOG = PurePosixPath("/dev/termination-log")
"""Where submitter and evaluation leave their Outcome."""
TRAIN_COMMAND = "tunesmith train"
"""The RayJob's entrypoint; fixed, so that nothing of a user's reaches a shell."""
EVALUATE_ON_RAY_COMMAND = "tunesmith evaluate --ray"
"""The entrypoint of the RayJob of an evaluation with several workers, which leaves RunFolder.evaluation_outcome."""
SUBMIT_COMMAND = ("tunesmith", "submit")
"""The submitter container's command."""
EVALUATE_COMMAND = ("tunesmith", "evaluate", "--pod")
"""The evaluation container's command."""


class Tracing(Record):
    """Where spans go, and whose they are."""

    endpoint: Annotated[str, Field(pattern="^https?://.*[^/]$")]
    """An OTLP/HTTP receiver, without the path /v1/traces."""
    traceparent: str | None = None
    """The span that they are part of (W3C Trace Context); without it they begin a trace."""


class RunConfig(Record):
    """What a pod must know beyond the job."""

    attempt: int
    """Which attempt this is, counted from 1."""
    folder: str
    """The run's folder, as pvc://CLAIM/NAMESPACE/NAME-UID8."""
    overrides: Overrides = Overrides()
    """What this attempt changes in the spec."""
    past: list[PastAttempt] = []
    """The attempts before this one; the evaluation's, all of the training."""
    runs: dict[str, str] = {}
    """The run folders of the jobs in evaluation.compareWith by the job's name, as pvc://CLAIM/PATH."""
    metric_modules: list[str] = []
    """The modules that own metrics (evaluation.own) may come from, each with what is below it."""
    phase: Literal["train", "evaluate"] = "train"
    """What a RayJob's submitter runs on Ray: TRAIN_COMMAND or EVALUATE_ON_RAY_COMMAND."""
    tracing: Tracing | None = None
    """Where the pods send spans; without it to where OTEL_EXPORTER_OTLP_ENDPOINT says, if it does."""


def cluster_run_path(namespace: str, name: str, uid: str) -> str:
    """A run's folder below its claim's root; a job that is made again under its name has another uid."""
    return f"{namespace}/{name}-{uid[:8]}"


def run_of(folder: str) -> tuple[str, str]:
    """Namespace and name of the job whose run a path of `cluster_run_path` belongs to, however it begins."""
    namespace, run = folder.rsplit("/", 2)[-2:]
    return namespace, run.rpartition("-")[0]


class RunFolder:
    """The names in a run's folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "config.json"
        self.checkpoints = root / "checkpoints"
        self.model = root / "model"
        self.adapter = root / "adapter"
        self.tokenizer = root / "tokenizer"
        self.tokens = root / "tokens"
        self.data = root / "data.json"
        self.logs = root / "logs"
        self.metrics = root / "metrics.jsonl"
        self.result = root / "result.json"
        self.attempts = root / "attempts.json"
        self.answers = root / "answers.jsonl"
        self.policy_plot = root / "ppo.png"
        self.findings = root / "findings.json"
        self.evaluation = root / "evaluation"
        self.evaluation_outcome = root / "evaluation" / "outcome.json"
        self.outputs = root / "evaluation" / "outputs"
        self.report = root / "report.html"
        self.lock = root / ".lock"
        self.stop_request = root / ".stop"
        self.hold = root / ".hold"
        self.tracking = root / "tracking.json"
        self.tracking_lock = root / ".tracking.lock"
        self.tensorboard = root / "tensorboard"
        self.trials = root / "trials"
        self.trials_table = root / "trials.json"
        self.trials_plot = root / "trials.png"
