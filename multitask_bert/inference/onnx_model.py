"""The model of a run in the form that `action=export format=onnx` (or `onnx_int8`) writes, run by onnxruntime on CPUs.

`Predictor` and evaluation use it in place of the torch model it was made from: same heads, same outputs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoTokenizer

from multitask_bert.errors import InputError
from multitask_bert.model.location import ENCODER_CONFIG
from multitask_bert.model.multitask import DESCRIPTION, MultiTaskModel, heads_of, mean_of_windows
from multitask_bert.records import Batch, HeadOutput
from multitask_bert.utils.files import CHECKSUMS, compare_checksums

GRAPH, SETTINGS = "model.onnx", "onnx.json"
EXPORTS = "export"  # in a run's folder: the folder of what was exported, by format
INSTALL = "pip install 'multitask_bert[onnx]'"


class OnnxModel(MultiTaskModel):
    """A `MultiTaskModel` whose logits a graph computes; its own head modules hold nothing but tuned thresholds."""

    def __init__(self, graph: Path, encoder_config: Any, description: dict[str, Any], buffers: dict[str, Any]) -> None:
        super().__init__(
            _NoEncoder(encoder_config),  # type: ignore[arg-type]
            heads_of(description),
            pooling=description["pooling"],
            max_length=description.get("max_length"),
            input_types=description.get("kinds"),
            window_strides={task: int(n) for task, n in description.get("window_strides", {}).items()},
        )
        for task in self.window_strides:
            for name, head in self.heads[task].items():
                if head.pools_text and head.config.hidden_size is not None:
                    raise InputError(
                        f"{task}.{name}: reads long texts in windows and has an extra layer (hidden_size) after their "
                        f"mean, which the graph has before it; predict with backend=torch"
                    )
        for name, values in buffers.items():
            buffer = self.head_modules.get_buffer(name)
            buffer.copy_(torch.tensor(values, dtype=buffer.dtype))
        self.session = session_of(graph)
        self._inputs = {one.name for one in self.session.get_inputs()}
        self._outputs = [one.name for one in self.session.get_outputs()]

    @classmethod
    def load(cls, folder: str | Path) -> tuple[OnnxModel, Any]:
        """The model and its tokenizer from an exported folder.

        Raises:
            InputError: onnxruntime is not installed, or a file is missing or not as it was written.
        """
        folder = Path(folder)
        try:
            if (folder / CHECKSUMS).is_file():  # not yet, while it is being written
                compare_checksums(folder)
            description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
            shape = json.loads((folder / ENCODER_CONFIG).read_text(encoding="utf-8"))
            settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
            encoder_config = AutoConfig.for_model(shape.pop("model_type"), **shape)
            model = cls(folder / GRAPH, encoder_config, description, settings["buffers"])
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except InputError:
            raise
        except Exception as error:  # onnxruntime has exception types of its own
            raise InputError(f"{folder}: no complete export can be read there ({error}); export it again") from error
        return model, tokenizer

    def forward(self, batch: Batch, *, max_tokens: int | None = None) -> dict[tuple[str, str], HeadOutput]:
        """Logits and losses of every head that has targets in the batch, which is padded and on the CPU.

        The logits of a text in windows are the mean over these, which for a linear head are those of the mean vector.
        """
        assert not batch.blocks, "a graph reads padded batches"
        inputs = {
            "input_ids": batch.input_ids_BS,
            "attention_mask": (batch.sequence_BS >= 0).long(),
            "token_type_ids": batch.token_type_BS,
        }
        found = self.session.run(None, {name: inputs[name].numpy() for name in self._inputs})
        logits = dict(zip(self._outputs, map(torch.from_numpy, found), strict=True))
        outputs = {}
        with _one_thread():
            for (task, name), target in batch.targets.items():
                own, head = logits[name_of(*self.owner_of(task, name))], self.heads[task][name]
                if self.pooling_of(task, name) == "token":
                    logits_ML = own.flatten(0, 1).index_select(0, target.token_M)
                elif batch.first_N is not None and not head.reads_choices:
                    logits_ML = mean_of_windows(own, batch)[target.example_M]
                else:
                    logits_ML = own.index_select(0, target.sequence_M)
                outputs[task, name] = head.loss(logits_ML, target)
        return outputs


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute in one thread: others would wait actively for its next work, on the cores of onnxruntime, and a
    text would take twice as long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _NoEncoder(nn.Module):
    """Stands where a model has its encoder; the graph has the weights."""

    hidden_size = 1

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config


def folder_of_graph(folder: Path) -> Path:
    """The folder with a graph: this one, or that of a run's export.

    Raises:
        InputError: there is none.
    """
    found = next((path for path in (folder, folder / EXPORTS / "onnx") if (path / GRAPH).is_file()), None)
    if found is None:
        raise InputError(
            f"{folder}: there is no {GRAPH}, nor {EXPORTS}/onnx/{GRAPH}; write it: python run.py action=export "
            f"run_dir={folder} format=onnx"
        )
    return found


def session_of(graph: Path) -> Any:
    """onnxruntime's session on the CPU, with as many threads as torch has.

    Raises:
        InputError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"onnxruntime is not installed; {INSTALL}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def name_of(task: str, head: str) -> str:
    """The name of a head's output."""
    return f"{task}/{head}"
