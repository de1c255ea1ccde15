"""Writes a tuned model in other formats: merged, quantized, or as an ONNX graph; each is checked as it is written."""

from tunesmith.export.load import load_exported

__all__ = ["load_exported"]
