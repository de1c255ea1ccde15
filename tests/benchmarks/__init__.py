"""Measurements; each is a script that compares alternately and reports ratios."""
