"""Predictor: the predictions of every head of a trained model, with one encoder pass for all heads, in input order.

input -> buffer of inputs -> tokens, by length -> batches -> model -> every head's decode -> JSON
"""

from __future__ import annotations

import itertools
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from multitask_bert.config.schema import BACKENDS, BatchingConfig
from multitask_bert.data.batching import plan_evaluation
from multitask_bert.data.collation import collate
from multitask_bert.errors import InputError
from multitask_bert.heads import Head
from multitask_bert.inference.encoding import encode_as_trained
from multitask_bert.inference.inputs import KEYS, Input, RawInput, is_empty, lacks_text, read_input
from multitask_bert.model.acceleration import AUTOCAST
from multitask_bert.model.devices import pick_device
from multitask_bert.model.families import num_positions
from multitask_bert.model.multitask import DESCRIPTION, MultiTaskModel, logits_by_example
from multitask_bert.records import EncodedExample, Prediction

log = logging.getLogger(__name__)

MAX_BATCHES_AHEAD = 64  # that are read, so that inputs of similar length share a batch
# By `Example.input_type` of a task's training examples: the types of input (see inputs.KEYS) that it reads.
READ_BY = {"text": ("text", "words"), "pair": ("pair",), "choices": ("choices",)}
IF_UNKNOWN = ("text", "words", "pair")  # in model folders from before input types were saved


