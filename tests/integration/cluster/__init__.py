"""The commands that look at a cluster."""
