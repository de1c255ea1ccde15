"""What a person's terminal gets to see: exit codes, and nothing that libraries say about each other."""

import logging
import os
import warnings

from tunesmith.api.outcome import Reason

EXIT_CODES: dict[Reason, int] = {"Succeeded": 0, "InvalidInput": 2, "Interrupted": 130}
"""Every other reason is 1."""


def quiet_libraries() -> None:
    """Keeps the libraries' own bars and notes off the terminal; warnings stay."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.simplefilter("ignore", FutureWarning)  # of one library about another: nothing that a user could mend
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it asks for an optional package of kernels
    for name in ("torch.utils._pytree", "torch.onnx._internal.exporter._registration"):  # of torchao and torchvision
        logging.getLogger(name).setLevel(logging.ERROR)
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)  # of our own loggers too: what they note goes to the run's folder
    logging.basicConfig(handlers=[handler], format="%(levelname)s %(message)s")
