"""What a run reports while it goes: console, metrics.jsonl, TensorBoard and MLflow."""
