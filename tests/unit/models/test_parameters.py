"""How many weights are trained, as the run's log and data.json say it."""

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from tunesmith.models.parameters import ParameterCount, count_parameters


def test_a_layer_of_4096_by_4096_at_rank_8() -> None:
    with torch.device("meta"):
        model = get_peft_model(
            nn.Sequential(nn.Linear(4096, 4096, bias=False)), LoraConfig(r=8, target_modules="all-linear")
        )
        count = count_parameters(model)
    assert count == ParameterCount(trained=65_536, total=16_777_216)
    assert str(count) == "65,536 trainable parameters of 16,777,216, 99.61% fewer"


def test_all_weights() -> None:
    count = count_parameters(nn.Linear(3, 2))
    assert count == ParameterCount(trained=8, total=8)
    assert str(count) == "8 trainable parameters of 8"
