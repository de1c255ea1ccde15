"""vLLM, in a process and a Python of its own, which `rlhf.vllm_client` starts.

    python vllm_server.py '{"folder": ..., "dtype": ..., "max_model_len": ..., "memory_fraction": ...}'

reads requests from its input, a JSON object a line, and answers each with one: a line when it stands ready; `{}` to
`{"renew": true}`, after the weights in the folder were read again; `{"answers": [...]}` to prompts; `{"error": ...}`
where something went wrong. It ends with its input.

This imports vLLM and nothing of Tunesmith's: what vLLM stands on has other versions than what we stand on.
"""

import json
import os
import shutil
import sys
from typing import Any


def start(options: dict[str, Any]) -> Any:
    """The engine, with the weights that are in the folder."""
    from vllm import LLM
    from vllm.platforms import current_platform

    return LLM(
        model=options["folder"],
        skip_tokenizer_init=True,  # it is given tokens, and gives tokens
        generation_config="vllm",  # none of a model's own (top-p, penalties): PPO needs the whole distribution
        dtype=options["dtype"],
        max_model_len=options["max_model_len"],
        gpu_memory_utilization=options["memory_fraction"],
        use_tqdm_on_load=False,
        enable_prefix_caching=False,  # what is cached is of weights that change
        enforce_eager=current_platform.is_cpu(),
    )


def answer(engine: Any, request: dict[str, Any]) -> list[list[int]]:
    """An answer to each prompt."""
    from vllm import SamplingParams

    sampling = [
        SamplingParams(
            temperature=request["temperature"],
            max_tokens=request["max_tokens"],
            stop_token_ids=request["stops"],
            ignore_eos=True,  # the stops say it all
            detokenize=False,
            seed=seed,
        )
        for seed in request["seeds"]
    ]
    prompts = [{"prompt_token_ids": prompt} for prompt in request["prompts"]]
    return [list(each.outputs[0].token_ids) for each in engine.generate(prompts, sampling, use_tqdm=False)]


def main() -> None:
    """Serves until its input ends."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries print
    options = json.loads(sys.argv[1])
    engine = None
    try:
        engine = start(options)
        print("{}", file=out)
        for line in sys.stdin:
            request, reply = json.loads(line), {}
            if "prompts" in request:
                reply = {"answers": answer(engine, request)}
            else:
                engine.collective_rpc("reload_weights", kwargs={"weights_path": options["folder"]})
            print(json.dumps(reply), file=out)
        shutil.rmtree(options["folder"], ignore_errors=True)  # the trainer was killed, or would have ended this
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=out)
        raise


if __name__ == "__main__":
    main()
