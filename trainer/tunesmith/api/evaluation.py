"""`spec.evaluation`: how a model is judged, and what it must reach."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from tunesmith.api.base import Rule, Schema, exactly_one
from tunesmith.api.dataset import ColumnName
from tunesmith.api.metric import JUDGE_ANSWERS, NEITHER_IS_BETTER, MetricName
from tunesmith.api.reward import Template
from tunesmith.api.source import DATA_SCHEMES, MODEL_SCHEMES, Location, Scheme, Uri, check_uri, cluster_rule

RUN_SCHEMES: tuple[Scheme, ...] = ("job", "pvc", "file", "path")

ModelUri = Annotated[Uri, AfterValidator(check_uri(*MODEL_SCHEMES))]
RunUri = Annotated[Uri, AfterValidator(check_uri(*RUN_SCHEMES))]
SingleMetric = Annotated[str, Field(max_length=64, pattern=r"^[a-z][A-Za-z0-9]*$")]
"""The name of one of our metrics, or of evaluation.own."""
MetricLabel = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.,:/ -]+$")]
"""A metric's name: one of ours, that of evaluation.own, or TASK/METRIC of evaluation.harness."""


class Encoder(Schema):
    """An encoder that turns texts into vectors."""

    source: ModelUri
    """As for spec.model."""
    layer: Annotated[int, Field(ge=0, le=1000)] | None = None
    """The layer that is read, counted from 1 after the embeddings; by default the last."""

    rules: ClassVar[tuple[Rule, ...]] = (cluster_rule("source"),)


class Judge(Schema):
    """A reward model of ours that scores answers."""

    source: ModelUri
    """As for spec.model; job://NAME is that job's reward model."""

    rules: ClassVar[tuple[Rule, ...]] = (cluster_rule("source"),)


class OwnMetric(Schema):
    """A metric of your own, where the administrator allows its module."""

    name: SingleMetric
    """What it is called in results."""
    function: Annotated[str, Field(max_length=256, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    """PACKAGE.MODULE:FUNCTION; takes a list of answers and one of references, and returns a number for each."""
    better: Literal["higher", "lower"] = "higher"
    """Which values are good."""


class Detect(Schema):
    """A difference that the test set should be large enough to show."""

    metric: MetricLabel
    """Of which metric."""
    difference: Annotated[float, Field(gt=0)]
    """The smallest difference that matters, in the metric's own unit."""


class Gate(Schema):
    """A condition that the model must meet, or the job fails: exactly one of atLeast, atMost, notWorseThan."""

    metric: MetricLabel
    """One of the metrics that are asked for."""
    at_least: float | None = None
    """The lowest value that passes."""
    at_most: float | None = None
    """The highest value that passes."""
    not_worse_than: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """base, or one of compareWith: fails where the model is shown to be worse than that one; with margin, where it
    is not shown to be at most so much worse."""
    margin: Annotated[float, Field(gt=0)] | None = None
    """How much worse it may be, in the metric's own unit."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one("atLeast", "atMost", "notWorseThan"),
        Rule(
            cel="!has(self.margin) || has(self.notWorseThan)",
            message="goes with notWorseThan",
            holds=lambda g: g.margin is None or g.not_worse_than is not None,
            field="margin",
        ),
    )


class PromptsSpec(Schema):
    """How much depends on the wording of prompts: all test rows are answered once more for each template and change."""

    templates: Annotated[dict[str, Template], Field(max_length=16)] = {}
    """Other wordings by name, each as objective.instruction.template."""
    changes: Annotated[list[Literal["case", "typos", "order"]], Field(max_length=3)] = []
    """Small changes of the prompt's own text, drawn with a fixed seed: the case of letters, swapped and missing
    letters, the order of sentences."""
    metric: SingleMetric | None = None
    """What the answers are judged by: one of evaluation.metrics or evaluation.own; by default the first that judges
    answers."""
    typo_rate: Annotated[float, Field(gt=0, le=1)] = 0.05
    """The share of words with a typo."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.templates.size() + self.changes.size() > 0",
            message="set templates, changes or both",
            holds=lambda p: bool(p.templates or p.changes),
        ),
        Rule(
            cel="self.changes.all(c, self.changes.exists_one(d, d == c))",
            message="should name each change once",
            holds=lambda p: len(set(p.changes)) == len(p.changes),
            field="changes",
        ),
    )


