"""What of a model is trained: `spec.method` as peft makes it."""

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.api.load import InputError, Problem
from tunesmith.api.method import AdaLoraMethod, LoraMethod, Method, PrefixMethod, PTuningMethod
from tunesmith.models.kind import task_type
from tunesmith.models.prompts import make_room_for_prompt
from tunesmith.models.reward import is_reward_model


def add_adapter(model: PreTrainedModel, method: Method, seed: int) -> PreTrainedModel:
    """Freezes a model and adds what the method trains, in fp32.

    LoRA, DoRA and AdaLoRA start as the identity; a prefix and P-tuning do not.

    Raises:
        InputError: the method does not go with the model.
    """
    from peft import get_peft_model, prepare_model_for_kbit_training

    if getattr(model, "is_quantized", False):
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            adapted: PreTrainedModel = get_peft_model(model, _config(method, model), autocast_adapter_dtype=True)
        except ValueError as error:
            raise InputError(_problem(method, error)) from None
    if method.ptuning is not None:
        make_room_for_prompt(adapted)
    return adapted


def add_twin(model: Any, name: str, method: Method, seed: int) -> None:
    """Adds another adapter of the same make beside the one that is there; likewise the identity."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        model.add_adapter(name, _config(method, model.get_base_model()))


def add_copy(model: Any, name: str, config: Any, tensors: dict[str, Tensor]) -> None:
    """Adds an adapter that was trained with another head on the same trunk.

    Args:
        model: carries an adapter already.
        name: of the new one.
        config: peft's, of the one that was trained.
        tensors: its weights, as peft names them.
    """
    from peft import set_peft_model_state_dict

    own = copy.deepcopy(config)
    own.task_type, own.modules_to_save, own.inference_mode = task_type(model.get_base_model()), None, False
    model.add_adapter(name, own)
    set_peft_model_state_dict(model, tensors, adapter_name=name)


def _config(method: Method, model: PreTrainedModel) -> Any:
    """The method in peft's words."""
    task = "SEQ_CLS" if is_reward_model(model) else task_type(model)  # the head is saved beside the adapter
    match method.lora or method.adalora or method.prefix or method.ptuning:
        case LoraMethod() as lora:
            return _lora(lora, task)
        case AdaLoraMethod() as adalora:
            return _adalora(adalora, task)
        case PrefixMethod() as prefix:
            return _prefix(prefix, task, model)
        case PTuningMethod() as ptuning:
            return _ptuning(ptuning, task)
        case _:
            raise ValueError("the method trains the model itself")


def _lora(lora: LoraMethod, task: str | None) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        use_rslora=lora.rank_stabilized,
        use_dora=lora.dora,
        task_type=task,
    )


def _adalora(adalora: AdaLoraMethod, task: str | None) -> Any:
    """peft's settings but for the schedule of the ranks, which `training.ranks` sets once the steps are known."""
    from peft import AdaLoraConfig

    return AdaLoraConfig(
        init_r=adalora.initial_rank,
        target_r=adalora.target_rank,
        lora_alpha=adalora.alpha,
        lora_dropout=adalora.dropout,
        target_modules=adalora.target_modules,
        orth_reg_weight=adalora.orthogonality,
        deltaT=adalora.every_steps,
        total_step=1,
        task_type=task,
    )


def _prefix(prefix: PrefixMethod, task: str | None, model: PreTrainedModel) -> Any:
    from peft import PrefixTuningConfig

    size = getattr(model.config, "d_kv", None)  # T5's heads need not share its width among them, which peft assumes
    return PrefixTuningConfig(
        num_virtual_tokens=prefix.tokens,
        prefix_projection=prefix.projection is not None,
        encoder_hidden_size=prefix.projection,
        token_dim=size * model.config.num_heads if size is not None else None,
        task_type=task,
    )


def _ptuning(ptuning: PTuningMethod, task: str | None) -> Any:
    from peft import PromptEncoderConfig

    return PromptEncoderConfig(
        num_virtual_tokens=ptuning.tokens,
        encoder_reparameterization_type=ptuning.encoder.upper(),
        encoder_hidden_size=ptuning.hidden_size,
        num_transformer_submodules=1,  # of an encoder-decoder, the encoder alone reads the prompt
        task_type=task,
    )


def _problem(method: Method, error: ValueError) -> Problem:
    reason = str(error).strip().splitlines()[0]
    low_rank = method.lora or method.adalora
    if low_rank is None:
        return Problem(f"does not go with this model: {reason}", f"spec.method.{method.chosen}")
    message = f"{low_rank.target_modules!r} matches no layer: {reason}"
    return Problem(message, f"spec.method.{method.chosen}.targetModules")


def merges(method: Method) -> bool:
    """Whether model/ is to hold the adapter merged into its base."""
    low_rank = method.lora or method.adalora
    return low_rank is not None and low_rank.merge
