"""Metrics of the user's own are tried before training, on dummy examples of each head type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from multitask_bert.config.schema import ExperimentConfig, HeadConfig
from multitask_bert.errors import InputError
from multitask_bert.heads import HEAD_TYPES, make_head
from multitask_bert.heads.scoring import check_custom_metrics
from multitask_bert.labels import LabelSet
from multitask_bert.records import Prediction
from multitask_bert.training.trainer import Trainer
from tests.metric_modules import module_code

LABELS = {
    "classification": ("bad", "good", "none"),
    "multilabel": ("anger", "joy"),
    "tagging": ("O", "B-PER", "I-PER"),
    "span": ("answer",),
}


@pytest.fixture(autouse=True)
def _opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user lets the metrics of these tests run."""
    monkeypatch.setenv("MULTITASK_BERT_ALLOW", str(tmp_path))


def module(folder: Path, returned: str) -> str:
    """The folder of a metric of class ids, `kappa`."""
    (folder / "kappa").mkdir()
    (folder / "kappa" / "kappa.py").write_text(module_code("int64", returned), encoding="utf-8")
    return str(folder / "kappa")


@pytest.mark.parametrize("head_type", HEAD_TYPES)
def test_dummy_examples_have_the_form_of_their_head_and_score_best(head_type: str) -> None:
    head = make_head(HeadConfig(head_type), LabelSet(LABELS.get(head_type, ())))
    pairs = head.dummy_examples()
    golds, found = [gold for gold, _ in pairs], [Prediction(value) for _, value in pairs]
    given = head.for_module(golds, found)
    assert len(given["references"]) == 2
    assert given["references"][0] != given["references"][1]
    best = 0.0 if head_type == "regression" else 1.0
    metric = {"regression": "mse", "choice": "accuracy", "span": "exact_match"}.get(head_type, "f1_micro")
    metric = "f1" if head_type == "tagging" else metric
    head.metrics = (metric,)
    assert head.score(golds, found) == {metric: best}


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        ("{'kappa': 0.5}", None),
        ("{}['x']", r"KeyError: 'x'\); correct its `_compute`, or remove it"),
        ("{'one': 1, 'two': 2}", "returns one, two; one of them must be called kappa"),
    ],
)
def test_a_metric_that_gives_no_score_is_refused_with_task_head_and_metric(
    returned: str, problem: str | None, tmp_path: Path
) -> None:
    config = HeadConfig("classification", metrics=["f1", module(tmp_path, returned)])
    heads = {"mood": {"polarity": make_head(config, LabelSet(("bad", "good")))}}
    if problem is None:
        check_custom_metrics(heads)
        return
    with pytest.raises(InputError, match=rf"^task mood: heads\.polarity\.metrics: .*kappa .*{problem}"):
        check_custom_metrics(heads)


def test_a_metric_that_cannot_work_ends_a_run_before_the_weights_are_loaded(
    make_config: Callable[..., ExperimentConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config("mood")
    (head,) = config.tasks["mood"].heads.values()
    head.metrics = ["f1", module(tmp_path, "{'strm': 'x'}")]
    monkeypatch.setattr("multitask_bert.training.preparation.load_encoder", None)
    with pytest.raises(InputError, match=r"^task mood: heads\.polarity\.metrics: .*kappa returns strm='x'"):
        Trainer.from_config(config)


def test_a_metric_that_fails_only_in_an_evaluation_is_refused_with_task_head_and_metric(
    make_config: Callable[..., ExperimentConfig], tmp_path: Path
) -> None:
    config: Any = make_config("mood")
    (head,) = config.tasks["mood"].heads.values()
    head.metrics = ["f1", module(tmp_path, "{'kappa': 1.0} if len(references) == 2 else {}['x']")]
    trainer = Trainer.from_config(config)
    with pytest.raises(InputError, match=r"^task mood: heads\.polarity\.metrics: .*kappa fails on .*KeyError: 'x'"):
        trainer.evaluate()
