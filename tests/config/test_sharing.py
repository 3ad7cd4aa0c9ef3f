"""`share` in the config: what a shared head takes over, and what is refused before anything is loaded."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from omegaconf import OmegaConf

from multitask_bert.config.checks import check
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.tree import from_tree, to_dict
from multitask_bert.config.without_effect import settings_without_effect
from multitask_bert.errors import InputError
from multitask_bert.heads import check_heads, reported_keys

SWA: dict[str, Any] = {
    "source": {"format": "conll", "train": "swa.txt"},
    "heads": {"entities": {"type": "tagging", "column": "2", "hidden_size": 8, "weight": 0.5, "metrics": ["f1"]}},
}
TEST_ONLY = {"format": "conll", "test": "x.txt"}


def typed(**tasks: Any) -> ExperimentConfig:
    return from_tree(OmegaConf.create({"tasks": deepcopy(tasks)}))


def error_of(**tasks: Any) -> str:
    try:
        config = typed(**tasks)
        check(config)
        check_heads(config)
    except InputError as error:
        return str(error)
    raise AssertionError("it is accepted")


def test_a_task_shares_all_heads_of_another_with_one_line() -> None:
    head = typed(swa=SWA, hau={"source": TEST_ONLY, "share": "swa"}).tasks["hau"].heads["entities"]
    assert (head.share, head.type, head.column, head.hidden_size) == ("swa.entities", "tagging", "2", 8)
    assert (head.metrics, head.weight) == (["f1"], 1.0)


def test_a_head_shares_another_of_another_name_and_keeps_how_its_own_labels_are_read() -> None:
    own = {"ner": {"share": "swa.entities", "column": "1", "scheme": "bioes", "unknown_labels": "wrong"}}
    head = typed(swa=SWA, hau={"source": TEST_ONLY, "heads": own}).tasks["hau"].heads["ner"]
    assert (head.share, head.column, head.scheme, head.unknown_labels) == ("swa.entities", "1", "bioes", "wrong")
    assert head.hidden_size == 8


def test_a_chain_leads_to_the_head_that_has_the_weights() -> None:
    tasks = typed(swa=SWA, hau={"source": TEST_ONLY, "share": "swa"}, yor={"source": TEST_ONLY, "share": "hau"}).tasks
    assert tasks["yor"].heads["entities"].share == "swa.entities"
    assert tasks["yor"].heads["entities"].hidden_size == 8


def test_a_group_of_tasks_shares_all_heads_with_one_line() -> None:
    tasks = {"swa": SWA, "hau": {**SWA, "source": TEST_ONLY}, "yor": {"source": TEST_ONLY}}
    one_by_one = {name: {**task, **({} if name == "swa" else {"share": "swa"})} for name, task in tasks.items()}
    grouped = from_tree(OmegaConf.create({"tasks": deepcopy(tasks), "share": "swa+hau+yor"}))
    assert grouped.tasks == typed(**one_by_one).tasks
    assert from_tree(OmegaConf.create(to_dict(grouped))) == grouped


@pytest.mark.parametrize(
    ("share", "problem"),
    [
        ("swa", "share=swa: swa names one task"),
        ("swa+hau swa+yor", "share=swa+hau swa+yor: yor is not among the run's tasks"),
        ("ner+hau", "tasks.hau.share=ner: ner is not among the run's tasks"),
        ("hau+swa swa+hau", "shares in a circle"),
        ("swa+hau yor+hau", "share=swa+hau yor+hau: tasks.hau.share=swa says another"),
    ],
)
def test_a_group_that_cannot_be_is_refused(share: str, problem: str) -> None:
    tree = OmegaConf.create({"tasks": {"swa": SWA, "hau": {"source": TEST_ONLY}}, "share": share})
    with pytest.raises(InputError) as error:
        from_tree(tree)
    assert problem in str(error.value)


def test_a_config_with_shared_heads_is_the_same_after_it_was_saved() -> None:
    config = typed(swa=SWA, hau={"source": TEST_ONLY, "share": "swa"}, yor={"source": TEST_ONLY, "share": "hau"})
    assert from_tree(OmegaConf.create(to_dict(config))) == config


def sharing(share: str, **own: Any) -> dict[str, Any]:
    return {"source": TEST_ONLY, "heads": {"entities": {"share": share, **own}}}


@pytest.mark.parametrize(
    ("tasks", "problem"),
    [
        ({"a": {"source": TEST_ONLY, "share": "b"}, "b": {"source": TEST_ONLY, "share": "a"}},
         "tasks.b.share=a: shares in a circle (a -> b -> a)"),
        ({"a": {"source": TEST_ONLY, "share": "a"}}, "tasks.a.share=a: shares in a circle"),
        ({"a": sharing("b.entities"), "b": sharing("a.entities")},
         "tasks.b.heads.entities.share=a.entities: shares in a circle (a.entities -> b.entities -> a.entities)"),
        ({"swa": SWA, "hau": {"source": TEST_ONLY, "share": "ner"}}, "tasks.hau.share=ner: ner is not among the run's"),
        ({"swa": SWA, "hau": sharing("ner.entities")}, "tasks.hau.heads.entities.share=ner.entities: ner is not among"),
        ({"swa": SWA, "hau": sharing("swa.tags")}, "heads.entities.share=swa.tags: task swa has no such head; it has"),
        ({"swa": SWA, "hau": sharing("swa")}, "share=swa: must name a task and a head of it, as in swa.entities"),
        ({"swa": SWA, "hau": sharing("swa.entities", type="classification")},
         "tasks.hau.heads.entities.type=classification: swa.entities, whose weights this head shares, has type=tag"),
        ({"swa": SWA, "hau": sharing("swa.entities", hidden_size=16)},
         "tasks.hau.heads.entities.hidden_size=16: swa.entities, whose weights this head shares, has hidden_size=8"),
        ({"swa": SWA, "hau": sharing("swa.entities", scheme="plain")}, "tasks.hau.heads.entities.scheme=plain: swa"),
        ({"swa": SWA, "hau": sharing("swa.entities", labels=["PER"])}, "tasks.hau.heads.entities.labels=['PER']: swa"),
        ({"swa": SWA, "hau": {**SWA, "source": TEST_ONLY}},
         "tasks.hau.source.train: missing, and no task of the run trains tasks.hau.heads.entities"),
        ({"hau": {**SWA, "source": TEST_ONLY}, "yor": {"source": TEST_ONLY, "share": "hau"}},
         "tasks.yor.source.train: missing, and no task of the run trains tasks.yor.heads.entities"),
        ({"swa": {**SWA, "source": {**TEST_ONLY, "train": "a", "tests": {"pooled": "b"}}}},
         "tasks.swa.source.tests.pooled: the name of a test set must be"),
        ({"swa": {**SWA, "source": {**TEST_ONLY, "train": "a", "tests": {"a.b": "b"}}}}, "tasks.swa.source.tests.a.b"),
    ],
)  # fmt: skip
def test_a_share_that_cannot_be_is_refused_by_its_full_name(tasks: dict[str, Any], problem: str) -> None:
    assert problem in error_of(**tasks)


def test_contradictions_are_all_named_at_once() -> None:
    message = error_of(swa=SWA, hau=sharing("swa.entities", hidden_size=16, lr_factor=2.0))
    assert [line.partition("=")[0] for line in message.split("\n")] == [
        "tasks.hau.heads.entities.lr_factor", "tasks.hau.heads.entities.hidden_size",
    ]  # fmt: skip


def test_settings_for_training_have_no_effect_without_train() -> None:
    source = {**TEST_ONLY, "dev_fraction": 0.2, "test_fraction": 0.3}
    found = "\n".join(
        settings_without_effect(typed(swa=SWA, hau={"source": source, "share": "swa", "num_epochs": 2.0}))
    )
    assert "tasks.hau.num_epochs=2 has no effect" in found
    assert "tasks.hau.source.dev_fraction=0.2 has no effect: there is no train" in found
    assert "tasks.hau.source.test_fraction=0.3 has no effect: tasks.hau.source.test names a file" in found


def test_tasks_without_dev_report_no_evaluation_score_and_shared_heads_a_pooled_one() -> None:
    with_dev = {**TEST_ONLY, "dev": "y.txt"}
    alone = typed(swa=SWA, hau={"source": TEST_ONLY, "share": "swa"}).tasks
    both = typed(swa=SWA, hau={"source": with_dev, "share": "swa"}).tasks
    assert [key for key in reported_keys(alone) if "hau" in key or "pooled" in key] == []
    assert {key for key in reported_keys(both) if "hau" in key or "pooled" in key} == {
        "eval_hau_entities_f1", "eval_hau_loss", "eval_swa.pooled_entities_f1",
    }  # fmt: skip
