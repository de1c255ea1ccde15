"""What a page says of a run, whatever its state, and that what it shows stays text."""

import html
import json
import re
from pathlib import Path

import pytest

from tests.unit.report.runs import ARABIC, EMOJI, LONG, NASTY, evaluation, finished, job_of, make_run, metric
from tunesmith.api.load import InputError
from tunesmith.api.outcome import Outcome, Overrides, PastAttempt
from tunesmith.api.pod import RunFolder
from tunesmith.launch.folder import write_attempts
from tunesmith.report.compare import comparison_page, differing_fields
from tunesmith.report.page import configuration_of, run_page, status_of
from tunesmith.report.read import read_run
from tunesmith.report.samples import Text, samples_of
from tunesmith.report.summary import summary_of
from tunesmith.report.words import cell


def page_of(folder: RunFolder) -> str:
    return run_page(read_run(folder))


def words_of(page: str) -> str:
    """A page's text without its charts."""
    text = re.sub(r"<style>.*?</style>|<svg.*?</svg>|<[^>]*>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(text).split())


def test_what_models_say_stays_text(tmp_path: Path) -> None:
    page = page_of(finished(tmp_path))
    assert "<script" not in page and "<img" not in page
    assert NASTY.replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;") in page
    assert f'dir="auto">{ARABIC}' in page
    assert EMOJI in page
    assert "␀␇ control" in page
    page.encode("utf-8")


def test_a_page_loads_nothing(tmp_path: Path) -> None:
    page = page_of(finished(tmp_path))
    assert "default-src 'none'" in page
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page) + re.findall(r"url\(([^)]*)\)", page)
    assert addresses and all(address.startswith("#") for address in addresses)
    links = set(re.findall(r'href="#([^"]*)"', page)) | set(re.findall(r"url\(#([^)]*)\)", page))
    names = re.findall(r'\bid="([^"]*)"', page)
    assert len(names) == len(set(names)), "of several charts in a page too"
    assert links <= set(names)


def test_a_long_text_is_folded() -> None:
    assert Text.of("short").beginning == ""
    long = Text.of(LONG)
    assert (long.text, long.length, long.cut) == (LONG, 20_000, False)
    assert len(long.beginning) == 200
    assert Text.of(LONG * 2).cut


def test_every_part_of_an_evaluation_is_there(tmp_path: Path) -> None:
    text = words_of(page_of(finished(tmp_path)))
    for part in (
        "Gate failed",
        "exactMatch is 0.6, below the 0.9 asked for",
        "0.600 [0.500, 0.700]",
        "+0.200 [+0.100, +0.300]",
        "p 0.002 corrected, effect +0.80 SD, shows 0.100 or more",
        "8 rows show differences of 0.4 or more",
        "By domain",
        "polite",
        "Two wordings get the same answer in 0.500 [0.400, 0.600]",
        "By kind of error",
        "By topic",
        "Rows that became worse against the base",
        "Better than the base: 3 rows",
        "Worse than the base: 1 row",
        "2 rows overlap",
        "tunesmith run -f sums.yaml --mount sums=DIR",
        "first run the jobs base",
    ):
        assert part in text, part


