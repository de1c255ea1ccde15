"""Tests that train: tiny models, the real entry points, every worker a process of its own."""
