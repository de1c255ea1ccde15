"""What a reward model minimises: the negative log-likelihood of the preferences (Bradley & Terry 1952)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from tunesmith.data.collate import Batch
from tunesmith.models.reward import scores_at

FIGURES = ("reward/accuracy", "reward/margin")
"""The share of pairs whose preferred answer scores higher, where equal scores count half, and by how much it does."""


def preference_losses(chosen: Tensor, rejected: Tensor, margins: Tensor) -> Tensor:
    """-log sigmoid(chosen - rejected - margin) (Ouyang et al. 2022, arXiv:2203.02155, equation 1; the margin is that of
    Touvron et al. 2023, arXiv:2307.09288, equation 2).

    Args:
        chosen: scores of the preferred answers; fp32 [pairs].
        rejected: scores of the others; the same shape.
        margins: how far apart they should be at least; the same shape.

    Returns:
        fp32 [pairs], in nats.
    """
    return -logsigmoid(chosen - rejected - margins)


def pair_loss(model: nn.Module, batch: Batch, margin: float) -> Tensor:
    """The sums of the losses and of FIGURES over a batch's pairs.

    Args:
        model: a reward model, wrapped or not.
        batch: of pairs.
        margin: for each unit of the batch's margins.

    Returns:
        fp32 [1 + figures]; zeros without pairs, with gradients all the same.
    """
    assert batch.margins is not None
    chosen, rejected = scores_at(model, batch).view(-1, 2).unbind(1)
    with torch.no_grad():
        ahead = chosen - rejected
        right = (ahead > 0).float() + 0.5 * (ahead == 0)
    losses = preference_losses(chosen, rejected, margin * batch.margins)
    return torch.stack([losses.sum(), right.sum(), ahead.sum()])
