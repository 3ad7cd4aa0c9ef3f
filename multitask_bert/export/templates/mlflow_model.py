"""The model of `action=export format=mlflow`, as MLflow loads it: an object whose answers are those of `Predictor`.

MLflow runs this file from the exported folder, with the folder's `code/` in the search path of imports.
"""

from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext

from multitask_bert.errors import InputError
from multitask_bert.inference.predictor import Predictor


class MultiTaskPredictor(PythonModel):  # type: ignore[misc]
    """Texts, or objects as `Predictor.predict` takes them; each comes back with its predictions."""

    def load_context(self, context: PythonModelContext) -> None:
        self.predictor = Predictor.load(context.artifacts["model"], **context.model_config)

    def predict(self, context: PythonModelContext, model_input: list[Any]) -> list[Any]:
        try:
            return list(self.predictor.predict(list(model_input)))
        except InputError as error:  # an MlflowException is answered without a stack trace
            raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from None


set_model(MultiTaskPredictor())
