"""A model as lm-evaluation-harness asks for it, answered by our outputs: kept, batched, shared by workers."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from lm_eval import utils
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, has_bos_prefix, normalize_gen_kwargs, postprocess_generated_text
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.api.load import InputError, Problem
from tunesmith.data.collate import Collator
from tunesmith.data.examples import FIXED
from tunesmith.data.tokenized import TokenizedRows, join_rows
from tunesmith.evaluation.batches import in_batches
from tunesmith.evaluation.generate import answer_work
from tunesmith.evaluation.outputs import Outputs
from tunesmith.evaluation.work import Keep, Work
from tunesmith.training.objective import next_token_logits

PLACE = "spec.evaluation.harness"
_LONGEST = 256
"""Tokens of an answer where a task does not say, as the harness has it."""

Progress = Callable[[str, int, int], None]


class HarnessModel(TemplateLM):  # type: ignore[misc]  # which is Any here
    """A decoder.

    Args:
        outputs: the model's.
        size: requests at once.
        context: places of the model's context.
        progress: is told of each batch.
    """

    def __init__(
        self, outputs: Outputs, size: int, context: int, progress: Progress = lambda what, done, total: None
    ) -> None:
        super().__init__()
        self.tokenizer = outputs.tokenizer
        self._outputs, self._size, self._context, self._progress = outputs, size, context, progress

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        start = self.tokenizer.bos_token_id
        return self.eot_token_id if start is None else int(start)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        if add_special_tokens is None and has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id)):
            add_special_tokens = False
        special: dict[str, Any] = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        encoded: list[int] = self.tokenizer.encode(string, **special)
        return encoded

    def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return found

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        rows = []
        for _request, context, continuation in requests:
            if len(continuation) > self._context:
                message = (
                    f"a task has an answer of {len(continuation)} tokens, the context {self._context}; leave it out"
                )
                raise InputError(Problem(message, PLACE))
            # too much for the context loses its start; the last token is only predicted
            tokens = (context + continuation)[-(self._context + 1) :]
            learned = [place >= len(tokens) - len(continuation) for place in range(len(tokens))]
            learned[0] = False
            rows.append((tokens, learned))
        work = likelihood_work(join_rows(rows, 0, 0), self.tokenizer, self._size)
        found = self._outputs.of(work, lambda done: self._progress("harness, likelihoods", done, len(rows)))[0]
        return [(found[row][0], bool(found[row][1])) for row in range(len(rows))]

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        windows: list[tuple[None, list[int], list[int]]] = []
        owner = []
        for number, request in enumerate(requests):
            rolling = utils.get_rolling_token_windows(
                self.tok_encode(request.args[0]), self.prefix_token_id, self._context, context_len=1
            )
            for context, continuation in map(utils.make_disjoint_window, rolling):
                windows.append((None, context, continuation))
                owner.append(number)
        sums = [0.0] * len(requests)
        for number, (likelihood, _) in zip(owner, self._loglikelihood_tokens(windows), strict=True):
            sums[number] += likelihood
        return sums

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        end = self.tokenizer.decode(self.eot_token_id)
        prompts, stops, limits = [], [], []
        for request in requests:
            text, given = request.args
            settings = normalize_gen_kwargs(given, _LONGEST)
            if settings.get("do_sample"):
                raise InputError(Problem("a task asks for sampled answers; only the most likely ones are made", PLACE))
            limit = int(settings["max_gen_toks"])
            if limit >= self._context:
                message = f"a task asks for answers of {limit} tokens, but the model's context has {self._context}"
                raise InputError(Problem(f"{message}; leave it out", PLACE))
            prompts.append(self.tok_encode(text)[-(self._context - limit) :])
            stops.append([stop for stop in handle_stop_sequences(settings["until"], end) if stop])
            limits.append(limit)
        texts = [""] * len(prompts)
        for longest in sorted(set(limits)):
            rows = [row for row, own in enumerate(limits) if own == longest]
            chosen, until = [prompts[row] for row in rows], [stops[row] for row in rows]
            work = answer_work(self.tokenizer, chosen, longest, self._size, until)
            found, _ = self._outputs.of(work, lambda done, rows=rows: self._told(done, len(rows)))  # type: ignore[misc]
            for place, (tokens, _end) in found.items():
                decoded = self.tokenizer.decode(tokens, skip_special_tokens=True)
                texts[rows[place]] = postprocess_generated_text(decoded, until[place], None)
        return texts

    def _told(self, done: int, total: int) -> None:
        self._progress("harness, answers", done, total)


def likelihood_work(rows: TokenizedRows, tokenizer: PreTrainedTokenizerBase, size: int) -> Work:
    """How likely the learned tokens of rows are: the log-probability, in nats, and whether each is the most likely."""
    return Work(
        name="likelihoods",
        items=sorted(range(len(rows)), key=lambda row: -int(rows.lengths[row])),
        size=size,
        facts=[rows.tokens, rows.learned, rows.offsets, tokenizer.pad_token_id],
        do=partial(_likelihoods, rows, int(tokenizer.pad_token_id)),
    )


@torch.inference_mode()
def _likelihoods(
    rows: TokenizedRows, pad: int, model: PreTrainedModel, numbers: list[int], size: int, keep: Keep
) -> int:
    def work(some: list[int]) -> None:
        batch = Collator(pad, packed=False).batch(rows, some, FIXED).to(model.device)
        logits = next_token_logits(model, batch)
        chosen = torch.log_softmax(logits.float(), dim=-1).gather(1, batch.targets[:, None]).squeeze(1)
        row_of = batch.keep.nonzero()[:, 0]
        sums = torch.zeros(len(some), device=chosen.device).index_add_(0, row_of, chosen)
        missed = torch.zeros(len(some), device=chosen.device).index_add_(
            0, row_of, (logits.argmax(dim=-1) != batch.targets).float()
        )
        pairs = zip(sums.tolist(), (missed == 0).tolist(), strict=True)
        keep({number: list(pair) for number, pair in zip(some, pairs, strict=True)})

    return in_batches(numbers, size, work)
