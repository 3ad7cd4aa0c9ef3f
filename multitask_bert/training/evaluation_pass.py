"""One pass of a model over a data set, in eval mode: predictions and losses of each head, shared among processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset

from multitask_bert.data.batching import plan_evaluation
from multitask_bert.data.loading import Loader
from multitask_bert.data.splits import as_split, group_windows
from multitask_bert.heads import Head
from multitask_bert.model.devices import is_out_of_memory
from multitask_bert.model.multitask import MultiTaskModel, evaluating, logits_by_example
from multitask_bert.records import EncodedExample, Example, Prediction
from multitask_bert.utils.ranks import this_run


@dataclass(frozen=True)
class PassOptions:
    """How a model passes over a data set."""

    batch_size: int  # examples
    max_tokens: int | None  # of a batch, padding included, that run at once; None: all
    pad_id: int
    device: torch.device
    before_batch: Callable[[], None]  # what it raises ends the pass


@dataclass(frozen=True)
class HeadResult:
    """What a head gives for a batch of an evaluation."""

    loss_sum: float
    count: int  # of known targets
    frequency_loss_sum: float  # of the label frequencies in train; 0.0 if it was not asked for
    predictions: list[Prediction]  # by example


@dataclass
class Predicted:
    """What a task's heads predict for a split, before it is scored."""

    task: str
    examples: list[Example]
    golds: dict[str, list[Any]]  # by head, in its spelling
    predictions: dict[str, list[Prediction]]  # by head
    losses: dict[str, float]  # by head, the mean; none where no label is in reach of the model
    frequency_losses: dict[str, float]  # by head, that of the label frequencies in train, if it was asked for


@torch.inference_mode()
def predict_task(
    model: MultiTaskModel, task: str, dataset: Dataset[EncodedExample], options: PassOptions, *, tune: bool
) -> Predicted:
    """Predict a data set in one pass; `tune` as in `evaluate_task`.

    Of several processes, each takes a share of the batches, and all get the result of the whole.
    """
    heads = model.heads[task]
    batches = plan_evaluation(as_split(dataset).lengths(), options.batch_size, options.max_tokens)
    loss_sums: dict[str, float] = dict.fromkeys(heads, 0.0)
    counts: dict[str, int] = dict.fromkeys(heads, 0)
    frequencies = {name: _frequency_logits(head, options.device) for name, head in heads.items()} if tune else {}
    frequency_sums: dict[str, float] = {name: 0.0 for name, logits_1L in frequencies.items() if logits_1L is not None}
    found: dict[str, dict[int, Prediction]] = {name: {} for name in heads}

    with evaluating(model):
        own = _run_batches(model, task, dataset, batches, frequencies, options)
        for number, results in _of_all_processes(own):
            for name, result in results.items():
                loss_sums[name] += result.loss_sum
                counts[name] += result.count
                if name in frequency_sums:
                    frequency_sums[name] += result.frequency_loss_sum
                found[name].update(zip(batches[number], result.predictions, strict=True))
    windows: list[range] = []  # by example, the indices of its windows
    examples: list[Example] = []
    for group in group_windows(as_split(dataset)):
        first = windows[-1].stop if windows else 0
        windows.append(range(first, first + len(group)))
        examples.append(group[0].example)
    return Predicted(
        task,
        examples,
        golds={name: [head.spelled(example.labels[name]) for example in examples] for name, head in heads.items()},
        predictions={
            name: [head.join([found[name][index] for index in indices]) for indices in windows]
            for name, head in heads.items()
        },
        losses={name: loss_sums[name] / count for name, count in counts.items() if count},
        frequency_losses={name: total / counts[name] for name, total in frequency_sums.items() if counts[name]},
    )


def _run_batches(
    model: MultiTaskModel,
    task: str,
    dataset: Dataset[EncodedExample],
    batches: Sequence[list[int]],
    frequencies: Mapping[str, torch.Tensor | None],
    options: PassOptions,
) -> Iterator[tuple[int, dict[str, HeadResult]]]:
    """The number of each batch, and what each head gives for it; of several processes, of this one's share.

    `frequencies`: by head, the logits_1L of the label frequencies in train, whose loss is asked for.
    """
    ranks = this_run()
    if ranks.size > 1:
        options.before_batch()  # also in a process without a batch
    own = range(ranks.rank, len(batches), ranks.size)
    loaded = Loader({task: dataset}, pad_id=options.pad_id).load([{task: batches[number]} for number in own])
    for number, (batch,) in zip(own, loaded, strict=True):
        options.before_batch()
        moved = batch.to(options.device)
        outputs = model(moved, max_tokens=options.max_tokens)
        results = {}
        for name, head in model.heads[task].items():
            output, target = outputs[task, name], batch.targets[task, name]
            frequency_loss_sum = 0.0
            if (logits_1L := frequencies.get(name)) is not None:
                of_frequencies = head.loss(logits_1L.expand(len(target.value_M), -1), moved.targets[task, name])
                frequency_loss_sum = float(of_frequencies.loss_sum)
            by_example = zip(batches[number], logits_by_example(output, target, batch.num_examples), strict=True)
            predictions = [head.decode(logits, dataset[index]) for index, logits in by_example]
            results[name] = HeadResult(float(output.loss_sum), output.count, frequency_loss_sum, predictions)
        yield number, results


def _of_all_processes(
    results: Iterator[tuple[int, dict[str, HeadResult]]],
) -> Iterable[tuple[int, dict[str, HeadResult]]]:
    """The results of all batches, in the order of their numbers, from those of this process.

    Raises:
        torch.OutOfMemoryError: a batch of any process did not fit.
    """
    ranks = this_run()
    if ranks.size == 1:
        return results
    own: list[tuple[int, dict[str, HeadResult]]] | None
    try:
        own = list(results)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        own = None
    shares = ranks.gather(own)
    if any(share is None for share in shares):
        raise torch.OutOfMemoryError("a batch does not fit")
    return sorted((result for share in shares if share is not None for result in share), key=lambda one: one[0])


def _frequency_logits(head: Head, device: torch.device) -> torch.Tensor | None:
    """The logits_1L that predict the label frequencies in train; None if the head has none."""
    logits = head.frequency_logits()
    return None if logits is None else torch.tensor([logits], device=device)
