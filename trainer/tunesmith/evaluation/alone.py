"""An evaluation of a model that this job has not trained: what its rows and its files say of how it is to be asked."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from transformers import AutoConfig

from tunesmith.api.evaluation import EvaluationSpec
from tunesmith.api.explain import explain
from tunesmith.api.job import FineTuneJob
from tunesmith.api.load import InputError, Problem
from tunesmith.api.method import FullMethod, Method
from tunesmith.api.metric import OF_ANSWERS, OF_REWARD_MODELS
from tunesmith.api.objective import ModelKind, Objective
from tunesmith.data.rows import Row
from tunesmith.models.kind import kind_of, refuse_other_kind
from tunesmith.models.load import PLACE, ModelLocation, load_tokenizer

_RESPONSE = "{response}"
_TEMPLATE = "spec.evaluation.template"


def as_if_trained(job: FineTuneJob, location: ModelLocation, rows: Sequence[Row]) -> FineTuneJob:
    """The job with the objective that a model of this kind would have been trained for on rows like these; from here on
    it is evaluated like any other. There is no base to compare with.

    Args:
        job: one that trains nothing.
        location: of its model.
        rows: of its test set.

    Raises:
        InputError: the model, the rows and the metrics do not go together.
    """
    evaluation = job.spec.evaluation
    assert evaluation is not None
    try:
        objective = Objective.model_validate(_objective(job, evaluation, location, rows))
    except ValidationError as error:
        (details, *_) = error.errors(include_url=False)  # only the template is not ours
        raise InputError(Problem(explain(Objective, details).message, _TEMPLATE)) from None
    changes = {
        "objective": objective,
        "method": Method(full=FullMethod()),
        "evaluation": evaluation.model_copy(update={"compare_with_base": False}),
    }
    return job.model_copy(update={"spec": job.spec.model_copy(update=changes)})


def _objective(
    job: FineTuneJob, evaluation: EvaluationSpec, location: ModelLocation, rows: Sequence[Row]
) -> dict[str, Any]:
    """The objective, as in YAML."""
    given = {"template": evaluation.template} if evaluation.template is not None else {}
    if set(evaluation.metrics) <= set(OF_REWARD_MODELS):
        _refuse_without_template(evaluation, location)
        return {"reward": given}
    kind = _kind(location)
    refuse_other_kind(*_whole(location), kind)
    if kind == "encoder":
        _refuse_answers(evaluation, "an encoder gives none")
        return {"maskedLM": given}
    columns = job.spec.dataset.columns
    named = columns.messages or columns.prompt
    ends_in_response = evaluation.template is not None and evaluation.template.endswith(_RESPONSE)
    if not (rows and named in rows[0]) and not ends_in_response:
        _refuse_answers(evaluation, f"the test rows have no column {named!r}: set dataset.columns.prompt")
        return {"seq2seq": given | {"spanCorruption": {}}} if kind == "encoder-decoder" else {"causalLM": given}
    if kind == "encoder-decoder":
        return {"seq2seq": {name: template.removesuffix(_RESPONSE).rstrip() for name, template in given.items()}}
    _refuse_without_template(evaluation, location)
    return {"instruction": given}


def _whole(location: ModelLocation) -> tuple[str, str | None]:
    """Name and revision of the model itself, where the location is an adapter's."""
    while location.adapter_base is not None:
        location = location.adapter_base
    return location.name, location.revision


def _kind(location: ModelLocation) -> ModelKind:
    name, revision = _whole(location)
    try:
        kind = kind_of(AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False))
    except (OSError, ValueError) as error:
        raise InputError(Problem(f"its configuration cannot be loaded: {str(error).splitlines()[0]}", PLACE)) from None
    return kind or "decoder"


def _refuse_answers(evaluation: EvaluationSpec, why: str) -> None:
    asked: list[str] = [name for name in evaluation.metrics if name in OF_ANSWERS]
    asked += ["prompts"] if evaluation.prompts is not None else []
    asked += [f"own {metric.name}" for metric in evaluation.own]
    if asked:
        raise InputError(Problem(f"{', '.join(asked)} need answers, and {why}", "spec.evaluation.metrics"))


def _refuse_without_template(evaluation: EvaluationSpec, location: ModelLocation) -> None:
    if evaluation.template is None and load_tokenizer(location).chat_template is None:
        message = 'is not set, and the model\'s tokenizer has no chat template; set one such as "{prompt} {response}"'
        raise InputError(Problem(message, _TEMPLATE))
