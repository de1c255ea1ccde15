"""The page of a pipeline as a whole: its stages in a line, and the policy before and after PPO side by side."""

from collections.abc import Mapping, Sequence

from tunesmith.report.curves import curves_of
from tunesmith.report.page import forests_of, render, status_of
from tunesmith.report.read import Run
from tunesmith.report.samples import Samples, samples_of
from tunesmith.report.summary import summary_of

_MODELS = {"tuned": "after PPO", "base": "before PPO"}
_SHOWN = ("Reward", "Divergence (KL)", "Tokens of an answer", "Accuracy on pairs", "Loss")
"""The curves that tell the stages' story; each stage's own page has all."""


def pipeline_page(name: str, stages: Sequence[Run], pages: Mapping[str, str]) -> str:
    """The page as HTML.

    Args:
        name: of the pipeline.
        stages: that have run, in their order.
        pages: where each stage's own page is, seen from this one, by the job's name.
    """
    last = stages[-1]
    report = last.evaluation
    return render(
        "pipeline.html",
        name=name,
        stages=stages,
        pages=pages,
        statuses=[status_of(run) for run in stages],
        summaries=[summary_of(run) for run in stages],
        last=last,
        report=report,
        forests=forests_of(report) if report is not None else [],
        samples=samples_of(last, _MODELS) if last.objective == "ppo" else Samples(),
        curves=[(run.name, [c for c in curves_of(run) if c.title.startswith(_SHOWN)]) for run in stages],
    )
