"""The loss of preferences beside what the papers say, written a second time; and what centring makes of scores."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tunesmith.data.collate import Batch
from tunesmith.training.centring import centring_of, draw_prompts
from tunesmith.training.pair_loss import FIGURES, pair_loss, preference_losses

Floats = NDArray[np.float64]


def from_the_paper(chosen: Floats, rejected: Floats, margins: Floats) -> Floats:
    """-log sigmoid(r(x, y_c) - r(x, y_r) - m(r)): equation 2 of arXiv:2307.09288; without m, 1 of arXiv:2203.02155."""
    losses: Floats = -np.log(1 / (1 + np.exp(-(chosen - rejected - margins))))
    return losses


def random_scores() -> tuple[Floats, Floats, Floats]:
    draw = np.random.default_rng(0)
    return draw.normal(0, 5, 1000), draw.normal(0, 5, 1000), draw.uniform(0, 3, 1000)


def test_the_loss_is_that_of_the_papers() -> None:
    chosen, rejected, margins = random_scores()
    mine = preference_losses(*(torch.from_numpy(part) for part in (chosen, rejected, margins)))
    np.testing.assert_allclose(mine.numpy(), from_the_paper(chosen, rejected, margins), rtol=1e-6)
    assert from_the_paper(chosen, rejected, 0 * margins).mean() < mine.mean()


def test_scores_far_apart_have_a_finite_loss() -> None:
    far, zero = torch.tensor([1e4, -1e4]), torch.zeros(2)
    assert preference_losses(far, zero, zero).tolist() == [0, 1e4]


class Told(nn.Module):
    """A reward model that says what it is told."""

    def __init__(self, scores: Floats) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.from_numpy(scores))

    def forward(self, **batch: Tensor) -> Tensor:
        return self.scores[: int(batch["keep"].sum())]


def batch_of(margins: Floats) -> Batch:
    ids = torch.zeros(2 * len(margins), 1, dtype=torch.long)
    keep = torch.ones_like(ids).bool()
    margin = torch.from_numpy(margins).float()
    return Batch(ids, ids, keep, torch.zeros(0, dtype=torch.long), None, 2 * len(margins), margins=margin)


@pytest.mark.parametrize("factor", [0.0, 0.5])
def test_a_batch_sums_its_pairs(factor: float) -> None:
    chosen, rejected, margins = random_scores()
    chosen[:10] = rejected[:10]
    model = Told(np.stack([chosen, rejected], axis=1).ravel())
    loss, *figures = pair_loss(model, batch_of(margins), factor).detach()
    ahead = chosen - rejected
    assert float(loss) == pytest.approx(from_the_paper(chosen, rejected, factor * margins).sum(), rel=1e-6)
    assert dict(zip(FIGURES, map(float, figures), strict=True)) == {
        "reward/accuracy": pytest.approx((ahead > 0).sum() + 5),
        "reward/margin": pytest.approx(ahead.sum(), rel=1e-5),
    }


def test_a_batch_without_pairs_has_gradients_all_the_same() -> None:
    """So that a worker without rows takes part in the exchange of gradients."""
    model = Told(np.ones(4))
    sums = pair_loss(model, batch_of(np.zeros(0)), 1.0)
    assert sums.tolist() == [0, 0, 0]
    sums[0].backward()  # type: ignore[no-untyped-call]
    assert model.scores.grad is not None
    assert not model.scores.grad.any()


def test_centred_scores_have_mean_0_and_variance_1() -> None:
    scores = torch.from_numpy(np.random.default_rng(0).normal(7, 3, 256))
    centring = centring_of(scores)
    centred = centring.of(scores)
    assert float(centred.mean()) == pytest.approx(0, abs=1e-12)
    assert float(centred.var(correction=0)) == pytest.approx(1)
    assert centring.answers == 256
    assert (centring.mean, centring.std) == (float(scores.mean()), float(scores.std(correction=0)))


def test_scores_that_are_all_the_same_are_only_shifted() -> None:
    centring = centring_of(torch.full((9,), 4.0, dtype=torch.float64))
    assert (centring.gain, centring.bias) == (1, -4)


def test_prompts_are_drawn_by_what_they_are() -> None:
    """Neither their order nor how often one stands in the data changes the choice; the first ones are not preferred."""
    prompts = [f"prompt {number}" for number in range(100)]
    drawn = draw_prompts(prompts, 10)
    assert len(set(drawn)) == 10
    assert set(drawn) != set(prompts[:10])
    assert draw_prompts(prompts[::-1] * 2, 10) == drawn
    assert set(draw_prompts(prompts, 1000)) == set(prompts)
