"""The tokenizer of a new model, trained on its data."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tunesmith.api.load import InputError, Problem
from tunesmith.api.model import NewModel

EOS, PAD = "<|endoftext|>", "<|padding|>"
START, MASK = "<|start|>", "<|mask|>"
"""Of a bert: before each text, and in place of a hidden token."""
SENTINELS = [f"<extra_id_{number}>" for number in range(100)]
"""Of a t5: in place of the spans that it is to write out."""
ROLES = [f"<|{role}|>" for role in ("system", "developer", "user", "assistant", "tool")]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + (message['content'] or '') + '"
    + EOS
    + "' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""Each message between a token for its role and the end-of-sequence token, so that generation stops after one turn."""


def train_tokenizer(texts: Iterable[str], spec: NewModel, chat: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer (Sennrich et al. 2016, arXiv:1508.07909), learnt from the training texts.

    Digits are tokens of their own, so that numbers are read digit by digit.

    Args:
        texts: what to learn from.
        spec: the architecture, which decides the special tokens, and the size of the vocabulary.
        chat: whether it gets a chat template, and tokens for the roles.

    Raises:
        InputError: the vocabulary has no room for bytes and special tokens.
    """
    own = {"bert": [START, MASK], "t5": SENTINELS, "llama": ROLES if chat else []}[spec.architecture]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special, size = [EOS, PAD, *own], spec.tokenizer.vocabulary_size
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if size < len(special) + len(alphabet):
        message = f"should be at least {len(special) + len(alphabet)}: bytes and {len(special)} special tokens"
        raise InputError(Problem(message, "spec.model.config.tokenizer.vocabularySize"))
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = _frame(spec, tokenizer)
    trained = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=PAD,
        **({"cls_token": START, "sep_token": EOS, "mask_token": MASK} if spec.architecture == "bert" else {}),
        extra_special_tokens=[token for token in own if token not in (START, MASK)],
        model_max_length=spec.context_length,
        clean_up_tokenization_spaces=False,
    )
    if chat:
        trained.chat_template = CHAT_TEMPLATE
    return trained


def _frame(spec: NewModel, tokenizer: Tokenizer) -> processors.PostProcessor:
    """What stands around a text: of a bert, a token that can stand for all of it, and its end; of a t5, its end."""
    end = (EOS, tokenizer.token_to_id(EOS))
    match spec.architecture:
        case "bert":
            start = (START, tokenizer.token_to_id(START))
            return processors.TemplateProcessing(single=f"{START} $A {EOS}", special_tokens=[start, end])
        case "t5":
            return processors.TemplateProcessing(single=f"$A {EOS}", special_tokens=[end])
        case _:
            return processors.ByteLevel(trim_offsets=False)
