"""Jobs of several processes, run for real over gloo."""
