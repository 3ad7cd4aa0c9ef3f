"""Predictor: what every head of a trained model says of texts, one encoder pass for all heads, in the order given.

input -> window of inputs -> word pieces, by length -> batches -> model -> every head's decode -> JSON
"""

from __future__ import annotations

import itertools
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from multitask_bert.config.schema import BatchingConfig
from multitask_bert.data.batching import plan_evaluation
from multitask_bert.data.collation import collate
from multitask_bert.errors import InputError
from multitask_bert.heads import Head
from multitask_bert.inference.encoding import encode_as_trained
from multitask_bert.inference.inputs import KINDS, Input, RawInput, is_empty, lacks_text, read_input
from multitask_bert.model.acceleration import AUTOCAST
from multitask_bert.model.devices import pick_device
from multitask_bert.model.encoder import num_positions
from multitask_bert.model.multitask import DESCRIPTION, MultiTaskModel, logits_by_example
from multitask_bert.records import EncodedExample, Prediction

log = logging.getLogger(__name__)

MAX_WINDOW = 64  # batches that are read ahead at most, so that inputs of like length share a batch
# By `Example.kind` of a task's training examples: the kinds of input (see inputs.KINDS) that it reads.
READ_BY = {"text": ("text", "words"), "pair": ("pair",), "choices": ("choices",)}
OF_UNKNOWN_KIND = ("text", "words", "pair")  # in folders from before kinds were saved


