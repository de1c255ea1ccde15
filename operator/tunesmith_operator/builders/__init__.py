"""Makes Kubernetes objects: pure functions from a run to a dict."""
