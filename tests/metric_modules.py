"""Code of somebody else's metric: an `evaluate` module over one value per example; it returns what a test says."""

from __future__ import annotations

CODE = """
import datasets
import evaluate

class Metric(evaluate.Metric):
    def _info(self):
        value = datasets.Value("{kind}")
        features = datasets.Features({{"predictions": value, "references": value}})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        return {returned}
"""


def module_code(kind: str, returned: str) -> str:
    """`kind`: of its values, as `datasets` names it; `returned`: an expression."""
    return CODE.format(kind=kind, returned=returned)
