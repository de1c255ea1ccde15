"""The board of RLHF: its stages, the reward model, and what PPO does to the policy."""

from grafana_foundation_sdk.builders import timeseries

from monitoring.boards.board import Row, choice, of
from monitoring.boards.job_queries import RUN, RUN_NAME
from monitoring.boards.panels import GREEN, ORANGE, RED, Query, Says, graph, number, on_the_right, thin, timeline
from monitoring.boards.queries import IN_NAMESPACE, JOBS, PHASES, phase, pipeline_phase
from monitoring.expressions import gpu_hours

_STAGES = f'tunesmith_job_stage_info{{{IN_NAMESPACE}, pipeline=~"$pipeline"}}'
_PIPELINES = f'kind="RLHFPipeline", {IN_NAMESPACE}, name=~"$pipeline"'
_STAGE = f'{JOBS}, name=~"$name"'
_NO_OPERATOR = "No pipeline: none in the time shown, or the operator is not scraped (podMonitors.enabled)"
_NO_PPO = "No PPO: none in the time shown, or its pods are not scraped (podMonitors.enabled)"
_NO_REWARD = "No reward model: none is trained in the time shown, or its pods are not scraped (podMonitors.enabled)"


def _of(series: str) -> str:
    """A gauge of the trainer, by job."""
    return f"max by (namespace, tunesmith_dev_job) (tunesmith_{series}{{{RUN}}})"


def _with_stage(by_job: str) -> str:
    """Adds the labels pipeline and stage to what is known by namespace and name."""
    stages = f"max by (namespace, name, pipeline, stage) ({_STAGES})"
    return f"({by_job}) * on (namespace, name) group_left (pipeline, stage) {stages}"


def _line(
    title: str, unit: str, bad: str, series: str, least: float | None = 0, most: float | None = None
) -> timeseries.Panel:
    return graph(Says(title, unit, bad, _NO_PPO), Query(_of(series), RUN_NAME), least=least, most=most)


def _now() -> Row:
    return Row(
        "Stages",
        (
            number(
                Says("Pipeline", "none", "Failed is bad; the stage that failed is below.", _NO_OPERATOR),
                Query(pipeline_phase(_PIPELINES), "{{name}}"),
                texts=PHASES,
                width=4,
            ),
            number(
                Says("Progress", "percentunit", "Of all stages; one that stands still is bad.", _NO_OPERATOR),
                Query(f"max by (namespace, name) (tunesmith_job_progress_ratio{{{_PIPELINES}}})", "{{name}}"),
                width=4,
            ),
            number(
                Says("Reward", "none", "Mean of the last step; one that falls is bad.", _NO_PPO),
                Query(_of("ppo_reward"), RUN_NAME),
                width=4,
            ),
            number(
                Says(
                    "Divergence",
                    "none",
                    "Nats from the starting model; tens of nats mean that it games the reward.",
                    _NO_PPO,
                ),
                Query(_of("ppo_divergence_nats"), RUN_NAME),
                steps={15: ORANGE, 40: RED},
                width=4,
            ),
            number(
                Says("Answers that end", "percentunit", "Under 80% is bad: answers run into the limit.", _NO_PPO),
                Query(_of("ppo_ended_ratio"), RUN_NAME),
                steps={0.5: ORANGE, 0.8: GREEN},
                base=RED,
                width=4,
            ),
            number(
                Says("GPU-hours", "h", "Of the time shown, by stage; more than planned is bad.", _NO_OPERATOR),
                Query(
                    _with_stage(f"sum by (namespace, name) ({gpu_hours('$__range', _STAGE)})"), "{{pipeline}} {{stage}}"
                ),
                width=4,
            ),
            timeline(
                Says(
                    "Stages over time",
                    "none",
                    "Red is a stage that failed; orange or yellow for long waits.",
                    _NO_OPERATOR,
                ),
                Query(_with_stage(phase(_STAGE)), "{{pipeline}} {{stage}}"),
                texts=PHASES,
            ),
        ),
    )


