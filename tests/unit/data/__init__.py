"""Tests of tunesmith.data."""
