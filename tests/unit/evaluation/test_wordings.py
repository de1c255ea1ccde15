"""What becomes of the answers when the same rows are put in other words."""

from typing import Any

import pytest

from tests.unit.data.specs import spec_of, t5_spec, tokenizer_of
from tests.unit.evaluation.test_failures import REFERENCES, answers_of, compared
from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError
from tunesmith.evaluation.highlights import highlights
from tunesmith.evaluation.metrics import exact_match
from tunesmith.evaluation.prompts import Variant, variants_of
from tunesmith.evaluation.questions import question_of, with_question
from tunesmith.evaluation.report import EvaluationReport, PromptsReport
from tunesmith.evaluation.verdict import Better
from tunesmith.evaluation.wordings import Wording, prompts_report, same_answers

DATASET = {"train": {"source": "a"}, "test": {"source": "b"}}
ROWS = [
    {"prompt": "Add one number. What is 1 + 2?", "response": "3", "topic": "sums"},
    {"prompt": "What is 4 + 5?", "response": "9", "topic": "sums"},
]
CHAT = [
    {"role": "system", "content": "Be kind. Be short."},
    {"role": "user", "content": "First of all. Hello there."},
    {"role": "assistant", "content": "Yes. Hello."},
    {"role": "user", "content": "And then. What is it?"},
    {"role": "assistant", "content": "Nothing. Bye."},
]


def spec(template: str | None, columns: dict[str, str] | None = None, **prompts: Any) -> FineTuneJobSpec:
    objective = {"instruction": {"template": template} if template else {}}
    evaluation = {"metrics": ["exactMatch"], "prompts": prompts or {"changes": ["case"]}}
    return spec_of(dataset=DATASET | {"columns": columns or {}}, objective=objective, evaluation=evaluation)


def test_templates_and_changes_put_the_question_in_other_words_and_nothing_else() -> None:
    job = spec("Q: {prompt} A: {response}", templates={"short": "{prompt}={response}"}, changes=["order", "case"])
    tokenizer = tokenizer_of(["What is 4 + 5?"])
    short, order, case = variants_of(ROWS, job, tokenizer)
    assert short.texts == ["Add one number. What is 1 + 2?=", "What is 4 + 5?="]
    assert order.texts == ["Q: What is 1 + 2? Add one number. A: ", "Q: What is 4 + 5? A: "]
    assert all(text.startswith("Q: ") and text.endswith(" A: ") for text in case.texts)
    assert all(
        "+" in text and text[3:-4].lower() == r["prompt"].lower() for text, r in zip(case.texts, ROWS, strict=True)
    )
    assert [tokenizer.decode(ids) for ids in short.prompts] == short.texts


def test_each_row_is_changed_alike_in_whatever_order_rows_come() -> None:
    job, tokenizer = spec("{prompt} {response}", changes=["typos", "case", "order"]), tokenizer_of(["What is?"])
    there = variants_of(ROWS, job, tokenizer)
    back = variants_of(ROWS[::-1], job, tokenizer)
    assert [v.texts for v in there] == [v.texts[::-1] for v in back]


def test_an_encoder_reads_the_other_template() -> None:
    evaluation = {
        "metrics": ["exactMatch"],
        "prompts": {"templates": {"task": "{topic}: {prompt}"}, "changes": ["order"]},
    }
    job = t5_spec(dataset=DATASET, objective={"seq2seq": {"template": "sum: {prompt}"}}, evaluation=evaluation)
    task, order = variants_of(ROWS, job, tokenizer_of(["What is?"]))
    assert task.texts[1] == "sums: What is 4 + 5?"
    assert order.texts[0] == "sum: What is 1 + 2? Add one number."


def test_a_template_with_a_column_that_is_not_there_is_named() -> None:
    job = spec("{prompt} {response}", templates={"good": "{prompt}{response}", "wrong": "{hint} {prompt}{response}"})
    with pytest.raises(InputError) as caught:
        variants_of(ROWS, job, tokenizer_of(["What is?"]))
    assert str(caught.value) == (
        "spec.evaluation.prompts.templates.wrong: there is no column 'hint' for {hint}; "
        "the data has: prompt, response, topic"
    )


@pytest.mark.parametrize(
    ("template", "question"),
    [
        ("{topic}: {prompt} {response}", "What is 4 + 5?"),
        ("{topic} {id}: {response}", "sums\n7"),
        (None, "What is 4 + 5?"),
    ],
)
def test_the_question_is_the_prompt_or_else_all_that_the_template_names(template: str | None, question: str) -> None:
    assert question_of(ROWS[1] | {"id": 7}, spec(template)) == question


