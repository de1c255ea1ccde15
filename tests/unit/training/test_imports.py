"""What a training imports before its first step, which a user waits for."""

import subprocess
import sys

import pytest


@pytest.mark.model
def test_a_training_does_not_wait_for_libraries_that_it_may_not_need() -> None:
    code = "import sys, tunesmith.training.worker; print(*sys.modules)"
    imported = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert {"torch", "transformers"} <= set(imported)
    rare = {"bert_score", "bitsandbytes", "datasets", "deepspeed", "evaluate", "matplotlib", "mlflow", "nltk", "ray"}
    assert not rare & set(imported)
