"""Tests of tunesmith.training."""
