"""The report of an evaluation, from what was measured of all models."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version

from tunesmith.api.evaluation import EvaluationSpec
from tunesmith.api.job import FineTuneJob, FineTuneJobSpec
from tunesmith.evaluation import significance, statistics
from tunesmith.evaluation.compare import Scored, metric_reports, row_warnings, size_warnings
from tunesmith.evaluation.domains import domain_reports
from tunesmith.evaluation.earlier import EarlierRun, OwnRows, earlier_scores, made_by
from tunesmith.evaluation.gates import gate_reports
from tunesmith.evaluation.harness import harness_scores, harness_values
from tunesmith.evaluation.measure import Measured
from tunesmith.evaluation.pairs import longer_answer_accuracy
from tunesmith.evaluation.report import EvaluationReport, MetricReport
from tunesmith.evaluation.score import (
    TestSet,
)
from tunesmith.evaluation.scorers import Scorers
from tunesmith.evaluation.verdict import better_of

_VERSIONS = ("tunesmith", "torch", "transformers", "tokenizers", "peft", "numpy")


def make_report(
    job: FineTuneJob,
    evaluation: EvaluationSpec,
    test: TestSet,
    tuned: Measured,
    base: Measured | None,
    tested: OwnRows,
    earlier: Sequence[EarlierRun],
    scorers: Scorers,
) -> EvaluationReport:
    pairs = test.pairs
    settings: dict[str, int | float | str] = {
        "decoding": "greedy",
        "maxNewTokens": evaluation.max_new_tokens,
        "batchSize": evaluation.batch_size,
        "maxLength": job.spec.training.max_length,
        "interval": f"percentile bootstrap over {'prompts' if pairs else 'rows'}",
        "confidence": statistics.CONFIDENCE,
        "resamples": statistics.RESAMPLES,
        "test": "paired randomisation, two-sided, with Holm's correction",
        "randomisations": significance.RANDOMISATIONS,
        "seed": statistics.SEED,
        **_drawing(job.spec),
        **made_by(job.spec),
        **scorers.settings,
    }
    scored, warnings = _scored(evaluation, tuned, base, tested, earlier, settings, scorers)
    tasks = tuned.scores.harness, base.scores.harness if base else None
    metrics = [*metric_reports([*scored, *harness_scores(*tasks)]), *harness_values(*tasks)]
    domains, empty = _domains(test, tuned, base)
    return EvaluationReport(
        job=job.metadata.name,
        rows=test.rows,
        truncated=test.encoded.pieces.truncated if test.encoded else pairs.truncated if pairs else 0,
        dropped=test.encoded.pieces.dropped if test.encoded else len(pairs.pairs) - len(pairs.texts) if pairs else 0,
        longer=longer_answer_accuracy(pairs) if pairs else None,
        metrics=metrics,
        domains=domains,
        gates=gate_reports(evaluation.gates, metrics),
        warnings=[
            *warnings,
            *scorers.warnings,
            *empty,
            *row_warnings(scored),
            *size_warnings(evaluation.detect, metrics),
        ],
        tuned=tuned.report,
        base=base.report if base else None,
        settings=settings,
        versions={name: version(name) for name in _VERSIONS},
    )


def _domains(test: TestSet, tuned: Measured, base: Measured | None) -> tuple[dict[str, list[MetricReport]], list[str]]:
    losses = tuned.scores.losses
    if not test.domains or losses is None or test.encoded is None:
        return {}, []
    return domain_reports(test.domains, test.encoded.tokens, losses, base.scores.losses if base else None)


def _scored(
    evaluation: EvaluationSpec,
    tuned: Measured,
    base: Measured | None,
    tested: OwnRows,
    earlier: Sequence[EarlierRun],
    settings: Mapping[str, object],
    scorers: Scorers,
) -> tuple[list[Scored], list[str]]:
    """Each metric of all models, and what cannot be compared."""
    names = evaluation.metrics
    others: dict[str, Mapping[str, statistics.RowScores]] = {}
    if base is not None:
        others["base"] = {str(name): scores for name, scores in base.scores.metrics.items()}
    warnings = []
    for run in earlier:
        others[run.address], missing = earlier_scores(run, list(tuned.scores.metrics), tested, settings, scorers.rows)
        warnings += missing
    scored = []
    for name in sorted(tuned.scores.metrics, key=lambda name: names.index(name) if name in names else len(names)):
        beside = {to: scores[name] for to, scores in others.items() if name in scores}
        scored.append(Scored(name, better_of(name, evaluation.own), tuned.scores.metrics[name], beside))
    return scored, warnings


def _drawing(spec: FineTuneJobSpec) -> dict[str, int | float | str]:
    """How the answers were drawn that a divergence is measured on."""
    ppo, evaluation = spec.objective.ppo, spec.evaluation
    if ppo is None or evaluation is None or "divergence" not in evaluation.metrics:
        return {}
    return {
        "divergence": "one sampled answer to each prompt",
        "temperature": ppo.temperature,
        "sampledTokens": ppo.max_new_tokens,
        "sampleSeed": spec.training.seed,
    }
