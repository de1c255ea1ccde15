"""Tunesmith's PPO on a problem of `ppo_problem.py`, in a process of its own that works only when it is asked to.

    python -m tests.benchmarks.ppo_ours serve SETTINGS '[METHOD, SHARED_VALUE]'

speaks as `ppo_trl serve` does: a line when it stands ready, and a line for each step that it is asked for.
"""

import json
import resource
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import IO, Any

from tests.benchmarks.ppo_problem import Settings, job_body

MIB = 1024
"""Of the KiB in which Linux counts resident sets."""


def serve(settings: Settings, method: dict[str, Any], shared_value: bool, out: IO[str]) -> None:
    """Takes steps when asked to, until nobody asks any more."""
    from tests.model.policies import trainer_of
    from tunesmith.api.job import FineTuneJob

    base = _peak()
    body = job_body(settings, 1_000_000)
    body["spec"]["method"] = method
    body["spec"]["objective"]["ppo"] |= {"sharedTrunk": "lora" in method, "sharedValue": shared_value}
    with tempfile.TemporaryDirectory() as folder:
        trainer, position = trainer_of(FineTuneJob.model_validate(body), Path(folder))
        print(json.dumps({"ready": True}), file=out, flush=True)
        for line in sys.stdin:
            for _ in range(int(line)):
                trainer.collector.clock.lap()
                began, cpu = time.perf_counter(), time.process_time()
                position, record, rollout = trainer._step(position)
                seconds, spent = time.perf_counter() - began, trainer.collector.clock.lap()
                step = {
                    "episodes": position.samples,
                    "seconds": seconds,
                    "cpu_seconds": time.process_time() - cpu,
                    "kl": record["ppo/kl"],
                    "entropy": record["ppo/entropy"],
                    "clip_fraction": record["ppo/clip_fraction"],
                    "policy_loss": record["ppo/policy_loss"],
                    "value_loss": record["ppo/value_loss"],
                    "score": record["ppo/reward"],
                    "ended": int(rollout.ended.sum()),
                    "collecting_share": record["ppo/collecting_share"],
                    "answering_share": spent["answer"] / sum(spent.values()),
                    "base_mib": base,
                    "peak_mib": _peak(),
                }
                print(json.dumps(step), file=out, flush=True)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB


if __name__ == "__main__":
    answers = sys.stdout
    with redirect_stdout(sys.stderr):  # libraries print too
        method, shared_value = json.loads(sys.argv[3])
        serve(Settings(**json.loads(sys.argv[2])), method, shared_value, answers)
