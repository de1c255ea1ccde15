"""The memory that a worker needs, by part: arithmetic on a model's dimensions, without the model.

Per weight that is trained: 4 bytes for itself, 4 for its gradient, 8 for AdamW's two moments, each divided by the
workers where it is sharded (Rajbhandari et al. 2020, arXiv:1910.02054). Activations follow Korthikanti et al. 2022
(arXiv:2205.05198), section 4, adapted to what this trainer computes: attention keeps no [tokens, tokens] matrix, norms
are computed in fp32, trained weights stay in fp32 and are cast for each product, and logits exist only where a token is
learned. `tests/benchmarks/estimate.py` measures how far off it is.
"""

from dataclasses import dataclass, fields, replace
from typing import Self

from tunesmith.api.architecture import Architecture
from tunesmith.api.job import FineTuneJobSpec

GIB = 2**30
LIBRARIES = int(0.82 * GIB)
"""Resident memory of a process that has imported what every training needs, and holds no model."""
DEEPSPEED = int(0.12 * GIB)
"""What DeepSpeed and the libraries that it imports add to that."""
FRAGMENTATION = 1.6
"""On a CPU the C library keeps freed blocks of many sizes: resident memory grows to so many times what the activations
of a step take (1.4 to 1.6 measured)."""
ZERO_BUCKET = 500_000_000
"""Weights whose gradients DeepSpeed gathers before it reduces them."""
ZERO_LIVE = 1_000_000_000
"""Weights that DeepSpeed's stage 3 leaves gathered until it must let some go."""
DEVICE_CONTEXT = int(0.6 * GIB)
"""What CUDA and its libraries take of a GPU before the first tensor; not measured here."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one worker, by part."""

    weights: int = 0
    """Trained weights, in fp32."""
    frozen_weights: int = 0
    """Weights that stay as they are, at their width."""
    gradients: int = 0
    optimizer: int = 0
    """The optimizer's state, and copies of the weights such as their average."""
    activations: int = 0
    """What the backward pass of one micro-batch needs, casts of the weights included."""
    logits: int = 0
    """Logits and their gradient, where a token is learned."""
    saving: int = 0
    """What writing a checkpoint, or the model at the end, takes beyond what is free by then; with a GPU this is in the
    CPU's memory."""
    overhead: int = 0
    """The interpreter and its libraries; of a GPU, CUDA."""

    @property
    def total(self) -> int:
        """The peak: the step and the checkpoint do not coincide."""
        return sum(getattr(self, field.name) for field in fields(self))

    @property
    def parts(self) -> dict[str, int]:
        """By name, for people."""
        return {field.name.replace("_", " "): getattr(self, field.name) for field in fields(self)}


def estimate(spec: FineTuneJobSpec, model: Architecture, on_gpu: bool = False) -> Memory:
    """The peak memory of one worker.

    Args:
        spec: the job's. Rows are taken to be as long as maxLength, and of text to text all tokens to be learned.
        model: dimensions of what spec.model says.
        on_gpu: whether the GPU's memory is meant, or the CPU's.
    """
    counted = _Weights.of(spec, model)
    activations, logits = _activations(spec, model, counted, on_gpu), _logits(spec, model)
    if not on_gpu:
        activations, logits = round(FRAGMENTATION * activations), round(FRAGMENTATION * logits)
    step = replace(
        _state(spec, counted, on_gpu),
        activations=activations,
        logits=logits,
        overhead=DEVICE_CONTEXT if on_gpu else LIBRARIES + DEEPSPEED * (spec.scaling.deepspeed is not None),
    )
    if on_gpu:
        return step
    # a checkpoint holds weights and moments, copied while there are no gradients and activations; at the end, when
    # nothing else is left, the model is built whole, in fp32, and given the weights of a checkpoint
    copying = 4 * counted.trained + counted.optimizer_bytes - step.gradients - activations - logits
    exporting = 4 * (model.weights + counted.trained) - (step.total - step.overhead)
    return replace(step, saving=max(0, round(copying), round(exporting)))