def test_of_a_conversation_the_last_question_is_changed() -> None:
    job = spec(None, {"messages": "talk"})
    row: dict[str, Any] = {"talk": CHAT, "id": 1}
    assert question_of(row, job) == "And then. What is it?"
    other = with_question(row, job, str.upper)
    assert [message["content"] for message in other["talk"]] == [
        *(message["content"] for message in CHAT[:3]), "AND THEN. WHAT IS IT?", "Nothing. Bye."
    ]  # fmt: skip
    assert row["talk"][3]["content"] == "And then. What is it?"


def test_same_answers_are_the_same_text_or_the_same_number() -> None:
    own, other = ["5", "so 5", "cafe\u0301 ", None, "🎉"], ["five", "it is 5.0", "café", None, "🎉"]
    assert same_answers("exactMatch", [own, other]).value == pytest.approx(2 / 5)
    assert same_answers("numericMatch", [own, other]).value == pytest.approx(3 / 5)
    assert same_answers("exactMatch", [own, own, other]).value == pytest.approx((1 / 3 + 1 / 3 + 1 + 0 + 1) / 5)


def wording(texts: list[str | None]) -> Wording:
    return Wording({"tuned": answers_of(texts)}, {"tuned": compared(exact_match, texts)})


def report_of(own: list[str | None], *others: list[str | None], better: Better = "higher") -> PromptsReport:
    texts = [f"{row}" for row in range(len(own))]
    variants = [
        Variant(f"v{number}", "template", "{prompt}{response}", [*texts[:2], *("x" + t for t in texts[2:])], [])
        for number in range(len(others))
    ]
    return prompts_report("exactMatch", better, texts, wording(own), variants, [wording(other) for other in others])


def test_a_wording_that_costs_is_found_and_one_that_does_not_is_not() -> None:
    right: list[str | None] = list(REFERENCES)
    report = report_of(right, ["?"] * 24, right, [*right[:-1], "?"])
    bad, same, nearly = report.variants
    assert (bad.tuned.value, bad.difference.value, bad.verdict) == (0, -1, "worse")
    assert report_of(right, ["?"] * 24, better="lower").variants[0].verdict == "better", "an own metric, of errors"
    assert (same.difference.value, same.verdict, same.same_answers.value) == (0, "no difference shown", 1)
    assert nearly.verdict == "no difference shown"
    assert (bad.row, bad.own, bad.example, bad.changed) == (3, "2", "x2", 22)
    assert report.consistency is not None
    assert report.consistency.value == pytest.approx((23 * 3 + 1 * 1) / (24 * 6), abs=0.03)


def test_few_rows_claim_nothing() -> None:
    right: list[str | None] = list(REFERENCES[:5])
    assert report_of(right, ["?"] * 5).variants[0].verdict == "too few rows to tell"


def test_many_wordings_that_differ_by_chance_are_no_finding() -> None:
    """Six more wrong answers of 24 have p 0.03 alone, and not among twelve such wordings."""
    right: list[str | None] = list(REFERENCES)
    worse = [*right[:-6], *["?"] * 6]
    assert report_of(right, worse).variants[0].verdict == "worse"
    assert {v.verdict for v in report_of(right, *[worse] * 12).variants} == {"no difference shown"}


def test_answers_that_are_not_there_have_no_length() -> None:
    report = report_of([None] * 6, [None] * 6)
    assert report.own_tokens is None and report.variants[0].answer_tokens is None
    assert report.variants[0].same_answers.value == 0


def test_the_terminal_gets_a_line() -> None:
    right: list[str | None] = list(REFERENCES)
    model = {"address": "m", "dtype": "float32", "device": "cpu", "seconds": 1.0}
    body: dict[str, Any] = {"job": "j", "rows": 24, "metrics": [], "tuned": model, "settings": {}, "versions": {}}
    report = EvaluationReport.model_validate(body).model_copy(update={"prompts": report_of(right, ["?"] * 24, right)})
    (line,) = highlights(report)
    assert line == (
        "wording: exactMatch 1.000 with the job's own prompts; worst with template v0, 0, a difference of "
        "-1.000 [-1.000, -0.715]: worse; two templates get the same answer in 0.333 [0.286, 0.428] of cases"
    )
