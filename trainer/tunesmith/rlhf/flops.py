"""How many floating-point operations a step of PPO needs."""

from dataclasses import dataclass

from tunesmith.data.tokenized import TokenizedRows
from tunesmith.rlhf.build import Cast
from tunesmith.rlhf.roles import Player
from tunesmith.training.flops import ModelFlops


@dataclass(frozen=True)
class PolicyFlops:
    """Of all roles."""

    policy: ModelFlops
    value: ModelFlops | None
    """None where it is a head on the policy."""
    others: tuple[ModelFlops, ...]
    """The reference and the reward models, which do not learn."""

    @classmethod
    def of(cls, cast: Cast) -> "PolicyFlops":
        """Counts models that are not wrapped yet."""
        players = cast.roles.players
        judges = [_of(player, False) for player in cast.judges.values()]
        value = None if "both" in players else _of(players["value"], False)
        return cls(_of(players["policy"], True), value, (_of(players["reference"], True), *judges))

    def step(self, texts: TokenizedRows, epochs: int) -> float:
        """The operations of a step over all workers.

        To write an answer takes what it takes to read prompt and answer once: with a cache, each token passes once.

        Args:
            texts: prompts with answers, which are what is learned.
            epochs: how often the step learns from each.
        """
        lengths, learned = texts.lengths.tolist(), int(texts.targets.sum())
        learners = [self.policy] if self.value is None else [self.policy, self.value]
        readers = (self.policy, *learners, *self.others)  # the policy writes, and is asked what it thinks of it
        collecting = sum(model.rows(lengths, learned, training=False) for model in readers)
        return collecting + epochs * sum(model.rows(lengths, learned, training=True) for model in learners)


def _of(player: Player, head: bool) -> ModelFlops:
    adapter = None if player.switch is None else player.adapter or ""
    return ModelFlops.of(player.model, adapter, head)
