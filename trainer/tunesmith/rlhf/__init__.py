"""Learning from rewards: proximal policy optimisation."""