def _reward() -> Row:
    return Row(
        "PPO: reward and divergence",
        (
            thin(
                graph(
                    Says(
                        "Reward of answers",
                        "none",
                        "A mean that falls is bad; so is a band that closes early.",
                        _NO_PPO,
                    ),
                    Query(_of("ppo_reward_low"), f"{RUN_NAME} p10"),
                    Query(_of("ppo_reward"), f"{RUN_NAME} mean"),
                    Query(_of("ppo_reward_high"), f"{RUN_NAME} p90"),
                    width=12,
                    least=None,
                ),
                "p10|p90",
            ),
            graph(
                Says(
                    "Reward on validation prompts", "none", "Falling while the training reward rises is bad.", _NO_PPO
                ),
                Query(_of("ppo_validation_reward"), f"{RUN_NAME} validation"),
                Query(_of("ppo_objective"), f"{RUN_NAME} objective"),
                width=12,
                least=None,
            ),
            on_the_right(
                graph(
                    Says(
                        "Divergence and its price",
                        "none",
                        "A divergence that runs away, whatever it costs, is bad.",
                        _NO_PPO,
                    ),
                    Query(_of("ppo_divergence_nats"), f"{RUN_NAME} nats"),
                    Query(_of("ppo_kl_coefficient"), f"{RUN_NAME} coefficient"),
                    width=12,
                ),
                "coefficient",
            ),
            graph(
                Says("Terms of the reward", "none", "A term that rises while the others fall is being gamed.", _NO_PPO),
                Query(
                    f"max by (namespace, tunesmith_dev_job, term) (tunesmith_ppo_reward_term{{{RUN}}})",
                    f"{RUN_NAME} {{{{term}}}}",
                ),
                width=12,
                least=None,
            ),
        ),
    )


def _policy() -> Row:
    return Row(
        "PPO: policy and value function",
        (
            _line("Entropy", "none", "Nats a token; near 0 the policy always says the same.", "ppo_entropy_nats"),
            _line(
                "Clipped tokens", "percentunit", "Over 30% is bad: steps are too large.", "ppo_clipped_ratio", most=1
            ),
            _line(
                "Explained variance",
                "percentunit",
                "Under 0 the value function is worse than a constant.",
                "ppo_explained_variance_ratio",
                least=None,
                most=1,
            ),
            _line("Policy loss", "none", "Far from 0 is bad.", "ppo_policy_loss", least=None),
            _line("Value loss", "none", "A rise is bad: values do not follow the reward.", "ppo_value_loss"),
            _line(
                "Share of time for answers", "percentunit", "Most of the time is usual.", "ppo_collecting_ratio", most=1
            ),
        ),
    )


def _answers() -> Row:
    return Row(
        "PPO: answers",
        (
            _line(
                "Length of answers", "short", "Tokens; a jump up or down often games the reward.", "ppo_answer_tokens"
            ),
            _line(
                "Answers that end",
                "percentunit",
                "A fall is bad: answers run into the limit.",
                "ppo_ended_ratio",
                most=1,
            ),
            _line("Answers a second", "none", "A drop to half is bad.", "ppo_answers_per_second"),
        ),
    )


def _reward_model() -> Row:
    return Row(
        "Reward model",
        (
            graph(
                Says("Pairs in the right order", "percentunit", "Validation near 50% is bad: it guesses.", _NO_REWARD),
                Query(_of("reward_accuracy_ratio"), f"{RUN_NAME} training"),
                Query(_of("reward_validation_accuracy_ratio"), f"{RUN_NAME} validation"),
                width=12,
                most=1,
            ),
            graph(
                Says(
                    "Margin",
                    "none",
                    "How much better answers score; near 0 is bad, and so is one that grows alone.",
                    _NO_REWARD,
                ),
                Query(_of("reward_margin"), f"{RUN_NAME} training"),
                Query(_of("reward_validation_margin"), f"{RUN_NAME} validation"),
                width=12,
                least=None,
            ),
        ),
    )


def board() -> str:
    """The board as JSON."""
    about = "Pipelines of RLHF: the stages, the reward model, and whether PPO raises the reward honestly."
    spaces = "label_values(tunesmith_job_stage_info, namespace)"
    pipelines = f"label_values(tunesmith_job_stage_info{{{IN_NAMESPACE}}}, pipeline)"
    variables = (
        choice("namespace", "Namespace", spaces, "Namespaces that have pipelines."),
        choice("pipeline", "Pipeline", pipelines, "RLHFPipelines of the chosen namespaces."),
        choice("name", "Job", f"label_values({_STAGES}, name)", "The jobs of their stages."),
    )
    rows = (_now(), _reward(), _policy(), _answers(), _reward_model())
    return of("rlhf", "RLHF", about, variables, rows, ("docs/boards.md", "docs/ppo.md", "docs/reward-models.md"))
