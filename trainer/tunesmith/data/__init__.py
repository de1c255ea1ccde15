"""Rows to batches: reading, encoding, splitting, and the plan of which worker computes which rows when."""
