"""What PPO minimises: pure functions of flat tensors with one entry for each answered token."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

_LARGEST_LOG_RATIO = 20.0
"""exp of more would overflow in half precision; such a token is clipped anyway."""


def log_probabilities(logits: Tensor, tokens: Tensor, temperature: float) -> Tensor:
    """How likely some tokens are, at a temperature.

    Args:
        logits: [tokens, vocabulary].
        tokens: the ones that were drawn; int64 [tokens].
        temperature: of the sampling.

    Returns:
        In nats; fp32 [tokens].
    """
    return -cross_entropy(logits.float() / temperature, tokens, reduction="none")


def entropies(logits: Tensor, temperature: float) -> Tensor:
    """How undecided a policy is at each token, at a temperature.

    Args:
        logits: [tokens, vocabulary].
        temperature: of the sampling.

    Returns:
        In nats; fp32 [tokens].
    """
    distribution = torch.log_softmax(logits.float() / temperature, dim=-1)
    return -(distribution.exp() * distribution).sum(dim=-1)


def policy_loss(new: Tensor, old: Tensor, advantages: Tensor, clip_range: float) -> tuple[Tensor, Tensor]:
    """The clipped surrogate, negated (Schulman et al. 2017, arXiv:1707.06347, equation 7).

    Args:
        new: log-probabilities under the policy as it is; [tokens].
        old: under the policy that drew the tokens; [tokens].
        advantages: [tokens].
        clip_range: epsilon.

    Returns:
        The sum over the tokens, and on how many of them clipping holds the gradient back; scalars.
    """
    ratio = (new - old).clamp(-_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO).exp()
    free = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
    return torch.maximum(free, clipped).sum(), (clipped > free).sum()


def value_loss(new: Tensor, old: Tensor, returns: Tensor, clip_range: float) -> Tensor:
    """Half the squared error, clipped as the policy's loss is: what moves further than `clip_range` from the old value
    learns no more.

    Args:
        new: values as they are; [tokens].
        old: values when the tokens were drawn; [tokens].
        returns: what they should be; [tokens].
        clip_range: in units of the reward.

    Returns:
        The sum over the tokens; a scalar.
    """
    held = old + (new - old).clamp(-clip_range, clip_range)
    return 0.5 * torch.maximum((new - returns) ** 2, (held - returns) ** 2).sum()
