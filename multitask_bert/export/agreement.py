"""How far two ways of predicting agree on dev: entities of a pipeline with ours, and scores of a graph with torch's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from multitask_bert.config.schema import ExperimentConfig, is_lower_better
from multitask_bert.data.splits import EncodedSplit
from multitask_bert.inference.predictor import Predictor
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.records import Example
from multitask_bert.training.evaluation import evaluate_task

MAX_TEXTS = 2000  # of dev, that a pipeline reads
AGGREGATION = "first"  # the first token of a word decides, as in training


@dataclass(frozen=True)
class EntityAgreement:
    """Entities on dev: a pipeline's beside ours, equal if borders and label are."""

    num_texts: int
    num_other_texts: int  # with any difference
    num_entities: int  # ours
    num_lost: int  # ours that the pipeline does not give
    num_added: int  # the pipeline's that are not ours

    def __str__(self) -> str:
        if not self.num_other_texts:
            return f"the pipeline gives the same entities on all {self.num_texts:,} dev texts"
        return (
            f"on {self.num_texts:,} dev texts with {self.num_entities:,} entities, the pipeline lacks "
            f"{self.num_lost:,} and adds {self.num_added:,}, in {self.num_other_texts:,} texts"
        )


@dataclass(frozen=True)
class ScoreLoss:
    """A head's headline score on dev, before and after."""

    metric: str
    before: float
    after: float

    @property
    def points(self) -> float:
        """What is lost, in hundredths; of an error, in percent of what it was."""
        if is_lower_better(self.metric):
            return 100 * (self.after - self.before) / abs(self.before) if self.before else 0.0
        return 100 * (self.before - self.after)


def compare_entities(
    predictor: Predictor, task: str, name: str, folder: Path, examples: Sequence[Example]
) -> EntityAgreement:
    """Entities that the stock folder's pipeline finds, beside those of a tagging head."""
    from transformers import pipeline

    examples = [example for example in examples if example.text.strip()][:MAX_TEXTS]
    given = [{"words": list(one.words)} if one.words is not None else {"text": one.text} for one in examples]
    texts = [one.text for one in examples]
    theirs = pipeline("token-classification", model=str(folder), aggregation_strategy=AGGREGATION, device=-1)
    counts = {"other": 0, "ours": 0, "lost": 0, "added": 0}
    for predicted, found in zip(predictor.predict(given, task), map(theirs, texts), strict=True):
        entities = predicted["predictions"][task][name]["entities"]
        ours_here = {(one["start"], one["end"], one["label"]) for one in entities}
        theirs_here = {(one["start"], one["end"], one["entity_group"]) for one in found}
        counts["ours"] += len(ours_here)
        counts["lost"] += len(ours_here - theirs_here)
        counts["added"] += len(theirs_here - ours_here)
        counts["other"] += ours_here != theirs_here
    return EntityAgreement(len(texts), counts["other"], counts["ours"], counts["lost"], counts["added"])


def compare_scores(
    before: MultiTaskModel,
    after: MultiTaskModel,
    config: ExperimentConfig,
    dev: Mapping[str, EncodedSplit],
    *,
    pad_id: int,
) -> dict[str, ScoreLoss]:
    """By `task.head`, the headline scores of two models on dev, on the CPU."""
    options: dict[str, Any] = {
        "batch_size": config.batching.eval_batch_size, "max_tokens": config.batching.eval_max_tokens,
        "pad_id": pad_id, "device": torch.device("cpu"),
    }  # fmt: skip
    losses = {}
    for task, split in dev.items():
        scores = [evaluate_task(model, task, split, **options).scores for model in (before, after)]
        for name, by_metric in scores[0].items():
            metric = next(iter(by_metric))
            losses[f"{task}.{name}"] = ScoreLoss(metric, by_metric[metric], scores[1][name][metric])
    return losses
