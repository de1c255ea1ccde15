"""Tunesmith: a YAML file in, a fine-tuned and evaluated language model out."""

__version__ = "0.1.0"
