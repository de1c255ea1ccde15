"""What is sent: a CloudEvent that the library reads back, and a Slack message within Slack's limits."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event

from tunesmith.api.notification import MessageFormat
from tunesmith.api.outcome import Artifacts, EvaluationResult, Interval, MetricResult
from tunesmith_operator.messages import message, summarize

from .pipeline_world import PipelineWorld
from .test_finishing import evaluated, trained
from .world import World

ROOT = Path(__file__).resolve().parents[3]
GPUS = {"workers": 4, "resources": {"nvidia.com/gpu": 1}}
HOSTILE = "<!channel> & <https://evil.example|click> @here " + "&" * 9000
WIDE = Interval(value=0.123456789, low=-1e300, high=1e300)
MANY = EvaluationResult(
    rows=5,
    metrics=[MetricResult(name=f"own{n}" + "&" * 900, tuned=WIDE, base=WIDE, verdict="<" * 900) for n in range(64)],
)


def job() -> World:
    """Two attempts with four GPUs, then an evaluation."""
    made = World(evaluation={"metrics": ["exactMatch"]}, scaling=GPUS).look().trains().later(1800)
    made.tells("OutOfMemory", "no room").looks().releases().looks().trains().later(5400)
    made.tells("Succeeded", artifacts={"model": "pvc://runs/team/tune-01234567/model"}).looks()
    return evaluated(made).looks()


def failed(text: str = HOSTILE) -> World:
    return World(scaling=GPUS).look().trains().later(60).tells("InvalidInput", text).looks()


def pipeline() -> PipelineWorld:
    made = PipelineWorld(scaling=GPUS).runs_to("reward")
    made.succeeds("helpful-sft", seconds=900)
    return made.looks().fails("helpful-reward", "LossDiverged", "the loss is NaN", seconds=900).looks()


def written(made: World | PipelineWorld, form: MessageFormat, **changes: Any) -> tuple[str, bytes]:
    jobs = made.jobs.values() if isinstance(made, PipelineWorld) else [made.body]
    return message(summarize("e1", made.body, made.status.model_copy(update=changes), jobs), form)


def event(made: World | PipelineWorld, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attributes and data, as a receiver reads them."""
    content_type, body = written(made, "cloudEvents", **changes)
    assert len(body) < 64 * 1024
    read = from_http_event(HTTPMessage({"content-type": content_type}, body))
    data = read.get_data()
    assert isinstance(data, dict)
    return read.get_attributes(), data


def test_the_end_of_a_job_as_a_cloud_event() -> None:
    made = job()
    assert written(made, "cloudEvents")[0] == "application/cloudevents+json"
    attributes, data = event(made)
    assert attributes == {
        "specversion": "1.0",
        "id": "e1",
        "source": "/apis/tunesmith.dev/v1alpha1/namespaces/team/finetunejobs/tune",
        "type": "dev.tunesmith.finetunejob.succeeded",
        "subject": "team/tune",
        "time": datetime(2026, 1, 1, 2, tzinfo=UTC),
        "datacontenttype": "application/json",
    }
    assert (data["phase"], data["reason"], data["durationSeconds"]) == ("Succeeded", "Succeeded", 7200)
    assert data["gpuSeconds"] == 4 * 7200
    assert [(each["number"], each["reason"]) for each in data["attempts"]] == [(1, "OutOfMemory"), (2, "Succeeded")]
    assert data["artifacts"]["model"] == "pvc://runs/team/tune-01234567/model"
    assert data["evaluation"]["metrics"] == [{"name": "exactMatch", "tuned": {"value": 0.9, "low": 0.8, "high": 1.0}}]


def test_the_end_of_a_pipeline_as_a_cloud_event() -> None:
    attributes, data = event(pipeline())
    assert attributes["type"] == "dev.tunesmith.rlhfpipeline.failed"
    assert attributes["source"].endswith("/rlhfpipelines/helpful")
    assert (data["reason"], data["gpuSeconds"]) == ("LossDiverged", 4 * 1800)
    assert [(stage["name"], stage.get("phase")) for stage in data["stages"]] == [
        ("sft", "Succeeded"),
        ("reward", "Failed"),
        ("ppo", None),
    ]


def test_a_cloud_event_stays_small() -> None:
    attempts = [each.model_copy(update={"message": HOSTILE}) for each in failed().status.attempts] * 100
    _, data = event(failed(), evaluation=MANY, attempts=attempts)
    assert len(data["attempts"]) == 10
    assert (len(data["evaluation"]["metrics"]), data["evaluation"]["omitted"]) == (20, 44)
    assert len(data["message"]) <= 1024


