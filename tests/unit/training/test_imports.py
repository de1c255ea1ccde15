"""What a training imports, which a user waits for."""

import subprocess
import sys
from pathlib import Path

import pytest

RARE = {"bert_score", "bitsandbytes", "datasets", "deepspeed", "evaluate", "matplotlib", "mlflow", "nltk", "ray"}
SAVES = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
from tunesmith.models.save import save_bare
sizes = dict(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
model = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=True))
save_bare(model, Path("bare"))
print(*sys.modules)
model.save_pretrained("usual")
"""

pytestmark = pytest.mark.model


def imported(code: str, folder: Path) -> set[str]:
    """The modules that a program prints."""
    command = [sys.executable, "-c", f"import sys\n{code}"]
    return set(subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.split())


def test_a_training_does_not_wait_for_libraries_that_it_may_not_need(tmp_path: Path) -> None:
    modules = imported("import tunesmith.training.worker; print(*sys.modules)", tmp_path)
    assert {"torch", "transformers"} <= modules
    assert not RARE & modules


def test_nor_does_saving_a_model_which_leaves_the_same_files(tmp_path: Path) -> None:
    assert not RARE & imported(SAVES, tmp_path)
    usual = {file.name: file.read_bytes() for file in (tmp_path / "usual").iterdir()}
    assert {file.name: file.read_bytes() for file in (tmp_path / "bare").iterdir()} == usual
    assert "model.safetensors" in usual
