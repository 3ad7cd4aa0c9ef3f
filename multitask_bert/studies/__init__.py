"""Studies: the seeds of a verification, and the reproduction of a run."""
