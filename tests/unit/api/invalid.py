"""Job files that are wrong in one place each, with the line that `tunesmith validate` prints.

The same table is put before a real API server in tests/integration/test_crd.py.
"""

from dataclasses import dataclass

VALID = """\
apiVersion: tunesmith.dev/v1alpha1
kind: FineTuneJob
metadata:
  name: sums
spec:
  model:
    source: hf://acme/tiny
  dataset:
    train: {source: hf://acme/sums}
    columns: {prompt: question, response: answer}
  objective:
    instruction: {}
  method:
    lora: {rank: 8}
  training:
    batchSize: 4
    learningRate: 2e-4
    precision: fp32
"""

_NEW_MODEL = "config: {hiddenSize: 32, layers: 1, attentionHeads: 4, intermediateSize: 64, contextLength: 2048}"
_MODEL, _TRAIN, _METHOD, _RATE = "source: hf://acme/tiny", "train: {source: hf://acme/sums}", "lora: {rank: 8}", "learningRate: 2e-4"


@dataclass(frozen=True)
class Invalid:
    """A job file that is refused."""

    story: str
    changes: dict[str, str]
    """What is replaced in VALID by what."""
    line: int
    """Of the file, counted from 1."""
    place: str
    message: str
    server: str | None = None
    """What the API server says of the place, where it is not the message word for word."""

    @property
    def text(self) -> str:
        return changed(self.changes)

    @property
    def printed(self) -> str:
        return f"{self.line}: {self.place}: {self.message}"


def changed(changes: dict[str, str]) -> str:
    """VALID with every key of `changes`, which must be in it, replaced by its value."""
    text = VALID
    for old, new in changes.items():
        assert old in text, f"{old!r} is not in the job any more"
        text = text.replace(old, new)
    return text


