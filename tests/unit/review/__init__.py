"""Tests of tunesmith.review."""
