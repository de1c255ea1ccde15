"""Names of children, and the labels and annotations on them."""

import hashlib
import re

JOB_LABEL = "tunesmith.dev/job"
UID_LABEL = "tunesmith.dev/job-uid"
ATTEMPT_LABEL = "tunesmith.dev/attempt"
COMPONENT_LABEL = "tunesmith.dev/component"
"""head, worker, submitter or evaluation."""
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"

SPEC_HASH = "tunesmith.dev/spec-hash"
"""Annotation of an attempt's ConfigMap: a hash of each immutable field of the spec."""
CONTENT_HASH = "tunesmith.dev/content-hash"
"""Annotation of an attempt's ConfigMap: a hash of its data."""
MODEL_SOURCE = "tunesmith.dev/model-source"
"""Annotation of an attempt's ConfigMap: what job:// was resolved to."""
MODEL_CLAIMS = "tunesmith.dev/model-claims"
"""Annotation of an attempt's ConfigMap: the claims that the model of another job lies on, separated by commas."""

_LONGEST = 47
"""What KubeRay allows a RayJob."""
_DNS_1035 = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")


def child_name(job: str, suffix: str) -> str:
    """`JOB-SUFFIX` where KubeRay takes that as a name, else the job's name cut, made a DNS-1035 label, and hashed."""
    plain = f"{job}-{suffix}"
    if len(plain) <= _LONGEST and _DNS_1035.match(plain):
        return plain
    tail = f"-{digest(job, 8)}-{suffix}"
    head = re.sub(r"[^-a-z0-9]", "-", job)
    head = head if head[:1].isalpha() else f"j{head}"
    return head[: _LONGEST - len(tail)].rstrip("-") + tail


def label_value(name: str) -> str:
    """A name as a label's value, which has at most 63 characters."""
    return name if len(name) <= 63 else f"{name[:54]}-{digest(name, 8)}"


def digest(text: str, length: int) -> str:
    """The first hex digits of the text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]