SPECS = (
    # fields
    Invalid(
        "a field in lower case is suggested in its own",
        {"learningRate": "learningrate"},
        17, "spec.training.learningrate", "unknown field; did you mean learningRate?", 'unknown field "spec.training.learningrate"',
    ),
    Invalid(
        "a field in snake case is suggested in camel case",
        {"batchSize": "batch_size"},
        16, "spec.training.batch_size", "unknown field; did you mean batchSize?", 'unknown field "spec.training.batch_size"',
    ),
    Invalid(
        "a typo is suggested right",
        {"columns: {prompt:": "columns: {promt:"},
        10, "spec.dataset.columns.promt", "unknown field; did you mean prompt?", 'unknown field "spec.dataset.columns.promt"',
    ),
    Invalid(
        "a field like no other lists those there are",
        {_METHOD: "lora: {rank: 8, gain: 3}"},
        14, "spec.method.lora.gain", "unknown field; known: rank, alpha, dropout, targetModules, merge", 'unknown field "spec.method.lora.gain"',
    ),
    Invalid("a part that is missing is named", {"  method:\n    lora: {rank: 8}\n": ""}, 5, "spec.method", "required", "Required value"),
    # types
    Invalid(
        "a word is no number",
        {_RATE: "learningRate: fast"},
        17, "spec.training.learningRate", "should be of type number (is 'fast')", "must be of type number",
    ),
    Invalid(
        "a number in quotes is a word",
        {"batchSize: 4": "batchSize: '4'"},
        16, "spec.training.batchSize", "should be of type integer (is '4')", "must be of type integer",
    ),
    Invalid(
        "a fraction is no integer",
        {"batchSize: 4": "batchSize: 4.5"},
        16, "spec.training.batchSize", "should be of type integer (is 4.5)", "must be of type integer",
    ),
    Invalid(
        "a number is no object",
        {_METHOD: "lora: 8"},
        14, "spec.method.lora", "should be of type object (is 8)", "must be of type object",
    ),
    Invalid(
        "a quantity has a unit that Kubernetes knows",
        {"  training:\n": "  scaling: {resources: {memory: 5GiB}}\n  training:\n"},
        15, "spec.scaling.resources.memory", "should be a quantity such as 500m, 4 or 64Gi (is '5GiB')", "should match",
    ),
    # ranges
    Invalid(
        "a negative rate",
        {_RATE: "learningRate: -1"},
        17, "spec.training.learningRate", "should be greater than 0 (is -1)", "should be greater than 0",
    ),
    Invalid(
        "a rate beyond all reason",
        {_RATE: "learningRate: 1e3"},
        17, "spec.training.learningRate", "should be less than or equal to 100 (is 1000.0)", "should be less than or equal to 100",
    ),
    Invalid(
        "no checkpoint is kept",
        {"batchSize: 4": "checkpoint: {keep: 0}"},
        16, "spec.training.checkpoint.keep", "should be greater than or equal to 1 (is 0)", "should be greater than or equal to 1",
    ),
    Invalid(
        "a split that is more than everything",
        {_TRAIN: f"{_TRAIN}\n    validation: {{fraction: 1.5}}"},
        10, "spec.dataset.validation.fraction", "should be less than 1 (is 1.5)", "should be less than 1",
    ),
    Invalid(
        "a stage that ZeRO does not have",
        {"  training:\n": "  scaling: {deepspeed: {zeroStage: 4}}\n  training:\n"},
        15, "spec.scaling.deepspeed.zeroStage", "should be less than or equal to 3 (is 4)", "should be less than or equal to 3",
    ),
    Invalid(
        "a precision with a typo",
        {"precision: fp32": "precision: fp23"},
        18, "spec.training.precision", "should be one of fp32, bf16, fp16; did you mean fp32? (is 'fp23')", 'supported values: "fp32", "bf16", "fp16"',
    ),
    Invalid(
        "a metric with a typo",
        {"columns:": "test: {source: hf://a/b}\n    columns:", "  training:\n": "  evaluation: {metrics: [exactMach]}\n  training:\n"},
        16, "spec.evaluation.metrics[0]",
        "should be one of perplexity, exactMatch, tokenF1; did you mean exactMatch? (is 'exactMach')", 'supported values: "perplexity", "exactMatch", "tokenF1"',
    ),
    # choices
    Invalid("two methods", {_METHOD: f"{_METHOD}\n    full: {{}}"}, 13, "spec.method", "set exactly one of full, lora"),
    Invalid("no method", {_METHOD: "{}"}, 13, "spec.method", "set exactly one of full, lora"),
    Invalid(
        "a method without a value is no method", {_METHOD: "lora:"}, 13, "spec.method", "set exactly one of full, lora"
    ),
    Invalid("two models", {_MODEL: f"{_MODEL}\n    {_NEW_MODEL}"}, 6, "spec.model", "set exactly one of source, config"),
    Invalid(
        "two validation sets",
        {_TRAIN: f"{_TRAIN}\n    validation: {{fraction: 0.1, source: hf://acme/held-out}}"},
        10, "spec.dataset.validation", "set exactly one of source, fraction",
    ),
    Invalid(
        "two values of a variable",
        {"  training:\n": "  runtime: {env: [{name: A, value: b, valueFrom: {secretKeyRef: {name: s, key: k}}}]}\n  training:\n"},
        15, "spec.runtime.env[0]", "set exactly one of value, valueFrom",
    ),
    # what does not go together
    Invalid(
        "quantized weights are not trained in full",
        {_MODEL: f"{_MODEL}\n    quantization: {{}}", _METHOD: "full: {}"},
        5, "spec", "model.quantization needs method.lora: quantized weights cannot be trained themselves",
    ),
    Invalid(
        "a new model has nothing to quantize",
        {_MODEL: f"{_NEW_MODEL}\n    quantization: {{}}"},
        8, "spec.model.quantization", "needs model.source: a new model has no weights to quantize",
    ),
    Invalid(
        "a new model has nothing to adapt",
        {_MODEL: _NEW_MODEL},
        5, "spec", "model.config needs method.full: adapters on random weights learn nothing useful",
    ),
    Invalid(
        "fp16 without a GPU",
        {"precision: fp32": "precision: fp16"},
        18, "spec.training.precision", "fp16 needs a GPU (scaling.resources nvidia.com/gpu: 1); use bf16 on a CPU",
    ),
    Invalid(
        "quantized weights are not sharded",
        {_MODEL: f"{_MODEL}\n    quantization: {{}}", "  training:\n": "  scaling: {deepspeed: {zeroStage: 2}}\n  training:\n"},
        16, "spec.scaling.deepspeed", "deepspeed does not shard quantized weights; drop scaling.deepspeed or model.quantization",
    ),
    Invalid(
        "rows longer than the new model reaches",
        {_MODEL: _NEW_MODEL, _METHOD: "full: {}", "batchSize: 4": "maxLength: 4096"},
        16, "spec.training.maxLength", "should be at most model.config.contextLength",
    ),
    Invalid(
        "heads that do not divide the width",
        {_MODEL: _NEW_MODEL.replace("hiddenSize: 32", "hiddenSize: 36"), _METHOD: "full: {}"},
        7, "spec.model.config.hiddenSize", "should be divisible by 2 x attentionHeads (rotary embeddings pair the dimensions of a head)",
    ),
    Invalid(
        "an evaluation without a test set",
        {"  training:\n": "  evaluation: {}\n  training:\n"},
        5, "spec", "evaluation needs dataset.test",
    ),
    Invalid(
        "a metric twice",
        {"columns:": "test: {source: hf://a/b}\n    columns:", "  training:\n": "  evaluation: {metrics: [exactMatch, exactMatch]}\n  training:\n"},
        16, "spec.evaluation.metrics", "should name each metric once",
    ),
    Invalid(
        "answers are compared where there are none",
        {
            "columns:": "test: {source: hf://a/b}\n    columns:",
            "  training:\n": "  evaluation: {metrics: [exactMatch]}\n  training:\n",
            "instruction: {}": "causalLM: {}",
        },
        16, "spec.evaluation.metrics", "exactMatch and tokenF1 need objective.instruction: there are no answers to compare otherwise",
    ),
    Invalid(
        "early stopping without a validation set",
        {"batchSize: 4": "earlyStopping: {}"},
        5, "spec", "training.earlyStopping needs dataset.validation",
    ),
    Invalid(
        "epochs and steps",
        {"batchSize: 4": "epochs: 2\n    maxSteps: 10"},
        15, "spec.training", "set epochs or maxSteps, not both",
    ),
    Invalid(
        "a template that goes on after the response",
        {"instruction: {}": "instruction: {template: '{prompt} {response} thanks'}"},
        12, "spec.objective.instruction.template", "should contain {response} once, at its end: generation stops there",
    ),
    # sources
    Invalid(
        "a local path in the cluster",
        {_TRAIN: "train: {source: rows.jsonl}"},
        9, "spec.dataset.train.source", "is a local path, which works only with `tunesmith run`; use hf://, pvc:// or another address in the cluster",
    ),
    Invalid(
        "a split of something that has none",
        {_TRAIN: "train: {source: pvc://data/rows, split: train}"},
        9, "spec.dataset.train", "config and split go with hf:// only",
    ),
)
"""Specs that both `tunesmith validate` and the API server refuse."""

