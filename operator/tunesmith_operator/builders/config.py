"""The ConfigMap of an attempt, or of the evaluation: the job and what the attempt changes, as the pods read them."""

import json
import re
from dataclasses import asdict
from typing import Any

from tunesmith.api.base import API_VERSION
from tunesmith.api.pod import JOB_FILE, RUN_FILE, RunConfig
from tunesmith_operator.builders.common import metadata
from tunesmith_operator.job import Run, spec_hash
from tunesmith_operator.names import CONTENT_HASH, MODELS, RUNS, SPEC_HASH, digest


def config_map(run: Run) -> dict[str, Any]:
    """An immutable ConfigMap; its annotations are the record of what the attempt was made from."""
    data = {JOB_FILE: _job_file(run), RUN_FILE: _run_file(run)}
    meta = metadata(run, run.name)
    meta["annotations"] = {
        SPEC_HASH: spec_hash(run.job.spec),
        CONTENT_HASH: digest(json.dumps(data, sort_keys=True), 16),
    }
    resolved = {address: asdict(model) for address, model in run.models.items() if model.source != address}
    if resolved:
        meta["annotations"][MODELS] = json.dumps(resolved, sort_keys=True)
    if run.runs:
        meta["annotations"][RUNS] = json.dumps(
            {name: asdict(folder) for name, folder in run.runs.items()}, sort_keys=True
        )
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "immutable": True, "data": data}


def _job_file(run: Run) -> str:
    """The job without what is none of the trainer's business: the pods, the environment of other pods, who is told."""
    spec = run.job.spec.to_dict()
    for name in ("runtime", "notifications"):
        spec.pop(name, None)
    for place, address in run.job.spec.model_sources.items():
        _set({"spec": spec}, place, run.models[address].source)
    meta = {"name": run.job.name, "namespace": run.job.namespace}
    return json.dumps({"apiVersion": API_VERSION, "kind": "FineTuneJob", "metadata": meta, "spec": spec})


def _set(body: Any, place: str, value: str) -> None:
    """Sets a field that is there, by its path, such as spec.objective.ppo.reward[0].model.source."""
    *parents, last = re.findall(r"[^.\[\]]+", place)
    for part in parents:
        body = body[int(part) if part.isdecimal() else part]
    body[last] = value


def _run_file(run: Run) -> str:
    config = RunConfig(
        attempt=run.attempt,
        folder=run.folder,
        overrides=run.overrides,
        phase="evaluate" if run.evaluation else "train",
        past=list(run.past),
        runs={name: folder.source for name, folder in run.runs.items()},
        metric_modules=list(run.metric_modules),
        tracing=run.tracing,
    )
    return config.model_dump_json(exclude_none=True)
