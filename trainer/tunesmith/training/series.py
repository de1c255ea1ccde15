"""The trainer's metrics, declared once: what serves them and the table of all metrics are made from this."""

from tunesmith.api.series import Series

_RUN = (
    Series("tunesmith_training_steps_total", "counter", "Finished optimizer steps."),
    Series("tunesmith_training_steps_planned", "gauge", "Optimizer steps of the whole run."),
    Series(
        "tunesmith_training_skipped_steps_total",
        "counter",
        "Steps whose loss or gradient was not finite; what fp16's loss scaling repeats is not among them.",
    ),
    Series("tunesmith_training_tokens_total", "counter", "Real tokens seen, padding excluded."),
    Series("tunesmith_training_samples_total", "counter", "Training rows seen."),
    Series(
        "tunesmith_training_loss",
        "gauge",
        "Mean loss per learned token of the last step, in nats; NaN where it was not finite.",
    ),
    Series(
        "tunesmith_training_validation_loss", "gauge", "Mean loss per learned token on the validation rows, in nats."
    ),
    Series("tunesmith_training_learning_rate", "gauge", "Learning rate of the last step."),
    Series("tunesmith_training_gradient_norm", "gauge", "Global norm of the last step's gradient, before clipping."),
    Series("tunesmith_training_last_step_timestamp_seconds", "gauge", "When the last step was finished, in Unix time."),
)
_SPEED = (
    Series(
        "tunesmith_training_tokens_per_second",
        "gauge",
        "Real tokens of the last step by its time, without validation and checkpoint.",
    ),
    Series("tunesmith_training_step_duration_seconds", "histogram", "Time of an optimizer step, validation included."),
    Series(
        "tunesmith_training_phase_seconds_total",
        "counter",
        "Time of the first worker by what it was spent on: data, forward, backward, optimizer, validation, checkpoint, "
        "other; of PPO also answer and score.",
        ("phase",),
    ),
    Series(
        "tunesmith_training_model_flops_total",
        "counter",
        "Floating-point operations that the model's steps need, over all workers; what is computed a second time to "
        "save memory is not among them.",
    ),
    Series(
        "tunesmith_training_model_flop_utilization_ratio",
        "gauge",
        "Model FLOPs of the last step by its time, as a share of the peak of all workers' devices.",
    ),
    Series(
        "tunesmith_training_peak_flops_per_second",
        "gauge",
        "Peak of all workers' devices in the run's precision: the maker's figure for a known GPU, else what a large "
        "matrix product reached at the start.",
    ),
)
_MEMORY = (
    Series(
        "tunesmith_training_peak_memory_bytes",
        "gauge",
        "Highest memory of the first worker so far: of its GPU where it has one, else resident.",
    ),
    Series(
        "tunesmith_training_memory_allocated_bytes",
        "gauge",
        "Memory of the tensors on the first worker's GPU.",
    ),
    Series(
        "tunesmith_training_memory_reserved_bytes",
        "gauge",
        "Memory that PyTorch holds on the first worker's GPU, in use or not.",
    ),
)
_STORAGE = (
    Series("tunesmith_training_checkpoints_total", "counter", "Checkpoints that were written."),
    Series("tunesmith_training_checkpoint_failures_total", "counter", "Checkpoints that could not be written."),
    Series("tunesmith_training_checkpoint_bytes", "gauge", "Size of the last checkpoint."),
    Series(
        "tunesmith_training_checkpoint_duration_seconds",
        "gauge",
        "Time of the last checkpoint: gathering the state, writing, digests.",
    ),
    Series(
        "tunesmith_training_last_checkpoint_timestamp_seconds",
        "gauge",
        "When the last checkpoint was finished, in Unix time.",
    ),
    Series("tunesmith_training_storage_free_bytes", "gauge", "What is free in the file system of the run's folder."),
    Series("tunesmith_training_storage_size_bytes", "gauge", "Size of the file system of the run's folder."),
)
_REWARD = (
    Series("tunesmith_reward_accuracy_ratio", "gauge", "Share of the last step's pairs that are in the right order."),
    Series("tunesmith_reward_margin", "gauge", "How much higher preferred answers score, mean of the last step."),
    Series(
        "tunesmith_reward_validation_accuracy_ratio",
        "gauge",
        "Share of the validation pairs that are in the right order.",
    ),
    Series(
        "tunesmith_reward_validation_margin",
        "gauge",
        "How much higher preferred answers score, mean of the validation pairs.",
    ),
)
_PPO = (
    Series("tunesmith_ppo_reward", "gauge", "Mean reward of the last step's answers."),
    Series("tunesmith_ppo_reward_deviation", "gauge", "Standard deviation of the last step's rewards."),
    Series("tunesmith_ppo_reward_low", "gauge", "The reward that a tenth of the last step's answers stay below."),
    Series("tunesmith_ppo_reward_high", "gauge", "The reward that a tenth of the last step's answers exceed."),
    Series(
        "tunesmith_ppo_reward_term",
        "gauge",
        "Mean of what a term of the reward gives the last step's answers, before its weight.",
        ("term",),
    ),
    Series("tunesmith_ppo_validation_reward", "gauge", "Mean reward of one answer to each validation prompt."),
    Series("tunesmith_ppo_objective", "gauge", "Mean reward, less what the divergence costs."),
    Series("tunesmith_ppo_divergence_nats", "gauge", "Mean divergence of an answer from the starting model, in nats."),
    Series("tunesmith_ppo_kl_coefficient", "gauge", "What a nat of divergence costs, in units of the reward."),
    Series("tunesmith_ppo_entropy_nats", "gauge", "Mean entropy of the policy at an answered token, in nats."),
    Series(
        "tunesmith_ppo_explained_variance_ratio",
        "gauge",
        "Share of the returns' variance that the value function foresees; below 0 it is worse than a constant.",
    ),
    Series("tunesmith_ppo_answer_tokens", "gauge", "Mean length of the last step's answers, in tokens."),
    Series("tunesmith_ppo_ended_ratio", "gauge", "Share of the last step's answers that have an end."),
    Series("tunesmith_ppo_policy_loss", "gauge", "Mean clipped surrogate of the last step's tokens, negated."),
    Series("tunesmith_ppo_value_loss", "gauge", "Half the mean squared error of the values, clipped."),
    Series("tunesmith_ppo_clipped_ratio", "gauge", "Share of the tokens that clipping held back."),
    Series("tunesmith_ppo_answers_per_second", "gauge", "Answers of the last step by its time."),
    Series("tunesmith_ppo_collecting_ratio", "gauge", "Share of the last step's time that answering and scoring took."),
)
SERIES: tuple[Series, ...] = (*_RUN, *_SPEED, *_MEMORY, *_STORAGE, *_REWARD, *_PPO)
"""Those of reward models and of PPO are served by runs that have them; memory allocated and reserved, on GPUs only."""

