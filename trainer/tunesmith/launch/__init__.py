"""Starts the workers of a run and decides what follows a failure."""