def slack(made: World | PipelineWorld, **changes: Any) -> dict[str, Any]:
    """A message, after a look at Slack's limits: https://docs.slack.dev/reference/block-kit/blocks"""
    content_type, body = written(made, "slack", **changes)
    assert content_type == "application/json"
    sent: dict[str, Any] = json.loads(body)
    assert sent.keys() == {"text", "blocks"}
    assert 0 < len(sent["text"]) <= 40_000
    assert 0 < len(sent["blocks"]) <= 50
    for block in sent["blocks"]:
        if block["type"] == "header":
            assert block["text"]["type"] == "plain_text"
            assert 0 < len(block["text"]["text"]) <= 150
        elif block["type"] == "section" and "text" in block:
            assert block["text"]["type"] == "mrkdwn"
            assert 0 < len(block["text"]["text"]) <= 3000
        elif block["type"] == "section":
            assert 0 < len(block["fields"]) <= 10
            assert all(0 < len(field["text"]) <= 2000 for field in block["fields"])
        else:
            assert block["type"] == "context"
            assert 0 < len(block["elements"]) <= 10
    return sent


def test_the_end_of_a_job_as_a_message_of_slack() -> None:
    sent = slack(job())
    header, why, facts, figures, look = sent["blocks"]
    assert header["text"]["text"] == "✅ FineTuneJob team/tune succeeded"
    assert why["text"]["text"] == "the model is ready"
    assert [field["text"] for field in facts["fields"]] == [
        "*Time*\n2 h 0 min",
        "*GPU-hours*\n8.00",
        "*Attempts*\n2",
        "*Model*\npvc://runs/team/tune-01234567/model",
    ]
    assert figures["text"]["text"] == "exactMatch 0.9 [0.8, 1]"
    assert look["elements"][0]["text"] == "`kubectl describe finetunejob tune -n team`"
    assert sent["text"].splitlines() == [
        "*✅ FineTuneJob team/tune succeeded* in 2 h 0 min, 8.00 GPU-hours",
        "the model is ready",
        "exactMatch 0.9 [0.8, 1]",
        "`kubectl describe finetunejob tune -n team`",
    ]


def test_the_end_of_a_pipeline_as_a_message_of_slack() -> None:
    header, why, facts, _ = slack(pipeline())["blocks"]
    assert header["text"]["text"] == "❌ RLHFPipeline team/helpful failed: LossDiverged"
    assert "change spec.reward to run it again" in why["text"]["text"]
    assert "*Stage reward*\nFailed" in [field["text"] for field in facts["fields"]]


def test_nobody_is_called_and_nothing_is_marked_up_by_what_others_wrote() -> None:
    sent = slack(failed())
    for text in (sent["text"], sent["blocks"][1]["text"]["text"]):
        assert "&lt;!channel&gt; &amp; &lt;https://evil.example|click&gt;" in text
        assert "@here" not in text
        assert "<" not in text


@pytest.mark.parametrize("length", [0, 3, 1024])
def test_a_message_of_slack_stays_within_its_limits(length: int) -> None:
    made = failed("&" * length)
    made.body["metadata"]["name"] = "n" * 253
    model = Artifacts(model="pvc://runs/" + "&" * 4000)
    slack(made, evaluation=MANY, artifacts=model, phase="Succeeded", message="<" * length)


def test_an_end_before_any_start_has_a_message_too() -> None:
    made = World()
    made.body["spec"]["training"] = {"epochs": -1}
    assert [block["type"] for block in slack(made.look())["blocks"]] == ["header", "section", "context"]
    assert "durationSeconds" not in event(made)[1]


def test_the_page_shows_what_is_sent() -> None:
    page = (ROOT / "docs" / "notifications.md").read_text(encoding="utf-8")
    shown = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]
    assert shown == [json.loads(written(job(), form)[1]) for form in ("cloudEvents", "slack")]


def test_secrets_and_logs_stay_where_they_are() -> None:
    env = [{"name": "HF_TOKEN", "value": "hf_secret"}]
    made = trained(runtime={"env": env}, notifications=[])
    evaluated(made).looks()
    made.body["status"]["attempts"][0]["logTail"] = "secret in a log"
    for form in ("slack", "cloudEvents"):
        assert b"secret" not in written(made, form)[1]
