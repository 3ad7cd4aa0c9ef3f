"""Evaluating a task: thresholds are chosen on dev only, and heads are right together or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoModel, BertConfig

from multitask_bert.config.schema import ExperimentConfig, HeadConfig, SourceConfig, TaskConfig
from multitask_bert.data.encoding import encode_examples
from multitask_bert.data.splits import InMemorySplit
from multitask_bert.errors import InputError
from multitask_bert.heads import Head, check_heads, make_head, reported_keys
from multitask_bert.labels import LabelSet
from multitask_bert.model.encoder import Encoder
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.records import Example, Prediction, TaskResult
from multitask_bert.training.evaluation import evaluate_task
from multitask_bert.training.metric_keys import gather_intervals, gather_metrics
from multitask_bert.training.task_scores import all_right
from multitask_bert.training.trainer import Trainer
from tests.tiny_bert import SIZES

INTENT = make_head(HeadConfig("classification"), LabelSet(("play", "rate")))
SLOTS = make_head(HeadConfig("tagging"), LabelSet(("O", "B-SONG", "I-SONG")))
SNIPS: dict[str, Head] = {"intent": INTENT, "slots": SLOTS}


def sentence(intent: str | None, slots: tuple[str, ...] | None) -> Example:
    return Example("here", "cheza hii", {"intent": intent, "slots": slots}, words=("cheza", "hii"))


def test_an_example_counts_as_right_only_if_every_head_is() -> None:
    gold = sentence("play", ("O", "B-SONG"))
    intents = [Prediction("play"), Prediction("play"), Prediction("rate"), Prediction("play")]
    slots = [Prediction(tags) for tags in [("O", "B-SONG"), ("O", "O"), ("O", "B-SONG"), ("O", "B-SONG")]]
    assert all_right(SNIPS, [gold] * 4, {"intent": intents, "slots": slots}) == [True, False, False, True]


def test_examples_that_lack_a_label_do_not_count_in_the_joint_accuracy() -> None:
    examples = [sentence("play", None), sentence(None, ("O", "O")), sentence("play", ("O", "O"))]
    found = {"intent": [Prediction("play")] * 3, "slots": [Prediction(("O", "O"))] * 3}
    assert all_right(SNIPS, examples, found) == [True]
    assert all_right(SNIPS, examples[:2], {name: values[:2] for name, values in found.items()}) == []


def task_with(joint_accuracy: bool = True, **heads: HeadConfig) -> TaskConfig:
    return TaskConfig(SourceConfig("conll", train="train.txt"), heads, joint_accuracy=joint_accuracy)


TWO_HEADS = {"intent": HeadConfig("classification"), "slots": HeadConfig("tagging")}


@pytest.mark.parametrize("joint_accuracy", [True, False])
def test_the_reported_keys_are_those_that_evaluating_gives(joint_accuracy: bool, tokenizer: Any) -> None:
    torch.manual_seed(0)
    model = MultiTaskModel(Encoder(AutoModel.from_config(BertConfig(**SIZES))), {"snips": SNIPS})
    examples = [sentence("play", ("O", "B-SONG")), sentence("rate", ("O", "O"))]
    result = evaluate_task(
        model, "snips", InMemorySplit(encode_examples(examples, SNIPS, tokenizer, max_length=16)),
        batch_size=2, pad_id=0, device=torch.device("cpu"), joint_accuracy=joint_accuracy,
    )  # fmt: skip
    found = gather_metrics({"snips": result}, {("snips", "intent"): 1.0, ("snips", "slots"): 1.0})
    assert set(found) == set(reported_keys({"snips": task_with(joint_accuracy, **TWO_HEADS)}))
    assert ("eval_snips_joint_accuracy" in found) is joint_accuracy
    assert found.get("eval_snips_joint_accuracy") == (
        sum(all_right(SNIPS, examples, result.predictions)) / 2 if joint_accuracy else None
    )


def test_the_joint_accuracy_has_an_interval_too() -> None:
    result = TaskResult({"a": 1.0}, {"a": {"f1": 0.5}}, {}, {"a": (0.4, 0.6)}, joint_accuracy=0.5)
    assert gather_intervals({"t": result}) == {"eval_t_a_f1": (0.4, 0.6)}
    result.joint_interval = (0.3, 0.7)
    assert gather_intervals({"t": result})["eval_t_joint_accuracy"] == (0.3, 0.7)


def test_the_joint_accuracy_counts_in_neither_mean() -> None:
    result = TaskResult({"a": 1.0}, {"a": {"f1": 0.5}}, {}, joint_accuracy=0.125)
    found = gather_metrics({"t": result}, {("t", "a"): 1.0})
    assert (found["eval_t_joint_accuracy"], found["eval_mean_f1"], found["eval_mean_score"]) == (0.125, 0.5, 0.5)


@pytest.mark.parametrize(
    ("heads", "problem"),
    [
        ({"intent": HeadConfig("classification")}, "tasks.mine.joint_accuracy: needs two heads or more"),
        ({**TWO_HEADS, "score": HeadConfig("regression")}, "joint_accuracy: score (regression) is never simply right"),
        ({**TWO_HEADS, "joint": HeadConfig("classification")}, "tasks.mine.heads.joint: its accuracy would have"),
    ],
)
def test_an_impossible_joint_accuracy_is_refused(heads: dict[str, HeadConfig], problem: str) -> None:
    with pytest.raises(InputError) as error:
        check_heads(ExperimentConfig(tasks={"mine": task_with(**heads)}))
    assert problem in str(error.value)


@pytest.mark.parametrize("other", ["classification", "multilabel", "regression", "tagging"])
@pytest.mark.parametrize("kind", ["span", "choice"])
def test_heads_that_read_the_text_in_different_ways_cannot_share_a_task(kind: str, other: str) -> None:
    heads = {"a": HeadConfig(other), "b": HeadConfig(kind)}
    with pytest.raises(InputError, match=rf"tasks\.mine\.heads: a \({other}\) and b \({kind}\) read the text in"):
        check_heads(ExperimentConfig(tasks={"mine": task_with(joint_accuracy=False, **heads)}))


@pytest.mark.parametrize("tune", [True, False])
def test_thresholds_are_tuned_only_where_asked_and_stay_for_the_test_set(tune: bool, tokenizer: Any) -> None:
    torch.manual_seed(1)
    head = make_head(HeadConfig("multilabel", threshold="tuned_per_label"), LabelSet(("a", "b")))
    model = MultiTaskModel(Encoder(AutoModel.from_config(BertConfig(**SIZES))), {"t": {"h": head}})
    texts = ["siku njema", "hapana", "habari za asubuhi", "ndiyo bwana"]
    examples = [Example("here", text, {"h": {"a": True, "b": n % 2 == 0}}) for n, text in enumerate(texts)]
    dataset = InMemorySplit(encode_examples(examples, {"h": head}, tokenizer, max_length=16))

    def evaluate(tune: bool) -> TaskResult:
        return evaluate_task(model, "t", dataset, batch_size=2, pad_id=0, device=torch.device("cpu"), tune=tune)

    before = head.thresholds  # type: ignore[attr-defined]
    first = evaluate(tune)
    assert (head.thresholds != before) is tune  # type: ignore[attr-defined]
    assert evaluate(tune=False).predictions == first.predictions


def test_labels_out_of_the_models_reach_are_scored_and_have_no_loss(tokenizer: Any) -> None:
    torch.manual_seed(1)
    head = make_head(HeadConfig("span", stride=2), LabelSet(("answer",)))
    model = MultiTaskModel(Encoder(AutoModel.from_config(BertConfig(**SIZES))), {"t": {"h": head}})
    examples = [Example("here", "nani?", {"h": (("Asha", -1),)}, text_pair="Juma na Juma")]  # no place in the context
    dataset = InMemorySplit(encode_examples(examples, {"h": head}, tokenizer, max_length=16))
    result = evaluate_task(model, "t", dataset, batch_size=2, pad_id=0, device=torch.device("cpu"))
    assert (result.scores, result.losses) == ({"h": {"f1": 0.0, "exact_match": 0.0}}, {})


def test_an_interval_of_the_headline_holds_the_score_and_comes_with_test_scores_only(
    make_config: Callable[..., ExperimentConfig],
) -> None:
    trainer = Trainer.from_config(make_config())
    trainer.evaluate()
    assert gather_intervals(trainer.results["eval"]) == {}
    metrics = trainer.evaluate(test=True)
    intervals = gather_intervals(trainer.results["test"])
    assert set(intervals) == {"eval_mood_polarity_f1", "eval_people_entities_f1"}
    assert all(low <= metrics[key] <= high for key, (low, high) in intervals.items())
