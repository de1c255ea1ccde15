"""The kinds of objects that the operator reads or makes, and their addresses at the API server."""

from dataclasses import dataclass

from tunesmith.api.base import GROUP, VERSION
from tunesmith_operator.names import UID_LABEL


@dataclass(frozen=True)
class Kind:
    """A kind of namespaced objects."""

    name: str
    group: str
    version: str
    plural: str
    selector: str = ""
    """The label selector of those that matter; all do without it."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str = "") -> str:
        """The address of all objects, of a namespace's, or of one."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{namespace}" if namespace else ""
        return f"{root}{scope}/{self.plural}" + (f"/{name}" if name else "")


PIPELINES = Kind("RLHFPipeline", GROUP, VERSION, "rlhfpipelines")
JOBS = Kind("FineTuneJob", GROUP, VERSION, "finetunejobs")
OWNERS = (PIPELINES, JOBS)
"""What users make, and the operator looks after."""
CONFIG_MAPS = Kind("ConfigMap", "", "v1", "configmaps", UID_LABEL)
RAY_JOBS = Kind("RayJob", "ray.io", "v1", "rayjobs", UID_LABEL)
EVALUATION_JOBS = Kind("Job", "batch", "v1", "jobs", UID_LABEL)
PODS = Kind("Pod", "", "v1", "pods", UID_LABEL)
WATCHED = (*OWNERS, CONFIG_MAPS, RAY_JOBS, EVALUATION_JOBS, PODS)

CLAIMS = Kind("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims")
EVENTS = Kind("Event", "", "v1", "events")
BY_NAME = {kind.name: kind for kind in (*WATCHED, CLAIMS)}
