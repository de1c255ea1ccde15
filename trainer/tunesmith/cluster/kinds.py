"""The kinds of objects that the commands read, and their addresses."""

from dataclasses import dataclass

from tunesmith.api.base import GROUP, VERSION


@dataclass(frozen=True)
class Kind:
    """A kind of namespaced objects."""

    name: str
    root: str
    plural: str
    aliases: tuple[str, ...] = ()
    """What kubectl calls it, beside its plural."""

    def path(self, namespace: str | None, name: str = "") -> str:
        """The address of all objects, of a namespace's, or of one."""
        scope = f"/namespaces/{namespace}" if namespace else ""
        return f"{self.root}{scope}/{self.plural}" + (f"/{name}" if name else "")


JOBS = Kind("FineTuneJob", f"/apis/{GROUP}/{VERSION}", "finetunejobs", ("finetunejob", "ftj"))
PIPELINES = Kind("RLHFPipeline", f"/apis/{GROUP}/{VERSION}", "rlhfpipelines", ("rlhfpipeline", "rlhf"))
PODS = Kind("Pod", "/api/v1", "pods")
EVENTS = Kind("Event", "/api/v1", "events")
