"""Tests of tunesmith.api."""
