"""Names of metrics that are about one label: `recall_of_oos`, `accuracy_without_oos`. Imports nothing heavy."""

from __future__ import annotations

ERRORS = ("mse", "mae")  # lower is better
OF, WITHOUT = "_of_", "accuracy_without_"
MEASURES_OF_LABEL = ("f1", "precision", "recall")
SHOWN = (*(f"{measure}{OF}<label>" for measure in MEASURES_OF_LABEL), f"{WITHOUT}<label>")


def measure_of_label(metric: str) -> tuple[str, str] | None:
    """`recall_of_oos` -> `("recall", "oos")`; None for other names."""
    measure, of, label = metric.partition(OF)
    return (measure, label) if of and label and measure in MEASURES_OF_LABEL else None


def label_left_out(metric: str) -> str | None:
    """`accuracy_without_oos` -> `oos`; None for other names."""
    return metric.removeprefix(WITHOUT) or None if metric.startswith(WITHOUT) else None


def is_about_label(key: str) -> bool:
    """Whether a score's key, as `eval_<task>_<head>_f1_of_<label>`, ends in a metric about one label."""
    return any(f"_{measure}{OF}" in key for measure in MEASURES_OF_LABEL) or f"_{WITHOUT}" in key


def label_named(metric: str) -> str | None:
    """The label that a metric is about; None where it is about all."""
    of_label = measure_of_label(metric)
    return label_left_out(metric) if of_label is None else of_label[1]
