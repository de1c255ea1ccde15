"""Shows runs in experiment trackers: follows a run's folder, from a process beside the run."""
