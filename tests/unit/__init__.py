"""Quick tests: no model is trained, nothing is downloaded."""
