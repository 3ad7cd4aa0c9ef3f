"""`format=onnx`: encoder and all heads as one ONNX graph, with a script that needs onnxruntime and tokenizers alone."""

from __future__ import annotations

import logging
import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch

from multitask_bert.data.words import word_pattern
from multitask_bert.errors import InputError
from multitask_bert.export.logits import Logits, are_equal, random_inputs
from multitask_bert.heads.calibration import TEMPERATURE
from multitask_bert.inference.onnx_model import GRAPH, SETTINGS, name_of, session_of
from multitask_bert.model.location import ENCODER_CONFIG
from multitask_bert.model.multitask import DESCRIPTION, MultiTaskModel
from multitask_bert.utils.files import write_json

SCRIPT = Path(__file__).parent / "templates" / "predict.py"
OPSET = 20
EXAMPLE_SHAPE = (2, 7)  # of the batch that is traced; both sizes are dynamic


def write_onnx(model: MultiTaskModel, tokenizer: Any, model_folder: Path, folder: Path) -> None:
    """Write the graph, the tokenizer, the settings that predicting needs, and the script that predicts.

    Raises:
        InputError: a head of the user's own code cannot be traced.
    """
    write_graph(model, folder / GRAPH)
    refuse_other_logits(model, folder / GRAPH)
    tokenizer.save_pretrained(folder)
    for name in (DESCRIPTION, ENCODER_CONFIG):
        shutil.copy2(model_folder / name, folder / name)
    write_json(folder / SETTINGS, settings_of(model, tokenizer))
    shutil.copy2(SCRIPT, folder / SCRIPT.name)


def write_graph(model: MultiTaskModel, path: Path) -> None:
    """Trace encoder and heads with dynamic numbers of sequences and tokens; the model is in eval mode afterwards."""
    graph = Logits(model.eval().cpu())
    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens")
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if graph.takes_token_types else [])]
    example_BS = torch.ones(EXAMPLE_SHAPE, dtype=torch.long)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _quiet_exporter()
            torch.onnx.export(
                graph,
                tuple(example_BS.clone() for _ in names),
                str(path),
                input_names=names,
                output_names=[name_of(*owner) for owner in model.owners],
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=tuple({0: batch, 1: tokens} for _ in names),
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"format=onnx: this model cannot be traced as a graph ({first}); try format=hf") from error


@torch.no_grad()
def refuse_other_logits(model: MultiTaskModel, path: Path) -> None:
    """Check that the graph computes for random ids, of other shapes than those traced, what the model does.

    Raises:
        InputError: it does not.
    """
    inputs, session = random_inputs(model), session_of(path)
    found = session.run(None, {one.name: inputs[one.name].numpy() for one in session.get_inputs()})
    for (task, name), ours, theirs in zip(model.owners, Logits(model)(*inputs.values()), found, strict=True):
        if not are_equal(ours, torch.from_numpy(theirs), inputs["attention_mask"]):
            raise InputError(f"format=onnx: the graph computes other logits for {task}.{name}; use format=hf")


def settings_of(model: MultiTaskModel, tokenizer: Any) -> dict[str, Any]:
    """What predicting needs beside the graph: of `predict.py` all, of `OnnxModel` the buffers (tuned thresholds)."""
    heads = {}
    for task, name in model.owners:
        head = model.heads[task][name]
        threshold = getattr(head, "threshold", None)  # of an answer
        heads[name_of(task, name)] = {
            "type": head.config.type,
            "num_texts": 1 if model.input_types.get(task, "text") == "text" else 2,
            "labels": list(head.labels.names),
            "thresholds": getattr(head, "thresholds", None),  # of each label
            "threshold": threshold if threshold is not None and math.isfinite(threshold) else None,
            "range": head.config.range,
            "clip": head.config.clip,
            "max_answer_length": head.config.max_answer_length,
        }
    buffers = {
        name: buffer.tolist()
        for name, buffer in model.head_modules.named_buffers()
        if not name.endswith(f".{TEMPERATURE}")  # the graph's logits are divided by it already
    }
    return {
        "max_length": model.max_length,
        "pad_id": int(tokenizer.pad_token_id or 0),
        "word_pattern": word_pattern().pattern,
        "heads": heads,
        "buffers": buffers,
    }


def _quiet_exporter() -> None:
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