class Predictor:
    """A model with its tokenizer, on a device. `max_length`: in tokens; None: as the model was trained.

    `precision` of products (fp32, bf16 or fp16): with the run's own `trainer.precision`, scores are exactly the run's.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        tokenizer: Any,
        *,
        device: str = "auto",
        batch_size: int = 64,
        max_tokens: int | None = 4096,
        max_length: int | None = None,
        precision: str = "fp32",
    ) -> None:
        if precision not in AUTOCAST:
            raise InputError(f"precision={precision}: choose one of {', '.join(AUTOCAST)}")
        self.device = pick_device(device)
        self.model = model.to(self.device).eval()
        self.model.autocast = AUTOCAST[precision]
        self.tokenizer, self.batch_size, self.max_tokens = tokenizer, batch_size, max_tokens
        limit = num_positions(model.encoder.config) or BatchingConfig.max_length
        self.max_length = max_length or model.max_length or min(BatchingConfig.max_length, limit)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        device: str = "auto",
        batch_size: int = 64,
        max_tokens: int | None = 4096,
        precision: str = "fp32",
        backend: str = "torch",
    ) -> Predictor:
        """Load the model in the folder of a run, or of a model.

        `backend="onnx"`: what `action=export format=onnx` (or `onnx_int8`) made of it, in the folder of the
        export, or of the run; on the CPU.

        Raises:
            InputError: there is no model, or a damaged one; onnxruntime is not installed; or backend and device
                contradict each other.
        """
        folder = Path(folder)
        if backend not in BACKENDS:
            raise InputError(f"backend={backend}: choose one of {', '.join(BACKENDS)}")
        if backend == "onnx":
            from multitask_bert.inference.onnx_model import OnnxModel, folder_of_graph

            if device not in ("auto", "cpu"):
                raise InputError(
                    f"trainer.device={device}: backend=onnx computes on the CPU; leave it out, or set backend=torch"
                )
            graph, tokenizer = OnnxModel.load(folder_of_graph(folder))
            return cls(graph, tokenizer, device="cpu", batch_size=batch_size, max_tokens=max_tokens)
        found = next((path for path in (folder, folder / "model") if (path / DESCRIPTION).is_file()), None)
        if found is None:
            raise InputError(f"{folder}: neither a run's folder with a model in it, nor a model's folder")
        model, tokenizer = MultiTaskModel.load(found)
        return cls(model, tokenizer, device=device, batch_size=batch_size, max_tokens=max_tokens, precision=precision)

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.model.heads)

    def predict(self, inputs: Iterable[RawInput], tasks: str | Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Yield for every input, in order, a dict of the input and its `predictions`, by task and head.

        `inputs`: several; a single one in a list. `tasks`: names, or one name; None: all. An input is a text, a
        pair of texts, or a dict: `{text}`, `{text, text_pair}`, `{words: [...]}`, `{question, context}` or
        `{text, choices: [...]}`; other keys are returned unchanged. All heads (of `tasks`) that fit an input predict
        for it; for an empty text, none does. `truncated: True` marks a text of which only the first `max_length` tokens
        were read; a task that was trained with windows reads it whole.

        Inputs are read ahead into a buffer, which grows from 1 to 64 batches; no more is kept in memory.

        Raises:
            InputError: one input where several are expected; an unknown task; or, after everything before it has been
                yielded, an input that no head fits.
        """
        if isinstance(inputs, str | bytes | Mapping | Input):
            what = "a dict" if isinstance(inputs, Mapping) else f"one {type(inputs).__name__}"
            raise InputError(f"predict takes several inputs, but was given {what}; give a list: predict([...])")
        if hasattr(inputs, "columns"):
            raise InputError(
                f"predict takes texts, but was given a {type(inputs).__name__}; give a column of it, as frame['text']"
            )
        names = self.tasks if tasks is None else (tasks,) if isinstance(tasks, str) else tuple(tasks)
        if not names:
            raise InputError(f"tasks={tasks}: names no task; name some of {', '.join(self.tasks)}, or leave it out")
        for task in names:
            if task not in self.tasks:
                raise InputError(f"task {task}: the model has none of that name; it has {', '.join(self.tasks)}")
        return self._stream(iter(inputs), names)

    def heads_for(self, input_type: str, tasks: Sequence[str]) -> dict[str, Head]:
        """The heads that fit a type of input, by `task/head`; one that several tasks share once: for the task that has
        its weights, if that is among `tasks` and fits, else for the first.

        Heads over questions and contexts read these; heads over words read texts and words; others what their task was
        trained on.
        """
        found = {}
        owners = set()
        by_rank = [(is_owner, task) for is_owner in (True, False) for task in tasks]
        for is_owner, task in by_rank:
            heads = self.model.heads[task]
            readable = READ_BY.get(self.model.input_types.get(task, ""), IF_UNKNOWN)
            if any(head.pair_fields == KEYS["question"] for head in heads.values()):
                readable = ("question",)
            for name, head in heads.items():
                owner = self.model.owner_of(task, name)
                if (owner == (task, name)) != is_owner or owner in owners:
                    continue
                if input_type in readable and (input_type in READ_BY["text"] or not head.reads_words):
                    owners.add(owner)
                    found[f"{task}/{name}"] = head
        return found

    def _stream(self, inputs: Iterator[RawInput], tasks: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        for buffer, failure in self.read_ahead(inputs, tasks):
            yield from self.predict_buffer(buffer, tasks)
            if failure is not None:
                raise failure

    def read_ahead(
        self, inputs: Iterator[RawInput], tasks: tuple[str, ...]
    ) -> Iterator[tuple[list[Input], Exception | None]]:
        """Buffers of inputs, each with the error that ended the reading after it; None: there was none."""
        fitting = [input_type for input_type in KEYS if self.heads_for(input_type, tasks)]
        numbers = itertools.count(1)
        num_batches = 1
        while True:
            buffer: list[Input] = []
            failure: Exception | None = None
            try:
                for raw in itertools.islice(inputs, self.batch_size * num_batches):
                    item = read_input(raw, f"input {next(numbers)}")
                    if item.input_type not in fitting and not lacks_text(item, fitting):
                        raise InputError(
                            f"{item.example.where}: no head of {', '.join(tasks)} predicts for this type of input "
                            f"({item.input_type}); give one of: {', '.join(fitting)}"
                        )
                    buffer.append(item)
            except Exception as error:  # of any type; the inputs before it are still predicted for
                failure = error
            yield buffer, failure
            if failure is not None or len(buffer) < self.batch_size * num_batches:
                return
            num_batches = min(2 * num_batches, MAX_BATCHES_AHEAD)

    @torch.inference_mode()
    def predict_buffer(self, inputs: Sequence[Input], tasks: tuple[str, ...]) -> list[dict[str, Any]]:
        """Predictions for one buffer of inputs, in order."""
        encoded = self._encode(inputs, tasks)
        predictions = iter(self._run_all([one for groups in encoded.values() for part in groups for one in part]))
        return [
            self._shown(item, [(part, [next(predictions) for _ in part]) for part in encoded[index]], tasks)
            for index, item in enumerate(inputs)
        ]

    def _encode(self, inputs: Sequence[Input], tasks: tuple[str, ...]) -> dict[int, list[list[EncodedExample]]]:
        """By index of the input, its groups of windows (see `encode_as_trained`); none for an input without a text."""
        by_type: dict[str, list[int]] = defaultdict(list)
        for index, item in enumerate(inputs):
            if not is_empty(item.example) and self.heads_for(item.input_type, tasks):
                by_type[item.input_type].append(index)
        encoded: dict[int, list[list[EncodedExample]]] = {index: [] for index in range(len(inputs))}
        for input_type, indices in by_type.items():
            own, heads = [inputs[index] for index in indices], self.heads_for(input_type, tasks)
            groups = encode_as_trained(
                input_type, own, heads, self.tokenizer,
                max_length=self.max_length, window_strides=self.model.window_strides,
            )  # fmt: skip
            encoded.update(zip(indices, groups, strict=True))
        return encoded

    def _run_all(self, examples: Sequence[EncodedExample]) -> list[dict[str, Prediction]]:
        """Every example's predictions by `task/head`; examples of similar length share a batch, longest first."""
        lengths = [len(example.input_ids) for example in examples]
        predictions: list[dict[str, Prediction]] = [{} for _ in examples]
        for indices in plan_evaluation(lengths, self.batch_size, self.max_tokens):
            for index, found in zip(indices, self._run([examples[index] for index in indices]), strict=True):
                predictions[index] = found
        return predictions

    def _run(self, examples: Sequence[EncodedExample]) -> list[dict[str, Prediction]]:
        """Predictions for one batch, which goes through the encoder once."""
        batch = collate([("", example) for example in examples], pad_id=int(self.tokenizer.pad_token_id or 0))
        batch.targets = {_separated(name): target for (_, name), target in batch.targets.items()}
        found: list[dict[str, Prediction]] = [{} for _ in examples]
        for (task, head), output in self.model(batch.to(self.device), max_tokens=self.max_tokens).items():
            by_example = logits_by_example(output, batch.targets[task, head], batch.num_examples)
            for logits_ML, example, predictions in zip(by_example, examples, found, strict=True):
                if (name := f"{task}/{head}") in example.targets:
                    predictions[name] = self.model.heads[task][head].decode(logits_ML, example)
        return found

    def _shown(
        self,
        item: Input,
        groups: Sequence[tuple[Sequence[EncodedExample], Sequence[dict[str, Prediction]]]],
        tasks: tuple[str, ...],
    ) -> dict[str, Any]:
        """An input with its predictions; `groups`: windows, and the predictions for each."""
        shown: dict[str, Any] = dict(item.shown)
        if any(window.is_truncated for windows, _ in groups for window in windows):
            shown["truncated"] = True
        predicted: dict[str, dict[str, Any]] = {}
        for windows, found in groups:
            for name in windows[0].targets:
                task, head_name = _separated(name)
                head = self.model.heads[task][head_name]
                prediction = head.join([of_window[name] for of_window in found])
                predicted.setdefault(task, {})[head_name] = head.present(prediction, windows[0])
        return shown | {"predictions": {task: predicted[task] for task in tasks if task in predicted}}


def _separated(name: str) -> tuple[str, str]:
    task, _, head = name.partition("/")
    return task, head
