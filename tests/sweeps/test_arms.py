"""Studies: which arms `sweep=transfer` and `sweep=languages` train, and what they refuse before the first run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from multitask_bert.config.schema import ExperimentConfig, HeadConfig
from multitask_bert.utils.cost import Work
from tests.composing import error_of, run_line
from tests.sweeps.support import FakeTraining, states_of, study_in

pytestmark = pytest.mark.slow
S = "hydra.sweeper."
STEPS = {"swa": 30, "hau": 20, "yor": 10}  # of one training of the task alone


def task(name: str, *, head: str = "entities", more: str = "") -> str:
    return (
        f"{name}:\n"
        f"  source: {{format: conll, folder: {name}, train: train.txt, dev: dev.txt, test: test.txt{more}}}\n"
        f"  heads:\n    {head}: {{type: tagging, column: 1}}\n"
    )


FILES = {
    **{name: task(name) for name in STEPS},
    "orm": task("orm").replace("train: train.txt, ", ""),
    "untested": task("untested").replace(", test: test.txt", ", test_fraction: 0"),
    "named": task("named", head="names"),
    "tagged": task("tagged").replace("column: 1}", "column: 1, scheme: plain}"),
    "sharing": task("sharing").partition("  heads")[0] + "  share: swa\n",
    "epochs": task("epochs") + "  num_epochs: 2\n",
}


@pytest.fixture(autouse=True)
def _files(fake_training: FakeTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf" / "tasks").mkdir(parents=True)
    for name, text in FILES.items():
        (tmp_path / "conf" / "tasks" / f"{name}.yaml").write_text(text, encoding="utf-8")

    def count_work(config: ExperimentConfig) -> Work:
        trained = [name for name, one in config.tasks.items() if one.source.has_train]
        num_steps = sum(STEPS.get(name, 10) for name in trained)
        num_steps = min(config.trainer.max_steps or 10**9, max(config.trainer.min_steps or 0, num_steps))
        return Work(num_steps, 100 * num_steps, 1, 100, 100)

    monkeypatch.setattr("multitask_bert.training.cost.count_work", count_work)


def command(*arguments: str) -> list[str]:
    given = ("model=tiny", "logger=none", f"{S}study=it", f"{S}seeds=2", f"{S}measure=false")
    return ["--config-dir", "conf", "-m", *given, *arguments]


def heads_of(config: ExperimentConfig) -> list[HeadConfig]:
    return [head for one in config.tasks.values() for head in one.heads.values()]


def trained_sets(training: FakeTraining) -> set[str]:
    """Of every run that was started, the tasks with training data."""
    return {"+".join(name for name, one in config.tasks.items() if one.source.has_train) for config, _ in training.runs}


@pytest.mark.parametrize(("given", "is_noted"), [((), True), (("split_seed=1",), False)])
def test_a_study_notes_that_each_seed_splits_off_another_test_set(
    given: tuple[str, ...], is_noted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("conf/tasks/yor.yaml")
    path.write_text(path.read_text(encoding="utf-8").replace(", test: test.txt", ""), encoding="utf-8")
    run_line(*command("sweep=transfer", "tasks=swa+yor", *given))
    note = (
        "Note: each seed splits another test set off from train for yor; split_seed=1 keeps it the same for all seeds"
    )
    assert (note in " ".join(capsys.readouterr().out.split())) == is_noted


def test_transfer_trains_each_task_alone_each_pair_and_all_over_the_seeds(fake_training: FakeTraining) -> None:
    run_line(*command("sweep=transfer", "tasks=swa+hau+yor", f"{S}controls=[recipe]"))
    assert trained_sets(fake_training) == {"hau", "swa", "yor", "hau+swa", "hau+yor", "swa+yor", "hau+swa+yor"}
    assert [config.seed for config, _ in fake_training.runs] == [1, 2] * 7
    assert states_of(study_in(Path("outputs/sweeps/it"))) == ["complete"] * 7


def test_with_equal_updates_every_arm_makes_those_of_the_longest(
    fake_training: FakeTraining, capsys: pytest.CaptureFixture[str]
) -> None:
    run_line(*command("sweep=transfer", "tasks=swa+hau+yor", f"{S}measure=true"))
    updates: dict[str, set[int | None]] = {}
    for config, _ in fake_training.runs:
        updates.setdefault("+".join(config.tasks), set()).add(config.trainer.max_steps)
    assert updates.pop("hau+swa+yor") == {None}  # the longest, which both controls share
    assert updates.keys() == {"hau", "swa", "yor", "hau+swa", "hau+yor", "swa+yor"}
    assert all(steps == {None, 60} for steps in updates.values())
    assert "13 arms over 2 seeds: 26 runs, 1,200 steps, about " in capsys.readouterr().out


def test_a_control_that_changes_nothing_is_not_trained(
    fake_training: FakeTraining, capsys: pytest.CaptureFixture[str]
) -> None:
    run_line(*command("sweep=transfer", "tasks=swa+hau", "trainer.max_steps=5"))
    assert len(fake_training.runs) == 3 * 2
    assert "Note: all arms make 5 updates with the recipe" in capsys.readouterr().out


def test_an_arm_has_the_overrides_of_its_own_tasks_only(fake_training: FakeTraining) -> None:
    of_tasks = ("tasks.swa.source.test=other.txt", "share=swa+hau+yor")
    run_line(*command("sweep=transfer", "tasks=swa+hau+yor", f"{S}subsets=[hau+swa,hau+yor]", *of_tasks))
    assert trained_sets(fake_training) == {"hau", "swa", "yor", "hau+swa", "hau+yor"}
    for config, _ in fake_training.runs:
        assert "swa" not in config.tasks or config.tasks["swa"].source.test == "other.txt"
        assert len({head.share or f"{name}.entities" for name, one in config.tasks.items()
                    for head in one.heads.values()}) == 1  # fmt: skip


def test_languages_train_on_some_and_test_on_all_with_shared_heads(fake_training: FakeTraining) -> None:
    run_line(*command("sweep=languages", "tasks=swa+hau+yor+orm"))
    assert trained_sets(fake_training) == {"hau", "swa", "yor", "hau+swa", "hau+yor", "swa+yor", "hau+swa+yor"}
    for config, _ in fake_training.runs:
        assert list(config.tasks) == ["hau", "orm", "swa", "yor"]
        assert {head.share or f"{name}.entities" for name, one in config.tasks.items()
                for head in one.heads.values()} == {"hau.entities"}  # fmt: skip
        assert all(one.source.has_test for one in config.tasks.values())
        # A language that an arm does not train on has no say in which model is kept.
        untrained = [one for name, one in config.tasks.items() if not one.source.has_train and name != "orm"]
        assert all(not one.source.has_dev for one in untrained)


def test_languages_can_be_trained_with_separate_heads_too(fake_training: FakeTraining) -> None:
    run_line(*command("sweep=languages", "tasks=swa+hau", f"{S}subsets=[alone,all,separate]"))
    separate = [config for config, _ in fake_training.runs if not any(one.share for one in heads_of(config))]
    assert len(separate) == 2
    assert len(fake_training.runs) == 4 * 2


def test_tasks_whose_files_share_the_heads_are_languages_as_they_are(fake_training: FakeTraining) -> None:
    run_line(*command("sweep=languages", "tasks=swa+sharing", f"{S}subsets=[alone,all]"))
    assert trained_sets(fake_training) == {"swa", "sharing", "sharing+swa"}


def test_a_resumed_study_trains_only_what_is_missing(fake_training: FakeTraining) -> None:
    arguments = command("sweep=transfer", "tasks=swa+hau", f"{S}controls=[recipe]")
    run_line(*arguments, f"{S}n_trials=2")
    assert len(fake_training.runs) == 2 * 2
    run_line(*arguments)
    assert len(fake_training.runs) == 3 * 2
    assert trained_sets(fake_training) == {"hau", "swa", "hau+swa"}
    run_line(*arguments)
    assert len(fake_training.runs) == 3 * 2


def test_a_study_of_other_arms_is_not_resumed() -> None:
    run_line(*command("sweep=transfer", "tasks=swa+hau", f"{S}controls=[recipe]"))
    assert "was made for other space" in error_of(*command("sweep=transfer", "tasks=swa+hau"))


def test_no_arm_is_called_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    run_line(*command("sweep=transfer", "tasks=swa+hau", f"{S}controls=[recipe]"))
    printed = capsys.readouterr().out
    assert "3 of 3 trials done" in printed
    assert "best" not in printed.lower().replace("metric_for_best", "")
    assert not Path("outputs/sweeps/it/best.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["sweep=transfer", "tasks=swa"], "tasks=swa: a study compares tasks alone and together, so it needs two or"),
        (["sweep=languages", "tasks=swa"], "as in tasks=swa+OTHER"),
        (["sweep=transfer", "tasks=swa+hau", f"{S}seeds=1"], "seeds=1: intervals over seeds need 2 or"),
        (["sweep=transfer", "tasks=swa+untested"], "tasks.untested.source: has no test set, on which a study compares"),
        (["sweep=languages", "tasks=swa+untested"], "name one (tasks.untested.source.test=FILE), or split one off"),
        (["sweep=languages", "tasks=swa+named"], "named has names (tagging), swa has entities (tagging); leave one"),
        (["sweep=languages", "tasks=swa+tagged"], "cannot be trained:\ntasks.tagged.heads.entities.scheme=plain: swa."),
        (["sweep=languages", "tasks=swa+sharing", f"{S}subsets=[separate]"], "but their files share the heads"),
        (["sweep=languages", "tasks=ner+swa"], "tasks ner and swa cannot share all heads"),
        (["sweep=transfer", "tasks=swa+orm"], "tasks.orm.source.train: missing, and no task of the run trains"),
        (["sweep=transfer", "tasks=swa+hau", f"{S}subsets=[alone]"], "no tasks are trained together; add pairs"),
        (["sweep=transfer", "tasks=swa+hau", f"{S}subsets=[pair]"], "subsets=pair: choose from alone, pairs, all, or"),
        (["sweep=transfer", "tasks=swa+hau", f"{S}subsets=[swa+yor]"], "yor is not among the tasks"),
        (["sweep=transfer", "tasks=swa+hau", f"{S}controls=[steps]"], "controls=steps: choose from recipe, equal_upd"),
        (["sweep=transfer", "tasks=swa+hau", f"{S}controls=[]"], "hydra.sweeper.controls: is empty"),
        (["sweep=transfer", "tasks=swa+hau", f"{S}pruner=median"], "pruner=median: a study trains every arm to its"),
        (["sweep=transfer", "tasks=swa+hau", "optimizer.lr=1e-4,1e-5"], "optimizer.lr: nothing but the arms varies"),
        (["sweep=transfer", "tasks=swa+epochs"], "tasks.epochs.num_epochs=2: with epochs of its own a task does not"),
        (["sweep=transfer", "tasks=swa+hau", f"{S}arms=sideways"], "arms=sideways: choose one of transfer, languages"),
    ],
)  # fmt: skip
def test_a_study_that_could_not_answer_is_refused_before_the_first_run(
    arguments: list[str], expected: str, fake_training: FakeTraining
) -> None:
    assert expected in error_of(*command(*arguments))
    assert fake_training.runs == []


def test_data_that_cannot_be_read_is_refused_before_the_first_run(
    fake_training: FakeTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    from multitask_bert.errors import InputError

    def refuse(config: Any) -> Work:
        raise InputError("swa/test.txt: the file is missing")

    monkeypatch.setattr("multitask_bert.training.cost.count_work", refuse)
    assert "swa/test.txt: the file is missing" in error_of(*command("sweep=languages", "tasks=swa+hau"))
    assert fake_training.runs == []
