"""Several runs together, and a run made again."""
