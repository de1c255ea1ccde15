"""TRL's PPOTrainer on a problem of `ppo_problem.py`, in a process of its own that works only when it is asked to.

    python -m tests.benchmarks.ppo_trl curves FOLDER [--steps 40] [--seeds 0 1 2]

writes the problem of the digits to FOLDER/ends and FOLDER/limit, and TRL's figures of each step and seed to `trl.json`
in each. A benchmark uses `Trl`, and lets it work alternately with what it is compared with.

TRL removed PPO after 1.12.0, which works with the libraries that Tunesmith pins: it is put in a folder of its own, in
front of the newer TRL that `sft.py` measures. What TRL does differently is in the docstring of `Step`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, NoReturn

from tests.benchmarks.asked import ROOT, Asked
from tests.benchmarks.ppo_problem import DIGITS_LIMIT, Problem, Settings, write_digits

VERSION = "1.12.0"
CURVES = Settings("", epochs=4, mini_batches=4, max_new_tokens=DIGITS_LIMIT, learning_rate=3e-4, batch_size=64)
MIB = 1024
"""Of the KiB in which Linux counts resident sets."""


@dataclass(frozen=True)
class Step:
    """A step of PPO: batch_size answers, and the updates of the weights from them.

    Where an answer ends by itself, TRL gives its score to the position after its end, whose value it learns too; where
    it runs into the limit, to its last token. It whitens with a variance over n - 1, does not clip gradients, gives
    policy and value function one learning rate, and means its losses over the tokens of a mini-batch.
    """

    episodes: int
    """Answers so far."""
    seconds: float
    cpu_seconds: float
    """Of all threads."""
    kl: float
    """Mean over answers of the sum over tokens of log(policy / reference), before the updates; nats."""
    entropy: float
    """Mean over all positions, those after an answer's end among them, and over the updates; nats a token."""
    surprisal: float
    """Mean over answers of -log of their probability, before the updates; nats. With answers of one length, this by
    that length is an estimate of the entropy."""
    clip_fraction: float
    """Of tokens whose ratio was clipped, over all updates."""
    value_clip_fraction: float
    policy_loss: float
    value_loss: float
    """With its half, before value_coefficient."""
    score: float
    """The reward model's, mean over answers."""
    reward: float
    """The score less kl_coefficient times the KL."""
    ratio: float
    """Mean of policy / old policy over positions and updates."""
    ended: int
    """How many end tokens were written."""
    base_mib: float
    """Peak of the resident set before the models were loaded."""
    peak_mib: float
    """And up to now."""


def install(folder: Path = ROOT / "build" / f"trl-{VERSION}") -> Path:
    """The folder that holds TRL alone; what it stands on is what this process stands on. Needs the network once."""
    if not (folder / "trl").is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--target", str(folder), f"trl=={VERSION}"], check=True)
    return folder