COLUMNS = {
    "loss": "tunesmith_training_loss",
    "validation/loss": "tunesmith_training_validation_loss",
    "learning_rate": "tunesmith_training_learning_rate",
    "gradient_norm": "tunesmith_training_gradient_norm",
    "tokens_per_second": "tunesmith_training_tokens_per_second",
    "peak_memory_bytes": "tunesmith_training_peak_memory_bytes",
    "model_flop_utilization": "tunesmith_training_model_flop_utilization_ratio",
    "train/reward/accuracy": "tunesmith_reward_accuracy_ratio",
    "train/reward/margin": "tunesmith_reward_margin",
    "reward/accuracy": "tunesmith_reward_validation_accuracy_ratio",
    "reward/margin": "tunesmith_reward_validation_margin",
    "ppo/reward": "tunesmith_ppo_reward",
    "ppo/reward_deviation": "tunesmith_ppo_reward_deviation",
    "ppo/reward_p10": "tunesmith_ppo_reward_low",
    "ppo/reward_p90": "tunesmith_ppo_reward_high",
    "validation/reward": "tunesmith_ppo_validation_reward",
    "ppo/objective": "tunesmith_ppo_objective",
    "ppo/kl": "tunesmith_ppo_divergence_nats",
    "ppo/kl_coefficient": "tunesmith_ppo_kl_coefficient",
    "ppo/entropy": "tunesmith_ppo_entropy_nats",
    "ppo/explained_variance": "tunesmith_ppo_explained_variance_ratio",
    "ppo/answer_tokens": "tunesmith_ppo_answer_tokens",
    "ppo/ended": "tunesmith_ppo_ended_ratio",
    "ppo/policy_loss": "tunesmith_ppo_policy_loss",
    "ppo/value_loss": "tunesmith_ppo_value_loss",
    "ppo/clip_fraction": "tunesmith_ppo_clipped_ratio",
    "ppo/answers_per_second": "tunesmith_ppo_answers_per_second",
    "ppo/collecting_share": "tunesmith_ppo_collecting_ratio",
}
"""Gauges by the column of metrics.jsonl that they show."""
