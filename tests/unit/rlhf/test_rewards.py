"""What an answer earns by rule."""

import numpy as np
import pytest

from tunesmith.api.load import InputError
from tunesmith.api.reward import RewardTerm
from tunesmith.rlhf.rewards import Answer, rule_of, weighted

YES = np.array([True, True])


def term(**what: object) -> RewardTerm:
    return RewardTerm.model_validate(what)


def given(rule: RewardTerm, text: str, reference: str = "", tokens: int = 1) -> float:
    found = rule_of(rule, 0)
    assert found is not None
    return found(Answer(text, reference, tokens))


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [("63", "63", 1), (" 63\n", "63", 1), ("63.", "63", 0), ("", "63", 0), ("", "", 1), ("63 64", "63", 0)],
)
def test_the_right_answer(answer: str, reference: str, expected: float) -> None:
    assert given(term(exactMatch={}), answer, reference) == expected


@pytest.mark.parametrize(("answer", "expected"), [("12", 1), ("-12", 1), ("12 apples", 0), ("", 0), ("1\n2", 0)])
def test_the_whole_answer_has_the_form(answer: str, expected: float) -> None:
    assert given(term(pattern={"regex": "-?[0-9]+"}), answer) == expected


@pytest.mark.parametrize(("tokens", "expected"), [(3, 0), (4, 0), (5, -1)])
def test_an_answer_over_the_limit(tokens: int, expected: float) -> None:
    assert given(term(length={"tokens": 4}), "x", tokens=tokens) == expected


def test_a_pattern_that_takes_for_ever() -> None:
    with pytest.raises(InputError, match=r"spec.objective.ppo.reward\[0\].pattern.regex: takes more than 0.1 s"):
        given(term(pattern={"regex": "(?:x|xx)+y"}), "x" * 60 + "yz")


def test_terms_are_weighted_and_a_missing_end_costs() -> None:
    terms = [term(exactMatch={}, weight=2.0), term(length={"tokens": 3}, weight=0.5)]
    values = np.array([[1.0, 0.0, 1.0], [0.0, -1.0, -1.0]])
    ended = np.array([True, True, False])
    assert weighted(terms, values, ended, 0.25).tolist() == [2.0, -0.5, 1.25]


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")])
def test_a_reward_that_is_no_number(odd: float) -> None:
    with pytest.raises(InputError, match=r"reward\[0\].model: gives -?(nan|inf) for an answer \(the 2. of its step\)"):
        weighted([term(model={"source": "/x"})], np.array([[0.0, odd]]), YES, 0.0)