@pytest.mark.parametrize(
    ("outcome", "steps", "parts"),
    [
        (None, 0, ["No result", "it has left no result", "no step was finished", "The data were not read"]),
        (
            Outcome(reason="LossDiverged", message="the loss of step 61 is NaN", step=60),
            60,
            ["LossDiverged", "failed with LossDiverged after 60 steps: the loss of step 61 is NaN", "mend what"],
        ),
        (Outcome(reason="Interrupted", step=30), 30, ["Interrupted", "goes on from its last checkpoint"]),
        (Outcome(reason="Succeeded", step=60), 60, ["It was not evaluated", "validation loss 0.033", "no samples"]),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, outcome: Outcome | None, steps: int, parts: list[str]) -> None:
    text = words_of(page_of(make_run(tmp_path, outcome=outcome, steps=steps)))
    for part in [*parts, "Nothing was evaluated, so nothing is known of where it is wrong"]:
        assert part in text, part


def test_every_attempt_is_told(tmp_path: Path) -> None:
    folder = finished(tmp_path)
    lost = PastAttempt(number=1, reason="WorkerLost", message="node <b>7</b> went away")
    changed = Overrides(micro_batch_size=4, learning_rate_scale=0.5)
    write_attempts(folder, [lost, PastAttempt(number=2, reason="Succeeded", overrides=changed)])
    said = words_of(page_of(folder))
    assert "The last one was attempt 2" in said
    assert "attempt 1 WorkerLost Node <b>7</b> went away. the spec as it is" in said
    assert "attempt 2 Succeeded micro-batch 4, 0.5 of the learning rate" in said


def test_an_evaluation_of_another_release_is_said_to_be_unreadable(tmp_path: Path) -> None:
    folder = finished(tmp_path)
    (folder.evaluation / "result.json").write_text('{"job": "sums", "unheard": 1}')
    assert "The evaluation cannot be read" in words_of(page_of(folder))


def test_a_run_that_goes_on_is_not_said_to_have_ended(tmp_path: Path) -> None:
    folder = make_run(tmp_path, steps=12)
    text = words_of(run_page(read_run(folder, running=True)))
    assert "Running" in text and "stands at step 12 of 60" in text


def test_a_folder_without_a_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not a run's folder"):
        read_run(RunFolder(tmp_path))


@pytest.mark.parametrize(
    ("verdict", "difference", "said"),
    [
        ("better", (0.2, 0.1, 0.3), "better than the base's 0.400 by 0.200 [0.100, 0.300]"),
        ("worse", (-0.2, -0.3, -0.1), "worse than the base's 0.400 by -0.200 [-0.300, -0.100]"),
        ("no difference shown", (0.2, -0.1, 0.3), "no difference from the base's 0.400 is shown"),
        ("too few rows to tell", (0.2, 0.2, 0.2), "too few rows to tell them apart"),
        ("", (0.2, 0.1, 0.3), "the base's is 0.400."),
    ],
)
def test_the_summary_claims_what_the_verdict_does(
    tmp_path: Path, verdict: str, difference: tuple[float, float, float], said: str
) -> None:
    run = read_run(finished(tmp_path, evaluation(metrics=[metric("exactMatch", difference, verdict)])))
    sentences = summary_of(run)
    assert len(sentences) == 3
    assert said in sentences[1]
    assert ("better" in sentences[1]) == (verdict == "better")
    if verdict == "worse":
        assert "became worse than the base in exact match" in sentences[2]


def test_a_failed_gate_is_what_to_heed(tmp_path: Path) -> None:
    assert summary_of(read_run(finished(tmp_path)))[2].startswith("It does not pass: exactMatch is 0.6, below")


def test_a_pods_environment_is_in_no_page(tmp_path: Path) -> None:
    folder = finished(tmp_path)
    assert "secret-of-a-pod" in folder.config.read_text()
    assert "secret-of-a-pod" not in page_of(folder)
    assert "template: '{prompt} {response}'" in configuration_of(read_run(folder))


def test_rows_are_sorted_by_what_they_show(tmp_path: Path) -> None:
    samples = samples_of(read_run(finished(tmp_path)), {"tuned": "mine", "base": "base"}, {2})
    assert {group.title: [s.row for s in group.samples] for group in samples.groups} == {
        "Better than the base": [1, 5, 7],
        "Worse than the base": [6],
        "Another answer, the same score": [2, 3, 4, 8],
    }
    assert [answer.remark for answer in samples.by_row[2].answers] == ["", "an empty answer"]


def test_ppo_and_reward_models_have_their_own_curves(tmp_path: Path) -> None:
    policy = {"ppo/reward": 1.0, "ppo/reward_p10": 0.0, "ppo/reward_p90": 2.0, "ppo/kl": 0.1, "ppo/entropy": 1.0}
    phases = ("answer", "score", "data", "forward", "backward", "optimizer", "other")
    policy |= {f"time/{phase}": 0.1 * (place + 1) for place, phase in enumerate(phases)}
    ppo = job_of(
        objective={"ppo": {"template": "{prompt} {response}", "reward": [{"exactMatch": {}}]}}, evaluation=None
    )
    text = words_of(page_of(make_run(tmp_path / "ppo", ppo, outcome=Outcome(reason="Succeeded"), columns=policy)))
    for title in ("Reward", "Divergence (KL)", "Entropy", "Where the time goes", "Highest memory"):
        assert title in text
    pairs = {"train/reward/accuracy": 0.9, "train/reward/margin": 1.0}
    reward = job_of(objective={"reward": {"template": "{prompt} {response}"}}, evaluation=None)
    text = words_of(page_of(make_run(tmp_path / "rm", reward, outcome=Outcome(reason="Succeeded"), columns=pairs)))
    assert "Accuracy on pairs" in text and "Divergence" not in text


def test_runs_are_compared_on_the_same_rows_only(tmp_path: Path) -> None:
    first, second = finished(tmp_path / "a"), finished(tmp_path / "b", job=job_of("other", method={"full": {}}))
    runs = [read_run(first), read_run(second)]
    text = words_of(comparison_page(runs))
    assert "0 [-0.369, +0.369] no difference shown p 1.000" in text, "the same answers"
    assert "method.full" in text or "method.lora.rank" in text
    rows = second.evaluation / "rows.jsonl"
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[1:]))
    text = words_of(comparison_page([read_run(first), read_run(second)]))
    assert "other was evaluated on other rows: 1 of the 8 are missing there" in text
    assert "no difference shown" not in text


