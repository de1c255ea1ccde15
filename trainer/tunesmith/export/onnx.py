"""A model as an ONNX graph: from tokens and their mask to logits, for any number of rows and any length."""

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import slice_logits_to_keep

from tunesmith.api.load import InputError, Problem

FILE = "model.onnx"
TOLERANCE = 1e-3
"""Of the logits, against torch in fp32: absolute, and relative to the largest."""


class DisagreementError(Exception):
    """The graph does not compute what the model does."""


def require_onnx() -> None:
    """Refuses to go on without the packages of the extra.

    Raises:
        InputError: one is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(Problem(f"onnx needs {error.name}: pip install 'tunesmith[export]'", "--to")) from None


class _Logits(nn.Module):
    """The part of a model that becomes the graph."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        more = {} if self.model.config.model_type == "bert" else {"use_cache": False}
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask, **more).logits
        return logits


def write_onnx(model: PreTrainedModel, folder: Path) -> None:
    """Writes model.onnx and its weights, and compares the graph with the model on other shapes than it was made with.

    Args:
        model: a decoder or an encoder, in evaluation mode; turned to fp32.
        folder: where to.

    Raises:
        InputError: an encoder-decoder.
        DisagreementError: the logits differ by more than TOLERANCE.
    """
    if model.config.is_encoder_decoder:
        raise InputError(Problem("onnx takes decoders and encoders; an encoder-decoder is two graphs", "--to"))
    model.set_attn_implementation("eager")  # the graph holds plain operators, which every runtime knows
    whole = _Logits(model.float().cpu()).eval()
    longest = int(getattr(model.config, "max_position_embeddings", 0) or 2048)
    rows, length = torch.export.Dim("rows"), torch.export.Dim("length", max=longest)
    axes = {0: rows, 1: length}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that both inputs have the same axes, as they should
        program = torch.onnx.export(
            whole,
            _example(2, 7, model),
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_shapes={"input_ids": axes, "attention_mask": axes},
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(folder / FILE, external_data=True)
        _compare(whole, OnnxModel(folder), [(1, 1), (3, min(33, longest)), (1, min(256, longest))])


def _example(rows: int, length: int, model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """Tokens and a mask that hides the end of the first row."""
    ids = torch.arange(rows * length).reshape(rows, length) % model.config.vocab_size
    mask = torch.ones_like(ids)
    mask[0, length - length // 3 :] = 0
    return ids, mask


def _compare(whole: _Logits, graph: "OnnxModel", shapes: list[tuple[int, int]]) -> None:
    for rows, length in shapes:
        ids, mask = _example(rows, length, whole.model)
        expected, found = whole(ids, mask), graph(ids, mask).logits
        distance = float((found - expected)[mask.bool()].abs().max())
        if not distance <= TOLERANCE * max(1.0, float(expected.abs().max())):
            raise DisagreementError(f"the ONNX graph's logits are {distance:.2g} off those of torch")


class OnnxModel(nn.Module):
    """An ONNX graph that is called as a model of transformers is, on the CPU."""

    device = torch.device("cpu")

    def __init__(self, folder: Path) -> None:
        super().__init__()
        require_onnx()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(folder / FILE, options, providers=["CPUExecutionProvider"])

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, logits_to_keep: int | Tensor = 0, **_: Any
    ) -> SimpleNamespace:
        """The logits, of all places or of some; without a mask every token is seen."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        (logits,) = self._session.run(None, {"input_ids": input_ids.numpy(), "attention_mask": mask.long().numpy()})
        return SimpleNamespace(logits=slice_logits_to_keep(torch.from_numpy(logits), logits_to_keep))
