"""`spec.model`: the weights that training starts from, or the configuration of a new model."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from tunesmith.api.base import Rule, Schema, exactly_one
from tunesmith.api.source import MODEL_SCHEMES, Location, Uri, check_uri, cluster_rule


class BpeTokenizer(Schema):
    """A byte-level BPE tokenizer, trained on the training set; digits are tokens of their own."""

    vocabulary_size: Annotated[int, Field(ge=260, le=1_000_000)] = 8192
    """Number of tokens, 256 bytes and the special tokens included."""


class NewModel(Schema):
    """A model with random weights, and a tokenizer trained on the training set."""

    architecture: Literal["llama", "bert", "t5"] = "llama"
    """The model family: a decoder for causalLM and instruction, an encoder for maskedLM, an encoder-decoder for
    seq2seq."""
    hidden_size: Annotated[int, Field(ge=8, le=65536)]
    """Width of the residual stream."""
    layers: Annotated[int, Field(ge=1, le=1024)]
    """Number of transformer blocks; of an encoder-decoder, in each of its halves."""
    attention_heads: Annotated[int, Field(ge=1, le=1024)]
    """Number of query heads; divides hiddenSize."""
    key_value_heads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Number of key and value heads (grouped-query attention); divides attentionHeads, which is the default."""
    intermediate_size: Annotated[int, Field(ge=8, le=1_000_000)]
    """Width of the feed-forward layers."""
    context_length: Annotated[int, Field(ge=8, le=10_000_000)] = 2048
    """The longest sequence that the model is built for, in tokens."""
    tie_embeddings: bool = True
    """Whether the input and the output embedding are the same weights; those of a t5 always are."""
    tokenizer: BpeTokenizer = BpeTokenizer()
    """The tokenizer that is trained on the training set."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.hiddenSize % (2 * self.attentionHeads) == 0",
            message="should be divisible by 2 x attentionHeads (rotary embeddings pair the dimensions of a head)",
            holds=lambda m: m.hidden_size % (2 * m.attention_heads) == 0,
            field="hiddenSize",
        ),
        Rule(
            cel="self.tieEmbeddings || self.architecture != 't5'",
            message="a t5 always has the same weights for both",
            holds=lambda m: m.tie_embeddings or m.architecture != "t5",
            field="tieEmbeddings",
        ),
        Rule(
            cel="!has(self.keyValueHeads) || self.architecture == 'llama'",
            message="only a llama shares keys and values between heads",
            holds=lambda m: m.key_value_heads is None or m.architecture == "llama",
            field="keyValueHeads",
        ),
        Rule(
            cel="!has(self.keyValueHeads) || self.attentionHeads % self.keyValueHeads == 0",
            message="should divide attentionHeads",
            holds=lambda m: m.key_value_heads is None or m.attention_heads % m.key_value_heads == 0,
            field="keyValueHeads",
        ),
    )


class Quantization(Schema):
    """Loads the base model's linear layers in fewer bits; they stay frozen."""

    type: Literal["nf4", "int8"] = "nf4"
    """4-bit NormalFloat (QLoRA, Dettmers et al. 2023, arXiv:2305.14314), or 8-bit integers with outliers kept apart
    (LLM.int8(), Dettmers et al. 2022, arXiv:2208.07339)."""
    double_quantization: bool = True
    """Whether the quantization constants of nf4 are quantized too; saves about 0.4 bits a parameter."""


class ModelSpec(Schema):
    """The weights that training starts from: exactly one of `source` and `config`."""

    source: Annotated[Uri, AfterValidator(check_uri(*MODEL_SCHEMES))] | None = None
    """An existing model: hf://OWNER/NAME[@REVISION], pvc://CLAIM/PATH, or job://NAME for the model of another
    FineTuneJob, in the same namespace or the same file; this job waits for that one."""
    config: NewModel | None = None
    """A new model with random weights, to train from scratch."""
    quantization: Quantization | None = None
    """Loads the base model quantized; needs a method that leaves it frozen."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one("source", "config"),
        Rule(
            cel="!has(self.quantization) || has(self.source)",
            message="needs model.source: a new model has no weights to quantize",
            holds=lambda m: m.quantization is None or m.source is not None,
            field="quantization",
        ),
        cluster_rule("source", optional=True),
    )

    @property
    def job(self) -> str | None:
        """The name of the job whose model this one starts from."""
        location = Location.parse(self.source) if self.source else None
        return location.name if location and location.scheme == "job" else None
