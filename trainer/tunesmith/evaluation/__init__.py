"""Metrics of a trained model, with intervals, beside its base."""
