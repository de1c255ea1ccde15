"""How a gradient is clipped: each element to a value, then all of them together to a norm."""

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from tunesmith.training.strategy import clip_gradients

GRADIENTS = [[3.0, -0.5], [-6.0, 0.0, 2.0]]
ANY = 1e9


@pytest.mark.parametrize(
    ("norm", "value", "found", "left"),
    [
        (ANY, None, 7.017834, [[3.0, -0.5], [-6.0, 0.0, 2.0]]),
        (ANY, 2.0, 3.5, [[2.0, -0.5], [-2.0, 0.0, 2.0]]),
        (0.7017834, None, 7.017834, [[0.3, -0.05], [-0.6, 0.0, 0.2]]),
        (0.7, 2.0, 3.5, [[0.4, -0.1], [-0.4, 0.0, 0.4]]),
        (3.6, 2.0, 3.5, [[2.0, -0.5], [-2.0, 0.0, 2.0]]),
    ],
    ids=["neither", "value", "norm", "value and then norm", "a norm that the clipped values keep"],
)
def test_values_are_clipped_before_the_norm(
    norm: float, value: float | None, found: float, left: list[list[float]]
) -> None:
    """Weights that are not trained have no gradient, and stay so."""
    model = nn.ParameterList([torch.zeros(len(gradient)) for gradient in GRADIENTS] + [torch.zeros(1)])
    parameters = list(model.parameters())
    for parameter, gradient in zip(parameters, GRADIENTS, strict=False):
        parameter.grad = torch.tensor(gradient)
    assert clip_gradients(Accelerator(cpu=True), model, norm, value) == pytest.approx(found, rel=1e-6)
    assert parameters[-1].grad is None
    for parameter, expected in zip(parameters, left, strict=False):
        torch.testing.assert_close(parameter.grad, torch.tensor(expected), rtol=1e-5, atol=1e-6)