def _state(spec: FineTuneJobSpec, counted: "_Weights", on_gpu: bool) -> Memory:
    """What is there all the time, by how it is sharded, and whether the shards are in the CPU's memory."""
    scaling, trained = spec.scaling, counted.trained
    workers, zero, fsdp = scaling.workers // scaling.tensor_parallel, scaling.deepspeed, scaling.fsdp
    share = counted.uncut + (trained - counted.uncut) / scaling.tensor_parallel
    cut = share / workers if fsdp is not None or zero is not None else share
    offloaded = on_gpu and ((zero is not None and zero.offload) or (fsdp is not None and fsdp.offload))
    kept = 0 if offloaded else cut
    weights, gradients, frozen = 4 * share, 4 * share, counted.frozen_bytes / scaling.tensor_parallel
    if fsdp is not None:  # one block is put together while it is used, here the largest matrix
        weights, gradients, frozen = 4 * kept + 4 * counted.largest, 4 * kept, 0 if offloaded else frozen / workers
    if zero is not None:  # what is computed with, in the type of the products, and its fp32 original
        width = 2 if spec.training.half else 4
        live = share if zero.zero_stage < 3 else kept + min(share, ZERO_LIVE)
        weights, gradients = width * live + 4 * kept, width * min(share, ZERO_BUCKET) + 4 * kept
        frozen = frozen / workers if zero.zero_stage == 3 else frozen
    return Memory(
        weights=round(weights),
        frozen_weights=round(frozen),
        gradients=round(gradients),
        optimizer=round((counted.optimizer_bytes + counted.copies_bytes) / trained * kept),
    )


@dataclass(frozen=True)
class _Weights:
    """How many weights are trained, and what comes with them."""

    trained: float
    frozen_bytes: float
    optimizer_bytes: float
    copies_bytes: float
    """An average of the weights, the weights that training started from."""
    largest: int
    """Weights of the largest matrix."""
    uncut: int
    """Trained weights that tensor parallelism leaves whole: an embedding that is the head too."""

    @classmethod
    def of(cls, spec: FineTuneJobSpec, model: Architecture) -> Self:
        trained, matrices = trained_weights(spec, model)
        full = spec.method.full is not None
        optimizer = spec.training.optimizer
        if optimizer.adamw is not None:
            per_weight = 8.0 if optimizer.adamw.bits == 32 else 2.03
        elif optimizer.sgd is not None:
            per_weight = 4.0 if optimizer.sgd.momentum > 0 else 0.0
        elif optimizer.muon is not None:
            per_weight = 8.0 - 4.0 * matrices / trained
        else:  # a mean for each row and column
            per_weight = 0.02
        copies = 4 * trained * ((spec.training.average is not None) + bool(full and spec.method.full.l2_pull))  # type: ignore[union-attr]
        largest = max(model.vocabulary * model.hidden, *(i * o for i, o in model.linear_shapes))
        uncut = model.embedding_weights if full and model.tied else 0
        return cls(trained, 0 if full else _frozen_bytes(spec, model), per_weight * trained, copies, largest, uncut)


def trained_weights(spec: FineTuneJobSpec, model: Architecture) -> tuple[int, int]:
    """How many weights are trained, and how many of them are in matrices within the layers."""
    method = spec.method
    if method.full is not None:
        return model.weights, model.linear_weights
    if method.prefix is not None:
        prefix = method.prefix.tokens * 2 * model.layers * model.key_width
        projection = method.prefix.projection
        if projection is not None:
            prefix = method.prefix.tokens * model.hidden + projection * (model.hidden + 2 * model.layers * model.hidden)
        return prefix, 0
    if method.ptuning is not None:
        width = method.ptuning.hidden_size
        encoder = width * width * (1 if method.ptuning.encoder == "mlp" else 24) + 2 * model.hidden * width
        return method.ptuning.tokens * model.hidden + encoder, 0
    rank = method.lora.rank if method.lora else method.adalora.initial_rank if method.adalora else 0
    shapes = model.linear_shapes
    targets = method.lora.target_modules if method.lora else method.adalora.target_modules if method.adalora else ""
    if targets != "all-linear":
        shapes = [s for s, name in zip(shapes, _names(model), strict=True) if name in targets] or shapes
    adapter = model.layers * sum(rank * (i + o) for i, o in shapes)
    return adapter, adapter


