"""What a person means by the log of NAME: a job, or the stage of a pipeline that runs."""

from typing import Any

from tunesmith.api.problem import InputError, Problem
from tunesmith.cluster.client import Cluster, Object
from tunesmith.cluster.find import OVER, find, get
from tunesmith.cluster.kinds import JOBS, PIPELINES
from tunesmith.cluster.pods import RunPod, attempt_numbers, chosen, pods_of


class LogSource:
    """A job, looked at again and again."""

    def __init__(self, cluster: Cluster, namespace: str, reference: str, stage: str | None) -> None:
        """
        Args:
            cluster: where it is.
            namespace: likewise.
            reference: NAME, or KIND/NAME.
            stage: of a pipeline; the one that runs, or ran last, by default.

        Raises:
            InputError: there is none, or no such stage.
        """
        self.cluster, self._namespace, self._stage = cluster, namespace, stage
        self._kind, self._owner = find(cluster, namespace, reference)
        self.name: str = self._owner["metadata"]["name"]
        self._job: Object | None = None
        if stage is not None and self._kind is not PIPELINES:
            raise InputError(Problem(f"{self.name} is a FineTuneJob, which has no stages", "--stage"))

    def look(self) -> bool:
        """Sees what is new; whether it is still there.

        Raises:
            InputError: the stage starts from what is there already.
        """
        owner = get(self.cluster, self._kind, self._namespace, self.name)
        if owner is None or owner["metadata"]["uid"] != self._owner["metadata"]["uid"]:
            return False
        self._owner = owner
        if self._kind is JOBS:
            self._job = owner
            return True
        name = self._stage_job()
        self._job = get(self.cluster, JOBS, self._namespace, name) if name else None
        return True

    def _stage_job(self) -> str:
        """The name of the stage's job; empty where it is not begun."""
        stages = _status(self._owner).get("stages") or []
        if self._stage is not None:
            stage: Object = next((each for each in stages if each["name"] == self._stage), {})
            if stage.get("phase") == "Succeeded" and not stage.get("job"):
                raise InputError(Problem(f"nothing runs for {self._stage}: it {stage.get('message')}", "--stage"))
            return str(stage.get("job") or "")
        begun = [each for each in stages if each.get("job")]
        running = [each for each in begun if each.get("phase") not in OVER]
        return str((running or begun)[-1]["job"]) if begun else ""

    def previous(self) -> int:
        """The number of the attempt before the newest.

        Raises:
            InputError: there is none.
        """
        known = attempt_numbers(self._job or {})
        if len(known) < 2:
            had = f"only attempt {known[0]}" if known else "no attempt yet"
            raise InputError(Problem(f"{self._what()} has had {had}", "--previous"))
        return known[-2]

    def check_attempt(self, number: int) -> None:
        """
        Raises:
            InputError: there was no such attempt.
        """
        known = attempt_numbers(self._job or {})
        if number not in known:
            listing = ", ".join(map(str, known)) or "none yet"
            raise InputError(Problem(f"{self._what()} has had no attempt {number}; there are: {listing}", "--attempt"))

    def pods(self, attempt: int | None, everything: bool) -> list[RunPod]:
        """The pods that are meant, as `chosen` chooses them."""
        return [] if self._job is None else chosen(pods_of(self.cluster, self._job), self._job, attempt, everything)

    def title(self, pod: RunPod) -> str:
        """What a pod's log is, for people."""
        known = attempt_numbers(self._job or {})
        if pod.component == "evaluation" or pod.attempt > max(known, default=0):
            return f"evaluation of {self._what()}, pod {pod.name}"
        return f"attempt {pod.attempt} of {self._what()}, pod {pod.name}"

    def is_over(self, attempt: int | None) -> bool:
        """Whether no more lines will come."""
        if attempt is not None and self._attempt(attempt).get("endTime"):
            return True
        over = self._job is not None and _status(self._job).get("phase") in OVER
        if self._kind is PIPELINES and self._stage is None:
            return _status(self._owner).get("phase") in OVER
        return over or _status(self._owner).get("phase") in OVER

    def state(self) -> str:
        """How it stands, where it has no pods."""
        status = _status(self._job or self._owner)
        message = f": {status['message']}" if status.get("message") else ""
        return f"{self._what()} has no pods now; it is {status.get('phase', 'Pending')}{message}"

    def left(self, attempt: int | None) -> tuple[list[str], str]:
        """The last lines that the status keeps of an attempt whose pods are gone, and where to find all of them."""
        record = self._attempt(attempt)
        folder = (_status(self._job or {}).get("artifacts") or {}).get("folder")
        if not record or not folder:
            return [], self.state()
        logs = f"{folder}/logs/worker-N.log"
        tail = str(record.get("logTail") or "").splitlines()
        last = "; its last lines:" if tail else ""
        return tail, f"the pods of attempt {record['number']} of {self._what()} are gone; its log is {logs}{last}"

    def _attempt(self, number: int | None) -> dict[str, Any]:
        attempts = _status(self._job or {}).get("attempts") or [{}]
        return next((each for each in attempts if each.get("number") == number), {} if number else attempts[-1])

    def _what(self) -> str:
        return str((self._job or self._owner)["metadata"]["name"])


def _status(body: Object) -> dict[str, Any]:
    return body.get("status") or {}
