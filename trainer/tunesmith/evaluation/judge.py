"""A reward model of ours as the judge of answers."""

from collections.abc import Sequence

import numpy as np
from transformers import AutoConfig, PreTrainedTokenizerBase

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.evaluation.generate import Answers
from tunesmith.evaluation.policy import OpenOutputs, Progress, reward_scores
from tunesmith.evaluation.statistics import RowScores, mean_score
from tunesmith.models.load import load_tokenizer, locate_source, refuse_other_tokenizer
from tunesmith.sources import Resolver

PLACE = "spec.evaluation.judge.source"


def judge_answers(
    models: Sequence[Answers],
    prompts: Sequence[str],
    spec: FineTuneJobSpec,
    resolver: Resolver,
    open_outputs: OpenOutputs,
    tokenizer: PreTrainedTokenizerBase,
    progress: Progress,
) -> list[RowScores]:
    """What a reward model gives the answers of some models; it is loaded once for all.

    It reads prompt and answer as texts, with its own tokenizer; of what is longer than it reads, the end. A row without
    an answer gets the lowest score that any answer got.

    Args:
        models: the answers of each.
        prompts: as the models read them.
        spec: of the job, with evaluation.judge.
        resolver: finds the reward model.
        open_outputs: of a reward model.
        tokenizer: of the models.
        progress: is told of each batch.

    Raises:
        InputError: it cannot be loaded, or prompts come from a chat template that it does not know.
    """
    evaluation = spec.evaluation
    assert evaluation is not None
    assert evaluation.judge is not None
    location = locate_source(evaluation.judge.source, resolver, PLACE)
    plain = spec.objective.template is not None or spec.objective.seq2seq is not None
    if not plain:  # the marks of a chat template mean nothing to another tokenizer
        refuse_other_tokenizer(tokenizer, location, PLACE)
    own = load_tokenizer(location)
    config = AutoConfig.from_pretrained((location.adapter_base or location).name, trust_remote_code=False)
    longest = getattr(config.get_text_config(), "max_position_embeddings", None) or 0
    cases = [
        (number, row) for number, one in enumerate(models) for row, text in enumerate(one.texts) if text is not None
    ]
    texts = []
    for number, row in cases:
        ids = own(prompts[row], add_special_tokens=plain)["input_ids"]
        before = ids[:-1] if ids and ids[-1] == own.eos_token_id and plain else ids
        said = own(models[number].texts[row], add_special_tokens=False)["input_ids"]
        end = [own.eos_token_id] if models[number].ends[row] is not None else []
        texts.append([*before, *said, *end][-longest:] or [own.eos_token_id])
    rows = [row for _, row in cases]
    size = evaluation.batch_size
    found = reward_scores(evaluation.judge.source, PLACE, texts, rows, resolver, open_outputs, own, size, progress)
    scores = np.full((len(models), len(prompts)), found.min() if cases else 0.0)
    for (number, row), score in zip(cases, found, strict=True):
        scores[number, row] = score
    return [mean_score(of_model) for of_model in scores]
