"""The FineTuneJob of a pipeline's stage."""

from collections.abc import Mapping
from typing import Any

from tunesmith.api.base import API_VERSION
from tunesmith.api.pipeline import StageName
from tunesmith_operator.builders.common import owner_reference
from tunesmith_operator.names import (
    PART_HASH,
    PIPELINE_LABEL,
    QUEUE_LABEL,
    STAGE_LABEL,
    STAGE_NUMBER_LABEL,
    label_value,
    stage_job_name,
)
from tunesmith_operator.pipeline import Pipeline


def child_job(pipeline: Pipeline, stage: StageName, number: int, spec: Mapping[str, Any]) -> dict[str, Any]:
    """A FineTuneJob that its pipeline owns.

    Args:
        pipeline: the owner.
        stage: which stage of it.
        number: how often the stage was begun, this time included.
        spec: the job's.
    """
    labels = {PIPELINE_LABEL: label_value(pipeline.name), STAGE_LABEL: stage, STAGE_NUMBER_LABEL: str(number)}
    if pipeline.queue:
        labels[QUEUE_LABEL] = pipeline.queue
    meta = {
        "name": stage_job_name(pipeline.name, stage, number),
        "namespace": pipeline.namespace,
        "labels": labels,
        "annotations": {PART_HASH: pipeline.part_hash(stage)},
        "ownerReferences": [owner_reference("RLHFPipeline", pipeline.name, pipeline.uid)],
    }
    return {"apiVersion": API_VERSION, "kind": "FineTuneJob", "metadata": meta, "spec": dict(spec)}
