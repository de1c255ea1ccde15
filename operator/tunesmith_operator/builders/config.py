"""The ConfigMap of an attempt: the job and what the attempt changes, as the pods read them."""

import json
from dataclasses import asdict
from typing import Any

from tunesmith.api.base import API_VERSION
from tunesmith.api.pod import JOB_FILE, RUN_FILE, RunConfig
from tunesmith_operator.builders.common import metadata
from tunesmith_operator.job import Run, spec_hash
from tunesmith_operator.names import CONTENT_HASH, MODELS, SPEC_HASH, digest


def config_map(run: Run) -> dict[str, Any]:
    """An immutable ConfigMap; its annotations are the record of what the attempt was made from."""
    data = {JOB_FILE: _job_file(run), RUN_FILE: _run_file(run)}
    meta = metadata(run, run.job.attempt_name(run.attempt))
    meta["annotations"] = {
        SPEC_HASH: spec_hash(run.job.spec),
        CONTENT_HASH: digest(json.dumps(data, sort_keys=True), 16),
    }
    resolved = {address: asdict(model) for address, model in run.models.items() if model.source != address}
    if resolved:
        meta["annotations"][MODELS] = json.dumps(resolved, sort_keys=True)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "immutable": True, "data": data}


def _job_file(run: Run) -> str:
    """The job without what is none of the trainer's business: the pods, and the environment of other pods."""
    spec = run.job.spec.to_dict()
    spec.pop("runtime", None)
    terms = spec["objective"].get("ppo", {}).get("reward", [])
    for part in (spec["model"], *(term["model"] for term in terms if "model" in term)):
        if "source" in part:
            part["source"] = run.models[part["source"]].source
    meta = {"name": run.job.name, "namespace": run.job.namespace}
    return json.dumps({"apiVersion": API_VERSION, "kind": "FineTuneJob", "metadata": meta, "spec": spec})


def _run_file(run: Run) -> str:
    return RunConfig(attempt=run.attempt, folder=run.folder, overrides=run.overrides).model_dump_json(exclude_none=True)