class Predictor:
    """A model and what it takes to read texts with it. `max_length`: pieces; None: as the model was trained.

    `precision` of products (fp32, bf16 or fp16): scores of a run are exactly those of its own `trainer.precision`.
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
    ) -> Predictor:
        """From the folder of a run, or of a model.

        Raises:
            InputError: there is no model, or a damaged one.
        """
        folder = Path(folder)
        place = next((place for place in (folder, folder / "model") if (place / DESCRIPTION).is_file()), None)
        if place is None:
            raise InputError(f"{folder}: neither a run's folder with a model in it, nor a model's folder")
        model, tokenizer = MultiTaskModel.load(place)
        return cls(model, tokenizer, device=device, batch_size=batch_size, max_tokens=max_tokens, precision=precision)

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.model.heads)

    def predict(self, inputs: Iterable[RawInput], tasks: str | Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """For every input, in order, a dict of the input and its `predictions`, by task and head.

        `inputs` are several, one alone stands in a list; `tasks` are names, or one name; None: all.
        An input is a text, a pair of texts, or a dict: `{text}`, `{text, text_pair}`, `{words: [...]}`,
        `{question, context}` or `{text, choices: [...]}`; other keys come back as they are. All heads (of `tasks`,
        where named) that fit an input predict for it; for an empty text, none does. `truncated: True` marks a text of
        which only the first `max_length` pieces were read.

        Inputs are read ahead by a window, which grows from 1 to 64 batches, and no more is kept in memory.

        Raises:
            InputError: one input where several are asked for; no such task; or, when everything before it has been
                given, an input that no head fits.
        """
        if isinstance(inputs, str | bytes | Mapping | Input):
            what = "a dict" if isinstance(inputs, Mapping) else f"one {type(inputs).__name__}"
            raise InputError(f"predict takes several inputs, but was given {what}; give a list: predict([...])")
        names = self.tasks if tasks is None else (tasks,) if isinstance(tasks, str) else tuple(tasks)
        if not names:
            raise InputError(f"tasks={tasks}: names no task; name some of {', '.join(self.tasks)}, or leave it out")
        for task in names:
            if task not in self.tasks:
                raise InputError(f"task {task}: the model has none of that name; it has {', '.join(self.tasks)}")
        return self._stream(iter(inputs), names)

    def heads_for(self, kind: str, tasks: Sequence[str]) -> dict[str, Head]:
        """The heads that fit a kind of input, by `task/head`.

        Heads over long contexts in windows read questions; heads over words read texts and words; others what their
        task was trained on.
        """
        found = {}
        for task in tasks:
            heads = self.model.heads[task]
            kinds = READ_BY.get(self.model.kinds.get(task, ""), OF_UNKNOWN_KIND)
            if any(head.reads_windows for head in heads.values()):
                kinds = ("question",)
            for name, head in heads.items():
                if kind in kinds and (kind in READ_BY["text"] or not head.reads_words):
                    found[f"{task}/{name}"] = head
        return found

    def _stream(self, inputs: Iterator[RawInput], tasks: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        fitting = [kind for kind in KINDS if self.heads_for(kind, tasks)]
        numbers = itertools.count(1)
        num_batches = 1
        while True:
            window: list[Input] = []
            failure: Exception | None = None
            try:
                for raw in itertools.islice(inputs, self.batch_size * num_batches):
                    item = read_input(raw, f"input {next(numbers)}")
                    if item.kind not in fitting and not lacks_text(item, fitting):
                        raise InputError(
                            f"{item.example.where}: no head of {', '.join(tasks)} predicts for this kind of input "
                            f"({item.kind}); give one of: {', '.join(fitting)}"
                        )
                    window.append(item)
            except Exception as error:  # whatever it is, what came before it is not lost
                failure = error
            yield from self._predict(window, tasks)
            if failure is not None:
                raise failure
            if len(window) < self.batch_size * num_batches:
                return
            num_batches = min(2 * num_batches, MAX_WINDOW)

    @torch.inference_mode()
    def _predict(self, window: Sequence[Input], tasks: tuple[str, ...]) -> list[dict[str, Any]]:
        """One window, in the order given."""
        encoded = self._encode(window, tasks)
        predictions = iter(self._run_all([one for groups in encoded.values() for part in groups for one in part]))
        return [
            self._shown(item, [(part, [next(predictions) for _ in part]) for part in encoded[place]], tasks)
            for place, item in enumerate(window)
        ]

    def _encode(self, window: Sequence[Input], tasks: tuple[str, ...]) -> dict[int, list[list[EncodedExample]]]:
        """By place in the window, the groups of windows (see `encode_as_trained`); none of what lacks a text."""
        places_of: dict[str, list[int]] = defaultdict(list)
        for place, item in enumerate(window):
            if not is_empty(item.example) and self.heads_for(item.kind, tasks):
                places_of[item.kind].append(place)
        encoded: dict[int, list[list[EncodedExample]]] = {place: [] for place in range(len(window))}
        for kind, places in places_of.items():
            inputs, heads = [window[place] for place in places], self.heads_for(kind, tasks)
            groups = encode_as_trained(kind, inputs, heads, self.tokenizer, max_length=self.max_length)
            encoded.update(zip(places, groups, strict=True))
        return encoded

    def _run_all(self, examples: Sequence[EncodedExample]) -> list[dict[str, Prediction]]:
        """Every example's predictions by `task/head`; examples of like length share a batch, the longest come first."""
        lengths = [len(example.input_ids) for example in examples]
        predictions: list[dict[str, Prediction]] = [{} for _ in examples]
        for indices in plan_evaluation(lengths, self.batch_size, self.max_tokens):
            for index, found in zip(indices, self._run([examples[index] for index in indices]), strict=True):
                predictions[index] = found
        return predictions

    def _run(self, examples: Sequence[EncodedExample]) -> list[dict[str, Prediction]]:
        """One batch, once through the encoder."""
        batch = collate([("", example) for example in examples], pad_id=int(self.tokenizer.pad_token_id or 0))
        batch.targets = {_apart(name): target for (_, name), target in batch.targets.items()}
        found: list[dict[str, Prediction]] = [{} for _ in examples]
        for (task, head), output in self.model(batch.to(self.device)).items():
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
        """`groups`: windows, and what is predicted for each."""
        shown: dict[str, Any] = dict(item.shown)
        if any(window.is_cut for windows, _ in groups for window in windows):
            shown["truncated"] = True
        said: dict[str, dict[str, Any]] = {}
        for windows, found in groups:
            for name in windows[0].targets:
                task, head_name = _apart(name)
                head = self.model.heads[task][head_name]
                prediction = head.join([of_window[name] for of_window in found])
                said.setdefault(task, {})[head_name] = head.present(prediction, windows[0])
        return shown | {"predictions": {task: said[task] for task in tasks if task in said}}


def _apart(name: str) -> tuple[str, str]:
    task, _, head = name.partition("/")
    return task, head