class Trl(Asked):
    """TRL's process."""

    def __init__(self, settings: Settings) -> None:
        paths = [str(install()), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {"PYTHONPATH": os.pathsep.join(paths), "TRL_EXPERIMENTAL_SILENCE": "1"}
        super().__init__("tests.benchmarks.ppo_trl", "serve", json.dumps(asdict(settings)), environment=environment)


def serve(settings: Settings, out: IO[str]) -> NoReturn:
    """The other process: a line when it stands ready, and a line for each step that it is asked for."""
    import resource
    import time

    import datasets
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB

    base = peak()

    class Gate(TrainerCallback):  # type: ignore[misc]  # a base of type Any
        """Lets the trainer through when it is asked to."""

        left = 0
        begun = cpu = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            print(json.dumps({"ready": True}), file=out, flush=True)
            self._wait()

        def on_log(self, _arguments: Any, _state: Any, _control: Any, logs: dict[str, float], **_rest: Any) -> None:
            self.logs = logs

        def on_step_end(self, *_: Any, **__: Any) -> None:
            now, cpu = time.perf_counter(), time.process_time()
            logs = self.logs
            step = Step(
                episodes=int(logs["episode"]),
                seconds=now - self.begun,
                cpu_seconds=cpu - self.cpu,
                kl=logs["objective/kl"],
                entropy=logs["policy/entropy_avg"],
                surprisal=logs["objective/entropy"],
                clip_fraction=logs["policy/clipfrac_avg"],
                value_clip_fraction=logs["val/clipfrac_avg"],
                policy_loss=logs["loss/policy_avg"],
                value_loss=logs["loss/value_avg"],
                score=logs["objective/scores"],
                reward=logs["objective/rlhf_reward"],
                ratio=logs["val/ratio"],
                ended=int(logs["val/num_eos_tokens"]),
                base_mib=base,
                peak_mib=peak(),
            )
            print(json.dumps(asdict(step)), file=out, flush=True)
            self.begun, self.cpu = now, cpu
            self.left -= 1
            if self.left == 0:
                self._wait()

        def _wait(self) -> None:
            line = sys.stdin.readline()
            if not line:
                raise SystemExit(0)
            self.left = int(line)
            self.begun, self.cpu = time.perf_counter(), time.process_time()

    problem = Problem(Path(settings.problem))
    tokenizer = AutoTokenizer.from_pretrained(problem.policy)
    prompts = [json.loads(line)["prompt"] for line in problem.prompts.read_text(encoding="utf-8").splitlines()]
    rows = datasets.Dataset.from_list([{"input_ids": tokenizer(prompt)["input_ids"]} for prompt in prompts])
    with tempfile.TemporaryDirectory() as folder:
        config = PPOConfig(
            output_dir=folder,
            total_episodes=settings.batch_size * 1_000_000,
            # so that each mini-batch is an update: with accumulation TRL updates once for several of them
            per_device_train_batch_size=settings.batch_size,
            gradient_accumulation_steps=1,
            local_rollout_forward_batch_size=settings.batch_size,
            num_mini_batches=settings.mini_batches,
            num_ppo_epochs=settings.epochs,
            response_length=settings.max_new_tokens,
            stop_token="eos",
            temperature=settings.temperature,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="constant",
            kl_coef=settings.kl_coefficient,
            cliprange=settings.clip_range,
            cliprange_value=settings.value_clip_range,
            vf_coef=settings.value_coefficient,
            gamma=settings.discount,
            lam=settings.gae_lambda,
            seed=settings.seed,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=not torch.cuda.is_available(),
            num_sample_generations=0,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = PPOTrainer(
            args=config,
            processing_class=tokenizer,
            model=AutoModelForCausalLM.from_pretrained(problem.policy, dtype=torch.float32),
            ref_model=AutoModelForCausalLM.from_pretrained(problem.policy, dtype=torch.float32),
            reward_model=AutoModelForSequenceClassification.from_pretrained(problem.reward, dtype=torch.float32),
            value_model=AutoModelForSequenceClassification.from_pretrained(problem.reward, dtype=torch.float32),
            train_dataset=rows,
            callbacks=[Gate()],
        )
        trainer.train()
    raise SystemExit("a million steps were taken")


def curves(folder: Path, steps: int, seeds: list[int]) -> None:
    """TRL's figures on both problems of the digits. What has been recorded is not recorded again."""
    problems = [write_digits(folder / name, ends=name == "ends") for name in ("ends", "limit")]
    for seed in seeds:
        for problem in problems:
            name, file = problem.folder.name, problem.folder / "trl.json"
            body = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"steps": {}}
            if str(seed) in body["steps"]:
                continue
            settings = replace(CURVES, problem=str(problem.folder), seed=seed)
            with Trl(settings) as trl:
                found = trl.go(steps)
            body = {"trl": VERSION, "settings": asdict(replace(CURVES, problem=name)), **body}
            body["steps"][str(seed)] = found
            file.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
            first, last = found[0], found[-1]
            print(
                f"{name}, seed {seed}: score {first['score']:.3f} -> {last['score']:.3f}, KL {last['kl']:.3f}",
                flush=True,
            )


def main() -> None:
    """Writes TRL's curves, or is the process of `Trl`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    record = commands.add_parser("curves")
    record.add_argument("folder", type=Path)
    record.add_argument("--steps", type=int, default=40)
    record.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    commands.add_parser("serve").add_argument("settings", type=json.loads)
    arguments = parser.parse_args()
    if arguments.command == "serve":
        out = sys.stdout
        with redirect_stdout(sys.stderr):  # TRL prints too
            serve(Settings(**arguments.settings), out)
    curves(arguments.folder, arguments.steps, arguments.seeds)


if __name__ == "__main__":
    main()
