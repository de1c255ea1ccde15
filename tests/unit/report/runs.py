"""Runs' folders as they are left behind, without training anything."""

import json
from pathlib import Path
from typing import Any

from tunesmith.api.job import FineTuneJob
from tunesmith.api.outcome import Outcome
from tunesmith.api.pod import RunFolder
from tunesmith.evaluation.report import EvaluationReport, write_report
from tunesmith.launch.folder import open_folder, write_result

NASTY = "<script>document.title = 'owned'</script><img src=https://example.org/x.png onerror=alert(1)>"
ARABIC, EMOJI, LONG = "مرحبا بالعالم", "👩‍👩‍👧 🎉", "long " * 4_000
PROMPTS = ["2 + 2 =", NASTY, ARABIC, EMOJI, LONG, "日本語の質問", "\u0000\u0007 control", "half \ud800 of a character"]


def job_of(name: str = "sums", **spec: Any) -> FineTuneJob:
    body: dict[str, Any] = {
        "model": {"source": "job://base"},
        "dataset": {
            "train": {"source": "configmap://sums/train.jsonl"},
            "test": {"source": "configmap://sums/test.jsonl"},
        },
        "objective": {"instruction": {"template": "{prompt} {response}"}},
        "method": {"lora": {"rank": 8}},
        "evaluation": {"metrics": ["exactMatch", "perplexity"]},
        "runtime": {"env": [{"name": "TOKEN", "value": "secret-of-a-pod"}]},
    }
    return FineTuneJob.model_validate({"metadata": {"name": name}, "spec": body | spec})


def interval(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


def metric(name: str, difference: tuple[float, float, float], verdict: str, **more: Any) -> dict[str, Any]:
    compared = {
        "to": "base",
        "value": interval(0.4, 0.3, 0.5),
        "difference": interval(*difference),
        "verdict": verdict,
        **more,
    }
    better = "lower" if name == "perplexity" else "higher"
    tuned = interval(0.6, 0.5, 0.7)
    return {"name": name, "better": better, "rows": 8, "tuned": tuned, "comparisons": [compared]}


def evaluation(**more: Any) -> EvaluationReport:
    model = {"address": "m", "dtype": "float32", "device": "cpu", "seconds": 1.0}
    found: dict[str, Any] = {
        "job": "sums",
        "rows": len(PROMPTS),
        "metrics": [
            metric("exactMatch", (0.2, 0.1, 0.3), "better", p=0.001, correctedP=0.002, effect=0.8, detectable=0.1),
            metric("perplexity", (-0.1, -0.3, 0.1), "no difference shown"),
        ],
        "tuned": model,
        "base": model,
        "settings": {"decoding": "greedy"},
        "versions": {"numpy": "2"},
    }
    return EvaluationReport.model_validate(found | more)


def whole_evaluation() -> EvaluationReport:
    """With every part that there may be."""
    one = interval(0.5, 0.4, 0.6)
    variant = {
        "name": "polite",
        "kind": "template",
        "template": "Please: {prompt} {response}",
        "row": 1,
        "own": "2 + 2 =",
        "example": NASTY,
        "changed": 7,
        "sameAnswers": one,
        "rows": 8,
        "tuned": one,
        "difference": interval(-0.1, -0.2, 0.1),
        "verdict": "no difference shown",
        "answerTokens": interval(3, 2, 4),
    }
    groups = [
        {"by": "kind", "name": "empty", "rows": 3, "tuned": one, "base": one, "samples": [1, 2]},
        {"by": "topic", "name": NASTY, "rows": 2, "samples": [3]},
    ]
    return evaluation(
        domains={NASTY: [metric("perplexity", (-0.1, -0.3, 0.1), "no difference shown")]},
        prompts={
            "metric": "exactMatch",
            "own": one,
            "ownTokens": interval(3, 2, 4),
            "variants": [variant],
            "consistency": one,
        },
        failures={"metric": "exactMatch", "worst": [1, 5], "regressed": [2], "groups": groups},
        gates=[{"metric": "exactMatch", "passed": False, "message": "exactMatch is 0.6, below the 0.9 asked for"}],
        warnings=["8 rows show differences of 0.4 or more"],
    )


def rows() -> list[dict[str, Any]]:
    """Of each kind: better than the base, worse, another answer, the same."""
    found = []
    for number, prompt in enumerate(PROMPTS, 1):
        right, before = float(number % 2), float(number % 3 == 0)
        tuned = {"answer": f"{prompt} {number}", "finished": True, "exactMatch": right, "perplexity": 2.0}
        base = {"answer": "", "finished": False, "exactMatch": before, "perplexity": 3.0}
        found.append(
            {"row": number, "id": f"id-{number}", "prompt": prompt, "reference": prompt, "tuned": tuned, "base": base}
        )
    return found


def make_run(
    root: Path,
    job: FineTuneJob | None = None,
    *,
    outcome: Outcome | None = None,
    steps: int = 60,
    report: EvaluationReport | None = None,
    columns: dict[str, float] | None = None,
) -> RunFolder:
    """A run that has come so far.

    Args:
        root: of its folder.
        job: by default one that trains an adapter.
        outcome: how it ended; without one it has left no result.
        steps: of which metrics.jsonl tells.
        report: of its evaluation.
        columns: of metrics.jsonl, besides those that every run has.
    """
    folder = RunFolder(root)
    with open_folder(folder, job or job_of()):
        pass
    lines = []
    for step in range(1, steps + 1):
        record = {"step": step, "time": 1e9 + step, "tokens": 100.0 * step, "loss": 2 / step, "learning_rate": 1e-3}
        record |= {"gradient_norm": 1.0, "tokens_per_second": 100.0, "peak_memory_bytes": 2**30, **(columns or {})}
        if step % 20 == 0:
            record["validation/loss"] = 2 / step
        lines.append(json.dumps(record) + "\n")
    if steps:
        folder.metrics.write_text("".join(lines) + '{"step": 99, "lo')
        counts = {"shortest": 3, "median": 5, "longest": 9, "counts": [1, 2, 3]}
        data: dict[str, Any] = {"train_rows": 90, "train_tokens": 900, "learned_tokens": 300, "lengths": counts}
        folder.data.write_text(json.dumps(data | {"total_steps": 60, "warnings": ["2 rows overlap"]}))
    if outcome is not None:
        write_result(folder, outcome)
    if report is not None:
        # the report's own writer keeps halves of characters out; rows of others may hold them
        write_report(folder, report, [])
        lines = [json.dumps(row) + "\n" for row in rows()]
        (folder.evaluation / "rows.jsonl").write_text("".join(lines))
    return folder


def finished(root: Path, report: EvaluationReport | None = None, **more: Any) -> RunFolder:
    """One that has succeeded."""
    return make_run(root, outcome=Outcome(reason="Succeeded", step=60), report=report or whole_evaluation(), **more)
