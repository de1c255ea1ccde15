"""Names of children, and the labels and annotations on them."""

import hashlib
import re

from tunesmith.api.labels import ATTEMPT_LABEL as ATTEMPT_LABEL
from tunesmith.api.labels import COMPONENT_LABEL as COMPONENT_LABEL
from tunesmith.api.labels import JOB_LABEL as JOB_LABEL
from tunesmith.api.labels import PIPELINE_LABEL as PIPELINE_LABEL
from tunesmith.api.labels import STAGE_LABEL as STAGE_LABEL
from tunesmith.api.labels import UID_LABEL as UID_LABEL

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"

SPEC_HASH = "tunesmith.dev/spec-hash"
"""Annotation of an attempt's ConfigMap: a hash of each immutable field of the spec."""
CONTENT_HASH = "tunesmith.dev/content-hash"
"""Annotation of an attempt's ConfigMap: a hash of its data."""
MODELS = "tunesmith.dev/models"
"""Annotation of an attempt's ConfigMap: in JSON, what each job:// was resolved to and the claims behind it."""
RUNS = "tunesmith.dev/runs"
"""Annotation of a ConfigMap: in JSON, the run folders of the jobs that are compared with, likewise."""
STAGE_NUMBER_LABEL = "tunesmith.dev/stage-number"
"""How often the stage was begun, counted from 1."""
PART_HASH = "tunesmith.dev/part-hash"
"""Annotation of a stage's FineTuneJob: a hash of what the pipeline's spec says of the stage."""

_LONGEST = 47
"""What KubeRay allows a RayJob."""
_DNS_1035 = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")


def stage_job_name(pipeline: str, stage: str, number: int) -> str:
    """The name of a stage's FineTuneJob; it leaves room for the names of that job's own children."""
    longest = _LONGEST - len("-evaluation")
    return child_name(pipeline, stage if number == 1 else f"{stage}-{number}", longest)


def child_name(job: str, suffix: str, longest: int = _LONGEST) -> str:
    """`JOB-SUFFIX` where KubeRay takes that as a name, else the job's name cut, made a DNS-1035 label, and hashed."""
    plain = f"{job}-{suffix}"
    if len(plain) <= longest and _DNS_1035.match(plain):
        return plain
    tail = f"-{digest(job, 8)}-{suffix}"
    head = re.sub(r"[^-a-z0-9]", "-", job)
    head = head if head[:1].isalpha() else f"j{head}"
    return head[: longest - len(tail)].rstrip("-") + tail


def label_value(name: str) -> str:
    """A name as a label's value, which has at most 63 characters."""
    return name if len(name) <= 63 else f"{name[:54]}-{digest(name, 8)}"


def digest(text: str, length: int) -> str:
    """The first hex digits of the text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]