def _names(model: Architecture) -> list[str]:
    feed_forward = ["gate_proj", "up_proj", "down_proj"] if model.gated else ["fc1", "fc2"]
    return ["q_proj", "k_proj", "v_proj", "o_proj", *feed_forward]


def _frozen_bytes(spec: FineTuneJobSpec, model: Architecture) -> float:
    quantization = spec.model.quantization
    width = 4.0 if spec.training.precision in ("fp32", "tf32") else 2.0
    rest = model.weights - model.linear_weights
    if quantization is None:
        return width * model.weights
    if quantization.type == "int8":
        return 1.0 * model.linear_weights + 4.0 * rest
    # a constant for each 64 weights: 32 bits, or 8 bits and a 32-bit one for each 256 of them
    bits = 4 + (8 / 64 + 32 / (64 * 256) if quantization.double_quantization else 32 / 64)
    return bits / 8 * model.linear_weights + 4.0 * rest


def micro_batch_tokens(spec: FineTuneJobSpec) -> int:
    """The most tokens that a worker computes at once."""
    training = spec.training
    workers = spec.scaling.workers // spec.scaling.tensor_parallel
    rows = min(training.micro_batch_size, -(-training.batch_size // workers))
    texts = 2 if spec.objective.reward is not None else 1
    return rows * texts * training.max_length


def _activations(spec: FineTuneJobSpec, model: Architecture, counted: _Weights, on_gpu: bool) -> int:
    """Bytes that the layers keep for the backward pass."""
    tokens = micro_batch_tokens(spec)
    layer = tokens * _layer_bytes(spec, model, on_gpu)
    half = spec.training.half
    full = spec.method.full is not None
    casts = 2.0 * model.linear_weights if half and full else 0  # kept for the backward pass
    stream = tokens * model.hidden * 4
    if spec.training.gradient_checkpointing:
        kept = model.layers * stream + layer
        casts = casts / model.layers if half else 0
    else:
        kept = model.layers * layer + stream
    dequantized = 2 * max(i * o for i, o in model.linear_shapes) if spec.model.quantization else 0
    # a gradient is computed whole before it is added to what earlier micro-batches left
    added = 4 * counted.largest if full else 0
    return round(kept + casts + dequantized + added)


def _layer_bytes(spec: FineTuneJobSpec, model: Architecture, on_gpu: bool) -> float:
    """Bytes for each token that a layer keeps: the inputs of its products and what its functions need.

    In a Llama: the input of both norms in fp32, and what they make of it; queries, keys, values and the result of the
    attention; both halves of the feed-forward layer, the activated one, and their product. Tensor parallelism cuts all
    but the norms.
    """
    h, q, k, f = model.hidden, model.query_width, model.key_width, model.intermediate
    half = spec.training.half
    full = spec.method.full is not None
    # bitsandbytes gives results the type of its input, and that is fp32 where the norms are
    width = 2 if half and spec.model.quantization is None else 4
    feed_forward = width * (4 if model.gated else 2) * f
    attention = (width if on_gpu else 4) * (3 * q + 2 * k)  # a CPU computes it in fp32, but for long rows with AMX
    norms = (18 if half else 16) * h + (8 * h if full else 0)  # in half precision each product casts its own input
    if not model.gated:  # LayerNorm keeps its input only
        norms -= 2 * 4 * h if full else 0
    return norms + (attention + feed_forward) / spec.scaling.tensor_parallel


def _logits(spec: FineTuneJobSpec, model: Architecture) -> int:
    """Log-probabilities, their gradient and that of the logits, in fp32."""
    if spec.objective.reward is not None:
        return 0  # a score for each text
    tokens = float(micro_batch_tokens(spec))
    if spec.objective.masked_lm is not None:
        tokens *= spec.objective.masked_lm.probability
    return round(tokens * model.vocabulary * 4 * 3)
