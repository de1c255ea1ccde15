"""Answers drawn by vLLM: each worker runs an engine beside itself, on its own GPU, and gives it the policy's weights.

vLLM pins other releases of PyTorch and transformers than the trainer, so it has a Python of its own
(`TUNESMITH_VLLM_PYTHON`), and weights go to it as files of safetensors.
"""

import copy
import json
import logging
import os
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file
from transformers.core_model_loading import revert_weight_conversion

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.api.ppo import Vllm
from tunesmith.models.folded import folded_weights
from tunesmith.models.start import DTYPES
from tunesmith.rlhf.build import POLICY
from tunesmith.rlhf.roles import Roles, bare_of
from tunesmith.rlhf.rollout import share
from tunesmith.rlhf.sample import Sampling
from tunesmith.training.layout import Layout

log = logging.getLogger(__name__)

PLACE = "spec.objective.ppo.vllm"
PYTHON_VARIABLE = "TUNESMITH_VLLM_PYTHON"
_USUAL_PYTHON = "/opt/vllm/bin/python"
_OF_WORKERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What would make vLLM believe that it is one of our workers."""


class VllmAnswering:
    """An engine, and the policy that it follows.

    Args:
        settings: of the engine.
        spec: of the run: its seed, its precision and its longest row are the engine's too.
        layout: how the prompts of a step are shared out.
        roles: with the policy.
        sampling: how answers are drawn.

    Raises:
        InputError: there is no Python with vLLM, or the engine did not start.
    """

    def __init__(
        self, settings: Vllm, *, spec: FineTuneJobSpec, layout: Layout, roles: Roles, sampling: Sampling
    ) -> None:
        self._seed, self._layout, self._roles, self._sampling = spec.training.seed, layout, roles, sampling
        self._dtype = DTYPES[spec.training.precision]
        python = _python()
        self._folder = Path(tempfile.mkdtemp(prefix="tunesmith-vllm-"))
        self._stale = False
        self._write_policy()
        options = {
            "folder": str(self._folder),
            "dtype": str(self._dtype).removeprefix("torch."),
            "max_model_len": spec.training.max_length,
            "memory_fraction": settings.memory_fraction,
        }
        self._process = _start(python, options)
        self.close = weakref.finalize(self, _end, self._process, self._folder)
        try:
            self._read()
        except RuntimeError as error:
            self.close()
            raise InputError(Problem(f"did not start: {error}", PLACE)) from None
        log.info("vLLM draws the answers, in process %d", self._process.pid)

    def answer(self, prompts: Sequence[Sequence[int]], step: int) -> list[list[int]]:
        """As `Answering.answer`."""
        if self._stale:
            self._write_policy()
            self._ask({"renew": True})
            self._stale = False
        rows = range(self._layout.rank, len(prompts), self._layout.workers)
        request = {
            "prompts": [list(prompts[row]) for row in rows],
            "seeds": [seed_of(self._seed, step + 1, row) for row in rows],
            "max_tokens": self._sampling.max_new_tokens,
            "temperature": self._sampling.temperature,
            "stops": sorted(self._sampling.stops),
        }
        answers = self._ask(request)["answers"] if rows else []
        return share(dict(zip(rows, answers, strict=True)))

    def policy_changed(self) -> None:
        """The engine gets the new weights before it draws again."""
        self._stale = True

    def _write_policy(self) -> None:
        with self._roles.playing("policy") as policy:
            weights, bare = folded_weights(policy, POLICY, self._dtype), bare_of(policy)
        # save_pretrained would do all of this, but on the first worker only
        save_file(revert_weight_conversion(bare, weights), self._folder / "model.safetensors", {"format": "pt"})
        config = copy.deepcopy(bare.config)
        config.architectures = [type(bare).__name__]
        # a head that is tied to the embeddings does not follow them when vLLM reads new weights: it gets its own
        for each in (config, config.get_text_config()):
            each.tie_word_embeddings = False
        config.save_pretrained(self._folder)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it is over, which reading tells
            print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"vLLM's process ended with code {self._process.wait()}; its last words are in the log")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise RuntimeError(f"vLLM: {reply['error']}")
        return reply


def seed_of(seed: int, step: int, row: int) -> int:
    """What decides an answer: a function of the arguments, so that a resumed run draws the same again."""
    return int(np.random.SeedSequence([seed, step, row]).generate_state(1)[0])


def _python() -> str:
    """The one that has vLLM.

    Raises:
        InputError: there is none.
    """
    wanted = os.environ.get(PYTHON_VARIABLE, _USUAL_PYTHON)
    found = shutil.which(wanted)
    if found is None:
        message = f"needs a Python with vLLM, and there is none at {wanted}: use the image tunesmith-trainer-vllm, or "
        raise InputError(Problem(message + f"set {PYTHON_VARIABLE}, or drop it", PLACE))
    return found


def _start(python: str, options: dict[str, Any]) -> "subprocess.Popen[str]":
    command = [python, "-I", "-W", "ignore", str(Path(__file__).with_name("vllm_server.py")), json.dumps(options)]
    given = {k: v for k, v in os.environ.items() if k not in _OF_WORKERS}
    # one process, which ends with its input; no words to anybody outside
    given |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    given |= {"VLLM_LOGGING_LEVEL": "ERROR"}
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=given, start_new_session=True
    )


def _end(process: "subprocess.Popen[str]", folder: Path) -> None:
    assert process.stdin is not None and process.stdout is not None
    process.kill()  # it holds nothing that is worth an orderly end, and an engine takes its time
    process.wait()
    for pipe in (process.stdin, process.stdout):
        pipe.close()
    shutil.rmtree(folder, ignore_errors=True)