OFFLINE = (
    Invalid(
        "a store that is not read yet",
        {_MODEL: "source: s3://models/tiny"},
        7, "spec.model.source", "unknown scheme s3://; known: hf://, pvc://, configmap://, job://, file:// (is 's3://models/tiny')",
    ),
    Invalid(
        "a path out of its claim",
        {_TRAIN: "train: {source: pvc://data/../secrets}"},
        9, "spec.dataset.train.source", "should be pvc://NAME/PATH, without .. in the path (is 'pvc://data/../secrets')",
    ),
    Invalid(
        "a ConfigMap is no model",
        {_MODEL: "source: configmap://models/tiny"},
        7, "spec.model.source", "configmap:// does not work here; use hf:// or pvc:// or job:// (is 'configmap://models/tiny')",
    ),
    Invalid("not a number", {_RATE: "learningRate: .nan"}, 17, "spec.training.learningRate", "should be a finite number (is nan)"),
    Invalid("a field twice", {_RATE: f"{_RATE}\n    {_RATE}"}, 18, "spec.training.learningRate", "stands twice"),
    Invalid("another kind", {"FineTuneJob": "Pod"}, 2, "kind", "unknown kind 'Pod'; known: FineTuneJob"),
    Invalid(
        "a kind with a typo",
        {"FineTuneJob": "FinetuneJob"},
        2, "kind", "unknown kind 'FinetuneJob'; known: FineTuneJob; did you mean FineTuneJob?",
    ),
    Invalid("no kind", {"kind: FineTuneJob\n": ""}, 1, "kind", "required; known: FineTuneJob"),
    Invalid("another version", {"v1alpha1": "v2"}, 1, "apiVersion", "should be tunesmith.dev/v1alpha1, is 'tunesmith.dev/v2'"),
    Invalid(
        "a name that Kubernetes does not take",
        {"name: sums": "name: My Sums"},
        4, "metadata.name", "should match pattern '^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$' (is 'My Sums')",
    ),
)
"""Specs that `tunesmith validate` refuses; the API server lets them pass, or says so in words of its own."""
