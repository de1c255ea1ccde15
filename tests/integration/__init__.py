"""Tests against a real API server, its controllers and the real KubeRay operator; no node, so no pod ever runs."""