class FailuresSpec(Schema):
    """The rows that went wrong, in groups."""

    metric: SingleMetric | None = None
    """What rows are judged by: one of evaluation.metrics or evaluation.own; by default the first."""
    samples: Annotated[int, Field(ge=1, le=1000)] = 20
    """How many of the worst rows, and of those that became worse, are shown."""
    encoder: Encoder | None = None
    """Groups rows by topic: prompts with like vectors together."""
    topics: Annotated[int, Field(ge=2, le=100)] = 8
    """At most so many topics."""


class HarnessSpec(Schema):
    """Tasks of lm-evaluation-harness (EleutherAI), through its library."""

    tasks: Annotated[list[Annotated[str, Field(min_length=1, max_length=128)]], Field(min_length=1, max_length=64)]
    """Names of tasks or groups."""
    folder: Annotated[Uri, AfterValidator(check_uri(*DATA_SCHEMES))] | None = None
    """A folder with tasks of your own, as YAML; its Python code is not run."""
    examples: Annotated[int, Field(ge=0, le=100)] | None = None
    """Solved examples in front of each question (few-shot), where not as the task says."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """At most so many rows of each task."""

    rules: ClassVar[tuple[Rule, ...]] = (cluster_rule("folder", optional=True),)


class EvaluationSpec(Schema):
    """Metrics of the trained model on dataset.test, each with a 95% interval, side by side with others."""

    metrics: Annotated[list[MetricName], Field(min_length=1, max_length=32)] = ["perplexity"]
    """loss and perplexity for every objective; of maskedLM and spanCorruption, of what one fixed draw hides. Most
    others compare generated answers with the test responses; judge scores answers with a reward model. pairAccuracy
    goes with reward. reward, winRate (against the base, by the reward) and divergence (from the base, in nats) go with
    ppo."""
    own: Annotated[list[OwnMetric], Field(max_length=16)] = []
    """Metrics of your own."""
    harness: HarnessSpec | None = None
    """Tasks of lm-evaluation-harness."""
    compare_with_base: bool = True
    """Whether the model that training started from is evaluated too."""
    compare_with: Annotated[list[RunUri], Field(max_length=8)] = []
    """Earlier jobs (job://NAME) that were evaluated on the same rows, or the folders of their runs."""
    detect: Annotated[list[Detect], Field(max_length=32)] = []
    """Differences that the test set should be large enough to show; the result warns where it is not."""
    gates: Annotated[list[Gate], Field(max_length=32)] = []
    """What the model must reach; the job fails where it does not."""
    template: Template | None = None
    """The text of a prompt with an answer, where the job has no objective that says so; without it the tokenizer's chat
    template is used."""
    domain_column: ColumnName | None = None
    """Gives loss and perplexity for each value of this column too."""
    prompts: PromptsSpec | None = None
    """How much depends on the wording of prompts."""
    failures: FailuresSpec = FailuresSpec()
    """How the rows that went wrong are shown."""
    bert_score: Encoder | None = None
    """The encoder of the metric bertScore."""
    judge: Judge | None = None
    """The reward model of the metric judge."""
    max_new_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 256
    """The longest answer in tokens."""
    batch_size: Annotated[int, Field(ge=1, le=100_000)] = 32
    """Rows that are evaluated at once by a worker."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """How many workers share the rows, each with scaling.resources."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.metrics.all(m, self.metrics.exists_one(n, n == m))",
            message="should name each metric once",
            holds=lambda e: len(set(e.metrics)) == len(e.metrics),
            field="metrics",
        ),
        Rule(
            cel="self.own.all(m, self.own.exists_one(n, n.name == m.name) && !(m.name in self.metrics))",
            message="should have names that differ from each other and from evaluation.metrics",
            holds=lambda e: len({*e.metrics, *e.own_names}) == len(e.metrics) + len(e.own),
            field="own",
        ),
        Rule(
            cel="!has(self.prompts) || (has(self.prompts.metric) ? (self.prompts.metric in self.metrics && "
            f"self.prompts.metric in {list(JUDGE_ANSWERS)}) || self.own.exists(o, o.name == self.prompts.metric) : "
            f"self.own.size() > 0 || self.metrics.exists(m, m in {list(JUDGE_ANSWERS)}))",
            message="should be one of evaluation.metrics that judges each answer, as exactMatch, judge and reward do, "
            "or of evaluation.own",
            holds=lambda e: e.prompts is None or e.prompts_metric is not None,
            field="prompts.metric",
        ),
        Rule(
            cel="!has(self.failures.metric) || (self.failures.metric in self.metrics && "
            f"!(self.failures.metric in {sorted(NEITHER_IS_BETTER)})) || "
            "self.own.exists(o, o.name == self.failures.metric)",
            message="should be one of evaluation.metrics, of which more or less is good, or of evaluation.own",
            holds=lambda e: e.failures.metric in (None, *e.own_names, *(set(e.metrics) - NEITHER_IS_BETTER)),
            field="failures.metric",
        ),
        Rule(
            cel="!('bertScore' in self.metrics) || has(self.bertScore)",
            message="bertScore needs an encoder: set evaluation.bertScore.source",
            holds=lambda e: "bertScore" not in e.metrics or e.bert_score is not None,
            field="metrics",
        ),
        Rule(
            cel="!('judge' in self.metrics) || has(self.judge)",
            message="judge needs a reward model: set evaluation.judge.source",
            holds=lambda e: "judge" not in e.metrics or e.judge is not None,
            field="metrics",
        ),
        Rule(
            cel="(self.gates.map(g, g.metric) + self.detect.map(d, d.metric)).all(m, m in self.metrics || "
            "self.own.exists(o, o.name == m) || (has(self.harness) && m.contains('/')))",
            message="gates and detect need metrics that are asked for: add theirs to evaluation.metrics",
            holds=lambda e: all(e.measures(item.metric) for item in (*e.gates, *e.detect)),
            field="metrics",
        ),
        Rule(
            cel="self.gates.all(g, !has(g.notWorseThan) || (g.notWorseThan == 'base' ? self.compareWithBase : "
            "g.notWorseThan in self.compareWith))",
            message="notWorseThan should be base, with compareWithBase, or one of compareWith",
            holds=lambda e: all(g.not_worse_than in (None, *e.opponents) for g in e.gates),
            field="gates",
        ),
        Rule(
            cel="self.compareWith.all(u, u.matches('^(job|pvc)://'))",
            message="should name jobs (job://NAME) in the cluster; folders of this machine go with `tunesmith run`",
            holds=lambda e: all(Location.parse(uri).scheme in ("job", "pvc") for uri in e.compare_with),
            field="compareWith",
            where="cluster",
        ),
    )

    @property
    def compared_jobs(self) -> set[str]:
        """The names of the jobs that the model is compared with."""
        locations = [Location.parse(uri) for uri in self.compare_with]
        return {location.name for location in locations if location.scheme == "job"}

    @property
    def own_names(self) -> list[str]:
        """The names of the metrics of evaluation.own."""
        return [metric.name for metric in self.own]

    @property
    def prompts_metric(self) -> str | None:
        """What answers to other wordings are judged by; None where nothing that is asked for can."""
        asked = self.prompts.metric if self.prompts is not None else None
        judging = [*(metric for metric in self.metrics if metric in JUDGE_ANSWERS), *self.own_names]
        return next((metric for metric in judging if asked in (None, metric)), None)

    @property
    def model_sources(self) -> dict[str, str]:
        """The addresses of the models that judge, by their field."""
        encoder = self.failures.encoder
        return {
            **({"judge.source": self.judge.source} if self.judge is not None else {}),
            **({"bertScore.source": self.bert_score.source} if self.bert_score is not None else {}),
            **({"failures.encoder.source": encoder.source} if encoder is not None else {}),
        }

    @property
    def opponents(self) -> tuple[str, ...]:
        """Whom the model is compared with: base, and the addresses of others."""
        return (*(("base",) if self.compare_with_base else ()), *self.compare_with)

    def measures(self, label: str) -> bool:
        """Whether a metric of this name is asked for."""
        return label in self.metrics or label in self.own_names or (self.harness is not None and "/" in label)
