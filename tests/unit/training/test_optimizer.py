"""Which weights get which rate, decay and optimizer."""

from typing import Any

import pytest
import torch
from torch import nn

from tunesmith.api.training import TrainingSpec
from tunesmith.training.average import WeightAverage
from tunesmith.training.optimizer import make_optimizer, parameter_groups
from tunesmith.training.state import trained_parameters

RATE = 1e-3


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4, bias=False)
        self.linear = nn.Linear(4, 4, bias=False)


class Model(nn.Module):
    """As transformers names things, with a norm between the last layer and the head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(8, 4)
        self.layers = nn.ModuleList([Layer(), Layer()])
        self.norm = nn.LayerNorm(4, bias=False)
        self.head = nn.Linear(4, 8, bias=False)

    def get_output_embeddings(self) -> nn.Module:
        return self.head


def groups_of(**training: Any) -> dict[str, dict[str, Any]]:
    model = Model()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    spec = TrainingSpec.model_validate({"learningRate": RATE, **training})
    groups = parameter_groups(model, spec)
    found = {names[id(p)]: group for group in groups for p in group["params"]}
    assert found.keys() == set(names.values())
    assert all(group["lr"] == pytest.approx(RATE * group["factor"]) for group in groups)
    return found


def test_all_rates_are_the_same_by_default() -> None:
    assert {group["factor"] for group in groups_of().values()} == {1.0}


def test_each_layer_learns_more_slowly_than_the_one_above() -> None:
    factors = {name: group["factor"] for name, group in groups_of(layerDecay=0.5).items()}
    assert factors == {
        "head.weight": 1.0,
        "norm.weight": 1.0,
        "layers.1.linear.weight": 0.5,
        "layers.1.norm.weight": 0.5,
        "layers.0.linear.weight": 0.25,
        "layers.0.norm.weight": 0.25,
        "embed.weight": 0.125,
    }


def test_embeddings_and_head_have_a_rate_of_their_own() -> None:
    groups = groups_of(layerDecay=0.5, embeddingLearningRate=1e-4)
    rates = {name: group["factor"] * RATE for name, group in groups.items()}
    assert (rates["embed.weight"], rates["head.weight"]) == (pytest.approx(1e-4), pytest.approx(1e-4))
    assert rates["layers.1.linear.weight"] == pytest.approx(0.5 * RATE)


def test_weights_decay_only_in_matrices() -> None:
    decays = {name: group["weight_decay"] for name, group in groups_of(weightDecay=0.1).items()}
    assert {name for name, decay in decays.items() if decay == 0} == {
        "norm.weight",
        "layers.0.norm.weight",
        "layers.1.norm.weight",
    }


def test_muon_is_for_matrices_within_layers() -> None:
    orthogonal = {name for name, group in groups_of().items() if group["orthogonal"]}
    assert orthogonal == {"layers.0.linear.weight", "layers.1.linear.weight"}


def test_an_update_of_muon_is_as_large_as_one_of_adamw() -> None:
    """The root mean square of an update of AdamW is about 0.2 to 0.4 of its rate (Liu et al. 2025)."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(64, 256, bias=False)])})
    (weight,) = model.parameters()
    spec = TrainingSpec.model_validate({"learningRate": RATE, "optimizer": {"muon": {}}})
    optimizer = make_optimizer(model, spec, fused=True)
    before = weight.detach().clone()
    weight.grad = torch.randn_like(weight)
    optimizer.step()
    size = float((weight.detach() - before).square().mean().sqrt())
    assert 0.1 * RATE < size < 0.4 * RATE


def test_an_average_starts_as_a_mean_and_then_forgets() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, 0.5, saved=None)
    seen = []
    for update, value in enumerate((1.0, 3.0, 7.0), 1):
        nn.init.constant_(model.weight, value)
        average.update(update)
        seen.append(average.tensors["weight"].item())
    assert seen == [1.0, 2.0, 4.5], "1, then (1 + 3) / 2, then half of that and half of 7"
    with average.in_place():
        assert model.weight.item() == 4.5
    assert model.weight.item() == 7.0
    saved = {name: tensor.clone() for name, tensor in average.tensors.items()}
    assert dict(trained_parameters(model)).keys() == saved.keys()
    assert torch.equal(WeightAverage(model, 0.5, saved).tensors["weight"], saved["weight"])