def test_only_fields_that_differ_are_listed() -> None:
    fields = differing_fields(
        [{"a": {"b": 1, "c": [1, 2]}, "runtime": {"x": 1}}, {"a": {"b": 2, "c": [1, 2], "d": None}}]
    )
    assert [(field.path, field.values) for field in fields] == [("a.b", ["1", "2"])]


def test_colours_can_be_read_in_light_and_in_dark() -> None:
    """WCAG 2.2, AA: 4.5 for text, 3 for lines."""
    style = Path(run_page.__globals__["__file__"]).with_name("templates").joinpath("style.css").read_text()
    for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
        for back in ("page", "raised"):
            for name in ("ink", "muted", "link", "good", "bad", "neutral"):
                assert contrast(colours[name], colours[back]) >= 4.5, (name, back)
            for name in (n for n in colours if n.startswith("series")):
                assert contrast(colours[name], colours[back]) >= 3, (name, back)
        for name in ("good", "bad", "neutral"):
            assert contrast(colours[name], colours[f"{name}-back"]) >= 4.5, name


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_markdown_keeps_what_it_is_given() -> None:
    assert cell("a | <b>\n`c` [d](e)") == "a \\| &lt;b> \\`c\\` \\[d](e)"


def test_a_job_that_only_evaluates_tells_of_no_training(tmp_path: Path) -> None:
    earlier = metric("exactMatch", (0.2, 0.1, 0.3), "better", to="job://before")
    failed = {"metric": "exactMatch", "passed": False, "message": "exactMatch is 0.6, below 0.9"}
    folder = make_run(tmp_path, steps=0, report=evaluation(metrics=[earlier], gates=[failed]))
    config = json.loads(folder.config.read_text())
    for part in ("objective", "method"):
        del config["job"]["spec"][part]
    del config["job"]["spec"]["dataset"]["train"]
    folder.config.write_text(json.dumps(config))
    text = words_of(page_of(folder))
    assert "This job trains nothing: it evaluates the model of job base" in text
    assert status_of(read_run(folder)) == ("Gate failed", "bad")
    assert "it reaches exact match 0.600 [0.500, 0.700], better than job://before's 0.400 by" in text
    assert "no step was finished" not in text and "The data were not read" not in text
    assert "tunesmith run -f sums.yaml --mount sums=DIR" in text
