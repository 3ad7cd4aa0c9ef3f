"""MLflow, fed from `metrics.jsonl`."""
