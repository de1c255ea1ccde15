"""What an evaluation needs, seen to before the training that it follows.

The libraries of metrics take seconds to import: only jobs that need them wait for that.
"""

from collections.abc import Sequence

from tunesmith.api.evaluation import EvaluationSpec
from tunesmith.api.metric import OF_CLASSES
from tunesmith.data.encode import response_of
from tunesmith.data.parts import RunRows
from tunesmith.evaluation.domains import domains_of
from tunesmith.sources import Resolver


def check_test_rows(rows: RunRows) -> None:
    """Refuses test rows that the evaluation would refuse, hours later.

    Raises:
        InputError: there are too many classes or domains, or a column is missing.
    """
    evaluation = rows.spec.evaluation
    if evaluation is None:
        return
    if evaluation.domain_column is not None:
        domains_of(rows.test(), evaluation.domain_column)
    if not OF_CLASSES.isdisjoint(evaluation.metrics):
        from tunesmith.evaluation.metrics.classes import ClassMetric

        ClassMetric.check(response_of(row, rows.spec) for row in rows.test())


def check_scorers(evaluation: EvaluationSpec, resolver: Resolver, allowed: Sequence[str]) -> None:
    """Refuses a metric that the evaluation could not compute, hours later.

    Args:
        evaluation: asks for metrics.
        resolver: finds the encoder of bertScore.
        allowed: modules that own metrics may come from.

    Raises:
        InputError: an own metric is not allowed or not there, or there is no encoder.
    """
    from tunesmith.evaluation.scorers import Scorers

    Scorers(evaluation, resolver, allowed, lambda *_: None)
