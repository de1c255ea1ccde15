"""Spans, as a real receiver of OTLP/HTTP gets them; and what a run has of a receiver that is not there."""

import logging
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.collector import collecting
from tunesmith.api.pod import Tracing
from tunesmith.api.spans import Finished, about_run, sending_spans, span, tell, tracing_here, tracing_of

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


def test_spans_are_part_of_what_they_are_within() -> None:
    with collecting() as collector:
        tracing = Tracing(endpoint=collector.endpoint, traceparent=TRACEPARENT)
        with (
            sending_spans(tracing, "trainer", about_run("a", "b")),
            span("training") as note,
            span("checkpoint", {"tunesmith.step": 3}),
        ):
            note({"tunesmith.reason": "Succeeded"})
        outer, inner = collector.one("training"), collector.one("checkpoint")
    assert (outer.trace, outer.parent) == (TRACE, PARENT)
    assert (inner.trace, inner.parent) == (TRACE, outer.id)
    assert outer.start <= inner.start <= inner.end <= outer.end
    about = {"service.name": "trainer", "k8s.namespace.name": "a", "tunesmith.job": "b"}
    assert inner.attributes.items() >= (about | {"tunesmith.step": 3}).items()
    assert outer.attributes.items() >= (about | {"tunesmith.reason": "Succeeded"}).items()


def test_a_span_says_what_ended_it_but_not_what_the_error_says() -> None:
    with collecting() as collector:
        with sending_spans(Tracing(endpoint=collector.endpoint), "x", {}), pytest.raises(ValueError), span("export"):
            raise ValueError("hf_secret")
        assert collector.one("export").error == "ValueError"
        assert "hf_secret" not in repr(collector.spans)


def test_another_process_goes_on_in_the_same_trace() -> None:
    with collecting() as collector:
        with sending_spans(Tracing(endpoint=collector.endpoint), "driver", {}), span("attempt"):
            tracing = tracing_here()

            def other_thread() -> None:  # it has no current span, as another process
                with sending_spans(tracing, "worker", {}), span("training"):
                    pass

            thread = threading.Thread(target=other_thread)
            thread.start()
            thread.join()
        attempt, training = collector.one("attempt"), collector.one("training")
    assert (training.trace, training.parent) == (attempt.trace, attempt.id)


def test_a_span_of_somebody_else_has_ids_that_are_given() -> None:
    mine = f"00-{TRACE}-00000000000000aa-01"
    with collecting() as collector:
        with sending_spans(Tracing(endpoint=collector.endpoint), "operator", {}):
            tell(Finished("attempt", mine, TRACEPARENT, 1000.5, 2000.25, {"tunesmith.attempt": 2}, "OutOfMemory"))
            with span("reconcile", link=mine):
                pass
        told, linked = collector.one("attempt"), collector.one("reconcile")
    assert (told.trace, told.id, told.parent) == (TRACE, "00000000000000aa", PARENT)
    assert (told.start, told.end, told.error) == (1000.5, 2000.25, "OutOfMemory")
    assert told.attributes["tunesmith.attempt"] == 2
    assert linked.trace != TRACE
    assert linked.links == [(TRACE, "00000000000000aa")]


def test_a_failing_collector_is_told_of_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")  # ms between two batches
    with collecting() as collector, caplog.at_level(logging.INFO):
        collector.status = 401
        with sending_spans(Tracing(endpoint=collector.endpoint), "x", {}):
            for number in (1, 2):
                with span("lost"):
                    pass
                collector.await_that(lambda all_, number=number: all_.asked == number)  # type: ignore[misc]
            collector.status = 200
            with span("taken"):
                pass
            collector.await_that(lambda all_: bool(all_.spans))
        assert [span.name for span in collector.spans] == ["taken"]
    (line,) = caplog.messages
    assert collector.endpoint in line
    assert "401" in line


@pytest.mark.parametrize("kind", ["refuses", "hangs"])
def test_a_collector_that_is_not_there_costs_next_to_nothing(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        if kind == "hangs":
            bound.listen()
        tracing = Tracing(endpoint=f"http://127.0.0.1:{bound.getsockname()[1]}")
        with sending_spans(tracing, "x", {}):
            started = time.perf_counter()
            for _ in range(5000):
                with span("a"):
                    pass
            ended = time.perf_counter()
        closed = time.perf_counter()
    assert ended - started < 5, "more spans than the queue holds"
    assert closed - ended < 5
    assert all(record.name == "tunesmith.api.spans" for record in caplog.records)


def test_without_an_endpoint_nothing_is_imported() -> None:
    code = (
        "import sys; from tunesmith.api.spans import sending_spans, span, tracing_of\n"
        "with sending_spans(tracing_of({}), 'x', {}), span('a'): pass\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_environment_names_an_endpoint(caplog: pytest.LogCaptureFixture) -> None:
    variable = "OTEL_EXPORTER_OTLP_ENDPOINT"
    assert tracing_of({}) is None
    assert tracing_of({variable: "http://collector:4318/"}) == Tracing(endpoint="http://collector:4318")
    assert tracing_of({variable: "collector:4317"}) is None
    assert "no http:// or https:// URL" in caplog.text
